"""The compiled encoder and the library write the same values, and those of the batch."""

from __future__ import annotations

import json
import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.query.json_rows import encode_compiled, encode_plainly, load_compiled

pytestmark = pytest.mark.skipif(load_compiled() is None, reason="numba is not installed")

I64 = st.integers(-(2**63), 2**63 - 1)
COLUMNS: dict[str, tuple[pa.DataType, st.SearchStrategy[object]]] = {
    "i8": (pa.int8(), st.integers(-128, 127)),
    "i64": (pa.int64(), I64),
    "u32": (pa.uint32(), st.integers(0, 2**32 - 1)),
    "u64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "f32": (pa.float32(), st.floats(width=32)),
    "f64": (pa.float64(), st.floats()),
    "flag": (pa.bool_(), st.booleans()),
    "text": (pa.utf8(), st.text(max_size=12)),
    "s": (pa.timestamp("s", tz="UTC"), st.integers(-(10**11), 10**11)),
    "ms": (pa.timestamp("ms"), st.integers(-(10**14), 10**14)),
    "us": (pa.timestamp("us", tz="UTC"), st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)),
    "ns": (pa.timestamp("ns"), I64),
}


@st.composite
def batches(draw: st.DrawFn) -> pa.RecordBatch:
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=6))
    rows = draw(st.integers(1, 20))
    skip = draw(st.integers(0, 5))
    arrays = []
    for name in names:
        kind, values = COLUMNS[name]
        column = draw(st.lists(st.none() | values, min_size=rows + skip, max_size=rows + skip))
        arrays.append(pa.array(column, kind).slice(skip))
    return pa.RecordBatch.from_arrays(arrays, names=[f"{i}{name}" for i, name in enumerate(names)])


@given(batch=batches())
@settings(max_examples=150, deadline=None)
def test_both_ways_write_the_same_values(batch: pa.RecordBatch) -> None:
    compiled = json.loads(b"[" + encode_compiled(batch) + b"]")
    assert compiled == json.loads(b"[" + encode_plainly(batch) + b"]")
    for index, column in enumerate(batch.columns):
        # Times are compared by the two ways above and by examples below: Python's own know the years 1 to 9999 only.
        if not pa.types.is_timestamp(column.type):
            assert [row[index] for row in compiled] == [_expected(value) for value in column.to_pylist()]


def _expected(value: object) -> object:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def test_a_text_larger_than_the_room_for_one_run_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arc.query.json_rows.OUT_BYTES_MAX", 2000)
    batch = pa.RecordBatch.from_pydict({"a": pa.array(["x" * 100, '"' * 200, "\n" * 50] * 7), "i": range(21)})
    assert json.loads(b"[" + encode_compiled(batch) + b"]") == json.loads(b"[" + encode_plainly(batch) + b"]")


@pytest.mark.parametrize(
    ("time_us", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (951_782_400_000_000, "2000-02-29T00:00:00Z"),
        (1_767_225_600_123_000, "2026-01-01T00:00:00.123000Z"),
        (253_402_300_799_000_000, "9999-12-31T23:59:59Z"),
    ],
)
def test_times_are_rfc_3339_in_utc(time_us: int, text: str) -> None:
    batch = pa.RecordBatch.from_pydict({"t": pa.array([time_us], pa.timestamp("us", tz="UTC"))})
    for encode in (encode_compiled, encode_plainly):
        assert json.loads(encode(batch)) == [text]
