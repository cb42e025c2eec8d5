"""A sorted run of files, seen through a window: some rows in memory, the rest on the disk until they are needed.

Rows are ordered by tags, then time; null first, then the values' bytes, which is how files are written
(`storage.parquet`). A window finds its rows by bisection, so nothing is looked at row by row.

A file is hashed before its first row is read: a bit that rotted on this disk must not get a fresh hash by a merge.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
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


class Window:
    """Rows of one batch from ``start`` on."""

    __slots__ = ("_batch", "_tags", "_times", "start")

    def __init__(self, batch: pa.RecordBatch, tags: Sequence[str], start: int = 0) -> None:
        self._batch = batch
        self._times = batch.column("time").cast(pa.int64()).to_numpy()
        columns = [batch.column(name) for name in tags]
        self._tags = [(pc.fill_null(tag.indices, -1).to_numpy(), tag.dictionary) for tag in columns]
        self.start = start

    @property
    def rows(self) -> int:
        """How many are left."""
        return int(self._batch.num_rows - self.start)

    @property
    def first(self) -> Key:
        """Key of the first row left."""
        return self._key(self.start)

    @property
    def last(self) -> Key:
        """Key of the last row."""
        return self._key(self._batch.num_rows - 1)

    def below(self, key: Key) -> int:
        """How many of the rows left are less."""
        return bisect_left(range(self._batch.num_rows), key, lo=self.start, key=self._key) - self.start

    def up_to(self, key: Key) -> int:
        """How many of the rows left are less or equal."""
        return bisect_right(range(self._batch.num_rows), key, lo=self.start, key=self._key) - self.start

    def take(self, count: int) -> pa.RecordBatch:
        """The next rows, which are left no more. Copies nothing."""
        taken = self._batch.slice(self.start, count)
        self.start += count
        return taken

    def _key(self, row: int) -> Key:
        return tuple(
            b"" if indices[row] < 0 else b"\x01" + dictionary[int(indices[row])].as_py().encode()
            for indices, dictionary in self._tags
        ), int(self._times[row])


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
        if not is_sorted(self._next, self._tags):
            raise NotSorted(self.number)
        self._seen = self.window.last
        self._next = next(self._batches, None)


def is_sorted(batch: pa.RecordBatch, tags: Sequence[str]) -> bool:
    """Whether each row's key is at least that of the one before: bisection in anything else would lose rows."""
    undecided = np.ones(max(0, batch.num_rows - 1), np.bool_)
    for name in tags:
        tag = batch.column(name)
        rank = np.empty(len(tag.dictionary) + 1, np.int64)
        rank[pc.sort_indices(tag.dictionary).to_numpy()] = np.arange(1, len(rank))
        rank[-1] = 0
        step = np.diff(rank[pc.fill_null(tag.indices, len(rank) - 1).to_numpy()])
        if bool((step[undecided] < 0).any()):
            return False
        undecided &= step == 0
    times = batch.column("time").cast(pa.int64()).to_numpy()
    return not bool((np.diff(times)[undecided] < 0).any())


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
