"""No one disk holds the only copy of an acknowledged row: what a log keeps until its files have found theirs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from arc.catalog.commands import DescribeNode, ForgetNode, HoldFiles, SetNodeState
from arc.catalog.fsm import ClusterFSM
from arc.ids import NodeId
from arc.ingest.rescue import GRACE_SECONDS
from arc.ports import BLOCK_BYTES
from arc.replication.copies import FRESH_US, NOTHING, Kept, Tally
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from tests.catalog.facts import do, file, ready, register
from tests.fakes import MemoryDisk
from tests.replication.cluster import WAL, Cluster, open_cluster, until

SMALL = replace(WAL, max_bytes=8 * BLOCK_BYTES, follower_window_bytes=16 << 10)
"""So small that the courtesy for late followers hides nothing: what is not needed goes at once."""


# ---- the whole of it


async def fill(cluster: Cluster, name: str, rows: range) -> None:
    for start in range(rows.start, rows.stop, 50):
        await cluster[name].write(range(start, min(start + 50, rows.stop)))


async def lose_disk(cluster: Cluster, name: str) -> None:
    await cluster.kill(name)
    cluster[name].disk = MemoryDisk()


async def restart(cluster: Cluster, name: str) -> None:
    """Only what is on its disk counts after that."""
    await cluster.kill(name)
    await cluster.start(name)


def starts(cluster: Cluster, name: str) -> int:
    found = cluster[name].duty.statistics()
    assert found is not None
    return found.replication.first_sequence


@pytest.mark.parametrize("in_sync", [3, 2])
async def test_the_writers_disk_is_lost_between_a_registration_and_the_first_pull(
    in_sync: int, autojump_clock: MockClock
) -> None:
    async with open_cluster(3, wal=SMALL) as cluster:
        if in_sync == 2:
            cluster.cut_off("n3")
            await until(lambda: cluster.in_sync() == {"n1", "n2"})
        await fill(cluster, "n1", range(2_000))
        await cluster["n1"].duty.flush_all()
        await trio.sleep(5)
        assert starts(cluster, "n1") > 1, "the writer has the files, so its log is bounded as ever"
        await lose_disk(cluster, "n1")
        assert cluster.assign("n2").ok
        await until(lambda: cluster.reigns("n2"))
        await restart(cluster, "n2")
        await until(lambda: cluster["n2"].sees(range(2_000)))


async def test_files_that_nobody_has_any_more_are_written_again_from_the_log(autojump_clock: MockClock) -> None:
    """Else every log would be kept for their sake for ever."""
    async with open_cluster(3, wal=SMALL) as cluster:
        await fill(cluster, "n1", range(2_000))
        await cluster["n1"].duty.flush_all()
        await trio.sleep(2)
        lost = {entry.path for entry in cluster["n1"].catalog.all_files()}
        await lose_disk(cluster, "n1")
        assert cluster.assign("n2").ok
        await until(lambda: cluster.reigns("n2"))
        await trio.sleep(2 * GRACE_SECONDS)
        assert {entry.path for entry in cluster["n2"].catalog.all_files()} == lost, "who is only away may come back"
        cluster.agree(ForgetNode(name=NodeId("n1"), incarnation=2))
        await until(lambda: lost.isdisjoint(e.path for e in cluster["n2"].catalog.all_files()), 2 * GRACE_SECONDS)
        assert {entry.holders for entry in cluster["n2"].catalog.all_files()} == {("n2",)}
        await until(lambda: cluster["n2"].sees(range(2_000)))
        assert cluster["n3"].sees(range(2_000)), "from its log, until the new files come"
        cluster.copy_files("n2", "n3")
        await until(lambda: cluster["n3"].buffer.statistics().records_buffered == 0)
        await cluster["n2"].write([2_000])
        await cluster["n2"].duty.flush_all()
        cluster.copy_files("n2", "n3")
        await until(lambda: starts(cluster, "n2") > 1 and starts(cluster, "n3") > 1)
        for name in ("n2", "n3"):
            await restart(cluster, name)
        await until(lambda: cluster["n2"].sees(range(2_001)) and cluster["n3"].sees(range(2_001)))


async def test_the_other_disk_is_lost_instead(autojump_clock: MockClock) -> None:
    async with open_cluster(2, wal=SMALL) as cluster:
        await fill(cluster, "n1", range(2_000))
        await cluster["n1"].duty.flush_all()
        await trio.sleep(5)
        await lose_disk(cluster, "n2")
        await restart(cluster, "n1")
        assert cluster["n1"].sees(range(2_000))


async def test_a_log_shrinks_when_the_files_have_come_or_are_on_two_others(autojump_clock: MockClock) -> None:
    async with open_cluster(3, wal=SMALL) as cluster:
        await fill(cluster, "n1", range(2_000))
        await cluster["n1"].duty.flush_all()
        await trio.sleep(5)
        assert starts(cluster, "n2") == starts(cluster, "n3") == 1
        cluster.copy_files("n1", "n2")
        await until(lambda: starts(cluster, "n2") > 1)
        await trio.sleep(5)
        assert starts(cluster, "n3") == 1, "nobody was told that there is a second copy"
        files = tuple((entry.path, entry.sha256) for entry in cluster["n1"].catalog.all_files())
        cluster.agree(HoldFiles(node=NodeId("n2"), incarnation=2, holds=files))
        await until(lambda: starts(cluster, "n3") > 1)


async def test_a_follower_with_the_second_copy_does_not_throw_it_away_because_it_is_late(
    autojump_clock: MockClock,
) -> None:
    """The holder's log starts above its own by now, so it is told to begin anew: not before it has the files."""
    async with open_cluster(2, wal=replace(SMALL, min_insync=1)) as cluster:
        await fill(cluster, "n1", range(500))
        cluster.cut_off("n2")
        await until(lambda: cluster.in_sync() == {"n1"})
        before = cluster["n2"].logged()
        while starts(cluster, "n1") <= before + 1:
            end = cluster["n1"].logged() * 50
            await fill(cluster, "n1", range(end, end + 1_000))
            await cluster["n1"].duty.flush_all()
        rows = range(cluster["n1"].logged() * 50)
        cluster.heal("n2")
        await trio.sleep(10)
        assert (starts(cluster, "n2"), cluster["n2"].logged()) == (1, before)
        cluster.copy_files("n1", "n2")
        await until(lambda: cluster.in_sync() == {"n1", "n2"})
        assert starts(cluster, "n2") > before
        await until(lambda: cluster["n2"].sees(rows))


