"""Nodes on their way in and out: founding over calls, admission through any member, honest reasons, orderly leaving."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

import pytest
import trio
import trio.testing

from arc.catalog.commands import Command, DescribeNode, FoundCluster, SetNodeState
from arc.catalog.facts import Catalog
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.catalog.roles import NodeRole, NodeState
from arc.cluster.admission import FORWARDED, JOIN, LEAVE, Admission, Application, Standing
from arc.cluster.gathering import LOOK, Assembly
from arc.cluster.identity import Identity, founded_alone
from arc.cluster.identityfile import IdentityFile, open_identity
from arc.cluster.joining import Joiner, announcements
from arc.cluster.leaving import Leaving, Left, set_state
from arc.cluster.membership import Membership
from arc.cluster.sights import Bootstrap
from arc.errors import ArcError, Conflict, Forbidden, InvalidRequest, NotFound, Unavailable
from arc.ids import NodeId
from arc.raft.events import Change
from arc.raft.membership import members, target
from arc.raft.status import FollowerStatus, Status
from arc.raft.types import Configuration, Peer, Role
from arc.telemetry import Log, RingSink
from tests.fakes import InlineWorkers, ManualClock, MemoryDisk, SeededRng

Answerer = Callable[[Peer, bytes], Awaitable[bytes]]


@dataclass
class Network:
    """Calls between nodes, by address and by name; an address in ``cut`` is not reached."""

    clock: ManualClock = field(default_factory=ManualClock)
    answerers: dict[str, dict[str, Answerer]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def add(self, name: str, address: str, answerers: dict[str, Answerer]) -> None:
        self.names[name] = address
        self.answerers.setdefault(address, {}).update(answerers)

    async def _reach(self, me: Peer, address: str, kind: str, question: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(f"{me.name} {kind} {address}")
        if address not in self.answerers or address in self.cut or self.names.get(me.name) in self.cut:
            raise Unavailable(f"no node answers at {address}")
        return await self.answerers[address][kind](me, question)

    def asker(self, me: Peer) -> Asker:
        return Asker(self, me)


@dataclass
class Asker:
    """`Calls` of one node."""

    network: Network
    me: Peer

    async def ask(self, address: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        return await self.network._reach(self.me, address, kind, question)

    async def call(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        return await self.network._reach(self.me, self.network.names.get(peer, "nowhere"), kind, question)


# ------------------------------------------------------------------------------------------------------------ founding


class Waiting:
    """A node that founds with others, on a disk of its own."""

    def __init__(self, network: Network, number: int, log: Log, *, expect: int = 3, seeds: int = 3) -> None:
        self.address = f"h{number}:9100"
        self.disk = MemoryDisk()
        self.network = network
        self.number = number
        self.log = log
        self.has_log = False
        self.bootstrap = Bootstrap(cluster="arc", expect=expect, seeds=tuple(f"h{n}:9100" for n in range(1, seeds + 1)))
        self.start()

    def start(self) -> None:
        rng = SeededRng(self.number)
        self.identity = open_identity(
            self.disk, InlineWorkers(), rng, now_us=1, chosen=f"n{self.number}", is_alone=False
        )
        self.assembly = Assembly(
            self.identity,
            self.bootstrap,
            NodeRole.STANDALONE,
            address=lambda: self.address,
            has_log=lambda: self.has_log,
            ask=self.network.asker(self.identity.current.peer).ask,
            clock=self.network.clock,
            rng=rng,
            log=self.log,
        )
        self.network.add(f"n{self.number}", self.address, dict(self.assembly.answerers))


async def test_three_nodes_found_one_cluster_and_the_fourth_finds_it(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    network = Network()
    nodes = [Waiting(network, number, log) for number in range(1, 5)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.assembly.run)
    found = [node.identity.current for node in nodes]
    assert len({identity.cluster_uuid for identity in found}) == 1
    assert len({identity.founding for identity in found if identity.founding is not None}) == 1
    assert [identity.founding is not None for identity in found].count(True) == 3
    assert all(node.assembly.not_ready() is None for node in nodes)


async def test_one_that_comes_late_is_waited_for_and_what_is_waited_for_is_told(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    network = Network()
    nodes = [Waiting(network, number, log) for number in range(1, 4)]
    network.cut = {"h3:9100"}
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.assembly.run)
        await trio.sleep(20)
        assert nodes[0].assembly.not_ready() == (
            "waits for 3 nodes to found a cluster: 2 here (n1, n2); nobody has answered at h3:9100 "
            "(h3:9100: no node answers at h3:9100)"
        )
        assert "n1, which coordinates, says: waits for 3 nodes" in (nodes[1].assembly.not_ready() or "")
        network.cut = set()
    assert len({node.identity.current.founding for node in nodes}) == 1


async def test_every_promise_survives_a_restart(log: Log, autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    nodes = [Waiting(network, number, log) for number in range(1, 4)]
    for round_ in range(1, 40):
        for node in nodes:  # Everybody is stopped and started again, a little later every time.
            node.start()
        with trio.move_on_after(0.1 * round_):
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    nursery.start_soon(node.assembly.run)
    assert len({node.identity.current.founding for node in nodes}) == 1
    assert nodes[0].identity.current.founding is not None


async def test_an_operator_founds_with_one_node_and_the_others_find_it(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    network = Network()
    nodes = [Waiting(network, number, log, expect=0, seeds=2) for number in range(1, 4)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.assembly.run)
        await trio.sleep(5)
        founding = await nodes[1].assembly.init()
    assert {node.identity.current.cluster_uuid for node in nodes} == {founding.uuid}
    with pytest.raises(Conflict, match="already"):
        await nodes[0].assembly.init()


async def test_a_member_that_does_not_know_its_cluster_yet_founds_none(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    network = Network()
    nodes = [Waiting(network, number, log) for number in range(1, 4)]
    nodes[2].has_log = True
    await nodes[2].assembly.run()
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            for node in nodes[:2]:
                nursery.start_soon(node.assembly.run)
    assert all(node.identity.current.is_waiting for node in nodes)
    assert "2 here (n1, n2)" in (nodes[0].assembly.not_ready() or "")
    with pytest.raises(Conflict, match="belongs to a cluster already"):
        await nodes[2].assembly.init()


def test_messages_of_consensus_are_taken_only_by_those_who_know_their_first_voters(log: Log) -> None:
    node = Waiting(Network(), 1, log)
    assert not node.assembly.hears_raft
    node.has_log = True
    assert node.assembly.hears_raft
    assert Waiting(Network(), 1, log, expect=0).assembly.hears_raft


async def test_init_is_refused_where_a_cluster_was_seen(log: Log, autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    first, second = (Waiting(network, number, log, expect=0, seeds=2) for number in (1, 2))
    await first.assembly.init()
    await second.assembly._look_around()
    with pytest.raises(Conflict, match="there is a cluster already"):
        await second.assembly.init()


async def test_a_node_of_a_cluster_with_another_name_is_told_so(log: Log) -> None:
    network = Network()
    first, second = (Waiting(network, number, log) for number in (1, 2))
    second.assembly._bootstrap = replace(second.bootstrap, cluster="other")
    with pytest.raises(Conflict, match="a cluster named other"):
        await first.assembly.answer_look(second.identity.current.peer, second.assembly._show())


async def test_nobody_shows_itself_for_somebody_else(log: Log) -> None:
    network = Network()
    first, second = (Waiting(network, number, log) for number in (1, 2))
    with pytest.raises(InvalidRequest, match="shows itself as"):
        await first.assembly.answer_look(Peer("n9", 9), second.assembly._show())
    for kind, answer in first.assembly.answerers.items():
        with pytest.raises(InvalidRequest):
            await answer(Peer("n9", 9), b"nonsense" if kind == LOOK else b"\x80")


# ----------------------------------------------------------------------------------------------------------- admission


class Cluster:
    """Members with one catalog and one configuration, in which every change succeeds at once."""

    def __init__(self, network: Network, log: Log, *names: str, replaces_wiped: bool = False, cores: int = 0) -> None:
        self.network = network
        self.log = log
        self.fsm = ClusterFSM()
        self.peers = tuple(Peer(name, 2) for name in names)
        self.leader: Peer | None = self.peers[0]
        self.configuration = Configuration(voters=self.peers)
        self.silent: set[str] = set()
        self.cores_max = cores
        self.replaces_wiped = replaces_wiped
        self.uuid = ""
        self.transferred: list[Peer] = []
        for peer in self.peers:
            self.member(peer)

    def member(self, peer: Peer) -> None:
        raft = MemberRaft(self, peer)
        identity = IdentityFile(
            MemoryDisk(),
            InlineWorkers(),
            founded_alone(Identity(node=NodeId(peer.name), incarnation=peer.incarnation), SeededRng(), "h:1"),
        )
        self.uuid = identity.current.cluster_uuid
        membership = Membership(raft, self, lambda: self.fsm.catalog, self.greet)
        admission = Admission(
            "arc",
            identity,
            raft,
            membership,
            lambda: self.fsm.catalog,
            call=self.network.asker(peer).call,
            clock=self.network.clock,
            log=self.log,
            check_cores=self.check_cores,
            replaces_wiped=self.replaces_wiped,
        )
        address = f"h{peer.name[1:]}:9100"
        self.network.add(peer.name, address, dict(admission.answerers))
        described = DescribeNode(name=NodeId(peer.name), incarnation=2, address=address, cores=4)
        assert self.fsm.apply(self.fsm.catalog.index + 1, described).result.ok

    def check_cores(self, cores: int) -> None:
        if self.cores_max and cores > self.cores_max:
            raise Forbidden(f"{cores} cores are more than {self.cores_max}", code="core_limit_exceeded")

    async def greet(self, address: str) -> Peer:
        raise Unavailable("not here")

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        return self.fsm.apply(self.fsm.catalog.index + 1, command).result

    async def join(self, peer: Peer, at: str, **changes: object) -> Standing:
        described = DescribeNode(name=NodeId(peer.name), incarnation=peer.incarnation, address="h9:9100", cores=4)
        application = Application("arc", self.uuid, False, described)._replace(**changes)  # type: ignore[arg-type]
        answer = await self.network.asker(peer).ask(at, JOIN, application.packed(), timeout_seconds=1)
        return Standing.unpacked(answer)


class MemberRaft:
    """Consensus of one member."""

    def __init__(self, cluster: Cluster, me: Peer) -> None:
        self.cluster = cluster
        self.me = me
        self.own: Configuration | None = None
        """What its own log says, if that is something else."""

    def status(self) -> Status:
        cluster = self.cluster
        is_leader = cluster.leader == self.me
        followers = tuple(
            FollowerStatus(peer, "replicate", 9, 10, 0, 0, peer.name not in cluster.silent, True)
            for peer in members(cluster.configuration)
            if peer != self.me and is_leader
        )
        index = cluster.fsm.catalog.index
        facts = {
            "me": self.me,
            "role": Role.LEADER if is_leader else Role.FOLLOWER,
            "leader": cluster.leader,
            "commit": index,
            "applied": index,
            "configuration": self.own if self.own is not None else cluster.configuration,
            "followers": followers,
        }
        return Status(**dict.fromkeys(Status._fields, 0) | facts)  # type: ignore[arg-type]

    async def read(self) -> int:
        await trio.lowlevel.checkpoint()
        return self.cluster.fsm.catalog.index

    async def change(self, changes: Iterable[Change], *, expect_index: int | None = None) -> int:
        await trio.lowlevel.checkpoint()
        self.cluster.configuration = target(self.cluster.configuration, tuple(changes))
        return 1

    async def transfer(self, to: Peer | None = None) -> Peer:
        await trio.lowlevel.checkpoint()
        others = [peer for peer in self.cluster.configuration.voters if peer != self.me]
        if not others:
            raise Unavailable("no other voter is alive")
        self.cluster.leader = others[0]
        self.cluster.transferred.append(others[0])
        return others[0]


N9 = Peer("n9", 77)


async def test_a_node_is_let_in_through_any_member_with_at_most_one_hop(log: Log) -> None:
    network = Network()
    cluster = Cluster(network, log, "n1", "n2", "n3")
    standing = await cluster.join(N9, "h3:9100")
    assert standing.is_known and standing.leader == "n1"
    assert standing.addresses == {"n1": "h1:9100", "n2": "h2:9100", "n3": "h3:9100", "n9": "h9:9100"}
    assert standing.reach == cluster.fsm.catalog.index
    assert network.asked == [f"n9 {JOIN} h3:9100", f"n3 {FORWARDED} h1:9100"]
    assert cluster.configuration.learners == (N9,)
    before = cluster.fsm.catalog
    assert (await cluster.join(N9, "h1:9100")).is_known, "again is fine"
    assert cluster.fsm.catalog.nodes == before.nodes


async def test_without_a_leader_it_is_asked_again(log: Log) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    cluster.leader = None
    with pytest.raises(Unavailable, match="knows of no leader"):
        await cluster.join(N9, "h3:9100")


async def test_what_was_passed_on_is_not_passed_on_again(log: Log) -> None:
    network = Network()
    cluster = Cluster(network, log, "n1", "n2", "n3")
    n2 = network.answerers["h2:9100"][FORWARDED]
    with pytest.raises(Unavailable, match="does not lead any more"):
        await n2(cluster.peers[2], b"\x84" + b"\x63abc" + b"\x62n9" + b"\x18\x4d" + b"\x40")


async def test_only_members_pass_on(log: Log) -> None:
    network = Network()
    Cluster(network, log, "n1", "n2")
    with pytest.raises(Forbidden, match="speaks for nobody else"):
        await network.answerers["h1:9100"][FORWARDED](N9, b"\x84" + b"\x63abc" + b"\x62n8" + b"\x02" + b"\x40")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"cluster": "other"}, "other_cluster"),
        ({"uuid": "0" * 36}, "other_cluster"),
        ({"described": DescribeNode(name=NodeId("n8"), incarnation=77, address="h9:1")}, "invalid"),
        ({"described": DescribeNode(name=NodeId("n9"), incarnation=77, address="h9:1", role="wirter")}, "invalid_role"),
        (
            {"described": DescribeNode(name=NodeId("n9"), incarnation=77, address="h9:1", cores=5)},
            "core_limit_exceeded",
        ),
    ],
)
async def test_what_can_never_work_is_refused_with_the_reason(log: Log, changes: dict[str, object], code: str) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", cores=12)
    with pytest.raises(ArcError) as caught:
        await cluster.join(N9, "h2:9100", **changes)
    assert caught.value.code in (code, "invalid")
    assert "n9" not in cluster.fsm.catalog.nodes
    assert cluster.configuration.learners == ()


async def test_cores_are_counted_with_this_node_once(log: Log) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", cores=12)
    await cluster.join(N9, "h1:9100")
    await cluster.join(N9, "h1:9100")


async def test_an_emptied_node_waits_until_its_former_self_is_removed(log: Log) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    cluster.silent = {"n3"}
    with pytest.raises(Conflict, match="it was emptied, or two nodes have one name; remove it first: n3"):
        await cluster.join(Peer("n3", 77), "h1:9100")


@pytest.mark.parametrize("is_silent", [True, False])
async def test_with_replace_wiped_it_takes_the_place_of_its_silent_former_self(log: Log, is_silent: bool) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3", replaces_wiped=True)
    cluster.silent = {"n3"} if is_silent else set()
    if is_silent:
        await cluster.join(Peer("n3", 77), "h1:9100")
        assert cluster.configuration == Configuration(voters=cluster.peers[:2], learners=(Peer("n3", 77),))
    else:
        with pytest.raises(Conflict):
            await cluster.join(Peer("n3", 77), "h1:9100")


# ------------------------------------------------------------------------------------------------------------- joining


class Newcomer:
    """A node with a joiner, whose own log is what the test says."""

    def __init__(self, cluster: Cluster, log: Log, **facts: object) -> None:
        self.disk = disk = MemoryDisk()
        self.cluster = cluster
        identity = Identity(node=NodeId("n9"), incarnation=77, cluster_uuid=cluster.uuid)
        self.identity = IdentityFile(disk, InlineWorkers(), replace(identity, **facts))  # type: ignore[arg-type]
        self.raft = MemberRaft(cluster, N9)
        self.raft.own = Configuration()
        self.log = log
        self.start()

    def start(self) -> None:
        self.joiner = Joiner(
            "arc",
            ("h2:9100", "h1:9100"),
            self.identity,
            self.raft,
            lambda: self.cluster.fsm.catalog,
            lambda: DescribeNode(name=NodeId("n9"), incarnation=77, address="h9:9100"),
            ask=self.cluster.network.asker(N9).ask,
            rng=SeededRng(),
            log=self.log,
        )

    async def settle(self, seconds: float = 20) -> str | None:
        """Let the joiner run; what it says then."""
        with trio.move_on_after(seconds):
            await self.joiner.run()
        return self.joiner.not_ready()


async def test_a_newcomer_is_ready_only_once_its_own_log_has_caught_up(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    newcomer = Newcomer(cluster, log)
    assert await newcomer.settle() == "was admitted by n1, which leads; waits for its log"
    assert cluster.configuration.learners == (N9,)
    told = newcomer.joiner.told_of("n3")
    assert told is not None and told.address == "h3:9100" and told.entry > 0, "later than any plan of founding"
    newcomer.raft.own = None
    status = newcomer.raft.status
    newcomer.raft.status = lambda: status()._replace(applied=-500)  # type: ignore[method-assign]
    assert await newcomer.settle() == f"catches up: {cluster.fsm.catalog.index + 500} entries to go"
    newcomer.raft.status = status  # type: ignore[method-assign]
    assert await newcomer.settle() is None
    assert newcomer.identity.current.has_joined


async def test_a_newcomer_whose_disk_is_full_takes_part_once_it_could_note_that_it_does(
    log: Log, events: RingSink, autojump_clock: trio.testing.MockClock
) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    newcomer = Newcomer(cluster, log)
    await newcomer.settle()
    newcomer.raft.own = None
    newcomer.disk.free = 0

    told = await newcomer.settle()

    assert "no room" in (told or "") and not newcomer.identity.current.has_joined
    assert [event.message for event in events.select(limit=100)].count("membership_not_noted") == 1
    newcomer.disk.free = 1 << 20
    assert await newcomer.settle() is None
    assert newcomer.identity.current.has_joined


async def test_it_asks_for_ever_and_says_what_it_heard(log: Log, autojump_clock: trio.testing.MockClock) -> None:
    network = Network()
    cluster = Cluster(network, log, "n1", "n2", "n3")
    network.cut = {"h1:9100", "h2:9100"}
    newcomer = Newcomer(cluster, log)
    assert await newcomer.settle(100) == (
        f"waits for being admitted to cluster {cluster.uuid}; h2:9100: no node answers at h2:9100; "
        "h1:9100: no node answers at h1:9100; h3:9100: no node answers at h1:9100"
    )
    assert len(network.asked) > 40
    network.cut = {"h2:9100"}
    newcomer.raft.own = None
    assert await newcomer.settle() is None


async def test_a_refusal_is_told(log: Log, autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", cores=8)
    cluster.cores_max = 7
    assert await Newcomer(cluster, log).settle() == "was refused at h2:9100: 8 cores are more than 7"


async def test_a_node_that_was_removed_does_not_come_back_by_itself(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    newcomer = Newcomer(cluster, log, has_joined=True)
    assert (await newcomer.settle() or "").startswith(f"was removed from cluster {cluster.uuid}")
    assert "n9" not in cluster.fsm.catalog.nodes


async def test_it_notices_its_removal_though_its_own_log_never_tells(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    newcomer = Newcomer(cluster, log, has_joined=True)
    newcomer.raft.own = Configuration(voters=(*cluster.peers, N9))
    status = newcomer.raft.status
    newcomer.raft.status = lambda: status()._replace(leader=None)  # type: ignore[method-assign]
    assert (await newcomer.settle(60) or "").startswith(f"was removed from cluster {cluster.uuid}")


async def test_a_member_without_a_leader_says_so(log: Log, autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    newcomer = Newcomer(cluster, log, has_joined=True)
    cluster.configuration = cluster.configuration._replace(learners=(N9,))
    newcomer.raft.own, cluster.leader = None, None
    assert await newcomer.settle(2) == "waits for a leader: the other members are n1, n2, n3"


async def test_one_that_left_comes_back_at_its_next_start_and_not_before(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    newcomer = Newcomer(cluster, log, has_joined=True)
    await newcomer.identity.change(lambda current: replace(current, has_left=True))
    assert (await newcomer.settle() or "").startswith("has left")
    newcomer.raft.own = Configuration(voters=(*cluster.peers, N9))  # It never heard that it was let go.
    newcomer.start()
    await newcomer.settle()
    assert cluster.configuration.learners == (N9,)
    assert not newcomer.identity.current.has_left


async def test_a_node_that_was_added_by_hand_learns_which_cluster_this_is(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    cluster = Cluster(Network(), log, "n1")
    newcomer = Newcomer(cluster, log, cluster_uuid="")
    assert await newcomer.settle() == "waits to be added by a member (arc raft add), or for arc cluster init"
    await cluster.propose(FoundCluster(uuid=cluster.uuid, name="arc", created_us=1))
    newcomer.raft.own = Configuration(voters=cluster.peers, learners=(N9,))
    assert await newcomer.settle() is None
    assert newcomer.identity.current.cluster_uuid == cluster.uuid


ME = DescribeNode(name=NodeId("n1"), incarnation=2, address="h1:1", role="writer", cores=4, at_us=5)


def known(state: str, **changes: object) -> Catalog:
    fsm = ClusterFSM()
    assert fsm.apply(1, replace(ME, **changes)).result.ok  # type: ignore[arg-type]
    if state != "joining":
        assert fsm.apply(2, SetNodeState(name=ME.name, incarnation=2, state=state)).result.ok
    return fsm.catalog


def test_a_node_announces_what_is_not_known_and_nothing_else() -> None:
    healthy = SetNodeState(name=ME.name, incarnation=2, state="healthy")
    joining = SetNodeState(name=ME.name, incarnation=2, state="joining")
    assert announcements(Catalog(), ME, NodeState.JOINING) == [ME]
    assert announcements(Catalog(), ME, NodeState.HEALTHY) == [ME, healthy]
    assert announcements(known("joining"), replace(ME, at_us=9), NodeState.JOINING) == []
    assert announcements(known("joining"), ME, NodeState.HEALTHY) == [healthy]
    assert announcements(known("leaving"), ME, NodeState.JOINING) == [joining], "back from an orderly stop"
    assert announcements(known("healthy", address="h2:1"), ME, NodeState.HEALTHY) == [ME]
    assert announcements(known("healthy", role="reader"), ME, NodeState.JOINING) == [ME, joining]


# ------------------------------------------------------------------------------------------------------------- leaving


class Leaver:
    """A member that goes."""

    def __init__(self, cluster: Cluster, name: str, log: Log) -> None:
        peer = next(each for each in cluster.peers if each.name == name)
        self.cluster = cluster
        self.done: list[str] = []
        self.leases = trio.Event()
        self.files = trio.Event()
        self.files.set()
        identity = Identity(node=NodeId(name), incarnation=2, cluster_uuid=cluster.uuid, has_joined=True)
        self.identity = IdentityFile(MemoryDisk(), InlineWorkers(), identity)
        self.leaving = Leaving(
            self.identity,
            MemberRaft(cluster, peer),
            cluster,
            lambda: cluster.fsm.catalog,
            self.wait_leases_gone,
            self.files.wait,
            call=cluster.network.asker(peer).call,
            log=log,
        )

    async def wait_leases_gone(self) -> None:
        self.done.append(f"state {self.cluster.fsm.catalog.nodes[self.identity.current.node].state}")
        await self.leases.wait()


async def test_the_leader_leaves_in_order(log: Log) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    leaver = Leaver(cluster, "n1", log)
    leaver.leases.set()
    await leaver.leaving.leave()
    assert leaver.done == ["state leaving"], "leases move once everybody knows"
    assert cluster.leader == cluster.peers[1]
    assert cluster.configuration.voters == cluster.peers[1:]
    assert "n1" not in cluster.fsm.catalog.nodes
    assert leaver.identity.current.has_left


async def test_whoever_holds_leases_stays(log: Log, autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    leaver = Leaver(cluster, "n1", log)
    with pytest.raises(Conflict, match="nobody has taken over the leases"):
        await leaver.leaving.leave()
    assert cluster.configuration.voters == cluster.peers
    assert cluster.leader == cluster.peers[0]
    assert not leaver.identity.current.has_left


async def test_a_voter_that_is_needed_stays(log: Log, autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    cluster.silent = {"n2"}
    leaver = Leaver(cluster, "n3", log)
    leaver.leases.set()
    with pytest.raises(Conflict, match="stand still"):
        await leaver.leaving.leave()
    assert not leaver.identity.current.has_left


async def test_the_only_member_stays(log: Log) -> None:
    with pytest.raises(Conflict, match="only member"):
        await Leaver(Cluster(Network(), log, "n1"), "n1", log).leaving.leave()


async def test_whoever_has_the_only_copy_of_a_file_stays(log: Log, autojump_clock: trio.testing.MockClock) -> None:
    """Found by world_joins seed 1: a writer left within milliseconds of a flush, and took the file with it."""
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    leaver = Leaver(cluster, "n1", log)
    leaver.leases.set()
    leaver.files = trio.Event()
    leaver.leaving._wait_files_copied = leaver.files.wait
    with pytest.raises(Conflict, match="files are on this node alone") as refused:
        await leaver.leaving.leave()
    assert refused.value.code == "files_held"
    assert cluster.leader == cluster.peers[0], "leadership stays as well"
    assert cluster.peers[0] in cluster.configuration.voters
    leaver.files.set()
    await leaver.leaving.leave()
    assert "n1" not in cluster.fsm.catalog.nodes


async def test_leaving_twice_is_leaving_once(log: Log) -> None:
    network = Network()
    cluster = Cluster(network, log, "n1", "n2", "n3")
    for _ in range(2):
        answer = await network.asker(cluster.peers[2]).call("n2", LEAVE, b"", timeout_seconds=1)
        assert not Standing.unpacked(answer).is_known
    assert cluster.configuration.voters == cluster.peers[:2]


async def test_an_orderly_stop_hands_over_and_keeps_the_membership(
    log: Log, autojump_clock: trio.testing.MockClock
) -> None:
    cluster = Cluster(Network(), log, "n1", "n2", "n3")
    leaver = Leaver(cluster, "n1", log)
    left = await leaver.leaving.stand_down()
    assert left == Left(is_told=True, are_leases_gone=False, is_leadership_gone=True)
    assert cluster.transferred == [cluster.peers[1]]
    assert cluster.configuration.voters == cluster.peers
    assert cluster.fsm.catalog.nodes["n1"].state == "leaving"


async def test_a_node_alone_stops_without_telling_anybody(log: Log) -> None:
    leaver = Leaver(Cluster(Network(), log, "n1"), "n1", log)
    assert await leaver.leaving.stand_down() == Left(is_told=True, are_leases_gone=True, is_leadership_gone=True)
    assert leaver.done == []


async def test_draining_and_back(log: Log) -> None:
    cluster = Cluster(Network(), log, "n1", "n2")
    await set_state(cluster, cluster.fsm.catalog, "n2", NodeState.LEAVING)
    assert cluster.fsm.catalog.nodes["n2"].state == "leaving"
    await set_state(cluster, cluster.fsm.catalog, "n2", NodeState.HEALTHY)
    assert cluster.fsm.catalog.nodes["n2"].state == "healthy"
    with pytest.raises(NotFound):
        await set_state(cluster, cluster.fsm.catalog, "n7", NodeState.LEAVING)
