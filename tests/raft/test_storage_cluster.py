"""Storage faults on one, on some and on all members of a cluster of real drivers on real storage.

Shapes of TigerBeetle's replica tests, restated: faults left and right of what is committed, torn ends beside rot
elsewhere, a disk that is wiped. Whatever happens, nothing acknowledged is lost while a majority holds it, and nobody
claims what it has lost.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from arc.errors import OutcomeUnknown, Unavailable
from arc.ports import BLOCK_BYTES
from arc.raft.events import Change, ChangeKind
from arc.raft.types import Peer
from tests.raft.drivers import Cluster, Member, cluster_of, until


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time jumps whenever everybody waits."""
    return autojump_clock


async def agree(cluster: Cluster, count: int, word: bytes = b"agreed") -> list[bytes]:
    leader = await cluster.leader()
    commands = [b"%s %d " % (word, number) + bytes(1500) for number in range(count)]
    for command in commands:
        await leader.propose(command)
    await cluster.settled()
    return commands


async def kill_all(cluster: Cluster) -> None:
    for member in cluster.members.values():
        await member.kill()


def log_of(member: Member) -> list[str]:
    return [path for path in member.disk.walk("raft/log") if path.endswith(".log")]


def rot(member: Member, group: int) -> None:
    """One byte of a record in that group of the first segment."""
    member.disk.flip(log_of(member)[0], group * BLOCK_BYTES + 60)


def tear(member: Member) -> None:
    """The last group did not arrive whole: as it was never acknowledged, there is one more that nobody knows of."""
    path = log_of(member)[-1]
    data = member.disk.read(path)
    used = max(place for place in range(0, len(data), BLOCK_BYTES) if any(data[place : place + BLOCK_BYTES]))
    if used + BLOCK_BYTES < len(data):
        member.disk.open_log(path).write_durable(used + BLOCK_BYTES, [b"half a group" * 100])


def lose(member: Member) -> None:
    """All of the log."""
    for path in log_of(member):
        member.disk.remove(path)


def damaged(cluster: Cluster) -> set[str]:
    return {name for name, each in cluster.members.items() if each.raft is not None and each.raft.status().is_damaged}


async def all_equal(cluster: Cluster, agreed: list[bytes]) -> None:
    await until(lambda: not damaged(cluster))
    agreed = agreed + await agree(cluster, 2, b"after")
    for member in cluster.members.values():
        assert member.machine.commands == agreed, member.me


FAULTS: list[tuple[str, dict[str, Callable[[Member], None]]]] = [
    ("rot on one", {"n1": lambda member: rot(member, 5)}),
    ("rot in the root of one", {"n2": lambda member: rot(member, 1)}),
    ("a segment header of one", {"n3": lambda member: member.disk.flip(log_of(member)[0], 9)}),
    ("a segment of one missing", {"n1": lambda member: member.disk.remove(log_of(member)[1])}),
    ("all segments of one missing", {"n1": lose}),
    ("a torn end on one and rot on another", {"n1": tear, "n2": lambda member: rot(member, 7)}),
    ("torn ends on all", {"n1": tear, "n2": tear, "n3": tear}),
]


@pytest.mark.parametrize("faults", [faults for _, faults in FAULTS], ids=[name for name, _ in FAULTS])
async def test_a_cluster_starts_after_storage_faults_that_leave_a_majority(
    clock: MockClock, faults: dict[str, Callable[[Member], None]]
) -> None:
    """Z-08, I-30, V-08: who is damaged is repaired by the leader that the others elect."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        await cluster.start()
        agreed = await agree(cluster, 40)
        await kill_all(cluster)
        for name, fault in faults.items():
            fault(cluster.members[name])
        await cluster.start()
        await all_equal(cluster, agreed)


@pytest.mark.parametrize("victims", [("n1", "n2"), ("n1", "n2", "n3")], ids=["two", "all"])
async def test_a_cluster_without_a_whole_majority_elects_nobody_and_lies_to_nobody(
    clock: MockClock, victims: tuple[str, ...]
) -> None:
    """Z-08, I-30, K-53: acknowledged entries may be gone from all that are left, so nobody leads (repair is a person's
    decision); also after another restart.
    """
    async with cluster_of("n1", "n2", "n3") as cluster:
        await cluster.start()
        await agree(cluster, 40)
        for _ in range(2):
            await kill_all(cluster)
            for name in victims:
                if not damaged(cluster) and len(log_of(cluster.members[name])) > 1:
                    rot(cluster.members[name], 5)
            for member in cluster.members.values():
                await member.start()
            await trio.sleep(20)
            assert damaged(cluster) == set(victims)
            assert not any(member.raft is not None and member.raft.is_leader for member in cluster.members.values())


@pytest.mark.parametrize("name", ["n1", "n2"])
async def test_all_are_killed_and_one_loses_its_disk(clock: MockClock, name: str) -> None:
    """Z-06, Z-10: it comes back as another incarnation, owes nothing, is owed nothing, and is fed from the start."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        for member in cluster.members.values():
            member.snapshot_entries = 15
        await cluster.start()
        agreed = await agree(cluster, 40)
        await kill_all(cluster)
        old = cluster.members.pop(name)
        for member in cluster.members.values():
            await member.start()
        leader = await cluster.leader()
        fresh = cluster.members[name] = Member(cluster, Peer(name, 2), is_founder=False)
        await fresh.start()
        await leader.change([Change(ChangeKind.REMOVE, old.me), Change(ChangeKind.VOTER, fresh.me)])
        await cluster.settled()
        assert fresh.machine.commands == agreed
        await kill_all(cluster)
        await cluster.start()
        await all_equal(cluster, agreed)


async def test_disks_fail_and_rot_one_after_another_and_nothing_acknowledged_is_lost(clock: MockClock) -> None:
    """Z-08, Z-10: at most one at a time is damaged, every round another one; writes go on."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        await cluster.start()
        agreed = await agree(cluster, 20)
        for turn in range(9):
            member = cluster.members[f"n{turn % 3 + 1}"]
            await member.kill()
            if turn % 2:
                rot(member, 4 + turn)
            else:
                tear(member)
            await member.start()
            leader = await cluster.leader()
            for number in range(5):
                try:
                    await leader.propose(b"turn %d.%d" % (turn, number))
                    agreed.append(b"turn %d.%d" % (turn, number))
                except (Unavailable, OutcomeUnknown):
                    break
            await until(lambda: not damaged(cluster))
        await cluster.settled()
        for member in cluster.members.values():
            assert set(agreed) <= set(member.machine.commands)
            assert member.machine.commands == cluster.members["n1"].machine.commands
