"""Waits until files of the manifest are on this disk; bringing them is the puller's business."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import trio

from arc.errors import Unavailable
from arc.storage.files import FileEntry

PATIENCE_SECONDS = 60.0
PATIENCE_BYTES_PER_SECOND = 2 << 20
"""Waited for so long, and so much longer the more there is to bring."""


def patience_seconds(entries: Sequence[FileEntry]) -> float:
    """For files that another node has, or is to have."""
    return PATIENCE_SECONDS + sum(entry.size_bytes for entry in entries) / PATIENCE_BYTES_PER_SECOND


class Files(Protocol):
    """What is on this node's disk; `storage.keeper.FileKeeper`."""

    @property
    def changes(self) -> int:
        """Grows with every file that comes or goes."""
        ...

    def is_here(self, path: str) -> bool:
        """Whether the whole file is on this disk."""
        ...

    async def wait_changed(self, seen: int) -> int:
        """Return ``changes`` once it is another."""
        ...


class Awaiting:
    """``is_brought``: whether this node brings files from elsewhere at all."""

    def __init__(self, files: Files, *, is_brought: bool) -> None:
        self._files = files
        self._is_brought = is_brought

    def __repr__(self) -> str:
        return f"<Awaiting brought={self._is_brought}>"

    async def fetch(self, entries: Sequence[FileEntry]) -> None:
        """Return when all of them are here. Raises Unavailable: nothing is brought, or it takes too long."""
        lacking = self._lacking(entries)
        with trio.move_on_after(patience_seconds(lacking) if self._is_brought else 0.0):
            while lacking:
                await self._files.wait_changed(self._files.changes)
                lacking = self._lacking(lacking)
        if lacking:
            told = f"{lacking[0].path} and {len(lacking) - 1} others are" if lacking[1:] else f"{lacking[0].path} is"
            raise Unavailable(f"{told} not on this node", code="files_missing")

    def _lacking(self, entries: Sequence[FileEntry]) -> list[FileEntry]:
        return [entry for entry in entries if not self._files.is_here(entry.path)]
