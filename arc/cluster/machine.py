"""The catalog as Raft's state machine: entries become commands, versions become snapshots, everybody is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from arc.catalog import codec, snapshot
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.cluster.feed import Feed
from arc.errors import Corrupt
from arc.raft.types import Entry, EntryKind


class CatalogMachine:
    """Changes ``fsm`` and tells ``feed``, both its own to change; others read them."""

    def __init__(self, fsm: ClusterFSM, feed: Feed) -> None:
        self._fsm = fsm
        self._feed = feed

    def apply(self, entry: Entry) -> Result | None:
        """Apply a command and return its result; None for entries that are consensus' own. Raises Corrupt.

        A command that cannot be read was agreed on by nodes of a newer version: this one must not go on without it.
        """
        if entry.kind is not EntryKind.COMMAND:
            self._fsm.skip(entry.index)
            self._feed.publish(self._fsm.catalog, ())
            return None
        assert isinstance(entry.payload, bytes), entry
        try:
            command = codec.decode(entry.payload)
        except ValueError as error:
            raise Corrupt(f"entry {entry.index}: {error}", path="raft/log", offset=0) from error
        applied = self._fsm.apply(entry.index, command)
        self._feed.publish(self._fsm.catalog, applied.events)
        return applied.result

    def freeze(self) -> Callable[[], Iterable[bytes]]:
        """This version, to be encoded on a worker."""
        catalog = self._fsm.catalog
        return lambda: snapshot.encode(catalog)

    def thaw(self, index: int, chunks: Iterator[bytes]) -> Callable[[], None]:
        """Decode a snapshot, on a worker; what is returned installs it. Raises Corrupt."""
        try:
            catalog = snapshot.decode(chunks)
        except ValueError as error:
            raise Corrupt(str(error), path=f"raft/snapshots/snapshot-{index:020d}", offset=0) from error
        assert catalog.index == index, (catalog.index, index)

        def install() -> None:
            self._fsm.restore(catalog)
            self._feed.restart(catalog)

        return install
