"""SHOW and DESCRIBE: questions about the catalog, answered from the catalog alone.

``SHOW DATABASES`` · ``SHOW TABLES | MEASUREMENTS [FROM database]`` · ``DESCRIBE | DESC [database.]measurement`` and
``SHOW COLUMNS FROM [database.]measurement``. Column names and order are what Arc's clients read by position: Grafana
and Superset ``database``, the VS Code extension column 1 of SHOW TABLES, arc-mcp column 0 and 1 of DESCRIBE.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from arc.catalog.fsm import Catalog
from arc.errors import InvalidRequest
from arc.query.lexer import Token, tokens
from arc.query.names import TableName, find_database, find_table
from arc.storage.paths import quote_part

SQL_TYPES = {
    "tag": "VARCHAR",
    "float": "DOUBLE",
    "integer": "BIGINT",
    "unsigned": "UBIGINT",
    "boolean": "BOOLEAN",
    "string": "VARCHAR",
}
"""Column kind of the catalog → type in SQL."""

TIME_SQL_TYPE = "TIMESTAMP WITH TIME ZONE"

_TOKENS_MAX = 16
_FORMS = (
    "SHOW DATABASES, SHOW TABLES [FROM database], SHOW MEASUREMENTS [FROM database], "
    "SHOW COLUMNS FROM measurement, DESCRIBE measurement"
)


@dataclass(frozen=True, slots=True)
class ShowDatabases:
    """``SHOW DATABASES``."""


@dataclass(frozen=True, slots=True)
class ShowTables:
    """``SHOW TABLES``; ``database`` None means the caller's."""

    database: str | None


@dataclass(frozen=True, slots=True)
class Describe:
    """``DESCRIBE a.b``: the name as it was written, in parts."""

    name: tuple[str, ...]


Show = ShowDatabases | ShowTables | Describe


def parse_show(sql: str) -> Show | None:
    """Read a SHOW or DESCRIBE statement; None for anything else. Raises InvalidRequest for a SHOW that is not known.

    ``DESCRIBE SELECT …`` is not one of these: it is left to the engine.
    """
    found = list(islice(tokens(sql), _TOKENS_MAX))
    if not found or not found[0].is_word("SHOW", "DESCRIBE", "DESC"):
        return None
    while found and found[-1] == Token("mark", ";", found[-1].end):
        found.pop()
    if found[0].is_word("SHOW"):
        return _show(found[1:])
    if len(found) < 2 or found[1].is_word("SELECT", "WITH", "VALUES", "FROM", "TABLE") or found[1].text == "(":
        return None
    return Describe(_name(found[1:]))


def _show(rest: list[Token]) -> Show:
    match rest:
        case [what] if what.is_word("DATABASES"):
            return ShowDatabases()
        case [what] if what.is_word("TABLES", "MEASUREMENTS"):
            return ShowTables(None)
        case [what, preposition, *name] if what.is_word("TABLES", "MEASUREMENTS") and preposition.is_word("FROM", "IN"):
            parts = _name(name)
            if len(parts) == 1:
                return ShowTables(parts[0])
        case [what, preposition, *name] if what.is_word("COLUMNS") and preposition.is_word("FROM", "IN"):
            return Describe(_name(name))
    raise InvalidRequest(f"this SHOW statement is not known; there are: {_FORMS}", code="bad_query")


def _name(found: list[Token]) -> tuple[str, ...]:
    """``a``, ``a.b``, quoted or not; a hyphen is taken into a bare name, as the writers of such names expect."""
    parts = [""]
    for token in found:
        if token.kind == "mark" and token.text == ".":
            parts.append("")
        elif token.kind != "mark" or token.text in "-0123456789":
            parts[-1] += token.text
        else:
            raise InvalidRequest(f"a name is expected, not {token.text!r}; there are: {_FORMS}", code="bad_query")
    if not all(parts) or len(parts) > 2:
        raise InvalidRequest("a name is measurement or database.measurement", code="bad_query")
    return tuple(parts)


def answer_show(show: Show, *, catalog: Catalog, database: str) -> pa.Table:
    """The rows of a SHOW statement. ``database`` is what a bare name belongs to. Raises InvalidRequest for an unknown
    name."""
    match show:
        case ShowDatabases():
            return pa.table({"database": pa.array(sorted(catalog.databases), pa.utf8())})
        case ShowTables():
            # A database that nobody made yet is an empty one, not a mistake, when the caller did not name it.
            name = find_database(catalog, show.database) if show.database is not None else database
            return _tables(catalog, name)
        case Describe():
            return _columns(catalog, find_table(catalog, show.name, database))


def _tables(catalog: Catalog, database: str) -> pa.Table:
    facts = catalog.databases.get(database)
    names = sorted(facts.measurements) if facts is not None else []
    stats = [catalog.file_stats(database, name) for name in names]
    return pa.table(
        {
            "database": pa.array([database] * len(names), pa.utf8()),
            "table_name": pa.array(names, pa.utf8()),
            "storage_path": _text(f"{quote_part(database)}/{quote_part(name)}" for name in names),
            "file_count": pa.array([s.files for s in stats], pa.int64()),
            "total_size_mb": pa.array([round(s.bytes / (1 << 20), 3) for s in stats], pa.float64()),
        }
    )


def _columns(catalog: Catalog, table: TableName) -> pa.Table:
    schema = catalog.schema(table.database, table.measurement)
    assert schema is not None, table
    rows = [("time", TIME_SQL_TYPE, "NO", "time")]
    rows += [(name, SQL_TYPES["tag"], "YES", "tag") for name in schema.tags]
    rows += [(name, SQL_TYPES[schema.columns[name].kind], "YES", "") for name in schema.fields]
    empty = pa.nulls(len(rows), pa.utf8())
    return pa.table(
        {
            "column_name": _text(row[0] for row in rows),
            "column_type": _text(row[1] for row in rows),
            "null": _text(row[2] for row in rows),
            "key": _text(row[3] for row in rows),
            "default": empty,
            "extra": empty,
        }
    )


def _text(values: Iterable[str]) -> pa.Array:
    return pa.array(list(values), pa.utf8())
