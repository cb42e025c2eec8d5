"""When the state machine is written down, and how: beside everything else, from a version that never changes.

The core hands out for applying only what is on this node's own disk, so nothing that a snapshot covers can be missing
from the log it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from arc.errors import Overloaded, Unavailable
from arc.ports import Clock, Workers
from arc.raft.applylane import ApplyLane, StateMachine
from arc.raft.core import RaftCore
from arc.raft.events import Event, SnapshotTaken
from arc.raft.snapshot import being_sent
from arc.raft.snapshots import Keep
from arc.raft.types import Configuration, SnapshotMeta
from arc.telemetry import LONG_BOUNDS, Histogram, Log


class SaveSnapshot(Protocol):
    """`arc.raft.storage.RaftStorage.save_snapshot`: None when the disk is full."""

    def __call__(
        self, index: int, term: int, configuration: Configuration, at: int, chunks: Iterable[bytes], /, *, keep: Keep
    ) -> SnapshotMeta | None:
        """Write the chunks as the snapshot after entry ``index``; ``keep``: what has to stay. Blocking."""
        ...


class Saver:
    """One snapshot at a time, of the machine behind ``lane``."""

    def __init__(
        self,
        core: RaftCore,
        lane: ApplyLane,
        machine: StateMachine,
        save: SaveSnapshot,
        *,
        workers: Workers,
        clock: Clock,
        post: Callable[[Event], None],
        log: Log,
        every_entries: int,
    ) -> None:
        self._core = core
        self._state = core.state
        self._lane = lane
        self._machine = machine
        self._save = save
        self._workers = workers
        self._clock = clock
        self._post = post
        self._log = log
        self._every = every_entries
        self._is_saving = False
        self.index = lane.applied
        """What the newest snapshot covers."""
        self._tried = lane.applied
        self.saved_total = 0
        self.seconds = Histogram(LONG_BOUNDS)
        """Of snapshots that were saved: freezing, writing and making durable."""

    def __repr__(self) -> str:
        return f"<Saver index={self.index} {'saving' if self._is_saving else 'idle'}>"

    @property
    def is_due(self) -> bool:
        """Whether enough was applied since the last one (or the last attempt)."""
        return not self._is_saving and self._lane.applied - self._tried >= self._every and self._knows_members()

    @property
    def is_useful(self) -> bool:
        """Whether a snapshot now would spare the next start some work."""
        return self._lane.applied > self.index and self._knows_members()

    def installed(self, index: int) -> None:
        """A foreign snapshot is now the newest."""
        self.index = self._tried = max(self.index, index)

    async def save(self) -> int:
        """Write a snapshot now; returns the index it covers. Raises Unavailable, Overloaded (the disk is full)."""
        if self._is_saving:
            raise Unavailable("a snapshot is being written already")
        if self.is_useful:
            self._is_saving = True
            try:
                await self._write(self._lane.applied)
            finally:
                self._is_saving = False
        return self.index

    async def save_if_room(self) -> None:
        """`save` for nobody in particular: one that is under way serves as well, and a full disk is told in the log."""
        try:
            if not self._is_saving:
                await self.save()
        except Overloaded as full:
            self._log.warning("raft_snapshot_postponed", index=self._tried, reason=full.message)

    async def _write(self, index: int) -> None:
        term = self._core.term_at(index)
        assert index <= self._state.writes.durable_index, (index, self._state)
        assert term is not None, (index, self)  # S-10, K-67: the term of its index, not the current one
        at, configuration = self._state.history.at(index)
        begun = self._clock.now()
        encode = self._machine.freeze()
        self._tried = index
        keep = being_sent(self._state)
        meta = await self._workers.run(lambda: self._save(index, term, configuration, at, encode(), keep=keep))
        if meta is None:
            raise Overloaded("the disk has no room for a snapshot", code="disk_full", retry_after_seconds=5)
        self.index = max(self.index, index)
        self.saved_total += 1
        self.seconds.observe(self._clock.now() - begun)
        self._log.info("raft_snapshot_saved", index=index, size_bytes=meta.size_bytes)
        self._post(SnapshotTaken(meta))

    def _knows_members(self) -> bool:
        """Not so on a newcomer that got the log from its first entry, before the first change of members in it; nor
        where the log is that of a foreign snapshot already and the machine, which a stop may have interrupted, not yet.
        """
        applied = self._lane.applied
        return applied >= self._state.log.boundary_index and bool(self._state.history.at(applied)[1].voters)
