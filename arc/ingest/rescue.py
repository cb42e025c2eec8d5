"""Files that no node has any more, written again from the log.

A flush leaves its files on the writer's disk. When that disk is lost before anybody has fetched them, their rows are in
the logs of the others, who keep them for that very reason (`replication.copies`), and would do so for ever. So whoever
holds the writer lease next reads these records again, encodes the same hours, and swaps the lost files for the new ones
in one entry. Queries on nodes that have the rows in their buffers see them all the time, before and after.

A file counts as lost when the catalog has named no holder of it for `GRACE_SECONDS`: its last one said so, or was
removed for good. A node that is only away is no reason. Only files as a flush writes them are rescued, and only when
the records give exactly the rows that the manifest says: what was merged, or had rows deleted from it, is something
else than its records by now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import trio

from arc.catalog.commands import ReplaceFiles
from arc.catalog.values import WRITER
from arc.errors import ArcError, DiskFailed
from arc.ids import Epoch, NodeId
from arc.ingest.settlement import Propose
from arc.ingest.writing import write_files
from arc.ports import Clock, Disk, Workers, is_full
from arc.storage import parquet, paths
from arc.storage.files import FileEntry
from arc.storage.wal import record
from arc.telemetry import Log

LOOK_SECONDS = 5.0
GRACE_SECONDS = 30.0
"""A node that has just fetched a file tells so within a second, if the cluster can agree on anything."""

READ_BYTES = 8 << 20
AGAIN = "~2"
"""Ends the name of a file that is written again by the node, and in the reign, that wrote it first."""

Records = tuple[str, str, int, int]
"""Database, measurement, first and last sequence: what one flush wrote, to as many files as it touched hours."""


class ReadLog(Protocol):
    """`storage.wal.log.WalLog`."""

    @property
    def first_sequence(self) -> int:
        """Sequence of the oldest record held."""
        ...

    async def read(self, start: int, bytes_max: int) -> list[bytes]:
        """Records from ``start`` on; empty when it is not held. Raises Corrupt."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RescueStatistics:
    """``lost_files`` have no holder now; ``rescued_total`` were written again."""

    lost_files: int
    rescued_total: int
    failed_total: int
    last_error: str


def groups(lost: Iterable[FileEntry], log_first: int) -> dict[Records, list[FileEntry]]:
    """Files that can be written again from a log that begins with ``log_first``, by the records they were made of."""
    found: dict[Records, list[FileEntry]] = {}
    for entry in lost:
        if entry.first_sequence >= log_first and is_flushed(entry):
            key = (entry.database, entry.measurement, entry.first_sequence, entry.last_sequence)
            found.setdefault(key, []).append(entry)
    return found


def is_flushed(entry: FileEntry) -> bool:
    """Whether a flush, or a rescue, wrote this file."""
    return entry.path.replace(f"{AGAIN}.parquet", ".parquet") == _path(entry, entry.origin, entry.epoch)


def _rows_of(entry: FileEntry) -> tuple[int, int, int]:
    return (entry.rows, entry.min_time_us, entry.max_time_us)


def _path(entry: FileEntry, node: str, epoch: int) -> str:
    hour = paths.hour_of(entry.min_time_us)
    return paths.file_path(
        entry.database, entry.measurement, hour, node=node, epoch=epoch, sequence=entry.last_sequence
    )


