"""One task owns the core: it takes what was posted, steps the core, and hands the effects on.

It never waits for a disk, a peer or the state machine, so heartbeats leave in time whatever those do.

    inbox -> core.step -> Write, ReadEntries, ... -> disk lane  -+
      ^                -> Apply, Restore          -> apply lane  |
      |                -> Send                    -> network     |
      +--------------------- completions ------------------------+

A message that waits for a write is held back in the outbox until the write survives, and dropped if its term is over
by then.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import trio

from arc.ports import Clock
from arc.raft import effects as out
from arc.raft import events
from arc.raft.applylane import ApplyLane
from arc.raft.core import RaftCore
from arc.raft.disklane import DiskLane, Repaired
from arc.raft.outbox import Outbox
from arc.raft.requests import Asked, Requests
from arc.raft.saver import Saver
from arc.raft.types import Role
from arc.telemetry import Log

EVENTS_PER_TURN = 256

SLACK_SECONDS = 1e-9
"""A tick may come so much early and counts as that much late: sums of times are rounded, and neither is a wait for less
than a clock can tell ever over, nor does a tick before its time change anything, so either would be repeated for ever.
"""


class Inbox:
    """Events for the core, in the order in which they happened, and the bell that wakes their reader."""

    def __init__(self) -> None:
        self.events: deque[events.Event] = deque()
        self.messages = 0
        """How many of them came from peers; whoever posts those counts and bounds them."""
        self._bell = trio.Event()

    def post(self, event: events.Event) -> None:
        """Something happened."""
        self.events.append(event)
        self._bell.set()

    def ring(self) -> None:
        """Something waits elsewhere: proposals, reads."""
        self._bell.set()

    async def wait(self, seconds: float | None) -> None:
        """Until the next post or ring, or so long; None: for ever."""
        self._bell = trio.Event()
        if seconds is None:
            await self._bell.wait()
        else:
            with trio.move_on_after(max(0.0, seconds)):
                await self._bell.wait()


class Turning:
    """The task. ``save`` starts the snapshot that is due; ``outbox`` is set before the first turn."""

    def __init__(
        self,
        core: RaftCore,
        inbox: Inbox,
        requests: Requests,
        *,
        disk: DiskLane,
        lane: ApplyLane,
        saver: Saver,
        save: Callable[[], None],
        clock: Clock,
        log: Log,
    ) -> None:
        self._core = core
        self._state = core.state
        self._inbox = inbox
        self._requests = requests
        self._disk = disk
        self._lane = lane
        self._saver = saver
        self._save = save
        self._clock = clock
        self._log = log
        self.outbox: Outbox | None = None
        self.changed = trio.Event()
        """Set, and made anew, when role, term, leader or members change."""
        self.steps_total = 0
        self.proposals_total = 0
        self.traces: Counter[str] = Counter()
        self.led_at = float("-inf")
        """When this node led for sure the last time: it sent then what a quorum answered."""
        self._last_write = 0

    def __repr__(self) -> str:
        return f"<Turning {self._core!r} inbox={len(self._inbox.events)} steps={self.steps_total}>"

    async def run(self) -> None:
        """Turn until cancelled: a turn takes some events, then all proposals in one step, then all reads in one."""
        while True:
            if self._inbox.events or self._requests.waiting or self._requests.readers:
                await trio.lowlevel.checkpoint()
            else:
                due = self._core.deadline
                await self._inbox.wait(None if due is None else due - self._clock.now())
            for _ in range(EVENTS_PER_TURN):
                if not self._inbox.events:
                    break
                self._step(self._inbox.events.popleft())  # May post: what was applied at once is told in the same turn.
            if self._requests.waiting:
                batch = self._requests.take_batch()
                self.proposals_total += len(batch)
                if batch:  # Not if every caller has gone.
                    self._step(events.Propose(batch))
            if self._requests.readers:
                self._step(events.Read(self._requests.take_readers()))
            due, now = self._core.deadline, self._clock.now()
            if due is not None and now >= due - SLACK_SECONDS:
                self._step(events.Tick())

    def _step(self, event: events.Event) -> None:
        assert self.outbox is not None
        if type(event) is events.Receive:
            self._inbox.messages -= 1
        elif type(event) is events.WriteRefused:
            self.outbox.refused(event.write_id)
            self._disk.told_full(self._last_write)
        now = self._clock.now()
        if type(event) is events.Tick:
            now = max(now, (self._core.deadline or now) + SLACK_SECONDS)
        self.steps_total += 1
        for effect in self._core.step(event, now):
            _DO[type(effect)](self, effect)
        if (leading := self._state.leading) is not None:
            self.led_at = min(now, leading.quorum_at)  # Alone it is a quorum at any time.
        if type(event) is events.Persisted:
            self.outbox.persisted(event.write_id, self._core.term)
        elif type(event) is events.SpaceAgain and self.is_alone:
            self._inbox.post(events.Campaign())
        elif type(event) is events.Applied and self._saver.is_due:
            self._save()

    def _do_write(self, effect: out.Write) -> None:
        self._last_write = effect.write_id
        self._disk.put(effect)

    def _do_disk(self, effect: Any) -> None:
        self._disk.put(effect)

    def _do_apply(self, effect: Any) -> None:
        if type(effect) is out.Restore:
            self._requests.skipped(effect.meta.index)
            self._saver.installed(effect.meta.index)
        self._lane.put(effect)

    def _do_send(self, effect: out.Send) -> None:
        assert self.outbox is not None
        self.outbox.put(effect.message, effect.after)

    def _do_answer(self, effect: out.Answer) -> None:
        assert isinstance(effect.request, Asked), effect
        result = effect.result
        if result == out.NotLeader(None) and not self._state.has_space:
            result = out.Refused("no_space", "this node's disk is full, and nobody else leads")
        self._requests.answered(effect.request, result, self._lane.applied)

    def _do_trace(self, effect: out.Trace) -> None:
        name, detail = effect
        self.traces[name] += 1
        if name in ("role", "membership", "membership_committed"):
            self.changed.set()
            self.changed = trio.Event()
        if name == "repaired":
            self._disk.put(Repaired())
        if name in _TOLD:
            said = ", ".join(each.name.lower() if isinstance(each, Role) else str(each) for each in detail)
            getattr(self._log, _TOLD[name])(f"raft_{name}", detail=said, term=self._core.term)

    @property
    def is_alone(self) -> bool:
        """Whether nobody else has a vote."""
        return self._state.history.current.voters == (self._state.me,) and not self._state.history.current.outgoing


_TOLD = {
    "role": "info",
    "membership": "info",
    "membership_reverted": "warning",
    "leader_lost_quorum": "warning",
    "leader_disk_stalled": "error",
    "leader_removed": "info",
    "removed": "warning",
    "misaddressed": "warning",
    "snapshot_refused": "error",
    "snapshot_installed": "info",
    "catch_up_aborted": "warning",
    "no_space": "error",
    "clock_went_back": "error",
    "repair_begun": "warning",
    "repaired": "info",
}
"""What an operator reads in the log, and how loud it is. The rest is counted."""

_DO: dict[type, Callable[[Turning, Any], None]] = {
    out.Write: Turning._do_write,
    out.Send: Turning._do_send,
    out.Apply: Turning._do_apply,
    out.Restore: Turning._do_apply,
    out.ReadEntries: Turning._do_disk,
    out.Compact: Turning._do_disk,
    out.SnapshotRead: Turning._do_disk,
    out.SnapshotStore: Turning._do_disk,
    out.Answer: Turning._do_answer,
    out.Trace: Turning._do_trace,
}
