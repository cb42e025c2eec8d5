"""Unlinks files that left the manifest: replaced by others, or dropped with their database. And those that were on
their way into it and never came.

What left follows from the changes of the catalog; `FileKeeper` knows when a file may go. An unlink that failed is
tried again after a pause; one that a crash took is found by `antientropy`, or by the next start.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from arc.catalog.events import FilesRemoved
from arc.catalog.facts import Catalog
from arc.replication.ports import Changes
from arc.storage.keeper import FileKeeper
from arc.telemetry import Log

LOOK_SECONDS = 5.0
"""How often it is looked whether a file may go, while any waits; the grace is longer."""

AGAIN_SECONDS = 60.0
"""Pause after an unlink that failed."""


class Sweeper:
    """Runs on every node."""

    def __init__(self, catalog: Callable[[], Catalog], files: FileKeeper, log: Log) -> None:
        self._catalog = catalog
        self._files = files
        self._log = log.bind(component="sweeper")

    def __repr__(self) -> str:
        return f"<Sweeper of {self._files!r}>"

    async def run(self, changes: Changes, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. ``changes`` began before the disk was looked at."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, changes)
            task_status.started()
            while True:
                seen = self._files.changes
                if not self._files.is_anything_leaving:
                    await self._files.wait_changed(seen)
                    continue
                await trio.sleep(await self._sweep())

    async def _hear(self, changes: Changes) -> None:
        while True:
            change = await changes.receive()
            for event in change.events:
                if isinstance(event, FilesRemoved):
                    self._files.left(entry.path for entry in event.files)

    async def _sweep(self) -> float:
        """Unlink what may go now; says how long to wait before the next time."""
        paths = self._files.due_to_go(lambda path: self._catalog().file(path) is not None)
        if not paths:
            return LOOK_SECONDS
        try:
            await self._files.unlink(paths)
        except OSError as error:
            self._log.warning("files_not_unlinked", reason=str(error), next_step=f"again in {AGAIN_SECONDS:g} s")
            return AGAIN_SECONDS
        self._log.info("files_unlinked", files=len(paths), first=paths[0], reason="they left the manifest")
        return 0.0
