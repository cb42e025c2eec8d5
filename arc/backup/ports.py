"""What backups ask of their neighbours. Whoever wires them gives what fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from arc.catalog.commands import Command
from arc.catalog.results import Result
from arc.storage.files import FileEntry


class Propose(Protocol):
    """Changes the catalog; `cluster.proposals`."""

    async def propose(self, command: Command) -> Result:
        """Have a command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


class Fetch(Protocol):
    """Brings files of the manifest to this disk; `replication.awaiting`."""

    async def fetch(self, entries: Sequence[FileEntry]) -> None:
        """Return when all of them are here. Raises Unavailable when that cannot be had in reasonable time."""
        ...


class Flush(Protocol):
    """The write path of this node."""

    async def flush_all(self) -> None:
        """Have every acknowledged row in files of the manifest. Raises Unavailable where this node does not write."""
        ...


class Files(Protocol):
    """This node's files: `storage.keeper.FileKeeper`."""

    def is_here(self, path: str) -> bool:
        """Whether the whole file is on this disk."""
        ...

    def pin(self, paths: Sequence[str]) -> None:
        """Keep these files on the disk."""
        ...

    def unpin(self, paths: Sequence[str]) -> None:
        """End one `pin`."""
        ...

    def came(self, path: str) -> None:
        """A file was written whole."""
        ...
