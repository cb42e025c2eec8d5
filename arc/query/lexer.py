"""Words of a statement: to tell SHOW, DESCRIBE and EXPLAIN apart, which DuckDB's tree does not carry.

What follows an EXPLAIN, and every other statement, goes to the real parser: a mistake here can make a statement be
refused, never be run unchecked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "quoted", "string", "mark"]

_DOLLAR = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)?\$")
_DEFAULT_DOT = re.compile(r"\bdefault\s*\.", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Token:
    """A bare word, a ``"quoted"`` name without its quotes, a string literal whole, or one other character.

    ``end`` is the offset behind it.
    """

    kind: Kind
    text: str
    end: int

    def is_word(self, *words: str) -> bool:
        """Whether this is one of these keywords (upper case), however it is written."""
        return self.kind == "word" and self.text.upper() in words


def tokens(sql: str) -> Iterator[Token]:
    """Tokens from the start, without white space and comments. Ends quietly at the end or at something unclosed."""
    at = 0
    while at < len(sql):
        char = sql[at]
        if char.isspace():
            at += 1
        elif sql.startswith("--", at):
            at = _behind(sql, "\n", at)
        elif sql.startswith("/*", at):
            at = _behind(sql, "*/", at + 2)
        elif char == '"':
            end = _unquoted(sql, at, '"')
            yield Token("quoted", sql[at + 1 : end - 1].replace('""', '"'), end)
            at = end
        elif char == "'" or sql[at : at + 2] in ("e'", "E'"):
            end = _unquoted(sql, sql.index("'", at), "'", escapes=char != "'")
            yield Token("string", sql[at:end], end)
            at = end
        elif found := _DOLLAR.match(sql, at):
            end = _behind(sql, found.group(), found.end())
            yield Token("string", sql[at:end], end)
            at = end
        elif char == "_" or char.isalpha():
            end = at
            while end < len(sql) and (sql[end] in "_$" or sql[end].isalnum()):
                end += 1
            yield Token("word", sql[at:end], end)
            at = end
        else:
            at += 1
            yield Token("mark", char, at)


def _behind(sql: str, ending: str, at: int) -> int:
    found = sql.find(ending, at)
    return len(sql) if found < 0 else found + len(ending)


def _unquoted(sql: str, start: int, quote: str, *, escapes: bool = False) -> int:
    """The offset behind the quoted text that starts at ``start``; a doubled quote stands for one."""
    at = start + 1
    while at < len(sql):
        if escapes and sql[at] == "\\":
            at += 2
        elif sql[at] != quote:
            at += 1
        elif sql.startswith(quote, at + 1):
            at += 2
        else:
            return at + 1
    return len(sql) + 1


def quote_default(sql: str) -> str | None:
    """The statement with every bare ``default.`` as ``"default".``, None when it has none.

    ``default`` is Arc's first database and a reserved word of DuckDB's grammar, which is why no statement with a bare
    one parses.
    """
    if _DEFAULT_DOT.search(sql) is None:
        return None
    parts: list[str] = []
    done = 0
    previous: Token | None = None
    for token in tokens(sql):
        if previous is not None and previous.is_word("DEFAULT") and token == Token("mark", ".", token.end):
            start = previous.end - len(previous.text)
            parts += (sql[done:start], '"default"')
            done = previous.end
        previous = token
    return "".join((*parts, sql[done:])) if parts else None
