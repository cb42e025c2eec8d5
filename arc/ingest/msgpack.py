"""MessagePack writes: one column map, one row map, an array of either, or ``{"batch": [...]}``.

This decoder is the definition of the format; `mp_kernel` is only a faster way to the same answer. An item (a map) is
understood whole or refused whole, with its 1-based number and the reason; a body that is no MessagePack at all raises
InvalidRequest with the place.

    {"m": "cpu", "columns": {"time": [...], "host": [...], "usage": [...]}, "u": "ms", "tags": ["host"]}     columns
    {"m": "cpu", "t": 1633024800000, "h": "server01", "fields": {"usage": 1.5}, "tags": {"region": "eu"}}    one row

``u`` (s, ms, us, ns) says the unit of the time and ``tags`` of the column form which columns are tags; both are
optional and Arc in Python's own. Without ``u`` the unit is guessed (see `timeunit`): per column from its first value,
per row from its own. NaN and the infinities are values of float64 and are kept; JSON answers show them as null.

A body is walked header by header, and the library may build nothing but plain values (``max_array_len=0``): a small
body that promises huge or deep arrays therefore costs nothing. What the null padding of ragged input may add is bounded
too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import msgpack
import numpy as np
import pyarrow as pa

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import timeunit, values
from arc.ingest.columns import Column, Decoded, Kind, Refused, Request
from arc.ingest.gather import Gatherer
from arc.ingest.timeunit import Unit

REFUSED_MAX = 10_000
"""More bad items than this and the request is refused as a whole: nobody reads the list, and it must not fill the
memory."""

COLUMNS_MAX = 4096
"""Columns of one item."""


def decode(body: bytes | bytearray | memoryview, *, now_us: int) -> Request:
    """Decode a write request. ``now_us`` is the time of rows that bring none.

    For a lone column map, the rows' line numbers are row numbers; in any other form they are item numbers.

    Raises InvalidRequest when the body is not one MessagePack map or array of maps, and TooLarge when ragged items
    would be padded to many times their size or more than `REFUSED_MAX` items are bad.
    """
    if len(body) == 0:
        raise InvalidRequest("the body is empty")
    reader = _Reader(body)
    gatherer = Gatherer(cells_max=len(body) + 4_000_000)
    refused: list[Refused] = []
    try:
        if _is_array(body[0]):
            _read_items(reader, gatherer, refused, now_us)
        else:
            _read_top_map(reader, gatherer, refused, now_us)
    except _Broken as broken:
        raise InvalidRequest(f"the body is not valid MessagePack near byte {broken.offset}: {broken}") from broken
    return Request(gatherer.batches(), tuple(refused))


class _Broken(Exception):
    """The bytes are no MessagePack from here on."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class _Bad(Exception):
    """This item can not be stored; the message says why."""


class _Reader:
    """Walks a body. Containers are entered by their headers only; `value` builds scalars and nothing else."""

    def __init__(self, body: bytes | bytearray | memoryview, start: int = 0) -> None:
        self.body = body
        self._start = start
        self._unpacker = msgpack.Unpacker(
            None, max_buffer_size=max(1, len(body)), max_array_len=0, max_map_len=0, strict_map_key=True
        )
        self._unpacker.feed(memoryview(body)[start:])

    @property
    def offset(self) -> int:
        return self._start + int(self._unpacker.tell())

    @property
    def at_end(self) -> bool:
        return self.offset >= len(self.body)

    def map_size(self, what: str) -> int:
        return self._guarded(self._unpacker.read_map_header, f"{what} is not a map")

    def array_size(self, what: str) -> int:
        return self._guarded(self._unpacker.read_array_header, f"{what} is not an array")

    def next_is_array(self) -> bool:
        return not self.at_end and _is_array(self.body[self.offset])

    def value(self, what: str) -> object:
        try:
            return self._unpacker.unpack()
        except Exception as error:
            raise self._translated(error, what) from error

    def take(self, count: int, what: str) -> list[object]:
        """The next ``count`` values, which must all be plain."""
        try:
            found = list(islice(self._unpacker, count))
        except Exception as error:
            raise self._translated(error, what) from error
        if len(found) < count:
            raise _Broken("it ends too early", self.offset)
        return found

    def skip(self) -> None:
        """Pass over one value of any shape and depth, building nothing."""
        self._guarded(self._unpacker.skip, "")

    def _guarded(self, call: object, bad: str) -> int:
        assert callable(call)
        try:
            result: int = call()
        except (msgpack.OutOfData, msgpack.FormatError, msgpack.StackError) as error:
            if bad and isinstance(error, msgpack.FormatError):
                raise _Bad(bad) from error
            raise self._translated(error, bad) from error
        except ValueError as error:
            raise _Bad(bad) from error
        return result

    def _translated(self, error: Exception, what: str) -> Exception:
        """What the library's error means: the body is broken, or only this value is not for us."""
        if isinstance(error, msgpack.OutOfData):
            return _Broken("it ends too early", self.offset)
        if isinstance(error, msgpack.StackError):
            return _Broken("it is nested too deeply", self.offset)
        if isinstance(error, msgpack.FormatError):
            return _Broken("a byte that begins no value", self.offset)
        if isinstance(error, UnicodeDecodeError):
            return _Bad(f"{what} holds text that is not UTF-8")
        if isinstance(error, ValueError):
            return _Bad(f"{what} holds an array, a map or another value that can not be stored")
        return error


