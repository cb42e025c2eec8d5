"""Short ways to say what tests of health and failover are about: a catalog of nodes, and how one of them sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from arc.catalog.commands import (
    COMPACTOR,
    WRITER,
    AssignLease,
    Command,
    DescribeNode,
    ForgetNode,
    SetInSync,
    SetNodeState,
)
from arc.catalog.facts import Catalog
from arc.catalog.fsm import ClusterFSM
from arc.catalog.nodes import NodeRecord
from arc.catalog.results import Result
from arc.catalog.roles import NodeRole, NodeState
from arc.cluster.feed import Feed
from arc.cluster.judging import HealthConfig
from arc.cluster.registry import LocalNode, Registry
from arc.cluster.views import NodeStats, NodeView
from arc.ids import NodeId
from arc.ports import Clock
from arc.raft.types import Peer

STARTED_US = 1_750_000_000_000_000


class Members:
    """A catalog with its feed, changed by commands as consensus would. Nodes are healthy unless told otherwise."""

    def __init__(self, **roles: str) -> None:
        self.fsm = ClusterFSM()
        self.feed = Feed()
        for name, role in roles.items():
            self.add(name, role)

    @property
    def catalog(self) -> Catalog:
        return self.fsm.catalog

    def ask(self, command: Command) -> Result:
        applied = self.fsm.apply(self.catalog.index + 1, command)
        self.feed.publish(self.catalog, applied.events)
        return applied.result

    def do(self, command: Command) -> Result:
        result = self.ask(command)
        assert result.ok, result
        return result

    def add(self, name: str, role: str = "writer", *, state: str = "healthy", incarnation: int = 1) -> None:
        node = NodeId(name)
        self.do(DescribeNode(name=node, incarnation=incarnation, address=f"{name}:9100", role=role))
        if state != "joining":
            self.set_state(name, state, incarnation=incarnation)

    def set_state(self, name: str, state: str, *, incarnation: int = 1) -> None:
        self.do(SetNodeState(name=NodeId(name), incarnation=incarnation, state=state))

    def forget(self, name: str, *, incarnation: int = 1) -> None:
        self.do(ForgetNode(name=NodeId(name), incarnation=incarnation))

    def grant(self, lease: str, name: str, *, at_us: int = 0, reason: str = "") -> None:
        epoch = self.catalog.lease_epoch(lease)
        self.do(AssignLease(lease=lease, node=NodeId(name), expect_epoch=epoch, at_us=at_us, reason=reason))

    def write(self, name: str, *, at_us: int = 0) -> None:
        self.grant(WRITER, name, at_us=at_us)

    def compact(self, name: str, *, at_us: int = 0) -> None:
        self.grant(COMPACTOR, name, at_us=at_us)

    def in_sync(self, *names: str) -> None:
        """The in-sync set of the current reign."""
        held = self.catalog.in_sync
        assert held is not None
        members = tuple(NodeId(name) for name in names)
        self.do(SetInSync(epoch=held.epoch, expect_members=held.members, members=members))

    def view(
        self,
        name: str,
        state: str = "healthy",
        *,
        silent: float | None = 0.1,
        seconds: float = 1000.0,
        durable: int = 0,
        stalled: float = 0.0,
    ) -> NodeView:
        """How somebody sees a node."""
        known = self.catalog.nodes.get(name) or NodeRecord(NodeId(name), 1, "")
        return NodeView(
            name=known.name,
            incarnation=known.incarnation,
            role=NodeRole(known.role),
            state=NodeState(state),
            address=known.address,
            api_address="",
            version="",
            cores=0,
            joined_us=0,
            heard_seconds_ago=silent,
            stats=NodeStats(durable_sequence=durable, disk_stalled_seconds=stalled),
            state_seconds=seconds,
        )

    def views(self, **states: str) -> list[NodeView]:
        """How somebody sees all nodes; who is not named is as agreed on. Silent ones have been for 10 s."""
        return [
            self.view(name, states.get(name, record.state), silent=10.0 if states.get(name) in _SILENT else 0.1)
            for name, record in self.catalog.nodes.items()
        ]


_SILENT = ("unhealthy", "dead")


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session as far as the registry cares."""

    peer: Peer
    last_heard: float


@dataclass(slots=True, kw_only=True)
class Eyes:
    """What a registry is told by consensus and the transport; tests change it."""

    sessions: dict[str, Session] = field(default_factory=dict)
    voters: tuple[str, ...] = ()
    leader: str | None = None

    def see_sessions(self) -> Mapping[str, Session]:
        return self.sessions


def registry_of(
    members: Members,
    clock: Clock,
    *,
    me: str = "n1",
    eyes: Eyes | None = None,
    config: HealthConfig | None = None,
    nodes_max: int = 1000,
    stats: NodeStats | None = None,
) -> Registry:
    """The registry of one of the nodes."""
    seen = eyes if eyes is not None else Eyes(voters=tuple(members.catalog.nodes))
    record = members.catalog.nodes.get(me)
    local_stats = stats if stats is not None else NodeStats()
    return Registry(
        feed=members.feed,
        local=LocalNode(
            name=NodeId(me),
            incarnation=record.incarnation if record is not None else 1,
            role=NodeRole(record.role) if record is not None else NodeRole.STANDALONE,
            started_us=STARTED_US,
        ),
        clock=clock,
        config=config if config is not None else HealthConfig(),
        sessions=seen.see_sessions,
        voters=lambda: seen.voters,
        leader=lambda: seen.leader,
        local_stats=lambda: local_stats,
        nodes_max=nodes_max,
    )
