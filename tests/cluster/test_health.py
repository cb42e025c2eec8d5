"""The health checker in simulated time: when a silent node is noticed, when not, and who is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from arc.catalog.roles import NodeState
from arc.cluster.health import HealthChecker
from arc.cluster.judging import HealthConfig
from arc.cluster.memories import Told
from arc.cluster.node_events import NodeEventKind, NodeSubscription
from arc.ports import Clock
from arc.raft.types import Peer
from arc.telemetry import Log, RingSink
from tests.cluster.members import Eyes, Members, registry_of
from tests.fakes import ManualClock
from tests.raft.drivers import TrioClock, until

QUIET = Log([], lambda: 0)
DEFAULTS = HealthConfig()


class Watch:
    """n1 watches n2, which says every 0.25 s that it lives until it is stopped."""

    def __init__(self, clock: Clock, *, config: HealthConfig = DEFAULTS, eyes: Eyes | None = None) -> None:
        self.members = Members(n1="writer", n2="writer")
        self.clock = clock
        self.registry = registry_of(self.members, clock, config=config, eyes=eyes)
        self.checker = HealthChecker(registry=self.registry, config=config, clock=clock, log=QUIET)
        self.told: list[tuple[float, NodeEventKind]] = []
        self.is_alive = True
        self.last_sign = 0.0

    @property
    def state(self) -> NodeState:
        view = self.registry.get("n2")
        assert view is not None
        return view.state

    def beat(self) -> None:
        self.registry.record_heartbeat(Peer("n2", 1), Told())
        self.last_sign = self.clock.now()

    async def _beat_on(self) -> None:
        while True:
            if self.is_alive:
                self.beat()
            await trio.sleep(0.25)

    async def _listen(self, notices: NodeSubscription) -> None:
        async for notice in notices:
            self.told.extend((self.clock.now(), event.kind) for event in notice.events)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Watch]:
        with self.registry.events().subscribe() as notices:
            async with trio.open_nursery() as nursery:
                if self.is_alive:
                    self.beat()
                nursery.start_soon(self._listen, notices)
                nursery.start_soon(self._beat_on)
                await nursery.start(self.checker.run)
                yield self
                nursery.cancel_scope.cancel()

    async def until(self, kind: NodeEventKind) -> float:
        """Seconds from the last sign of life until this was told."""
        await until(lambda: any(each is kind for _, each in self.told))
        return next(at for at, each in self.told if each is kind) - self.last_sign


@pytest.mark.parametrize("phase", [0.0, 0.05, 0.1, 0.13, 0.19, 0.2, 0.24])
async def test_a_silent_node_is_noticed_within_the_documented_time(autojump_clock: MockClock, phase: float) -> None:
    """P-17: between 1.0 and 1.2 s after the last sign of life, wherever the checks fall."""
    async with Watch(TrioClock()).running() as watch:
        await trio.sleep(3.0 + phase)
        watch.is_alive = False
        watch.beat()
        took = await watch.until(NodeEventKind.UNHEALTHY)
        assert 1.0 <= took <= DEFAULTS.detection_seconds == pytest.approx(1.2)
        assert 1.6 <= await watch.until(NodeEventKind.DEAD) <= 1.8 + 1e-9


@pytest.mark.parametrize(
    ("config", "slower"),
    [
        (HealthConfig(check_interval_seconds=0.5), True),
        (HealthConfig(check_timeout_seconds=2.0), True),
        (HealthConfig(unhealthy_threshold=6), True),
        (HealthConfig(unhealthy_threshold=1), False),
    ],
)
async def test_every_knob_moves_the_moment(autojump_clock: MockClock, config: HealthConfig, slower: bool) -> None:
    """P-44."""
    async with Watch(TrioClock(), config=config).running() as watch:
        await trio.sleep(5.0)
        watch.is_alive = False
        watch.beat()
        took = await watch.until(NodeEventKind.UNHEALTHY)
        assert (took > DEFAULTS.detection_seconds) if slower else (took < 1.0)
        assert took <= config.detection_seconds + 1e-9


@pytest.mark.parametrize("pause", [0.3, 0.5, 0.7])
async def test_a_peer_that_pauses_under_load_stays_healthy(autojump_clock: MockClock, pause: float) -> None:
    """An hour of pauses, each right after the longest wait for a heartbeat."""
    async with Watch(TrioClock()).running() as watch:
        await trio.sleep(3.0)
        for _ in range(1000):
            watch.is_alive = False
            await trio.sleep(pause)
            watch.is_alive = True
            watch.beat()
            await trio.sleep(1.0)
        assert [kind for _, kind in watch.told] == [NodeEventKind.HEALTHY]


async def test_a_broken_session_of_a_dead_process_is_noticed_sooner(autojump_clock: MockClock) -> None:
    async with Watch(TrioClock()).running() as watch:
        await trio.sleep(3.0)
        watch.is_alive = False
        watch.beat()
        for _ in range(50):  # every failed attempt to dial tells it again
            watch.checker.session_broke("n2")
        assert watch.state is NodeState.HEALTHY
        assert 0.6 <= await watch.until(NodeEventKind.UNHEALTHY) <= 0.8 + 1e-9


async def test_a_broken_session_that_is_made_anew_harms_nobody(autojump_clock: MockClock) -> None:
    async with Watch(TrioClock()).running() as watch:
        await trio.sleep(3.0)
        for _ in range(200):
            watch.checker.session_broke("n2")
            await trio.sleep(0.05)
        assert [kind for _, kind in watch.told] == [NodeEventKind.HEALTHY]


async def test_a_node_that_comes_back_is_healthy_with_its_first_check(autojump_clock: MockClock) -> None:
    async with Watch(TrioClock()).running() as watch:
        await trio.sleep(3.0)
        watch.is_alive = False
        await watch.until(NodeEventKind.DEAD)
        watch.is_alive = True
        await trio.sleep(0.25 + 0.2)
        assert [kind for _, kind in watch.told] == [
            NodeEventKind.HEALTHY,
            NodeEventKind.UNHEALTHY,
            NodeEventKind.DEAD,
            NodeEventKind.HEALTHY,
        ]


async def test_a_node_that_has_just_started_declares_nobody_dead(autojump_clock: MockClock) -> None:
    """It listens for one detection period; only then do the checks of who was never heard begin to count."""
    watch = Watch(TrioClock())
    watch.is_alive = False
    async with watch.running():
        await trio.sleep(DEFAULTS.detection_seconds)
        assert watch.state is NodeState.UNKNOWN
        assert await watch.until(NodeEventKind.DEAD) >= 2 * DEFAULTS.detection_seconds - 0.3


async def test_who_becomes_a_voter_is_patient_until_it_has_listened(autojump_clock: MockClock) -> None:
    """Before that it was told at the slow pace, so a silence of seconds says nothing."""
    watch = Watch(TrioClock(), eyes=(eyes := Eyes(voters=("n2",))))
    for number in range(3, 12):
        watch.members.add(f"n{number}")
    watch.is_alive = False
    async with watch.running():
        for _ in range(3):
            watch.beat()
            await trio.sleep(2.0)
        assert not watch.checker.is_watching
        assert watch.state is NodeState.HEALTHY
        watch.beat()
        eyes.voters = ("n1", "n2")
        await trio.sleep(1.15)
        assert watch.state is NodeState.HEALTHY
        await trio.sleep(1.0)
        assert watch.checker.is_watching
        assert watch.state is NodeState.UNHEALTHY


def test_a_round_that_comes_late_counts_against_nobody() -> None:
    """This node was stopped for a minute: on waking it has not read yet what the others said meanwhile."""
    clock = ManualClock()
    watch = Watch(clock)
    for _ in range(20):
        watch.beat()
        watch.checker.check_all()
        clock.advance(0.2)
    clock.advance(60.0)
    watch.checker.check_all()
    assert (watch.state, watch.checker.statistics().late_rounds_total) == (NodeState.HEALTHY, 1)
    view = watch.registry.get("n2")
    assert view is not None
    assert view.failed_checks == 0
    for _ in range(3):
        clock.advance(0.2)
        watch.checker.check_all()
    assert watch.state is NodeState.UNHEALTHY, "if it stays silent it is ill all the same"


def test_check_now_looks_at_freshness_and_counts_nothing() -> None:
    clock = ManualClock()
    watch = Watch(clock, eyes=Eyes(voters=("n1", "n2")))
    assert not watch.checker.check_now("n2")
    watch.beat()
    assert watch.checker.check_now("n2")
    assert watch.checker.check_now("n1"), "this node itself"
    assert not watch.checker.check_now("n9")
    clock.advance(10.0)
    for _ in range(9):
        assert not watch.checker.check_now("n2")
    view = watch.registry.get("n2")
    assert view is not None
    assert view.failed_checks == 0


async def test_status_has_the_documented_keys(autojump_clock: MockClock) -> None:
    watch = Watch(TrioClock(), config=HealthConfig(check_interval_seconds=0.3, unhealthy_threshold=4))
    expected = {"running": False, "check_interval_ms": 300, "check_timeout_ms": 600, "unhealthy_threshold": 4}
    assert watch.checker.status() == expected
    async with watch.running():
        assert watch.checker.status() == {**expected, "running": True}
    assert watch.checker.status() == expected


def test_transitions_and_missing_redundancy_are_logged(log: Log, events: RingSink) -> None:
    clock = ManualClock()
    members = Members(n1="writer", n2="writer")
    registry = registry_of(members, clock)
    checker = HealthChecker(
        registry=registry, config=DEFAULTS, clock=clock, log=log, warns_of_compactors=True, replaces_writers=False
    )
    for _ in range(620):
        if clock.now() < 1060.0:
            registry.record_heartbeat(Peer("n2", 1), Told())
        checker.check_all()
        clock.advance(0.2)
    told = Counter(event.message for event in events.select(limit=100))
    assert told == {
        "node_healthy": 1,
        "node_unhealthy": 1,
        "node_dead": 1,
        "compactors_wrong": 3,
        "writers_too_few": 1,
    }
    assert checker.statistics().transitions_total == 3


@given(st.lists(st.floats(0.0, 0.95), min_size=1, max_size=40), st.floats(0.0, 0.2))
def test_nobody_falls_ill_within_a_second_whatever_the_pauses(pauses: list[float], phase: float) -> None:
    clock = ManualClock()
    watch = Watch(clock)
    clock.advance(phase)
    for pause in pauses:
        watch.beat()
        ends = clock.now() + pause
        while clock.now() + 0.2 <= ends:
            clock.advance(0.2)
            watch.checker.check_all()
            assert watch.state in (NodeState.HEALTHY, NodeState.UNKNOWN)
        clock.advance(max(0.0, ends - clock.now()))
