"""Sorted rows into Parquet drafts, hashed while they are written, a new one where the last is large enough.

Row groups as flushed files have them, zstd, dictionaries for tags and texts, deltas for whole numbers, min and max of
time and of every tag: rows are sorted by tags, so a query for some series skips the other row groups. A dictionary has
only values of its row group. Two rows with the same tags and time are never in two files, so the files of one job share
no key and their order does not matter to anybody.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from arc.compaction.shape import tags_of
from arc.compaction.windows import Key, Window, key_of, trimmed
from arc.ports import Disk, Draft

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


class Output:
    """The drafts of one merge, below ``folder``, which is there. Whoever gives up removes the folder's files."""

    def __init__(
        self,
        disk: Disk,
        folder: str,
        schema: pa.Schema,
        metadata: Mapping[str, str],
        *,
        target_bytes: int,
        row_group_rows: int,
    ) -> None:
        self._disk = disk
        self._folder = folder
        self._schema = schema.with_metadata(dict(metadata))
        self._tags = tags_of(schema)
        self._target_bytes = target_bytes
        self._row_group_rows = row_group_rows
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._file: _File | None = None
        self.parts: list[Part] = []

    def add(self, rows: pa.Table) -> None:
        """More rows, all behind those before. Raises OSError."""
        self._waiting.append(rows)
        self._waiting_rows += len(rows)
        if self._waiting_rows >= self._row_group_rows:
            self._write(is_last=False)

    def finish(self) -> tuple[Part, ...]:
        """Write what waits, close the last file."""
        self._write(is_last=True)
        self._end_file()
        return tuple(self.parts)

    def close(self) -> None:
        """Release the handle of a draft that is not to be finished."""
        if self._file is not None:
            self._file.sink.close()

    def _write(self, *, is_last: bool) -> None:
        if not self._waiting:
            return
        rows = one_chunk(self._waiting)
        start = 0
        while len(rows) - start >= self._row_group_rows or (is_last and start < len(rows)):
            count = min(self._row_group_rows, len(rows) - start)
            self._write_group(rows.slice(start, count))
            start += count
        self._waiting = [rows.slice(start)] if start < len(rows) else []
        self._waiting_rows = len(rows) - start

    def _write_group(self, rows: pa.Table) -> None:
        batch = rows.to_batches()[0]
        columns = [trimmed(c) if pa.types.is_dictionary(c.type) else c for c in batch.columns]
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if self._file is not None and self._file.sink.size >= self._target_bytes:
            assert self._file.last is not None
            _, same = Window(batch, self._tags).around(self._file.last)
            if same:
                self._file.write(batch.slice(0, same))
            if same == batch.num_rows:
                return
            self._end_file()
            batch = batch.slice(same)
        if self._file is None:
            path = f"{self._folder}/part-{len(self.parts):04d}"
            self._file = _File(path, HashedSink(self._disk.open_draft(path)), self._schema, self._tags)
        self._file.write(batch)

    def _end_file(self) -> None:
        if self._file is not None:
            self.parts.append(self._file.finish())
            self._file = None


class _File:
    def __init__(self, path: str, sink: HashedSink, schema: pa.Schema, tags: tuple[str, ...]) -> None:
        self.sink = sink
        self.last: Key | None = None
        self._path = path
        self._tags = tags
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
            sorting_columns=pq.SortingColumn.from_ordering(schema, order, null_placement="at_start"),
        )

    def write(self, batch: pa.RecordBatch) -> None:
        """One row group."""
        self._writer.write_table(pa.Table.from_batches([batch]), row_group_size=batch.num_rows)
        times = batch.column("time").cast(pa.int64()).to_numpy()
        low, high = int(times.min()), int(times.max())
        self._low, self._high = (min(low, self._low), max(high, self._high)) if self._rows else (low, high)
        self._rows += batch.num_rows
        self.last = key_of(batch, self._tags, batch.num_rows - 1)

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


def one_chunk(tables: list[pa.Table]) -> pa.Table:
    """All rows, each column in one piece and with one dictionary."""
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()
