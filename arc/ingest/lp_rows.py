"""Rows into columns: collects points of many measurements and gives each measurement's columns.

The columns of a batch come in a fixed order whatever the order of the lines: tags by name, then fields by name and
kind. So two decoders that understood the same rows give the same batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from arc.ingest.columns import Column, Decoded, Kind

Value = tuple[Kind, float | int | bool | str]
"""A field value and its kind."""

TAG_TYPE = pa.dictionary(pa.int32(), pa.utf8())


class Rows:
    """Collects rows; a line without a time gets the ``now_us`` given at the start."""

    def __init__(self, now_us: int) -> None:
        self._now_us = now_us
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
            table = self._tables[measurement] = _Table()
        for name, tag in tags:
            table.put((name, Kind.TAG), tag)
        for name, (kind, value) in fields.items():
            table.put((name, kind), value)
        table.lines.append(line)
        table.times.append(self._now_us if time_us is None else time_us)

    def batches(self) -> tuple[Decoded, ...]:
        """All rows so far, one batch for each measurement, in order of first appearance."""
        return tuple(table.decoded(measurement) for measurement, table in self._tables.items())


class _Table:
    """Rows of one measurement; a cell list may be shorter than the table, the rest of it is null."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self.lines: list[int] = []
        self._cells: dict[tuple[str, Kind], list[float | int | bool | str | None]] = {}

    def put(self, key: tuple[str, Kind], value: float | int | bool | str) -> None:
        cells = self._cells.setdefault(key, [])
        cells.extend([None] * (len(self.times) - len(cells)))
        cells.append(value)

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
    order = pa.array(np.argsort(lines, kind="stable"))
    found = [{(column.name, column.kind): column.values for column in piece.columns} for piece in pieces]
    columns = []
    for key in sorted({key for piece in found for key in piece}, key=column_order):
        parts = [_part(columns_.get(key), piece.rows, key[1]) for columns_, piece in zip(found, pieces, strict=True)]
        values = pa.concat_arrays(parts).take(order)
        columns.append(Column(*key, values.dictionary_encode() if key[1] is Kind.TAG else values))
    return Decoded(
        measurement=pieces[0].measurement,
        time=pa.concat_arrays([piece.time for piece in pieces]).take(order),
        columns=tuple(columns),
        lines=pa.array(lines, pa.int32()).take(order),
    )


def _part(values: pa.Array | None, rows: int, kind: Kind) -> pa.Array:
    """The column of one piece, plain; nulls when the piece does not have it."""
    if values is None:
        return pa.nulls(rows, kind.arrow)
    return values.dictionary_decode() if kind is Kind.TAG else values
