"""The nodes as this node sees them: what was agreed on, joined with what was heard.

Members, roles and leases come from the catalog, the one source of truth (P-18): nothing is registered here, so nothing
can be registered wrongly. What was heard (signs of life, numbers, the verdicts of health checks) is this node's own,
never agreed on, and forgotten with the incarnation it is about. Every answer is a value made anew, sorted by name.

Nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import trio

from arc.catalog.events import NodeDescribed, NodeForgotten
from arc.catalog.facts import Catalog
from arc.catalog.nodes import NodeRecord
from arc.catalog.roles import NodeRole, NodeState, WriterState
from arc.catalog.values import COMPACTOR, WRITER
from arc.cluster.clocks import earliest_us
from arc.cluster.feed import Feed
from arc.cluster.judging import Health, HealthConfig, Transition, moved
from arc.cluster.memories import Memories, SessionSeen, Told
from arc.cluster.node_events import NodeEvents, NodeSubscription, Seen
from arc.cluster.views import NodeStats, NodeView
from arc.errors import TooManyNodes
from arc.ids import NodeId
from arc.ports import Clock
from arc.raft.types import Peer

DEFAULT_MAX_NODES = 1000
"""Nodes a registry takes; the catalog has a lower limit of its own, `arc.catalog.nodes.NODES_MAX`."""

SMALL_CLUSTER_NODES = 8
"""Up to so many nodes everybody watches everybody closely: 56 heartbeats every quarter of a second at the most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """What this node knows of itself without asking anybody."""

    name: NodeId
    incarnation: int
    role: NodeRole
    address: str = ""
    api_address: str = ""
    version: str = ""
    cores: int = 0
    started_us: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryStatistics:
    """``heartbeats_unknown_total``: from nodes that are no members, or another incarnation than the member."""

    nodes: int
    healthy: int
    heartbeats_total: int
    heartbeats_unknown_total: int
    events_total: int
    folds_total: int


