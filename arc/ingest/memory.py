"""The memory budget of the write path: one number that everything on its way to a file counts against.

Over it a write is refused with 503 and Retry-After before anything is stored; nothing is ever dropped to make room.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from arc.errors import Overloaded


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatistics:
    """Bytes spent and allowed; how often a write was refused for it."""

    used_bytes: int
    limit_bytes: int
    refused_total: int


class MemoryBudget:
    """Counts bytes of requests being decoded and of rows waiting for the log, beside what the buffer holds."""

    def __init__(self, limit_bytes: int, buffered: Callable[[], int]) -> None:
        self._limit = limit_bytes
        self._buffered = buffered
        self._reserved = 0
        self._refused = 0

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        """Hold ``size_bytes`` for the time of the block. Raises Overloaded."""
        self.take(size_bytes)
        try:
            yield
        finally:
            self.give_back(size_bytes)

    def take(self, size_bytes: int) -> None:
        """Count bytes until `give_back`. Raises Overloaded. One request alone on an idle node is always let in."""
        used = self._reserved + self._buffered()
        if used and used + size_bytes > self._limit:
            self._refused += 1
            raise Overloaded(
                f"{used} bytes of rows are on their way to disk and {self._limit} are allowed (ingest.memory_bytes); "
                "nothing of this request was stored",
                retry_after_seconds=1,
            )
        self._reserved += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """End what `take` began."""
        self._reserved -= size_bytes
        assert self._reserved >= 0

    def statistics(self) -> MemoryStatistics:
        """How full it is."""
        return MemoryStatistics(
            used_bytes=self._reserved + self._buffered(), limit_bytes=self._limit, refused_total=self._refused
        )