class Rescuer:
    """In one reign. ``lost`` gives files that nobody has; ``stored`` is told of every file that is on the disk."""

    def __init__(
        self,
        *,
        node: NodeId,
        epoch: Epoch,
        lost: Callable[[], Sequence[FileEntry]],
        wal: ReadLog,
        propose: Propose,
        stored: Callable[[str], None],
        clock: Clock,
        disk: Disk,
        workers: Workers,
        log: Log,
    ) -> None:
        self._node = node
        self._epoch = epoch
        self._lost = lost
        self._wal = wal
        self._propose = propose
        self._stored = stored
        self._clock = clock
        self._disk = disk
        self._workers = workers
        self._log = log.bind(component="rescue")
        self._since: dict[str, float] = {}
        self._hopeless: dict[str, None] = {}
        self._rescued = self._failed = 0
        self._last_error = ""

    def __repr__(self) -> str:
        return f"<Rescuer lost={len(self._since)} rescued={self._rescued}>"

    async def run(self) -> None:
        """Look now and then, until cancelled. Raises DiskFailed."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            for entries in groups(self._long_lost(), self._wal.first_sequence).values():
                await self._rescue(entries)

    def _long_lost(self) -> list[FileEntry]:
        now, lost = self._clock.now(), self._lost()
        self._since = {entry.path: self._since.get(entry.path, now) for entry in lost}
        found = [entry for entry in lost if now - self._since[entry.path] >= GRACE_SECONDS]
        return [entry for entry in found if entry.path not in self._hopeless]

    async def _rescue(self, entries: Sequence[FileEntry]) -> None:
        """Files of one flush. What cannot be done now is tried at the next look."""
        try:
            batches = await self._read(entries[0])
            made = await self._workers.run(self._write, entries, batches) if batches else {}
            self._give_up([entry for entry in entries if entry.path not in made])
            if not made:
                return
            for new in made.values():
                self._stored(new.path)
            command = ReplaceFiles(
                remove=tuple((entry.path, entry.sha256) for entry in entries if entry.path in made),
                add=tuple(made.values()),
                lease=WRITER,
                epoch=self._epoch,
            )
            (await self._propose.propose(command)).unwrap()
        except OSError as error:
            self._fail(entries, str(error))
            if not is_full(error):
                raise DiskFailed(f"writing Parquet files again failed: {error}") from error
        except ArcError as error:
            if isinstance(error, DiskFailed):
                raise
            self._fail(entries, error.message)
        else:
            self._rescued += len(made)
            self._log.warning("files_rescued", files=len(made), first=entries[0].path, reason="no node had them")

    async def _read(self, entry: FileEntry) -> list[pa.RecordBatch]:
        """The records that the file was made of."""
        found: list[pa.RecordBatch] = []
        sequence = entry.first_sequence
        while sequence <= entry.last_sequence and (payloads := await self._wal.read(sequence, READ_BYTES)):
            found += await self._workers.run(_decode, payloads, entry)
            sequence += len(payloads)
        return found

    def _write(self, entries: Sequence[FileEntry], batches: Sequence[pa.RecordBatch]) -> dict[str, FileEntry]:
        """Encode and store; blocking. By the path of the file that is replaced."""
        one, wanted = entries[0], {paths.hour_of(entry.min_time_us): entry for entry in entries}

        def path_of(file: parquet.EncodedFile) -> str | None:
            old = wanted.get(file.hour)
            if old is None or (file.rows, file.min_time_us, file.max_time_us) != _rows_of(old):
                return None
            path = _path(old, self._node, self._epoch)
            return path if path != old.path else path.removesuffix(".parquet") + f"{AGAIN}.parquet"

        made = write_files(
            tuple(batches),
            path_of,
            database=one.database,
            measurement=one.measurement,
            first=one.first_sequence,
            last=one.last_sequence,
            node=self._node,
            epoch=self._epoch,
            now_us=self._clock.wall_us(),
            disk=self._disk,
        )
        return {wanted[paths.hour_of(new.min_time_us)].path: new for new in made}

    def _give_up(self, entries: Iterable[FileEntry]) -> None:
        for entry in entries:
            self._hopeless[entry.path] = None
            self._fail([entry], f"the log here does not give the {entry.rows} rows of {entry.path}")

    def _fail(self, entries: Sequence[FileEntry], reason: str) -> None:
        self._failed += 1
        self._last_error = reason
        self._log.error("rescue_failed", files=len(entries), first=entries[0].path, reason=reason)

    def statistics(self) -> RescueStatistics:
        """Numbers for status and metrics."""
        return RescueStatistics(
            lost_files=len(self._since),
            rescued_total=self._rescued,
            failed_total=self._failed,
            last_error=self._last_error,
        )


def _decode(payloads: Sequence[bytes], entry: FileEntry) -> list[pa.RecordBatch]:
    """The columns of those records that are the file's."""
    found: list[pa.RecordBatch] = []
    for payload in payloads:
        header, columns = record.decode_header(memoryview(payload))
        is_within = entry.first_sequence <= header.position.sequence <= entry.last_sequence
        if is_within and (header.database, header.measurement) == (entry.database, entry.measurement):
            found.append(record.decode_columns(columns))
    return found
