"""Files that this node lacks come by themselves (replication pulls the difference to the manifest); here they are
waited for, with an end.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from arc.backup.ports import Files
from arc.errors import Unavailable
from arc.storage.files import FileEntry

ARRIVAL_SECONDS = 120.0
"""After so long without any file coming or going it is given up."""


class Arrival:
    """See `ports.Fetch`."""

    def __init__(self, files: Files, *, patience_seconds: float = ARRIVAL_SECONDS) -> None:
        self._files = files
        self._patience_seconds = patience_seconds

    async def fetch(self, entries: Sequence[FileEntry]) -> None:
        """Return when all of them are here. Raises Unavailable."""
        while True:
            seen = self._files.changes
            lacking = [entry.path for entry in entries if not self._files.is_here(entry.path)]
            if not lacking:
                return
            with trio.move_on_after(self._patience_seconds):
                await self._files.wait_changed(seen)
                continue
            raise Unavailable(
                f"{len(lacking)} files have not come to this node, {lacking[0]} among them", code="files_missing"
            )