def _is_array(byte: int) -> bool:
    return 0x90 <= byte <= 0x9F or byte in (0xDC, 0xDD)


def _read_top_map(reader: _Reader, gatherer: Gatherer, refused: list[Refused], now_us: int) -> None:
    item = _Item()
    try:
        batch_offset = item.read(reader, batch_allowed=True)
        if batch_offset is None:
            item.store(gatherer, None, now_us)
    except _Bad as bad:
        refused.append(Refused(1, item.text(), str(bad)))
        return
    if not reader.at_end:
        raise _Broken("bytes after the end of the map", reader.offset)
    if batch_offset is not None:
        _read_items(_Reader(reader.body, batch_offset), gatherer, refused, now_us, is_whole_body=False)


def _read_items(
    reader: _Reader, gatherer: Gatherer, refused: list[Refused], now_us: int, *, is_whole_body: bool = True
) -> None:
    """Every item is cut out first and read alone, so that a bad one can not shift the reading of the next."""
    try:
        count = reader.array_size("batch")
    except _Bad as bad:
        raise InvalidRequest(str(bad)) from bad
    for number in range(1, count + 1):
        start = reader.offset
        reader.skip()
        item = _Item()
        try:
            item.read(_Reader(bytes(reader.body[start : reader.offset])), batch_allowed=False)
            item.store(gatherer, number, now_us)
        except _Bad as bad:
            refused.append(Refused(number, item.text(), str(bad)))
            if len(refused) > REFUSED_MAX:
                raise TooLarge(f"more than {REFUSED_MAX} items are bad; the last is item {number}: {bad}") from bad
    if is_whole_body and not reader.at_end:
        raise _Broken("bytes after the end of the array", reader.offset)


@dataclass(slots=True)
class _Item:
    """One map as it is read, key by key in whatever order they come."""

    measurement: object = None
    has_measurement: bool = False
    columns: dict[str, list[object]] | None = None
    unit: Unit | None = None
    time: object = None
    host: object = None
    tags: dict[str, object] | None = None
    tag_names: list[object] | None = None
    fields: dict[str, object] | None = None
    field_list: list[object] | None = None

    def text(self) -> str:
        return f"m={self.measurement}"[:120] if self.has_measurement else ""

    def read(self, reader: _Reader, *, batch_allowed: bool) -> int | None:
        """Read the whole map. Returns where the value of ``batch`` begins, if there is one and it counts."""
        batch_offset = None
        seen = set()
        for _ in range(reader.map_size("the item")):
            key = reader.value("a key")
            if key in seen:
                raise _Bad(f"the key {key!r} comes twice")
            seen.add(key)
            if key == "batch" and batch_allowed:
                batch_offset = reader.offset
                reader.skip()
            else:
                self._read_key(reader, key)
        return batch_offset

    def _read_key(self, reader: _Reader, key: object) -> None:
        match key:
            case "m":
                self.measurement, self.has_measurement = reader.value("m"), True
            case "columns":
                self.columns = _read_columns(reader)
            case "t":
                self.time = reader.value("t")
            case "h":
                self.host = reader.value("h")
            case "fields":
                self.fields = _read_map(reader, "fields")
            case "tags" if reader.next_is_array():
                self.tag_names = reader.take(reader.array_size("tags"), "tags")
            case "tags":
                self.tags = _read_map(reader, "tags")
            case "f":
                self.field_list = reader.take(reader.array_size("f"), "f")
            case "u":
                self.unit = _unit(reader.value("u"))
            case _:
                reader.skip()  # unknown keys are ignored, so that newer clients can talk to older servers

    def store(self, gatherer: Gatherer, number: int | None, now_us: int) -> None:
        """Hand the item over as rows or as columns. ``number`` is None for the only item of a request."""
        measurement = _measurement(self.measurement, self.has_measurement)
        try:
            if self.columns is not None:
                decoded = self._columnar(self.columns, measurement, number, now_us)
                if decoded.rows:
                    gatherer.add_columns(decoded)
            else:
                time_us = now_us if self.time is None else _one_time(self.time, self.unit)
                gatherer.add_row(measurement, number or 1, time_us, self._row_tags(), self._row_fields())
        except (values.Unfit, timeunit.OutOfRange) as error:
            raise _Bad(str(error)) from error

    def _columnar(self, columns: dict[str, list[object]], measurement: str, number: int | None, now_us: int) -> Decoded:
        if self.tags is not None:
            raise _Bad("tags of the column form is an array of column names")
        if not columns:
            raise _Bad("columns is empty")
        rows = len(next(iter(columns.values())))
        for name, column in columns.items():
            if len(column) != rows:
                raise _Bad(f'columns are of unequal length: "{name}" has {len(column)} values, the first has {rows}')
        times = columns.pop("time", None)
        time = np.full(rows, now_us, np.int64) if times is None else _times(times, self.unit)
        tags = set(map(_tag_name, self.tag_names or ()))
        made = tuple(_column(name, column, name in tags) for name, column in columns.items())
        lines = None if number is None else pa.array(np.full(rows, number, np.int32))
        return Decoded(measurement=measurement, time=pa.array(time), columns=made, lines=lines)

    def _row_tags(self) -> dict[str, object]:
        if self.tag_names is not None:
            raise _Bad("tags of the row form is a map")
        tags: dict[str, object] = {}
        if self.host is not None:
            tags["host"] = f"host_{self.host}" if type(self.host) is int else self.host
            if not isinstance(tags["host"], str):
                raise _Bad("h is neither text nor a whole number")
        for name, value in (self.tags or {}).items():
            text = _tag_text(name, value)
            if text is None:
                continue
            if tags.get(name, text) != text:
                raise _Bad("h and the tag host say different things")
            tags[name] = text
        if tags.get("host") is None:
            tags["host"] = "unknown"
        return tags

    def _row_fields(self) -> dict[str, object]:
        fields = self.fields
        if fields is None and self.field_list is not None:
            fields = {f"field_{index}": value for index, value in enumerate(self.field_list)}
        if not fields:
            raise _Bad("the item has neither columns nor fields")
        for name, value in fields.items():
            if value is not None and not isinstance(value, int | float | str):
                raise _Bad(f'field "{name}" holds a value that can not be stored')
        return fields


