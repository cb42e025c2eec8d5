"""Units of bare numbers, at their borders."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.ingest.timeunit import OutOfRange, Unit, guess, ints_to_us, one_to_us


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("first", "unit"),
    [
        (0, Unit.SECONDS),
        (10**10 - 1, Unit.SECONDS),
        (10**10, Unit.MILLISECONDS),
        (10**13 - 1, Unit.MILLISECONDS),
        (10**13, Unit.MICROSECONDS),
        (10**16 - 1, Unit.MICROSECONDS),
        (10**16, Unit.NANOSECONDS),
        (1.7e9, Unit.SECONDS),
    ],
)
def test_the_unit_is_guessed_from_the_size(first: float, unit: Unit, sign: int) -> None:
    assert guess(sign * first) is unit


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (1, Unit.SECONDS, 1_000_000),
        (-1, Unit.MILLISECONDS, -1000),
        (7, Unit.MICROSECONDS, 7),
        (1999, Unit.NANOSECONDS, 1),
        (-1, Unit.NANOSECONDS, -1),
        (1_700_000_000.1, Unit.SECONDS, 1_700_000_000_100_000),
        (0.5, Unit.MILLISECONDS, 500),
        (1500.0, Unit.NANOSECONDS, 2),
    ],
)
def test_a_time_becomes_microseconds(value: float, unit: Unit, expected: int) -> None:
    assert one_to_us(value, unit) == expected


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (2**63, Unit.MICROSECONDS),
        (2**63 // 1_000_000 + 1, Unit.SECONDS),
        (float("nan"), Unit.SECONDS),
        (float("-inf"), Unit.NANOSECONDS),
        (1e300, Unit.MICROSECONDS),
    ],
)
def test_a_time_that_fits_no_int64_is_out_of_range(value: float, unit: Unit) -> None:
    with pytest.raises(OutOfRange):
        one_to_us(value, unit)


@given(values=st.lists(st.integers(-(2**63) + 1, 2**63 - 1), max_size=5), unit=st.sampled_from(Unit))
@settings(max_examples=200)
def test_a_column_becomes_what_its_values_become(values: list[int], unit: Unit) -> None:
    try:
        expected = [one_to_us(value, unit) for value in values]
    except OutOfRange:
        with pytest.raises(OutOfRange):
            ints_to_us(np.array(values, np.int64), unit)
    else:
        assert ints_to_us(np.array(values, np.int64), unit).tolist() == expected
