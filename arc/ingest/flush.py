"""Buffer to Parquet, exactly once: seal, encode, store, register, forget, release.

Where all nodes share a store, a file is put there first, and only then on this disk: a store that does not answer
leaves nothing behind, and no file is registered that is not there.

Files become visible and the flush mark moves in one catalog command, so a crash anywhere leaves either the rows in
the WAL or the rows in files. A flush that cannot be registered now is retried until it is; rows wait in memory and in
the WAL meanwhile, the memory budget pushes back on writers, and nothing is dropped.

What is due is decided by the pure `due`; the rest acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.commands import FlushMark
from arc.errors import Conflict, DiskFailed, NotFound, Unavailable
from arc.ids import Epoch, NodeId
from arc.ingest.buffer import Buffer, Key, LaneFacts, Sealed
from arc.ingest.config import IngestConfig
from arc.ingest.keys import IdempotencyKeys
from arc.ingest.writing import write_files
from arc.ports import Clock, Disk, Workers, is_full
from arc.storage.files import FileEntry
from arc.storage.parquet import EncodedFile
from arc.storage.paths import file_path
from arc.storage.shelf import Shelf
from arc.storage.wal.keys import StoredKey
from arc.telemetry import Log

TICK_SECONDS = 0.5
"""How often ages are looked at; sizes are looked at as often, which at 64 MiB a measurement is soon enough."""

RETRY_SECONDS = 5.0
"""Pause after a flush that the disk or the catalog could not take."""


OVER = ("stale_epoch", "not_found")
"""Refusals that only say that the world went on: another node has the lease, or the measurement was dropped. Whoever
started the flusher, or told it of the rows, has been told the same and acts on it.
"""


class Registrar(Protocol):
    """The one door for files into the catalog; `cluster.registrar`."""

    async def register(self, files: Sequence[FileEntry], flushed: Sequence[FlushMark]) -> None:
        """Return when files and marks are committed. Raises Conflict when this node may not do that any more."""
        ...


class ReleaseLog(Protocol):
    """The log that may shrink after a flush; `storage.wal.log.WalLog`."""

    def size_from(self, sequence: int) -> int:
        """Bytes of the segments that hold this record or later ones."""
        ...

    async def release(self, below: int, keys: Sequence[StoredKey]) -> int:
        """Give back segments below a sequence."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushStatistics:
    """What was written. ``failures_total`` counts attempts that were retried."""

    flushes_total: int
    files_total: int
    rows_total: int
    bytes_total: int
    failures_total: int
    running: int
    last_error: str


def due(lanes: Iterable[LaneFacts], config: IngestConfig, *, now: float, wal_is_full: bool) -> list[Key]:
    """The measurements to flush now, most urgent first.

    Rows, bytes and age are the operator's limits. When the WAL holds too much, the measurement with its oldest record
    is due too, since that one alone keeps the whole log.
    """
    ready = [lane for lane in lanes if lane.rows and not lane.is_flushing]
    urgent = {min(ready, key=lambda lane: lane.first).key} if wal_is_full and ready else set()
    found = [
        lane
        for lane in ready
        if lane.rows >= config.flush_rows
        or lane.size_bytes >= config.flush_bytes
        or now - lane.opened_at >= config.flush_age_seconds
        or lane.key in urgent
    ]
    return [lane.key for lane in sorted(found, key=lambda lane: lane.first)]


