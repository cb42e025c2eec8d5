"""Timestamps as RFC 3339 text, column by column. Pure.

The usual column (microseconds or coarser, years 0 to 9999) is laid out as digits by numpy, all values at once;
the rest goes through numpy's own formatting, value by value.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_PATTERN = np.frombuffer(b"0000-00-00T00:00:00.000000Z", np.uint8)
_FRACTION = slice(19, 26)
_FIRST_SECOND, _LAST_SECOND = -62_167_219_200, 253_402_300_799


def rfc3339(column: pa.Array) -> pa.Array:
    """``2026-01-31T12:00:00Z``, with a fraction of six digits (nine when it needs them) where it is not zero."""
    unit = column.type.unit
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    counts = column.view(pa.int64()).fill_null(0).to_numpy()
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    seconds, rest = np.divmod(counts, per_second)
    usual = len(counts) == 0 or (seconds.min() >= _FIRST_SECOND and seconds.max() <= _LAST_SECOND)
    if usual and (unit != "ns" or not np.any(rest % 1000)):
        text = _laid_out(seconds, rest * (1_000_000 // per_second) if unit != "ns" else rest // 1000)
    else:
        formatted = np.datetime_as_string(counts.astype(f"datetime64[{unit}]"), unit="ns" if unit == "ns" else "us")
        text = pa.array([_short(value) for value in formatted.tolist()], pa.utf8())
    return pa.array(text.to_pylist(), pa.utf8(), mask=nulls) if nulls.any() else text


def rfc3339_us(time_us: int) -> str:
    """One moment, µs since 1970 UTC."""
    return str(rfc3339(pa.array([time_us], pa.timestamp("us")))[0].as_py())


def _laid_out(seconds: np.ndarray, micros: np.ndarray) -> pa.Array:
    """All values in one byte matrix, a row each; then the fractions of zero are cut out of it."""
    cells = np.tile(_PATTERN, (len(seconds), 1))
    days, within = np.divmod(seconds, 86_400)
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    _put(cells, 0, 4, months.astype("datetime64[Y]").astype(np.int64) + 1970)
    _put(cells, 5, 2, months.astype(np.int64) % 12 + 1)
    _put(cells, 8, 2, (dates - months).astype(np.int64) + 1)
    _put(cells, 11, 2, within // 3600)
    _put(cells, 14, 2, within // 60 % 60)
    _put(cells, 17, 2, within % 60)
    _put(cells, 20, 6, micros)
    kept = np.ones(cells.shape, np.bool_)
    kept[micros == 0, _FRACTION] = False
    offsets = np.zeros(len(seconds) + 1, np.int32)
    np.cumsum(np.where(micros == 0, len(_PATTERN) - 7, len(_PATTERN)), out=offsets[1:])
    return pa.StringArray.from_buffers(len(seconds), pa.py_buffer(offsets), pa.py_buffer(cells[kept]))


def _put(cells: np.ndarray, at: int, digits: int, numbers: np.ndarray) -> None:
    for place in range(at + digits - 1, at - 1, -1):
        numbers, digit = np.divmod(numbers, 10)
        cells[:, place] = 48 + digit


def _short(text: str) -> str:
    whole, _, fraction = text.partition(".")
    if fraction.strip("0") == "":
        return whole + "Z"
    return f"{whole}.{fraction[:6] if len(fraction) == 9 and fraction.endswith('000') else fraction}Z"
