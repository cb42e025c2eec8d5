"""One file against a condition: how many of its rows match, and the file without them. Blocking, for a worker.

A row group at a time, so memory does not grow with the file. Only the columns that the condition reads are decoded to
count. What is written again keeps the order of the rows, all columns and the metadata; its writer and epoch are new. A
source is hashed before it is written again: a bit that rotted on this disk must not get a fresh hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from arc.deletion.ports import Condition
from arc.errors import Corrupt
from arc.ports import Disk
from arc.storage.drafting import DraftFile, HashedSink, Part, RowGroups
from arc.storage.files import FileEntry
from arc.storage.parquet import ROW_GROUP_ROWS
from arc.storage.reading import UNDECODABLE, map_file, open_parquet, verify

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_METADATA = b"ARROW:schema"


def count(disk: Disk, entry: FileEntry, condition: Condition) -> int:
    """Rows that match. Raises NotFound (not on this disk), Corrupt, InvalidRequest, Overloaded."""
    found = 0
    for rows, mask in _asked(_open(disk, entry), entry, condition, list(condition.columns) or ["time"]):
        assert len(mask) == rows.num_rows
        found += int(mask.sum())
    return found


def rewrite(disk: Disk, entry: FileEntry, condition: Condition, draft: str, *, node: str, epoch: int) -> Part | None:
    """Write the rows that do not match to ``draft``, whose folder is there; None when there are none.

    Raises as `count`, and OSError of what is written; then nothing is left there.
    """
    file = _open(disk, entry)
    output = _Output(disk, draft, _schema(file, node, epoch), is_sorted=_is_sorted(file))
    try:
        for rows, mask in _asked(file, entry, condition, None):
            output.add(rows.filter(pa.array(~mask)) if mask.any() else rows)
        return output.finish()
    except BaseException:
        output.close()
        disk.remove(draft)
        raise


class _Output:
    """Rows in their order, in row groups of the usual size. The draft is opened for the first of them."""

    def __init__(self, disk: Disk, draft: str, schema: pa.Schema, *, is_sorted: bool) -> None:
        self._disk = disk
        self._draft = draft
        self._schema = schema
        self._is_sorted = is_sorted
        self._groups = RowGroups(schema, ROW_GROUP_ROWS)
        self._file: DraftFile | None = None

    def add(self, rows: pa.Table) -> None:
        for batch in self._groups.add(rows):
            self._write_group(batch)

    def finish(self) -> Part | None:
        for batch in self._groups.rest():
            self._write_group(batch)
        return self._file.finish() if self._file is not None else None

    def close(self) -> None:
        if self._file is not None:
            self._file.sink.close()

    def _write_group(self, batch: pa.RecordBatch) -> None:
        if self._file is None:
            sink = HashedSink(self._disk.open_draft(self._draft))
            tags = tuple(field.name for field in self._schema if pa.types.is_dictionary(field.type))
            self._file = DraftFile(self._draft, sink, self._schema, tags, is_sorted=self._is_sorted)
        self._file.write(batch)


def _asked(
    file: pq.ParquetFile, entry: FileEntry, condition: Condition, columns: list[str] | None
) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Every row group with its matches. ``columns``: those to decode, None for all."""
    there = None if columns is None else [name for name in columns if name in file.schema_arrow.names] or ["time"]
    for n in range(file.metadata.num_row_groups):
        may_match = _may_match(file.metadata.row_group(n), condition)
        if columns is not None and not may_match:
            continue
        try:
            rows = file.read_row_group(n, columns=there, use_threads=False)
        except UNDECODABLE as error:
            raise Corrupt(f"cannot be decoded: {error}", path=entry.path, offset=0) from error
        yield rows, condition.matches(rows) if may_match else np.zeros(rows.num_rows, np.bool_)


def _may_match(group: pq.RowGroupMetaData, condition: Condition) -> bool:
    """Whether the row group has rows within the condition's time."""
    if condition.low_us is None and condition.high_us is None:
        return True
    columns = (group.column(n) for n in range(group.num_columns))
    times = next(column for column in columns if column.path_in_schema == "time").statistics
    if times is None or not times.has_min_max:
        return True
    is_late = condition.high_us is not None and _us(times.min) > condition.high_us
    is_early = condition.low_us is not None and _us(times.max) < condition.low_us
    return not (is_late or is_early)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _schema(file: pq.ParquetFile, node: str, epoch: int) -> pa.Schema:
    """The columns and the metadata of the source, in our name."""
    schema = file.schema_arrow
    metadata = dict(file.metadata.metadata or {})
    metadata.pop(_NOT_METADATA, None)
    return schema.with_metadata({**metadata, b"arc.writer": node.encode(), b"arc.epoch": str(epoch).encode()})


def _is_sorted(file: pq.ParquetFile) -> bool:
    """Whether the source said that it is."""
    return file.metadata.num_row_groups > 0 and bool(file.metadata.row_group(0).sorting_columns)


def _open(disk: Disk, entry: FileEntry) -> pq.ParquetFile:
    view = map_file(disk, entry)
    verify(view, entry)
    return open_parquet(view, entry)
