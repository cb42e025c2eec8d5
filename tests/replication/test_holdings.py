"""Who leaves knows which files only he has: those who stay are asked, and nobody who goes himself counts."""

from __future__ import annotations

import cbor2
import pytest
import trio
import trio.testing

from arc.catalog.commands import DescribeNode, SetNodeState
from arc.catalog.fsm import ClusterFSM
from arc.errors import InvalidRequest, Unavailable
from arc.ids import NodeId
from arc.replication.holdings import KIND, PATHS_MAX, Holdings
from arc.telemetry import Log, RingSink
from tests.catalog.facts import do, file, ready, register

NAMES = ("n1", "n2", "n3")


class Cluster:
    """Three nodes; ``here`` are the files of each."""

    def __init__(self) -> None:
        self.machine: ClusterFSM = ready()
        self.here: dict[str, set[str]] = {name: set() for name in NAMES}
        self.down: set[str] = set()
        self.asked: list[str] = []
        self.nodes = {
            name: Holdings(
                name,
                self.ask,
                lambda: [each for each in NAMES if each not in self.down],
                lambda: self.machine.catalog,
                lambda path, name=name: path in self.here[name],  # type: ignore[misc]
                Log([RingSink(10)], lambda: 0),
            )
            for name in NAMES
        }
        for name in NAMES:
            described = DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:9100", role="writer")
            do(self.machine, described)
            self.state(name, "healthy")

    def state(self, name: str, state: str) -> None:
        do(self.machine, SetNodeState(name=NodeId(name), incarnation=1, state=state))

    async def ask(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        assert kind == KIND
        self.asked.append(peer)
        if peer in self.down:
            raise Unavailable("down")
        return await self.nodes[peer].answer(question)


PATHS = [file(name).path for name in "abc"]


def registered(cluster: Cluster) -> None:
    do(cluster.machine, register(*(file(name, first=nth, last=nth) for nth, name in enumerate("abc", 1)), mark=3))


async def test_what_any_of_the_others_holds_is_not_only_here() -> None:
    cluster = Cluster()
    registered(cluster)
    cluster.here |= {"n1": {*PATHS}, "n2": {PATHS[0]}, "n3": {PATHS[2]}}
    assert await cluster.nodes["n1"].only_here() == [PATHS[1]]
    assert await cluster.nodes["n2"].only_here() == []


async def test_whoever_leaves_himself_does_not_count_nor_does_whoever_is_silent() -> None:
    cluster = Cluster()
    registered(cluster)
    cluster.here |= {"n1": {*PATHS}, "n2": {*PATHS}, "n3": {*PATHS}}
    cluster.state("n2", "leaving")
    cluster.down = {"n3"}
    assert await cluster.nodes["n1"].only_here() == sorted(PATHS)
    assert cluster.asked == []


async def test_it_is_waited_until_the_last_file_was_copied(autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster()
    registered(cluster)
    cluster.here["n1"] = {*PATHS}
    async with trio.open_nursery() as nursery:
        is_over = False

        async def wait() -> None:
            nonlocal is_over
            await cluster.nodes["n1"].wait_held_elsewhere()
            is_over = True

        nursery.start_soon(wait)
        cluster.here["n2"] = {*PATHS[:2]}
        await trio.sleep(5)
        assert not is_over
        cluster.here["n3"] = {PATHS[2]}
        await trio.sleep(5)
        assert is_over


@pytest.mark.parametrize("question", [b"", cbor2.dumps(7), cbor2.dumps([1]), cbor2.dumps(["a"] * (PATHS_MAX + 1))])
async def test_what_is_no_list_of_files_is_refused(question: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await Cluster().nodes["n1"].answer(question)
