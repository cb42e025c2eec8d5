"""Accepted rows that are not in files yet: what a query adds to the manifest's files.

One list of chunks per (database, measurement), in sequence order. Chunks stay visible while they are being written to
files and leave only after the catalog's flush mark has passed them; a snapshot takes what lies above the mark it is
given, so that a row is seen in the buffer or in a file, never in both and never in neither.

Pure bookkeeping, no clock and no IO: every method is synchronous, which is what makes a snapshot atomic under Trio.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from arc.storage import parquet

SMALL_ROWS = 256
"""A chunk below this many rows is small: scanning it costs more in overhead than in rows."""

SMALL_CHUNKS_MAX = 64
"""That many small chunks in a row are merged into one: about 1 ms per 64 small writes, and queries stay fast."""


@dataclass(frozen=True, slots=True)
class Key:
    """What a buffer is kept for."""

    database: str
    measurement: str

    def __str__(self) -> str:
        return f"{self.database}.{self.measurement}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows of WAL records ``first`` … ``last`` (of one measurement; other measurements' records lie in between)."""

    first: int
    last: int
    batch: pa.RecordBatch
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """What one flush writes: every row of a measurement that was in the buffer when it was sealed."""

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
    """One measurement's rows. The first ``sealed`` chunks are being written to files."""

    opened_at: float
    chunks: list[Chunk] = field(default_factory=list)
    sealed: int = 0
    open_rows: int = 0
    open_bytes: int = 0
    small: int = 0


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
    """Rows and bytes waiting, now; rows taken in, ever."""

    records_buffered: int
    size_bytes: int
    measurements: int
    records_written_total: int


class Buffer:
    """All measurements' unflushed rows on this node."""

    def __init__(self) -> None:
        self._lanes: dict[Key, _Lane] = {}
        self._rows = 0
        self._bytes = 0
        self._rows_added = 0

    def __repr__(self) -> str:
        return f"<Buffer rows={self._rows} bytes={self._bytes} measurements={len(self._lanes)}>"

    @property
    def size_bytes(self) -> int:
        """Bytes held, sealed chunks included."""
        return self._bytes

    def add(self, key: Key, sequence: int, batch: pa.RecordBatch, now: float, size_bytes: int) -> None:
        """Make the rows of one WAL record visible. Sequences must come in order.

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

    def snapshot(self, database: str, measurement: str, after: int) -> tuple[pa.RecordBatch, ...]:
        """The rows above flush mark ``after``, in sequence order."""
        lane = self._lanes.get(Key(database, measurement))
        if lane is None:
            return ()
        # A mark is always the end of a seal, and a seal is always the end of a chunk: no chunk straddles it.
        assert all(chunk.first > after or chunk.last <= after for chunk in lane.chunks), (measurement, after)
        return tuple(chunk.batch for chunk in lane.chunks if chunk.first > after)

    def lanes(self) -> Iterator[LaneFacts]:
        """Every measurement that has unsealed rows, or is flushing."""
        for key, lane in self._lanes.items():
            yield LaneFacts(
                key=key,
                rows=lane.open_rows,
                size_bytes=lane.open_bytes,
                opened_at=lane.opened_at,
                first=lane.chunks[lane.sealed].first if lane.sealed < len(lane.chunks) else 0,
                is_flushing=lane.sealed > 0,
            )

    def seal(self, key: Key) -> Sealed:
        """Close what is there now for one flush; rows that come later are not part of it. One flush at a time per
        key.
        """
        lane = self._lanes[key]
        assert lane.sealed == 0 and lane.chunks
        lane.sealed = len(lane.chunks)
        lane.open_rows = lane.open_bytes = lane.small = 0
        return Sealed(key=key, chunks=tuple(lane.chunks))

    def unseal(self, key: Key) -> None:
        """Take a seal back: the flush did not happen, the rows wait for the next one."""
        lane = self._lanes[key]
        lane.sealed = lane.small = 0
        lane.open_rows = sum(chunk.batch.num_rows for chunk in lane.chunks)
        lane.open_bytes = sum(chunk.size_bytes for chunk in lane.chunks)

    def forget(self, key: Key, through: int) -> None:
        """Drop rows that the catalog's flush mark has passed."""
        lane = self._lanes.get(key)
        if lane is None:
            return
        kept = [chunk for chunk in lane.chunks if chunk.first > through]
        gone = lane.chunks[: len(lane.chunks) - len(kept)]
        assert not gone or gone[-1].last <= through
        self._rows -= sum(chunk.batch.num_rows for chunk in gone)
        self._bytes -= sum(chunk.size_bytes for chunk in gone)
        lane.chunks = kept
        lane.sealed = max(0, lane.sealed - len(gone))
        if not kept:
            del self._lanes[key]

    def holds(self, key: Key, through: int) -> bool:
        """Whether a row of a record up to ``through`` is in no file yet."""
        lane = self._lanes.get(key)
        return lane is not None and lane.chunks[0].first <= through

    def last_sequences(self) -> dict[Key, int]:
        """For every measurement that has rows here, the highest sequence among them."""
        return {key: lane.chunks[-1].last for key, lane in self._lanes.items()}

    def oldest_sequence(self) -> int | None:
        """Lowest sequence that is in no file yet; the WAL must keep it and all that follow. None when empty."""
        return min((lane.chunks[0].first for lane in self._lanes.values()), default=None)

    def statistics(self) -> BufferStatistics:
        """What is waiting."""
        return BufferStatistics(
            records_buffered=self._rows,
            size_bytes=self._bytes,
            measurements=len(self._lanes),
            records_written_total=self._rows_added,
        )

    def _merge_small(self, lane: _Lane) -> None:
        small, lane.small = lane.chunks[-SMALL_CHUNKS_MAX:], 0
        (batch,) = parquet.merge(tuple(chunk.batch for chunk in small)).to_batches()
        merged = Chunk(first=small[0].first, last=small[-1].last, batch=batch, size_bytes=batch.nbytes)
        lane.chunks[-SMALL_CHUNKS_MAX:] = [merged]
        saved = sum(chunk.size_bytes for chunk in small) - merged.size_bytes
        lane.open_bytes -= saved
        self._bytes -= saved
