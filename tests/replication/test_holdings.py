"""Who leaves knows which files only he has: those who stay have said what they hold, and nobody else counts."""

from __future__ import annotations

import trio
import trio.testing

from arc.catalog.commands import DescribeNode, HoldFiles, SetNodeState
from arc.catalog.fsm import ClusterFSM
from arc.ids import NodeId
from arc.replication.holdings import Holdings, only_here
from arc.telemetry import Log, RingSink
from tests.catalog.facts import do, file, ready, register

NAMES = ("n1", "n2", "n3")
FILES = {name: file(name, first=nth, last=nth) for nth, name in enumerate("abc", 1)}
PATHS = {name: entry.path for name, entry in FILES.items()}


class Cluster:
    """Three nodes; n1 wrote all files."""

    def __init__(self) -> None:
        self.machine: ClusterFSM = ready()
        self.reachable = ["n1", "n2", "n3"]
        self.here = {*PATHS.values()}
        for name in NAMES:
            do(self.machine, DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:9100", role="writer"))
            self.state(name, "healthy")
        do(self.machine, register(*FILES.values(), mark=3))

    def state(self, name: str, state: str) -> None:
        do(self.machine, SetNodeState(name=NodeId(name), incarnation=1, state=state))

    def hold(self, name: str, files: str) -> None:
        pairs = tuple((FILES[each].path, FILES[each].sha256) for each in files)
        do(self.machine, HoldFiles(node=NodeId(name), incarnation=1, holds=pairs))

    def only(self, name: str = "n1") -> list[str]:
        return only_here(self.machine.catalog, name, self.reachable, lambda path: path in self.here)


def test_what_any_of_the_others_holds_is_not_only_here() -> None:
    cluster = Cluster()
    cluster.hold("n2", "a")
    cluster.hold("n3", "c")
    assert cluster.only() == [PATHS["b"]]
    assert cluster.only("n2") == [], "n1 stays, and has all"


def test_what_is_not_here_either_is_nothing_to_wait_for() -> None:
    cluster = Cluster()
    cluster.here = {PATHS["b"]}
    assert cluster.only() == [PATHS["b"]]


def test_whoever_leaves_himself_does_not_count_nor_does_whoever_is_silent() -> None:
    cluster = Cluster()
    cluster.hold("n2", "abc")
    cluster.hold("n3", "abc")
    assert cluster.only() == []
    cluster.state("n2", "leaving")
    cluster.reachable = ["n2"]
    assert cluster.only() == sorted(PATHS.values())


async def test_it_is_waited_until_the_last_file_was_copied(autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster()
    holdings = Holdings(
        "n1",
        lambda: cluster.reachable,
        lambda: cluster.machine.catalog,
        lambda path: path in cluster.here,
        Log([RingSink(10)], lambda: 0),
    )
    async with trio.open_nursery() as nursery:
        is_over = False

        async def wait() -> None:
            nonlocal is_over
            await holdings.wait_held_elsewhere()
            is_over = True

        nursery.start_soon(wait)
        cluster.hold("n2", "ab")
        await trio.sleep(5)
        assert not is_over
        cluster.hold("n3", "c")
        await trio.sleep(5)
        assert is_over
