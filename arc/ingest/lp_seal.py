"""Python's side of the compiled scan: gives it buffers, and makes batches of the rows it found.

A `Scratch` serves one call at a time. The row buffers grow with the largest request of each measurement and are kept for
the next one. When they pass `SCRATCH_BYTES`, or a table is full, the rows so far are sealed and everything is forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from arc.ingest import lp_gather, lp_kernel, lp_tables
from arc.ingest.columns import Column, Decoded, Kind
from arc.ingest.lineprotocol import TIME_US_MAX, Unit, unescape_measurement, unescape_name
from arc.ingest.lp_rows import TAG_TYPE
from arc.ingest.lp_tables import BOOLEAN, FLOAT, INTEGER, SLACK, STRING, UNSIGNED, Bytes, Cells, Ints, Tables

SCRATCH_BYTES = 64 << 20
"""Row buffers of one scratch, all measurements together."""

ROWS_START, ROWS_MAX = 256, 1 << 14
"""Rows of a measurement's first buffers, and of its largest. More rows are sealed in pieces and joined: that is cheaper
than writing to buffers that do not fit the processor's cache."""

WORDS = FLOAT | INTEGER | UNSIGNED
"""Kinds whose cells are Arrow's eight bytes already."""

_KINDS = (
    (BOOLEAN, Kind.BOOLEAN),
    (FLOAT, Kind.FLOAT),
    (INTEGER, Kind.INTEGER),
    (STRING, Kind.STRING),
    (UNSIGNED, Kind.UNSIGNED),
)
"""In the order of columns of one name: by the kind's value."""

assert [kind.value for _, kind in _KINDS] == sorted(kind.value for _, kind in _KINDS)

INT64, INT32, UTF8 = pa.int64(), pa.int32(), pa.utf8()


class Declined(NamedTuple):
    """A line for the exact parser: its bytes without the newline, and its number."""

    start: int
    end: int
    line: int


