"""Boundaries of windows: the same for everybody, whenever they are asked for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.continuous.schedule import MOMENT_US_MAX, Every, parse_duration, parse_schedule
from arc.errors import InvalidRequest

HOUR_US = 3_600_000_000


def us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("text", "at", "floor", "after"),
    [
        ("1h", "2026-01-31T12:34:56", "2026-01-31T12:00:00", "2026-01-31T13:00:00"),
        ("1h", "2026-01-31T12:00:00", "2026-01-31T12:00:00", "2026-01-31T13:00:00"),
        ("1h30m", "1970-01-01T02:00:00", "1970-01-01T01:30:00", "1970-01-01T03:00:00"),
        ("1d", "2024-02-29T23:59:59", "2024-02-29T00:00:00", "2024-03-01T00:00:00"),
        ("0.5h", "2026-01-01T00:45:00", "2026-01-01T00:30:00", "2026-01-01T01:00:00"),
        ("5 3 * * *", "2026-01-31T03:05:00", "2026-01-31T03:05:00", "2026-02-01T03:05:00"),
        ("5 3 * * *", "2026-01-31T03:04:59", "2026-01-30T03:05:00", "2026-01-31T03:05:00"),
        ("0 0 * * MON", "2026-01-31T12:00:00", "2026-01-26T00:00:00", "2026-02-02T00:00:00"),
        ("0 0 1 * *", "2024-02-29T12:00:00", "2024-02-01T00:00:00", "2024-03-01T00:00:00"),
        ("0 0 29 2 *", "2026-01-01T00:00:00", "2024-02-29T00:00:00", "2028-02-29T00:00:00"),
        ("*/15  *  * * *", "2026-01-01T00:16:00", "2026-01-01T00:15:00", "2026-01-01T00:30:00"),
    ],
)
def test_a_moment_lies_between_two_boundaries(text: str, at: str, floor: str, after: str) -> None:
    schedule = parse_schedule(text)
    assert (schedule.floor(us(at)), schedule.after(us(at))) == (us(floor), us(after))


@given(
    st.sampled_from(["10s", "7m", "1h", "1d", "366d", "*/7 * * * *", "0 3 * * *", "30 4 1,15 * 5", "0 0 29 2 *"]),
    st.integers(0, MOMENT_US_MAX),
)
def test_windows_follow_each_other_without_a_gap(text: str, at: int) -> None:
    schedule = parse_schedule(text)
    start, end = schedule.floor(at), schedule.after(at)
    assert start <= at < end
    assert schedule.floor(start) == start
    assert schedule.after(start) == end
    assert schedule.floor(end - 1) == start


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "duration"),
        ("soon", "duration"),
        ("1h and more", "five fields"),
        ("-1h", "duration"),
        ("9s", "10s"),
        ("367d", "366d"),
        ("1w", "duration"),
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("61 * * * *", "cron"),
        ("0 0 30 2 *", "cron"),
        ("x" * 101, "characters"),
    ],
)
def test_what_is_no_schedule_is_refused_with_the_rule(text: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        parse_schedule(text)


def test_lengths_are_exact() -> None:
    assert parse_duration("1h30m", "x") == 90 * 60_000_000
    assert parse_duration("1.5s250ms", "x") == 1_750_000
    schedule = parse_schedule("1h")
    assert isinstance(schedule, Every) and schedule.length_us == HOUR_US
