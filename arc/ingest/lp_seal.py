"""Batches of the rows the compiled scan left in its buffers: Arrow columns, right-sized, that own their memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from arc.ingest import lp_gather
from arc.ingest.columns import Column, Decoded, Kind
from arc.ingest.lp_rows import TAG_TYPE
from arc.ingest.lp_tables import BOOLEAN, FLOAT, INTEGER, STRING, UNSIGNED, Bytes, Ints, Tables

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


class Sealer:
    """Makes batches; keeps nothing between them but a work array and a stamp that marks tag values as seen."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._order = np.empty(0, np.int32)
        self._stamp = 0

    def seal(self, known: RowBuffers, rows: int, body: Bytes) -> Decoded:
        """Make a batch of the first rows of a measurement and null its cells; ``body`` is where its strings are."""
        tables = self._tables
        fields = known.fields()
        kinds = np.empty(len(fields), np.int64)
        codes = np.empty((len(known.tags), rows), np.int32)
        tags = np.empty((len(known.tags), 5), np.int64)
        if len(self._order) < codes.size:
            self._order = np.empty(codes.size, np.int32)
        order = self._order[: codes.size].reshape(codes.shape)
        self._stamp += 1
        lp_gather.survey(
            rows, known.series, tables.series, tables.codes, tables.values, self._stamp, tables.fields, fields,
            kinds, codes, order, tags,
        )  # fmt: skip
        kinds_of = kinds.tolist()
        block, memory, places = _lay_out(rows, kinds_of, tags)
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
        return Decoded(
            measurement=known.name,
            time=pa.Array.from_buffers(INT64, rows, [None, memory.slice(0, 8 * rows)], 0),
            columns=tuple(columns),
            lines=pa.Array.from_buffers(INT32, rows, [None, memory.slice(places[1], 4 * rows)], 0),
        )

    def _tag(
        self, known: RowBuffers, local: int, rows: int, index: pa.Buffer, memory: pa.Buffer, tag: list[int]
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


class RowBuffers:
    """One measurement: its names in column order, and the buffers whose addresses the tables hold."""

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
        self._unplaced: list[int] = []

    def add_field(self, name: str, field: int) -> None:
        """Know a field; its buffers come with the next `resize`."""
        self._names[name] = field
        self.buffers[field] = (np.empty(0, np.int64), np.empty(0, np.uint8))
        self._unplaced.append(field)

    def add_tag(self, name: str, local: int) -> None:
        """Know a tag by its index among the measurement's tags."""
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

    def resize(self, capacity: int, rows: int) -> list[int]:
        """Give every buffer that capacity and keep the first rows. Returns the fields whose buffers are new.

        With the same capacity only fields that have none yet are looked at: a body where every line brings another
        field must not cost the square of its fields.
        """
        changed = self._unplaced if len(self.times) == capacity else list(self.buffers)
        self._unplaced = []
        self.buffer_bytes = self.bytes_for(capacity)
        self.series = _grown(self.series, capacity, rows)
        self.lines = _grown(self.lines, capacity, rows)
        self.times = _grown(self.times, capacity, rows)
        for field in changed:
            values, kinds = self.buffers[field]
            self.buffers[field] = (_grown(values, capacity, rows), _grown(kinds, capacity, rows))
        return changed


def _grown(old: np.ndarray, capacity: int, rows: int) -> np.ndarray:
    if len(old) == capacity:
        return old
    new = np.zeros(capacity, old.dtype)
    kept = min(rows, len(old))
    new[:kept] = old[:kept]
    return new


def _lay_out(rows: int, kinds_of: list[int], tags: Ints) -> tuple[Bytes, pa.Buffer, list[int]]:
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
