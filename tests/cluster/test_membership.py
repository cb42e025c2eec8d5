"""Members come and go: in which order, what is refused, and that a call which failed half-way can be repeated."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import pytest
import trio
from trio.testing import MockClock

from arc.catalog.commands import Command, DescribeNode, ForgetNode
from arc.catalog.fsm import ClusterFSM
from arc.catalog.nodes import NodeRecord
from arc.catalog.results import Result
from arc.cluster.membership import Membership
from arc.errors import ArcError, Conflict, InvalidRequest, NotFound, Unavailable
from arc.ids import NodeId
from arc.raft.events import Change, ChangeKind
from arc.raft.membership import members, target
from arc.raft.requests import NotLeading
from arc.raft.status import FollowerStatus, Status
from arc.raft.types import Configuration, Peer, Role

N1, N2, N3, N4, N5 = (Peer(f"n{number}") for number in range(1, 6))


class FakeCluster:
    """A leader whose changes succeed at once, with a real catalog; everything it was asked for stands in ``done``."""

    def __init__(self, *voters: Peer, learners: tuple[Peer, ...] = (), described: bool = True) -> None:
        self.me = N1
        self.role = Role.LEADER
        self.leader: Peer | None = N1
        self.configuration = Configuration(voters=voters, learners=learners)
        self.configuration_index = 3
        self.silent: set[Peer] = set()
        self.unheard: set[Peer] = set()
        self.fsm = ClusterFSM()
        self.done: list[str] = []
        self.answers = {"h1:1": N1, "h2:1": N2, "h3:1": N3, "h4:1": N4}
        self.change_error: ArcError | None = None
        self.propose_error: ArcError | None = None
        for peer in (*voters, *learners) if described else ():
            self.describe(peer)
        self.members = Membership(self, self, lambda: self.fsm.catalog, self.greet)

    def describe(self, peer: Peer) -> None:
        address = f"h{peer.name[1:]}:1"
        command = DescribeNode(name=NodeId(peer.name), incarnation=peer.incarnation, address=address)
        assert self.fsm.apply(self.fsm.catalog.index + 1, command).result.ok

    @property
    def known(self) -> dict[str, str]:
        return {record.name: record.address for record in self.fsm.catalog.nodes.values()}

    def status(self) -> Status:
        followers = tuple(
            FollowerStatus(peer, "replicate", 9, 10, 0, 0, peer not in self.silent, peer not in self.unheard)
            for peer in members(self.configuration)
            if peer != self.me
        )
        blank = dict.fromkeys(Status._fields, 0)
        return Status(
            **blank
            | {
                "me": self.me,
                "role": self.role,
                "leader": self.leader,
                "configuration": self.configuration,
                "configuration_index": self.configuration_index,
                "followers": followers if self.role is Role.LEADER else (),
            }  # type: ignore[arg-type]
        )

    async def read(self) -> int:
        await trio.lowlevel.checkpoint()
        self.done.append("read")
        return self.fsm.catalog.index

    async def change(self, changes: Iterable[Change], *, expect_index: int | None = None) -> int:
        await trio.lowlevel.checkpoint()
        changes = tuple(changes)
        assert changes, "an empty change means to leave a joint configuration"
        self.done += [f"{change.kind.name.lower()} {change.peer}" for change in changes]
        if self.change_error is not None:
            raise self.change_error
        assert expect_index == self.configuration_index
        self.configuration = target(self.configuration, changes)
        self.configuration_index += 10
        return self.configuration_index

    async def transfer(self, to: Peer | None = None) -> Peer:
        await trio.lowlevel.checkpoint()
        self.done.append("transfer")
        assert to is None
        return N2

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        self.done.append(type(command).__name__)
        if self.propose_error is not None:
            raise self.propose_error
        return self.fsm.apply(self.fsm.catalog.index + 1, command).result

    async def greet(self, address: str) -> Peer:
        await trio.lowlevel.checkpoint()
        self.done.append(f"greet {address}")
        if address not in self.answers:
            raise Unavailable(f"nobody answers at {address}")
        return self.answers[address]


def replaced(cluster: FakeCluster, address: str, peer: Peer) -> None:
    """Another node answers there now."""
    cluster.answers[address] = peer


async def test_a_node_is_greeted_described_and_then_taken_in() -> None:
    cluster = FakeCluster(N1, N2)
    assert await cluster.members.add("h3:1", as_learner=False) == (N3, 13)
    assert cluster.done == ["read", "greet h3:1", "DescribeNode", "voter n3"]
    assert cluster.configuration.voters == (N1, N2, N3)
    assert cluster.fsm.catalog.nodes["n3"] == NodeRecord(NodeId("n3"), 1, "h3:1")


async def test_a_learner_is_made_a_voter_by_the_same_call() -> None:
    cluster = FakeCluster(N1, N2)
    await cluster.members.add("h3:1", as_learner=True)
    assert cluster.configuration == Configuration(voters=(N1, N2), learners=(N3,))
    await cluster.members.add("h3:1", as_learner=False)
    assert cluster.configuration == Configuration(voters=(N1, N2, N3))


async def test_adding_a_member_again_only_tells_where_it_is() -> None:
    cluster = FakeCluster(N1, N2)
    replaced(cluster, "elsewhere:1", N2)
    await cluster.members.add("elsewhere:1", as_learner=False)
    assert cluster.configuration.voters == (N1, N2)
    assert cluster.known["n2"] == "elsewhere:1"


async def test_a_node_that_leads_by_now_is_not_asked_to_let_itself_in() -> None:
    """World seed 70165: the operator's call was repeated at the node that it was about, which could not dial itself."""
    cluster = FakeCluster(N1, N2)
    assert await cluster.members.add("h1:1", as_learner=False) == (N1, 3)
    assert cluster.done == ["read"]


