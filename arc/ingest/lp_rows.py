"""Rows into columns: collects points of many measurements and gives each measurement's columns.

The columns of a batch come in a fixed order whatever the order of the lines: tags by name, then fields by name and
kind. So two decoders that understood the same rows give the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from arc.ingest.bounds import check_cells, check_measurements, count_cells
from arc.ingest.columns import Column, Decoded, Kind

Value = tuple[Kind, float | int | bool | str]
"""A field value and its kind."""

TAG_TYPE = pa.dictionary(pa.int32(), pa.utf8())


class Rows:
    """Collects rows; a line without a time gets the ``now_us`` given at the start.

    `add` and `batches` raise TooLarge when padding would make more than ``cells_max`` cells.
    """

    def __init__(self, now_us: int, cells_max: int) -> None:
        self._now_us = now_us
        self._cells_max = cells_max
        self._tables: dict[str, _Table] = {}

    def add(
        self,
        line: int,
        measurement: str,
        tags: Iterable[tuple[str, str]],
        fields: Mapping[str, Value],
        time_us: int | None,
    ) -> None:
        """Take one row. Tag names must differ from each other; a field may have the name of a tag."""
        table = self._tables.get(measurement)
        if table is None:
            check_measurements(len(self._tables) + 1)
            table = self._tables[measurement] = _Table(self._cells_max)
        for name, tag in tags:
            table.put((name, Kind.TAG), tag)
        for name, (kind, value) in fields.items():
            table.put((name, kind), value)
        table.lines.append(line)
        table.times.append(self._now_us if time_us is None else time_us)

    def batches(self) -> tuple[Decoded, ...]:
        """All rows so far, one batch for each measurement, in order of first appearance."""
        check_cells(sum(table.cells() for table in self._tables.values()), self._cells_max)
        return tuple(table.decoded(measurement) for measurement, table in self._tables.items())


class _Table:
    """Rows of one measurement; a cell list may be shorter than the table, the rest of it is null."""

    def __init__(self, cells_max: int) -> None:
        self.times: list[int] = []
        self.lines: list[int] = []
        self._cells_max = cells_max
        self._cells: dict[tuple[str, Kind], list[float | int | bool | str | None]] = {}

    def put(self, key: tuple[str, Kind], value: float | int | bool | str) -> None:
        cells = self._cells.get(key)
        if cells is None:
            # At once, and not only in the end: by then the padding would be there.
            check_cells(count_cells(len(self.times) + 1, len(self._cells) + 1), self._cells_max)
            cells = self._cells[key] = []
        cells.extend([None] * (len(self.times) - len(cells)))
        cells.append(value)

    def cells(self) -> int:
        return count_cells(len(self.times), len(self._cells))

    def decoded(self, measurement: str) -> Decoded:
        rows = len(self.times)
        columns = []
        for name, kind in sorted(self._cells, key=column_order):
            cells = self._cells[name, kind]
            padded = cells + [None] * (rows - len(cells))
            values = pa.array(padded, kind.arrow)
            columns.append(Column(name, kind, values.dictionary_encode() if kind is Kind.TAG else values))
        return Decoded(
            measurement=measurement,
            time=pa.array(self.times, pa.int64()),
            columns=tuple(columns),
            lines=pa.array(self.lines, pa.int32()),
        )


def column_order(key: tuple[str, Kind]) -> tuple[bool, str, str]:
    """Sort key of a column: tags first, then by name, then by kind."""
    name, kind = key
    return kind is not Kind.TAG, name, kind.value


def merge(pieces: Sequence[Decoded]) -> Decoded:
    """One batch of several of the same measurement, rows ordered by line. Every piece has ``lines``."""
    if len(pieces) == 1:
        return pieces[0]
    lines = np.concatenate([piece.lines.to_numpy() for piece in pieces if piece.lines is not None])
    ordered = bool((lines[1:] > lines[:-1]).all())
    order = None if ordered else pa.array(np.argsort(lines, kind="stable"))
    found = [{(column.name, column.kind): column.values for column in piece.columns} for piece in pieces]
    columns = []
    for name, kind in sorted({key for piece in found for key in piece}, key=column_order):
        parts = [
            values if (values := columns_.get((name, kind))) is not None else _nulls(kind, piece.rows)
            for columns_, piece in zip(found, pieces, strict=True)
        ]
        columns.append(Column(name, kind, _joined_tag(parts, order) if kind is Kind.TAG else _joined(parts, order)))
    return Decoded(
        measurement=pieces[0].measurement,
        time=_joined([piece.time for piece in pieces], order),
        columns=tuple(columns),
        lines=_joined([piece.lines for piece in pieces], order),
    )


def _nulls(kind: Kind, rows: int) -> pa.Array:
    return pa.nulls(rows, TAG_TYPE if kind is Kind.TAG else kind.arrow)


def _joined(parts: Sequence[pa.Array], order: pa.Array | None) -> pa.Array:
    joined = pa.concat_arrays(parts)
    return joined if order is None else joined.take(order)


def _joined_tag(parts: Sequence[pa.Array], order: pa.Array | None) -> pa.Array:
    """The dictionary stays in order of first appearance, as the exact parser makes it."""
    if order is not None:
        return _joined([part.dictionary_decode() for part in parts], order).dictionary_encode()
    return pa.concat_arrays(pa.chunked_array(parts).unify_dictionaries().chunks)
