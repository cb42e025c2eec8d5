"""A sorted run of files, seen through a window: some rows in memory, the rest on the disk until they are needed.

Rows are ordered by tags, then time; null first, then the values' bytes, which is how files are written
(`storage.parquet`). A window finds its rows by bisection, so nothing is looked at row by row.

A file is hashed before its first row is read: a bit that rotted on this disk must not get a fresh hash by a merge.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from arc.errors import Corrupt, NotFound, Unavailable
from arc.ports import Disk
from arc.storage.drafting import trimmed
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA

Key = tuple[tuple[bytes, ...], int]
"""Tags and time of a row; a null tag is before all others."""

Stop = Callable[[], bool]
"""Asked between pieces, from the worker's thread: whether to give up."""

HASH_BYTES = 8 << 20
"""Hashed in one go: some 10 ms."""


class Stopped(Unavailable):
    """The job was cancelled; nothing of it is left."""

    code = "compaction_stopped"


class NotSorted(Exception):
    """A run is not in the order it should be in. Never leaves this package: it is sorted, and the merge begins anew."""

    def __init__(self, run: int) -> None:
        super().__init__(f"run {run} is not sorted by tags and time")
        self.run = run


class _Tag:
    """One tag of a window's rows: ``ranks`` are their places in the order of the values, 0 for null."""

    __slots__ = ("_known", "_sorted", "ranks")

    def __init__(self, tag: pa.DictionaryArray) -> None:
        self.ranks, self._sorted = _ranked(tag)
        self._known: list[bytes] | None = None

    def find(self, value: bytes) -> tuple[int, bool]:
        """The rank that a value has or would have, and whether any row could have it."""
        if not value:
            return 0, True
        if self._known is None:
            self._known = [b"\x01" + text.encode() for text in self._sorted.to_pylist()]
        known = self._known
        at = bisect_left(known, value)
        return at + 1, at < len(known) and known[at] == value


class Window:
    """Rows of one batch from ``start`` on."""

    __slots__ = ("_batch", "_names", "_tags", "_times", "last", "start")

    def __init__(self, batch: pa.RecordBatch, tags: Sequence[str], start: int = 0) -> None:
        self._batch = batch
        self._names = tags
        self._times = batch.column("time").cast(pa.int64()).to_numpy()
        self._tags = [_Tag(batch.column(name)) for name in tags]
        self.start = start
        self.last = key_of(batch, tags, batch.num_rows - 1)
        """Key of the last row."""

    @property
    def rows(self) -> int:
        """How many are left."""
        return int(self._batch.num_rows - self.start)

    @property
    def first(self) -> Key:
        """Key of the first row left."""
        return key_of(self._batch, self._names, self.start)

    @property
    def is_sorted(self) -> bool:
        """Whether each row's key is at least that of the one before: bisection in anything else would lose rows."""
        undecided = np.ones(max(0, self._batch.num_rows - 1), np.bool_)
        for tag in self._tags:
            step = np.diff(tag.ranks)
            if bool((step[undecided] < 0).any()):
                return False
            undecided &= step == 0
        return not bool((np.diff(self._times)[undecided] < 0).any())

    def around(self, key: Key) -> tuple[int, int]:
        """How many of the rows left are less, and how many less or equal."""
        if self.last < key:
            return self.rows, self.rows
        low, high = self.start, self._batch.num_rows
        values, time_us = key
        for tag, value in zip(self._tags, values, strict=True):  # each in the rows that have all before in common
            rank, may_be_there = tag.find(value)
            among = tag.ranks[low:high]
            left = low + int(among.searchsorted(rank, "left"))
            if not may_be_there:
                return left - self.start, left - self.start
            low, high = left, low + int(among.searchsorted(rank, "right"))
        times = self._times[low:high]
        left, right = times.searchsorted(time_us, "left"), times.searchsorted(time_us, "right")
        return low + int(left) - self.start, low + int(right) - self.start

    def take(self, count: int) -> pa.RecordBatch:
        """The next rows, which are left no more. Copies nothing."""
        taken = self._batch.slice(self.start, count)
        self.start += count
        return taken


def key_of(batch: pa.RecordBatch, tags: Sequence[str], row: int) -> Key:
    """Key of a row."""
    values = (batch.column(name)[row] for name in tags)
    return tuple(_bytes(value) if value.is_valid else b"" for value in values), batch.column("time")[row].value


def _bytes(value: pa.Scalar) -> bytes:
    """Never empty, so that a null is before all of them."""
    text: str = value.as_py()
    return b"\x01" + text.encode()