async def test_a_writer_that_nobody_can_reach_does_not_keep_its_log_for_ever(autojump_clock: MockClock) -> None:
    async with open_cluster(2, wal=replace(SMALL, min_insync=1)) as cluster:
        await fill(cluster, "n1", range(500))
        cluster.cut_off("n2")
        await until(lambda: cluster.in_sync() == {"n1"})
        for start in range(500, 5_500, 1_000):
            await fill(cluster, "n1", range(start, start + 1_000))
            await cluster["n1"].duty.flush_all()
        found = cluster["n1"].duty.statistics()
        assert found is not None and found.wal is not None
        assert found.wal.size_bytes < 3 * SMALL.max_bytes
        assert any(True for _ in cluster["n1"].disk.walk(DATA))


# ---- the parts


class World:
    """What node ``me`` of three writers sees; n1 writes."""

    def __init__(self, me: str = "n3", *, factor: int = 2) -> None:
        self.machine: ClusterFSM = ready()
        for name in ("n1", "n2", "n3"):
            do(self.machine, DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:1", role="writer"))
        self.here: set[str] = set()
        self.looks = 0
        self.kept = Kept(me=me, catalog=lambda: self.machine.catalog, is_here=self.is_here, factor=factor)
        self.tally = Tally(lambda: self.machine.catalog, factor)

    def is_here(self, path: str) -> bool:
        self.looks += 1
        return path in self.here

    def hold(self, name: str, *entries: FileEntry, lost: tuple[FileEntry, ...] = ()) -> None:
        holds, gone = (tuple((entry.path, entry.sha256) for entry in some) for some in (entries, lost))
        do(self.machine, HoldFiles(node=NodeId(name), incarnation=1, holds=holds, lost=gone))


A, B = file("a", first=1, last=10), file("b", hour=30, first=11, last=20)


def test_records_are_kept_for_files_that_are_neither_here_nor_on_enough_others() -> None:
    world = World()
    do(world.machine, register(A, mark=10))
    do(world.machine, register(B, mark=20))
    assert world.kept.first(1) == 1
    world.here.add(A.path)
    assert world.kept.first(1) == 11
    world.hold("n2", B)
    assert world.kept.first(1) == NOTHING
    world.hold("n2", lost=(B,))
    assert world.kept.first(1) == 11
    assert world.kept.first(15) == 15
    assert world.kept.first(21) == NOTHING, "a log that has none of its records cannot help"


def test_this_nodes_own_word_and_those_who_leave_do_not_count() -> None:
    world = World()
    do(world.machine, register(A, mark=10))
    world.hold("n3", A)
    assert world.kept.first(1) == 1
    world.hold("n2", A)
    assert world.kept.first(1) == NOTHING
    do(world.machine, SetNodeState(name=NodeId("n2"), incarnation=1, state="leaving"))
    assert world.kept.first(1) == 1
    do(world.machine, SetNodeState(name=NodeId("n2"), incarnation=1, state="joining"))
    assert world.kept.first(1) == NOTHING
    do(world.machine, ForgetNode(name=NodeId("n2"), incarnation=1))
    assert world.kept.first(1) == 1


def test_lost_is_only_what_nobody_has() -> None:
    world = World()
    do(world.machine, register(A, mark=10))
    do(world.machine, register(B, mark=20))
    assert world.kept.nowhere() == [], "who wrote them has them"
    world.hold("n1", lost=(A,))
    assert [entry.path for entry in world.kept.nowhere()] == [A.path]
    world.hold("n3", A)
    assert world.kept.nowhere() == []


def test_one_copy_is_enough_where_the_operator_said_so() -> None:
    world = World(factor=1)
    do(world.machine, register(A, mark=10))
    assert world.kept.first(1) == NOTHING


@pytest.mark.parametrize(
    ("first", "end", "is_needed"),
    [(1, 5, True), (10, 11, True), (11, 20, False), (5, 5, False), (1, 1, False)],
)
def test_a_log_is_given_up_only_where_no_file_needs_it(first: int, end: int, is_needed: bool) -> None:
    world = World()
    do(world.machine, register(A, mark=10))
    assert (world.kept.needed(first, end) is not None) is is_needed


def test_imported_files_keep_no_records() -> None:
    world = World()
    do(world.machine, register(file("imported")))
    assert world.kept.first(1) == NOTHING


def test_a_look_costs_what_changed_since_the_last_one() -> None:
    world = World()
    do(world.machine, register(*(file(f"f{n}", hour=n, first=1, last=1) for n in range(1, 2_000)), mark=1))
    world.here = {entry.path for entry in world.machine.catalog.all_files()}
    assert world.kept.first(1) == NOTHING
    world.looks = 0
    do(world.machine, register(file("new", hour=1, first=2, last=2), mark=2))
    assert world.kept.first(1) == 2
    assert world.looks < 60


def test_files_with_too_few_living_copies_are_counted_after_a_minute() -> None:
    world, everybody = World(), ("n1", "n2", "n3")
    do(world.machine, register(A, B, mark=20))
    old = A.created_us + FRESH_US
    assert world.tally.under_replicated(everybody, old - 1) == 0
    assert world.tally.under_replicated(everybody, old) == 2
    world.hold("n2", A, B)
    assert world.tally.under_replicated(everybody, old) == 0
    assert world.tally.under_replicated(("n1", "n3"), A.created_us) == 2, "copies that went away are not fresh"
    world.hold("n3", A)
    assert world.tally.under_replicated(("n1", "n3"), old) == 1
    do(world.machine, SetNodeState(name=NodeId("n1"), incarnation=1, state="leaving"))
    assert world.tally.under_replicated(everybody, old) == 1, "who leaves does not count"
    do(world.machine, ForgetNode(name=NodeId("n2"), incarnation=1))
    assert world.tally.under_replicated(everybody, old) == 2
    assert world.tally.by_holders() == {("n1",): 1, ("n1", "n3"): 1}


words = st.tuples(st.sampled_from(["n1", "n2", "n3"]), st.sets(st.integers(0, 4)), st.sets(st.integers(0, 4)))


@given(st.lists(words, max_size=10), st.sets(st.sampled_from(["n1", "n2", "n3"])))
def test_following_the_manifest_comes_to_what_counting_anew_does(
    said: list[tuple[str, set[int], set[int]]], living: set[str]
) -> None:
    world = World()
    entries = [file(f"f{n}", hour=20 * n, first=n + 1, last=n + 1) for n in range(5)]
    do(world.machine, register(*entries, mark=9))
    for name, holds, lost in said:
        world.hold(name, *(entries[n] for n in sorted(holds)), lost=tuple(entries[n] for n in sorted(lost)))
        now = A.created_us + FRESH_US
        anew = Tally(lambda: world.machine.catalog, 2)
        assert world.tally.under_replicated(living, now) == anew.under_replicated(living, now)
        few = [e for e in world.machine.catalog.all_files() if len(living.intersection(e.holders)) < 2]
        assert world.tally.under_replicated(living, now) == len(few)
        unsafe = [e.first_sequence for e in world.machine.catalog.all_files() if len({*e.holders} - {"n3"}) < 2]
        assert world.kept.first(1) == min(unsafe, default=NOTHING)
