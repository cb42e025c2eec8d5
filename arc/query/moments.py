"""A constant expression of SQL as a moment, where that is certain. Pure.

Known: ISO 8601 strings, bare or cast to TIMESTAMPTZ, TIMESTAMP or DATE; ``to_timestamp(n)``, ``make_timestamp(n)``;
``now()``, ``today()``; and any of the typed ones plus or minus an INTERVAL of fixed length. ``now()`` will have moved
on when the query runs, so it stands for a day around this one: files are pruned by it, rows are not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from arc.query.tree import Tree, items, text

NOW_SLACK_US = 86_400_000_000
"""How far ``now()`` may be off between planning and running: the longest query and a badly set clock fit in."""

_ROUNDING_US = 1_000
"""DuckDB rounds ``to_timestamp(double)`` in its own way; files are not pruned to the microsecond."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})"
    r"(?:[ T](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}(?::?\d{2})?)?)?"
)
_INTERVAL = re.compile(r"([+-]?\d{1,12}) (microsecond|millisecond|second|minute|hour|day|week)s?")

_UNIT_US = {
    "microsecond": 1,
    "millisecond": 1_000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": 86_400_000_000,
    "week": 604_800_000_000,
}
_ZONED = frozenset({"TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE"})
_PLAIN = frozenset({"TIMESTAMP", "DATETIME", "TIMESTAMP WITHOUT TIME ZONE"})
_NOW = frozenset({"now", "get_current_timestamp", "transaction_timestamp", "today"})


@dataclass(frozen=True, slots=True)
class Moment:
    """The moment is somewhere in this closed range (µs since 1970 UTC); ``typed`` when SQL sees a time, not a
    string."""

    low: int
    high: int
    typed: bool = True


def moment(expression: object, now_us: int) -> Moment | None:
    """The moment that an expression stands for, None when that is not certain."""
    if not isinstance(expression, dict):
        return None
    match text(expression, "class"):
        case "CONSTANT":
            found = _iso(_string(expression), zoned=True)
            return None if found is None else Moment(found, found, typed=False)
        case "CAST":
            return _cast(expression)
        case "FUNCTION":
            return _function(expression, now_us)
    return None


def _cast(expression: Tree) -> Moment | None:
    value = _string(expression.get("child"))
    match _type_name(expression):
        case name if name in _ZONED:
            found = _iso(value, zoned=True)
        case name if name in _PLAIN:
            found = _iso(value, zoned=False)
        case "DATE":
            found = _iso(value, zoned=False) if len(value) == len("2026-01-01") else None
        case _:
            found = None
    return None if found is None else Moment(found, found)


def _function(expression: Tree, now_us: int) -> Moment | None:
    name = text(expression, "function_name").lower()
    arguments = [item.get("expression") for item in items(expression, "arguments")]
    if name in _NOW and not arguments:
        return Moment(now_us - NOW_SLACK_US, now_us + NOW_SLACK_US)
    if name == "to_timestamp" and len(arguments) == 1:
        return _around(_number(arguments[0]), 1_000_000)
    if name == "make_timestamp" and len(arguments) == 1:
        return _around(_number(arguments[0]), 1)
    if name in ("+", "-") and len(arguments) == 2:
        return _shifted(name, arguments[0], arguments[1], now_us)
    return None


def _shifted(sign: str, left: object, right: object, now_us: int) -> Moment | None:
    base, shift = moment(left, now_us), _interval(right)
    if sign == "+" and base is None:
        base, shift = moment(right, now_us), _interval(left)
    # A bare string next to an interval might itself be read as an interval.
    if base is None or shift is None or not base.typed:
        return None
    shift = shift if sign == "+" else -shift
    return Moment(base.low + shift, base.high + shift)


def _around(number: float | None, unit_us: int) -> Moment | None:
    if number is None or abs(number) * unit_us > 4e18:
        return None
    middle = round(number * unit_us)
    return Moment(middle - _ROUNDING_US, middle + _ROUNDING_US)


def _interval(expression: object) -> int | None:
    """µs of an interval of fixed length: ``INTERVAL '5 minutes'``, ``INTERVAL 5 MINUTE``, ``to_minutes(5)``."""
    if text(expression, "class") == "CAST" and isinstance(expression, dict):
        if _type_name(expression) != "INTERVAL":
            return None
        found = _INTERVAL.fullmatch(_string(expression.get("child")).lower())
        return None if found is None else int(found.group(1)) * _UNIT_US[found.group(2)]
    name = text(expression, "function_name").lower()
    arguments = items(expression, "arguments")
    unit = _UNIT_US.get(name.removeprefix("to_").removesuffix("s"))
    if not name.startswith("to_") or unit is None or len(arguments) != 1:
        return None
    number = _number(arguments[0].get("expression"))
    return None if number is None or number != int(number) or abs(number) > 1e12 else int(number) * unit


def _number(expression: object) -> float | None:
    """A number literal, also inside the casts and the ``trunc`` that the parser puts around an interval's amount."""
    if not isinstance(expression, dict):
        return None
    if text(expression, "class") == "CAST" and _type_name(expression) in ("DOUBLE", "BIGINT", "INTEGER"):
        number = _number(expression.get("child"))
        # A cast of a fraction to an integer rounds; that is not needed here.
        return number if number is None or _type_name(expression) == "DOUBLE" or number == int(number) else None
    if text(expression, "function_name") == "trunc":
        arguments = items(expression, "arguments")
        number = _number(arguments[0].get("expression")) if len(arguments) == 1 else None
        return None if number is None else float(int(number))
    if text(expression, "class") != "CONSTANT":
        return None
    literal = text(expression.get("literal"), "text")
    if not re.fullmatch(r"-?\d{1,18}(\.\d{1,9})?", literal):
        return None
    return float(literal) if "." in literal else int(literal)


def _string(expression: object) -> str:
    """A string literal's text, empty for anything else."""
    literal = expression.get("literal") if isinstance(expression, dict) else None
    is_string = text(expression, "class") == "CONSTANT" and text(literal, "kind") == "STRING"
    return text(literal, "text") if is_string else ""


def _type_name(expression: Tree) -> str:
    kind = expression.get("type_expr")
    if expression.get("try_cast") or items(kind, "children") or text(kind, "schema") or text(kind, "catalog"):
        return ""
    return text(kind, "type_name").upper()


def _iso(value: str, *, zoned: bool) -> int | None:
    """µs since 1970 of an ISO 8601 string; digits beyond the microsecond are cut, as DuckDB does."""
    found = _ISO.fullmatch(value)
    if found is None:
        return None
    *parts, fraction, zone = found.groups()
    if zone is not None and not zoned:
        return None
    numbers = [int(part or 0) for part in parts]
    micros = int((fraction or "").ljust(6, "0")[:6])
    try:
        instant = datetime(*numbers, micros, tzinfo=UTC)  # type: ignore[arg-type,misc]
    except ValueError:
        return None
    return (instant - _EPOCH) // _MICROSECOND - _offset_us(zone)


def _offset_us(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    minutes = int(zone[1:3]) * 60 + int(zone[3:].removeprefix(":") or 0)
    return (minutes if zone[0] == "+" else -minutes) * 60_000_000
