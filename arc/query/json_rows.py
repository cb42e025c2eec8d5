"""A batch as rows of JSON, ``[…],[…]``: the library's way, which is the definition, and the compiled one.

Both take batches of primitive types (see `narrow`) and give the same values; the compiled one writes control
characters as ``\\u000a`` where the library knows shorter forms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from arc.query.times import rfc3339

COMPILED_ROWS_MIN = 512
"""Smaller batches are not worth the preparation, nor the loading of the kernel for the first of them."""

OUT_BYTES_MAX = 256 << 20
"""Address space reserved for the text of one run of rows (only what is written gets memory); longer batches are
split."""

EncodeRows = Callable[[pa.RecordBatch], bytes]

# Years 1 to 9999 in µs; the kernel writes four digits of the year.
_TIME_MIN = -62_135_596_800_000_000
_TIME_MAX = 253_402_300_799_999_999


def load_compiled() -> EncodeRows | None:
    """The compiled way, None without numba. The first call in a process takes time: seconds, or less with a warm
    cache."""
    try:
        from arc.query import json_kernel  # noqa: F401 - numba is optional, and slow to import
    except ImportError:
        return None
    return encode_compiled


def encode_plainly(batch: pa.RecordBatch) -> bytes:
    """Rows without their outer brackets, by the library alone."""
    if batch.num_rows == 0:
        return b""
    columns = [(rfc3339(c) if pa.types.is_timestamp(c.type) else c).to_pylist() for c in batch.columns]
    return orjson.dumps(list(zip(*columns, strict=True)))[1:-1]


def encode_compiled(batch: pa.RecordBatch) -> bytes:
    """Rows without their outer brackets, by the kernel."""
    if batch.num_rows == 0 or batch.num_columns == 0:
        return encode_plainly(batch)
    from arc.query import json_kernel

    columns = _Columns(batch.num_columns, batch.num_rows)
    for index, column in enumerate(batch.columns):
        columns.add(index, column)
    if columns.bytes_max > OUT_BYTES_MAX and batch.num_rows > 1:
        half = batch.num_rows // 2
        return encode_compiled(batch.slice(0, half)) + b"," + encode_compiled(batch.slice(half))
    out = np.empty(columns.bytes_max, np.uint8)
    written = json_kernel.splice(
        columns.kinds,
        columns.data,
        columns.offsets,
        columns.validity,
        columns.first_bits,
        np.ones(batch.num_columns, np.int64),
        batch.num_rows,
        out,
    )
    assert written < columns.bytes_max, (written, columns.bytes_max)
    return out[:written].tobytes()


@dataclass(slots=True)
class _Columns:
    """The kernel's view of a batch: addresses, and in ``kept`` the owners of what they point to."""

    count: int
    rows: int
    kinds: np.ndarray = field(init=False)
    data: np.ndarray = field(init=False)
    offsets: np.ndarray = field(init=False)
    validity: np.ndarray = field(init=False)
    first_bits: np.ndarray = field(init=False)
    bytes_max: int = field(init=False)
    kept: list[object] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("kinds", "data", "offsets", "validity", "first_bits"):
            setattr(self, name, np.zeros(self.count, np.int64))
        # Two brackets and a comma per row, a comma per value, and room for the longest single value at the end.
        self.bytes_max = (3 + self.count) * self.rows + 64

    def add(self, index: int, column: pa.Array) -> None:
        """Describe one column."""
        from arc.query import json_kernel as kernel

        column, kind = _prepare(column)
        self.kinds[index] = kind
        if kind == kernel.FLOAT:
            self._add_floats(index, column)
            return
        validity, *buffers = column.buffers()
        if column.null_count:
            self.validity[index] = validity.address
            self.first_bits[index] = column.offset
        self.kept.append(column)
        if kind == kernel.TEXT:
            offsets, data = buffers
            self.offsets[index] = offsets.address + 4 * column.offset
            self.data[index] = 0 if data is None else data.address
            ends = np.frombuffer(offsets, np.int32)
            size = int(ends[column.offset + self.rows]) - int(ends[column.offset])
            self.bytes_max += kernel.ESCAPED_BYTES_MAX * size + 7 * self.rows
            return
        self.bytes_max += kernel.VALUE_BYTES_MAX[kind] * self.rows
        if kind == kernel.FLAG:
            self.data[index] = buffers[0].address
            self.offsets[index] = column.offset
        else:
            self.data[index] = buffers[0].address + 8 * column.offset

    def _add_floats(self, index: int, column: pa.Array) -> None:
        values = column.to_numpy(zero_copy_only=False)  # a null becomes NaN, and NaN null
        text = np.frombuffer(orjson.dumps(values, option=orjson.OPT_SERIALIZE_NUMPY), np.uint8)
        self.kept.append(text)
        self.data[index] = text.ctypes.data
        self.bytes_max += len(text)


def _prepare(column: pa.Array) -> tuple[pa.Array, int]:
    """The column in one of the kernel's forms, and which."""
    from arc.query import json_kernel as kernel

    kind = column.type
    if pa.types.is_floating(kind):
        # orjson writes a float32 with its own shortest digits; the plain way widens it first, and so does this.
        return column if pa.types.is_float64(kind) else column.cast(pa.float64()), kernel.FLOAT
    if pa.types.is_boolean(kind):
        return column, kernel.FLAG
    if pa.types.is_timestamp(kind):
        moments = _microseconds(column)
        return (rfc3339(column), kernel.TEXT) if moments is None else (moments, kernel.TIME)
    if pa.types.is_uint64(kind):
        return column, kernel.UNSIGNED
    if pa.types.is_integer(kind):
        return column.cast(pa.int64()), kernel.INTEGER
    return column, kernel.TEXT


def _microseconds(column: pa.Array) -> pa.Array | None:
    """The column in µs, None when it needs more digits than those or a year of more than four."""
    try:
        moments = column.cast(pa.timestamp("us", tz=column.type.tz)).view(pa.int64())
    except pa.ArrowInvalid:
        return None
    extremes = pc.min_max(moments).as_py()
    low, high = extremes["min"], extremes["max"]
    return moments if low is None or (low >= _TIME_MIN and high <= _TIME_MAX) else None
