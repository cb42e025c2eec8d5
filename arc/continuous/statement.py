"""The text of a query for one window, and the text that counts its source. Pure.

``{start_time}`` and ``{end_time}`` stand for the window's beginning, which belongs to it, and its end, which does not:
``WHERE time >= {start_time} AND time < {end_time}``. They become quoted moments, exact to the microsecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from arc.errors import InvalidRequest

START, END = "{start_time}", "{end_time}"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Span = tuple[int, int]
"""From a moment (µs since 1970 UTC) up to another one, which does not belong to it."""


def check_statement(query: str) -> None:
    """Raises InvalidRequest when it does not say where its window goes."""
    for placeholder in (START, END):
        if placeholder not in query:
            raise InvalidRequest(f"'query' must contain {placeholder}, as in: WHERE time >= {START} AND time < {END}")


def statement_for(query: str, window: Span) -> str:
    """The query of one window. A placeholder may stand in quotes already."""
    for placeholder, at_us in ((START, window[0]), (END, window[1])):
        quoted = f"'{moment_text(at_us)}'"
        query = query.replace(f"'{placeholder}'", quoted).replace(placeholder, quoted)
    return query


def counting(database: str, measurement: str, windows: Sequence[Span]) -> str:
    """One row with the number of source rows of each window, in their order. There is at least one window."""
    low, high = min(start for start, _ in windows), max(end for _, end in windows)
    counts = ", ".join(f"count(*) FILTER (WHERE {_within(window)})" for window in windows)
    # The outer bounds are for pruning: files outside of all windows are not opened.
    return f'SELECT {counts} FROM "{database}"."{measurement}" WHERE {_within((low, high))}'


def moment_text(at_us: int) -> str:
    """``2026-01-31T12:00:00Z``, with six digits behind the second where it is not whole."""
    moment = _EPOCH + timedelta(microseconds=at_us)
    fraction = f".{moment.microsecond:06d}" if moment.microsecond else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def _within(window: Span) -> str:
    return f"time >= '{moment_text(window[0])}' AND time < '{moment_text(window[1])}'"
