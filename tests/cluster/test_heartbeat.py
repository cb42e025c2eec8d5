"""Heartbeats: small, to those who decide often and to the rest now and then, and never believed about a state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import cbor2
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from arc.catalog.roles import NodeState
from arc.cluster.heartbeat import (
    FIRST_FIELDS,
    HEARTBEAT_BYTES_MAX,
    STRANGER_WARNING_SECONDS,
    STRANGERS_MAX,
    TEXT_CHARS_MAX,
    Heartbeats,
    decode,
    due,
    encode,
)
from arc.cluster.judging import HealthConfig
from arc.cluster.memories import Told
from arc.cluster.registry import Registry
from arc.cluster.views import NodeStats
from arc.ports import Clock
from arc.raft.types import Peer
from arc.telemetry import Log, RingSink
from tests.cluster.members import Eyes, Members, registry_of
from tests.fakes import ManualClock
from tests.raft.drivers import TrioClock

QUIET = Log([], lambda: 0)
COUNTS = st.integers(0, 1 << 62)
RATES = st.floats(allow_nan=False)


class Posted:
    """What was posted, by addressee; ``refuses`` have no session."""

    def __init__(self, *refuses: str) -> None:
        self.counts: Counter[str] = Counter()
        self.bytes_total = 0
        self._refuses = refuses

    def __call__(self, name: str, payload: bytes, /) -> bool:
        if name in self._refuses:
            return False
        self.counts[name] += 1
        self.bytes_total += len(payload)
        return True


def heartbeats(
    registry: Registry, clock: Clock, post: Posted, *, config: HealthConfig | None = None, log: Log = QUIET
) -> Heartbeats:
    return Heartbeats(
        registry=registry,
        config=config if config is not None else HealthConfig(),
        post=post,
        stats=lambda: NodeStats(durable_sequence=7),
        started_us=3,
        clock=clock,
        log=log,
    )


@given(
    st.builds(
        NodeStats,
        cpu_usage=RATES,
        memory_usage=RATES,
        ingest_rate=RATES,
        query_rate=RATES,
        storage_used=COUNTS,
        durable_sequence=COUNTS,
        refuses_writes=st.text(max_size=40),
        refuses_queries=st.text(max_size=40),
    ),
    COUNTS,
)
def test_what_is_sent_is_what_is_read(stats: NodeStats, started_us: int) -> None:
    told = Told(started_us=started_us, stats=stats)
    assert decode(encode(told)) == told


def test_a_long_reason_is_cut_and_the_largest_heartbeat_is_taken() -> None:
    long = NodeStats(refuses_writes="\U0001f600" * 9999, refuses_queries="\U0001f600" * 9999)
    payload = encode(Told(stats=long))
    assert len(payload) <= HEARTBEAT_BYTES_MAX
    assert len(decode(payload).stats.refuses_writes) == TEXT_CHARS_MAX


def test_fields_of_a_later_version_are_passed_over() -> None:
    payload = cbor2.dumps([*cbor2.loads(encode(Told(started_us=4))), "new", 1])
    assert decode(payload) == Told(started_us=4)


def test_a_node_of_the_version_before_is_heard_without_what_it_does_not_say() -> None:
    """During an upgrade one node after another is of the new version."""
    stats = NodeStats(durable_sequence=7, refuses_queries="not yet")
    payload = cbor2.dumps(cbor2.loads(encode(Told(started_us=4, stats=stats)))[: 1 + FIRST_FIELDS])
    assert decode(payload) == Told(started_us=4, stats=stats)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff",
        cbor2.dumps({}),
        cbor2.dumps([1, 2]),
        cbor2.dumps(["3", *cbor2.loads(encode(Told()))[1:]]),
        cbor2.dumps([3, "0.0", *cbor2.loads(encode(Told()))[2:]]),
        cbor2.dumps([*cbor2.loads(encode(Told()))[:FIRST_FIELDS], "x" * (TEXT_CHARS_MAX + 1)]),
        cbor2.dumps([*cbor2.loads(encode(Told())), b"x" * HEARTBEAT_BYTES_MAX]),
    ],
    ids=["empty", "not CBOR", "no list", "short", "start", "type", "long text", "large"],
)
def test_what_is_no_heartbeat_is_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match="heartbeat"):
        decode(payload)


@given(st.integers(0, 12), st.sets(st.integers(0, 11)), st.integers(1, 9))
def test_everybody_has_his_turn_watchers_always_the_rest_once_in_a_cycle(
    nodes: int, watching: set[int], every: int
) -> None:
    others, near = [f"n{number}" for number in range(nodes)], {f"n{number}" for number in watching}
    ticks: Sequence[list[str]] = [due(others, near, tick, every) for tick in range(every)]
    counts = Counter(name for tick in ticks for name in tick)
    assert counts == {name: every if name in near else 1 for name in others}
    far = [len([name for name in tick if name not in near]) for tick in ticks]
    assert max(far) - min(far) <= 1, "spread evenly"


async def test_the_two_paces_are_as_configured(autojump_clock: MockClock) -> None:
    """P-44: heartbeat_seconds and far_heartbeat_seconds have the effect that they name."""
    members = Members(**{f"n{number}": "reader" for number in range(1, 11)})
    clock = TrioClock()
    registry = registry_of(members, clock, eyes=Eyes(voters=("n2", "n3")))
    config = HealthConfig(heartbeat_seconds=0.2, far_heartbeat_seconds=3.0)
    post = Posted("n9")
    sender = heartbeats(registry, clock, post, config=config)
    with trio.move_on_after(29.9):
        await sender.run()
    assert (post.counts["n2"], post.counts["n3"]) == (150, 150)
    assert {post.counts[f"n{number}"] for number in (4, 5, 6, 7, 8, 10)} == {10}
    assert post.counts["n1"] == 0
    numbers = sender.statistics()
    assert (numbers.sent_total, numbers.dropped_total) == (360, 10)
    assert numbers.sent_bytes_total == post.bytes_total


async def test_a_hundred_nodes_do_not_talk_with_each_other_all_the_time(autojump_clock: MockClock) -> None:
    """P-37: the cost of a node grows with the voters, not with the cluster."""
    members = Members(**{f"n{number:02}": "reader" for number in range(100)})
    clock, post = TrioClock(), Posted()
    voters = tuple(f"n{number:02}" for number in range(5))
    registry = registry_of(members, clock, me="n99", eyes=Eyes(voters=voters))
    with trio.move_on_after(9.9):
        await heartbeats(registry, clock, post).run()
    per_second = sum(post.counts.values()) / 10
    assert per_second <= 5 * 4 + 94 / 2
    assert post.bytes_total / 10 < 8000


def test_a_heartbeat_is_noted_and_says_nothing_about_a_state() -> None:
    """P-37: self-reported state is not even on the wire; what is seen stands until the next check."""
    members, clock = Members(n1="writer", n2="writer"), ManualClock()
    registry = registry_of(members, clock)
    receiver = heartbeats(registry, clock, Posted())
    for _ in range(6):
        registry.process_health_check("n2")
    receiver.receive(Peer("n2", 1), encode(Told(started_us=9, stats=NodeStats(connections=2))))
    view = registry.get("n2")
    assert view is not None
    assert (view.state, view.started_us, view.stats.connections) == (NodeState.DEAD, 9, 2)
    assert receiver.statistics().received_total == 1


def test_a_stranger_is_warned_of_once_a_minute(log: Log, events: RingSink) -> None:
    members, clock = Members(n1="writer"), ManualClock()
    receiver = heartbeats(registry_of(members, clock), clock, Posted(), log=log)
    for _ in range(3):
        receiver.receive(Peer("n9", 1), encode(Told()))
    assert len(events.select(limit=10)) == 1
    clock.advance(STRANGER_WARNING_SECONDS)
    receiver.receive(Peer("n9", 1), encode(Told()))
    assert len(events.select(limit=10)) == 2
    assert receiver.statistics().strangers_total == 4


def test_many_strangers_cost_a_bounded_memory(log: Log, events: RingSink) -> None:
    members, clock = Members(n1="writer"), ManualClock()
    receiver = heartbeats(registry_of(members, clock), clock, Posted(), log=log)
    for number in range(3 * STRANGERS_MAX):
        receiver.receive(Peer(f"x{number}", 1), encode(Told()))
    assert len(events.select(limit=1000)) == STRANGERS_MAX
    assert receiver.statistics().strangers_total == 3 * STRANGERS_MAX
    clock.advance(STRANGER_WARNING_SECONDS)
    receiver.receive(Peer("y", 1), encode(Told()))
    assert len(events.select(limit=1000)) == STRANGERS_MAX + 1
