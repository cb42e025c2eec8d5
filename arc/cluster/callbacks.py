"""Tells others of failovers, one after another and each within a time limit: nobody who listens can hold one up.

Callbacks run in a task of their own, in the order of what happened. One that takes longer than its limit is cancelled
and counted; one that fails with an error of the house is logged and counted, and any other error is a mistake of ours
and stops the node. What finds no place in the bounded queue is counted and logged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import trio

from arc.errors import ArcError
from arc.ids import NodeId
from arc.telemetry import Log

DEFAULT_CALLBACK_TIMEOUT_SECONDS = 5.0
QUEUE_CALLBACKS_MAX = 32
"""Two for each failover; so many behind means that every one of them hangs."""

OnStart = Callable[[NodeId | None, NodeId], Awaitable[None]]
"""Told the old holder and the new one, when a lease is about to move."""

OnComplete = Callable[[NodeId, bool], Awaitable[None]]
"""Told the new holder, and whether it has the lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackStatistics:
    """``dropped_total`` found the queue full."""

    called_total: int
    timeouts_total: int
    failed_total: int
    dropped_total: int


class Callbacks:
    """Either may be None."""

    def __init__(
        self, on_start: OnStart | None, on_complete: OnComplete | None, *, timeout_seconds: float, log: Log
    ) -> None:
        self._on_start = on_start
        self._on_complete = on_complete
        self._timeout_seconds = timeout_seconds
        self._log = log
        self._queue: deque[Callable[[], Awaitable[None]]] = deque()
        self._wake = trio.Event()
        self._called = self._timeouts = self._failed = self._dropped = 0

    def __repr__(self) -> str:
        return f"<Callbacks called={self._called} timeouts={self._timeouts} dropped={self._dropped}>"

    async def run(self) -> None:
        """Call until cancelled."""
        while True:
            while not self._queue:
                self._wake = trio.Event()
                await self._wake.wait()
            call = self._queue.popleft()
            self._called += 1
            with trio.move_on_after(self._timeout_seconds) as limit:
                try:
                    await call()
                except ArcError as error:
                    self._failed += 1
                    self._log.error("callback_failed", reason=error.message)
            if limit.cancelled_caught:
                self._timeouts += 1
                self._log.error("callback_cancelled", after_seconds=self._timeout_seconds)

    def start(self, old: NodeId | None, new: NodeId) -> None:
        """A lease is about to move."""
        if self._on_start is not None:
            self._put(partial(self._on_start, old, new))

    def complete(self, new: NodeId, *, is_done: bool) -> None:
        """It has moved, or not."""
        if self._on_complete is not None:
            self._put(partial(self._on_complete, new, is_done))

    def statistics(self) -> CallbackStatistics:
        """Counters since the start."""
        return CallbackStatistics(
            called_total=self._called,
            timeouts_total=self._timeouts,
            failed_total=self._failed,
            dropped_total=self._dropped,
        )

    def _put(self, call: Callable[[], Awaitable[None]]) -> None:
        if len(self._queue) >= QUEUE_CALLBACKS_MAX:
            self._dropped += 1
            self._log.error("callback_dropped", reason="those before it are not done")
            return
        self._queue.append(call)
        self._wake.set()
