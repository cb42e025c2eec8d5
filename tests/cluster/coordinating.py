"""A coordinator over a catalog that tests change, with consensus and membership played by hand."""

from __future__ import annotations

import trio

from arc.catalog.cluster import ClusterFacts
from arc.catalog.commands import Command
from arc.catalog.results import Result
from arc.catalog.values import COMPACTOR, WRITER
from arc.cluster.config import ClusterConfig
from arc.cluster.coordinator import Coordinator, Replication, Routing
from arc.cluster.failover import FailoverConfig, compactor_policy, writer_policy
from arc.cluster.failover_managers import CompactorFailoverManager, LeaseManager, WriterFailoverManager
from arc.cluster.health import HealthChecker
from arc.cluster.judging import HealthConfig
from arc.cluster.manifest_calls import ManifestCalls
from arc.cluster.memories import Told
from arc.cluster.operations import LifeOrders, Operations
from arc.errors import ArcError
from arc.ids import NodeId
from arc.license import OPEN, License
from arc.ports import Clock
from arc.raft.status import FollowerStatus, Status
from arc.raft.types import Configuration, Peer, Role
from arc.telemetry import Log
from tests.cluster.members import Eyes, Members, registry_of
from tests.fakes import ManualClock

LOG = Log([], lambda: 0)
HEALTH = HealthConfig()


def raft_status(me: str, voters: str, *, leader: str | None = None, active: str = "", **changed: object) -> Status:
    """One look: names of one letter and a digit, apart by blanks; ``active`` answer the leader."""
    peers = tuple(Peer(name) for name in voters.split())
    leads = leader == me
    followers = tuple(
        FollowerStatus(peer, "replicate", 9, 10, 0, 0, peer.name in active.split(), True)
        for peer in peers
        if peer.name != me
    )
    status = Status(
        me=Peer(me), role=Role.LEADER if leads else Role.FOLLOWER, term=3, vote=None,
        leader=Peer(leader) if leader is not None else None, commit=9, applied=9, first_index=1, last_index=9,
        last_term=3, durable_index=9, persisted_write=1, snapshot_index=0, configuration=Configuration(voters=peers),
        configuration_index=1, is_damaged=False, has_space=True, lives=1, lease_until=None, transfer_to=None,
        catching_up=(), uncommitted=0, uncommitted_bytes=0, reads=0, followers=followers if leads else (),
    )  # fmt: skip
    return status._replace(**changed)  # type: ignore[arg-type]


class FakeRaft:
    """Consensus as the test says."""

    def __init__(self, status: Status) -> None:
        self.looked = status
        self.transferred: list[Peer | None] = []
        self._changed = trio.Event()

    def become(self, status: Status) -> None:
        self.looked = status
        self._changed.set()
        self._changed = trio.Event()

    @property
    def me(self) -> Peer:
        return self.looked.me

    @property
    def leader(self) -> Peer | None:
        return self.looked.leader

    @property
    def is_leader(self) -> bool:
        return self.looked.role is Role.LEADER

    def status(self) -> Status:
        return self.looked

    async def read(self) -> int:
        await trio.lowlevel.checkpoint()
        return 9

    async def transfer(self, target: Peer | None = None) -> Peer:
        await trio.lowlevel.checkpoint()
        self.transferred.append(target)
        return target if target is not None else Peer("n2")

    async def wait_changed(self) -> None:
        await self._changed.wait()


class FakeMembership:
    """Notes what it was asked for, or raises what it was told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.error: ArcError | None = None

    async def add(self, address: str, *, as_learner: bool) -> tuple[Peer, int]:
        await self._answer(f"add {address} {'learner' if as_learner else 'voter'}")
        return Peer("n9"), 5

    async def remove(self, name: str) -> int:
        await self._answer(f"remove {name}")
        return 5

    async def _answer(self, asked: str) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        self.asked.append(asked)


class Proposer:
    """Proposals that are agreed on at once."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self.commands: list[Command] = []

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        self.commands.append(command)
        return self._members.ask(command)


