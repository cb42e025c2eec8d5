"""Which windows are due: each moment in one window, once, whatever order things come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.policies import Policy
from arc.continuous import windows
from arc.continuous.progress import (
    GAPS_MAX,
    RUNS_KEPT,
    OpenWindow,
    Progress,
    body_of,
    merged,
    overlap,
    progress_of,
    read,
)
from arc.continuous.schedule import parse_schedule
from arc.continuous.statement import Span
from arc.errors import Conflict, InvalidRequest, TooLarge
from tests.catalog.facts import ready
from tests.continuous.facts import HOUR_US, NOON_US, QUERY, hours, run

HOURLY = parse_schedule("1h")


def due(progress: Progress, now_us: int, *, looked_us: int = 0, interval: str = "1h") -> windows.Due:
    return windows.due(
        progress,
        parse_schedule(interval),
        now_us=now_us,
        delay_us=5_000_000,
        lateness_us=2 * HOUR_US,
        looked_us=looked_us,
        look_every_us=60_000_000,
    )


def after(progress: Progress, *spans: Span, rows: int = 3, is_open: bool = False) -> Progress:
    for span in spans:
        progress = progress.with_result(span, rows=rows, files=1, is_open=is_open, has_strays=False)
    return progress


@pytest.mark.parametrize(
    ("interval", "until", "now_us", "expected"),
    [
        ("1h", 10, NOON_US + 5_000_000, [hours(10), hours(11)]),
        ("1h", 10, NOON_US + 4_999_999, [hours(10)]),
        ("1h", 12, NOON_US, []),
        ("1h", 13, NOON_US, []),
        ("0 6,18 * * *", 6, NOON_US + 7 * HOUR_US, [hours(6, 18)]),
        ("1d", -30, NOON_US, [hours(-30, -24), hours(-24, 0)]),
    ],
)
def test_windows_are_due_when_they_have_ended_and_a_moment_has_passed(
    interval: str, until: int, now_us: int, expected: list[Span]
) -> None:
    assert list(due(Progress(until_us=hours(until)[0]), now_us, interval=interval).new) == expected


@pytest.mark.parametrize(
    ("looked_us", "is_look"),
    [(NOON_US - 59_000_000, False), (NOON_US - 60_000_000, True), (NOON_US, False), (NOON_US + 1, True)],
)
def test_open_windows_are_counted_now_and_then_also_when_the_clock_was_set_back(looked_us: int, is_look: bool) -> None:
    """A wall clock that was two minutes ahead for a while stopped late rows for two minutes (world_continuous)."""
    progress = after(Progress(until_us=NOON_US), hours(11), is_open=True)
    assert bool(due(progress, NOON_US, looked_us=looked_us).look) == is_look


def test_a_turn_is_bounded_and_the_rest_is_due_at_once() -> None:
    found = due(Progress(until_us=hours(12 - 80)[0]), NOON_US)
    assert len(found.new) == windows.WINDOWS_PER_TURN
    assert found.next_us < NOON_US


def test_a_changed_schedule_goes_on_where_the_old_one_stood() -> None:
    progress = after(Progress(until_us=hours(7)[0]), hours(7), hours(8))
    assert due(progress, hours(23)[1], interval="6h").new == (hours(9, 12), hours(12, 18))


def test_what_was_filled_in_by_order_is_left_out_by_the_schedule() -> None:
    progress = after(Progress(until_us=hours(8)[0]), (hours(9)[0] + 60, hours(9)[1]))
    assert due(progress, NOON_US).new == (hours(8), (hours(9)[0], hours(9)[0] + 60), hours(10))


def test_the_schedule_jumps_over_a_span_that_an_order_has_filled_in() -> None:
    progress = after(Progress(until_us=hours(8)[0]), hours(9), hours(8))
    assert progress.until_us == hours(9)[1]
    assert progress.done == (hours(8, 10),)


def test_open_windows_are_looked_at_in_turn_and_once_more_when_they_close() -> None:
    progress = after(Progress(until_us=hours(9)[0]), hours(9), hours(10), is_open=True)
    closes_us = hours(9)[1] + 2 * HOUR_US
    looked = closes_us - 10_000_000
    assert due(progress, closes_us - 1, looked_us=looked).look == ()
    assert due(progress, looked + 60_000_000, looked_us=looked).look == progress.open
    found = due(progress, closes_us, looked_us=looked)
    assert [each.span for each in found.look] == [hours(9), hours(10)]
    assert due(progress, closes_us - 1, looked_us=looked).next_us == closes_us


def test_a_count_that_changed_makes_a_window_late_and_one_that_did_not_lets_it_close() -> None:
    progress = after(Progress(until_us=hours(8)[0]), hours(8), hours(9), hours(10), is_open=True)
    now_us = hours(9)[1] + 2 * HOUR_US
    looked = {hours(8): 3, hours(9): 4, hours(10): 3}
    assert windows.late(looked, progress) == [hours(9)]
    assert windows.closed(looked, progress, lateness_us=2 * HOUR_US, now_us=now_us) == [hours(8)]
    assert [each.span for each in progress.without_open([hours(8)]).open] == [hours(9), hours(10)]


@given(
    st.sampled_from(["1h", "45m", "3h", "0 */5 * * *"]),
    st.lists(st.tuples(st.integers(0, 300), st.sampled_from(["1h", "45m", "3h", "0 */5 * * *"])), max_size=8),
    st.lists(st.tuples(st.integers(-5, 30), st.integers(1, 9)), max_size=4),
)
def test_every_moment_gets_into_one_window_whatever_was_changed_and_ordered_between(
    first: str, changes: list[tuple[int, str]], orders: list[tuple[int, int]]
) -> None:
    """Executed spans never overlap, and together they reach from the beginning to where the schedule stands."""
    progress = start = Progress(until_us=hours(0)[0])
    seen: list[Span] = []
    now_us = hours(0)[0]
    todo = [(0, first), *changes]
    for number, (minutes, interval) in enumerate(todo):
        now_us += minutes * 60_000_000
        schedule = parse_schedule(interval)
        if number < len(orders):
            low, length = orders[number]
            try:
                wanted = windows.ordered(
                    progress, schedule, start_us=hours(low)[0], end_us=hours(low + length)[0], now_us=now_us
                )
            except Conflict:
                wanted = []
            for span in wanted:
                if not any(overlap(span, done) for done in progress.done):
                    seen.append(span)
                    progress = after(progress, span)
        while new := due(progress, now_us, interval=interval).new:
            assert all(not overlap(span, done) for span in new for done in progress.done)
            seen += new
            progress = after(progress, *new)
    assert sum(end - begin for begin, end in seen) == sum(end - begin for begin, end in merged(seen))
    assert merged(seen) == progress.done
    if progress.until_us > start.until_us:
        assert any(begin <= start.until_us and end >= progress.until_us for begin, end in progress.done)


def test_an_order_takes_whole_windows_that_have_ended() -> None:
    progress = Progress(until_us=hours(9)[0])
    middle = (hours(5)[0] + 1, hours(6)[0] + 1)
    ask = {"now_us": NOON_US}
    assert windows.ordered(progress, HOURLY, start_us=middle[0], end_us=middle[1], **ask) == [hours(5), hours(6)]
    assert windows.ordered(progress, HOURLY, start_us=None, end_us=None, **ask) == [hours(9), hours(10), hours(11)]
    assert windows.ordered(progress, HOURLY, start_us=None, end_us=hours(10)[1], **ask) == [hours(9), hours(10)]
    assert windows.ordered(Progress(until_us=NOON_US), HOURLY, start_us=None, end_us=None, **ask) == []
    with pytest.raises(Conflict, match="ended"):
        windows.ordered(progress, HOURLY, start_us=NOON_US, end_us=None, **ask)


@pytest.mark.parametrize(
    ("start", "end", "error"),
    [(hours(9)[0], hours(9)[0], InvalidRequest), (-1, None, InvalidRequest), (0, None, TooLarge)],
)
def test_an_order_that_makes_no_sense_is_refused(start: int, end: int | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        windows.ordered(Progress(until_us=NOON_US), HOURLY, start_us=start, end_us=end, now_us=NOON_US)


def test_an_order_without_a_start_takes_as_many_as_one_may_have() -> None:
    found = windows.ordered(Progress(until_us=0), HOURLY, start_us=None, end_us=None, now_us=NOON_US)
    assert len(found) == windows.WINDOWS_PER_ORDER_MAX


def test_progress_is_read_as_it_was_written_and_begins_an_hour_before_the_query() -> None:
    assert progress_of(ready().catalog, QUERY).until_us == hours(11)[0]
    progress = after(Progress(until_us=hours(8)[0]), hours(8), hours(3), is_open=True)
    progress = progress.with_run(run(error='no "such"\ncolumn\x00 é'))
    kept = Policy("continuous_progress", "7", body_of(progress), 9)
    again = read(kept)
    assert again.updated_us == 9
    assert body_of(again) == kept.body
    assert again.runs[0].error == 'no "such" column é'
    assert again.open == (OpenWindow(*hours(3), 3, 1), OpenWindow(*hours(8), 3, 1))


def test_what_is_remembered_is_bounded() -> None:
    progress = Progress(until_us=0)
    for _ in range(RUNS_KEPT + 9):
        progress = progress.with_run(run(error='"' * 999))
    assert (len(progress.runs), progress.runs[0].id) == (RUNS_KEPT, RUNS_KEPT + 9)
    for number in range(GAPS_MAX):
        progress = after(progress, (10 * number, 10 * number + 5), is_open=True)
    assert len(body_of(progress)) < 60_000
    with pytest.raises(TooLarge, match="separate"):
        after(progress, (10_000, 10_001))