async def test_a_voter_is_not_made_a_learner_in_passing() -> None:
    cluster = FakeCluster(N1, N2)
    with pytest.raises(Conflict, match="votes already"):
        await cluster.members.add("h2:1", as_learner=True)
    assert cluster.done == ["read", "greet h2:1"]


async def test_nobody_there_changes_nothing() -> None:
    cluster = FakeCluster(N1, N2)
    with pytest.raises(Unavailable, match="nobody answers") as caught:
        await cluster.members.add("h9:1", as_learner=False)
    assert caught.value.code == "peer_unreachable"
    assert cluster.done == ["read", "greet h9:1"]


@pytest.mark.parametrize("described", [True, False], ids=["described", "only a member"])
async def test_another_incarnation_is_removed_first_and_then_comes(described: bool) -> None:
    cluster = FakeCluster(N1, N2, N3, described=described)
    wiped = Peer("n3", 77)
    replaced(cluster, "h3:1", wiped)
    with pytest.raises(Conflict, match="remove it first: n3"):
        await cluster.members.add("h3:1", as_learner=False)
    assert cluster.done == ["read", "greet h3:1"]
    await cluster.members.remove("n3")
    assert await cluster.members.add("h3:1", as_learner=False) == (wiped, 23)
    assert cluster.configuration.voters == (N1, N2, wiped)


async def test_an_incarnation_that_is_described_and_no_member_stands_too() -> None:
    cluster = FakeCluster(N1, N2)
    cluster.describe(Peer("n3", 5))
    with pytest.raises(Conflict, match="remove it first: n3"):
        await cluster.members.add("h3:1", as_learner=False)
    await cluster.members.remove("n3")
    assert cluster.done[-2:] == ["read", "ForgetNode"]
    await cluster.members.add("h3:1", as_learner=False)


async def test_a_refused_change_leaves_a_description_and_the_call_may_be_repeated() -> None:
    cluster = FakeCluster(N1, N2)
    cluster.change_error = Conflict("another change is not committed yet")
    with pytest.raises(Conflict, match="another change"):
        await cluster.members.add("h3:1", as_learner=False)
    assert cluster.known["n3"] == "h3:1"
    cluster.change_error = None
    assert await cluster.members.add("h3:1", as_learner=False) == (N3, 13)


async def test_what_is_no_address_is_not_dialled() -> None:
    cluster = FakeCluster(N1, N2)
    with pytest.raises(InvalidRequest, match="host:port"):
        await cluster.members.add("no address", as_learner=False)
    assert cluster.done == []


async def test_a_description_that_is_refused_ends_it() -> None:
    cluster = FakeCluster(N1, N2)
    replaced(cluster, "h3:1", Peer("a/b"))
    with pytest.raises(InvalidRequest, match="node name 'a/b'"):
        await cluster.members.add("h3:1", as_learner=False)
    assert cluster.configuration.voters == (N1, N2)


async def test_a_node_is_let_go_before_its_address_is_forgotten() -> None:
    cluster = FakeCluster(N1, N2, N3)
    assert await cluster.members.remove("n3") == cluster.fsm.catalog.index
    assert cluster.done == ["read", "SetNodeState", "remove n3", "ForgetNode"]
    assert cluster.configuration.voters == (N1, N2)
    assert cluster.known == {"n1": "h1:1", "n2": "h2:1"}


@pytest.mark.parametrize(
    ("learners", "silent", "coming"),
    [
        ((N4,), set(), ["voter n4"]),
        ((N4, N5), set(), ["voter n4"]),
        ((N4, N5), {N4}, ["voter n5"]),
        ((N4,), {N4}, []),
        ((), set(), []),
    ],
)
async def test_another_node_votes_from_the_entry_on_that_takes_a_vote(
    learners: tuple[Peer, ...], silent: set[Peer], coming: list[str]
) -> None:
    """Between two entries two nodes would vote, and none of them could fail (world seed 610133)."""
    cluster = FakeCluster(N1, N2, N3, learners=learners)
    cluster.silent = silent
    await cluster.members.remove("n3")
    assert cluster.done == ["read", "SetNodeState", *coming, "remove n3", "ForgetNode"]


