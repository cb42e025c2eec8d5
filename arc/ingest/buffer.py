"""Logged rows that a query does not find in files yet: what it adds to the manifest's files.

One list of chunks per (database, measurement), in sequence order: the WAL's rows, in memory. Three numbers say what
becomes of them. Rows above ``visible`` are not durable on the whole in-sync set; no query sees them and no flush takes
them, and they may be cut again. Rows up to a measurement's flush mark are in files; they are kept here only while a
file that holds them cannot be read on this node. ``floor`` says how much is still here: every row above it.

Pure bookkeeping, no clock and no IO: every method is synchronous, which is what makes a snapshot atomic under Trio.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from arc.storage import parquet

SMALL_ROWS = 256
"""A chunk below this many rows is small: scanning it costs more in overhead than in rows."""

SMALL_CHUNKS_MAX = 64
"""That many small chunks in a row are merged into one: about 1 ms per 64 small writes, and queries stay fast."""

EVERYTHING = 2**63 - 1
"""A bound that no sequence reaches."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a buffer is kept for."""

    database: str
    measurement: str

    def __str__(self) -> str:
        return f"{self.database}.{self.measurement}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows of WAL records ``first`` … ``last`` (of one measurement; other measurements' records lie in between).

    ``sequences`` are the records in it and ``ends`` where the rows of each end, so that it can be divided between any
    two; both are empty when it holds one record.
    """

    first: int
    last: int
    batch: pa.RecordBatch
    size_bytes: int
    sequences: array[int] = field(default_factory=lambda: array("Q"))
    ends: array[int] = field(default_factory=lambda: array("Q"))

    def divide(self, after: int) -> tuple[Chunk | None, Chunk | None]:
        """The records up to ``after`` and those above it."""
        if after >= self.last:
            return self, None
        if after < self.first:
            return None, self
        at = bisect_right(self.sequences, after)
        rows = self.ends[at - 1]
        size = self.size_bytes * rows // max(1, self.batch.num_rows)
        left = Chunk(
            first=self.first,
            last=self.sequences[at - 1],
            batch=self.batch.slice(0, rows),
            size_bytes=size,
            sequences=self.sequences[:at],
            ends=self.ends[:at],
        )
        right = Chunk(
            first=self.sequences[at],
            last=self.last,
            batch=self.batch.slice(rows),
            size_bytes=self.size_bytes - size,
            sequences=self.sequences[at:],
            ends=array("Q", (end - rows for end in self.ends[at:])),
        )
        return left, right


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What one flush writes: every row of a measurement that could be flushed when it was sealed."""

    key: Key
    chunks: tuple[Chunk, ...]

    @property
    def first(self) -> int:
        """Lowest sequence."""
        return self.chunks[0].first

    @property
    def last(self) -> int:
        """Highest sequence: the flush mark once the files are registered."""
        return self.chunks[-1].last

    @property
    def batches(self) -> tuple[pa.RecordBatch, ...]:
        """The rows."""
        return tuple(chunk.batch for chunk in self.chunks)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(chunk.batch.num_rows for chunk in self.chunks)


@dataclass(slots=True)
class _Lane:
    """One measurement's rows: up to ``flushed`` they are in files, up to ``sealed`` being written to files."""

    opened_at: float
    chunks: list[Chunk] = field(default_factory=list)
    flushed: int = 0
    sealed: int = 0
    open_rows: int = 0
    open_bytes: int = 0
    kept_bytes: int = 0
    small: int = 0

    def recount(self) -> None:
        """Find the sums anew, after chunks went or a bound moved."""
        border = max(self.flushed, self.sealed)
        open_chunks = [chunk for chunk in self.chunks if chunk.first > border]
        self.open_rows = sum(chunk.batch.num_rows for chunk in open_chunks)
        self.open_bytes = sum(chunk.size_bytes for chunk in open_chunks)
        self.kept_bytes = sum(chunk.size_bytes for chunk in self.chunks if chunk.last <= self.flushed)
        self.small = 0

    def divide(self, after: int) -> int:
        """Make a border between chunks behind record ``after``; returns how many chunks lie before it."""
        for nth, chunk in enumerate(self.chunks):
            if chunk.last > after:
                left, right = chunk.divide(after)
                if left is not None and right is not None:
                    self.chunks[nth : nth + 1] = [left, right]
                    return nth + 1
                return nth
        return len(self.chunks)


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFacts:
    """What `flush.due` decides by. ``opened_at`` is when the oldest unsealed row came (seconds of the node's clock)."""

    key: Key
    rows: int
    size_bytes: int
    opened_at: float
    first: int
    is_flushing: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferStatistics:
    """Rows and bytes waiting, now; rows taken in, ever. ``kept_bytes`` are of rows whose files cannot be read here."""

    records_buffered: int
    size_bytes: int
    kept_bytes: int
    measurements: int
    records_written_total: int
    records_cut_total: int


