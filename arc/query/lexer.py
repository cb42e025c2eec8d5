"""The first words of a statement: enough to tell SHOW, DESCRIBE and EXPLAIN apart, which DuckDB's tree does not carry.

Only those three are read here, and what follows an EXPLAIN goes to the real parser: a mistake here can make a statement
be refused, never be run unchecked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Kind = Literal["word", "quoted", "mark"]


@dataclass(frozen=True, slots=True)
class Token:
    """A bare word, a ``"quoted"`` name without its quotes, or one other character; ``end`` is the offset behind it."""

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
            text, at = _quoted(sql, at)
            yield Token("quoted", text, at)
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


def _quoted(sql: str, start: int) -> tuple[str, int]:
    at = start + 1
    while at < len(sql):
        if sql[at] != '"':
            at += 1
        elif sql.startswith('""', at):
            at += 2
        else:
            return sql[start + 1 : at].replace('""', '"'), at + 1
    return sql[start + 1 :].replace('""', '"'), len(sql)
