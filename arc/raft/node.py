"""The driver: a core in a nursery with a clock, a disk lane, an apply lane and a network. READ AFTER `core`.

Here is what others ask of it and what it tells of itself, and its life from what is on the disk to the last snapshot.
What happens in between, one turn after the other, is `turning`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

import trio

from arc.errors import Corrupt, DiskFailed, Unavailable
from arc.ports import Ports
from arc.raft import effects as out
from arc.raft import events
from arc.raft.applylane import ApplyLane, StateMachine
from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.disklane import DiskLane, Storage
from arc.raft.membership import members
from arc.raft.messages import Message
from arc.raft.outbox import Outbox
from arc.raft.requests import Proposed, Requests, Then
from arc.raft.saver import Saver, SaveSnapshot
from arc.raft.status import Status
from arc.raft.turning import Inbox, Turning
from arc.raft.types import Peer, Role, SnapshotMeta, Stored
from arc.telemetry import Distribution, Log

INBOX_MESSAGES_MAX = 10_000
"""Messages of peers that wait for the core; more are dropped, as networks do, and counted."""


class OpenStorage(Storage, Protocol):
    """What the driver needs of `arc.raft.storage.RaftStorage` besides its lane."""

    stored: Stored

    @property
    def save_snapshot(self) -> SaveSnapshot:
        """Write a snapshot."""
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


class Durations(NamedTuple):
    """How long the disk took: for durable writes of the log, a group each, and for snapshots that were saved."""

    write_seconds: Distribution
    snapshot_seconds: Distribution


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
        self._inbox = Inbox()
        self._disk = DiskLane(storage, ports.workers, ports.clock, self._inbox.post)
        self._lane = ApplyLane(
            machine,
            clock=ports.clock,
            workers=ports.workers,
            load=storage.load_snapshot,
            post=self._inbox.post,
            on_applied=self._requests.applied,
        )
        self._saver = Saver(
            self._core,
            self._lane,
            machine,
            storage.save_snapshot,
            workers=ports.workers,
            clock=ports.clock,
            post=self._inbox.post,
            log=self._log,
            every_entries=snapshot_entries,
        )
        self._turning = Turning(
            self._core,
            self._inbox,
            self._requests,
            disk=self._disk,
            lane=self._lane,
            saver=self._saver,
            save=self._save,
            clock=ports.clock,
            log=self._log,
        )
        self._nursery: trio.Nursery | None = None
        self._has_failed = False
        self._received = self._dropped = 0

    def __repr__(self) -> str:
        return f"<RaftNode {self._core!r} inbox={len(self._inbox.events)}>"

    # ------------------------------------------------------------------------------------------------------- asking

    async def propose(self, payload: bytes) -> Proposed:
        """Return when the command is agreed on and applied here.

        Raises Unavailable (code ``not_leader`` names the leader in its sentence; nothing happened), Overloaded or
        TooLarge (nothing happened), OutcomeUnknown (leadership was lost, or the node stops: it may still happen).
        """
        asked = self._requests.propose(payload)
        self._inbox.ring()
        answer = await asked.wait()
        assert isinstance(answer, Proposed), answer
        return answer

    def propose_soon(self, payload: bytes, then: Then) -> None:
        """`propose` for whoever has many at once, without a task for each.

        ``then`` hears a `Proposed`, or the error that `propose` would have raised. Raises Unavailable, Overloaded: it
        was not even queued.
        """
        self._requests.propose(payload, then)
        self._inbox.ring()

    async def read(self) -> int:
        """Return when the local state machine holds all that was agreed on before this call; its index then.

        Raises Unavailable: no leader confirmed it in time.
        """
        asked = self._requests.read()
        self._inbox.ring()
        answer = await asked.wait()
        assert isinstance(answer, out.Readable), answer
        return answer.index

    def read_soon(self, then: Then) -> None:
        """`read` without a task: ``then`` hears an `effects.Readable`, or the error. Raises Unavailable, Overloaded."""
        self._requests.read(then)
        self._inbox.ring()

    async def change(self, changes: Iterable[events.Change], *, expect_index: int | None = None) -> int:
        """Change who takes part; returns the index of the final configuration.

        Raises Unavailable, Conflict, InvalidRequest, OutcomeUnknown.
        """
        asked = self._requests.ask()
        self._inbox.post(events.ChangeMembers(asked, tuple(changes), expect_index))
        answer = await asked.wait()
        assert isinstance(answer, out.Committed), answer
        return answer.index

    async def transfer(self, target: Peer | None = None) -> Peer:
        """Hand leadership over, to ``target`` or to whoever holds most. Raises Unavailable."""
        asked = self._requests.ask()
        self._inbox.post(events.TransferLeadership(asked, target))
        answer = await asked.wait()
        assert isinstance(answer, out.Transferred), answer
        return answer.target

    async def snapshot(self) -> int:
        """Write a snapshot of the state machine now; returns the index it covers. Raises Unavailable, Overloaded."""
        nursery = self._nursery
        if nursery is None:
            raise Unavailable("consensus is not running")
        try:
            return await self._saver.save()
        except (DiskFailed, Corrupt) as failure:
            # Whoever asked is told, and the node stops: a disk that failed once is not written to again.
            nursery.start_soon(self._watched, partial(_fail, failure))
            raise Unavailable(f"the snapshot failed, and this node stops: {failure.message}") from failure

    def status(self) -> Status:
        """What this node knows of the cluster."""
        return self._core.status()

    def others(self) -> tuple[Peer, ...]:
        """The other members of the configuration in force."""
        return tuple(peer for peer in members(self._state.history.current) if peer != self.me)

    def voters(self) -> frozenset[str]:
        """Names of those that vote in the configuration in force."""
        current = self._state.history.current
        return frozenset(peer.name for peer in (*current.voters, *current.outgoing))

    def silent_seconds(self) -> float:
        """How long ago the leader was heard; on the leader, how long ago it sent what a quorum answered last.

        Who led until just now counts from there: it heard no leader since it became one itself.
        """
        led_at, now = self._turning.led_at, self._ports.clock.now()
        return now - led_at if self._state.role is Role.LEADER else now - max(self._state.contact_at, led_at)

    @property
    def leader(self) -> Peer | None:
        """Who leads, as far as this node knows."""
        return self._core.leader

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows."""
        return self._core.is_leader

    def counts(self) -> Counts:
        """Counters since the start."""
        turning, outbox = self._turning, self._turning.outbox
        return Counts(
            steps=turning.steps_total,
            proposals=turning.proposals_total,
            writes=self._disk.writes_total,
            disk_groups=self._disk.groups_total,
            messages_sent=outbox.sent_total if outbox is not None else 0,
            messages_received=self._received,
            messages_dropped=self._dropped,
            snapshots=self._saver.saved_total,
            inbox=len(self._inbox.events),
            waiting=len(self._requests.waiting),
            held=outbox.held if outbox is not None else 0,
            applied=self._lane.applied,
            traces=dict(sorted(turning.traces.items())),
        )

    def durations(self) -> Durations:
        """Since the start."""
        return Durations(self._disk.seconds.statistics(), self._saver.seconds.statistics())

    async def wait_changed(self) -> None:
        """Return when role, term, leader or members have changed since the call."""
        await self._turning.changed.wait()

    # ------------------------------------------------------------------------------------------------------ network

    def receive(self, message: Message) -> None:
        """A message came from the network, whole. Dropped and counted when too many wait."""
        if self._inbox.messages >= INBOX_MESSAGES_MAX or self._nursery is None:
            self._dropped += 1
            return
        self._inbox.messages += 1
        self._received += 1
        self._inbox.post(events.Receive(message))

    def unreachable(self, peer: Peer) -> None:
        """The connection to a peer broke."""
        self._inbox.post(events.Unreachable(peer))

    # -------------------------------------------------------------------------------------------------------- running

    async def run(
        self, send: Callable[[Message], None], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Take part until cancelled. Raises DiskFailed, Corrupt; an AssertionError is our own bug. The node stops.

        Started when it listens: it knows of a leader only later. An orderly end leaves a snapshot and a closed log.
        """
        self._turning.outbox = Outbox(send)
        newest = self._storage.stored.snapshot
        if newest is not None and newest.index:
            await self._lane.load(newest)
            self._saver.installed(newest.index)
        if self._turning.is_alone:
            self._inbox.post(events.Campaign())  # Nobody else could lead: no need to wait for silence.
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for part in (self._disk.run, self._lane.run, self._turning.run):
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

    def _save(self) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._watched, self._saver.save_if_room)

    async def _leave(self) -> None:
        if self._saver.is_useful:
            await self._saver.save_if_room()
        await self._ports.workers.run(self._storage.close)


async def _fail(failure: Exception) -> None:
    raise failure
