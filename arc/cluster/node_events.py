"""Tells parts of this node who came, went, fell ill or got well: in order, and never less than the truth.

A subscription holds a bounded number of notices. When it overflows they are thrown away, and what the subscriber takes
next is the difference between what he saw last and what is true now. Both are made by one function, so a slow
subscriber learns nothing another way: he may miss that a node was ill and got well again, never that it is ill.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import trio

from arc.catalog.roles import NodeState
from arc.ids import NodeId

QUEUE_NOTICES_MAX = 64
"""Notices a subscriber may lag behind before they are folded into one."""


class NodeEventKind(StrEnum):
    """What happened to a node, in the eyes of this one."""

    JOINED = "joined"
    LEFT = "left"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEvent:
    """One thing that happened. ``state`` is the node's state after it."""

    kind: NodeEventKind
    name: NodeId
    incarnation: int
    state: NodeState


class Seen(NamedTuple):
    """What a subscriber knows of a node."""

    incarnation: int
    state: NodeState


Sight = Mapping[NodeId, Seen]
"""All nodes, by name."""

NOTHING: Sight = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Events in the order of names. ``is_folded``: they are a difference over several steps."""

    sight: Sight
    events: tuple[NodeEvent, ...]
    is_folded: bool = False


_TOLD = {
    NodeState.HEALTHY: NodeEventKind.HEALTHY,
    NodeState.UNHEALTHY: NodeEventKind.UNHEALTHY,
    NodeState.DEAD: NodeEventKind.DEAD,
}


def difference(before: Sight, after: Sight) -> tuple[NodeEvent, ...]:
    """What to tell whoever knew ``before``. Another incarnation is another node: the old one left."""
    told: list[NodeEvent] = []
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        if old is not None and (new is None or new.incarnation != old.incarnation):
            told.append(_event(NodeEventKind.LEFT, name, old))
            old = None
        if new is None:
            continue
        if old is None:
            told.append(_event(NodeEventKind.JOINED, name, new))
        if (old is None or old.state is not new.state) and new.state in _TOLD:
            told.append(_event(_TOLD[new.state], name, new))
    return tuple(told)


def _event(kind: NodeEventKind, name: NodeId, seen: Seen) -> NodeEvent:
    return NodeEvent(kind=kind, name=name, incarnation=seen.incarnation, state=seen.state)


class NodeSubscription:
    """Notices in order, for one task: ``async for notice in subscription``."""

    def __init__(self, seen: Sight, queue_notices_max: int) -> None:
        self._seen = seen
        self._latest = seen
        self._queue: deque[Notice] = deque()
        self._queue_max = queue_notices_max
        self._is_folding = False
        self._wake = trio.Event()
        self.folds = 0

    def __repr__(self) -> str:
        return f"<NodeSubscription nodes={len(self._latest)} queued={len(self._queue)} folding={self._is_folding}>"

    def __aiter__(self) -> NodeSubscription:
        return self

    async def __anext__(self) -> Notice:
        return await self.receive()

    async def receive(self) -> Notice:
        """Wait for the next notice."""
        await trio.lowlevel.checkpoint()
        while True:
            notice = self.receive_nowait()
            if notice is not None:
                return notice
            self._wake = trio.Event()
            await self._wake.wait()

    def receive_nowait(self) -> Notice | None:
        """The next notice if there is one already."""
        if self._is_folding:
            self._is_folding = False
            before, self._seen = self._seen, self._latest
            events = difference(before, self._latest)
            # What came may have gone again: then there is nothing to tell.
            return Notice(sight=self._latest, events=events, is_folded=True) if events else None
        if not self._queue:
            return None
        notice = self._queue.popleft()
        self._seen = notice.sight
        return notice

    def _offer(self, notice: Notice) -> None:
        self._latest = notice.sight
        if self._is_folding or len(self._queue) >= self._queue_max:
            self.folds += not self._is_folding
            self._is_folding = True
            self._queue.clear()
        else:
            self._queue.append(notice)
        self._wake.set()


class NodeEvents:
    """Fans notices out; lives on one Trio thread."""

    def __init__(self, sight: Sight = NOTHING) -> None:
        self._sight = sight
        self._subscriptions: dict[NodeSubscription, None] = {}  # a set would wake them in another order every run
        self._folds_of_the_gone = 0
        self.events_total = 0

    def __repr__(self) -> str:
        return f"<NodeEvents nodes={len(self._sight)} subscribers={len(self._subscriptions)}>"

    @property
    def sight(self) -> Sight:
        """What was published last."""
        return self._sight

    @property
    def folds_total(self) -> int:
        """How often a queue overflowed."""
        return self._folds_of_the_gone + sum(each.folds for each in self._subscriptions)

    def publish(self, sight: Sight) -> tuple[NodeEvent, ...]:
        """Tell what is true now; returns what of it was new."""
        if sight == self._sight:
            return ()  # As in nearly all rounds of checks.
        events = difference(self._sight, sight)
        self._sight = sight
        if events:
            self.events_total += len(events)
            for subscription in self._subscriptions:
                subscription._offer(Notice(sight=sight, events=events))
        return events

    @contextmanager
    def subscribe(self, *, queue_notices_max: int = QUEUE_NOTICES_MAX) -> Iterator[NodeSubscription]:
        """Hear everything that happens after ``sight`` of this moment."""
        subscription = NodeSubscription(self._sight, queue_notices_max)
        self._subscriptions[subscription] = None
        try:
            yield subscription
        finally:
            del self._subscriptions[subscription]
            self._folds_of_the_gone += subscription.folds
