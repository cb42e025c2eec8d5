"""Plain Python values to columns, for the formats whose values carry their own type.

The type is the value's, never guessed from its text, and nothing is converted that would lose something. A list with
several kinds in it is either one column (when only whole numbers and fractions are mixed and all are exact as float) or
no column at all; or, for formats that send rows, one column per kind, so that the schema step can refuse single rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from arc.ingest.columns import Column, Kind

Value = int | float | str | bool | None

INT64_MAX = 2**63 - 1


class Unfit(ValueError):
    """Values that make no column; the message says which and why, for the user."""


_NAMES: dict[type, str] = {int: "integer", float: "float", str: "string", bool: "boolean"}
_KINDS: dict[type, Kind] = {int: Kind.INTEGER, float: Kind.FLOAT, str: Kind.STRING, bool: Kind.BOOLEAN}


def column(name: str, values: Sequence[object]) -> Column:
    """One column of one kind. All nulls make a column of strings, which the schema step drops. Raises Unfit."""
    types = set(map(type, values))
    types.discard(type(None))
    if not types:
        return Column(name, Kind.STRING, pa.nulls(len(values), pa.utf8()))
    if types == {int}:
        return _integers(name, values)
    if types == {int, float}:
        return Column(name, Kind.FLOAT, pa.array([_exact(name, value) for value in values], pa.float64()))
    if len(types) > 1 or types.isdisjoint(_KINDS):
        kinds = " and ".join(sorted(_NAMES.get(one, f"{one.__name__} (not a field type)") for one in types))
        raise Unfit(f'column "{name}" holds {kinds}')
    kind = _KINDS[types.pop()]
    try:
        return Column(name, kind, pa.array(values, kind.arrow))
    except UnicodeEncodeError:
        raise Unfit(f'column "{name}" holds text that is not UTF-8') from None


def columns(name: str, values: Sequence[object]) -> list[Column]:
    """One column per kind, in the order the kinds appear; each is null where another speaks.

    Raises Unfit for other types.
    """
    types = dict.fromkeys(map(type, values))  # a set that keeps its order
    types.pop(type(None), None)
    if len(types) == 1 and int not in types:
        return [column(name, values)]
    found: list[Column] = []
    for one in types:
        own = values if len(types) == 1 else [value if type(value) is one else None for value in values]
        found.extend(_split_integers(name, own) if one is int else [column(name, own)])
    return found


def _integers(name: str, values: Sequence[object]) -> Column:
    try:
        return Column(name, Kind.INTEGER, pa.array(values, pa.int64()))
    except (pa.ArrowInvalid, OverflowError):
        pass  # some value is beyond int64: all of them must then do as unsigned
    try:
        return Column(name, Kind.UNSIGNED, pa.array(values, pa.uint64()))
    except (pa.ArrowInvalid, OverflowError):
        raise Unfit(f'column "{name}" holds integers that fit neither int64 nor uint64 together') from None


def _split_integers(name: str, values: Sequence[object]) -> list[Column]:
    try:
        return [Column(name, Kind.INTEGER, pa.array(values, pa.int64()))]
    except (pa.ArrowInvalid, OverflowError):
        pass
    small = [value if isinstance(value, int) and value <= INT64_MAX else None for value in values]
    large = [value if isinstance(value, int) and value > INT64_MAX else None for value in values]
    found = []
    if any(value is not None for value in small):
        found.append(_integers(name, small))
    return [*found, _integers(name, large)]


def _exact(name: str, value: object) -> float | None:
    if value is None:
        return None
    assert isinstance(value, int | float)
    number = float(value)
    if number != value and isinstance(value, int):
        raise Unfit(f'column "{name}" holds floats and the integer {value}, which no float can hold exactly')
    return number
