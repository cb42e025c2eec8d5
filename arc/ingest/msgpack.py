"""MessagePack writes: one column map, one row map, an array of either, or ``{"batch": [...]}``.

This decoder is the definition of the format; `mp_kernel` is only a faster way to the same answer. An item (a map) is
understood whole or refused whole, with its 1-based number and the reason; a body that is no MessagePack at all raises
InvalidRequest with the place.

    {"m": "cpu", "columns": {"time": [...], "host": [...], "usage": [...]}, "u": "ms", "tags": ["host"]}
    {"m": "cpu", "t": 1633024800000, "h": "server01", "fields": {"usage": 1.5}, "tags": {"region": "eu"}}

``u`` (s, ms, us, ns) says the unit of the time and ``tags`` of the column form which columns are tags; both are
optional additions. Without ``u`` the unit is guessed (see `timeunit`): per column from its first value, per row from
its own. NaN and the infinities are values of float64 and are kept; JSON answers show them as null.

A small body may promise huge or deep arrays, which the library would allocate before it finds them missing. So a body
is first walked without building anything; only when every promise is kept is it built, and then it costs no more than a
fixed multiple of its size. What the null padding of ragged input may add is bounded too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

import msgpack
import numpy as np
import pyarrow as pa

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import timeunit, values
from arc.ingest.bounds import cells_max
from arc.ingest.columns import Column, Decoded, Kind, Refused, Request
from arc.ingest.gather import Gatherer
from arc.ingest.timeunit import Unit

Body = bytes | bytearray | memoryview

REFUSED_MAX = 10_000
"""More bad items and the request is refused as a whole: nobody reads the list, and it must not fill the memory."""

COLUMNS_MAX = 4096
"""Columns of one item."""

_REASON_CHARS_MAX = 300
_PLAIN = frozenset({int, float, str, bool, type(None)})


def decode(body: Body, *, now_us: int) -> Request:
    """Decode a write request. ``now_us`` is the time of rows that bring none.

    For a lone column map, the rows' line numbers are row numbers; in any other form they are item numbers.

    Raises InvalidRequest when the body is not one MessagePack map or array of maps, and TooLarge when ragged items
    would be padded to many times their size or more than `REFUSED_MAX` items are bad.
    """
    if len(body) == 0:
        raise InvalidRequest("the body is empty")
    is_array = 0x90 <= body[0] <= 0x9F or body[0] in (0xDC, 0xDD)
    is_map = 0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF)
    if not is_array and not is_map:
        raise InvalidRequest("the body is neither a MessagePack map nor an array of maps")
    _walk(body)
    items, is_alone = _items(body, is_array)
    gatherer = Gatherer(cells_max=cells_max(len(body)))
    refused: list[Refused] = []
    for number, item in enumerate(items, 1):
        try:
            _store(item, gatherer, None if is_alone else number, now_us)
        except (_Bad, values.Unfit, timeunit.OutOfRange) as error:
            refused.append(Refused(number, _text(item), str(error)[:_REASON_CHARS_MAX]))
            if len(refused) > REFUSED_MAX:
                raise TooLarge(f"more than {REFUSED_MAX} items are bad; the last is item {number}: {error}") from error
    return Request(gatherer.batches(), tuple(refused))


class _Bad(Exception):
    """This item can not be stored; the message says why."""


@dataclass(frozen=True, slots=True)
class _BadMap:
    """Stands where a map would be that is none for us. Raising in the library's hook would lose the items after it."""

    reason: str


def _walk(body: Body) -> None:
    """Raise InvalidRequest unless the body is exactly one well-formed value. Builds nothing."""
    walker = _unpacker(body)
    try:
        walker.skip()
    except msgpack.OutOfData:
        _fail("it ends too early", walker)
    except msgpack.StackError:
        _fail("it is nested too deeply", walker)
    except ValueError:
        _fail("a byte that begins no value", walker)
    if walker.tell() != len(body):
        _fail("bytes after its end", walker)