async def test_a_learner_that_goes_needs_nobody_in_its_place() -> None:
    cluster = FakeCluster(N1, N2, N3, learners=(N4, N5))
    await cluster.members.remove("n5")
    assert cluster.done == ["read", "SetNodeState", "remove n5", "ForgetNode"]


async def test_who_wants_to_go_does_not_wait_for_who_cannot_catch_up() -> None:
    cluster = FakeCluster(N1, N2, N3, learners=(N4,))
    change = cluster.change

    async def slow(changes: Iterable[Change], *, expect_index: int | None = None) -> int:
        wanted = tuple(changes)
        if any(each.kind is ChangeKind.VOTER for each in wanted):
            raise Unavailable("the new voters stay learners, they did not catch up: timeout")
        return await change(wanted, expect_index=expect_index)

    cluster.change = slow  # type: ignore[method-assign]
    await cluster.members.remove("n3")
    assert cluster.configuration == Configuration(voters=(N1, N2), learners=(N4,))


async def test_a_node_that_asked_is_described_whole_and_follows() -> None:
    cluster = FakeCluster(N1, N2)
    described = DescribeNode(
        name=NodeId("n3"),
        incarnation=1,
        address="h3:1",
        role="reader",
        api_address="h3:2",
        version="1",
        cores=4,
        at_us=9,
    )
    await cluster.members.admit(described)
    assert cluster.done == ["read", "DescribeNode", "learner n3"]
    assert cluster.configuration == Configuration(voters=(N1, N2), learners=(N3,))
    assert cluster.fsm.catalog.nodes["n3"].role == "reader"
    await cluster.members.admit(described)  # Its answer was lost: it asks again.
    assert cluster.done[3:] == ["read", "DescribeNode"]


async def test_another_incarnation_is_not_admitted() -> None:
    cluster = FakeCluster(N1, N2, N3)
    with pytest.raises(Conflict, match="remove it first: n3") as caught:
        await cluster.members.admit(DescribeNode(name=NodeId("n3"), incarnation=77, address="h3:1"))
    assert caught.value.code == "other_incarnation"
    assert cluster.done == ["read"]


async def test_adding_by_address_keeps_what_the_node_said_of_itself() -> None:
    cluster = FakeCluster(N1, N2)
    await cluster.members.admit(DescribeNode(name=NodeId("n3"), incarnation=1, address="h3:1", role="reader", cores=4))
    await cluster.members.add("h3:1", as_learner=True)
    assert cluster.fsm.catalog.nodes["n3"].role == "reader"


async def test_one_change_waits_for_the_other() -> None:
    cluster = FakeCluster(N1, N2)
    async with trio.open_nursery() as nursery:
        for address in ("h3:1", "h4:1"):
            nursery.start_soon(partial(cluster.members.add, address, as_learner=True))
    assert cluster.configuration.learners == (N3, N4)


async def test_what_the_autopilot_saw_must_still_stand() -> None:
    cluster = FakeCluster(N1, N2, learners=(N3,))
    await cluster.members.change([Change(ChangeKind.VOTER, N3)], expect_index=3)
    assert cluster.configuration.voters == (N1, N2, N3)


async def test_a_node_that_somebody_else_forgot_meanwhile_is_removed_all_the_same() -> None:
    cluster = FakeCluster(N1, N2, N3)
    propose = cluster.propose

    async def forgotten(command: Command) -> Result:
        if isinstance(command, ForgetNode):
            await propose(command)
        return await propose(command)

    cluster.propose = forgotten  # type: ignore[method-assign]
    await cluster.members.remove("n3")
    assert "n3" not in cluster.known


async def test_a_removal_that_failed_half_way_is_finished_by_the_next() -> None:
    cluster = FakeCluster(N1, N2, N3)
    cluster.change_error = Unavailable("leadership was lost")
    with pytest.raises(Unavailable):
        await cluster.members.remove("n3")
    assert cluster.fsm.catalog.nodes["n3"].state == "leaving"  # So nobody takes it in again.
    cluster.change_error = None
    await cluster.members.remove("n3")
    assert "n3" not in cluster.known


async def test_a_member_that_nobody_described_is_removed() -> None:
    cluster = FakeCluster(N1, N2, N3, described=False)
    assert await cluster.members.remove("n3") == 13
    assert cluster.done == ["read", "remove n3"]