class Buffer:
    """All measurements' unflushed rows on this node."""

    def __init__(self) -> None:
        self._lanes: dict[Key, _Lane] = {}
        self._floors: dict[Key, int] = {}
        self._floor = 0
        self._rows = 0
        self._bytes = 0
        self._rows_added = 0
        self._rows_cut = 0
        self.visible = EVERYTHING
        """Highest sequence that queries see; whoever logs rows that are not durable everywhere keeps it."""

    def __repr__(self) -> str:
        return f"<Buffer rows={self._rows} bytes={self._bytes} measurements={len(self._lanes)}>"

    @property
    def size_bytes(self) -> int:
        """Bytes held, sealed chunks included."""
        return self._bytes

    def add(self, key: Key, sequence: int, batch: pa.RecordBatch, now: float, size_bytes: int) -> None:
        """Take in the rows of one WAL record. Sequences must come in order.

        ``size_bytes`` is what the record's columns take in the WAL: close to their memory, and known without asking
        Arrow, whose answer costs more than the rest of this.
        """
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(now)
        assert not lane.chunks or sequence > lane.chunks[-1].last, (key, sequence, lane.chunks[-1].last)
        if lane.open_rows == 0:
            lane.opened_at = now
        chunk = Chunk(first=sequence, last=sequence, batch=batch, size_bytes=size_bytes)
        lane.chunks.append(chunk)
        lane.open_rows += batch.num_rows
        lane.open_bytes += chunk.size_bytes
        self._rows += batch.num_rows
        self._rows_added += batch.num_rows
        self._bytes += chunk.size_bytes
        lane.small = lane.small + 1 if batch.num_rows < SMALL_ROWS else 0
        if lane.small >= SMALL_CHUNKS_MAX:
            self._merge_small(lane)

    # -------------------------------------------------------------------------------------------------------- reading

    def snapshot(self, database: str, measurement: str, after: int) -> tuple[pa.RecordBatch, ...]:
        """The visible rows above ``after``, in sequence order."""
        lane = self._lanes.get(Key(database, measurement))
        if lane is None:
            return ()
        visible = self.visible
        if lane.chunks[0].first > after and lane.chunks[-1].last <= visible:
            return tuple(chunk.batch for chunk in lane.chunks)
        found = []
        for chunk in lane.chunks:
            _, above = chunk.divide(after)
            seen = None if above is None else above.divide(visible)[0]
            if seen is not None:
                found.append(seen.batch)
        return tuple(found)

    def floor(self, database: str, measurement: str) -> int:
        """Every row of a record above this that was logged is here."""
        return max(self._floor, self._floors.get(Key(database, measurement), 0))

    def lanes(self, through: int = EVERYTHING) -> Iterator[LaneFacts]:
        """Every measurement that has rows, and what of it could be sealed at ``through`` now."""
        for key, lane in self._lanes.items():
            rows, size_bytes = lane.open_rows, lane.open_bytes
            border = max(lane.flushed, lane.sealed)
            for chunk in reversed(lane.chunks):
                if chunk.last <= through or chunk.last <= border:
                    break
                _, hidden = chunk.divide(max(through, border))
                assert hidden is not None
                rows -= hidden.batch.num_rows
                size_bytes -= hidden.size_bytes
            yield LaneFacts(
                key=key,
                rows=rows,
                size_bytes=size_bytes,
                opened_at=lane.opened_at,
                first=next((chunk.first for chunk in lane.chunks if chunk.first > border), 0),
                is_flushing=lane.sealed > lane.flushed,
            )

    def holds(self, key: Key, through: int) -> bool:
        """Whether a row of a record up to ``through`` is in no file yet."""
        lane = self._lanes.get(key)
        return lane is not None and any(lane.flushed < chunk.first <= through for chunk in lane.chunks)

    def last_sequences(self, through: int = EVERYTHING) -> dict[Key, int]:
        """For every measurement with rows up to ``through`` that are in no file yet, the highest sequence of theirs."""
        found = {}
        for key, lane in self._lanes.items():
            below = [left.last for chunk in lane.chunks if (left := chunk.divide(through)[0]) is not None]
            if below and below[-1] > lane.flushed:
                found[key] = below[-1]
        return found

    def oldest_sequence(self) -> int | None:
        """Lowest sequence that is in no file yet; the WAL must keep it and all that follow. None when there is none."""
        firsts = (
            next((chunk.first for chunk in lane.chunks if chunk.first > lane.flushed), None)
            for lane in self._lanes.values()
        )
        return min((first for first in firsts if first is not None), default=None)

    def kept(self) -> list[Key]:
        """Measurements of which rows are kept that are in files."""
        return [key for key, lane in self._lanes.items() if lane.kept_bytes]

    def keys(self) -> list[Key]:
        """Measurements of which any row is here."""
        return list(self._lanes)

    # ------------------------------------------------------------------------------------------------------- flushing

    def seal(self, key: Key, through: int = EVERYTHING) -> Sealed:
        """Close what is there up to ``through`` for one flush; rows that come later are not part of it. One flush at a
        time per key.
        """
        lane = self._lanes[key]
        assert lane.sealed <= lane.flushed, (key, lane.sealed)
        end = lane.divide(through)
        chunks = tuple(chunk for chunk in lane.chunks[:end] if chunk.first > lane.flushed)
        assert chunks, (key, through)
        lane.sealed = chunks[-1].last
        lane.recount()
        return Sealed(key=key, chunks=chunks)

    def unseal(self, key: Key) -> None:
        """Take a seal back: the flush did not happen, the rows wait for the next one."""
        lane = self._lanes.get(key)
        if lane is not None:
            lane.sealed = 0
            lane.recount()

    def note_mark(self, key: Key, mark: int) -> None:
        """Rows up to the catalog's flush mark are in files: none of them is flushed again."""
        lane = self._lanes.get(key)
        if lane is not None and mark >= lane.flushed:
            lane.divide(mark)
            lane.flushed = mark
            lane.recount()

    def forget(self, key: Key, through: int) -> None:
        """Drop rows that queries find in files on this node."""
        self._floors[key] = max(through, self._floors.get(key, 0))
        lane = self._lanes.get(key)
        if lane is None:
            return
        lane.flushed = max(lane.flushed, through)
        gone = lane.divide(through)
        self._drop(lane.chunks[:gone])
        del lane.chunks[:gone]
        if lane.chunks:
            lane.recount()
        else:
            del self._lanes[key]

    def evict_kept(self, bytes_max: int) -> list[Key]:
        """Drop the oldest rows that are in files, though these cannot be read here, until they take ``bytes_max``.

        Queries on these measurements cannot be answered here until the files have come. Returns which.
        """
        evicted: dict[Key, None] = {}
        kept = sum(lane.kept_bytes for lane in self._lanes.values())
        while kept > bytes_max:
            lanes = [(lane.chunks[0].first, key) for key, lane in self._lanes.items() if lane.kept_bytes]
            _, key = min(lanes, key=lambda found: found[0])
            kept -= self._lanes[key].chunks[0].size_bytes
            self.forget(key, self._lanes[key].chunks[0].last)
            evicted[key] = None
        return list(evicted)

    # -------------------------------------------------------------------------------------------------------- cutting

    def cut(self, first: int) -> None:
        """Take back the rows of all records from ``first`` on: the log has lost them, and they were never seen."""
        for key, lane in list(self._lanes.items()):
            if lane.chunks[-1].last < first:
                continue
            left = lane.divide(first - 1)
            self._rows_cut += sum(chunk.batch.num_rows for chunk in lane.chunks[left:])
            self._drop(lane.chunks[left:])
            del lane.chunks[left:]
            if lane.chunks:
                lane.recount()
            else:
                del self._lanes[key]

    def restart(self, first: int) -> None:
        """Hold nothing; the next record is ``first``, and all below it is in files."""
        self._lanes.clear()
        self._floors.clear()
        self._floor = first - 1
        self._rows = self._bytes = 0

    def statistics(self) -> BufferStatistics:
        """What is waiting."""
        return BufferStatistics(
            records_buffered=self._rows,
            size_bytes=self._bytes,
            kept_bytes=sum(lane.kept_bytes for lane in self._lanes.values()),
            measurements=len(self._lanes),
            records_written_total=self._rows_added,
            records_cut_total=self._rows_cut,
        )

    def _drop(self, gone: list[Chunk]) -> None:
        self._rows -= sum(chunk.batch.num_rows for chunk in gone)
        self._bytes -= sum(chunk.size_bytes for chunk in gone)

    def _merge_small(self, lane: _Lane) -> None:
        small, lane.small = lane.chunks[-SMALL_CHUNKS_MAX:], 0
        (batch,) = parquet.merge(tuple(chunk.batch for chunk in small)).to_batches()
        sequences, ends, rows = array("Q"), array("Q"), 0
        for chunk in small:
            sequences.append(chunk.last)
            rows += chunk.batch.num_rows
            ends.append(rows)
        merged = Chunk(
            first=small[0].first,
            last=small[-1].last,
            batch=batch,
            size_bytes=batch.nbytes,
            sequences=sequences,
            ends=ends,
        )
        lane.chunks[-SMALL_CHUNKS_MAX:] = [merged]
        saved = sum(chunk.size_bytes for chunk in small) - merged.size_bytes
        lane.open_bytes -= saved
        self._bytes -= saved
