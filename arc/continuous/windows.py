"""Which windows are due: from what was done, the schedule, the time that late rows have, and now. Pure.

Every moment from where the schedule stands on comes into exactly one window, in order: a window begins where the last
one ended, also when the schedule was changed between, and ends at the next boundary, or where something was filled in
by order already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from arc.continuous.progress import OpenWindow, Progress
from arc.continuous.schedule import MOMENT_US_MAX, MOMENT_US_MIN, Schedule
from arc.continuous.statement import Span
from arc.errors import Conflict, InvalidRequest, TooLarge

WINDOWS_PER_TURN = 50
"""Windows that one query executes before others have their turn."""

WINDOWS_PER_ORDER_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """``new`` windows were never executed; ``look`` are those whose source rows have to be counted again. ``next_us``
    is when there is more to do, if nothing else happens.
    """

    new: tuple[Span, ...]
    look: tuple[OpenWindow, ...]
    next_us: int


def due(
    progress: Progress,
    schedule: Schedule,
    *,
    now_us: int,
    delay_us: int,
    lateness_us: int,
    looked_us: int,
    look_every_us: int,
) -> Due:
    """What is to be done now. ``looked_us`` is when open windows were counted last.

    An open window is looked at every ``look_every_us``, and once more as soon as it closes; also when the last look was
    in what is the future now, since the wall clock was set back.
    """
    new: list[Span] = []
    window = _following(progress, schedule, progress.until_us)
    while window[1] + delay_us <= now_us and len(new) < WINDOWS_PER_TURN:
        new.append(window)
        window = _following(progress, schedule, window[1])
    closes_us = [each.end_us + lateness_us for each in progress.open]
    is_look = bool(closes_us) and (not looked_us <= now_us < looked_us + look_every_us or min(closes_us) <= now_us)
    times = [window[1] + delay_us, *closes_us, *([looked_us + look_every_us] if closes_us else [])]
    return Due(new=tuple(new), look=progress.open if is_look else (), next_us=min(times))


def _following(progress: Progress, schedule: Schedule, from_us: int) -> Span:
    """The first window from a moment on that has no result."""
    start = from_us
    for done_start, done_end in progress.done:
        if done_start <= start < done_end:
            start = done_end
    end = schedule.after(start)
    taken = [done_start for done_start, _ in progress.done if start < done_start < end]
    return start, min([end, *taken])


def is_open(window: Span, lateness_us: int, now_us: int) -> bool:
    """Whether rows that come now still change a window."""
    return window[1] + lateness_us > now_us


def late(looked: Mapping[Span, int], progress: Progress) -> list[Span]:
    """Open windows whose source has another number of rows than when they were executed."""
    return [each.span for each in progress.open if looked.get(each.span, each.rows) != each.rows]


def closed(looked: Mapping[Span, int], progress: Progress, *, lateness_us: int, now_us: int) -> list[Span]:
    """Open windows that close with nothing new in them. ``now_us`` is from before they were counted."""
    return [
        each.span
        for each in progress.open
        if looked.get(each.span) == each.rows and not is_open(each.span, lateness_us, now_us)
    ]


def ordered(
    progress: Progress, schedule: Schedule, *, start_us: int | None, end_us: int | None, now_us: int
) -> list[Span]:
    """The windows of an order: whole ones that hold any moment of what was asked for and have ended, oldest first.

    Without a start these are the next ones of the schedule, as many as one order may have; what was filled in there is
    left out. Without an end up to now. Raises InvalidRequest, TooLarge, and Conflict when none of them has ended.
    """
    for moment in (start_us, end_us):
        if moment is not None and not MOMENT_US_MIN <= moment <= MOMENT_US_MAX:
            raise InvalidRequest("'start_time' and 'end_time' must lie between 1970 and 2200")
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise InvalidRequest("'end_time' must be after 'start_time'")
    found: list[Span] = []
    start = progress.until_us if start_us is None else schedule.floor(start_us)
    stop = now_us if end_us is None else end_us
    while start < stop:
        window = _following(progress, schedule, start) if start_us is None else (start, schedule.after(start))
        if window[0] >= stop or window[1] > now_us:
            break
        if len(found) == WINDOWS_PER_ORDER_MAX:
            if start_us is None:
                break
            raise TooLarge(f"these are more than {WINDOWS_PER_ORDER_MAX} windows; order them in several parts")
        found.append(window)
        start = window[1]
    if not found and start_us is not None:
        raise Conflict("no window that was asked for has ended yet", code="window_open")
    return found
