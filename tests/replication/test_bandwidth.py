"""A session carries no more than it may, and whoever asks is never kept waiting for what is free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.replication.bandwidth import BUCKETS_MAX, BURST_SECONDS, Bandwidth, Bucket

RATE = 1000.0
STEPS = st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5000)), min_size=1, max_size=50)


@given(STEPS)
def test_what_was_let_through_by_any_moment_is_within_the_rate(steps: list[tuple[float, int]]) -> None:
    bucket, now, let_through, gone = Bucket(RATE, 0.0), 0.0, 0, list[tuple[float, int]]()
    for pause, size in steps:
        now += pause
        at = now + bucket.reserve(size, now)
        gone.append((at, size))
        let_through += size
        assert let_through - size <= RATE * (at + BURST_SECONDS) + 1e-6, "one piece may be a debt, and no more"
    for begin, _ in gone:
        within = sum(size for at, size in gone if begin <= at <= begin + 1)
        largest = max(size for _, size in gone)
        assert within <= RATE * (1 + BURST_SECONDS) + largest + 1e-6


@pytest.mark.parametrize(
    ("reserved", "waits"),
    [
        ([(0.0, 250)], [0.0]),
        ([(0.0, 250), (0.0, 250)], [0.0, 0.25]),
        ([(0.0, 1250), (0.0, 1000)], [1.0, 2.0]),
        ([(0.0, 1250), (1.0, 1), (9.0, 250)], [1.0, 0.001, 0.0]),
        ([(5.0, 250), (4.0, 250)], [0.0, 0.25]),
    ],
)
def test_how_long_it_takes(reserved: list[tuple[float, int]], waits: list[float]) -> None:
    bucket = Bucket(RATE, 0.0)
    assert [bucket.reserve(size, now) for now, size in reserved] == pytest.approx(waits)


def test_sessions_do_not_share_a_bucket_and_without_a_limit_nobody_waits() -> None:
    limited, free = Bandwidth(1000), Bandwidth(0)
    assert limited.reserve("n1", 1250, 0.0) == pytest.approx(1.0)
    assert limited.reserve("n2", 250, 0.0) == 0.0
    assert all(free.reserve("n1", 1 << 40, 0.0) == 0.0 for _ in range(10))


def test_full_buckets_are_forgotten_at_the_bound_and_debts_are_not() -> None:
    limited = Bandwidth(1000)
    for number in range(BUCKETS_MAX):
        limited.reserve(f"n{number}", 250 if number else 100_000, 0.0)
    limited.reserve("another", 1, 10.0)
    assert f"peers={2}" in repr(limited)
    assert limited.reserve("n0", 1, 10.0) > 80
