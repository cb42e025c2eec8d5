"""A cluster of three writers as n1 sees it, which leads: every fact can be replaced by a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import trio

from arc.catalog.cluster import ClusterFacts
from arc.catalog.commands import AssignLease, DescribeNode, FoundCluster, SetInSync
from arc.catalog.leases import Lease
from arc.catalog.roles import NodeRole, NodeState, WriterState
from arc.cluster.outlook import Outlook
from arc.cluster.views import NodeStats, NodeView
from arc.errors import ArcError
from arc.ids import Epoch, NodeId
from arc.raft.node import Counts
from arc.raft.status import FollowerStatus, Status
from arc.raft.types import Configuration, Peer, Role
from tests.api.fakes import START_US, World

N1, N2, N3 = Peer("n1", 11), Peer("n2", 22), Peer("n3", 33)
UUID = "0b5c1d9e-7a34-4c55-9d7e-0123456789ab"

LEADING = Status(
    me=N1, role=Role.LEADER, term=4, vote=N1, leader=N1, commit=90, applied=90, first_index=11, last_index=95,
    last_term=4, durable_index=94, persisted_write=7, snapshot_index=10,
    configuration=Configuration(voters=(N1, N2, N3)), configuration_index=40, is_damaged=False, has_space=True,
    lives=1, lease_until=12.5, transfer_to=None, catching_up=(), uncommitted=0, uncommitted_bytes=0, reads=0,
    followers=(
        FollowerStatus(N2, "replicate", 88, 96, 0, 0, True, True),
        FollowerStatus(N3, "replicate", 90, 96, 0, 0, True, True),
    ),
)  # fmt: skip


def view_of(peer: Peer, **changes: object) -> NodeView:
    made = NodeView(
        name=NodeId(peer.name), incarnation=peer.incarnation, role=NodeRole.WRITER, state=NodeState.HEALTHY,
        address=f"{peer.name}.example:9100", api_address=f"{peer.name}.example:8000", version="0.0.1", cores=4,
        joined_us=START_US - 60_000_000, is_local=peer == N1, is_leader=peer == N1, is_voter=True,
        writer_state=WriterState.PRIMARY if peer == N2 else WriterState.STANDBY,
        heard_seconds_ago=0.0 if peer == N1 else 0.2, last_heartbeat_us=START_US, last_healthy_us=START_US,
        stats=NodeStats(applied_index=90, durable_sequence=1000, admitted_sequence=990),
        clock_offset_seconds=0.0 if peer == N1 else None,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Lag:
    name: str
    records: int
    seconds: float


@dataclass(frozen=True)
class Candidate:
    name: str
    is_eligible: bool
    reason: str


@dataclass(frozen=True)
class Plan:
    reason: str = "n2 holds it and is healthy"
    verdict: str = "keep"
    look_again_seconds: float | None = None
    candidates: Sequence[Candidate] = (
        Candidate("n3", True, "is in sync and healthy, and durable up to 1000"),
        Candidate("n2", False, "holds it already"),
    )


@dataclass(frozen=True)
class Seen:
    sequence: int
    at_us: int
    node: str
    kind: str
    words: str


@dataclass(frozen=True)
class Licence:
    holder: str = "Ada"
    standing: str = "valid"
    tier: str = "open"
    features: tuple[str, ...] = ("clustering",)
    max_cores: int = 0

    def state(self, now_us: int, /) -> str:
        return self.standing


GRANTED = Lease("writer", NodeId("n3"), Epoch(101), START_US, "maintenance (by admin)")
CHECKER = {"running": True, "check_interval_ms": 200, "check_timeout_ms": 600, "unhealthy_threshold": 3}


@dataclass
class FakeCluster:
    """Shows what it is told to, remembers what it was asked, and fails with ``error``."""

    views: list[NodeView] = field(default_factory=lambda: [view_of(peer) for peer in (N3, N1, N2)])
    since_us: int | None = START_US - 3_600_000_000
    followers: list[Lag] = field(default_factory=list)
    plans: dict[str, Plan] = field(
        default_factory=lambda: {"writer": Plan(), "compactor": Plan("n3 holds it and is healthy")}
    )
    seen: list[Seen] = field(default_factory=list)
    licence: Licence = Licence()
    asked: list[object] = field(default_factory=list)
    catch_up: Mapping[str, object] | None = None
    error: ArcError | None = None
    world: ClusterWorld | None = None
    under_replicated: int = 0
    clock_ahead_seconds: float = 0.0

    def look(self) -> Outlook:
        assert self.world is not None
        catalog = self.world.catalog
        nodes = tuple(sorted(self.views, key=lambda view: view.name))
        return Outlook(
            me=next((view.name for view in nodes if view.is_local), ""),
            now_us=self.world.clock.wall_us(), identity=catalog.cluster, nodes=nodes,
            consensus=self.world.consensus.now, leader_since_us=self.since_us, leases=catalog.leases,
            history=catalog.history, in_sync=catalog.in_sync, lags={lag.name: lag for lag in self.followers},
            plans=self.plans,  # type: ignore[arg-type]
            licence=self.licence,  # type: ignore[arg-type]
            behind=self.world.node.behind(), router={"strategy": "round_robin", "timeout_ms": 5000}, 
            catch_up=self.catch_up,
            files_under_replicated=self.under_replicated, copies_wanted=2, clock_ahead_seconds=self.clock_ahead_seconds,
        )  # fmt: skip

    def observed(self) -> Sequence[Seen]:
        return self.seen

    def health_checker(self) -> Mapping[str, object]:
        return CHECKER

    async def remove(self, name: str, *, force: bool) -> None:
        await self._do("remove", name, *(["force"] if force else []))

    async def drain(self, name: str) -> None:
        await self._do("drain", name)
        self.change(name, state=NodeState.LEAVING)

    async def undrain(self, name: str) -> None:
        await self._do("undrain", name)
        self.change(name, state=NodeState.HEALTHY)

    async def failover(self, lease: str, target: str | None, *, reason: str) -> Lease:
        await self._do("failover", lease, target, reason)
        return replace(GRANTED, name=lease, reason=reason)

    async def promote(self, name: str, *, reason: str) -> Lease:
        await self._do("promote", name, reason)
        return replace(GRANTED, holder=NodeId(name), reason=reason)

    async def assign_compactor(self, name: str) -> tuple[Lease, float]:
        await self._do("assign_compactor", name)
        return replace(GRANTED, name="compactor", holder=NodeId(name)), 600.0

    async def converge_voters(self, *, dry_run: bool, allow_single_voter: bool) -> Mapping[str, object]:
        await self._do("converge", dry_run, allow_single_voter)
        return {"demote": ["n3"], "promote": []}

    async def transfer_leadership(self, target: str | None) -> Peer:
        await self._do("transfer", target)
        return N2

    async def found(self) -> ClusterFacts:
        await self._do("found")
        return ClusterFacts(UUID, "arc", START_US)

    async def leave(self) -> None:
        await self._do("leave")

    async def _do(self, *asked: object) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(asked)
        if self.error is not None:
            raise self.error

    def change(self, name: str, **changes: object) -> None:
        """Let a node be seen otherwise."""
        self.views = [replace(view, **changes) if view.name == name else view for view in self.views]  # type: ignore[arg-type]


class FakeConsensus:
    """The consensus of n1."""

    def __init__(self, status: Status = LEADING) -> None:
        self.now = status

    def status(self) -> Status:
        return self.now

    def counts(self) -> Counts:
        return Counts(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, {"role": 3})


class ClusterWorld(World):
    """A node with that cluster around it: n2 writes since an hour, n3 compacts, all three are in sync."""

    def __init__(self) -> None:
        super().__init__()
        self.clock.seconds = 7200.0
        self.cluster = FakeCluster(since_us=START_US + 3_600_000_000, world=self)
        self.consensus = FakeConsensus()
        self.apply(FoundCluster(uuid=UUID, name="arc", created_us=START_US))
        for peer in (N1, N2, N3):
            described = DescribeNode(
                name=NodeId(peer.name), incarnation=peer.incarnation, address=f"{peer.name}.example:9100",
                role="writer", api_address=f"{peer.name}.example:8000",
            )  # fmt: skip
            self.apply(described).unwrap()
        self.grant("writer", "n2", reason="the first writer")
        self.grant("compactor", "n3", reason="the first compactor")
        self.in_sync("n1", "n2", "n3")
        self.replace(cluster=self.cluster, raft=self.consensus)

    def grant(self, lease: str, node: str, *, reason: str = "", unclean: bool = False) -> int:
        made = AssignLease(
            lease=lease, node=NodeId(node), expect_epoch=self.catalog.lease_epoch(lease), reason=reason,
            at_us=self.clock.wall_us() - 3_600_000_000, accepts_data_loss=unclean,
        )  # fmt: skip
        index = self.apply(made).unwrap()
        assert isinstance(index, int)
        return index

    def in_sync(self, *names: str) -> None:
        assert self.catalog.in_sync is not None
        self.apply(
            SetInSync(
                epoch=self.catalog.lease_epoch("writer"),
                expect_members=self.catalog.in_sync.members,
                members=tuple(map(NodeId, names)),
            )
        ).unwrap()

    def look(self) -> Outlook:
        return self.cluster.look()
