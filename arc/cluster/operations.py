"""What an operator sees of the cluster on one node and can ask of it: the other side of the cluster's pages.

Looking never waits and never fails. An order is carried out by the part whose matter it is; here it is only found, and
its outcome put into words of the catalog. Orders that only the leader can carry out say who leads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import trio

from arc.catalog.cluster import ClusterFacts
from arc.catalog.commands import COMPACTOR, WRITER, AssignLease, SetNodeState
from arc.catalog.facts import Catalog
from arc.catalog.leases import Lease
from arc.catalog.roles import NodeState
from arc.cluster.failover_managers import LeaseManager
from arc.cluster.health import HealthChecker
from arc.cluster.node_events import NodeEvent, NodeEventKind
from arc.cluster.outlook import SILENT, FollowerLag, Outlook
from arc.cluster.registrar import Propose
from arc.cluster.registry import Registry
from arc.errors import ArcError, Conflict, NodeNotFound, NotFound
from arc.ids import Epoch, NodeId
from arc.license import License
from arc.ports import Clock
from arc.raft.status import Status
from arc.raft.types import Peer

OBSERVATIONS_MAX = 1_000
"""The oldest is forgotten first; the catalog keeps what was agreed on for good."""


class Members(Protocol):
    """`arc.cluster.membership.Membership`."""

    async def add(self, address: str, *, as_learner: bool) -> tuple[Peer, int]:
        """Take in the node at an address."""
        ...

    async def remove(self, name: str) -> int:
        """Let go of a node."""
        ...


class Raft(Protocol):
    """What is asked of `arc.raft.node.RaftNode`."""

    @property
    def me(self) -> Peer:
        """This node."""
        ...

    @property
    def leader(self) -> Peer | None:
        """Who leads, as far as this node knows."""
        ...

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows."""
        ...

    def status(self) -> Status:
        """One look."""
        ...

    async def transfer(self, target: Peer | None = None) -> Peer:
        """Hand leadership over."""
        ...

    async def wait_changed(self) -> None:
        """Return when role, term, leader or members have changed since the call."""
        ...


class OnlyThere(Protocol):
    """`arc.node.farewell.Farewells`."""

    async def __call__(self, name: str, /) -> tuple[int, str]:
        """How many files are on that node alone, and the first of them. Raises ArcError: it does not say."""
        ...


