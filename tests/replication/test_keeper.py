"""A question about the in-sync set is asked until its outcome is known, and both sets count as long."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from arc.catalog.commands import Command, Once, SetInSync
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


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time jumps when everybody waits."""
    return autojump_clock


class Followers:
    """What was heard of them."""

    def __init__(self) -> None:
        self.known: dict[str, Heard] = {}

    def heard(self) -> dict[str, Heard]:
        return self.known


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


def keeper_of(script: Scripted, durability: Durability, followers: Followers, log: Log) -> InSyncKeeper:
    catalog = Catalog(in_sync=InSync(Epoch(7), (NodeId("n1"),)))
    return InSyncKeeper(
        me="n1",
        epoch=7,
        client="n1 of this run",
        stream=followers,
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


async def test_a_question_that_may_have_come_true_is_insisted_on_under_its_number(log: Log, clock: MockClock) -> None:
    """An attempt that certainly did nothing proves nothing about the one before it."""
    script = Scripted(OutcomeUnknown("lost"), Unavailable("no leader"), OutcomeUnknown("lost"), Result(ok=True))
    replica = ReplicaLog(MemoryOnly(), History(), tail_bytes_max=1)
    durability = script.durability = Durability(
        Watermark("n1", ["n1", "n2"], high=0), "n1", replica, level="replicated", min_insync=lambda: 1
    )
    keeper = keeper_of(script, durability, Followers(), log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await until(lambda: not script.answers and durability.counted == {"n1"})
        nursery.cancel_scope.cancel()
    assert script.counted == [frozenset({"n1", "n2"})] * 4
    assert len(set(script.asked)) == 1 and isinstance(script.asked[0], Once)
    assert (durability.members, durability.counted) == (frozenset({"n1"}), frozenset({"n1"}))


async def test_nobody_joins_without_what_earlier_epochs_may_have_acknowledged(log: Log, clock: MockClock) -> None:
    """World seed 81214: a holder that has just begun knows of no watermark, and its log may be acknowledged to the end.

    A node that lacked records joined then, and could have been made the writer.
    """
    script, followers, watch = Scripted(), Followers(), TrioClock()
    storage = MemoryOnly()
    await storage.restart(69)
    replica = ReplicaLog(storage, History(69), tail_bytes_max=1)
    durability = script.durability = Durability(
        Watermark("n1", ["n1"], high=0), "n1", replica, level="replicated", min_insync=lambda: 1
    )
    keeper = keeper_of(script, durability, followers, log)

    def tell(durable: int) -> None:
        now = watch.now() + 3600.0
        followers.known = {"n2": Heard(durable=durable, is_connected=True, heard_at=now, caught_up_at=now)}

    tell(67)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keeper.run)
        await trio.sleep(10.0)
        assert not script.asked
        tell(68)
        await until(lambda: bool(script.asked))
        nursery.cancel_scope.cancel()
    action = script.asked[0].action if isinstance(script.asked[0], Once) else None
    assert isinstance(action, SetInSync) and action.members == ("n1", "n2")
