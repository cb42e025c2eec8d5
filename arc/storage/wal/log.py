"""The write-ahead log of one node: a journal of records, shared between the task that appends, the one that releases
and those that read for followers.

A lock orders them, so that the journal sees one caller at a time. Reading for replay happens before any of them starts.

Idempotency keys whose records leave with a segment are kept in a checkpoint file that is durable before the segment
goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from arc.errors import Corrupt, DiskFailed, Overloaded
from arc.journal import Journal, SegmentInfo
from arc.journal.inspection import walk
from arc.ports import Buffer, Clock, Disk, Workers, is_full
from arc.storage.config import WalConfig
from arc.storage.wal import record
from arc.storage.wal.keys import FOLDER, StoredKey, save_keys
from arc.telemetry import DISK_BOUNDS, Distribution, Histogram


@dataclass(frozen=True, slots=True, kw_only=True)
class WalStatistics:
    """What the log holds, and what was appended since this start.

    ``fsync_duration_seconds``: from asking a worker for a durable write until it was on disk, one for each group; what
    writers wait for.
    """

    first_sequence: int
    next_sequence: int
    segments: int
    size_bytes: int
    appends_total: int
    records_total: int
    bytes_total: int
    fsync_duration_seconds: Distribution


class WalLog:
    """Appends groups of records durably; gives segments back when told what is still needed."""

    def __init__(self, journal: Journal, disk: Disk, workers: Workers, clock: Clock) -> None:
        self._journal = journal
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._lock = trio.Lock()
        self._appends = self._records = self._bytes = 0
        self._fsyncs = Histogram(DISK_BOUNDS)

    @classmethod
    def open(cls, disk: Disk, workers: Workers, clock: Clock, config: WalConfig, *, first_sequence: int) -> WalLog:
        """Open the log, or create it with ``first_sequence`` as its first record; blocking. Raises Corrupt."""
        disk.make_dirs(FOLDER)
        found = walk(disk, FOLDER)
        journal = Journal.open(
            disk,
            FOLDER,
            segment_bytes=config.segment_bytes,
            first_index=1 if found.segments else first_sequence,
            found=found,
        )
        return cls(journal, disk, workers, clock)

    def __repr__(self) -> str:
        return f"<WalLog {self.first_sequence}..{self.next_sequence - 1}>"

    @property
    def first_sequence(self) -> int:
        """Sequence of the oldest record held; of the next one when there is none."""
        return self._journal.first_index

    @property
    def next_sequence(self) -> int:
        """Sequence of the next record."""
        return self._journal.next_index

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments that hold records."""
        return sum(segment.used_bytes for segment in self._journal.segments())

    @property
    def dropped_tail(self) -> str | None:
        """What this start left out at the end of the log, for people; None when nothing."""
        damage = self._journal.dropped_tail
        return None if damage is None else f"{damage.reason} at offset {damage.offset}"

    async def append(self, records: Sequence[Buffer]) -> None:
        """Store records from `next_sequence` on as one group; durable on return. Raises Overloaded, DiskFailed."""
        async with self._lock:
            # Shielded: a group half written and half known is the one state we never want to be in.
            with trio.CancelScope(shield=True):
                begun = self._clock.now()
                await self._workers.run(self._journal.append, records, self._journal.next_index)
                self._fsyncs.observe(self._clock.now() - begun)
        self._appends += 1
        self._records += len(records)
        self._bytes += sum(map(len, records))

    async def cut(self, first: int) -> None:
        """Take back the records from ``first`` on; durable on return. Raises Overloaded, DiskFailed."""
        await self._change(self._journal.cut, first)

    async def restart(self, next_sequence: int) -> None:
        """Take back all records and go on with this one; durable on return. Raises Overloaded, DiskFailed."""
        await self._change(self._restart, next_sequence)

    def _restart(self, next_sequence: int) -> None:
        self._journal.restart(next_sequence)
        self._journal.release(0)

    async def _change(self, change: Callable[[int], None], sequence: int) -> None:
        async with self._lock:
            with trio.CancelScope(shield=True):
                await self._workers.run(change, sequence)

    async def read(self, start: int, bytes_max: int) -> list[bytes]:
        """Whole requests from record ``start`` on: at least one, then as many as fit ``bytes_max``.

        Empty when ``start`` is not held (any more, or yet). Raises Corrupt.
        """
        async with self._lock:
            with trio.CancelScope(shield=True):
                found = await self._workers.run(self._read, start, bytes_max)
        return found

    def _read(self, start: int, bytes_max: int) -> list[bytes]:
        if not self._journal.first_index <= start < self._journal.next_index:
            return []
        found: list[bytes] = []
        size = whole = 0
        for _, payload in self._journal.read(start):
            size += len(payload)
            if whole and size > bytes_max:
                break
            found.append(bytes(payload))
            if record.parts_left(found[-1]) == 0:
                whole = len(found)
        return found[:whole]

    def size_from(self, sequence: int) -> int:
        """Bytes of the segments that hold this record or later ones."""
        return sum(segment.used_bytes for segment in self._journal.segments() if segment.next_index > sequence)

    def tail_first(self, bytes_max: int) -> int:
        """First record of the newest segments that take at least ``bytes_max``; of the oldest one when all take
        less.
        """
        size = 0
        for segment in reversed(self._journal.segments()):
            size += segment.used_bytes
            if size >= bytes_max:
                return segment.first_index
        return self._journal.first_index

    async def store_keys(self, keys: Sequence[StoredKey]) -> None:
        """Replace the checkpoint of keys; durable on return. Raises Overloaded (disk full), DiskFailed."""
        try:
            with trio.CancelScope(shield=True):
                await self._workers.run(save_keys, self._disk, keys)
        except OSError as error:
            if is_full(error):
                raise Overloaded(
                    f"the disk has no room for the checkpoint of keys: {error}", code="disk_full"
                ) from error
            raise DiskFailed(f"writing the checkpoint of keys failed: {error}") from error

    def may_release(self, below: int) -> bool:
        """Whether a segment holds nothing but records below ``below``."""
        segments = self._journal.segments()
        return len(segments) > 1 and segments[0].next_index <= below

    async def release(self, below: int, keys: Sequence[StoredKey]) -> int:
        """Give back segments with only records below ``below``; ``keys`` are the living ones among them. Returns how
        many.
        """
        if not self.may_release(below):
            return 0
        async with self._lock:
            with trio.CancelScope(shield=True):
                await self._workers.run(save_keys, self._disk, keys)
                released = await self._workers.run(self._journal.release, below)
        return released

    def segments(self) -> tuple[SegmentInfo, ...]:
        """Oldest first."""
        return self._journal.segments()

    def read_segment(self, segment: SegmentInfo, start: int) -> list[tuple[record.RecordHeader, bytes]]:
        """The records of one segment from sequence ``start`` on; blocking. Raises Corrupt for a record that cannot
        be read.
        """
        found = []
        for sequence, payload in self._journal.read_segment(segment, start):
            try:
                header, columns = record.decode_header(payload)
            except (ValueError, UnicodeDecodeError) as error:
                raise Corrupt(f"record {sequence}: {error}", path=segment.path, offset=0) from error
            assert header.position.sequence == sequence, (header, sequence)
            # A copy, because the segment will be recycled under any view of it.
            found.append((header, bytes(columns)))
        return found

    async def close(self) -> None:
        """Mark the end of the log as intended."""
        async with self._lock:
            with trio.CancelScope(shield=True):
                await self._workers.run(self._journal.close)

    def statistics(self) -> WalStatistics:
        """Numbers for status and metrics."""
        segments = self._journal.segments()
        return WalStatistics(
            first_sequence=self._journal.first_index,
            next_sequence=self._journal.next_index,
            segments=len(segments),
            size_bytes=self.size_bytes,
            appends_total=self._appends,
            records_total=self._records,
            bytes_total=self._bytes,
            fsync_duration_seconds=self._fsyncs.statistics(),
        )
