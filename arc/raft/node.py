"""The driver: a core in a nursery with a clock, a disk lane, an apply lane and a network. READ AFTER `core`.

One task owns the core. It takes what was posted (messages, completions, requests), steps the core, and hands the
effects on; it never waits for a disk, a peer or the state machine, so heartbeats leave in time whatever those do.

    inbox -> core.step -> Write, ReadEntries, ... -> disk lane  -+
      ^                -> Apply, Restore          -> apply lane  |
      |                -> Send                    -> network     |
      +--------------------- completions ------------------------+

A message that waits for a write is held back here until the write survives, and dropped if its term is over by then.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

import trio

from arc.errors import Unavailable
from arc.ports import Ports
from arc.raft import effects as out
from arc.raft import events
from arc.raft.applylane import ApplyLane, StateMachine
from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.disklane import DiskLane, Repaired, Storage
from arc.raft.membership import members
from arc.raft.messages import Message
from arc.raft.outbox import Outbox
from arc.raft.requests import Asked, Proposed, Requests, Then
from arc.raft.saver import Saver
from arc.raft.status import Status
from arc.raft.types import Configuration, Peer, Role, SnapshotMeta, Stored
from arc.telemetry import Log

EVENTS_PER_TURN = 256
INBOX_MESSAGES_MAX = 10_000
"""Messages of peers that wait for the core; more are dropped, as networks do, and counted."""


class OpenStorage(Storage, Protocol):
    """What the driver needs of `arc.raft.storage.RaftStorage` besides its lane."""

    stored: Stored

    def save_snapshot(
        self, index: int, term: int, configuration: Configuration, configuration_index: int, chunks: Iterable[bytes], /
    ) -> SnapshotMeta | None:
        """Write a snapshot; None when the disk is full."""
        ...

    def load_snapshot(self, meta: SnapshotMeta, /) -> Iterator[bytes]:
        """The chunks it was saved from."""
        ...

    def close(self) -> None:
        """The orderly end."""
        ...


class Counts(NamedTuple):
    """Counters since the start. ``traces`` counts what the core told, by name (`arc.raft.state.TRACES`)."""

    steps: int
    proposals: int
    writes: int
    disk_groups: int
    messages_sent: int
    messages_received: int
    messages_dropped: int
    snapshots: int
    inbox: int
    waiting: int
    held: int
    applied: int
    traces: dict[str, int]


class RaftNode:
    """Consensus of one node. ``send`` gives a message to the network: at once, never waiting, allowed to lose it."""

    def __init__(
        self,
        me: Peer,
        config: Config,
        storage: OpenStorage,
        machine: StateMachine,
        *,
        ports: Ports,
        log: Log,
        snapshot_entries: int = 10_000,
    ) -> None:
        self.me = me
        self._storage = storage
        self._ports = ports
        self._log = log.bind(component="raft")
        stored = storage.stored
        self._core = RaftCore(me, config, stored, ports.rng, ports.clock.now())
        self._state = self._core.state
        self._requests = Requests()
        self._disk = DiskLane(storage, ports.workers, self._post)
        self._lane = ApplyLane(
            machine,
            clock=ports.clock,
            workers=ports.workers,
            load=storage.load_snapshot,
            post=self._post,
            on_applied=self._requests.applied,
        )
        self._inbox: deque[events.Event] = deque()
        self._messages = 0
        self._outbox: Outbox | None = None
        self._wake = trio.Event()
        self._changed = trio.Event()
        self._last_write = 0
        self._saver = Saver(
            self._core,
            self._lane,
            machine,
            storage.save_snapshot,
            workers=ports.workers,
            post=self._post,
            log=self._log,
            every_entries=snapshot_entries,
        )
        self._nursery: trio.Nursery | None = None
        self._has_failed = False
        self._count: Counter[str] = Counter()
        self._traces: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<RaftNode {self._core!r} inbox={len(self._inbox)}>"

    # ------------------------------------------------------------------------------------------------------- asking

    async def propose(self, payload: bytes) -> Proposed:
        """Return when the command is agreed on and applied here.

        Raises Unavailable (code ``not_leader`` names the leader in its sentence; nothing happened), Overloaded or
        TooLarge (nothing happened), OutcomeUnknown (leadership was lost, or the node stops: it may still happen).
        """
        asked = self._requests.propose(payload)
        self._wake.set()
        answer = await asked.wait()
        assert isinstance(answer, Proposed), answer
        return answer

    def propose_soon(self, payload: bytes, then: Then) -> None:
        """`propose` for whoever has many at once, without a task for each.

        ``then`` hears a `Proposed`, or the error that `propose` would have raised. Raises Unavailable, Overloaded: it
        was not even queued.
        """
        self._requests.propose(payload, then)
        self._wake.set()

    async def read(self) -> int:
        """Return when the local state machine holds all that was agreed on before this call; its index then.

        Raises Unavailable: no leader confirmed it in time.
        """
        asked = self._requests.read()
        self._wake.set()
        answer = await asked.wait()
        assert isinstance(answer, out.Readable), answer
        return answer.index

    def read_soon(self, then: Then) -> None:
        """`read` without a task: ``then`` hears an `effects.Readable`, or the error. Raises Unavailable, Overloaded."""
        self._requests.read(then)
        self._wake.set()

    async def change(self, changes: Iterable[events.Change], *, expect_index: int | None = None) -> int:
        """Change who takes part; returns the index of the final configuration.

        Raises Unavailable, Conflict, InvalidRequest, OutcomeUnknown.
        """
        asked = self._requests.ask()
        self._post(events.ChangeMembers(asked, tuple(changes), expect_index))
        answer = await asked.wait()
        assert isinstance(answer, out.Committed), answer
        return answer.index

    async def transfer(self, target: Peer | None = None) -> Peer:
        """Hand leadership over, to ``target`` or to whoever holds most. Raises Unavailable."""
        asked = self._requests.ask()
        self._post(events.TransferLeadership(asked, target))
        answer = await asked.wait()
        assert isinstance(answer, out.Transferred), answer
        return answer.target

    async def snapshot(self) -> int:
        """Write a snapshot of the state machine now; returns the index it covers. Raises Unavailable, Overloaded."""
        if self._nursery is None:
            raise Unavailable("consensus is not running")
        return await self._saver.save()

    def status(self) -> Status:
        """What this node knows of the cluster."""
        return self._core.status()

    def others(self) -> tuple[Peer, ...]:
        """The other members of the configuration in force."""
        return tuple(peer for peer in members(self._state.history.current) if peer != self.me)

    @property
    def leader(self) -> Peer | None:
        """Who leads, as far as this node knows."""
        return self._core.leader

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows."""
        return self._core.is_leader

    async def wait_changed(self) -> None:
        """Return when role, term, leader or members have changed since the call."""
        await self._changed.wait()

    # ------------------------------------------------------------------------------------------------------ network

    def receive(self, message: Message) -> None:
        """A message came from the network, whole. Dropped and counted when too many wait."""
        if self._messages >= INBOX_MESSAGES_MAX or self._nursery is None:
            self._count["dropped"] += 1
            return
        self._messages += 1
        self._count["received"] += 1
        self._post(events.Receive(message))

    def unreachable(self, peer: Peer) -> None:
        """The connection to a peer broke."""
        self._post(events.Unreachable(peer))

    # -------------------------------------------------------------------------------------------------------- running

    async def run(
        self, send: Callable[[Message], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Take part until cancelled. Raises DiskFailed, Corrupt; an AssertionError is our own bug. The node stops.

        Started when it listens: it knows of a leader only later. An orderly end leaves a snapshot and a closed log.
        """
        self._outbox = Outbox(send)
        newest = self._storage.stored.snapshot
        if newest is not None and newest.index:
            await self._lane.load(newest)
            self._saver.installed(newest.index)
        if self._is_alone():
            self._post(events.Campaign())  # Nobody else could lead: no need to wait for silence.
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for part in (self._disk.run, self._lane.run, self._serve):
                    nursery.start_soon(self._watched, part)
                self._requests.closed_because = None
                task_status.started()
        finally:
            self._nursery = None
            self._requests.close("consensus failed on this node" if self._has_failed else "the node is stopping")
            if not self._has_failed:
                with trio.CancelScope(shield=True):
                    await self._leave()

    async def _watched(self, part: Callable[[], Awaitable[None]]) -> None:
        """Note a failure: what it cancels beside it has not ended in order."""
        try:
            await part()
        except Exception:
            self._has_failed = True
            raise

    def counts(self) -> Counts:
        """Counters since the start."""
        count = self._count
        return Counts(
            steps=count["steps"],
            proposals=count["proposals"],
            writes=self._disk.writes_total,
            disk_groups=self._disk.groups_total,
            messages_sent=self._outbox.sent_total if self._outbox is not None else 0,
            messages_received=count["received"],
            messages_dropped=count["dropped"],
            snapshots=self._saver.saved_total,
            inbox=len(self._inbox),
            waiting=len(self._requests.waiting),
            held=self._outbox.held if self._outbox is not None else 0,
            applied=self._lane.applied,
            traces=dict(sorted(self._traces.items())),
        )

    # ------------------------------------------------------------------------------------------------------- turning

    async def _serve(self) -> None:
        while True:
            if self._inbox or self._requests.waiting or self._requests.readers:
                await trio.lowlevel.checkpoint()
            else:
                await self._sleep()
            for _ in range(EVENTS_PER_TURN):
                if not self._inbox:
                    break
                self._step(self._inbox.popleft())  # May post: what was applied at once is told in the same turn.
            if self._requests.waiting:
                batch = self._requests.take_batch()
                self._count["proposals"] += len(batch)
                if batch:  # Not if every caller has gone.
                    self._step(events.Propose(batch))
            if self._requests.readers:
                self._step(events.Read(self._requests.take_readers()))
            due, now = self._core.deadline, self._ports.clock.now()
            if due is not None and now >= due:
                self._step(events.Tick())

    async def _sleep(self) -> None:
        """Until something is posted, or the core wants to look at the clock."""
        self._wake = trio.Event()
        due = self._core.deadline
        if due is None:
            await self._wake.wait()
        else:
            with trio.move_on_after(max(0.0, due - self._ports.clock.now())):
                await self._wake.wait()

    def _post(self, event: events.Event) -> None:
        self._inbox.append(event)
        self._wake.set()

    def _step(self, event: events.Event) -> None:
        assert self._outbox is not None
        if type(event) is events.Receive:
            self._messages -= 1
        elif type(event) is events.WriteRefused:
            self._outbox.refused(event.write_id)
            self._disk.told_full(self._last_write)
        now = self._ports.clock.now()
        if type(event) is events.Tick:
            now = max(now, (self._core.deadline or now) + 1e-9)  # Sums of times are rounded; early ticks would repeat.
        self._count["steps"] += 1
        for effect in self._core.step(event, now):
            _DO[type(effect)](self, effect)
        if type(event) is events.Persisted:
            self._outbox.persisted(event.write_id, self._core.term)
        elif type(event) is events.SpaceAgain and self._is_alone():
            self._post(events.Campaign())
        elif type(event) is events.Applied and self._saver.is_due:
            assert self._nursery is not None
            self._nursery.start_soon(self._watched, self._saver.save_if_room)

    # -------------------------------------------------------------------------------------------------------- effects

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
        assert self._outbox is not None
        self._outbox.put(effect.message, effect.after)

    def _do_answer(self, effect: out.Answer) -> None:
        assert isinstance(effect.request, Asked), effect
        result = effect.result
        if result == out.NotLeader(None) and not self._state.has_space:
            result = out.Refused("no_space", "this node's disk is full, and nobody else leads")
        self._requests.answered(effect.request, result, self._lane.applied)

    def _do_trace(self, effect: out.Trace) -> None:
        name, detail = effect
        self._traces[name] += 1
        if name in ("role", "membership", "membership_committed"):
            self._changed.set()
            self._changed = trio.Event()
        if name == "repaired":
            self._disk.put(Repaired())
        if name in _TOLD:
            said = ", ".join(each.name.lower() if isinstance(each, Role) else str(each) for each in detail)
            getattr(self._log, _TOLD[name])(f"raft_{name}", detail=said, term=self._core.term)

    def _is_alone(self) -> bool:
        return self._state.history.current.voters == (self.me,) and not self._state.history.current.outgoing

    async def _leave(self) -> None:
        if self._saver.is_useful:
            await self._saver.save_if_room()
        await self._ports.workers.run(self._storage.close)


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

_DO: dict[type, Callable[[RaftNode, Any], None]] = {
    out.Write: RaftNode._do_write,
    out.Send: RaftNode._do_send,
    out.Apply: RaftNode._do_apply,
    out.Restore: RaftNode._do_apply,
    out.ReadEntries: RaftNode._do_disk,
    out.Compact: RaftNode._do_disk,
    out.SnapshotRead: RaftNode._do_disk,
    out.SnapshotStore: RaftNode._do_disk,
    out.Answer: RaftNode._do_answer,
    out.Trace: RaftNode._do_trace,
}
