"""Which unit a bare number of time is in, and how it becomes microseconds.

Arc's formats without a unit guess it from the size of the first value; clients depend on the guess (an SDK sends
milliseconds where its documentation says microseconds). Magnitude counts, not sign, so that times before 1970 are read
with the same unit as later ones. Sub-microsecond digits are rounded down, also before 1970: a row never moves into a
later microsecond.
"""

from __future__ import annotations

import math
from enum import Enum

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

_INT64_MAX = 2**63 - 1


class OutOfRange(ValueError):
    """A time that no int64 of microseconds can hold, or no number at all."""


class Unit(Enum):
    """The value is the name in requests."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"

    @property
    def microseconds(self) -> int:
        """Microseconds in one unit; 0 for nanoseconds, which divide instead."""
        return _MICROSECONDS[self]


_MICROSECONDS = {Unit.SECONDS: 1_000_000, Unit.MILLISECONDS: 1000, Unit.MICROSECONDS: 1, Unit.NANOSECONDS: 0}


def guess(first: float) -> Unit:
    """The unit a number is probably in: below 1e10 seconds (year 2286), below 1e13 ms, below 1e16 µs, else ns."""
    size = abs(first)
    if size < 10**10:
        return Unit.SECONDS
    if size < 10**13:
        return Unit.MILLISECONDS
    if size < 10**16:
        return Unit.MICROSECONDS
    return Unit.NANOSECONDS


def one_to_us(value: float, unit: Unit) -> int:
    """Microseconds of one time. Raises OutOfRange."""
    if isinstance(value, float):
        return _float_to_us(value, unit)
    us = value // 1000 if unit is Unit.NANOSECONDS else value * unit.microseconds
    if not -_INT64_MAX <= us <= _INT64_MAX:
        raise OutOfRange(f"time {value} in {unit.value} is out of range")
    return us


def ints_to_us(values: Integers, unit: Unit) -> Integers:
    """Microseconds of a whole column. Raises OutOfRange when one of them does not fit."""
    if unit is Unit.MICROSECONDS or len(values) == 0:
        return values
    if unit is Unit.NANOSECONDS:
        return values // np.int64(1000)
    factor = unit.microseconds
    for extreme in (int(values.min()), int(values.max())):
        if not -_INT64_MAX <= extreme * factor <= _INT64_MAX:
            raise OutOfRange(f"time {extreme} in {unit.value} is out of range")
    return values * np.int64(factor)


def _float_to_us(value: float, unit: Unit) -> int:
    # Rounded to the nearest: 0.1 s is a little less than itself in binary and must not lose its last microsecond.
    if not math.isfinite(value):
        raise OutOfRange(f"time {value} is not a number")
    us = round(value / 1000 if unit is Unit.NANOSECONDS else value * unit.microseconds)
    if not -_INT64_MAX <= us <= _INT64_MAX:
        raise OutOfRange(f"time {value} in {unit.value} is out of range")
    return us
