"""A question about the in-sync set is asked until its outcome is known, and both sets count as long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from arc.catalog.commands import Command, Once
from arc.catalog.fsm import Catalog
from arc.catalog.insync import InSync
from arc.catalog.results import Result
from arc.errors import OutcomeUnknown, Unavailable
from arc.ids import Epoch, NodeId
from arc.replication.durability import Durability
from arc.replication.insync import Heard
from arc.replication.keeper import InSyncKeeper
from arc.replication.log import MemoryOnly, ReplicaLog
from arc.replication.ports import Facts
from arc.replication.watermark import Watermark
from arc.storage.wal.history import History
from arc.telemetry import Log
from tests.replication.cluster import TrioClock, until


@pytest.fixture(autouse=True)
def clock(autojump_clock: MockClock) -> MockClock:
    """Time jumps when everybody waits."""
    return autojump_clock


class Followers:
    def heard(self) -> dict[str, Heard]:
        return {}


class Scripted:
    """Answers as it is told, and notes what counted when it was asked."""

    def __init__(self, *answers: Exception | Result) -> None:
        self.answers = list(answers)
        self.asked: list[Command] = []
        self.counted: list[frozenset[str]] = []
        self.durability: Durability

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        self.asked.append(command)
        self.counted.append(self.durability.counted)
        answer = self.answers.pop(0) if self.answers else Result(ok=False, code="stale_members")
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_a_question_that_may_have_come_true_is_insisted_on_under_its_number(log: Log) -> None:
    """An attempt that certainly did nothing proves nothing about the one before it."""
    script = Scripted(OutcomeUnknown("lost"), Unavailable("no leader"), OutcomeUnknown("lost"), Result(ok=True))
    replica = ReplicaLog(MemoryOnly(), History(), tail_bytes_max=1)
    durability = script.durability = Durability(
        Watermark("n1", ["n1", "n2"], high=0), "n1", replica, level="replicated", min_insync=lambda: 1
    )
    catalog = Catalog(in_sync=InSync(Epoch(7), (NodeId("n1"),)))
    keeper = InSyncKeeper(
        me="n1",
        epoch=7,
        client="n1 of this run",
        stream=Followers(),
        durability=durability,
        facts=Facts(
            catalog=lambda: catalog,
            oldest_needed=lambda: 1,
            keys=lambda below: [],
            able=lambda: ["n1", "n2"],
            least=lambda: 1,
        ),
        propose=script,
        clock=TrioClock(),
        timeout_seconds=1.0,
        tell=log,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await until(lambda: not script.answers and durability.counted == {"n1"})
        nursery.cancel_scope.cancel()
    assert script.counted == [frozenset({"n1", "n2"})] * 4
    assert len(set(script.asked)) == 1 and isinstance(script.asked[0], Once)
    assert (durability.members, durability.counted) == (frozenset({"n1"}), frozenset({"n1"}))
