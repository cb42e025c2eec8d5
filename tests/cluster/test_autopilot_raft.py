"""The autopilot on whole drivers of consensus: what it plans can be done, under load, and settles by itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from arc.catalog.commands import Command, DescribeNode, SetNodeState
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.cluster.autopilot import Autopilot
from arc.cluster.membership import Membership
from arc.errors import Unavailable
from arc.ids import NodeId
from arc.raft.node import RaftNode
from arc.raft.types import Peer
from tests.raft.drivers import LOG, Cluster, Member, TrioClock, cluster_of, until

DEAD_SECONDS = 4.0


class Piloted:
    """A cluster in which every node has an autopilot. What is agreed on besides members is one catalog for all: how
    that comes about is not the matter here.
    """

    def __init__(self, cluster: Cluster, nursery: trio.Nursery) -> None:
        self.cluster = cluster
        self.nursery = nursery
        self.fsm = ClusterFSM()

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        return self.fsm.apply(self.fsm.catalog.index + 1, command).result

    async def describe(self, name: str, role: str = "standalone") -> None:
        peer = self.cluster.members[name].me
        described = DescribeNode(name=NodeId(name), incarnation=peer.incarnation, address=f"{name}:9100", role=role)
        (await self.propose(described)).unwrap()

    async def start(self, name: str, role: str = "standalone") -> None:
        """A new node, described; it founds nothing."""
        member = self.cluster.members.get(name)
        if member is None:
            member = self.cluster.members[name] = Member(self.cluster, Peer(name, 2), is_founder=False)
        if member.raft is None:
            await member.start()
        await self.describe(name, role)
        self.pilot(member)

    def pilot(self, member: Member) -> None:
        raft = member.raft
        assert raft is not None
        membership = Membership(raft, self, lambda: self.fsm.catalog, _greet_nobody)
        autopilot = Autopilot(
            raft,
            membership,
            self,
            lambda: self.fsm.catalog,
            clock=TrioClock(),
            log=LOG,
            dead_voter_seconds=DEAD_SECONDS,
        )
        self.nursery.start_soon(autopilot.run)

    def look(self) -> RaftNode | None:
        """Whoever leads and knows no other leader."""
        leading = [member.raft for member in self.cluster.members.values() if member.raft and member.raft.is_leader]
        return max(leading, key=lambda raft: raft.status().term) if leading else None

    async def until_voters(self, *names: str) -> None:
        def has_them() -> bool:
            leader = self.look()
            if leader is None:
                return False
            status = leader.status()
            found = tuple(peer.name for peer in status.configuration.voters)
            return found == names and not status.configuration.is_joint and status.configuration_index <= status.commit

        await until(has_them)


async def _greet_nobody(address: str) -> Peer:
    raise Unavailable(f"nobody at {address}")


@asynccontextmanager
async def piloted(*founders: str) -> AsyncIterator[Piloted]:
    async with cluster_of(*founders) as cluster, trio.open_nursery() as nursery:
        await cluster.start()
        found = Piloted(cluster, nursery)
        for name in founders:
            await found.start(name)
        yield found
        nursery.cancel_scope.cancel()


async def test_one_becomes_three_voters_and_the_second_waits_for_the_third(autojump_clock: MockClock) -> None:
    async with piloted("n1") as found:
        await found.start("n2")
        await trio.sleep(5)
        await found.until_voters("n1")
        await found.start("n3")
        await found.until_voters("n1", "n2", "n3")


async def test_a_dead_voter_is_replaced_and_is_a_learner_when_it_comes_back(autojump_clock: MockClock) -> None:
    async with piloted("n1", "n2", "n3") as found:
        await found.start("n4")
        leader = await found.cluster.leader()
        away = next(name for name in ("n3", "n2") if name != leader.me.name)
        await found.cluster.members[away].kill()
        await trio.sleep(DEAD_SECONDS - 2)
        await found.until_voters("n1", "n2", "n3")
        left = sorted({"n1", "n2", "n3", "n4"} - {away})
        await found.until_voters(*left)
        await found.cluster.members[away].start()
        await trio.sleep(5)
        await found.until_voters(*left)
        assert [peer.name for peer in (await found.cluster.leader()).status().configuration.learners] == [away]


async def test_a_reader_votes_until_the_third_writer_comes_and_leadership_moves(autojump_clock: MockClock) -> None:
    async with piloted("r1") as found:
        await found.describe("r1", "reader")
        for name in ("w1", "w2"):
            await found.start(name, "writer")
        await found.until_voters("r1", "w1", "w2")
        await found.start("w3", "writer")
        await found.until_voters("w1", "w2", "w3")
        assert (await found.cluster.leader()).me.name != "r1"


async def test_the_only_voter_of_two_hands_over_when_it_drains(autojump_clock: MockClock) -> None:
    async with piloted("n1") as found:
        await found.start("n2")
        await until(lambda: len(found.cluster.members["n1"].raft.status().configuration.learners) == 1)  # type: ignore[union-attr]
        (await found.propose(SetNodeState(name=NodeId("n1"), incarnation=1, state="leaving"))).unwrap()
        await found.until_voters("n2")
        assert (await found.cluster.leader()).me.name == "n2"


async def test_founders_that_begin_with_the_same_voters_need_only_most_of_them(autojump_clock: MockClock) -> None:
    """What `founding` relies on: the voters before the first entry are those of the plan, on every founder."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        for name in ("n2", "n3"):
            await cluster.members[name].start()
        leader = await cluster.leader()
        assert leader.me.name in ("n2", "n3")
        await leader.propose(b"hello")
        await cluster.members["n1"].start()
        await until(lambda: cluster.members["n1"].machine.commands == [b"hello"])