def _read_columns(reader: _Reader) -> dict[str, list[object]]:
    columns: dict[str, list[object]] = {}
    size = reader.map_size("columns")
    if size > COLUMNS_MAX:
        raise _Bad(f"more than {COLUMNS_MAX} columns")
    for _ in range(size):
        name = _name(reader.value("a column name"), columns)
        columns[name] = reader.take(reader.array_size(f'column "{name}"'), f'column "{name}"')
    return columns


def _read_map(reader: _Reader, what: str) -> dict[str, object]:
    size = reader.map_size(what)
    if size > COLUMNS_MAX:
        raise _Bad(f"more than {COLUMNS_MAX} {what}")
    flat = reader.take(2 * size, what)
    found: dict[str, object] = {}
    for name, value in zip(flat[::2], flat[1::2], strict=True):
        found[_name(name, found)] = value
    return found


def _name(name: object, others: dict[str, list[object]] | dict[str, object]) -> str:
    if not isinstance(name, str):
        raise _Bad(f"the column name {name!r} is not text")
    if name in others:
        raise _Bad(f'column "{name}" comes twice')
    return name


def _measurement(name: object, is_given: bool) -> str:
    if isinstance(name, str) and name:
        return name
    if type(name) is int:
        return f"measurement_{name}"
    raise _Bad("m is neither text nor a whole number" if is_given else "the item has no measurement (m)")


def _unit(name: object) -> Unit:
    try:
        return Unit(name)
    except ValueError:
        raise _Bad(f"u is none of s, ms, us, ns: {name!r}") from None


def _times(given: list[object], unit: Unit | None) -> timeunit.Integers:
    if not set(map(type, given)) <= {int, float}:
        wrong = next(value for value in given if type(value) not in (int, float))
        raise _Bad(f"time holds {wrong!r}, which is not a number")
    numbers: list[float] = given  # type: ignore[assignment]
    if not numbers:
        return np.empty(0, np.int64)
    unit = unit or timeunit.guess(numbers[0])
    try:
        if float not in set(map(type, numbers)):
            return timeunit.ints_to_us(np.array(numbers, np.int64), unit)
    except OverflowError:
        raise _Bad("time holds a number beyond int64") from None
    return np.array([timeunit.one_to_us(value, unit) for value in numbers], np.int64)


def _one_time(value: object, unit: Unit | None) -> int:
    if type(value) is not int and type(value) is not float:
        raise _Bad(f"t is {value!r}, which is not a number")
    return timeunit.one_to_us(value, unit or timeunit.guess(value))


def _column(name: str, given: list[object], is_tag: bool) -> Column:
    column = values.column(name, given)
    if not is_tag:
        return column
    if column.kind is not Kind.STRING:
        raise _Bad(f'the tag column "{name}" must hold text')
    return Column(name, Kind.TAG, column.values)


def _tag_name(name: object) -> str:
    if not isinstance(name, str):
        raise _Bad("tags holds something that is not a column name")
    return name


def _tag_text(name: str, value: object) -> str | None:
    """Tags are text; other plain values are written the way JSON writes them."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise _Bad(f'tag "{name}" holds a value that can not be stored')