class Scratch:
    """Tables and buffers of one decoder. Not for two threads at once."""

    def __init__(self, tables: Tables | None = None) -> None:
        self._tables = tables if tables is not None else lp_tables.new_tables()
        self._known: list[_Measurement] = []
        self._fields_known = 0
        self._keys_known = 0
        self._buffer_bytes = 0
        self._order = np.empty(0, np.int32)
        self._stamp = 0
        self._forgot_at = -1

    def decode(self, body: Bytes, ascii_only: bool, unit: Unit, now_us: int) -> tuple[list[Decoded], list[Declined]]:
        """Scan a read-only body: pieces of batches in the order of their rows, and the lines left to the exact parser."""
        head = self._tables.head
        time = np.array([unit.divide, unit.multiply, TIME_US_MAX * unit.divide // unit.multiply, now_us], np.int64)
        pieces: list[Decoded] = []
        declined: list[Declined] = []
        head[lp_tables.POSITION] = 0
        head[lp_tables.LINE] = 1
        # In place as far as vectors may look ahead of a line end; the rest is copied to where there is room behind it.
        inside = lp_kernel.behind_last_newline(body, max(0, len(body) - SLACK))
        base = 0
        if inside:
            self._forgot_at = -1
            self._scan(body, inside, False, ascii_only, 0, time, body, pieces, declined)
            base = int(head[lp_tables.POSITION])
        rest = np.full(len(body) - base + 2 * SLACK, 10, np.uint8)
        rest[: len(body) - base] = body[base:]
        rest.flags.writeable = False
        head[lp_tables.POSITION] = 0
        self._forgot_at = -1
        self._scan(rest, len(body) - base, True, ascii_only, base, time, body, pieces, declined)
        self._seal_all(body, pieces)
        return pieces, declined

    def _scan(
        self,
        part: Bytes,
        end: int,
        last: bool,
        ascii_only: bool,
        base: int,
        time: Ints,
        body: Bytes,
        pieces: list[Decoded],
        declined: list[Declined],
    ) -> None:
        """Scan ``part``, which is ``body`` from ``base`` on, and give the scan whatever it stops for."""
        tables = self._tables
        while True:
            status = lp_kernel.scan(part, end, last, ascii_only, base, time, *tables)
            if tables.head[lp_tables.DECLINED]:
                count = int(tables.head[lp_tables.DECLINED])
                declined.extend(Declined(*row) for row in tables.declined[:count].tolist())
                tables.head[lp_tables.DECLINED] = 0
            if status == lp_tables.NEED_ROWS:
                self._give_rows(int(tables.head[lp_tables.SUBJECT]), body, pieces)
            elif status == lp_tables.TABLES_FULL:
                self._make_room(part, end, base, body, pieces, declined)
            elif status != lp_tables.DECLINED_FULL:
                return

    # -- buffers --------------------------------------------------------------------------------------------------

    def _meet(self) -> None:
        """Learn the names of what the scan added to its tables."""
        tables = self._tables
        head = tables.head
        while len(self._known) < head[lp_tables.N_MEASUREMENTS]:
            row = tables.measurements[len(self._known)]
            self._known.append(
                _Measurement(unescape_measurement(self._text(row[lp_tables.M_OFFSET], row[lp_tables.M_SIZE])))
            )
        for field in range(self._fields_known, int(head[lp_tables.N_FIELDS])):
            row = tables.fields[field]
            start = field * lp_tables.FIELD_NAME_BYTES
            raw = tables.field_names[start : start + int(row[lp_tables.F_SIZE]) - 1].tobytes()
            self._known[row[lp_tables.F_MEASUREMENT]].add_field(unescape_name(raw), field)
        self._fields_known = int(head[lp_tables.N_FIELDS])
        for key in range(self._keys_known, int(head[lp_tables.N_KEYS])):
            row = tables.keys[key]
            name = self._text(row[lp_tables.K_OFFSET], row[lp_tables.K_SIZE]).decode()
            self._known[row[lp_tables.K_MEASUREMENT]].add_tag(name, int(row[lp_tables.K_LOCAL]))
        self._keys_known = int(head[lp_tables.N_KEYS])

    def _text(self, offset: int, size: int) -> bytes:
        text: bytes = self._tables.arena[offset : offset + size].tobytes()
        return text

    def _give_rows(self, measurement: int, body: Bytes, pieces: list[Decoded]) -> None:
        """Make room for one more row of a measurement and for all its fields."""
        self._meet()
        known = self._known[measurement]
        row = self._tables.measurements[measurement]
        rows, capacity = int(row[lp_tables.M_ROWS]), int(row[lp_tables.M_CAPACITY])
        if rows >= capacity:
            if capacity >= ROWS_MAX:
                pieces.append(self._seal(measurement, body))
                return
            capacity = max(ROWS_START, 2 * capacity)
        wanted = known.bytes_for(capacity)
        if self._buffer_bytes - known.buffer_bytes + wanted > SCRATCH_BYTES and self._buffer_bytes > 0:
            self._seal_all(body, pieces)
            self._forget()
            return
        self._buffer_bytes += wanted - known.buffer_bytes
        known.resize(capacity, rows)
        row[lp_tables.M_CAPACITY] = capacity
        row[lp_tables.M_SERIES : lp_tables.M_LINES + 1] = [
            known.series.ctypes.data,
            known.times.ctypes.data,
            known.lines.ctypes.data,
        ]
        for field, (values, kinds) in known.buffers.items():
            self._tables.fields[field, lp_tables.F_VALUES] = values.ctypes.data
            self._tables.fields[field, lp_tables.F_KINDS] = kinds.ctypes.data

    def _make_room(
        self, part: Bytes, end: int, base: int, body: Bytes, pieces: list[Decoded], declined: list[Declined]
    ) -> None:
        """Seal and forget everything; a line that alone fills the tables goes to the exact parser."""
        head = self._tables.head
        at = int(head[lp_tables.POSITION])
        if at == self._forgot_at:
            begin = at
            while part[begin] in b" \t\0":
                begin += 1
            stop, newlines = lp_kernel.find_line_end(part, begin, end)
            declined.append(Declined(base + at, base + stop, int(head[lp_tables.LINE])))
            head[lp_tables.POSITION] = stop + 1
            head[lp_tables.LINE] += newlines + 1
        self._forgot_at = at
        self._seal_all(body, pieces)
        self._forget()

    def _forget(self) -> None:
        lp_tables.forget(self._tables)
        self._known.clear()
        self._fields_known = self._keys_known = self._buffer_bytes = 0

    # -- batches --------------------------------------------------------------------------------------------------

    def _seal_all(self, body: Bytes, pieces: list[Decoded]) -> None:
        self._meet()
        count = len(self._known)
        for measurement in np.flatnonzero(self._tables.measurements[:count, lp_tables.M_ROWS]).tolist():
            pieces.append(self._seal(measurement, body))

    def _seal(self, measurement: int, body: Bytes) -> Decoded:
        """Make a batch of the rows of a measurement and empty its buffers."""
        self._meet()
        tables = self._tables
        known = self._known[measurement]
        rows = int(tables.measurements[measurement, lp_tables.M_ROWS])
        fields = known.fields()
        kinds = np.empty(len(fields), np.int64)
        codes = np.empty((len(known.tags), rows), np.int32)
        tags = np.empty((len(known.tags), 5), np.int64)
        order = self._order_for(codes.shape)
        self._stamp += 1
        lp_gather.survey(
            rows, known.series, tables.series, tables.codes, tables.values, self._stamp, tables.fields, fields,
            kinds, codes, order, tags,
        )  # fmt: skip
        kinds_of = kinds.tolist()
        block, memory, places = self._lay_out(rows, kinds_of, tags)
        lp_gather.emit(
            rows, known.times, known.lines, tables.fields, fields, np.array(places, np.int64), tables.arena,
            tables.values, order, tags, block,
        )  # fmt: skip
        columns = []
        codes_memory = pa.py_buffer(codes)
        tags_of = tags.tolist()
        for name, local in known.tag_plan():
            if tags_of[local][lp_gather.D_VALUES]:
                index = codes_memory.slice(4 * rows * local, 4 * rows)
                columns.append(Column(name, Kind.TAG, self._tag(known, local, rows, index, memory, tags_of[local])))
        for (name, field), present, place in zip(known.field_plan(), kinds_of, places[2:], strict=True):
            for bit, kind in _KINDS:
                if present & bit:
                    words = memory.slice(place, 8 * rows) if bit & WORDS else None
                    values = _field(known.buffers[field], bit, kind, present, rows, words, body)
                    columns.append(Column(name, kind, values))
        lp_gather.clear(rows, tables.fields, fields)
        tables.measurements[measurement, lp_tables.M_ROWS] = 0
        return Decoded(
            measurement=known.name,
            time=pa.Array.from_buffers(INT64, rows, [None, memory.slice(0, 8 * rows)], 0),
            columns=tuple(columns),
            lines=pa.Array.from_buffers(INT32, rows, [None, memory.slice(places[1], 4 * rows)], 0),
        )

    def _order_for(self, shape: tuple[int, ...]) -> Cells:
        size = shape[0] * shape[1]
        if len(self._order) < size:
            self._order = np.empty(size, np.int32)
        return self._order[:size].reshape(shape)

    def _lay_out(self, rows: int, kinds_of: list[int], tags: Ints) -> tuple[Bytes, pa.Buffer, list[int]]:
        """Allocate one block for all that `emit` copies: (block, the same for Arrow, offsets of its columns)."""
        stride = _aligned(8 * rows)
        places = [0, stride]
        used = stride + _aligned(4 * rows)
        for present in kinds_of:
            if present & WORDS:
                places.append(used)
                used += stride
            else:
                places.append(-1)
        for tag, (count, _, size, _, _) in enumerate(tags.tolist()):
            tags[tag, lp_gather.D_OFFSETS] = used
            used += _aligned(4 * (count + 1))
            tags[tag, lp_gather.D_TEXT] = used
            used += _aligned(size)
        block = np.empty(used, np.uint8)
        return block, pa.py_buffer(block), places

    def _tag(
        self, known: _Measurement, local: int, rows: int, index: pa.Buffer, memory: pa.Buffer, tag: list[int]
    ) -> pa.Array:
        count, nulls, size, offsets, text = tag
        buffers = [None, memory.slice(offsets, 4 * (count + 1)), memory.slice(text, size)]
        dictionary = pa.Array.from_buffers(UTF8, count, buffers, 0)
        validity = None
        if nulls:
            bits = np.zeros((rows + 7) >> 3, np.uint8)
            lp_gather.tag_validity(rows, known.series, self._tables.series, self._tables.codes, local, bits)
            validity = pa.py_buffer(bits)
        return pa.DictionaryArray.from_buffers(TAG_TYPE, rows, [validity, index], dictionary, nulls)


def _aligned(size: int) -> int:
    return (size + 63) & ~63


def _field(
    buffers: tuple[Ints, Bytes], bit: int, kind: Kind, present: int, rows: int, words: pa.Buffer | None, body: Bytes
) -> pa.Array:
    """The column of the cells that are of one kind, which is the only one present if ``present == bit``."""
    cells, kinds = buffers
    validity, nulls = None, 0
    if present != bit:
        bits = np.zeros((rows + 7) >> 3, np.uint8)
        nulls = lp_gather.field_validity(rows, kinds, bit, bits)
        validity = pa.py_buffer(bits)
    if words is not None:
        return pa.Array.from_buffers(kind.arrow, rows, [validity, words], nulls)
    if bit == BOOLEAN:
        truths = np.zeros((rows + 7) >> 3, np.uint8)
        lp_gather.copy_booleans(rows, cells, truths)
        return pa.Array.from_buffers(kind.arrow, rows, [validity, pa.py_buffer(truths)], nulls)
    offsets = np.empty(rows + 1, np.int32)
    text = np.empty(lp_gather.string_bytes(rows, kinds, bit, cells), np.uint8)
    used = lp_gather.copy_strings(rows, kinds, bit, cells, body, offsets, text)
    strings = [validity, pa.py_buffer(offsets), pa.py_buffer(text[:used])]
    return pa.Array.from_buffers(kind.arrow, rows, strings, nulls)


class _Measurement:
    """What Python remembers of one measurement: names in column order, and the buffers whose addresses the tables hold."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tags: dict[str, int] = {}
        self.buffers: dict[int, tuple[Ints, Bytes]] = {}
        self.buffer_bytes = 0
        self.series = self.lines = np.empty(0, np.int32)
        self.times = np.empty(0, np.int64)
        self._names: dict[str, int] = {}
        self._tag_plan: list[tuple[str, int]] = []
        self._field_plan: list[tuple[str, int]] = []
        self._fields = np.empty(0, np.int64)

    def add_field(self, name: str, field: int) -> None:
        self._names[name] = field
        self.buffers[field] = (np.empty(0, np.int64), np.empty(0, np.uint8))

    def add_tag(self, name: str, local: int) -> None:
        self.tags[name] = local

    def tag_plan(self) -> list[tuple[str, int]]:
        """Tags by name."""
        if len(self._tag_plan) != len(self.tags):
            self._tag_plan = sorted(self.tags.items())
        return self._tag_plan

    def field_plan(self) -> list[tuple[str, int]]:
        """Fields by name."""
        if len(self._field_plan) != len(self._names):
            self._field_plan = sorted(self._names.items())
        return self._field_plan

    def fields(self) -> Ints:
        """The fields of `field_plan` that have buffers, as indexes into the table."""
        if len(self._fields) != len(self._names):
            self._fields = np.array([field for _, field in self.field_plan()], np.int64)
        return self._fields

    def bytes_for(self, capacity: int) -> int:
        """Memory of all buffers at that capacity."""
        return capacity * (16 + 9 * len(self.buffers))

    def resize(self, capacity: int, rows: int) -> None:
        """Give every buffer that capacity and keep the first rows."""
        self.buffer_bytes = self.bytes_for(capacity)
        self.series = _grown(self.series, capacity, rows)
        self.lines = _grown(self.lines, capacity, rows)
        self.times = _grown(self.times, capacity, rows)
        for field, (values, kinds) in self.buffers.items():
            if len(values) != capacity:
                self.buffers[field] = (_grown(values, capacity, rows), _grown(kinds, capacity, rows))


def _grown(old: np.ndarray, capacity: int, rows: int) -> np.ndarray:
    if len(old) == capacity:
        return old
    new = np.zeros(capacity, old.dtype)
    kept = min(rows, len(old))
    new[:kept] = old[:kept]
    return new
