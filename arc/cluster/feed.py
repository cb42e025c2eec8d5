"""Tells everybody on this node what the catalog became.

Nothing is lost on a slow listener: he gets less detail, never less truth.

Every subscription has a bounded queue of changes. When it overflows, the queue is thrown away and the next change that
the subscriber takes is the difference between the last version he saw and the current one, told in the same events. So
a subscriber may rely on the events to know what is true, and must not count them: a file that came and went meanwhile
is not in a difference.

The feed decides nothing and stores nothing; it lives on one Trio thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from arc.catalog.difference import difference
from arc.catalog.events import Event
from arc.catalog.facts import Catalog

QUEUE_CHANGES_MAX = 256
"""Changes a subscriber may lag behind before they are folded into one difference."""


@dataclass(frozen=True, slots=True)
class Change:
    """From one version to ``catalog``. ``folded`` says that the events are a difference over several commands."""

    catalog: Catalog
    events: tuple[Event, ...]
    folded: bool = False

    @property
    def index(self) -> int:
        """Index of the last command in this change."""
        return self.catalog.index


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatistics:
    """``folds`` counts how often a queue overflowed; ``waiting`` are tasks in `Feed.wait_index`."""

    index: int
    subscribers: int
    waiting: int
    changes: int
    folds: int


class Subscription:
    """Changes in order, for one task: ``async for change in subscription``. Taking from it never misses a wake-up."""

    def __init__(self, seen: Catalog, queue_changes_max: int) -> None:
        self._seen = seen
        self._latest = seen
        self._queue: deque[Change] = deque()
        self._queue_max = queue_changes_max
        self._folding = False
        self._wake = trio.Event()
        self.folds = 0

    def __repr__(self) -> str:
        return f"<Subscription seen={self._seen.index} latest={self._latest.index} queued={len(self._queue)}>"

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Change:
        return await self.receive()

    async def receive(self) -> Change:
        """Wait for the next change."""
        await trio.lowlevel.checkpoint()
        while self._latest is self._seen:
            self._wake = trio.Event()
            await self._wake.wait()
        return self._take()

    def receive_nowait(self) -> Change | None:
        """The next change if there is one already."""
        return None if self._latest is self._seen else self._take()

    def _take(self) -> Change:
        if self._folding:
            self._folding = False
            change = Change(self._latest, difference(self._seen, self._latest), folded=True)
        else:
            change = self._queue.popleft()
        self._seen = change.catalog
        return change

    def _offer(self, change: Change, *, fold: bool) -> None:
        self._latest = change.catalog
        if self._folding or fold or len(self._queue) >= self._queue_max:
            self.folds += not self._folding
            self._folding = True
            self._queue.clear()
        else:
            self._queue.append(change)
        self._wake.set()


class Feed:
    """Fans changes out. `publish` is called by the one task that applies commands, right after each."""

    def __init__(self, catalog: Catalog | None = None) -> None:
        self._catalog = catalog if catalog is not None else Catalog()
        self._subscriptions: dict[Subscription, None] = {}  # a set would wake them in another order every run
        self._waiting: dict[int, trio.Event] = {}
        self._changes = 0
        self._folds_of_the_gone = 0

    def __repr__(self) -> str:
        return f"<Feed index={self._catalog.index} subscribers={len(self._subscriptions)}>"

    @property
    def catalog(self) -> Catalog:
        """The version that was published last."""
        return self._catalog

    def publish(self, catalog: Catalog, events: tuple[Event, ...]) -> None:
        """Tell one applied command."""
        self._tell(Change(catalog, events), fold=False)

    def restart(self, catalog: Catalog) -> None:
        """Tell a jump, such as a snapshot: every subscriber gets the difference from what he saw."""
        self._tell(Change(catalog, ()), fold=True)

    @contextmanager
    def subscribe(self, *, queue_changes_max: int = QUEUE_CHANGES_MAX) -> Iterator[Subscription]:
        """Hear everything that happens after ``feed.catalog`` of this moment."""
        subscription = Subscription(self._catalog, queue_changes_max)
        self._subscriptions[subscription] = None
        try:
            yield subscription
        finally:
            del self._subscriptions[subscription]
            self._folds_of_the_gone += subscription.folds

    async def wait_index(self, index: int) -> Catalog:
        """Wait until the catalog has reached ``index``, and return it. The caller sets the time limit."""
        await trio.lowlevel.checkpoint()
        if self._catalog.index < index:
            reached = self._waiting.setdefault(index, trio.Event())
            try:
                await reached.wait()
            finally:
                # The last one who gives up takes the event along: clients may ask for indexes that never come.
                if not reached.is_set() and reached.statistics().tasks_waiting == 0:
                    self._waiting.pop(index, None)
        return self._catalog

    def statistics(self) -> FeedStatistics:
        """Counters since the start."""
        return FeedStatistics(
            index=self._catalog.index,
            subscribers=len(self._subscriptions),
            waiting=sum(event.statistics().tasks_waiting for event in self._waiting.values()),
            changes=self._changes,
            folds=self._folds_of_the_gone + sum(subscription.folds for subscription in self._subscriptions),
        )

    def _tell(self, change: Change, *, fold: bool) -> None:
        assert change.catalog.index >= self._catalog.index, "the catalog never goes back"
        self._catalog = change.catalog
        self._changes += 1
        for subscription in self._subscriptions:
            subscription._offer(change, fold=fold)
        for index in [index for index in self._waiting if index <= change.catalog.index]:
            self._waiting.pop(index).set()
