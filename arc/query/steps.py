"""Blocking steps of one query on worker threads, under one deadline, stoppable from three sides.

A step ends early when the deadline passes, when `Steps.cancel` is called, or when the caller itself is cancelled (its
client hung up). In each case the engine is interrupted and the step is waited for, because a cursor must never be
used by two threads and a thread left behind would go on scanning.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import trio

from arc.errors import Conflict, TimedOut, Unavailable
from arc.ports import Workers
from arc.query.mistakes import Interrupted

T = TypeVar("T")

INTERRUPT_EVERY_SECONDS = 0.02
"""An interrupt that comes before DuckDB has begun is forgotten by it, so it is repeated until the step has ended."""


class Interruptible(Protocol):
    """What is stopped."""

    def interrupt(self) -> None:
        """Make the step that runs now raise. May be called at any time, any number of times."""
        ...


class Steps:
    """The steps of one query, one after another."""

    def __init__(self, workers: Workers, timeout_seconds: float) -> None:
        self._workers = workers
        self._timeout_seconds = timeout_seconds
        self._deadline = trio.current_time() + timeout_seconds
        self._scope: trio.CancelScope | None = None
        self.cancelled = False

    def cancel(self) -> None:
        """Stop the step under way, if any, and every later one: they raise Conflict, code ``query_cancelled``."""
        self.cancelled = True
        if self._scope is not None:
            self._scope.cancel()

    async def wait(self, wait: Callable[[], Awaitable[T]]) -> T:
        """Await something that is no work of the engine, under the same deadline and cancellation."""
        self.check()
        outcome: list[T] = []
        with self._limit():
            outcome.append(await wait())
        # What was got is handed out even when a cancel came at the same moment: the owner must be able to give it back.
        if not outcome:
            self.check()
        return outcome[0]

    async def run(self, step: Callable[[], T], target: Interruptible | None = None) -> T:
        """Run a blocking step. Raises what it raises, TimedOut, or Conflict."""
        self.check()
        outcome: list[T] = []
        with self._limit():
            try:
                outcome.append(await _run_to_its_end(self._workers, step, target))
            except Interrupted as error:
                # Whoever interrupted has cancelled the scope; when nobody did, the engine is being closed.
                await trio.lowlevel.checkpoint_if_cancelled()
                raise Unavailable("the query was interrupted because the node stops", code="stopping") from error
        if not outcome:
            self.check()
        return outcome[0]

    def _limit(self) -> trio.CancelScope:
        self._scope = trio.CancelScope(deadline=self._deadline)
        return self._scope

    def check(self) -> None:
        """Raises Conflict or TimedOut when the query was stopped, or its time is over."""
        if self.cancelled:
            raise Conflict("the query was cancelled", code="query_cancelled")
        if trio.current_time() >= self._deadline:
            raise TimedOut(f"Query timed out after {self._timeout_seconds:g} s", code="query_timeout")


async def _run_to_its_end(workers: Workers, step: Callable[[], T], target: Interruptible | None) -> T:
    """Run the step; when cancelled meanwhile, interrupt it and still wait for it."""
    result: list[T] = []
    failure: list[Exception] = []
    ended = trio.Event()

    async def work() -> None:
        with trio.CancelScope(shield=True):
            try:
                result.append(await workers.run(step))
            except Exception as error:
                failure.append(error)
            ended.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        try:
            await ended.wait()
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                while not ended.is_set():
                    if target is not None:
                        target.interrupt()
                    with trio.move_on_after(INTERRUPT_EVERY_SECONDS):
                        await ended.wait()
            # Not raised from here, where the nursery would wrap it in a group: the checkpoint below raises it anew.
    await trio.lowlevel.checkpoint_if_cancelled()
    if failure:
        raise failure[0]
    return result[0]
