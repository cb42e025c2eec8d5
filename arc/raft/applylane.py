"""The state machine's own lane: committed entries in order, never in the way of a heartbeat.

The machine lives on the Trio thread, so that whoever looks at it between two entries sees a whole version. A few
entries are applied in the driver's own turn; long work is cut into slices and has a task of its own, and decoding a
foreign snapshot is work for a worker.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import trio

from arc.ports import Clock, Workers
from arc.raft.effects import Apply, Restore
from arc.raft.events import Applied, Event
from arc.raft.types import Entry, SnapshotMeta

SLICE_SECONDS = 0.003
"""How long entries are applied without letting others work."""


class StateMachine(Protocol):
    """What the entries mean. Deterministic: equal entries in equal order make equal machines and equal results."""

    def apply(self, entry: Entry, /) -> object:
        """Take in the next entry, of any kind; returns its result."""
        ...

    def freeze(self) -> Callable[[], Iterable[bytes]]:
        """Hold on to the present version; what is returned encodes it, on a worker, in chunks."""
        ...

    def thaw(self, index: int, chunks: Iterator[bytes], /) -> Callable[[], None]:
        """Decode a snapshot, on a worker; what is returned replaces the machine by it. Raises Corrupt."""
        ...


class ApplyLane:
    """One task, `run`. ``on_applied`` hears of every entry right after it was applied."""

    def __init__(
        self,
        machine: StateMachine,
        *,
        clock: Clock,
        workers: Workers,
        load: Callable[[SnapshotMeta], Iterator[bytes]],
        post: Callable[[Event], None],
        on_applied: Callable[[Entry, object], None],
    ) -> None:
        self._machine = machine
        self._clock = clock
        self._workers = workers
        self._load = load
        self._post = post
        self._on_applied = on_applied
        self._queue: deque[Apply | Restore] = deque()
        self._wake = trio.Event()
        self._is_busy = False
        """Whether the task has something to do: then nobody may overtake it."""
        self.applied = 0
        """Index of the last entry in the machine."""

    def __repr__(self) -> str:
        return f"<ApplyLane applied={self.applied} queued={len(self._queue)}>"

    def put(self, task: Apply | Restore) -> None:
        """Do this after everything put before; the core hands out no more than its budget.

        Entries with nothing before them are applied here and now, for one slice: for a few, going through another task
        would cost more than the entries do.
        """
        if type(task) is Apply and not self._is_busy:
            rest = self._apply_slice(task.entries)
            if not rest:
                return
            task = Apply(rest)
        self._is_busy = True
        self._queue.append(task)
        self._wake.set()

    async def load(self, meta: SnapshotMeta) -> None:
        """Fill the machine from an own snapshot, before anything else. Raises Corrupt."""
        install = await self._workers.run(lambda: self._machine.thaw(meta.index, self._load(meta)))
        install()
        self.applied = meta.index

    async def run(self) -> None:
        """Work until cancelled. Raises Corrupt."""
        while True:
            if not self._queue:
                self._is_busy = False
                self._wake = trio.Event()
                await self._wake.wait()
            match self._queue.popleft():
                case Apply(entries):
                    await self._apply(entries)
                case Restore(meta):
                    await self._restore(meta)

    async def _apply(self, entries: tuple[Entry, ...]) -> None:
        while entries := self._apply_slice(entries):
            await trio.lowlevel.checkpoint()

    def _apply_slice(self, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """Apply what fits into a slice of time, and tell; returns the rest."""
        until = self._clock.now() + SLICE_SECONDS
        done = 0
        for entry in entries:
            assert entry.index == self.applied + 1, (entry, self)  # I-05
            result = self._machine.apply(entry)
            self.applied = entry.index
            self._on_applied(entry, result)
            done += 1
            if self._clock.now() >= until:
                break
        self._post(Applied(self.applied))
        return entries[done:]

    async def _restore(self, meta: SnapshotMeta) -> None:
        await self.load(meta)
        self._post(Applied(meta.index))
