"""The log of this node as replication sees it: what is on its disk, which epochs wrote it, its newest end in memory.

Whoever writes, the intake of the holder or the receiver of a follower, writes through here; followers that are near the
end are served from memory, the others from segments. The counters move in the task that wrote, right after the disk is
done, so that nobody sees a record here before whoever wrote it can put it into the buffer.

A reader keeps no log: `MemoryOnly` counts and forgets.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import trio

from arc.storage.wal import record
from arc.storage.wal.history import History, Span
from arc.storage.wal.keys import StoredKey

SLOW_BYTES_PER_SECOND = 10_000_000
"""A disk that is slow and no more; a large group may take as long as it takes there."""


class Storage(Protocol):
    """Where records survive; `arc.storage.wal.log.WalLog`."""

    @property
    def first_sequence(self) -> int:
        """Sequence of the oldest record held."""
        ...

    @property
    def next_sequence(self) -> int:
        """Sequence of the next record."""
        ...

    async def append(self, records: Sequence[bytes]) -> None:
        """Store as one group, durable on return. Raises Overloaded (nothing stored), DiskFailed."""
        ...

    async def cut(self, first: int) -> None:
        """Take back the records from ``first`` on, durably. Raises Overloaded, DiskFailed."""
        ...

    async def restart(self, next_sequence: int) -> None:
        """Take back all records, durably. Raises Overloaded, DiskFailed."""
        ...

    async def read(self, start: int, bytes_max: int) -> list[bytes]:
        """Whole requests from ``start`` on, at least one; empty when it is not held."""
        ...

    async def store_keys(self, keys: Sequence[StoredKey]) -> None:
        """Replace the checkpoint of idempotency keys. Raises Overloaded, DiskFailed."""
        ...


class MemoryOnly:
    """The storage of a node that keeps no log: it only knows where it is."""

    def __init__(self) -> None:
        self.first_sequence = self.next_sequence = 1

    async def append(self, records: Sequence[bytes]) -> None:
        """Count them."""
        await trio.lowlevel.checkpoint()
        self.next_sequence += len(records)

    async def cut(self, first: int) -> None:
        """Go back."""
        await trio.lowlevel.checkpoint()
        self.next_sequence = first
        self.first_sequence = min(self.first_sequence, first)

    async def restart(self, next_sequence: int) -> None:
        """Begin there."""
        await trio.lowlevel.checkpoint()
        self.first_sequence = self.next_sequence = next_sequence

    async def read(self, start: int, bytes_max: int) -> list[bytes]:
        """Nothing is kept."""
        await trio.lowlevel.checkpoint()
        return []

    async def store_keys(self, keys: Sequence[StoredKey]) -> None:
        """Keys are of use only to who takes writes."""
        await trio.lowlevel.checkpoint()


class Pulse:
    """Wakes everybody who looks at the same things. Look first, then wait without anything in between."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def beat(self) -> None:
        """Something changed."""
        self._event.set()
        self._event = trio.Event()

    async def wait(self) -> None:
        """Return after the next beat."""
        await self._event.wait()


class ReplicaLog:
    """Storage, history and the newest records in memory.

    ``tail_bytes_max`` bounds these; they are kept only while somebody `follows`. One task writes at a time.
    """

    def __init__(self, storage: Storage, history: History, *, tail_bytes_max: int) -> None:
        assert history.next_sequence == storage.next_sequence, (history, storage.next_sequence)
        self._storage = storage
        self.history = history
        self.pulse = Pulse()
        self._tail: deque[bytes] = deque()
        self._tail_bytes = 0
        self._tail_bytes_max = tail_bytes_max
        self._followers = 0
        self._due_at = math.inf

    def __repr__(self) -> str:
        return f"<ReplicaLog {self.first_sequence}..{self.next_sequence - 1} {self.history!r}>"

    @property
    def first_sequence(self) -> int:
        """Sequence of the oldest record held."""
        return self._storage.first_sequence

    @property
    def next_sequence(self) -> int:
        """Sequence of the next record; all before it are durable here."""
        return self.history.next_sequence

    def spans(self) -> tuple[Span, ...]:
        """Which epochs wrote the records that can be read here, on the disk or in memory."""
        self.history.release(min(self.first_sequence, self.next_sequence - len(self._tail)))
        return self.history.spans()

    @property
    def overdue_seconds(self) -> float:
        """For how long the disk has had a group that a slow one would be done with; 0 while it has none."""
        return max(0.0, trio.current_time() - self._due_at)

    @property
    def tail_bytes(self) -> int:
        """Bytes of records kept in memory."""
        return self._tail_bytes

    async def append(self, records: Sequence[bytes]) -> None:
        """Store as one group, durable on return. Raises Overloaded (nothing stored), DiskFailed."""
        size = sum(map(len, records))
        self._due_at = trio.current_time() + size / SLOW_BYTES_PER_SECOND
        try:
            await self._storage.append(records)
        finally:
            self._due_at = math.inf
        self._note(records)
        if self._followers:
            self._tail.extend(records)
            self._tail_bytes += size
            while self._tail_bytes > self._tail_bytes_max and len(self._tail) > 1:
                self._tail_bytes -= len(self._tail.popleft())
        self.pulse.beat()

    def _note(self, records: Sequence[bytes]) -> None:
        first, epoch = self.next_sequence, record.epoch_of(records[0])
        if record.epoch_of(records[-1]) == epoch:
            self.history.note(epoch, first, len(records))
            return
        for sequence, each in enumerate(records, first):
            self.history.note(record.epoch_of(each), sequence)

    async def cut(self, first: int) -> None:
        """Take back the records from ``first`` on, durably. Raises Overloaded, DiskFailed."""
        await self._storage.cut(first)
        self.history.cut(first)
        self._drop_tail()

    async def restart(self, next_sequence: int, keys: Sequence[StoredKey]) -> None:
        """Hold nothing but the keys of what is below ``next_sequence``, durably. Raises Overloaded, DiskFailed."""
        await self._storage.store_keys(keys)
        await self._storage.restart(next_sequence)
        self.history.restart(next_sequence)
        self._drop_tail()

    def follows(self, change: int) -> None:
        """One follower more (1) or less (-1): for the first one the tail begins to be kept, with the last it goes."""
        self._followers += change
        assert self._followers >= 0
        if not self._followers:
            self._drop_tail()

    async def read(self, start: int, bytes_max: int) -> tuple[Sequence[bytes], bool]:
        """Whole requests from ``start`` on, at least one, and whether they came from memory; none when ``start`` is
        not held.
        """
        nth = len(self._tail) - (self.next_sequence - start)
        if nth >= 0:
            return self._from_tail(nth, bytes_max), True
        return await self._storage.read(start, bytes_max), False

    def _from_tail(self, nth: int, bytes_max: int) -> Sequence[bytes]:
        found: list[bytes] = []
        size = whole = 0
        for at in range(nth, len(self._tail)):
            each = self._tail[at]
            size += len(each)
            if whole and size > bytes_max:
                break
            found.append(each)
            if record.parts_left(each) == 0:
                whole = len(found)
        return found[:whole]

    def _drop_tail(self) -> None:
        self._tail.clear()
        self._tail_bytes = 0
