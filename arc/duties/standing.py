"""What the duties ask of their neighbours, what they tell, and what they read from the catalog."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from arc.catalog.events import DatabaseDropped, Event, FilesAdded, FilesRemoved, MarksMoved, MeasurementDropped
from arc.catalog.fsm import Catalog
from arc.catalog.roles import NodeRole, NodeState
from arc.catalog.values import WRITER
from arc.duties.reign import ReignStatistics
from arc.ingest.buffer import BufferStatistics, Key
from arc.ingest.memory import MemoryStatistics
from arc.ingest.replay import Progress
from arc.replication.crossing import CrossingStatistics
from arc.replication.log import ReplicaLog
from arc.replication.receiver import ReceiverStatistics
from arc.storage.wal.log import WalStatistics


class Report(Protocol):
    """Told how far the recovery is."""

    def __call__(self, progress: Progress, /) -> None:
        """Called once per segment."""
        ...


class Change(Protocol):
    """A step of the catalog; `cluster.feed.Change`."""

    @property
    def catalog(self) -> Catalog:
        """What is true after it."""
        ...

    @property
    def events(self) -> tuple[Event, ...]:
        """What changed."""
        ...


class Changes(Protocol):
    """Steps in order, from a moment on; `cluster.feed.Subscription`."""

    async def receive(self) -> Change:
        """The next one."""
        ...


class Feed(Protocol):
    """Tells what the catalog becomes; `cluster.feed.Feed`."""

    @property
    def catalog(self) -> Catalog:
        """The version that was told last."""
        ...

    def subscribe(self) -> AbstractContextManager[Changes]:
        """Hear all that comes after ``catalog`` of this moment."""
        ...

    async def wait_index(self, index: int) -> object:
        """Wait until the catalog here has reached ``index``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationStatistics:
    """Rows between nodes. ``role`` is holder, follower or none; ``visible_sequence`` is how far queries here see."""

    role: str
    holder: str
    epoch: int
    first_sequence: int
    next_sequence: int
    visible_sequence: int
    messages: CrossingStatistics
    receiver: ReceiverStatistics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStatistics:
    """The write path, part by part. What only the holder of the lease has is absent elsewhere."""

    memory: MemoryStatistics
    buffer: BufferStatistics
    replication: ReplicationStatistics
    wal: WalStatistics | None
    reign: ReignStatistics | None


def replication_statistics(
    catalog: Catalog,
    log: ReplicaLog,
    receiver: ReceiverStatistics | None,
    *,
    is_holder: bool,
    visible: int,
    messages: CrossingStatistics,
) -> ReplicationStatistics:
    """Where this node stands; ``receiver`` is that of a follower."""
    lease = catalog.leases.get(WRITER)
    return ReplicationStatistics(
        role="holder" if is_holder else "follower" if receiver is not None else "none",
        holder=lease.holder if lease is not None else "",
        epoch=lease.epoch if lease is not None else 0,
        first_sequence=log.first_sequence,
        next_sequence=log.next_sequence,
        visible_sequence=visible,
        messages=messages,
        receiver=receiver,
    )


def touched(events: Sequence[Event], buffered: Sequence[Key]) -> list[Key]:
    """Measurements whose files or marks changed, each once, in the order they were told."""
    found: dict[Key, None] = {}
    for event in events:
        match event:
            case MarksMoved(marks):
                found.update((Key(mark.database, mark.measurement), None) for mark in marks)
            case FilesAdded(files) | FilesRemoved(files):
                found.update((Key(file.database, file.measurement), None) for file in files)
            case DatabaseDropped(database):
                found.update((key, None) for key in buffered if key.database == database)
            case MeasurementDropped(database, measurement):
                found[Key(database, measurement)] = None
    return list(found)


def role_of(catalog: Catalog, name: str) -> NodeRole:
    """The role a node was described with; a node alone describes nobody and does everything."""
    known = catalog.nodes.get(name)
    return NodeRole(known.role) if known is not None else NodeRole.STANDALONE


def able_nodes(catalog: Catalog, me: str) -> list[str]:
    """Nodes of the cluster that may take over, ``me`` included, sorted; those that leave do not count."""
    found = {
        name
        for name, known in catalog.nodes.items()
        if NodeRole(known.role).capabilities.can_ingest and known.state != NodeState.LEAVING
    }
    return sorted(found | {me})
