"""What this process remembers of the other nodes: signs of life, what they told, what the checks made of it.

A memory belongs to one incarnation and ends with it. It is this process' own and never agreed on. Any frame of a
session is a sign of life, not only a heartbeat; and a session that breaks must not take what it heard along.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from arc.catalog.nodes import NodeRecord
from arc.catalog.roles import NodeState
from arc.cluster.judging import Evidence, Health, HealthConfig, Transition, aligned, is_silent, judge
from arc.cluster.views import NodeStats
from arc.ports import Clock
from arc.raft.types import Peer

OFFSETS_KEPT = 8
"""Heartbeats that a clock is judged by: the one that was least late tells most, and one in eight is in time."""


class SessionSeen(Protocol):
    """What is asked of a session: who is at the other end, and when it was last heard (`Clock.now`)."""

    @property
    def peer(self) -> Peer:
        """The node and its incarnation."""
        ...

    @property
    def last_heard(self) -> float:
        """Arrival of the last frame of any kind."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a node said of itself in its last heartbeat; see `arc.cluster.heartbeat`."""

    started_us: int = 0
    stats: NodeStats = field(default_factory=NodeStats)


class Memory:
    """Of one incarnation. Times are seconds of `Clock.now`; those named ``_us`` wall clock, for people."""

    __slots__ = (
        "broke_at",
        "health",
        "healthy_us",
        "heard_at",
        "heartbeat_us",
        "incarnation",
        "offsets_us",
        "told",
        "told_at",
    )

    def __init__(self, incarnation: int, now: float) -> None:
        self.incarnation = incarnation
        self.health = Health(since=now)
        self.heard_at: float | None = None
        self.broke_at: float | None = None
        self.heartbeat_us = 0
        self.healthy_us = 0
        self.told = Told()
        self.told_at = now
        self.offsets_us: deque[int] = deque(maxlen=OFFSETS_KEPT)

    @property
    def clock_offset_seconds(self) -> float | None:
        """How far the node's wall clock is ahead of ours, as far as its last heartbeats tell; None when they do not.

        What is late on its way only makes its clock look further behind, so the largest is nearest to the truth.
        """
        return max(self.offsets_us) / 1e6 if self.offsets_us else None

    def clock_us(self, now: float) -> int | None:
        """What the node's wall clock says now, if nobody has set it since its last heartbeat; None before the first.
        The wall clock here has no part in it: who sets that one moves nobody else's.
        """
        told_us = self.told.stats.clock_us
        return told_us + int((now - self.told_at) * 1e6) if told_us else None


class Memories:
    """One memory for every other node that anything was asked or heard of."""

    def __init__(self, clock: Clock, config: HealthConfig, sessions: Callable[[], Mapping[str, SessionSeen]]) -> None:
        self._clock = clock
        self._config = config
        self._sessions = sessions
        self._memories: dict[str, Memory] = {}
        self._left: dict[str, Memory] = {}

    def __repr__(self) -> str:
        return f"<Memories {' '.join(f'{name}={each.health.state}' for name, each in self._memories.items())}>"

    def of(self, record: NodeRecord) -> Memory:
        """The memory of a node; begins anew with every incarnation."""
        memory = self._memories.get(record.name)
        if memory is None or memory.incarnation != record.incarnation:
            if memory is not None:
                self._note_left(record.name, memory)
            memory = self._memories[record.name] = Memory(record.incarnation, self._clock.now())
        return memory

    def keep(self, names: Iterable[str]) -> None:
        """Forget everybody else. What time it is by them is known until somebody who is here has told (`clocks_us`)."""
        before = self._memories
        self._memories = {name: before[name] for name in names if name in before}
        for name in before.keys() - self._memories.keys():
            self._note_left(name, before[name])
        if any(memory.told.stats.clock_us for memory in self._memories.values()):
            self._left.clear()

    def clocks_us(self, records: Iterable[NodeRecord]) -> dict[str, int | None]:
        """What the wall clocks of these nodes say now; None of who has not told, however dead: a clock that is ahead is
        not right because whoever could deny it is cut off (world 1010264), or has just left (920506). Where there is
        nobody, what those told goes on that were here last.
        """
        now = self._clock.now()
        told: dict[str, int | None] = {record.name: self.of(record).clock_us(now) for record in records}
        before = (*self._left.items(), *self._memories.items())
        return told or {name: at_us for name, memory in before if (at_us := memory.clock_us(now)) is not None}

    def state(self, record: NodeRecord) -> NodeState:
        """How a node is: what was seen, or what was agreed on of one that is seen alive."""
        return aligned(self.of(record).health.state, NodeState(record.state))

    def heartbeat(self, record: NodeRecord, told: Told) -> None:
        """Note what a node told."""
        memory = self.of(record)
        memory.told = told
        memory.heard_at = memory.told_at = self._clock.now()
        memory.heartbeat_us = self._clock.wall_us()
        if told.stats.clock_us:
            memory.offsets_us.append(told.stats.clock_us - memory.heartbeat_us)

    def session_broke(self, record: NodeRecord) -> bool:
        """Note it; says whether that is news: something was heard since the last time."""
        memory = self.of(record)
        heard_at = memory.heard_at
        if heard_at is None or (memory.broke_at is not None and memory.broke_at >= heard_at):
            return False
        memory.broke_at = self._clock.now()
        return True

    def check(self, record: NodeRecord, *, is_watching: bool, is_late: bool) -> Transition | None:
        """Judge a node once more; what changed by it."""
        memory, before = self.of(record), self.of(record).health
        evidence = self._evidence(record, is_watching=is_watching, is_late=is_late)
        memory.health = judge(before, NodeState(record.state), evidence, self._config)
        if memory.health.state is NodeState.HEALTHY and memory.health.failed_checks == 0:
            memory.healthy_us = self._clock.wall_us()
        if memory.health.state is before.state:
            return None
        return Transition(old=before.state, new=memory.health.state)

    def is_fresh(self, record: NodeRecord, *, is_watching: bool) -> bool:
        """Whether the last sign of life is younger than the time-out."""
        return not is_silent(self._evidence(record, is_watching=is_watching, is_late=False), self._config)

    def listen(self, records: Iterable[NodeRecord]) -> None:
        """Note the last frames of all open sessions; once for a round, because it looks at every session."""
        sessions = self._sessions()
        for record in records:
            session = sessions.get(record.name)
            if session is not None and session.peer.incarnation == record.incarnation:
                memory = self.of(record)
                memory.heard_at = max(memory.heard_at or session.last_heard, session.last_heard)

    def _evidence(self, record: NodeRecord, *, is_watching: bool, is_late: bool) -> Evidence:
        now, memory = self._clock.now(), self.of(record)
        heard_at = memory.heard_at
        return Evidence(
            now=now,
            heard_seconds_ago=None if heard_at is None else now - heard_at,
            is_broken=memory.broke_at is not None and (heard_at is None or heard_at <= memory.broke_at),
            is_watching=is_watching,
            is_late=is_late,
        )

    def _note_left(self, name: str, memory: Memory) -> None:
        if memory.told.stats.clock_us:
            self._left[name] = memory
