"""Rows into a Parquet draft, a row group at a time, hashed while it is written: how files are written again.

Row groups as flushed files have them, zstd, dictionaries for tags and texts, deltas for whole numbers, min and max of
time and of every tag. Merging writes so, and deleting. Everything blocks and raises OSError.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from arc.ports import Draft

ZSTD_LEVEL = 1
"""Higher ones cost more time than they save bytes on sorted columns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One output as a closed draft. Times are inclusive bounds in microseconds since 1970 UTC."""

    draft: str
    sha256: str
    size_bytes: int
    rows: int
    min_time_us: int
    max_time_us: int


class HashedSink:
    """A draft as the file object that Arrow writes to."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._hash = hashlib.sha256()
        self.size = 0
        self.closed = False

    def write(self, data: bytes) -> int:
        """All of it. Raises OSError. What a writer that was given up says when it is collected goes nowhere."""
        if self.closed:
            return len(data)
        self._draft.append([data])
        self._hash.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Close the draft; again is fine."""
        if not self.closed:
            self.closed = True
            self._draft.close()

    @property
    def sha256(self) -> str:
        """Of all bytes so far."""
        return self._hash.hexdigest()


class DraftFile:
    """One Parquet file in the making, at ``path``. ``is_sorted``: its rows come in the order of tags, then time."""

    def __init__(
        self, path: str, sink: HashedSink, schema: pa.Schema, tags: tuple[str, ...], *, is_sorted: bool = True
    ) -> None:
        self.sink = sink
        self._path = path
        self._rows = 0
        self._low = self._high = 0
        texts = [field.name for field in schema if pa.types.is_string(field.type)]
        integers = [field.name for field in schema if pa.types.is_integer(field.type)]
        order = [(name, "ascending") for name in (*tags, "time")]
        self._writer = pq.ParquetWriter(
            pa.PythonFile(sink, mode="w"),
            schema,
            compression="zstd",
            compression_level=ZSTD_LEVEL,
            use_dictionary=[*tags, *texts] or False,
            column_encoding=dict.fromkeys(["time", *integers], "DELTA_BINARY_PACKED"),
            write_statistics=["time", *tags],
            sorting_columns=(
                pq.SortingColumn.from_ordering(schema, order, null_placement="at_start") if is_sorted else None
            ),
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """One row group."""
        self._writer.write_table(pa.Table.from_batches([batch]), row_group_size=batch.num_rows)
        times = batch.column("time").cast(pa.int64()).to_numpy()
        low, high = int(times.min()), int(times.max())
        self._low, self._high = (min(low, self._low), max(high, self._high)) if self._rows else (low, high)
        self._rows += batch.num_rows

    def finish(self) -> Part:
        """Write the footer and close."""
        self._writer.close()
        self.sink.close()
        return Part(
            draft=self._path,
            sha256=self.sink.sha256,
            size_bytes=self.sink.size,
            rows=self._rows,
            min_time_us=self._low,
            max_time_us=self._high,
        )


class RowGroups:
    """Rows as they come, out in batches of ``rows`` each, whose tags have only values that are in them."""

    def __init__(self, schema: pa.Schema, rows: int) -> None:
        self._schema = schema
        self._group_rows = rows
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0

    def add(self, rows: pa.Table) -> Iterator[pa.RecordBatch]:
        """More rows; the batches that are full with them, all of which are to be consumed."""
        if len(rows):
            self._waiting.append(rows)
            self._waiting_rows += len(rows)
        if self._waiting_rows >= self._group_rows:
            yield from self._full(self._waiting_rows // self._group_rows)

    def rest(self) -> Iterator[pa.RecordBatch]:
        """The last batch, if any rows are left."""
        yield from self._full(-(-self._waiting_rows // self._group_rows))

    def _full(self, groups: int) -> Iterator[pa.RecordBatch]:
        if not groups:
            return
        rows, end = one_chunk(self._waiting), groups * self._group_rows
        for start in range(0, min(end, len(rows)), self._group_rows):
            (batch,) = rows.slice(start, self._group_rows).to_batches()
            columns = [trimmed(column) if pa.types.is_dictionary(column.type) else column for column in batch.columns]
            yield pa.RecordBatch.from_arrays(columns, schema=self._schema)
        self._waiting = [rows.slice(end)] if end < len(rows) else []
        self._waiting_rows = max(0, len(rows) - end)


def one_chunk(tables: list[pa.Table]) -> pa.Table:
    """All rows, each column in one piece and with one dictionary."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def trimmed(tag: pa.DictionaryArray) -> pa.DictionaryArray:
    """The column without values that no row has: a slice drags the dictionary of its whole row group along."""
    count = len(tag.dictionary)
    indices = pc.fill_null(tag.indices, count).to_numpy()
    used = np.zeros(count + 1, np.bool_)
    used[indices] = True
    if used[:count].all():
        return tag
    places = np.cumsum(used[:count], dtype=np.int32) - 1
    is_null = indices == count
    renamed = pa.array(np.append(places, np.int32(0))[indices], pa.int32(), mask=is_null if is_null.any() else None)
    return pa.DictionaryArray.from_arrays(renamed, tag.dictionary.take(pa.array(np.flatnonzero(used[:count]))))
