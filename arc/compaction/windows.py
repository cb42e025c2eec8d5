"""A sorted run of files, seen through windows: some rows in memory, the rest on the disk until they are needed.

Rows are ordered by tags, then time; null first, then the values' bytes, which is how files are written
(`storage.parquet`). A window finds its rows by bisection, so nothing is looked at row by row.

A file is proven before its first row is read (`storage.reading`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from arc.errors import Corrupt, Unavailable
from arc.ports import Disk
from arc.storage.drafting import trimmed
from arc.storage.files import FileEntry
from arc.storage.reading import UNDECODABLE, map_file, open_parquet, verify

Key = tuple[tuple[bytes, ...], int]
"""Tags and time of a row; a null tag is before all others."""

Stop = Callable[[], bool]
"""Asked between pieces, from the worker's thread: whether to give up."""


class Stopped(Unavailable):
    """The job was cancelled; nothing of it is left."""

    code = "compaction_stopped"


class NotSorted(Exception):
    """A run is not in the order it should be in. Never leaves this package: it is sorted, and the merge begins anew."""

    def __init__(self, run: int) -> None:
        super().__init__(f"run {run} is not sorted by tags and time")
        self.run = run


class _Values:
    """The values of one tag that a dictionary has, in the order of their bytes."""

    __slots__ = ("_rank", "_sorted", "dictionary")

    def __init__(self, dictionary: pa.Array) -> None:
        self.dictionary = dictionary
        order = pc.sort_indices(dictionary).to_numpy()
        self._rank = np.empty(len(order) + 1, np.int32)
        self._rank[order] = np.arange(1, len(order) + 1, dtype=np.int32)
        self._rank[-1] = 0
        self._sorted = dictionary.take(pa.array(order))

    def ranks(self, tag: pa.DictionaryArray) -> np.ndarray:
        """For each row the place of its value in the order, 0 for null."""
        indices = pc.fill_null(tag.indices, len(self.dictionary)) if tag.indices.null_count else tag.indices
        found: np.ndarray = self._rank[indices.to_numpy()]
        return found

    def find(self, value: bytes) -> tuple[int, bool]:
        """The rank that a value has or would have, and whether any row could have it."""
        if not value:
            return 0, True
        at = bisect_left(self._sorted, value, key=_bytes)
        return at + 1, at < len(self._sorted) and _bytes(self._sorted[at]) == value


def _values_of(dictionary: pa.Array, before: _Values | None) -> _Values:
    """Those of the window before when they are the same, as they mostly are: sorting them again would cost more than
    all else that a window does.
    """
    return before if before is not None and before.dictionary.equals(dictionary) else _Values(dictionary)


class Window:
    """Rows of one batch from ``start`` on. ``before``: `values` of the window before, if there was one."""

    __slots__ = ("_batch", "_names", "_ranks", "_times", "last", "start", "values")

    def __init__(self, batch: pa.RecordBatch, tags: Sequence[str], before: Sequence[_Values] = ()) -> None:
        self._batch = batch
        self._names = tags
        self._times = batch.column("time").cast(pa.int64()).to_numpy()
        columns = [batch.column(name) for name in tags]
        known = before or (None,) * len(columns)
        self.values = tuple(_values_of(tag.dictionary, old) for tag, old in zip(columns, known, strict=True))
        """Of each tag, for the window that follows."""
        self._ranks = [values.ranks(tag) for values, tag in zip(self.values, columns, strict=True)]
        self.start = 0
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
        for ranks in self._ranks:
            step = np.diff(ranks)
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
        for known, ranks, value in zip(self.values, self._ranks, values, strict=True):
            # Each in the rows that have all before in common.
            rank, may_be_there = known.find(value)
            among = ranks[low:high]
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


class Run:
    """A run and the windows on it that follow one another. ``batches`` come sorted, none empty; ``number`` is its place
    in the order of the WAL.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch], tags: Sequence[str], number: int) -> None:
        self._batches = batches
        self._tags = tags
        self.number = number
        self._next: pa.RecordBatch | None = next(batches, None)
        self._windows: deque[Window] = deque()
        self._values: tuple[_Values, ...] = ()
        self.last: Key | None = None
        """Key of the last row that was put in a window."""

    @property
    def window(self) -> Window | None:
        """The next rows. None: not filled, or over."""
        return self._windows[0] if self._windows else None

    @property
    def has_more(self) -> bool:
        """Whether rows follow that are in no window."""
        return self._next is not None

    def fill(self, rows: int) -> None:
        """Have at least so many rows in windows, as far as there are any. Raises NotSorted, and as the batches do."""
        there = sum(window.rows for window in self._windows)
        while self._next is not None and there < rows:
            window = Window(self._next, self._tags, self._values)
            if self.last is not None and window.first < self.last:
                raise NotSorted(self.number)
            if not window.is_sorted:
                raise NotSorted(self.number)
            self._windows.append(window)
            self.last, self._values = window.last, window.values
            there += window.rows
            self._next = next(self._batches, None)
        while self._windows and self._windows[0].rows == 0:
            self._windows.popleft()

    def take_below(self, key: Key | None) -> tuple[list[pa.RecordBatch], bool]:
        """The rows in windows whose key is less, all of them for None; and whether the next row has this very key."""
        taken = []
        for window in self._windows:
            less, not_more = (window.rows,) * 2 if key is None else window.around(key)
            if less:
                taken.append(window.take(less))
            if window.rows:
                return taken, not_more > less
        return taken, False


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
        file = open_parquet(map_file(disk, entry), entry)
        try:
            self.schema: pa.Schema = file.schema_arrow
            self.metadata = {key.decode(): text.decode() for key, text in (file.metadata.metadata or {}).items()}
            groups = [file.metadata.row_group(n) for n in range(file.metadata.num_row_groups)]
        except UNDECODABLE as error:
            # Nothing is proven yet: what is planned from a footer is thrown away when its file turns out to be bad.
            raise Corrupt(f"has a footer that is none: {error}", path=entry.path, offset=0) from error
        self.raw_bytes = sum(group.total_byte_size for group in groups)
        """Of all columns, before compression."""
        if file.metadata.num_rows != entry.rows:
            raise Corrupt(f"has {file.metadata.num_rows} rows, not {entry.rows}", path=entry.path, offset=0)

    def batches(self, rows: int, schema: pa.Schema, stop: Stop) -> Iterator[pa.RecordBatch]:
        """All rows in their order, ``rows`` at a time. Raises Corrupt, NotFound, Stopped."""

        def pause() -> None:
            if stop():
                raise Stopped("the merge was cancelled")

        view = map_file(self._disk, self.entry)
        verify(view, self.entry, pause)
        file = open_parquet(view, self.entry)
        try:
            for batch in file.iter_batches(batch_size=rows, use_threads=False):
                pause()
                if batch.num_rows:
                    yield fitted(batch, schema)
        except UNDECODABLE as error:
            raise Corrupt(f"cannot be decoded: {error}", path=self.entry.path, offset=0) from error
