"""Looks into running nodes without their knowing: what they apply, whom they follow, what they have on disk, what they
send.

While `watching`, a few methods of `arc` are wrapped; each tells the watch which machine it ran on, for a task belongs
to one. Nothing is changed and nothing is delayed. The methods are named here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import wraps
from typing import Any, Protocol

from arc.catalog.facts import Catalog
from arc.catalog.fsm import ClusterFSM
from arc.cluster.config import ClusterConfig, ConsensusConfig
from arc.cluster.machine import CatalogMachine
from arc.cluster.transport import PeerTransport
from arc.node import life
from arc.raft.core import RaftCore
from arc.raft.effects import Write
from arc.raft.messages import Message
from arc.raft.storage import RaftStorage
from arc.raft.types import Entry
from simulations.world_plan import LogKind


class Watch(Protocol):
    """Who is told. ``who`` is the process, by `clock.Group.name`."""

    def applied(self, who: str, entry: Entry, catalog: Catalog) -> None:
        """An entry was applied; the catalog after it."""
        ...

    def restored(self, who: str, catalog: Catalog) -> None:
        """The catalog jumped to a snapshot."""
        ...

    def stepped(self, who: str, core: RaftCore) -> None:
        """Consensus took an event."""
        ...

    def opened(self, who: str, storage: RaftStorage) -> None:
        """A log was opened: what it holds survived."""
        ...

    def writing(self, who: str, writes: Sequence[Write]) -> None:
        """Writes go to the disk."""
        ...

    def wrote(self, who: str, writes: Sequence[Write], refused: int | None) -> None:
        """They returned; ``refused`` is the first whose entries found no room."""
        ...

    def sent(self, who: str, message: Message) -> None:
        """A message was given to the network."""
        ...


class CatalogWatch(Protocol):
    """Who is told of the catalog only."""

    def applied(self, who: str, entry: Entry, catalog: Catalog) -> None:
        """See `Watch.applied`."""
        ...

    def restored(self, who: str, catalog: Catalog) -> None:
        """See `Watch.restored`."""
        ...


@contextmanager
def watching(watch: Watch, who: Callable[[], str], *also: CatalogWatch) -> Iterator[None]:
    """Tell ``watch``, and of the catalog ``also`` these, until the block ends; ``who`` names the process of the current
    task.
    """

    def after_apply(machine: CatalogMachine, entry: Entry) -> None:
        for each in (watch, *also):
            each.applied(who(), entry, machine._fsm.catalog)

    def after_restore(fsm: ClusterFSM, catalog: Catalog) -> None:
        for each in (watch, *also):
            each.restored(who(), catalog)

    def after_step(core: RaftCore, *event: object) -> None:
        watch.stepped(who(), core)

    def before_send(transport: PeerTransport, message: Message) -> None:
        watch.sent(who(), message)

    with ExitStack() as stack:
        for owner, name, told in (
            (CatalogMachine, "apply", after_apply),
            (ClusterFSM, "restore", after_restore),
            (RaftCore, "step", after_step),
        ):
            stack.enter_context(wrapped(owner, name, _then(told)))
        owners: dict[RaftStorage, str] = {}
        stack.enter_context(wrapped(PeerTransport, "send", _first(before_send)))
        stack.enter_context(wrapped(RaftStorage, "write", _writing(watch, owners)))
        stack.enter_context(wrapped(RaftStorage, "open", _opening(watch, who, owners), is_class_method=True))
        yield


@contextmanager
def small_logs(kind: LogKind) -> Iterator[None]:
    """Nodes that start now have such logs: `arc.node.life` asks one function for settings that no operator has."""
    module: Any = life
    original: Callable[[ClusterConfig], ConsensusConfig] = module.consensus_config

    def small(cluster: ClusterConfig) -> ConsensusConfig:
        config = original(cluster)
        raft = replace(
            config.raft,
            trailing_entries=kind.trailing_entries,
            trailing_entries_max=max(kind.trailing_entries * 2, 10),
            snapshot_chunk_bytes=kind.chunk_bytes,
        )
        return replace(config, raft=raft, segment_bytes=kind.segment_bytes, snapshot_entries=kind.snapshot_entries)

    module.consensus_config = small
    try:
        yield
    finally:
        module.consensus_config = original


def _then(tell: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def wrapper(self: Any, *args: Any) -> Any:
            result = method(self, *args)
            tell(self, *args)
            return result

        return wrapper

    return wrap


def _first(tell: Callable[..., None]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def wrapper(self: Any, *args: Any) -> Any:
            tell(self, *args)
            return method(self, *args)

        return wrapper

    return wrap


def _writing(watch: Watch, owners: dict[RaftStorage, str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Whose storage it is was seen when it was opened: what a dying process writes, it writes in nobody's task."""

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def wrapper(self: RaftStorage, writes: Sequence[Write]) -> int | None:
            watch.writing(owners[self], writes)
            refused: int | None = method(self, writes)
            watch.wrote(owners[self], writes, refused)
            return refused

        return wrapper

    return wrap


def _opening(
    watch: Watch, who: Callable[[], str], owners: dict[RaftStorage, str]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def wrapper(cls: type[RaftStorage], *args: Any, **named: Any) -> RaftStorage:
            storage: RaftStorage = method(cls, *args, **named)
            owners[storage] = who()
            watch.opened(owners[storage], storage)
            return storage

        return wrapper

    return wrap


@contextmanager
def wrapped(
    owner: type, name: str, wrap: Callable[[Callable[..., Any]], Callable[..., Any]], *, is_class_method: bool = False
) -> Iterator[None]:
    """A method of a class is another one until the block ends."""
    kept = owner.__dict__[name]
    new = wrap(kept.__func__ if is_class_method else kept)
    setattr(owner, name, classmethod(new) if is_class_method else new)
    try:
        yield
    finally:
        setattr(owner, name, kept)