class Stage:
    """The coordinator of ``n1`` with everything around it."""

    def __init__(
        self,
        members: Members,
        *,
        me: str = "n1",
        status: Status | None = None,
        licence: License = OPEN,
        is_enabled: bool = True,
        clock: Clock | None = None,
        router: Routing | None = None,
        replication: Replication | None = None,
    ) -> None:
        self.members = members
        self.clock = clock if clock is not None else ManualClock()
        names = " ".join(members.catalog.nodes)
        self.raft = FakeRaft(status if status is not None else raft_status(me, names, leader="n1", active=names))
        self.membership = FakeMembership()
        self.propose = Proposer(members)
        self.refuses: str | None = None
        leader = self.raft.leader
        eyes = Eyes(voters=tuple(members.catalog.nodes), leader=leader.name if leader is not None else None)
        self.registry = registry_of(members, self.clock, me=me, eyes=eyes)
        self.checker = HealthChecker(registry=self.registry, config=HEALTH, clock=self.clock, log=LOG)
        policies = {WRITER: writer_policy, COMPACTOR: compactor_policy}
        kinds = {WRITER: WriterFailoverManager, COMPACTOR: CompactorFailoverManager}
        self.managers: dict[str, LeaseManager] = {
            lease: kinds[lease](
                policy=policies[lease](FailoverConfig(), HEALTH),
                registry=self.registry,
                feed=members.feed,
                propose=self.propose,
                leadership=self.raft,
                clock=self.clock,
                log=LOG,
            )
            for lease in (WRITER, COMPACTOR)
        }
        self.life_calls: list[str] = []
        self.only_there: tuple[int, str] | ArcError = (0, "")
        """What a node says that is asked which files are on it alone."""
        self.operations = Operations(
            registry=self.registry,
            checker=self.checker,
            managers=self.managers,
            raft=self.raft,
            members=self.membership,
            propose=self.propose,
            life=LifeOrders(found=self._found, leave=self._leave, converge=self._converge),
            catalog=lambda: members.catalog,
            clock=self.clock,
            licence=licence,
            compactor_kept_seconds=600.0,
            only_there=self._ask_only_there,
            catch_up=replication.catch_up_status if replication is not None else lambda: None,
        )
        self.coordinator = Coordinator(
            config=ClusterConfig(enabled=is_enabled, insecure_dev=is_enabled),
            licence=licence,
            registry=self.registry,
            checker=self.checker,
            managers=self.managers,
            raft=self.raft,
            members=self.membership,
            feed=members.feed,
            manifest=ManifestCalls(self.propose, lambda: members.catalog, NodeId(me)),
            operations=self.operations,
            refuses_writes=lambda: self.refuses,
            clock=self.clock,
            log=LOG,
            router=router,
            replication=replication,
        )

    async def _ask_only_there(self, name: str) -> tuple[int, str]:
        await trio.lowlevel.checkpoint()
        self.life_calls.append(f"only there? {name}")
        if isinstance(self.only_there, ArcError):
            raise self.only_there
        return self.only_there

    def hear(self, *names: str) -> None:
        """A heartbeat of each, and a round of checks."""
        for name in names:
            assert self.registry.record_heartbeat(Peer(name, 1), Told())
        self.checker.check_all()

    async def _found(self) -> ClusterFacts:
        await trio.lowlevel.checkpoint()
        return ClusterFacts("u" * 36, "arc", 1)

    async def _leave(self) -> None:
        await trio.lowlevel.checkpoint()
        self.life_calls.append("leave")

    async def _converge(self, *, dry_run: bool, allow_single_voter: bool) -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        self.life_calls.append(f"converge dry={dry_run}")
        return {"changes": []}


def trio_of_nodes() -> Members:
    """n1 writes, n2 is in sync, n3 compacts."""
    members = Members(n1="writer", n2="writer", n3="compactor")
    members.write("n1", at_us=1_000_000)
    members.in_sync("n1", "n2")
    members.compact("n3")
    return members
