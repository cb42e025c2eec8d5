"""A measurement as a table expression in SQL: its files and its buffered rows under the catalog's columns. Pure text.

``time`` first, then tags, then fields in catalog order, each in the catalog's type. A column that a source lacks is
NULL; an integer file of a column that became float is widened; a column the catalog does not know is left out. There
are as many branches as sources and no more: DuckDB pushes filters and projections through a union, but not every
optimization, and most measurements have one source.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from arc.catalog.schemas import MeasurementSchema
from arc.query.show import SQL_TYPES, TIME_SQL_TYPE
from arc.storage.files import FileEntry


class Source(NamedTuple):
    """Rows to select from: a table expression, and the columns it has; None when that is not known."""

    sql: str
    columns: frozenset[str] | None


def relation_sql(schema: MeasurementSchema, sources: Sequence[Source]) -> str:
    """The table expression, in parentheses."""
    columns = sql_columns(schema)
    branches = [_branch(columns, source) for source in sources] or [f"{_nothing(columns)} WHERE false"]
    return f"({' UNION ALL '.join(branches)})"


def parquet_source(files: Sequence[FileEntry], paths: Sequence[str]) -> Source:
    """Files as one source; ``paths`` are the native paths of ``files``, at least one."""
    # One file needs no matching of columns among files. With more, also types may differ: a column may have widened.
    together = ", union_by_name=true" if len(paths) > 1 else ""
    listed = ", ".join(quote_text(path) for path in paths)
    known = all(entry.columns for entry in files)
    columns = frozenset(name for entry in files for name in entry.columns) if known else None
    return Source(f"read_parquet([{listed}]{together})", columns)


def registered_source(name: str, columns: Iterable[str]) -> Source:
    """An Arrow table registered under a name."""
    return Source(quote(name), frozenset(columns))


def sql_columns(schema: MeasurementSchema) -> list[tuple[str, str]]:
    """Names and SQL types in the order a ``SELECT *`` shows them."""
    fields = [(name, SQL_TYPES[schema.columns[name].kind]) for name in schema.fields]
    return [("time", TIME_SQL_TYPE), *((name, SQL_TYPES["tag"]) for name in schema.tags), *fields]


def files_within(files: Iterable[FileEntry], low: int | None, high: int | None) -> list[FileEntry]:
    """The files that may hold a row of the closed range."""
    return [
        entry
        for entry in files
        if (low is None or entry.max_time_us >= low) and (high is None or entry.min_time_us <= high)
    ]


def quote(name: str) -> str:
    """A name as an identifier of SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_text(value: str) -> str:
    """A string literal of SQL."""
    return "'" + value.replace("'", "''") + "'"


def _branch(columns: Sequence[tuple[str, str]], source: Source) -> str:
    known = source.columns
    # A cast to the type a column already has costs nothing: the binder drops it.
    selected = ", ".join(
        f"CAST({quote(name)} AS {kind}) AS {quote(name)}"
        if known is None or name in known
        else f"NULL::{kind} AS {quote(name)}"
        for name, kind in columns
    )
    if known is not None:
        return f"SELECT {selected} FROM {source.sql}"
    # An empty branch with all columns names those that the source may lack; the optimizer removes it again.
    return f"SELECT {selected} FROM ({_nothing(columns)} WHERE false UNION ALL BY NAME SELECT * FROM {source.sql})"


def _nothing(columns: Sequence[tuple[str, str]]) -> str:
    return "SELECT " + ", ".join(f"NULL::{kind} AS {quote(name)}" for name, kind in columns)