async def test_all_incarnations_of_a_name_go_at_once() -> None:
    cluster = FakeCluster(N1, N2, N3, learners=(Peer("n4", 2),), described=False)
    cluster.configuration = cluster.configuration._replace(voters=(N1, N2, N4))
    await cluster.members.remove("n4")
    assert cluster.configuration == Configuration(voters=(N1, N2))


async def test_an_unknown_name_is_not_found() -> None:
    with pytest.raises(NotFound, match="'n9'"):
        await FakeCluster(N1, N2).members.remove("n9")


@pytest.mark.parametrize("learners", [(), (N2,)], ids=["alone", "with a learner"])
async def test_the_last_voter_stays(learners: tuple[Peer, ...]) -> None:
    cluster = FakeCluster(N1, learners=learners)
    with pytest.raises(Conflict, match="last voter"):
        await cluster.members.remove("n1")
    assert cluster.done == ["read"]


async def test_the_leader_hands_over_and_says_who_can_remove_it() -> None:
    cluster = FakeCluster(N1, N2, N3)
    with pytest.raises(NotLeading, match="handed over to n2") as caught:
        await cluster.members.remove("n1")
    assert caught.value.leader == "n2"
    assert cluster.done == ["read", "transfer"]
    assert cluster.configuration.voters == (N1, N2, N3)


@pytest.mark.parametrize(
    ("voters", "silent", "name", "goes"),
    [
        ((N1, N2, N3), {N3}, "n3", True),
        ((N1, N2, N3), {N3}, "n2", False),
        ((N1, N2, N3), {N3}, "n1", False),
        ((N1, N2), {N2}, "n2", True),
        ((N1, N2, N3, N4), {N4}, "n2", True),
        ((N1, N2, N3, N4), {N3, N4}, "n2", False),
        ((N1, N2, N3, N4), {N3, N4}, "n3", True),
    ],
)
async def test_a_voter_stays_when_the_rest_could_not_go_on(
    voters: tuple[Peer, ...], silent: set[Peer], name: str, goes: bool
) -> None:
    cluster = FakeCluster(*voters)
    cluster.silent = silent
    if goes:
        await cluster.members.remove(name)
        assert name not in {peer.name for peer in cluster.configuration.voters}
    else:
        with pytest.raises(Conflict, match=r"stand still: .* n3.* not answer"):
            await cluster.members.remove(name)
        assert cluster.done == ["read"]


async def test_a_learner_may_always_go() -> None:
    cluster = FakeCluster(N1, N2, learners=(N3,))
    cluster.silent = {N2, N3}
    await cluster.members.remove("n3")
    assert cluster.configuration == Configuration(voters=(N1, N2))


@pytest.mark.parametrize("leader", [N2, None])
async def test_only_the_leader_is_asked(leader: Peer | None) -> None:
    cluster = FakeCluster(N1, N2, N3)
    cluster.role, cluster.leader = Role.FOLLOWER, leader
    for call in (cluster.members.add("h4:1", as_learner=False), cluster.members.remove("n3")):
        with pytest.raises(Unavailable) as caught:
            await call
        assert caught.value.code == "not_leader"
        assert getattr(caught.value, "leader", None) == (leader and leader.name)
    assert cluster.done == []


async def test_a_leader_that_loses_its_office_while_it_looks_changes_nothing() -> None:
    cluster = FakeCluster(N1, N2, N3)

    async def read() -> int:
        cluster.role, cluster.leader = Role.FOLLOWER, N2
        return 1

    cluster.read = read  # type: ignore[method-assign]
    with pytest.raises(NotLeading):
        await cluster.members.remove("n3")
    assert cluster.done == []


@pytest.mark.parametrize("answers", [True, False])
async def test_who_has_not_answered_a_new_leader_is_waited_for_and_then_not_counted_on(
    answers: bool, autojump_clock: MockClock
) -> None:
    cluster = FakeCluster(N1, N2, N3)
    cluster.unheard = {N3}  # It may be dead: nobody is silent for long in the first second of a leader.

    async def answer() -> None:
        await trio.sleep(0.5)
        cluster.unheard.clear()

    async with trio.open_nursery() as nursery:
        if answers:
            nursery.start_soon(answer)
            await cluster.members.remove("n2")
        else:
            with pytest.raises(Conflict, match=r"stand still: .* n3 .*not answer"):
                await cluster.members.remove("n2")

    assert (N2 in cluster.configuration.voters) is not answers


async def test_a_leader_that_steps_down_while_it_asks_changes_nothing(autojump_clock: MockClock) -> None:
    cluster = FakeCluster(N1, N2, N3)
    cluster.unheard = {N3}

    async def step_down() -> None:
        await trio.sleep(0.5)
        cluster.role = Role.FOLLOWER

    async with trio.open_nursery() as nursery:
        nursery.start_soon(step_down)
        with pytest.raises(Unavailable, match="nothing was changed"):
            await cluster.members.remove("n2")

    assert N2 in cluster.configuration.voters
