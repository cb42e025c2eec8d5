"""Results as tables that can be stored, bounded in memory; and counts of source rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from arc.continuous.ports import Queries
from arc.continuous.statement import Span, counting
from arc.errors import InvalidRequest, TooLarge
from arc.storage.paths import HOUR_US

TIME = "time"
_TIME_TYPE = pa.timestamp("us", tz="UTC")


class Shaped:
    """Rows of one result as they will be stored, and the hours (counted from 1970 UTC) that they fall into."""

    def __init__(self, batches: tuple[pa.RecordBatch, ...]) -> None:
        self.batches = batches
        times = [batch.column(TIME).cast(pa.int64()).to_numpy() for batch in batches if batch.num_rows]
        self.rows = sum(len(each) for each in times)
        self.hours: list[int] = sorted({int(hour) for each in times for hour in np.unique(each // HOUR_US)})
        self._first = min((int(each.min()) for each in times), default=None)
        self._last = max((int(each.max()) for each in times), default=None)

    def __repr__(self) -> str:
        return f"<Shaped rows={self.rows} hours={len(self.hours)}>"

    def reaches_beyond(self, window: Span) -> bool:
        """Whether any row has a time outside of its window."""
        if self._first is None or self._last is None:
            return False
        return self._first < window[0] or self._last >= window[1]


async def read_rows(queries: Queries, sql: str, *, database: str, timeout_seconds: float, bytes_max: int) -> pa.Table:
    """All rows of a statement. Raises TooLarge, and what `Queries.open` raises."""
    batches: list[pa.RecordBatch] = []
    size = 0
    async with queries.open(sql, database=database, timeout_seconds=timeout_seconds) as answer:
        schema = answer.schema
        async for batch in answer.batches():
            size += batch.nbytes
            if size > bytes_max:
                raise TooLarge(f"the result of the window is larger than {bytes_max} bytes; make its windows shorter")
            batches.append(batch)
    return pa.Table.from_batches(batches, schema=schema)


async def count_rows(
    queries: Queries, database: str, measurement: str, windows: Sequence[Span], *, timeout_seconds: float
) -> dict[Span, int]:
    """How many rows the source has in each window. Raises what `Queries.open` raises."""
    sql = counting(database, measurement, windows)
    async with queries.open(sql, database=database, timeout_seconds=timeout_seconds) as answer:
        found = [batch async for batch in answer.batches()]
    assert len(found) == 1 and found[0].num_rows == 1, found
    return {window: int(found[0].column(at)[0].as_py()) for at, window in enumerate(windows)}


def timed(rows: pa.Table, window: Span) -> pa.Table:
    """The rows with a column ``time``; the window's beginning where the query gives none. Raises InvalidRequest."""
    names = [name for name in rows.column_names if name.casefold() == TIME]
    if len(names) > 1:
        raise InvalidRequest("the result has two columns called time")
    if not names:
        begun = pa.array([window[0]] * rows.num_rows, pa.int64()).cast(_TIME_TYPE)
        return rows.append_column(TIME, begun)
    at = rows.column_names.index(names[0])
    given = rows.column(at)
    if pa.types.is_date(given.type):
        given = given.cast(pa.timestamp("us"))
    elif not pa.types.is_timestamp(given.type):
        raise InvalidRequest(f"column time of the result is of type {given.type}; a timestamp is needed")
    return rows.set_column(at, TIME, given)
