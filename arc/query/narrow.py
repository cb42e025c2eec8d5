"""Results in primitive types: what every reader of every format understands. Pure.

DuckDB answers ``sum(integer)`` as decimal(38, 0), an ENUM as a dictionary and a DATE as date32; Grafana's Arrow
reader turns all of those into text. So integers, floats, booleans, text and timestamps stay, decimals become int64
(scale 0) or double, dates become timestamps at midnight, dictionaries their values, and everything else its text:
nested values as JSON.

A decimal of scale 0 may hold more than 64 bits. The first batch decides: if it fits, the column is int64 and a later
value that does not fit fails the stream; if not, the column is double.
"""

from __future__ import annotations

from collections.abc import Callable

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from arc.errors import InvalidRequest

Convert = Callable[[pa.Array], pa.Array]


class Narrowing:
    """Turns batches of one result into primitive types. ``schema`` is what comes out."""

    def __init__(self, schema: pa.Schema, first: pa.RecordBatch | None) -> None:
        targets = [_target(field.type, None if first is None else first.column(i)) for i, field in enumerate(schema)]
        self.schema = pa.schema([pa.field(field.name, target) for field, target in zip(schema, targets, strict=True)])
        self._steps = [
            None if field.type == target else (field.name, _converter(field.type, target))
            for field, target in zip(schema, targets, strict=True)
        ]
        self._same = not any(self._steps)

    def batch(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """One batch in the types of ``schema``. Raises InvalidRequest for a value that its type cannot carry."""
        if self._same:
            return pa.RecordBatch.from_arrays(batch.columns, schema=self.schema)
        columns = [
            column if step is None else _convert(column, *step)
            for column, step in zip(batch.columns, self._steps, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def _convert(column: pa.Array, name: str, convert: Convert) -> pa.Array:
    try:
        return convert(column)
    except pa.ArrowInvalid as error:
        raise InvalidRequest(
            f"a value of column {name!r} does not fit its type in the result; cast the column to DOUBLE or VARCHAR",
            code="value_out_of_range",
        ) from error


def _target(kind: pa.DataType, first: pa.Array | None) -> pa.DataType:
    types = pa.types
    if types.is_dictionary(kind):
        return _target(kind.value_type, None)
    if types.is_decimal(kind):
        return pa.int64() if kind.scale == 0 and _fits_int64(kind, first) else pa.float64()
    if types.is_date(kind):
        return pa.timestamp("us")
    if types.is_timestamp(kind):
        return pa.timestamp(kind.unit, tz=None if kind.tz is None else "UTC")
    if types.is_float16(kind):
        return pa.float32()
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return kind
    return pa.utf8()


def _fits_int64(kind: pa.DataType, first: pa.Array | None) -> bool:
    if kind.precision <= 18 or first is None:
        return True
    try:
        first.cast(pa.int64())
    except pa.ArrowInvalid:
        return False
    return True


def _converter(kind: pa.DataType, target: pa.DataType) -> Convert:
    types = pa.types
    if types.is_dictionary(kind):
        inner = _converter(kind.value_type, target)
        return lambda array: inner(array.dictionary_decode())
    if types.is_timestamp(kind):
        # Both are instants in UTC; only the zone's spelling differs.
        return lambda array: array.view(target)
    if kind == target or not types.is_string(target):
        return lambda array: array.cast(target)
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return lambda array: _text(array, lambda value: value.decode("utf-8", "backslashreplace"))
    if kind == pa.month_day_nano_interval():
        return lambda array: _text(array, _interval)
    if types.is_nested(kind):
        return lambda array: _text(array, _json)
    if types.is_null(kind):
        return lambda array: pa.nulls(len(array), pa.utf8())
    if isinstance(kind, pa.ExtensionType):
        inner = _converter(kind.storage_type, target)
        return lambda array: inner(array.storage)
    return lambda array: pc.cast(array, target)


def _text(array: pa.Array, form: Callable[..., str]) -> pa.Array:
    return pa.array([None if value is None else form(value) for value in array.to_pylist()], pa.utf8())


def _json(value: object) -> str:
    return orjson.dumps(value, default=_json_leaf, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z).decode()


def _json_leaf(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _interval(value: pa.MonthDayNano) -> str:
    """As DuckDB writes it: ``1 year 2 months 3 days 04:05:06.5``."""
    months, days, nanoseconds = value
    parts = []
    for amount, unit in ((int(months / 12), "year"), (months - 12 * int(months / 12), "month"), (days, "day")):
        if amount:
            parts.append(f"{amount} {unit}" + ("" if abs(amount) == 1 else "s"))
    if nanoseconds or not parts:
        sign = "-" if nanoseconds < 0 else ""
        seconds, fraction = divmod(abs(nanoseconds) // 1000, 1_000_000)
        clock = f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        parts.append(f"{clock}.{fraction:06d}".rstrip("0") if fraction else clock)
    return " ".join(parts)