class Registry:
    """Everything that is known of the nodes.

    ``sessions`` are the open sessions by the name of the peer, ``voters`` and ``leader`` are consensus', all as of now;
    ``local_stats`` is cheap.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        local: LocalNode,
        clock: Clock,
        config: HealthConfig,
        sessions: Callable[[], Mapping[str, SessionSeen]],
        voters: Callable[[], Collection[str]],
        leader: Callable[[], str | None],
        local_stats: Callable[[], NodeStats] = NodeStats,
        nodes_max: int = DEFAULT_MAX_NODES,
    ) -> None:
        self._feed = feed
        self._local = local
        self._clock = clock
        self._voters = voters
        self._leader = leader
        self._local_stats = local_stats
        self._nodes_max = nodes_max
        self._memories = Memories(clock, config, sessions)
        self._since = clock.now()
        self._heartbeats = self._unknown = 0
        self._events = NodeEvents(self._sight())

    def __repr__(self) -> str:
        states = " ".join(f"{name}={seen.state}" for name, seen in self._sight().items())
        return f"<Registry of {self._local.name}: {states}>"

    # ------------------------------------------------------------------------------------------------------- questions

    @property
    def catalog(self) -> Catalog:
        """The version of the catalog that answers go by."""
        return self._feed.catalog

    def get(self, name: str) -> NodeView | None:
        """One node."""
        record = self.catalog.nodes.get(name)
        if record is not None:
            return self._view(record, _Context.of(self))
        return self.local() if name == self._local.name else None

    def local(self) -> NodeView:
        """This node; it is known even before the cluster knows it."""
        return self._view(self._local_record(), _Context.of(self))

    def all(self) -> list[NodeView]:
        """Every node, this one among them."""
        context = _Context.of(self)
        return [self._view(record, context) for record in self._records()]

    def by_role(self, role: NodeRole) -> list[NodeView]:
        """Nodes of a role, in whatever state."""
        return [view for view in self.all() if view.role is role]

    def by_state(self, state: NodeState) -> list[NodeView]:
        """Nodes in a state."""
        return [view for view in self.all() if view.state is state]

    def healthy(self) -> list[NodeView]:
        """Nodes that are well."""
        return [view for view in self.all() if view.is_healthy]

    def available(self) -> list[NodeView]:
        """Nodes that may be sent work: healthy or joining."""
        return [view for view in self.all() if view.is_available]

    def writers(self) -> list[NodeView]:
        """Healthy nodes of role writer."""
        return [view for view in self.by_role(NodeRole.WRITER) if view.is_healthy]

    def readers(self) -> list[NodeView]:
        """Healthy nodes of role reader."""
        return [view for view in self.by_role(NodeRole.READER) if view.is_healthy]

    def compactors(self) -> list[NodeView]:
        """Healthy nodes of role compactor."""
        return [view for view in self.by_role(NodeRole.COMPACTOR) if view.is_healthy]

    def primary_writer(self) -> NodeView | None:
        """The node that holds the writer lease, in whatever state it is; None when nobody does or it left."""
        lease = self.catalog.leases.get(WRITER)
        return None if lease is None else self.get(lease.holder)

    def standby_writers(self) -> list[NodeView]:
        """Healthy nodes that may ingest and do not hold the writer lease."""
        return [view for view in self.healthy() if view.writer_state is WriterState.STANDBY]

    def count(self) -> int:
        """How many nodes there are."""
        return len(self._records())

    def count_by_role(self, role: NodeRole) -> int:
        """How many nodes have a role, in whatever state."""
        return sum(record.role == role for record in self._records())

    def count_healthy(self) -> int:
        """How many nodes are well."""
        return sum(seen.state is NodeState.HEALTHY for seen in self._sight().values())

    def last_heartbeat_us(self, name: str) -> int:
        """When the last heartbeat of a node arrived, wall clock; 0 when none did."""
        view = self.get(name)
        return 0 if view is None else view.last_heartbeat_us

    def summary(self) -> dict[str, int]:
        """Counts for status pages. ``unhealthy`` is whoever is not healthy; roles count in whatever state."""
        healthy, total = self.count_healthy(), self.count()
        return {
            "total": total,
            "healthy": healthy,
            "unhealthy": total - healthy,
            "writers": self.count_by_role(NodeRole.WRITER),
            "readers": self.count_by_role(NodeRole.READER),
            "compactors": self.count_by_role(NodeRole.COMPACTOR),
            "standalone": self.count_by_role(NodeRole.STANDALONE),
        }

    def watchers(self) -> frozenset[str]:
        """Nodes that are told at the full pace: voters, any of which may have to decide, and holders of leases."""
        return watchers(self.catalog, self._voters())

    def is_watcher(self) -> bool:
        """Whether this node is one of them."""
        return self._local.name in self.watchers()

    def require_room(self, name: str) -> None:
        """Raise TooManyNodes unless the node is known or one more finds place."""
        if self.get(name) is None and self.count() >= self._nodes_max:
            raise TooManyNodes(f"there are {self.count()} nodes, which is the limit; remove those that are gone")

    def events(self) -> NodeEvents:
        """Who joined, left, fell ill or got well: ``with registry.events().subscribe() as notices``."""
        return self._events

    def statistics(self) -> RegistryStatistics:
        """Counters since the start."""
        return RegistryStatistics(
            nodes=self.count(),
            healthy=self.count_healthy(),
            heartbeats_total=self._heartbeats,
            heartbeats_unknown_total=self._unknown,
            events_total=self._events.events_total,
            folds_total=self._events.folds_total,
        )

    # -------------------------------------------------------------------------------------------------- what is heard

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell subscribers of nodes that come, change or go, until cancelled."""
        with self._feed.subscribe() as changes:
            self.publish()
            task_status.started()
            async for change in changes:
                if any(isinstance(event, NodeDescribed | NodeForgotten) for event in change.events):
                    self.publish()

    def listen(self) -> None:
        """Note what was heard on the sessions until now, for views and checks; every round of checks begins with it."""
        self._memories.listen(self._others())

    def record_heartbeat(self, peer: Peer, told: Told) -> bool:
        """Note a heartbeat; says whether it came from a member. The sender's state is none of its business (P-37)."""
        record = self._other(peer.name)
        if record is None or record.incarnation != peer.incarnation:
            self._unknown += 1
            return False
        self._heartbeats += 1
        self._memories.heartbeat(record, told)
        return True

    def session_broke(self, name: str) -> bool:
        """Note that the session to a node broke; says whether that is news: something was heard since the last time."""
        record = self._other(name)
        if record is None:
            return False
        self.listen()
        return self._memories.session_broke(record)

    def is_fresh(self, name: str, *, is_watching: bool = True) -> bool:
        """Whether a sign of life of a node is younger than the time-out; False for an unknown one."""
        self.listen()
        record = self._other(name)
        return name == self._local.name or (
            record is not None and self._memories.is_fresh(record, is_watching=is_watching)
        )

    def process_health_check(self, name: str, *, is_watching: bool = True, is_late: bool = False) -> Transition | None:
        """Check another node once; what changed by it, None when nothing did or the node is unknown.

        Whoever checks a round of nodes calls `publish` at its end.
        """
        record = self._other(name)
        return None if record is None else self._memories.check(record, is_watching=is_watching, is_late=is_late)

    def publish(self) -> None:
        """Tell subscribers what is true now, and forget what was heard of nodes that are gone."""
        self._memories.keep(self.catalog.nodes)
        self._events.publish(self._sight())

    def others(self) -> list[NodeId]:
        """Names of all other nodes."""
        return [record.name for record in self._others()]

    def clocks_us(self) -> dict[str, int | None]:
        """What other nodes' wall clocks say now, as far as they told this process; None of who has not, also of one
        that is dead. Of a node that all others left: what theirs say, as far as they had told it.
        """
        return self._memories.clocks_us(self._others())

    def earliest_us(self) -> int:
        """What the clock that is furthest behind says, of those that are known. Raises Unavailable (`clocks`)."""
        return earliest_us(self._clock.wall_us(), self.clocks_us())

    def clock_ahead_seconds(self) -> float:
        """How far this node's clock is ahead of what others told that have all left; 0 where others are there."""
        return 0.0 if self._others() else (self._clock.wall_us() - self.earliest_us()) / 1e6

    # ---------------------------------------------------------------------------------------------------------- inside

    def _other(self, name: str) -> NodeRecord | None:
        """A member other than this node."""
        return None if name == self._local.name else self.catalog.nodes.get(name)

    def _others(self) -> list[NodeRecord]:
        return [record for record in self._records() if record.name != self._local.name]

    def _records(self) -> list[NodeRecord]:
        nodes = self.catalog.nodes
        known = [record for _, record in sorted(nodes.items())]
        if self._local.name not in nodes:
            known.append(self._local_record())
            known.sort(key=lambda record: record.name)
        return known

    def _local_record(self) -> NodeRecord:
        """This node as agreed on; before that as it knows itself. Who holds a lease undescribed is a node alone."""
        described = self.catalog.nodes.get(self._local.name)
        if described is not None:
            return described
        local, lease = self._local, self.catalog.leases.get(WRITER)
        is_alone = not self.catalog.nodes and lease is not None and lease.holder == local.name
        return NodeRecord(
            local.name,
            local.incarnation,
            local.address,
            local.role.value,
            local.api_address,
            local.version,
            local.cores,
            (NodeState.HEALTHY if is_alone else NodeState.JOINING).value,
        )

    def _sight(self) -> Mapping[NodeId, Seen]:
        return MappingProxyType(
            {record.name: Seen(record.incarnation, self._state(record)) for record in self._records()}
        )

    def _state(self, record: NodeRecord) -> NodeState:
        return NodeState(record.state) if record.name == self._local.name else self._memories.state(record)

    def _view(self, record: NodeRecord, context: _Context) -> NodeView:
        is_local = record.name == self._local.name
        memory = None if is_local else self._memories.of(record)
        heard_at = None if memory is None else memory.heard_at
        role, state = NodeRole(record.role), self._state(record)
        health = moved(memory.health, state, context.now) if memory is not None else Health(since=self._since)
        wall_us = self._clock.wall_us()
        is_primary = record.name == context.writer
        can_ingest = role.capabilities.can_ingest
        standby = WriterState.STANDBY if can_ingest else WriterState.NONE
        return NodeView(
            name=record.name,
            incarnation=record.incarnation,
            role=role,
            state=state,
            address=record.address,
            api_address=record.api_address,
            version=record.version,
            cores=record.cores,
            joined_us=record.joined_us,
            is_local=is_local,
            is_leader=record.name == context.leader,
            is_voter=record.name in context.voters,
            writer_state=WriterState.PRIMARY if is_primary else standby,
            is_active_compactor=record.name == context.compactor,
            is_in_sync=record.name in context.in_sync,
            heard_seconds_ago=0.0 if is_local else None if heard_at is None else context.now - heard_at,
            last_heartbeat_us=wall_us if memory is None else memory.heartbeat_us,
            last_healthy_us=wall_us if memory is None else memory.healthy_us,
            failed_checks=health.failed_checks,
            started_us=self._local.started_us if memory is None else memory.told.started_us,
            stats=self._local_stats() if memory is None else memory.told.stats,
            clock_offset_seconds=0.0 if memory is None else memory.clock_offset_seconds,
            state_seconds=context.now - health.since,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Context:
    """What is the same for all nodes of one answer."""

    now: float
    leader: str | None
    voters: Collection[str]
    writer: str | None
    compactor: str | None
    in_sync: Collection[str]

    @classmethod
    def of(cls, registry: Registry) -> _Context:
        catalog = registry.catalog
        holders = {lease.name: lease.holder for lease in catalog.leases.values()}
        return cls(
            now=registry._clock.now(),
            leader=registry._leader(),
            voters=registry._voters(),
            writer=holders.get(WRITER),
            compactor=holders.get(COMPACTOR),
            in_sync=catalog.in_sync.members if catalog.in_sync is not None else (),
        )


def watchers(catalog: Catalog, voters: Iterable[str]) -> frozenset[str]:
    """See `Registry.watchers`. In a small cluster that is everybody."""
    holders = {lease.holder for lease in catalog.leases.values()}
    everybody = catalog.nodes if len(catalog.nodes) <= SMALL_CLUSTER_NODES else ()
    return frozenset({*voters, *holders, *everybody})


__all__ = [
    "DEFAULT_MAX_NODES",
    "LocalNode",
    "NodeSubscription",
    "NodeView",
    "Registry",
    "RegistryStatistics",
    "SessionSeen",
    "Told",
    "watchers",
]
