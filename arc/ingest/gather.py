"""Gathers items of any form into one `Decoded` per measurement, rows in the order they came.

Ragged input is padded with nulls, which a hostile request can drive far beyond its own size (every row a column of its
own). The number of cells (rows times columns) of a request is therefore bounded by the caller, as is the number of
measurements.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from arc.ingest import values
from arc.ingest.bounds import check_cells, check_measurements, count_cells
from arc.ingest.columns import Column, Decoded, Kind


class Gatherer:
    """Collects the items of one request. Every method may raise TooLarge."""

    def __init__(self, *, cells_max: int) -> None:
        self._cells_max = cells_max
        self._cells = 0
        self._parts: dict[str, list[Decoded | _Rows]] = {}

    def add_columns(self, decoded: Decoded) -> None:
        """Add rows that already are columns."""
        self._of(decoded.measurement).append(decoded)

    def add_row(
        self, measurement: str, line: int, time_us: int, tags: Mapping[str, object], fields: Mapping[str, object]
    ) -> None:
        """Add one row: tags are text or None, fields plain values or None."""
        parts = self._of(measurement)
        if not parts or not isinstance(parts[-1], _Rows):
            parts.append(_Rows(self._cells_max))
        rows = parts[-1]
        assert isinstance(rows, _Rows)
        rows.add(line, time_us, tags, fields)

    def batches(self) -> tuple[Decoded, ...]:
        """Everything gathered, measurements in order of appearance.

        Raises values.Unfit when a value has no column type.
        """
        return tuple(self._joined(name, parts) for name, parts in self._parts.items())

    def _of(self, measurement: str) -> list[Decoded | _Rows]:
        parts = self._parts.get(measurement)
        if parts is None:
            check_measurements(len(self._parts) + 1)
            parts = self._parts[measurement] = []
        return parts

    def _joined(self, measurement: str, parts: list[Decoded | _Rows]) -> Decoded:
        batches = [part.decoded(measurement) if isinstance(part, _Rows) else part for part in parts]
        rows = sum(batch.rows for batch in batches)
        keys = dict.fromkeys((column.name, column.kind) for batch in batches for column in batch.columns)
        self._cells += count_cells(rows, len(keys))
        check_cells(self._cells, self._cells_max)
        return batches[0] if len(batches) == 1 else _concatenated(measurement, batches, list(keys))


class _Rows:
    """Rows of one measurement, transposed as they arrive; a column is padded only when it gets its next value."""

    def __init__(self, cells_max: int) -> None:
        self._cells_max = cells_max
        self._times: list[int] = []
        self._lines: list[int] = []
        self._columns: dict[tuple[str, bool], list[object]] = {}

    def add(self, line: int, time_us: int, tags: Mapping[str, object], fields: Mapping[str, object]) -> None:
        row = len(self._times)
        self._times.append(time_us)
        self._lines.append(line)
        for name, value in tags.items():
            self._put(row, (name, True), value)
        for name, value in fields.items():
            self._put(row, (name, False), value)

    def _put(self, row: int, key: tuple[str, bool], value: object) -> None:
        column = self._columns.get(key)
        if column is None:
            check_cells((len(self._columns) + 1) * (row + 1), self._cells_max)
            column = self._columns[key] = []
        if len(column) < row:
            column.extend([None] * (row - len(column)))
        column.append(value)

    def decoded(self, measurement: str) -> Decoded:
        rows = len(self._times)
        check_cells(rows * len(self._columns), self._cells_max)
        made: list[Column] = []
        for (name, is_tag), column in self._columns.items():
            column.extend([None] * (rows - len(column)))
            if is_tag:
                made.append(Column(name, Kind.TAG, pa.array(column, pa.utf8())))
            else:
                made.extend(values.columns(name, column))
        return Decoded(
            measurement=measurement,
            time=pa.array(self._times, pa.int64()),
            columns=tuple(made),
            lines=pa.array(self._lines, pa.int32()),
        )


def _concatenated(measurement: str, batches: list[Decoded], keys: list[tuple[str, Kind]]) -> Decoded:
    own = [{(column.name, column.kind): column.values for column in batch.columns} for batch in batches]
    joined = []
    for name, kind in keys:
        pieces = [
            columns[name, kind] if (name, kind) in columns else pa.nulls(batch.rows, kind.arrow)
            for batch, columns in zip(batches, own, strict=True)
        ]
        joined.append(Column(name, kind, pa.concat_arrays(pieces)))
    return Decoded(
        measurement=measurement,
        time=pa.concat_arrays([batch.time for batch in batches]),
        columns=tuple(joined),
        lines=pa.concat_arrays([_lines(batch) for batch in batches]),
    )


def _lines(batch: Decoded) -> pa.Array:
    return batch.lines if batch.lines is not None else pa.array(np.arange(1, batch.rows + 1, dtype=np.int32))
