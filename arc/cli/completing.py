"""What could be typed next in the shell: keywords, databases, measurements and the columns of those that are named.

`candidates` is the decision and pure. `Schema` asks the node once per name and remembers; a node that does not answer
costs the completion, never the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from arc.cli.exits import Failure

KEYWORDS = (
    "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "HAVING", "LIMIT", "OFFSET", "AS", "AND", "OR", "NOT", "IN",
    "IS NULL", "IS NOT NULL", "BETWEEN", "LIKE", "JOIN", "LEFT JOIN", "ASOF JOIN", "ON", "USING", "UNION ALL", "WITH",
    "DISTINCT", "CASE", "WHEN", "THEN", "ELSE", "END", "ASC", "DESC", "INTERVAL", "SHOW DATABASES", "SHOW TABLES",
    "DESCRIBE", "EXPLAIN", "count(*)", "avg(", "min(", "max(", "sum(", "first(", "last(", "date_trunc(", "time_bucket(",
    "now()", "time",
)  # fmt: skip

COMMANDS = ("\\d", "\\dt", "\\l", "\\use", "\\timing", "\\q", "\\?")

_WORD = re.compile(r'[\\\w"*]*$')
_TABLE = re.compile(r'\b(?:FROM|JOIN|DESCRIBE|UPDATE)\s+([\w"]+(?:\.[\w"]+)?)', re.IGNORECASE)
_AFTER_TABLE_WORD = re.compile(r'\b(?:FROM|JOIN|DESCRIBE)\s+(?:[\w"]*\.)?[\w"]*$', re.IGNORECASE)
_QUALIFIER = re.compile(r'([\w]+|"[^"]+")\.[\w"]*$')
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")

Ask = Callable[[str], Sequence[Sequence[object]]]


class Schema:
    """Names that the node knows. ``ask`` runs a statement and gives its rows; it may raise Failure."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[str, tuple[str, ...]] = {}

    def forget(self) -> None:
        """Ask again from now on."""
        self._known.clear()

    def databases(self) -> tuple[str, ...]:
        """All databases."""
        return self._names("SHOW DATABASES", 0)

    def tables(self, database: str | None) -> tuple[str, ...]:
        """Measurements of a database, or of the one in use."""
        return self._names("SHOW TABLES" if database is None else f"SHOW TABLES FROM {quoted(database)}", 1)

    def columns(self, table: str) -> tuple[str, ...]:
        """Columns of a measurement, named as in the statement."""
        return self._names(f"DESCRIBE {table}", 0)

    def _names(self, sql: str, column: int) -> tuple[str, ...]:
        if sql not in self._known:
            try:
                self._known[sql] = tuple(str(row[column]) for row in self._ask(sql))
            except Failure:
                # Remembered too: a measurement that does not exist must not be asked for at each key.
                self._known[sql] = ()
        return self._known[sql]


def candidates(text: str, schema: Schema) -> tuple[str, list[str]]:
    """(The unfinished word before the cursor, what it may become), best first."""
    found = _WORD.search(text)
    word = found.group() if found else ""
    if text.lstrip().startswith("\\"):
        return word, _command(text, word, schema)
    qualifier = _QUALIFIER.search(text)
    if _AFTER_TABLE_WORD.search(text):
        if qualifier:
            return word, _matching(word, map(quoted, schema.tables(unquoted(qualifier[1]))))
        return word, _matching(word, map(quoted, (*schema.tables(None), *schema.databases())))
    named = list(dict.fromkeys(_TABLE.findall(text)))
    columns = [quoted(column) for table in named for column in schema.columns(table)]
    if qualifier:
        return word, _matching(word, columns)
    return word, _matching(word, (*columns, *KEYWORDS)) if word else columns


def _command(text: str, word: str, schema: Schema) -> list[str]:
    if text.lstrip().startswith("\\use "):
        return _matching(word, schema.databases())
    if text.lstrip().startswith("\\d "):
        return _matching(word, map(quoted, schema.tables(None)))
    return _matching(word, COMMANDS)


def _matching(word: str, names: Iterable[str]) -> list[str]:
    start = word.lower()
    return [name for name in dict.fromkeys(names) if name.lower().startswith(start)]


def quoted(name: str) -> str:
    """A name as SQL takes it, with quotes only where it needs them."""
    return name if _PLAIN.fullmatch(name) and name.upper() not in _RESERVED else '"' + name.replace('"', '""') + '"'


_RESERVED: Mapping[str, None] = dict.fromkeys(
    word for phrase in KEYWORDS if phrase.replace(" ", "").isalpha() and phrase.isupper() for word in phrase.split()
)


def unquoted(name: str) -> str:
    """The name itself."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