def _ranked(tag: pa.DictionaryArray) -> tuple[np.ndarray, pa.Array]:
    """For each row the rank of its value, 0 for null; and the values in the order of their bytes."""
    order = pc.sort_indices(tag.dictionary).to_numpy()
    rank = np.empty(len(order) + 1, np.int32)
    rank[order] = np.arange(1, len(rank), dtype=np.int32)
    rank[-1] = 0
    return rank[pc.fill_null(tag.indices, len(order)).to_numpy()], tag.dictionary.take(pa.array(order))


class Run:
    """A run and its window. ``batches`` come sorted, none empty; ``number`` is its place in the order of the WAL."""

    def __init__(self, batches: Iterator[pa.RecordBatch], tags: Sequence[str], number: int) -> None:
        self._batches = batches
        self._tags = tags
        self.number = number
        self._next: pa.RecordBatch | None = next(batches, None)
        self._seen: Key | None = None
        self.window: Window | None = None
        self.refill()

    @property
    def has_more(self) -> bool:
        """Whether rows follow that are not in the window."""
        return self._next is not None

    def refill(self) -> None:
        """Put the next batch in the place of a window that is used up. No window: the run is over."""
        assert self.window is None or self.window.rows == 0
        if self._next is None:
            self.window = None
            return
        self.window = Window(self._next, self._tags)
        if self._seen is not None and self.window.first < self._seen:
            raise NotSorted(self.number)
        if not self.window.is_sorted:
            raise NotSorted(self.number)
        self._seen = self.window.last
        self._next = next(self._batches, None)


def fitted(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows under the columns of the output: what is missing is null, what was narrower is widened."""
    present = {name: n for n, name in enumerate(batch.schema.names)}
    columns = []
    for field in schema:
        if field.name not in present:
            columns.append(pa.nulls(batch.num_rows, field.type))
            continue
        column = batch.column(present[field.name])
        if pa.types.is_dictionary(field.type):
            column = column if pa.types.is_dictionary(column.type) else column.cast(pa.utf8()).dictionary_encode()
            # Worth a pass over the rows only where the dictionary is what costs.
            column = trimmed(column) if len(column.dictionary) > batch.num_rows // 2 else column
        # Not safe: an integer above 2**53 becomes the nearest float, as it would in a query.
        columns.append(column if column.type == field.type else column.cast(field.type, safe=False))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


class Source:
    """One file, opened as far as its footer."""

    def __init__(self, disk: Disk, entry: FileEntry) -> None:
        self.entry = entry
        self._disk = disk
        file = self._open(self._map())
        self.schema: pa.Schema = file.schema_arrow
        self.metadata: Mapping[bytes, bytes] = file.metadata.metadata or {}
        groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
        self.raw_bytes = sum(group.total_byte_size for group in groups)
        """Of all columns, before compression."""
        if file.metadata.num_rows != entry.rows:
            raise Corrupt(f"has {file.metadata.num_rows} rows, not {entry.rows}", path=entry.path, offset=0)

    def batches(self, rows: int, schema: pa.Schema, stop: Stop) -> Iterator[pa.RecordBatch]:
        """All rows in their order, ``rows`` at a time. Raises Corrupt, NotFound, Stopped."""
        view = self._map()
        self._verify(view, stop)
        file = self._open(view)
        try:
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                if stop():
                    raise Stopped("the merge was cancelled")
                if batch.num_rows:
                    yield fitted(batch, schema)
        except (pa.ArrowException, OSError) as error:
            raise Corrupt(f"cannot be decoded: {error}", path=self.entry.path, offset=0) from error

    def _map(self) -> memoryview:
        try:
            return self._disk.map(f"{DATA}/{self.entry.path}")
        except FileNotFoundError as error:
            raise NotFound(f"{self.entry.path} is not on this disk", code="source_missing") from error
        except OSError as error:
            raise Corrupt(f"cannot be read: {error}", path=self.entry.path, offset=0) from error

    def _open(self, view: memoryview) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(pa.BufferReader(pa.py_buffer(view)), pre_buffer=False)
        except (pa.ArrowException, OSError) as error:
            raise Corrupt(f"is no Parquet file: {error}", path=self.entry.path, offset=0) from error

    def _verify(self, view: memoryview, stop: Stop) -> None:
        found = hashlib.sha256()
        for start in range(0, len(view), HASH_BYTES):
            if stop():
                raise Stopped("the merge was cancelled")
            found.update(view[start : start + HASH_BYTES])
        if len(view) != self.entry.size_bytes or found.hexdigest() != self.entry.sha256:
            raise Corrupt("is not the file that the manifest has under this name", path=self.entry.path, offset=0)
