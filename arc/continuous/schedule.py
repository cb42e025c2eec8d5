"""When one window of time ends and the next begins: a fixed length, or five fields of cron. Pure; all times are UTC.

A schedule is nothing but its boundaries, which follow from the text alone: every node and every later start cut time
at the same places, so nothing has to be remembered of a schedule but up to where it was carried out. A fixed length is
counted from 1970, so ``1h`` ends with the clock's hours and ``24h`` with UTC days.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cronsim import CronSim, CronSimError

from arc.errors import InvalidRequest

EVERY_US_MIN = 10_000_000
EVERY_US_MAX = 366 * 86_400_000_000
TEXT_CHARS_MAX = 100

MOMENT_US_MIN = 0
MOMENT_US_MAX = 7_258_118_400_000_000
"""1970 to 2200: moments that schedules are asked about. Beyond, a calendar may have no boundary left."""

_UNITS_US = {"us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(us|µs|ms|s|m|h|d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Schedule(Protocol):
    """Cuts time into windows. Boundaries are µs since 1970 UTC."""

    def floor(self, at_us: int) -> int:
        """The last boundary that is not after a moment."""
        ...

    def after(self, at_us: int) -> int:
        """The first boundary after a moment."""
        ...


class Every:
    """A boundary every so many microseconds, counted from 1970."""

    def __init__(self, length_us: int) -> None:
        self.length_us = length_us

    def __repr__(self) -> str:
        return f"<Every {self.length_us / 1e6:g} s>"

    def floor(self, at_us: int) -> int:
        """See `Schedule`."""
        return at_us - at_us % self.length_us

    def after(self, at_us: int) -> int:
        """See `Schedule`."""
        return self.floor(at_us) + self.length_us


class Cron:
    """A boundary at every minute that five fields of cron name."""

    def __init__(self, fields: str) -> None:
        self.fields = fields

    def __repr__(self) -> str:
        return f"<Cron {self.fields}>"

    def floor(self, at_us: int) -> int:
        """See `Schedule`."""
        # Backwards from just behind it, so that a moment that is a boundary is found itself.
        return _us(next(CronSim(self.fields, _moment(at_us) + timedelta(microseconds=1), reverse=True)))

    def after(self, at_us: int) -> int:
        """See `Schedule`."""
        return _us(next(CronSim(self.fields, _moment(at_us))))


def parse_schedule(text: str) -> Schedule:
    """``10m``, ``1h30m``, ``1d``, or cron as ``5 3 * * MON``. Raises InvalidRequest, which names the rule."""
    if len(text) > TEXT_CHARS_MAX:
        raise InvalidRequest(f"'interval' has at most {TEXT_CHARS_MAX} characters")
    if len(text.split()) > 1:
        return _cron(" ".join(text.split()))
    length_us = parse_duration(text, "interval")
    if not EVERY_US_MIN <= length_us <= EVERY_US_MAX:
        raise InvalidRequest("'interval' must be from 10s to 366d")
    return Every(length_us)


def parse_duration(text: str, what: str) -> int:
    """``1h30m`` in microseconds: numbers with us, ms, s, m, h or d behind them. Raises InvalidRequest."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise InvalidRequest(f"{what!r} must be a duration such as 30s, 10m or 1h30m, or cron of five fields")
    return sum(round(float(number) * _UNITS_US[unit]) for number, unit in parts)


def _cron(fields: str) -> Schedule:
    if len(fields.split()) != 5:
        raise InvalidRequest("'interval' as cron has five fields: minute, hour, day, month and weekday, in UTC")
    try:
        found = Cron(fields)
        found.after(MOMENT_US_MIN)
        found.floor(MOMENT_US_MAX)
    except (CronSimError, StopIteration) as error:
        raise InvalidRequest(f"'interval' is no cron that ever comes: {str(error) or fields}") from error
    return found


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)


def _us(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
