"""Sorted rows into Parquet drafts, hashed while they are written, a new one where the last is large enough.

Row groups as flushed files have them, zstd, dictionaries for tags and texts, deltas for whole numbers, min and max of
time and of every tag: rows are sorted by tags, so a query for some series skips the other row groups. A dictionary has
only values of its row group. Two rows with the same tags and time are never in two files, so the files of one job share
no key and their order does not matter to anybody.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from arc.compaction.shape import tags_of
from arc.compaction.windows import Key, Window, key_of
from arc.ports import Disk
from arc.storage.drafting import DraftFile, HashedSink, Part, RowGroups


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
        self._groups = RowGroups(self._schema, row_group_rows)
        self._file: _File | None = None
        self.parts: list[Part] = []

    def add(self, rows: pa.Table) -> None:
        """More rows, all behind those before. Raises OSError."""
        for batch in self._groups.add(rows):
            self._write_group(batch)

    def finish(self) -> tuple[Part, ...]:
        """Write what waits, close the last file."""
        for batch in self._groups.rest():
            self._write_group(batch)
        self._end_file()
        return tuple(self.parts)

    def close(self) -> None:
        """Release the handle of a draft that is not to be finished."""
        if self._file is not None:
            self._file.sink.close()

    def _write_group(self, batch: pa.RecordBatch) -> None:
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


class _File(DraftFile):
    """Knows the key of its last row."""

    def __init__(self, path: str, sink: HashedSink, schema: pa.Schema, tags: tuple[str, ...]) -> None:
        super().__init__(path, sink, schema, tags)
        self.last: Key | None = None
        self._tags = tags

    def write(self, batch: pa.RecordBatch) -> None:
        """One row group."""
        super().write(batch)
        self.last = key_of(batch, self._tags, batch.num_rows - 1)
