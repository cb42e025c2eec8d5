"""The managers in simulated time: who acts, how soon, and what becomes of answers that are lost, late or no."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from arc.catalog.commands import COMPACTOR, WRITER, AssignLease, Command
from arc.catalog.leases import Lease
from arc.catalog.results import Result
from arc.cluster.callbacks import QUEUE_CALLBACKS_MAX, OnComplete, OnStart
from arc.cluster.failover import FailoverConfig, Verdict, compactor_policy, writer_policy
from arc.cluster.failover_managers import (
    CompactorFailoverManager,
    LeaseManager,
    WriterFailoverManager,
)
from arc.cluster.health import HealthChecker
from arc.cluster.judging import HealthConfig
from arc.cluster.memories import Told
from arc.cluster.moving import ASKED_MAX, HAND_OVER_SECONDS, HAND_OVERS_MAX, PrepareHandOver
from arc.cluster.views import NodeStats
from arc.errors import Conflict, NotFound, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.raft.types import Peer
from arc.storage.config import WalConfig
from arc.telemetry import Log, RingSink
from tests.cluster.members import Members, registry_of
from tests.raft.drivers import TrioClock, until

HEALTH = HealthConfig()
ROUND_TRIP = 0.01


class Leader:
    """Whether this node leads; told by the test."""

    def __init__(self) -> None:
        self.is_leader = True
        self.reads = 0
        self.is_behind = False
        self._changed = trio.Event()

    async def read(self) -> int:
        self.reads += 1
        if self.is_behind:
            raise Unavailable("no leader confirmed it in time")
        return 0

    async def wait_changed(self) -> None:
        await self._changed.wait()

    def become(self, *, leader: bool) -> None:
        self.is_leader = leader
        self._changed.set()
        self._changed = trio.Event()


class Proposer:
    """Agrees on what it is asked after a round trip, unless the next outcome is another one."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self.asked: list[tuple[float, AssignLease]] = []
        self.next: list[str] = []

    async def propose(self, command: Command) -> Result:
        assert isinstance(command, AssignLease)
        self.asked.append((trio.current_time(), command))
        outcome = self.next.pop(0) if self.next else "agreed"
        await trio.sleep(ROUND_TRIP)
        match outcome:
            case "agreed":
                return self._members.ask(command)
            case "answer lost":
                self._members.ask(command)
                raise OutcomeUnknown("the answer was lost")
            case "question lost":
                raise OutcomeUnknown("leadership was lost")
            case "no leader":
                raise Unavailable("nobody leads", code="not_leader")
            case "hangs":
                await trio.sleep_forever()
            case "overtaken":
                self._members.write("n3")
                return self._members.ask(command)
            case "target forgotten":
                self._members.forget(command.node)
                return self._members.ask(command)
        raise AssertionError(outcome)


def five() -> Members:
    """n2 holds the writer's lease, n3 and n4 are in sync with it; n5 compacts; n1 only reads."""
    members = Members(n1="reader", n2="writer", n3="writer", n4="writer", n5="compactor")
    members.write("n2")
    members.in_sync("n2", "n3", "n4")
    members.compact("n5")
    return members