class Flusher:
    """Flushes what is due, `flush_workers` measurements at a time, one flush per measurement.

    ``admitted`` is the sequence up to which rows may become files: a file is for ever, so nothing that a failover could
    still take back may be in one. ``needed_from`` is the first record that somebody else may still ask the log for.
    ``shelf`` is the store that all nodes share, None where there is none.
    ``stored`` is told of every file that is on the disk, before the catalog knows of it; ``retire`` of every
    measurement whose flush mark has moved: its rows leave the buffer as far as their files can be read on this node.
    """

    def __init__(
        self,
        *,
        config: IngestConfig,
        wal_bytes_max: int,
        node: NodeId,
        epoch: Epoch,
        clock: Clock,
        disk: Disk,
        workers: Workers,
        buffer: Buffer,
        keys: IdempotencyKeys,
        wal: ReleaseLog,
        registrar: Registrar,
        admitted: Callable[[], int],
        needed_from: Callable[[], int],
        stored: Callable[[str], None],
        retire: Callable[[Key], None],
        log: Log,
        shelf: Shelf | None = None,
    ) -> None:
        self._config = config
        self._wal_bytes_max = wal_bytes_max
        self._node = node
        self._epoch = epoch
        self._clock = clock
        self._disk = disk
        self._workers = workers
        self._buffer = buffer
        self._keys = keys
        self._wal = wal
        self._registrar = registrar
        self._admitted = admitted
        self._needed_from = needed_from
        self._stored = stored
        self._retire = retire
        self._shelf = shelf
        self._log = log.bind(component="flush")
        self._slots = trio.CapacityLimiter(config.flush_workers)
        self._flushes = self._files = self._rows = self._bytes = self._failures = self._running = 0
        self._last_error = ""
        self._retry_at: dict[Key, float] = {}
        self._asked: set[Key] = set()
        self._asked_came = trio.Event()
        self._finished_one = trio.Event()
        self._is_over = False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flush for ever what is due or asked for. Raises DiskFailed, after which the node must stop."""
        try:
            async with trio.open_nursery() as nursery:
                task_status.started()
                while True:
                    for key in self._due():
                        nursery.start_soon(self._flush, self._buffer.seal(key, self._admitted()))
                    with trio.move_on_after(TICK_SECONDS):
                        await self._asked_came.wait()
                    self._asked_came = trio.Event()
        finally:
            self._is_over = True
            self._finished_one.set()

    def _due(self) -> list[Key]:
        now = self._clock.now()
        oldest = self._buffer.oldest_sequence()
        full = oldest is not None and self._wal.size_from(oldest) > self._wal_bytes_max
        lanes = list(self._buffer.lanes(self._admitted()))
        ready = [
            key for key in due(lanes, self._config, now=now, wal_is_full=full) if self._retry_at.get(key, now) <= now
        ]
        asked = [lane.key for lane in lanes if lane.key in self._asked and lane.rows and not lane.is_flushing]
        self._asked.difference_update(asked)
        return list(dict.fromkeys((*asked, *ready)))

    async def flush_all(self, wanted: Callable[[Key], bool] = lambda _: True) -> None:
        """Return when every row of the measurements that are ``wanted`` and is buffered now is in files. Raises
        Unavailable when a part of it could not be.

        The work is done by `run`, not by the caller: one who hangs up must not leave a registration half awaited.
        """
        last_ones = self._buffer.last_sequences(self._admitted())
        targets = {key: last for key, last in last_ones.items() if wanted(key)}
        failures = self._failures
        while left := {key for key, last in targets.items() if self._buffer.holds(key, last)}:
            if self._failures > failures:
                raise Unavailable(f"not everything could be flushed: {self._last_error}; what is left stays in the WAL")
            if self._is_over:
                raise Unavailable("not everything was flushed: the writer lease went elsewhere, and the rest with it")
            self._asked |= left
            self._asked_came.set()
            await self._finished_one.wait()

    async def _flush(self, sealed: Sealed) -> None:
        self._running += 1
        is_in_files = False
        try:
            async with self._slots:
                began = self._clock.now()
                entries = await self._store(sealed)
                if entries is not None:
                    # Whatever fails from here on, the seal is gone and not to be taken back.
                    is_in_files = True
                    await self._shrink_wal(sealed, entries, began)
        finally:
            # Else these rows are for another flush: it failed, or the reign ended, perhaps before it was its turn.
            if not is_in_files:
                self._buffer.unseal(sealed.key)
            self._running -= 1
            self._finished_one.set()
            self._finished_one = trio.Event()

    async def _store(self, sealed: Sealed) -> list[FileEntry] | None:
        """Rows into files, files into the catalog, rows out of memory; None when that must be tried again."""
        try:
            entries = await self._workers.run(self._write_files, sealed)
            for entry in entries:
                self._stored(entry.path)
                if self._shelf is not None:
                    self._shelf.note(entry.path)
            mark = FlushMark(sealed.key.database, sealed.key.measurement, sealed.last)
            await self._registrar.register(entries, [mark])
        except OSError as error:
            self._failed(sealed, str(error))
            if not is_full(error):
                # The kernel may have dropped what it could not write; asking again would be told a lie.
                raise DiskFailed(f"writing Parquet files of {sealed.key} failed: {error}") from error
            return None
        except Unavailable as error:
            self._failed(sealed, error.message)
            return None
        except (Conflict, NotFound) as error:
            if error.code not in OVER:
                raise
            self._failed(sealed, error.message)
            return None
        self._retire(sealed.key)
        self._retry_at.pop(sealed.key, None)
        self._flushes += 1
        self._files += len(entries)
        self._rows += sealed.rows
        self._bytes += sum(entry.size_bytes for entry in entries)
        return entries

    def _failed(self, sealed: Sealed, reason: str) -> None:
        self._failures += 1
        self._last_error = reason
        self._retry_at[sealed.key] = self._clock.now() + RETRY_SECONDS
        self._log.error(
            "flush_failed",
            measurement=str(sealed.key),
            rows=sealed.rows,
            reason=reason,
            effect="rows stay in memory and in the WAL",
            next_step=f"retried in {RETRY_SECONDS:g} s",
        )

    async def _shrink_wal(self, sealed: Sealed, entries: Sequence[FileEntry], began: float) -> None:
        """Give back what the files made needless. A full disk may keep it until the next flush."""
        released = 0
        try:
            released = await self._release_wal()
        except OSError as error:
            if not is_full(error):
                raise DiskFailed(f"releasing the write-ahead log failed: {error}") from error
            self._log.warning("wal_not_released", reason=str(error), next_step="the next flush tries again")
        self._log.info(
            "flushed",
            measurement=str(sealed.key),
            rows=sealed.rows,
            files=len(entries),
            bytes=sum(entry.size_bytes for entry in entries),
            mark=sealed.last,
            seconds=round(self._clock.now() - began, 3),
            wal_segments_released=released,
        )

    def _write_files(self, sealed: Sealed) -> list[FileEntry]:
        """Encode and store; blocking, on a worker. Every file and its folder is durable on return."""
        database, measurement = sealed.key.database, sealed.key.measurement

        def path_of(file: EncodedFile) -> str:
            return file_path(database, measurement, file.hour, node=self._node, epoch=self._epoch, sequence=sealed.last)

        return list(
            write_files(
                sealed.batches,
                path_of,
                database=database,
                measurement=measurement,
                first=sealed.first,
                last=sealed.last,
                node=self._node,
                epoch=self._epoch,
                now_us=self._clock.wall_us(),
                disk=self._disk,
                shelf=self._shelf,
            )
        )

    async def _release_wal(self) -> int:
        return await release_log(
            self._wal,
            self._buffer,
            self._keys,
            below=min(self._admitted() + 1, self._needed_from()),
        )

    def statistics(self) -> FlushStatistics:
        """Numbers for status and metrics."""
        return FlushStatistics(
            flushes_total=self._flushes,
            files_total=self._files,
            rows_total=self._rows,
            bytes_total=self._bytes,
            failures_total=self._failures,
            running=self._running,
            last_error=self._last_error,
        )


async def release_log(wal: ReleaseLog, buffer: Buffer, keys: IdempotencyKeys, *, below: int) -> int:
    """Give back segments that hold only rows below ``below`` that are in files; returns how many. Raises OSError.

    ``below`` is at most one above what is durable: what is logged beyond may be on its way into the buffer.
    """
    oldest = buffer.oldest_sequence()
    below = below if oldest is None else min(oldest, below)
    return await wal.release(below, keys.below(below))
