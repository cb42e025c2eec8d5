"""The one door for files into the manifest: flush, compaction, retention and delete come through here.

A registration is asked for until its outcome is known. A lost answer is settled by looking: files are named once and
for ever, so the catalog either has exactly these or has none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.commands import Command, FlushMark, RegisterFiles
from arc.catalog.fsm import Catalog
from arc.catalog.results import Result
from arc.errors import Conflict, OutcomeUnknown, Unavailable
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
    """Files brought into the manifest, and attempts that had to be repeated."""

    registered_files_total: int
    retries_total: int
    waiting: int


class FileRegistrar:
    """Registers files under the epoch of the lease this node holds."""

    def __init__(self, propose: Propose, catalog: Callable[[], Catalog], epoch: Epoch, log: Log) -> None:
        self._propose = propose
        self._catalog = catalog
        self._epoch = epoch
        self._log = log.bind(component="registrar")
        self._registered = self._retries = self._waiting = 0

    async def register(self, files: Sequence[FileEntry], flushed: Sequence[FlushMark]) -> None:
        """Return when files and flush marks are committed, in one entry.

        Raises Conflict when the catalog refuses them for good: the epoch is over, or a mark would go back.
        """
        command = RegisterFiles(files=tuple(files), flushed=tuple(flushed), epoch=self._epoch)
        self._waiting += 1
        try:
            await self._until_known(command)
        finally:
            self._waiting -= 1
        self._registered += len(files)

    async def _until_known(self, command: RegisterFiles) -> None:
        attempt = 0
        while True:
            try:
                (await self._propose.propose(command)).unwrap()
                return
            except Conflict:
                if not (attempt and self._stands(command)):
                    raise
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
        """Whether an attempt whose answer was lost did commit."""
        catalog = self._catalog()
        found = [catalog.file(file.path) for file in command.files]
        return bool(found) and all(
            entry is not None and entry.sha256 == file.sha256 for entry, file in zip(found, command.files, strict=True)
        )

    def statistics(self) -> RegistrarStatistics:
        """Numbers for status and metrics."""
        return RegistrarStatistics(
            registered_files_total=self._registered, retries_total=self._retries, waiting=self._waiting
        )
