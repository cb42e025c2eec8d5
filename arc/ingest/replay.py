"""After a start: what the WAL holds and no file on this node does goes back into the buffer.

A record at or below its measurement's flush mark is in files already. It is skipped where these can be read here, so
replaying is idempotent: run twice, crash in the middle, run again, and every row is there once. Segment by segment on a
worker, with progress, since the log may be long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from arc.catalog.fsm import Catalog
from arc.errors import Corrupt
from arc.ingest.buffer import Buffer, Key
from arc.ingest.keys import IdempotencyKeys
from arc.ingest.retirement import retired_through
from arc.journal import SegmentInfo
from arc.ports import Clock, Workers
from arc.storage.wal import record
from arc.storage.wal.history import History
from arc.storage.wal.keys import StoredKey


class ReadLog(Protocol):
    """The log being replayed; `storage.wal.log.WalLog`."""

    @property
    def first_sequence(self) -> int:
        """Sequence of the oldest record held."""
        ...

    @property
    def next_sequence(self) -> int:
        """Sequence of the next record."""
        ...

    def segments(self) -> tuple[SegmentInfo, ...]:
        """Oldest first."""
        ...

    def read_segment(self, segment: SegmentInfo, start: int) -> list[tuple[record.RecordHeader, bytes]]:
        """Records of one segment; blocking."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a replay is. ``rows`` counts those that went back into the buffer."""

    segments_done: int
    segments: int
    bytes_done: int
    records: int
    rows: int


NOTHING_RECOVERED = Progress(segments_done=0, segments=0, bytes_done=0, records=0, rows=0)
"""Of a node without a log."""


async def replay(
    log: ReadLog,
    *,
    catalog: Catalog,
    buffer: Buffer,
    keys: IdempotencyKeys,
    stored_keys: Iterable[StoredKey],
    clock: Clock,
    workers: Workers,
    report: Callable[[Progress], None],
    history: History,
    is_readable: Callable[[str], bool],
) -> Progress:
    """Fill the buffer, the keys and the history from the log. Raises Corrupt for a record whose columns cannot be
    read.
    """
    floor = log.first_sequence - 1
    buffer.restart(log.first_sequence)
    history.restart(log.next_sequence)
    retired = _Retired(catalog, floor, is_readable)
    keys.restore(stored_keys)
    segments = log.segments()
    progress = Progress(segments_done=0, segments=len(segments), bytes_done=0, records=0, rows=0)
    for done, segment in enumerate(segments, 1):
        found = await workers.run(_read, log, segment, retired)
        rows = 0
        for header, batch, size_bytes in found:
            history.note(header.position.epoch, header.position.sequence)
            keys.note(header)
            if batch is not None:
                rows += batch.num_rows
                lane = Key(header.database, header.measurement)
                buffer.add(lane, header.position.sequence, batch, clock.now(), size_bytes)
        progress = Progress(
            segments_done=done,
            segments=len(segments),
            bytes_done=progress.bytes_done + segment.used_bytes,
            records=progress.records + len(found),
            rows=progress.rows + rows,
        )
        report(progress)
    for table, through in retired.found.items():
        buffer.note_mark(table, catalog.mark(table.database, table.measurement))
        if through > floor:
            buffer.forget(table, through)
    return progress


class _Retired:
    """Where the files of this node end, measurement by measurement, as it is asked for."""

    def __init__(self, catalog: Catalog, floor: int, is_readable: Callable[[str], bool]) -> None:
        self._catalog = catalog
        self._floor = floor
        self._is_readable = is_readable
        self.found: dict[Key, int] = {}

    def through(self, key: Key) -> int:
        if key not in self.found:
            self.found[key] = retired_through(self._catalog, key, self._floor, self._is_readable)
        return self.found[key]


def _read(
    log: ReadLog, segment: SegmentInfo, retired: _Retired
) -> list[tuple[record.RecordHeader, pa.RecordBatch | None, int]]:
    """The records of a segment; without columns where files on this node have them."""
    found: list[tuple[record.RecordHeader, pa.RecordBatch | None, int]] = []
    for header, columns in log.read_segment(segment, 0):
        batch = None
        if header.position.sequence > retired.through(Key(header.database, header.measurement)):
            try:
                batch = record.decode_columns(memoryview(columns))
            except pa.ArrowInvalid as error:
                message = f"the columns of record {header.position} cannot be read: {error}"
                raise Corrupt(message, path=segment.path, offset=0) from error
        found.append((header, batch, len(columns)))
    return found
