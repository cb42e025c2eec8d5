"""What replication asks of its surroundings: a way to other nodes, and facts that others keep.

Declared here by the one who needs them; `arc.node` passes the objects that fit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from arc.catalog.commands import Command
from arc.catalog.events import Event
from arc.catalog.facts import Catalog
from arc.catalog.results import Result
from arc.storage.wal.keys import StoredKey
from arc.storage.wal.record import Logged


class Post(Protocol):
    """Queue a message for a node; `cluster.transport`. What is taken arrives in order within its lane, or the
    connection breaks.
    """

    def __call__(self, name: str, payload: bytes, *, is_bulk: bool) -> bool:
        """Whether it found a place; False also when there is no connection."""
        ...


class Propose(Protocol):
    """Changes the catalog; `cluster.proposals`."""

    async def propose(self, command: Command) -> Result:
        """Have a command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


class Change(Protocol):
    """A step of the catalog; `cluster.feed.Change`."""

    @property
    def events(self) -> tuple[Event, ...]:
        """What changed."""
        ...


class Changes(Protocol):
    """Steps in order, from a moment on; `cluster.feed.Subscription`."""

    async def receive(self) -> Change:
        """The next one."""
        ...


class Rows(Protocol):
    """Buffer and idempotency keys of this node; `ingest.mirror.Mirror`."""

    @property
    def visible(self) -> int:
        """The last record that queries see."""
        ...

    def add(self, records: Sequence[Logged]) -> None:
        """The log has these now."""
        ...

    def show(self, through: int) -> None:
        """Queries may see records up to here."""
        ...

    def cut(self, first: int) -> None:
        """The log lost the records from ``first`` on."""
        ...

    def restart(self, first: int, keys: Sequence[StoredKey]) -> None:
        """The log begins with ``first``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the holder says beside records. ``oldest_needed``: the first record that is in no file; ``keys``: living
    idempotency keys of records below a sequence; ``able``: nodes of the cluster that may take over;
    ``least``: how many must be in sync for a write to be acknowledged.
    """

    catalog: Callable[[], Catalog]
    oldest_needed: Callable[[], int]
    keys: Callable[[int], Sequence[StoredKey]]
    able: Callable[[], Collection[str]]
    least: Callable[[], int]
