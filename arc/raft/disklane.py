"""The disk's own lane: what a core asks of storage, done in order on a worker, told back as events.

The core never waits for a disk, so heartbeats do not either. While one write is at the disk the next ones gather, and
then go together: that is the group commit. Everything about a full disk that needs an order between writes and messages
is here and in `RaftNode`: see `effects` and `events.WriteRefused`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import trio

from arc.ports import Clock, Workers
from arc.raft.effects import Compact, ReadEntries, SnapshotRead, SnapshotStore, Write
from arc.raft.events import EntriesRead, Event, Persisted, SnapshotChunk, SnapshotStored, SpaceAgain, WriteRefused
from arc.raft.types import Entry, SnapshotMeta
from arc.telemetry import DISK_BOUNDS, Histogram

WRITES_MAX = 256
"""Writes that go to the disk together."""

SPACE_LOOK_SECONDS = 0.5
"""How often a full disk is asked again."""


class Repaired(NamedTuple):
    """The core is whole again: the mark of damage may go."""


Task: TypeAlias = Write | ReadEntries | Compact | SnapshotRead | SnapshotStore | Repaired


class Storage(Protocol):
    """What the lane needs of `arc.raft.storage.RaftStorage`. Everything blocks."""

    def write(self, writes: Sequence[Write], /) -> int | None:
        """Do them all; returns the first whose entries found no room."""
        ...

    def read_entries(self, first: int, last: int, bytes_max: int, /) -> tuple[Entry, ...]:
        """At least the first, if it is there."""
        ...

    def compact(self, first: int, /) -> None:
        """Entries below are not needed."""
        ...

    def read_chunk(self, meta: SnapshotMeta, offset: int, bytes_max: int, /) -> tuple[bytes, int, bool] | None:
        """Bytes, their checksum, whether they are the last."""
        ...

    def stage_chunk(self, meta: SnapshotMeta, offset: int, data: bytes, checksum: int, is_last: bool, /) -> bool:
        """Whether it was stored and right."""
        ...

    def repaired(self) -> None:
        """Forget the mark of damage."""
        ...

    def has_room(self) -> bool:
        """Whether entries would be taken."""
        ...


class DiskLane:
    """One task, `run`. ``put`` never waits: the core's own budgets bound what may be queued."""

    def __init__(self, storage: Storage, workers: Workers, clock: Clock, post: Callable[[Event], None]) -> None:
        self._storage = storage
        self._workers = workers
        self._clock = clock
        self._post = post
        self._queue: deque[Task] = deque()
        self._wake = trio.Event()
        self._stripped_to: float = 0
        self.writes_total = 0
        self.groups_total = 0
        self.seconds = Histogram(DISK_BOUNDS)
        """Of durable writes, a group each: what a proposal waits for on this node."""

    def __repr__(self) -> str:
        return f"<DiskLane queued={len(self._queue)} groups={self.groups_total}>"

    def put(self, task: Task) -> None:
        """Do this after everything put before."""
        self._queue.append(task)
        self._wake.set()

    def told_full(self, last_write_id: int) -> None:
        """The core knows that the disk is full; writes up to this id were asked for before it knew."""
        self._stripped_to = last_write_id

    async def run(self) -> None:
        """Work until cancelled. Raises DiskFailed, Corrupt: the node must stop."""
        async with trio.open_nursery() as nursery:
            while True:
                if not self._queue:
                    self._wake = trio.Event()
                    await self._wake.wait()
                writes = list(self._take_writes())
                if writes:
                    if await self._write(writes):
                        nursery.start_soon(self._watch_room)
                else:
                    await self._other(self._queue.popleft())

    def _take_writes(self) -> Iterator[Write]:
        taken = 0
        while self._queue and taken < WRITES_MAX:
            task = self._queue[0]
            if type(task) is not Write:
                return
            self._queue.popleft()
            taken += 1
            # Entries that the core believes lost must not come to disk after all (K-56): its next write begins there.
            yield task._replace(entries=()) if task.write_id <= self._stripped_to else task

    async def _write(self, writes: Sequence[Write]) -> bool:
        """Returns whether the disk turned out to be full."""
        begun = self._clock.now()
        refused = await self._workers.run(self._storage.write, writes)
        self.seconds.observe(self._clock.now() - begun)
        self.writes_total += len(writes)
        self.groups_total += 1
        if refused is not None:
            self._stripped_to = float("inf")  # until the core says what it had asked for before it knew
            self._post(WriteRefused(refused))
        self._post(Persisted(writes[-1].write_id))
        return refused is not None

    async def _other(self, task: Task) -> None:
        storage, run = self._storage, self._workers.run
        match task:
            case ReadEntries(first, last, bytes_max, token):
                self._post(EntriesRead(await run(storage.read_entries, first, last, bytes_max), token))
            case Compact(first):
                await run(storage.compact, first)
            case SnapshotRead(peer, meta, offset, bytes_max):
                found = await run(storage.read_chunk, meta, offset, bytes_max)
                data, checksum, is_last = found if found is not None else (None, 0, False)
                self._post(SnapshotChunk(peer, meta, offset, data, checksum, is_last))
            case SnapshotStore(meta, offset, data, checksum, is_last):
                is_ok = await run(storage.stage_chunk, meta, offset, data, checksum, is_last)
                self._post(SnapshotStored(meta, offset, is_ok))
            case Repaired():
                await run(storage.repaired)
            case _:
                raise AssertionError(f"{task!r} is no task of the disk")

    async def _watch_room(self) -> None:
        has_room = False
        while not has_room:
            await trio.sleep(SPACE_LOOK_SECONDS)
            has_room = await self._workers.run(self._storage.has_room)
        self._post(SpaceAgain())
