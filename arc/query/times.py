"""Timestamps as RFC 3339 text, column by column. Pure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


def rfc3339(column: pa.Array) -> pa.Array:
    """``2026-01-31T12:00:00Z``, with a fraction of six digits (nine when it needs them) where it is not zero."""
    unit = column.type.unit
    # Nulls come as NaT, written "NaT": they are masked out again below.
    moments = column.cast(pa.timestamp(unit)).to_numpy(zero_copy_only=False).astype(f"datetime64[{unit}]")
    text = np.datetime_as_string(moments, unit="ns" if unit == "ns" else "us")
    values = [_short(value) for value in text.tolist()]
    return pa.array(values, pa.utf8(), mask=column.is_null().to_numpy(zero_copy_only=False))


def _short(text: str) -> str:
    whole, _, fraction = text.partition(".")
    if fraction.strip("0") == "":
        return whole + "Z"
    return f"{whole}.{fraction[:6] if len(fraction) == 9 and fraction.endswith('000') else fraction}Z"


def rfc3339_us(time_us: int) -> str:
    """One moment, µs since 1970 UTC."""
    return str(rfc3339(pa.array([time_us], pa.timestamp("us")))[0].as_py())
