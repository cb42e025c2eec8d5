"""A measurement as a table expression in SQL: its files and its buffered rows under the catalog's columns. Pure text.

``time`` first, then tags, then fields in catalog order, each in the catalog's type. A column that a file or a batch
lacks is NULL; an integer file of a column that became float is widened; a column the catalog does not know is left
out. An empty branch with all columns gives the union its names and types even when nothing else does; the optimizer
removes it, and pushes filters and projections through the union into the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from arc.catalog.schemas import MeasurementSchema
from arc.query.show import SQL_TYPES, TIME_SQL_TYPE
from arc.storage.files import FileEntry


def relation_sql(schema: MeasurementSchema, files: Sequence[str], buffered: str | None) -> str:
    """The table expression, in parentheses. ``files`` are native paths, ``buffered`` a registered relation's name."""
    columns = sql_columns(schema)
    branches = ["SELECT " + ", ".join(f"NULL::{kind} AS {quote(name)}" for name, kind in columns) + " WHERE false"]
    if files:
        paths = ", ".join(quote_text(path) for path in files)
        branches.append(f"SELECT * FROM read_parquet([{paths}], union_by_name=true)")
    if buffered is not None:
        branches.append(f"SELECT * FROM {quote(buffered)}")
    casts = ", ".join(f"CAST({quote(name)} AS {kind}) AS {quote(name)}" for name, kind in columns)
    return f"(SELECT {casts} FROM ({' UNION ALL BY NAME '.join(branches)}))"


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