def _fail(what: str, walker: msgpack.Unpacker) -> NoReturn:
    raise InvalidRequest(f"the body is not valid MessagePack near byte {walker.tell()}: {what}")


def _items(body: Body, is_array: bool) -> tuple[Iterator[object], bool]:
    """The items of a body that was walked, and whether there is only the one that is the body itself."""
    unpacker = _unpacker(body)
    if is_array:
        unpacker.read_array_header()
        return _guarded(unpacker), False
    top = next(_guarded(unpacker))
    if isinstance(top, dict) and "batch" in top:
        if not isinstance(top["batch"], list):
            raise InvalidRequest("batch is not an array")
        return iter(top["batch"]), False
    return iter((top,)), True


def _guarded(unpacker: msgpack.Unpacker) -> Iterator[object]:
    """What the walk lets pass and building trips over: an extension that calls itself a timestamp and is none."""
    try:
        yield from unpacker
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"the body is not valid MessagePack near byte {unpacker.tell()}: {error}") from error


def _unpacker(body: Body) -> msgpack.Unpacker:
    # Text that is not UTF-8 passes here as lone surrogates, so that only its own item is refused when it is used.
    unpacker = msgpack.Unpacker(
        None,
        max_buffer_size=len(body),
        strict_map_key=False,
        object_pairs_hook=_map,
        unicode_errors="surrogateescape",
    )
    unpacker.feed(body)
    return unpacker


def _map(pairs: list[tuple[object, object]]) -> dict[object, object] | _BadMap:
    try:
        found = dict(pairs)
    except TypeError:
        return _BadMap("a map has a key that is not text")
    if len(found) == len(pairs):
        return found
    seen: set[object] = set()
    for key, _ in pairs:
        if key in seen:
            return _BadMap(f"the key {key!r} comes twice in one map")
        seen.add(key)
    raise AssertionError("a smaller dictionary without equal keys")


def _store(given: object, gatherer: Gatherer, number: int | None, now_us: int) -> None:
    """Hand an item over as columns or as a row. ``number`` is None for the only item of a request."""
    item = _as_map(given, "the item")
    measurement = _measurement(item)
    unit = _unit(item["u"]) if "u" in item else None
    if "columns" in item:
        decoded = _columnar(item, measurement, unit, number, now_us)
        if decoded.rows:
            gatherer.add_columns(decoded)
        return
    time = item.get("t")
    time_us = now_us if time is None else _one_time(time, unit)
    gatherer.add_row(measurement, number or 1, time_us, _row_tags(item), _row_fields(item))


def _columnar(
    item: Mapping[str, object], measurement: str, unit: Unit | None, number: int | None, now_us: int
) -> Decoded:
    columns = {name: _as_list(column, name) for name, column in _named(item["columns"], "columns").items()}
    if not columns:
        raise _Bad("columns is empty")
    rows = len(next(iter(columns.values())))
    for name, column in columns.items():
        if len(column) != rows:
            raise _Bad(f'columns are of unequal length: "{name}" has {len(column)} values, the first has {rows}')
    times = columns.pop("time", None)
    time = np.full(rows, now_us, np.int64) if times is None else _times(times, unit)
    tags = _tag_names(item.get("tags"))
    made = tuple(_column(name, column, name in tags) for name, column in columns.items())
    lines = None if number is None else pa.array(np.full(rows, number, np.int32))
    return Decoded(measurement=measurement, time=pa.array(time), columns=made, lines=lines)


def _row_tags(item: Mapping[str, object]) -> dict[str, object]:
    """``h`` is the tag host in short; a row without any host gets one, as clients of the row form expect."""
    tags: dict[str, object] = {}
    given = item.get("tags")
    if given is not None:
        for name, value in _named(given, "tags").items():
            text = _tag_text(name, value)
            if text is not None:
                tags[name] = text
    host = item.get("h")
    if host is not None:
        host = f"host_{host}" if type(host) is int else host
        if not isinstance(host, str):
            raise _Bad("h is neither text nor a whole number")
        if tags.setdefault("host", _utf8(host, "h")) != host:
            raise _Bad("h and the tag host say different things")
    tags.setdefault("host", "unknown")
    return tags