class Converge(Protocol):
    """Brings the voters to what the rule of roles wants."""

    async def __call__(self, *, dry_run: bool, allow_single_voter: bool) -> Mapping[str, object]:
        """What was or would be done, for JSON."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeOrders:
    """Orders about the life of the cluster and of this node in it, each carried out elsewhere.

    ``found`` makes this node the first member, ``leave`` hands over what it holds and goes.
    """

    found: Callable[[], Awaitable[ClusterFacts]]
    leave: Callable[[], Awaitable[None]]
    converge: Converge


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """Something that this node saw of another one; never agreed on. ``sequence`` counts from 1 in this process."""

    sequence: int
    at_us: int
    node: str
    kind: str
    words: str


class Operations:
    """One per node. ``managers`` by lease; ``lags`` is of the rows, ``catch_up`` of the files, ``router`` of what was
    routed; each says None or nothing where there is no such part. ``behind`` says why this node may not know
    everything. ``under_replicated`` counts files of which fewer than ``copies_wanted`` of the living nodes have a copy.
    ``only_there`` is asked of a node that lives and is to be removed.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        checker: HealthChecker,
        managers: Mapping[str, LeaseManager],
        raft: Raft,
        members: Members,
        propose: Propose,
        life: LifeOrders,
        catalog: Callable[[], Catalog],
        clock: Clock,
        licence: License,
        compactor_kept_seconds: float,
        lags: Callable[[], Sequence[FollowerLag]] = lambda: (),
        router: Callable[[], Mapping[str, object] | None] = lambda: None,
        catch_up: Callable[[], Mapping[str, object] | None] = lambda: None,
        behind: Callable[[], str | None] = lambda: None,
        under_replicated: Callable[[Collection[str]], int] = lambda living: 0,
        copies_wanted: int = 1,
        only_there: OnlyThere,
    ) -> None:
        self._registry = registry
        self._checker = checker
        self._managers = managers
        self._raft = raft
        self._members = members
        self._propose = propose
        self._life = life
        self._catalog = catalog
        self._clock = clock
        self._licence = licence
        self._compactor_kept_seconds = compactor_kept_seconds
        self._lags = lags
        self._router = router
        self._catch_up = catch_up
        self._behind = behind
        self._under_replicated = under_replicated
        self._copies_wanted = copies_wanted
        self._only_there = only_there
        self._is_running = False
        self._observed: deque[Observation] = deque(maxlen=OBSERVATIONS_MAX)
        self._sequence = 0
        self._leader: Peer | None = None
        self._leader_since_us: int | None = None

    def __repr__(self) -> str:
        return f"<Operations leader={self._leader} observed={self._sequence}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Note what happens, until cancelled."""
        with self._registry.events().subscribe() as notices:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_leader)
                self._is_running = True
                task_status.started()
                try:
                    async for notice in notices:
                        for event in notice.events:
                            self._note(event)
                finally:
                    self._is_running = False

    # --------------------------------------------------------------------------------------------------------- looking

    def look(self) -> Outlook:
        """Everything that is known now, at one moment."""
        catalog, leader = self._catalog(), self._raft.leader
        nodes = tuple(self._registry.all())
        living = [view.name for view in nodes if view.is_local or view.state not in SILENT]
        return Outlook(
            me=self._raft.me.name,
            now_us=self._clock.wall_us(),
            identity=catalog.cluster,
            nodes=nodes,
            consensus=self._raft.status(),
            leader_since_us=self._leader_since_us if leader is not None and leader == self._leader else None,
            leases=catalog.leases,
            history=catalog.history,
            in_sync=catalog.in_sync,
            lags={lag.name: lag for lag in self._lags()},
            plans={lease: manager.explain() for lease, manager in self._managers.items()},
            licence=self._licence,
            behind=self._behind(),
            is_running=self._is_running,
            router=self._router(),
            catch_up=self._catch_up(),
            files_under_replicated=self._under_replicated(living),
            copies_wanted=self._copies_wanted,
            clock_ahead_seconds=self._registry.clock_ahead_seconds(),
        )

    def observed(self) -> tuple[Observation, ...]:
        """What was seen of other nodes: the last ones, oldest first."""
        return tuple(self._observed)

    def health_checker(self) -> dict[str, object]:
        """The health checker: Arc's keys, then what it counted."""
        return {**self._checker.status(), **asdict(self._checker.statistics())}

    # --------------------------------------------------------------------------------------------------------- orders

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Let go of a node; one that lives only if nothing goes with it, or by ``force``.

        Raises NodeNotFound, NotLeading, Conflict (code ``holds_lease``, ``files_held``, ``node_alive``: it would not
        say; or what `Membership.remove` says), Unavailable, OutcomeUnknown.
        """
        if not force and self._raft.is_leader and name != self._raft.me.name:
            await self._require_expendable(name)
        try:
            await self._members.remove(name)
        except NotFound as error:
            raise NodeNotFound(error.message) from error

    async def _require_expendable(self, name: str) -> None:
        """Raises Conflict."""
        view = self._registry.get(name)
        if view is None or view.state in SILENT:
            return
        remedy = f"let it leave (arc cluster leave, at {name}), or remove it with force"
        held = self._catalog().leases.get(WRITER)
        if held is not None and held.holder == name:
            raise Conflict(
                f"{name} lives and holds the writer lease; hand it over first (arc cluster drain {name}), {remedy}",
                code="holds_lease",
            )
        try:
            count, first = await self._only_there(name)
        except ArcError as error:
            raise Conflict(
                f"{name} lives and does not say whether others have its files ({error.message}); {remedy}",
                code="node_alive",
            ) from error
        if count:
            raise Conflict(
                f"{name} lives, and {count} file(s) that nobody else has would go with it ({first} is one); {remedy}",
                code="files_held",
            )

    async def set_state(self, name: str, state: NodeState) -> None:
        """Have a state of a node agreed on. Raises NodeNotFound, Conflict, InvalidRequest, Unavailable,
        OutcomeUnknown.
        """
        record = self._catalog().nodes.get(name)
        if record is None:
            raise NodeNotFound(f"there is no node {name!r} in this cluster")
        command = SetNodeState(name=record.name, incarnation=record.incarnation, state=state.value)
        (await self._propose.propose(command)).unwrap()

    async def drain(self, name: str) -> None:
        """Give the node nothing new; it stays a member. Its leases go by themselves, and so does its leadership here.

        Raises as `set_state`.
        """
        await self.set_state(name, NodeState.LEAVING)
        if self._raft.is_leader and self._raft.me.name == name:
            await self._raft.transfer()

    async def undrain(self, name: str) -> None:
        """Give the node work again. Raises as `set_state`."""
        await self.set_state(name, NodeState.HEALTHY)

    async def failover(self, lease: str, target: str | None, *, reason: str) -> Lease:
        """Hand a lease over in order, to ``target`` or to the best candidate; nothing acknowledged is lost.

        Raises NotFound, Conflict, Unavailable (code ``not_leader``, ``no_candidate``), OutcomeUnknown.
        """
        manager = self._managers.get(lease)
        if manager is None:
            raise Conflict(f"nothing manages a lease {lease!r} here", code="lease_not_managed")
        return await manager.trigger_manual_failover(NodeId(target) if target is not None else None, reason)

    async def promote(self, name: str, *, reason: str) -> Lease:
        """Make a node the writer though it may lack acknowledged rows; the history says so.

        Raises NodeNotFound, Conflict, Unavailable, OutcomeUnknown.
        """
        catalog = self._catalog()
        if name not in catalog.nodes:
            raise NodeNotFound(f"there is no node {name!r} in this cluster")
        command = AssignLease(
            lease=WRITER,
            node=NodeId(name),
            expect_epoch=catalog.lease_epoch(WRITER),
            reason=reason,
            at_us=self._clock.wall_us(),
            accepts_data_loss=True,
        )
        result = await self._propose.propose(command)
        result.unwrap()
        return Lease(WRITER, command.node, Epoch(result.index), command.at_us, reason)

    async def assign_compactor(self, name: str) -> tuple[Lease, float]:
        """Give the compactor's lease to a node; and for how many seconds it is then left there. Raises as
        `failover`.
        """
        return await self.failover(COMPACTOR, name, reason="an operator assigned it"), self._compactor_kept_seconds

    async def converge_voters(self, *, dry_run: bool, allow_single_voter: bool) -> Mapping[str, object]:
        """Make the voters those that the rule of roles wants; what was or would be done, for JSON."""
        return await self._life.converge(dry_run=dry_run, allow_single_voter=allow_single_voter)

    async def transfer_leadership(self, target: str | None) -> Peer:
        """Hand leadership to ``target``, or to whoever holds most; who got it. Raises NodeNotFound, Unavailable."""
        if target is None:
            return await self._raft.transfer()
        voters = self._raft.status().configuration.voters
        chosen = next((peer for peer in voters if peer.name == target), None)
        if chosen is None:
            raise NodeNotFound(f"{target!r} does not vote, so it cannot lead")
        return await self._raft.transfer(chosen)

    async def found(self) -> ClusterFacts:
        """Found the cluster with this node as its first member."""
        return await self._life.found()

    async def leave(self) -> None:
        """Hand over what this node holds, and be no member any more."""
        await self._life.leave()

    # ---------------------------------------------------------------------------------------------------------- inside

    async def _watch_leader(self) -> None:
        while True:
            if self._raft.leader != self._leader:
                self._leader = self._raft.leader
                self._leader_since_us = self._clock.wall_us() if self._leader is not None else None
            await self._raft.wait_changed()

    def _note(self, event: NodeEvent) -> None:
        self._sequence += 1
        self._observed.append(
            Observation(
                sequence=self._sequence,
                at_us=self._clock.wall_us(),
                node=event.name,
                kind=f"node_{event.kind}",
                words=f"{event.name} {_WORDS[event.kind]}",
            )
        )


_WORDS = {
    NodeEventKind.JOINED: "joined the cluster",
    NodeEventKind.LEFT: "left the cluster",
    NodeEventKind.HEALTHY: "is healthy",
    NodeEventKind.UNHEALTHY: "does not answer",
    NodeEventKind.DEAD: "has not answered for so long that it counts as dead",
}
