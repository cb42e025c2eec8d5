"""Python's side of the compiled scan: the buffers it writes to, and what to do whenever it stops.

A `Scratch` serves one call at a time. The row buffers grow with the largest request of each measurement and are kept
for the next one. When they pass `SCRATCH_BYTES`, or a table is full, the rows so far are sealed and everything is
forgotten.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from arc.ingest import lp_kernel, lp_tables
from arc.ingest.bounds import check_cells, check_measurements, count_cells
from arc.ingest.columns import Decoded
from arc.ingest.lineprotocol import TIME_US_MAX, Unit, unescape_name
from arc.ingest.lp_seal import RowBuffers, Sealer
from arc.ingest.lp_tables import SLACK, Bytes, Ints, Tables

SCRATCH_BYTES = 64 << 20
"""Row buffers of one scratch, all measurements together."""

ROWS_START, ROWS_MAX = 256, 1 << 14
"""Rows of a measurement's first buffers, and of its largest. More rows are sealed in pieces and joined: that is cheaper
than writing to buffers that do not fit the processor's cache."""


class Declined(NamedTuple):
    """A line for the exact parser: its bytes without the newline, and its number."""

    start: int
    end: int
    line: int


class Scratch:
    """Tables and buffers of one decoder. Not for two threads at once."""

    def __init__(self, tables: Tables | None = None) -> None:
        self._tables = tables if tables is not None else lp_tables.new_tables()
        self._known: list[RowBuffers] = []
        self._fields_known = 0
        self._keys_known = 0
        self._buffer_bytes = 0
        self._sealer = Sealer(self._tables)
        self._forgot_at = -1
        self._cells_left = 0
        self._seen: set[str] = set()

    def decode(
        self, body: Bytes, ascii_only: bool, unit: Unit, now_us: int, cells_max: int
    ) -> tuple[list[Decoded], list[Declined]]:
        """Scan a read-only body: pieces of batches in the order of their rows, and lines for the exact parser.

        Raises TooLarge when the pieces have more than ``cells_max`` cells; joined they never have fewer.
        """
        self._cells_left = cells_max
        self._seen.clear()
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
                if not self._give_rows(int(tables.head[lp_tables.SUBJECT]), body, pieces):
                    self._make_room(part, end, base, body, pieces, declined)
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
            self._known.append(RowBuffers(unescape_name(self._text(row[lp_tables.M_OFFSET], row[lp_tables.M_SIZE]))))
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

    def _give_rows(self, measurement: int, body: Bytes, pieces: list[Decoded]) -> bool:
        """Make room for one more row of a measurement and for all its fields. False when that takes too much memory."""
        self._meet()
        known = self._known[measurement]
        row = self._tables.measurements[measurement]
        rows, capacity = int(row[lp_tables.M_ROWS]), int(row[lp_tables.M_CAPACITY])
        if rows >= capacity:
            if capacity >= ROWS_MAX:
                pieces.append(self._seal(measurement, body))
                return True
            capacity = max(ROWS_START, 2 * capacity)
        wanted = known.bytes_for(capacity)
        if self._buffer_bytes - known.buffer_bytes + wanted > SCRATCH_BYTES and self._buffer_bytes > 0:
            return False
        self._buffer_bytes += wanted - known.buffer_bytes
        changed = known.resize(capacity, rows)
        row[lp_tables.M_CAPACITY] = capacity
        row[lp_tables.M_SERIES : lp_tables.M_LINES + 1] = [
            known.series.ctypes.data,
            known.times.ctypes.data,
            known.lines.ctypes.data,
        ]
        for field in changed:
            values, kinds = known.buffers[field]
            self._tables.fields[field, lp_tables.F_VALUES] = values.ctypes.data
            self._tables.fields[field, lp_tables.F_KINDS] = kinds.ctypes.data
        return True

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
        self._meet()
        rows = int(self._tables.measurements[measurement, lp_tables.M_ROWS])
        batch = self._sealer.seal(self._known[measurement], rows, body)
        self._tables.measurements[measurement, lp_tables.M_ROWS] = 0
        self._seen.add(batch.measurement)
        check_measurements(len(self._seen))
        self._cells_left -= count_cells(rows, len(batch.columns))
        check_cells(-self._cells_left, 0)
        return batch
