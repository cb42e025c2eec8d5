"""The one door for flushed files into the manifest: a file is pending until its registration is committed (P-09).

Nothing is dropped and nothing is forgotten: what waits is bounded, and whoever brings more waits outside. The queue
need not be on the disk, because what fills it is: rows leave the write-ahead log only after their file is registered,
so after a crash they are flushed again, and a file that nobody registered is put aside at the start.

A registration is asked for until its outcome is known. A lost answer is settled by looking: files are named once and
for ever, and only the holder of the lease moves flush marks. When the epoch of the lease is over, everything that waits
and comes is refused for good: the rows are the next writer's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.commands import WRITER, Command, FlushMark, RegisterFiles
from arc.catalog.fsm import Catalog
from arc.catalog.results import Result
from arc.errors import Conflict, InvalidRequest, OutcomeUnknown, Unavailable
from arc.ids import Epoch
from arc.storage.files import FileEntry
from arc.telemetry import Log

BACKOFF_SECONDS = (0.1, 0.3, 1.0, 3.0)
"""Pauses between attempts; the last one repeats. Nobody waits but the flush, whose rows are safe in the WAL."""


class Propose(Protocol):
    """Changes the catalog; `cluster.proposals`."""

    async def propose(self, command: Command) -> Result:
        """Have a command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrarStatistics:
    """Files brought into the manifest, and attempts that had to be repeated. ``waiting`` counts registrations, the
    other numbers files; ``settled_files_total`` were found to be registered after the answer was lost.
    """

    enqueued_files_total: int
    registered_files_total: int
    refused_files_total: int
    settled_files_total: int
    retries_total: int
    waiting: int
    pending_files: int
    pending_files_max: int

    def document(self) -> dict[str, int]:
        """The keys that clients of Arc in Go read. ``dropped`` is always 0 here."""
        return {
            "enqueued": self.enqueued_files_total,
            "applied": self.registered_files_total,
            "dropped": 0,
            "apply_errs": self.retries_total + self.refused_files_total,
            "queue_depth": self.pending_files,
        }


PENDING_FILES_MAX = 4_096
"""Files that may wait for their registration; whoever brings more waits before his are counted."""


class FileRegistrar:
    """Registers files under the epoch of the lease this node holds."""

    def __init__(
        self,
        propose: Propose,
        catalog: Callable[[], Catalog],
        epoch: Epoch,
        log: Log,
        *,
        pending_files_max: int = PENDING_FILES_MAX,
    ) -> None:
        self._propose = propose
        self._catalog = catalog
        self._epoch = epoch
        self._log = log.bind(component="registrar")
        self._pending_files_max = pending_files_max
        self._door = trio.StrictFIFOLock()
        self._left = trio.Event()
        self._pending = self._waiting = 0
        self._enqueued = self._registered = self._refused = self._settled = self._retries = 0

    def __repr__(self) -> str:
        return f"<FileRegistrar epoch={self._epoch} pending={self._pending} registered={self._registered}>"

    async def register(self, files: Sequence[FileEntry], flushed: Sequence[FlushMark]) -> None:
        """Return when files and flush marks are committed, in one entry.

        Waits while too many files are pending; more than `pending_files_max` at once go alone. Raises Conflict when
        the catalog refuses them for good: the epoch is over, or a mark would go back; NotFound when the database was
        dropped meanwhile.
        """
        command = RegisterFiles(files=tuple(files), flushed=tuple(flushed), epoch=self._epoch)
        self._waiting += 1
        try:
            async with self._room_for(len(files)):
                await self._until_known(command)
        except InvalidRequest:
            self._refused += len(files)
            raise
        finally:
            self._waiting -= 1
        self._registered += len(files)

    @asynccontextmanager
    async def _room_for(self, files: int) -> AsyncIterator[None]:
        """A place in the queue, in order of asking: who brings many is not overtaken for ever by those with few."""
        async with self._door:
            while self._pending and self._pending + files > self._pending_files_max:
                await self._left.wait()
            self._pending += files
        self._enqueued += files
        try:
            yield
        finally:
            self._pending -= files
            self._left.set()
            self._left = trio.Event()

    async def _until_known(self, command: RegisterFiles) -> None:
        attempt = 0
        while True:
            try:
                (await self._propose.propose(command)).unwrap()
                return
            except Conflict:
                if not (attempt and self._stands(command)):
                    raise
                self._settled += len(command.files)
                return
            except (Unavailable, OutcomeUnknown) as error:
                pause = BACKOFF_SECONDS[min(attempt, len(BACKOFF_SECONDS) - 1)]
                self._log.warning(
                    "registration_retried", files=len(command.files), reason=error.message, pause_seconds=pause
                )
                attempt += 1
                self._retries += 1
                await trio.sleep(pause)

    def _stands(self, command: RegisterFiles) -> bool:
        """Whether an attempt whose answer was lost did commit, judged by a catalog that has just refused it.

        Files that are all there are ours. Files that are gone may have been merged already: in our own epoch nobody
        else moves flush marks, so marks that stand are ours, and came with our files.
        """
        catalog = self._catalog()
        found = [catalog.file(file.path) for file in command.files]
        if found and all(
            entry is not None and entry.sha256 == file.sha256 for entry, file in zip(found, command.files, strict=True)
        ):
            return True
        stand = all(catalog.mark(mark.database, mark.measurement) >= mark.sequence for mark in command.flushed)
        return bool(command.flushed) and stand and catalog.lease_epoch(WRITER) == self._epoch

    def statistics(self) -> RegistrarStatistics:
        """Numbers for status and metrics."""
        return RegistrarStatistics(
            enqueued_files_total=self._enqueued,
            registered_files_total=self._registered,
            refused_files_total=self._refused,
            settled_files_total=self._settled,
            retries_total=self._retries,
            waiting=self._waiting,
            pending_files=self._pending,
            pending_files_max=self._pending_files_max,
        )
