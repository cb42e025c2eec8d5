"""What compaction asks of its neighbours. Whoever wires it gives what fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from arc.catalog.values import DeleteSource
from arc.ids import NodeId
from arc.storage.files import FileEntry


class Swap(Protocol):
    """The door to the catalog; shaped like `cluster.bridge.CompactionBridge`."""

    async def batch_file_ops(
        self, registers: Sequence[FileEntry], deletes: Sequence[DeleteSource], holders: Sequence[NodeId] = ()
    ) -> None:
        """Outputs in and sources out, whole or not at all; what stands is answered as done. ``holders`` have all
        outputs.

        Raises Unavailable (nothing happened), OutcomeUnknown (ask again with the same), Conflict (void).
        """
        ...


class Copies(Protocol):
    """Sees to copies of files that the manifest does not have yet."""

    async def spread(self, entries: Sequence[FileEntry]) -> Sequence[NodeId]:
        """Return who has all of them, when every node has that answers queries and can be reached, and at least as many
        as the replication factor. Raises Unavailable."""
        ...


class Fetch(Protocol):
    """Brings files of the manifest to this disk."""

    async def fetch(self, entries: Sequence[FileEntry]) -> None:
        """Return when all of them are here. Raises Unavailable when that cannot be had in reasonable time."""
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

    def left(self, paths: Sequence[str]) -> None:
        """Files are to go, once nobody reads them."""
        ...


class Doubt(Protocol):
    """Looks after bad copies: set aside and brought again where others have it."""

    async def __call__(self, entry: FileEntry, reason: str) -> None:
        """The copy of this file on this disk is not what the manifest says."""
        ...