class World:
    """n1 leads consensus and watches the others."""

    def __init__(
        self,
        *,
        members: Members | None = None,
        me: str = "n1",
        compactor: bool = False,
        config: FailoverConfig | None = None,
        hand_over: PrepareHandOver | None = None,
        on_start: OnStart | None = None,
        on_complete: OnComplete | None = None,
        callback_timeout_seconds: float = 5.0,
        log: Log | None = None,
    ) -> None:
        self.members = members or five()
        self.clock = TrioClock()
        self.registry = registry_of(self.members, self.clock, me=me)
        quiet = Log([], lambda: 0)
        self.checker = HealthChecker(registry=self.registry, config=HEALTH, clock=self.clock, log=quiet)
        self.leader, self.proposer = Leader(), Proposer(self.members)
        policy_of = compactor_policy if compactor else writer_policy
        kind: type[LeaseManager] = CompactorFailoverManager if compactor else WriterFailoverManager
        self.manager = kind(
            policy=policy_of(config or FailoverConfig(), HEALTH),
            registry=self.registry,
            feed=self.members.feed,
            propose=self.proposer,
            leadership=self.leader,
            clock=self.clock,
            log=log or quiet,
            hand_over=hand_over,
            on_start=on_start,
            on_complete=on_complete,
            callback_timeout_seconds=callback_timeout_seconds,
        )
        self.dead: dict[str, float] = {}
        self.durable: dict[str, int] = {}
        self.stalled_since: dict[str, float] = {}

    def holder(self, lease: str = WRITER) -> str:
        held = self.members.catalog.leases.get(lease)
        return held.holder if held is not None else ""

    def beat(self, name: str) -> None:
        now = trio.current_time()
        stalled = now - self.stalled_since.get(name, now)
        stats = NodeStats(
            durable_sequence=self.durable.get(name, 0),
            disk_stalled_seconds=stalled if stalled >= WalConfig().stall_seconds else 0.0,
        )
        self.registry.record_heartbeat(Peer(name, 1), Told(stats=stats))

    async def _beat_on(self) -> None:
        while True:
            for name in self.registry.others():
                if name not in self.dead:
                    self.beat(name)
            await trio.sleep(0.25)

    def kill(self, name: str) -> None:
        """Its last sign of life is of this moment."""
        self.beat(name)
        self.dead[name] = trio.current_time()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        """From when everybody was heard and this node may judge."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beat_on)
            await nursery.start(self.registry.run)
            await nursery.start(self.checker.run)
            await nursery.start(self.manager.run)
            await trio.sleep(3.0)
            yield self
            nursery.cancel_scope.cancel()

    async def until_holder(self, name: str, lease: str = WRITER) -> float:
        """The time at which it has the lease."""
        await until(lambda: self.holder(lease) == name)
        return trio.current_time()


# -------------------------------------------------------------------------------------------------------------- running


@pytest.mark.parametrize("phase", [0.0, 0.07, 0.13, 0.19])
async def test_a_killed_writer_is_replaced_within_the_documented_time(autojump_clock: MockClock, phase: float) -> None:
    """P-17, P-48: 1.2 s from the last sign of life to the proposal; nothing is polled for in between."""
    async with World().running() as world:
        world.durable["n4"] = 9
        await trio.sleep(0.5 + phase)
        world.kill("n2")
        await world.until_holder("n4")
        ((at, command),) = world.proposer.asked
        assert at - world.dead["n2"] <= HEALTH.detection_seconds + 1e-9
        assert command.reason.startswith("n2 is unhealthy and silent for 1.")
        assert command.reason.endswith("n4 is in sync and healthy, and durable up to 9")


async def test_a_failover_lasts_from_the_last_sign_of_life_and_an_order_from_when_it_was_given(
    autojump_clock: MockClock,
) -> None:
    """What users wait for is told, not what the manager needed; the first grant of all replaces nobody."""

    async def half_a_second(holder: NodeId, target: NodeId, epoch: int, /, *, seconds_max: float) -> None:
        await trio.sleep(0.5)

    async with World(hand_over=half_a_second).running() as world:
        world.kill("n2")
        took = await world.until_holder("n3") - world.dead["n2"]
        await trio.sleep(1.0)
        assert (world.manager.durations().count, world.manager.durations().sum) == (1, pytest.approx(took, abs=0.02))
        world.members.in_sync("n3", "n4")
        await world.manager.trigger_manual_failover()
        assert world.manager.durations().sum - took == pytest.approx(0.5, abs=0.02)
    world = World(members=Members(n1="reader", n2="writer"))
    async with world.running():
        await world.until_holder("n2")
        assert world.manager.durations().count == 0


async def test_a_writer_whose_disk_stands_still_is_replaced_although_it_is_heard(autojump_clock: MockClock) -> None:
    """Two seconds after the disk counts as one that stands still: a heartbeat and a look. It is not asked first."""
    asked: list[NodeId] = []

    async def for_ever(holder: NodeId, target: NodeId, epoch: int, /, *, seconds_max: float) -> None:
        asked.append(holder)
        await trio.sleep_forever()

    async with World(hand_over=for_ever).running() as world:
        world.stalled_since["n2"] = stands_still = trio.current_time()
        took = await world.until_holder("n3") - stands_still
        assert WalConfig().stall_seconds <= took <= WalConfig().stall_seconds + 2.0
        assert world.manager.durations().sum == pytest.approx(took, abs=0.3)
        world.members.in_sync("n3", "n4")
        world.stalled_since["n3"] = trio.current_time() - 60.0
        world.beat("n3")
        await world.manager.trigger_manual_failover()
        assert (world.holder(), asked) == ("n4", [])


async def test_two_writers_in_a_row_are_replaced_one_after_another(autojump_clock: MockClock) -> None:
    """The second one waits for the cooldown, to the moment, and not for a tick."""
    async with World().running() as world:
        world.kill("n2")
        first = await world.until_holder("n3")
        world.members.in_sync("n3", "n4")
        world.kill("n3")
        second = await world.until_holder("n4")
        assert second - first == pytest.approx(FailoverConfig().cooldown_seconds, abs=0.05)
        assert len(world.proposer.asked) == 2


async def test_a_node_that_does_not_lead_changes_nothing_and_acts_once_it_does(autojump_clock: MockClock) -> None:
    world = World()
    world.leader.is_leader = False
    async with world.running():
        world.kill("n2")
        await trio.sleep(60.0)
        assert (world.proposer.asked, world.leader.reads) == ([], 0)
        assert world.manager.explain().verdict is Verdict.MOVE
        elected = trio.current_time()
        world.leader.become(leader=True)
        await world.until_holder("n3")
        assert [at for at, _ in world.proposer.asked] == [elected]
        assert world.leader.reads == 1


async def test_a_new_leader_decides_nothing_before_it_knows_what_was_agreed_on(autojump_clock: MockClock) -> None:
    world = World()
    world.leader.is_behind = True
    async with world.running():
        world.kill("n2")
        await trio.sleep(10.0)
        assert world.proposer.asked == []
        world.leader.is_behind = False
        await world.until_holder("n3")


async def test_a_lease_that_nobody_held_is_given_to_the_first_who_is_well(autojump_clock: MockClock) -> None:
    """P-18: the first election is the same way, failover on or off."""
    world = World(config=FailoverConfig(enabled=False), members=Members(n1="reader", n2="writer"))
    world.dead["n2"] = 0.0
    async with world.running():
        assert world.manager.explain().verdict is Verdict.STUCK
        world.dead.clear()
        await world.until_holder("n2")
        assert [command.expect_epoch for _, command in world.proposer.asked] == [0]


async def test_who_becomes_in_sync_takes_over_from_a_holder_that_was_missed(autojump_clock: MockClock) -> None:
    world = World()
    world.members.in_sync("n2")
    async with world.running():
        world.kill("n2")
        await trio.sleep(20.0)
        assert world.manager.explain().verdict is Verdict.STUCK
        assert world.proposer.asked == []
        at = trio.current_time()
        world.members.in_sync("n2", "n4")
        await world.until_holder("n4")
        assert [asked for asked, _ in world.proposer.asked] == [at]


async def test_a_holder_that_is_removed_is_replaced_by_the_event(autojump_clock: MockClock) -> None:
    async with World().running() as world:
        at = trio.current_time()
        world.members.forget("n2")
        await world.until_holder("n3")
        assert [asked for asked, _ in world.proposer.asked] == [at]


async def test_two_who_see_different_things_do_not_send_the_lease_to_and_fro(autojump_clock: MockClock) -> None:
    """n1 leads and cannot hear n2, n3 can: it moves once; when n3 leads it finds a healthy holder and leaves it."""
    first = World()
    second = World(members=first.members, me="n4")
    second.leader.is_leader = False
    async with first.running(), second.running():
        first.kill("n2")
        await first.until_holder("n3")
        assert second.manager.explain().verdict is Verdict.KEEP
        for _ in range(10):
            first.leader.become(leader=second.leader.is_leader)
            second.leader.become(leader=not second.leader.is_leader)
            await trio.sleep(10.0)
        assert (first.holder(), len(first.proposer.asked), second.proposer.asked) == ("n3", 1, [])


async def test_a_compactor_is_replaced_later_and_gets_it_back_in_the_end(autojump_clock: MockClock) -> None:
    config = FailoverConfig(compactor_cooldown_seconds=6.0, preempt_after_seconds=30.0)
    async with World(compactor=True, config=config).running() as world:
        world.kill("n5")
        took = await world.until_holder("n3", COMPACTOR) - world.dead["n5"]
        assert 10.0 <= took <= 10.2, "n2 writes, so n3 stands in"
        moved = trio.current_time()
        world.dead.clear()
        assert await world.until_holder("n5", COMPACTOR) - moved == pytest.approx(60.0, abs=0.2)


# ------------------------------------------------------------------------------------------------------------ proposing


async def test_a_lost_answer_is_settled_by_looking(autojump_clock: MockClock) -> None:
    told: list[tuple[str, bool]] = []

    async def on_complete(new: NodeId, is_done: bool) -> None:
        told.append((new, is_done))

    async with World(on_complete=on_complete).running() as world:
        world.proposer.next = ["answer lost"]
        world.kill("n2")
        await world.until_holder("n3")
        await trio.sleep(30.0)
        assert len(world.proposer.asked) == 1
        assert told == [("n3", True)]
        assert world.manager.statistics().failures_total == 0


async def test_a_lost_question_is_asked_again_and_granted_once(autojump_clock: MockClock) -> None:
    async with World().running() as world:
        world.proposer.next = ["question lost", "hangs"]
        epoch = world.members.catalog.lease_epoch(WRITER)
        world.kill("n2")
        await world.until_holder("n3")
        await trio.sleep(30.0)
        commands = {command for _, command in world.proposer.asked}
        assert len(commands) == 1
        assert len(world.proposer.asked) == 3
        grants = [each for each in world.members.catalog.history if each.lease == WRITER and each.epoch > epoch]
        assert [each.holder for each in grants] == ["n3"]


async def test_an_outcome_that_stays_unknown_is_decided_anew(autojump_clock: MockClock) -> None:
    async with World().running() as world:
        world.proposer.next = ["question lost"] * ASKED_MAX
        world.kill("n2")
        await world.until_holder("n3")
        numbers = world.manager.statistics()
        assert (numbers.failures_total, len(world.proposer.asked)) == (1, ASKED_MAX + 1)


async def test_who_is_not_leader_any_more_tries_again_with_pauses(autojump_clock: MockClock) -> None:
    async with World().running() as world:
        world.proposer.next = ["no leader"] * 8
        world.kill("n2")
        await world.until_holder("n3")
        times = [at for at, _ in world.proposer.asked]
        assert len(times) == 9
        assert 5.0 < times[-1] - times[0] < 10.0, "bounded attempts, a second apart in the end"
        assert world.manager.statistics().failures_total == 8


async def test_somebody_quicker_is_left_alone(autojump_clock: MockClock, log: Log, events: RingSink) -> None:
    """Two leaders decide: the compare-and-set of the slower one is refused, and he looks again (P-19)."""
    async with World(log=log).running() as world:
        world.proposer.next = ["overtaken"]
        world.durable["n4"] = 5
        world.kill("n2")
        await world.until_holder("n3")
        await trio.sleep(30.0)
        assert (world.holder(), len(world.proposer.asked)) == ("n3", 1)
        failed = [event for event in events.select(limit=50) if event.message == "failover_failed"]
        assert "epoch" in str(failed[0].fields["reason"])


async def test_a_failure_does_not_stand_in_the_way_of_another_candidate(autojump_clock: MockClock) -> None:
    """P-21: no cooldown after an attempt that failed."""
    async with World().running() as world:
        world.proposer.next = ["target forgotten"]
        world.kill("n2")
        await world.until_holder("n4")
        assert world.proposer.asked[-1][0] - world.dead["n2"] <= HEALTH.detection_seconds + 0.2


# -------------------------------------------------------------------------------------------------------- moves by hand


class HandOver:
    """How the holder is asked to finish."""

    def __init__(self, *outcomes: str) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.outcomes = list(outcomes)

    async def __call__(self, holder: NodeId, target: NodeId, epoch: int, /, *, seconds_max: float) -> None:
        assert seconds_max > HAND_OVER_SECONDS
        self.asked.append((holder, target, epoch))
        outcome = self.outcomes.pop(0) if self.outcomes else "finished"
        if outcome == "hangs":
            await trio.sleep_forever()
        if outcome == "refuses":
            raise Conflict("there are rows that the target lacks")


async def test_an_operator_moves_the_lease_after_the_holder_has_finished(autojump_clock: MockClock) -> None:
    hand_over = HandOver()
    async with World(hand_over=hand_over).running() as world:
        epoch = world.members.catalog.lease_epoch(WRITER)
        lease = await world.manager.trigger_manual_failover(NodeId("n4"), "maintenance of n2")
        assert isinstance(lease, Lease)
        assert (lease.holder, lease.reason[:17], world.holder()) == ("n4", "maintenance of n2", "n4")
        assert hand_over.asked == [("n2", "n4", epoch)]
        again = await world.manager.trigger_manual_failover()
        assert again.holder == "n3", "n2 is not in sync any more, and no cooldown binds an operator"
        assert world.manager.statistics().manual_total == 2


@pytest.mark.parametrize(("outcome", "family"), [("hangs", Unavailable), ("refuses", Conflict)])
async def test_when_the_holder_cannot_finish_nothing_happens(
    autojump_clock: MockClock, outcome: str, family: type[Exception]
) -> None:
    async with World(hand_over=HandOver(outcome)).running() as world:
        with pytest.raises(family):
            await world.manager.trigger_manual_failover()
        assert (world.proposer.asked, world.holder()) == ([], "n2")
        assert not world.manager.statistics().is_moving


async def test_a_dead_holder_is_not_asked_to_finish(autojump_clock: MockClock) -> None:
    hand_over = HandOver()
    async with World(hand_over=hand_over, config=FailoverConfig(enabled=False)).running() as world:
        world.kill("n2")
        await trio.sleep(5.0)
        assert (await world.manager.trigger_manual_failover()).holder == "n3"
        assert hand_over.asked == []


async def test_a_move_by_hand_is_refused_elsewhere_meanwhile_and_to_nobody(autojump_clock: MockClock) -> None:
    async with World(hand_over=HandOver("hangs")).running() as world:
        with pytest.raises(NotFound):
            await world.manager.trigger_manual_failover(NodeId("n9"))
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def first() -> None:
                with scope:
                    await world.manager.trigger_manual_failover()

            nursery.start_soon(first)
            await wait_all_tasks_blocked()
            assert world.manager.stats()["failover_in_progress"] is True
            with pytest.raises(Conflict) as meanwhile:
                await world.manager.trigger_manual_failover()
            assert meanwhile.value.code == "failover_in_progress"
            scope.cancel()
        assert world.manager.stats()["failover_in_progress"] is False
        world.leader.become(leader=False)
        with pytest.raises(Unavailable) as elsewhere:
            await world.manager.trigger_manual_failover()
        assert elsewhere.value.code == "not_leader"


async def test_a_writer_that_leaves_finishes_first(autojump_clock: MockClock) -> None:
    hand_over = HandOver("refuses", "finished")
    async with World(hand_over=hand_over).running() as world:
        world.members.set_state("n2", "leaving")
        await world.until_holder("n3")
        assert len(hand_over.asked) == 2


async def test_a_writer_that_leaves_and_cannot_finish_is_replaced_all_the_same(autojump_clock: MockClock) -> None:
    hand_over = HandOver(*["refuses"] * 99)
    async with World(hand_over=hand_over).running() as world:
        world.members.set_state("n2", "leaving")
        await world.until_holder("n3")
        assert len(hand_over.asked) == HAND_OVERS_MAX


# -------------------------------------------------------------------------------------------------------------- telling


def recorder(told: list[str], name: str) -> Callable[..., Awaitable[None]]:
    async def call(*arguments: object) -> None:
        told.append(f"{name} {' '.join(map(str, arguments))}")

    return call


async def test_callbacks_come_in_order_with_old_and_new_holder(autojump_clock: MockClock) -> None:
    told: list[str] = []
    world = World(on_start=recorder(told, "start"), on_complete=recorder(told, "complete"))
    async with world.running():
        world.proposer.next = ["no leader"]
        world.kill("n2")
        await world.until_holder("n3")
        await wait_all_tasks_blocked()
    assert told == ["start n2 n3", "complete n3 False", "start n2 n3", "complete n3 True"]


async def test_a_slow_callback_is_cancelled_counted_and_delays_no_failover(autojump_clock: MockClock) -> None:
    """P-44: callback_timeout_seconds."""
    ended: list[float] = []

    async def slow(old: NodeId | None, new: NodeId) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    async with World(on_start=slow, callback_timeout_seconds=2.0).running() as world:
        world.kill("n2")
        await world.until_holder("n3")
        ((at, _),) = world.proposer.asked
        assert at - world.dead["n2"] <= HEALTH.detection_seconds + 1e-9
        await trio.sleep(10.0)
        assert ended == [pytest.approx(at + 2.0)]
        numbers = world.manager.statistics().callbacks
        assert (numbers.called_total, numbers.timeouts_total) == (1, 1)


async def test_a_callback_that_fails_is_counted_and_the_manager_goes_on(autojump_clock: MockClock) -> None:
    async def broken(new: NodeId, is_done: bool) -> None:
        raise Unavailable("nobody listens")

    async with World(on_complete=broken).running() as world:
        world.kill("n2")
        await world.until_holder("n3")
        await trio.sleep(1.0)
        assert world.manager.statistics().callbacks.failed_total == 1


async def test_callbacks_that_hang_fill_a_bounded_queue(autojump_clock: MockClock) -> None:
    async def hang(new: NodeId, is_done: bool) -> None:
        await trio.sleep_forever()

    async with World(on_complete=hang, callback_timeout_seconds=1e6).running() as world:
        for _ in range(QUEUE_CALLBACKS_MAX + 5):
            await world.manager.trigger_manual_failover()
            world.members.in_sync("n2", "n3", "n4")
        numbers = world.manager.statistics().callbacks
        assert (numbers.called_total, numbers.dropped_total) == (1, 4)


async def test_status_has_the_documented_keys_and_the_reasons(autojump_clock: MockClock) -> None:
    world = World()
    before = world.manager.stats()
    assert "last_failover_at" not in before
    assert before["running"] is False
    async with world.running():
        world.kill("n2")
        await world.until_holder("n3")
        after = world.manager.stats()
    assert {key: after[key] for key in ("running", "primary_id", "failover_in_progress", "cooldown_period")} == {
        "running": True,
        "primary_id": "n3",
        "failover_in_progress": False,
        "cooldown_period": "5s",
    }
    assert str(after["last_failover_at"]).endswith("Z")
    assert (after["verdict"], after["consecutive_fails"]) == ("keep", 0)
    assert {"node_id": "n1", "eligible": False, "reason": "is a reader, which never holds the writer lease"} in (
        after["candidates"]  # type: ignore[operator]
    )
    assert World(compactor=True).manager.stats()["active_compactor_id"] == "n5"


async def test_that_nobody_can_take_over_is_said_once_a_minute(
    autojump_clock: MockClock, log: Log, events: RingSink
) -> None:
    world = World(log=log)
    world.members.in_sync("n2")
    async with world.running():
        world.kill("n2")
        await trio.sleep(150.0)
    stuck = [event for event in events.select(limit=500) if event.message == "failover_stuck"]
    reasons = {str(event.fields["reason"]).partition(" is ")[0] for event in stuck}
    assert 3 <= len(stuck) <= 5
    assert reasons == {"n2"}
