"""The MessagePack decoder a server uses: equal to `msgpack.decode` on every body, and several times faster on column
maps.

A lone column map, which is what clients send in bulk, is walked here key by key and its arrays are read by compiled
loops (`mp_kernel`, numba, once `warm` has run). Whatever is unusual, wrong or merely rare makes this walk give up, and
the body is decoded by `msgpack`, which alone knows the rules and the messages.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from arc.ingest import msgpack, timeunit
from arc.ingest.columns import Column, Decoded, Kind, Request
from arc.ingest.timeunit import Unit

FAST_BYTES_MIN = 256
"""Smaller bodies are not worth the calls."""

_WARM = (
    b"\x82\xa1m\xa1a\xa7columns\x85\xa4time\x92\x01\x02\xa1f\x92\xc0\xcb\0\0\0\0\0\0\0\0"
    b"\xa1i\x92\x01\xca\0\0\0\0\xa1s\x92\xa1a\xc0\xa1b\x92\xc2\xc3"
)


class MsgpackDecoder:
    """Decodes bodies; may be called from several threads at once."""

    def __init__(self) -> None:
        self._kernel: ModuleType | None = None

    def __repr__(self) -> str:
        return f"<MsgpackDecoder {'compiled' if self._kernel is not None else 'interpreted'}>"

    def warm(self) -> bool:
        """Compile or load the kernel; takes seconds the first time, so run it in a worker. False when numba is missing.

        Until it has returned True, other threads decode without the kernel.
        """
        try:
            from arc.ingest import mp_kernel  # numba is optional, and slow to import
        except ImportError:
            return False
        compiled = decode_columns(mp_kernel, _WARM, 0)
        assert compiled == msgpack.decode(_WARM, now_us=0)
        self._kernel = mp_kernel
        return True

    def decode(self, body: bytes, *, now_us: int) -> Request:
        """As `msgpack.decode`: the same batches, refusals and errors."""
        if self._kernel is not None and len(body) >= FAST_BYTES_MIN:
            found = decode_columns(self._kernel, body, now_us)
            if found is not None:
                return found
        return msgpack.decode(body, now_us=now_us)


def decode_columns(kernel: ModuleType, body: bytes, now_us: int) -> Request | None:
    """Decode a lone column map; None when the body is anything else or anything about it is unusual."""
    try:
        return _Walk(kernel, body).request(now_us)
    except (_Unusual, IndexError, UnicodeDecodeError, timeunit.OutOfRange):
        return None


class _Unusual(Exception):
    """Something for the other decoder."""


class _Walk:
    """One pass over one body. ``at`` is the place of the next byte to read."""

    def __init__(self, kernel: ModuleType, body: bytes) -> None:
        self._kernel = kernel
        self._body = body
        self._data = np.frombuffer(body, np.uint8)
        self._data.flags.writeable = False  # compiled for arrays that are
        self._at = 0

    def request(self, now_us: int) -> Request:
        measurement: str | None = None
        columns: list[Column] | None = None
        unit: Unit | None = None
        tags: list[str] = []
        seen: set[str] = set()
        for _ in range(self._map_size()):
            key = self._text()
            if key in seen:
                raise _Unusual
            seen.add(key)
            if key == "m":
                measurement = self._text()
            elif key == "columns":
                columns = [self._column() for _ in range(self._map_size())]
            elif key == "tags":
                tags = [self._text() for _ in range(self._array_size())]
            elif key == "u":
                unit = self._unit()
            else:
                raise _Unusual
        if self._at != len(self._body) or not measurement or not columns:
            raise _Unusual
        return Request((_decoded(measurement, columns, unit, frozenset(tags), now_us),))

    def _column(self) -> Column:
        name = self._text()
        count = self._array_size()
        first = self._kernel.skip_nulls(self._data, self._at, count)
        if first == self._at + count:
            self._at = first
            return Column(name, Kind.STRING, pa.nulls(count, pa.utf8()))
        marker = self._body[first]
        is_text = 0xA0 <= marker <= 0xBF or 0xD9 <= marker <= 0xDB
        return self._texts(name, count) if is_text else self._numbers(name, count)

    def _numbers(self, name: str, count: int) -> Column:
        kernel = self._kernel
        out = np.empty(count, np.uint64)
        valid = np.ones(count, np.uint8)
        end, seen = kernel.scan_numbers(self._data, self._at, count, out, valid, False)
        kinds = seen & ~kernel.NULL
        if kinds & kernel.FLOAT and kinds != kernel.FLOAT:
            # Whole numbers among floats, as JavaScript writes them.
            end, seen = kernel.scan_numbers(self._data, self._at, count, out, valid, True)
            kinds = seen & ~kernel.NULL
        if end < 0:
            raise _Unusual
        self._at = end
        validity = _bitmap(valid) if seen & kernel.NULL else None
        if kinds == kernel.BOOLEAN:
            return Column(name, Kind.BOOLEAN, _array(Kind.BOOLEAN, count, [validity, _bitmap(out.astype(np.uint8))]))
        if kinds == kernel.FLOAT:
            kind = Kind.FLOAT
        elif kinds & ~(kernel.SMALL | kernel.NEGATIVE) == 0:
            kind = Kind.INTEGER
        elif kinds & ~(kernel.SMALL | kernel.LARGE) == 0:
            kind = Kind.UNSIGNED
        else:
            raise _Unusual
        return Column(name, kind, _array(kind, count, [validity, pa.py_buffer(out)]))

    def _texts(self, name: str, count: int) -> Column:
        kernel = self._kernel
        offsets = np.empty(count + 1, np.int32)
        valid = np.ones(count, np.uint8)
        end, nulls, size = kernel.scan_texts(self._data, self._at, count, offsets, valid)
        if end < 0:
            raise _Unusual
        out = np.empty(size + 8, np.uint8)
        is_ascii = kernel.copy_texts(self._data, self._at, count, offsets, out)
        self._at = end
        buffers = [_bitmap(valid) if nulls else None, pa.py_buffer(offsets), pa.py_buffer(out[:size])]
        values = _array(Kind.STRING, count, buffers)
        if not is_ascii:
            try:
                values.validate(full=True)
            except pa.ArrowInvalid as error:
                raise _Unusual from error
        return Column(name, Kind.STRING, values)

    def _text(self) -> str:
        at, marker = self._at + 1, self._body[self._at]
        if 0xA0 <= marker <= 0xBF:
            size = marker & 31
        elif marker == 0xD9:
            size, at = self._body[at], at + 1
        else:
            raise _Unusual
        self._at = at + size
        if self._at > len(self._body):
            raise _Unusual
        return self._body[at : self._at].decode()

    def _map_size(self) -> int:
        return self._size(0x80, 0xDE)

    def _array_size(self) -> int:
        return self._size(0x90, 0xDC)

    def _size(self, fixed: int, wide: int) -> int:
        """The size in a header of a container; at most what the rest of the body could hold."""
        at, marker = self._at + 1, self._body[self._at]
        if marker & 0xF0 == fixed:
            size = marker & 15
        elif marker == wide or marker == wide + 1:
            width = 2 if marker == wide else 4
            size, at = int.from_bytes(self._body[at : at + width], "big"), at + width
        else:
            raise _Unusual
        if size > len(self._body) - at:
            raise _Unusual
        self._at = at
        return size

    def _unit(self) -> Unit:
        try:
            return Unit(self._text())
        except ValueError as error:
            raise _Unusual from error


def _decoded(measurement: str, columns: list[Column], unit: Unit | None, tags: frozenset[str], now_us: int) -> Decoded:
    rows = len(columns[0].values)
    names = {column.name for column in columns}
    if rows == 0 or len(names) != len(columns) or len(columns) > msgpack.COLUMNS_MAX:
        raise _Unusual
    if any(len(column.values) != rows for column in columns):
        raise _Unusual
    time = None
    kept: list[Column] = []
    for column in columns:
        if column.name == "time":
            time = _times(column, unit)
        elif column.name in tags:
            if column.kind is not Kind.STRING:
                raise _Unusual
            kept.append(Column(column.name, Kind.TAG, column.values))
        else:
            kept.append(column)
    if time is None:
        time = pa.array(np.full(rows, now_us, np.int64))
    return Decoded(measurement=measurement, time=time, columns=tuple(kept))


def _times(column: Column, unit: Unit | None) -> pa.Array:
    if column.kind is not Kind.INTEGER or column.values.null_count:
        raise _Unusual
    numbers = column.values.to_numpy()
    return pa.array(timeunit.ints_to_us(numbers, unit or timeunit.guess(int(numbers[0]))))


def _bitmap(flags: npt.NDArray[np.uint8]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(flags, bitorder="little"))


def _array(kind: Kind, count: int, buffers: list[pa.Buffer | None]) -> pa.Array:
    return pa.Array.from_buffers(kind.arrow, count, buffers)