def _row_fields(item: Mapping[str, object]) -> Mapping[str, object]:
    given = item.get("fields")
    if given is None and item.get("f") is not None:
        given = {f"field_{index}": value for index, value in enumerate(_as_list(item["f"], "f"))}
    if given is None or given == {}:
        raise _Bad("the item has neither columns nor fields")
    fields = _named(given, "fields")
    for name, value in fields.items():
        if type(value) not in _PLAIN:
            raise _Bad(f'field "{name}" holds a value that can not be stored')
        if type(value) is str:
            _utf8(value, f'field "{name}"')
    return fields


def _as_map(value: object, what: str) -> Mapping[str, object]:
    if isinstance(value, _BadMap):
        raise _Bad(value.reason)
    if not isinstance(value, dict):
        raise _Bad(f"{what} is not a map")
    return value


def _named(value: object, what: str) -> Mapping[str, object]:
    """A map from column names."""
    found = _as_map(value, what)
    if len(found) > COLUMNS_MAX:
        raise _Bad(f"more than {COLUMNS_MAX} {what}")
    for name in found:
        if not isinstance(name, str):
            raise _Bad(f"{what} has a name that is not text")
        _utf8(name, f"a name in {what}")
    return found


def _as_list(value: object, name: str) -> list[object]:
    if not isinstance(value, list):
        raise _Bad(f'"{name}" is not an array')
    return value


def _utf8(text: str, what: str) -> str:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Bad(f"{what} holds text that is not UTF-8") from None
    return text


def _measurement(item: Mapping[str, object]) -> str:
    name = item.get("m")
    if isinstance(name, str) and name:
        return _utf8(name, "m")
    if type(name) is int:
        return f"measurement_{name}"
    raise _Bad("m is neither text nor a whole number" if name is not None else "the item has no measurement (m)")


def _text(item: object) -> str:
    name = item.get("m") if isinstance(item, dict) else None
    return f"m={name}"[:120].encode(errors="replace").decode() if isinstance(name, str | int) else ""


def _unit(name: object) -> Unit:
    try:
        return Unit(name)
    except ValueError:
        raise _Bad("u is none of s, ms, us, ns") from None


def _times(given: list[object], unit: Unit | None) -> timeunit.Integers:
    types = set(map(type, given))
    if not types <= {int, float}:
        wrong = next(value for value in given if type(value) not in (int, float))
        raise _Bad(f"time holds a value of type {type(wrong).__name__}, which is not a number")
    numbers: list[float] = given  # type: ignore[assignment]
    if not numbers:
        return np.empty(0, np.int64)
    unit = unit or timeunit.guess(numbers[0])
    if float in types:
        return np.array([timeunit.one_to_us(value, unit) for value in numbers], np.int64)
    try:
        return timeunit.ints_to_us(np.array(numbers, np.int64), unit)
    except OverflowError:
        raise _Bad("time holds a number beyond int64") from None


def _one_time(value: object, unit: Unit | None) -> int:
    if type(value) is not int and type(value) is not float:
        raise _Bad(f"t is of type {type(value).__name__}, which is not a number")
    return timeunit.one_to_us(value, unit or timeunit.guess(value))


def _column(name: str, given: list[object], is_tag: bool) -> Column:
    column = values.column(name, given)
    if not is_tag:
        return column
    if column.kind is not Kind.STRING:
        raise _Bad(f'the tag column "{name}" must hold text')
    return Column(name, Kind.TAG, column.values)


def _tag_names(names: object) -> set[object]:
    if names is None:
        return set()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise _Bad("tags of the column form is an array of column names")
    return set(names)


def _tag_text(name: str, value: object) -> str | None:
    """Tags are text; other plain values are written the way JSON writes them."""
    if value is None:
        return None
    if isinstance(value, str):
        return _utf8(value, f'tag "{name}"')
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise _Bad(f'tag "{name}" holds a value that can not be stored')
