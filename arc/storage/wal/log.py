"""The write-ahead log of one node: a journal of records, shared between the task that appends and the one that
releases.

A lock orders the two, so that the journal sees one caller at a time. Reading for replay happens before either starts.

Idempotency keys whose records leave with a segment are kept in a checkpoint file that is durable before the segment
goes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import google_crc32c
import trio

from arc.errors import Corrupt
from arc.journal import Journal, SegmentInfo
from arc.ports import Buffer, Disk, Workers
from arc.storage.config import WalConfig
from arc.storage.wal import record

FOLDER = "wal"
CHECKPOINT = f"{FOLDER}/keys.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class WalStatistics:
    """What the log holds, and what was appended since this start."""

    first_sequence: int
    next_sequence: int
    segments: int
    size_bytes: int
    appends_total: int
    records_total: int
    bytes_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """An idempotency key in the checkpoint."""

    database: str
    key: str
    epoch: int
    sequence: int
    rows: int
    wall_us: int


class WalLog:
    """Appends groups of records durably; gives segments back when told what is still needed."""

    def __init__(self, journal: Journal, disk: Disk, workers: Workers) -> None:
        self._journal = journal
        self._disk = disk
        self._workers = workers
        self._lock = trio.Lock()
        self._appends = self._records = self._bytes = 0

    @classmethod
    def open(cls, disk: Disk, workers: Workers, config: WalConfig, *, first_sequence: int) -> WalLog:
        """Open or create the log; blocking. ``first_sequence`` is one above all that is known to be stored. Raises
        Corrupt.
        """
        journal = Journal.open(disk, FOLDER, segment_bytes=config.segment_bytes, first_index=first_sequence)
        return cls(journal, disk, workers)

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
                await self._workers.run(self._journal.append, records, self._journal.next_index)
        self._appends += 1
        self._records += len(records)
        self._bytes += sum(map(len, records))

    async def release(self, below: int, keys: Sequence[StoredKey]) -> int:
        """Give back segments with only records below ``below``; ``keys`` are the living ones among them. Returns how
        many.
        """
        segments = self._journal.segments()
        if len(segments) < 2 or segments[0].next_index > below:
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
        )


def save_keys(disk: Disk, keys: Sequence[StoredKey]) -> None:
    """Replace the checkpoint of idempotency keys; blocking, durable on return."""
    body = json.dumps([[k.database, k.key, k.epoch, k.sequence, k.rows, k.wall_us] for k in keys]).encode()
    disk.write_durable(CHECKPOINT, b"%08x\n" % google_crc32c.value(body) + body)


def load_keys(disk: Disk) -> list[StoredKey]:
    """The checkpoint, empty when there is none; blocking. Raises Corrupt."""
    if not disk.exists(CHECKPOINT):
        return []
    crc, _, body = disk.read(CHECKPOINT).partition(b"\n")
    if crc != b"%08x" % google_crc32c.value(body):
        raise Corrupt("the checkpoint of idempotency keys does not match its checksum", path=CHECKPOINT, offset=0)
    return [
        StoredKey(database=d, key=k, epoch=e, sequence=s, rows=r, wall_us=w) for d, k, e, s, r, w in json.loads(body)
    ]
