"""How one setting is read from text or TOML by its annotation, and written back.

A key has its unit in its name: ``flush_bytes`` and ``sql_bytes_max`` accept ``64MiB`` (powers of 1024, with or without
``i`` and ``B``), ``timeout_seconds`` accepts ``250ms``, ``5s``, ``10m``, ``2h``, ``7d``; a bare number is bytes or
seconds. What `show_value` writes, `read_value` reads back as the same value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

_SIZES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3, "t": 1024**4}
_DURATIONS = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")


def read_value(key: str, wanted: object, raw: object) -> object:
    """Turn text or a TOML value into the annotated type. Raises ValueError whose text says what was expected."""
    try:
        return _read(key, wanted, raw)
    except (ValueError, OverflowError) as problem:
        raise ValueError(expected(key, wanted)) from problem


def expected(key: str, wanted: object) -> str:
    """Say in words what a key accepts."""
    inner, optional = _without_none(wanted)
    if optional:
        return f"{expected(key, inner)}, or empty"
    if get_origin(inner) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(inner))
    if get_origin(inner) is tuple:
        return "a list of texts (comma separated in a variable)"
    if inner is bool:
        return "true or false"
    if _counts(key, "bytes"):
        return "a size such as 65536 or 64MiB"
    if _counts(key, "seconds"):
        return "a duration such as 5s, 250ms or 10m"
    names: dict[object, str] = {int: "a whole number", float: "a number", str: "text"}
    return names[inner]


def show_value(key: str, value: object) -> str:
    """Write a value in the form that `read_value` accepts, as people write it: ``64MiB``, ``1.5s``, ``a,b``."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ",".join(str(item) for item in value)
        case int() if _counts(key, "bytes"):
            return _show_size(value)
        case int() | float() if _counts(key, "seconds"):
            return _show_duration(value)
        case _:
            return str(value)


def _read(key: str, wanted: object, raw: object) -> object:
    inner, optional = _without_none(wanted)
    if optional and raw in ("", None):
        return None
    if get_origin(inner) is Literal:
        return _choice(get_args(inner), raw)
    if get_origin(inner) is tuple:
        return _texts(raw)
    if inner is str:
        return _text(raw)
    if inner is bool:
        return _flag(raw)
    assert inner in (int, float), f"settings know no type {inner!r}; teach arc/settings.py or change the field"
    number = _number(key, raw)
    if number < 0:
        raise ValueError("negative: no setting counts backwards")
    if inner is float:
        return float(number)
    if number != int(number):
        raise ValueError("not whole")
    return int(number)


def _counts(key: str, unit: str) -> bool:
    return unit in key.split("_")


def _without_none(wanted: object) -> tuple[object, bool]:
    if get_origin(wanted) not in (Union, UnionType):
        return wanted, False
    rest = [kind for kind in get_args(wanted) if kind is not NoneType]
    assert len(rest) == 1, f"{wanted!r} is not one type or None"
    return rest[0], True


def _choice(choices: tuple[object, ...], raw: object) -> object:
    for choice in choices:
        if raw == choice:
            return choice
    raise ValueError("not a choice")


def _texts(raw: object) -> tuple[str, ...]:
    if isinstance(raw, str):
        return tuple(item for item in (part.strip() for part in raw.split(",")) if item)
    if isinstance(raw, list | tuple):
        return tuple(_text(item) for item in raw)
    raise ValueError("not a list")


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError("not text")
    return raw


def _flag(raw: object) -> bool:
    if isinstance(raw, bool):
        return raw
    word = _text(raw).strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError("neither")
    return word in _TRUE


def _number(key: str, raw: object) -> int | float:
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return _finite(raw)
    words = _text(raw).strip()
    match = _NUMBER.fullmatch(words)
    if match is None:
        raise ValueError("no number")
    digits, unit = match["digits"].replace("_", ""), match["unit"].lower()
    number: int | float = int(digits) if digits.lstrip("+-").isdigit() else float(digits)
    if _counts(key, "bytes"):
        return number * _unit(_SIZES, unit.removesuffix("b").removesuffix("i"))
    if _counts(key, "seconds"):
        return number * _unit(_DURATIONS, unit) if unit else number
    if unit:
        raise ValueError("a unit where none belongs")
    return _finite(number)


_NUMBER = re.compile(r"(?P<digits>[+-]?\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?)\s*(?P<unit>[a-zA-Z]*)")


def _unit(table: Mapping[str, float], unit: str) -> float:
    if unit not in table:
        raise ValueError("unknown unit")
    return table[unit]


def _finite(number: int | float) -> int | float:
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("not finite")
    return number


def _show_duration(value: int | float) -> str:
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if value and value % seconds == 0:
            return f"{int(value // seconds)}{unit}"
    return f"{int(value) if value == int(value) else value}s"


def _show_size(value: int) -> str:
    for unit, size in (("TiB", 1024**4), ("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if value and value % size == 0:
            return f"{value // size}{unit}"
    return str(value)
