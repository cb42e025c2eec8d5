"""How many queries run at once, and who waits: first come, first served, with a bounded queue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from arc.errors import Overloaded
from arc.query.steps import Steps

TOO_MANY = "too_many_queries"


class Admission:
    """Places for running queries. One place more than there are waits; one waiter more than may wait is refused."""

    def __init__(self, places: int, *, queue_max: int, queue_seconds: float) -> None:
        self._free = trio.Semaphore(places, max_value=places)
        self._queue_max = queue_max
        self._queue_seconds = queue_seconds

    @property
    def waiting(self) -> int:
        """Queries in the queue."""
        return self._free.statistics().tasks_waiting

    @asynccontextmanager
    async def place(self, steps: Steps) -> AsyncIterator[None]:
        """Hold a place. Raises Overloaded, code ``too_many_queries``, when the queue is full or does not move."""
        if self._free.value == 0 and self.waiting >= self._queue_max:
            raise Overloaded(f"{self._queue_max} queries are waiting already", code=TOO_MANY, retry_after_seconds=1)
        await steps.wait(self._acquire)
        try:
            yield
        finally:
            self._free.release()

    async def _acquire(self) -> None:
        with trio.move_on_after(self._queue_seconds):
            await self._free.acquire()
            return
        raise Overloaded(
            f"there was no place to run the query within {self._queue_seconds:g} s",
            code=TOO_MANY,
            retry_after_seconds=2,
        )
