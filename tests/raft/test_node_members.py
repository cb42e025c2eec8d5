"""Members come and go under writes, on whole drivers with real storage: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from arc.errors import Conflict, InvalidRequest, OutcomeUnknown, Unavailable
from arc.raft.events import Change, ChangeKind
from arc.raft.types import Peer
from tests.raft.drivers import Cluster, Member, cluster_of, until

Z07_SEEDS = range(6)


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time jumps whenever everybody waits."""
    return autojump_clock


class Writer:
    """Proposes numbers one after another at whoever leads, and remembers what was acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.acknowledged: list[bytes] = []
        self.number = 0

    async def run(self) -> None:
        while True:
            leaders = [
                m.raft for _, m in sorted(self.cluster.members.items()) if m.raft is not None and m.raft.is_leader
            ]
            self.number += 1
            command = b"%d" % self.number
            try:
                if leaders:
                    await leaders[-1].propose(command)
                    self.acknowledged.append(command)
            except (Unavailable, OutcomeUnknown):
                pass
            await trio.sleep(0.005)

    async def wrote(self, more: int = 5) -> None:
        """Wait until some more were acknowledged: the cluster goes on."""
        wanted = len(self.acknowledged) + more
        await until(lambda: len(self.acknowledged) >= wanted)

    def check(self, *members: Member) -> None:
        for member in members:
            commands = member.machine.commands
            assert len(set(commands)) == len(commands), "doubled"
            assert set(self.acknowledged) <= set(commands), "lost"


async def change(cluster: Cluster, *changes: Change) -> None:
    """At whoever leads, again after a change of leaders; what stands already is no error."""
    while True:
        leader = await cluster.leader()
        try:
            await leader.change(changes)
            return
        except (Unavailable, OutcomeUnknown, Conflict):
            await trio.sleep(0.1)


async def join(cluster: Cluster, name: str, incarnation: int = 1) -> Member:
    member = cluster.members[name] = Member(cluster, Peer(name, incarnation), is_founder=False)
    await member.start()
    await change(cluster, Change(ChangeKind.VOTER, member.me))
    return member


async def test_three_become_five_and_three_again_under_writes(clock: MockClock) -> None:
    """Z-04: 3 -> 5 -> 3, the leader removed among them, and a member that nobody reaches."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        await cluster.start()
        writer = Writer(cluster)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            await writer.wrote()
            for name in ("n4", "n5"):
                await join(cluster, name)
                await writer.wrote()
            assert len((await cluster.leader()).status().configuration.voters) == 5
            old = await cluster.leader()
            await change(cluster, Change(ChangeKind.REMOVE, old.me))
            await cluster.leader(but=old.me.name)
            await writer.wrote()
            await cluster.members.pop(old.me.name).stop()
            leader = await cluster.leader()
            away = next(name for name in cluster.members if name != leader.me.name)
            cluster.isolate(away)
            await writer.wrote()
            await change(cluster, Change(ChangeKind.REMOVE, cluster.members[away].me))
            await writer.wrote()
            nursery.cancel_scope.cancel()
        cluster.cut.clear()
        gone = cluster.members.pop(away)
        await gone.stop()
        await cluster.settled()
        assert len((await cluster.leader()).status().configuration.voters) == 3
        writer.check(*cluster.members.values())


async def test_a_node_that_does_not_lead_changes_nothing(clock: MockClock) -> None:
    """Z-04: members are added and removed at the leader only, which is named."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        leader = await cluster.start()
        await cluster.settled()
        for member in cluster.members.values():
            if member.raft is not None and member.raft is not leader:
                with pytest.raises(Unavailable, match=leader.me.name):
                    await member.raft.change([Change(ChangeKind.REMOVE, Peer("n1"))])


async def test_a_removed_follower_is_told_and_a_removed_leader_ends_what_it_began(clock: MockClock) -> None:
    """Z-07: the families of a removed follower and of a removed leader with proposals of their own under way."""
    async with cluster_of("n1", "n2", "n3", "n4") as cluster:
        leader = await cluster.start()
        follower = next(member for member in cluster.members.values() if member.raft is not leader)
        assert follower.raft is not None
        ends: list[str] = []

        async def propose(command: bytes) -> None:
            try:
                await leader.propose(command)
                ends.append("done")
            except (Unavailable, OutcomeUnknown) as error:
                ends.append(error.code)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(propose, b"before")
            await change(cluster, Change(ChangeKind.REMOVE, follower.me))
            with pytest.raises((Unavailable, OutcomeUnknown)):
                await follower.raft.propose(b"at the removed one")
            nursery.start_soon(propose, b"beside its own removal")
            await change(cluster, Change(ChangeKind.REMOVE, leader.me))
        assert len(ends) == 2 and ends[0] == "done", "everybody is answered"
        await cluster.members.pop(follower.me.name).stop()
        await cluster.members.pop(leader.me.name).stop()
        await (await cluster.leader()).propose(b"after")
        await cluster.settled()
        assert all(member.machine.commands[-1] == b"after" for member in cluster.members.values())


@pytest.mark.parametrize("seed", Z07_SEEDS)
async def test_under_a_drawn_nemesis_everything_acknowledged_is_everywhere_once(clock: MockClock, seed: int) -> None:
    """Z-07: kills, cuts, transfers, snapshots, reads, newcomers and removals, in a drawn order under writes."""
    rng = random.Random(seed)
    async with cluster_of("n1", "n2", "n3") as cluster:
        cluster.starts = 1000 * seed
        for member in cluster.members.values():
            member.snapshot_entries = rng.choice((10, 40, 10_000))
        await cluster.start()
        writer, joined = Writer(cluster), 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)
            for _ in range(14):
                leader = await cluster.leader()
                others = [m for _, m in sorted(cluster.members.items()) if m.me != leader.me and m.raft is not None]
                act = rng.choice(
                    ("kill", "kill leader", "cut leader", "transfer", "snapshot", "read", "join", "remove")
                )
                try:
                    with trio.move_on_after(20):
                        if act == "kill" and others:
                            victim = rng.choice(others)
                            await victim.kill()
                            await victim.start()
                        elif act == "kill leader":
                            victim = cluster.members[leader.me.name]
                            await victim.kill()
                            await victim.start()
                        elif act == "cut leader" and others:
                            cluster.isolate(leader.me.name)
                            await cluster.leader(but=leader.me.name)
                        elif act == "transfer" and others:
                            await leader.transfer(rng.choice(others).me)
                        elif act == "snapshot":
                            await leader.snapshot()
                        elif act == "read" and others:
                            raft = rng.choice(others).raft
                            known = len(writer.acknowledged)
                            if raft is not None:
                                await raft.read()
                                seen = cluster.members[raft.me.name].machine.commands
                                assert set(writer.acknowledged[:known]) <= set(seen), "a read that is stale"
                        elif act == "join" and len(cluster.members) < 5:
                            joined += 1
                            await join(cluster, f"n{joined}")
                        elif act == "remove" and len(cluster.members) > 3:
                            gone = rng.choice(others)
                            await change(cluster, Change(ChangeKind.REMOVE, gone.me))
                            await cluster.members.pop(gone.me.name).stop()
                except (Unavailable, OutcomeUnknown, InvalidRequest):
                    pass  # It was refused, or nobody knows: the rules below hold either way.
                cluster.cut.clear()
                await writer.wrote(2)
            nursery.cancel_scope.cancel()
        await cluster.leader()
        await cluster.settled()
        writer.check(*cluster.members.values())
        machines = [member.machine.commands for member in cluster.members.values()]
        assert all(commands == machines[0] for commands in machines)
