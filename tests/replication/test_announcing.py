"""Nodes say what they have: all of it, soon, in few commands, and nothing when nothing differs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from arc.catalog.commands import Command, DescribeNode, ForgetNode, HoldFiles, ReplaceFiles
from arc.catalog.results import Result
from arc.cluster.feed import Feed
from arc.errors import OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.replication.announcing import AGAIN_SECONDS, LOSS_SECONDS, PAUSE_SECONDS, Announcer, due
from arc.storage.files import FileEntry
from arc.telemetry import Log, RingSink
from tests.catalog.facts import file, ready, register

NAMES = ("n1", "n2")


class Cluster:
    """n1 writes; the announcer is n2's."""

    def __init__(self, *names: str) -> None:
        self.machine = ready()
        self.feed = Feed(self.machine.catalog)
        self.here: set[str] = set()
        self.said: list[tuple[float, HoldFiles]] = []
        self.fails: list[Exception] = []
        self.incarnation = 1
        for name in names or NAMES:
            self.do(DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:1", role="writer"))
        self.announcer = Announcer(
            me=NodeId("n2"),
            incarnation=lambda: self.incarnation,
            catalog=lambda: self.machine.catalog,
            is_here=lambda path: path in self.here,
            propose=self,
            log=Log([RingSink(50)], lambda: 0),
        )

    def do(self, command: Command) -> Result:
        applied = self.machine.apply(self.machine.catalog.index + 1, command)
        assert applied.result.ok, applied
        self.feed.publish(self.machine.catalog, applied.events)
        return applied.result

    async def propose(self, command: Command) -> Result:
        assert isinstance(command, HoldFiles)
        await trio.sleep(0.002)
        self.said.append((trio.current_time(), command))
        if self.fails:
            error = self.fails.pop(0)
            if isinstance(error, OutcomeUnknown):
                self.do(command)
            raise error
        return self.do(command)

    def come(self, *entries: FileEntry) -> None:
        self.here |= {entry.path for entry in entries}

    def holds(self) -> set[str]:
        return {entry.path for entry in self.machine.catalog.all_files() if "n2" in entry.holders}


@asynccontextmanager
async def announcing(cluster: Cluster) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        with cluster.feed.subscribe() as changes:
            nursery.start_soon(cluster.announcer.run, changes)
            yield
            nursery.cancel_scope.cancel()


A, B, C = (file(name, hour=10 * n, first=n, last=n) for n, name in enumerate("abc", 1))


async def test_what_comes_is_told_soon_and_what_comes_together_in_one_command(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with announcing(cluster):
        cluster.do(register(A, B, C, mark=3))
        await trio.sleep(2)
        assert cluster.said == []
        cluster.come(A, B)
        await trio.sleep(2 * PAUSE_SECONDS)
        assert len(cluster.said) == 1 and cluster.holds() == {A.path, B.path}
        cluster.come(C)
        await trio.sleep(2 * PAUSE_SECONDS)
        assert len(cluster.said) == 2 and len(cluster.holds()) == 3
        await trio.sleep(100)
        assert len(cluster.said) == 2, "nothing differs, so nothing is said"
    found = cluster.announcer.statistics()
    assert (found.commands_total, found.held_files_total, found.awaited_files) == (2, 3, 0)


async def test_many_small_arrivals_take_few_commands(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    many = [file(f"f{n}", hour=n, first=1, last=1) for n in range(100)]
    async with announcing(cluster):
        cluster.do(register(*many, mark=1))
        for entry in many:
            cluster.come(entry)
            await trio.sleep(0.05)
        await trio.sleep(1)
        assert len(cluster.holds()) == 100
        assert len(cluster.said) <= 1 + 5 / PAUSE_SECONDS
        times = [at for at, _ in cluster.said]
        assert all(later - sooner >= PAUSE_SECONDS for sooner, later in pairwise(times))


async def test_what_was_there_at_the_start_is_told_and_so_is_what_is_lost(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    cluster.do(register(A, B, mark=3))
    cluster.come(A, B)
    async with announcing(cluster):
        await trio.sleep(1)
        assert cluster.holds() == {A.path, B.path}
        cluster.here.discard(A.path)
        await trio.sleep(LOSS_SECONDS + 1)
        assert cluster.holds() == {B.path}
        cluster.come(A)
        await trio.sleep(1)
        assert cluster.holds() == {A.path, B.path}
    assert cluster.announcer.statistics().lost_files_total == 1


async def test_who_wrote_a_file_says_nothing_of_it(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with announcing(cluster):
        cluster.come(A)
        cluster.do(register(replace(A, origin="n2"), mark=1))
        await trio.sleep(30)
        assert cluster.said == []


async def test_a_file_that_left_the_manifest_is_forgotten(autojump_clock: MockClock) -> None:
    cluster = Cluster()
    async with announcing(cluster):
        cluster.do(register(A, mark=1))
        await trio.sleep(1)
        cluster.do(ReplaceFiles(remove=((A.path, A.sha256),), lease="writer", epoch=1))
        cluster.come(A)
        await trio.sleep(30)
        assert cluster.said == [] and cluster.announcer.statistics().awaited_files == 0


@pytest.mark.parametrize("error", [Unavailable("nobody leads"), OutcomeUnknown("lost")], ids=["unavailable", "unknown"])
async def test_what_was_not_taken_is_said_again_ever_more_seldom(error: Exception, autojump_clock: MockClock) -> None:
    cluster = Cluster()
    cluster.do(register(A, mark=1))
    cluster.come(A)
    cluster.fails = [error] * 6
    async with announcing(cluster):
        await trio.sleep(60)
        assert cluster.holds() == {A.path}
        if isinstance(error, OutcomeUnknown):
            assert len(cluster.said) == 1, "the catalog showed what became of it"
        else:
            times = [at for at, _ in cluster.said]
            assert len(times) == 7
            assert times[1] - times[0] >= AGAIN_SECONDS[0]
            assert times[6] - times[5] >= AGAIN_SECONDS[1]


async def test_a_node_alone_and_one_that_is_no_member_say_nothing(autojump_clock: MockClock) -> None:
    alone = Cluster("n2")
    alone.do(register(A, mark=1))
    alone.come(A)
    removed = Cluster()
    removed.do(register(A, mark=1))
    removed.come(A)
    removed.do(ForgetNode(name=NodeId("n2"), incarnation=1))
    other = Cluster()
    other.do(register(A, mark=1))
    other.come(A)
    other.incarnation = 2
    for cluster in (alone, removed, other):
        async with announcing(cluster):
            await trio.sleep(30)
            assert cluster.said == []
    async with announcing(alone):
        alone.do(DescribeNode(name=NodeId("n1"), incarnation=1, address="n1:1", role="writer"))
        await trio.sleep(LOSS_SECONDS + 1)
        assert alone.holds() == {A.path}


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.integers(1, 12))
def test_one_command_is_bounded_and_losses_come_first(
    awaited: set[int], lost: set[int], here: set[int], files_max: int
) -> None:
    entries = [file(f"f{n}", hour=n) for n in range(10)]
    paths = {entries[n].path for n in here}
    said = due(
        [entries[n] for n in sorted(awaited)],
        [entries[n] for n in sorted(lost)],
        lambda path: path in paths,
        files_max=files_max,
    )
    gone = lost - here
    assert len(said.lost) == min(files_max, len(gone))
    assert len(said.holds) == min(files_max - len(said.lost), len(awaited & here))
    assert {entry.path for entry in said.holds} <= paths
    assert paths.isdisjoint(entry.path for entry in said.lost)
    assert bool(said) == bool(gone or awaited & here)
