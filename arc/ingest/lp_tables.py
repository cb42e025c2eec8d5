"""The memory of the compiled line decoder: what it learnt of series, fields and tags, as plain arrays.

A body repeats itself: the same series in the same order, the same fields in each. So the raw bytes of a line up to
its first space are one key ("series"), whose tags are taken apart only the first time they are seen; a field name is
compared with the one that followed last time. Every table has a fixed size. When one is full, all of them are
emptied: forgetting costs time, never correctness.

Rows of tables are addressed by the column constants below; text lies in one byte arena.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Cells = npt.NDArray[np.int32]
Bytes = npt.NDArray[np.uint8]

SERIES_MAX = 1 << 16
VALUES_MAX = 1 << 18
CODES_MAX = 1 << 20
MEASUREMENTS_MAX = 1 << 10
FIELDS_MAX = 1 << 13
TAG_KEYS_MAX = 1 << 12
ARENA_BYTES = 16 << 20
DECLINED_MAX = 1 << 10
"""Lines handed over in one go to the exact parser; the kernel stops and goes on when there are more."""

FIELD_NAME_BYTES = 64
"""Room for a field name with its equals sign; lines with longer names go to the exact parser."""

SLACK = 64
"""Bytes that must be readable behind everything the kernel looks at: the width of one vector."""

# head: counters and the state of the scan
(N_SERIES, N_MEASUREMENTS, N_FIELDS, N_KEYS, N_VALUES, ARENA_USED, CODES_USED) = range(7)
(POSITION, LINE, DECLINED, PREVIOUS, SUBJECT) = range(8, 13)
# series: raw bytes with the closing space, its measurement, the series seen after it, and its tag values in `codes`
(S_OFFSET, S_SIZE, S_MEASUREMENT, S_NEXT, S_CODES, S_TAGS) = range(6)
# measurement: raw name, predicted first field, rows, and the addresses of its row columns; heads of lists
(M_OFFSET, M_SIZE, M_FIRST, M_ROWS, M_CAPACITY, M_SERIES, M_TIMES, M_LINES, M_FIELDS, M_TAGS) = range(10)
# field: first 16 name bytes as two words with masks, name size with '=', next in line, addresses of values and kinds
(F_WORD0, F_MASK0, F_WORD1, F_MASK1, F_SIZE, F_NEXT, F_VALUES, F_KINDS, F_MEASUREMENT, F_SIBLING) = range(10)
# tag key: name, measurement, index among the measurement's keys
(K_OFFSET, K_SIZE, K_MEASUREMENT, K_LOCAL) = range(4)
# tag value: text, key, and a mark (stamp of the last batch that used it, and its code there)
(V_OFFSET, V_SIZE, V_KEY, V_MARK) = range(4)

# A cell's kind, one bit each, so that "which kinds are in this column" is an OR over it. Zero is null.
FLOAT, INTEGER, UNSIGNED, BOOLEAN, STRING = 1, 2, 4, 8, 16

# Why the scan returned
(DONE, NEED_ROWS, TABLES_FULL, DECLINED_FULL, UNFINISHED) = range(5)

TAGS_PER_MEASUREMENT_MAX = 256


class Tables(NamedTuple):
    """All arrays the compiled functions work on."""

    head: Ints
    arena: Bytes
    series: Ints
    series_index: Cells
    measurements: Ints
    measurement_index: Cells
    fields: Ints
    field_names: Bytes
    field_index: Cells
    keys: Ints
    key_index: Cells
    values: Ints
    value_index: Cells
    codes: Cells
    declined: Ints


def new_tables(*, shrink: int = 1) -> Tables:
    """Empty tables, made smaller by a power of two in tests.

    The big arrays are not touched here, so the system gives them memory only as they fill.
    """
    assert shrink & (shrink - 1) == 0  # indexes are addressed by masks
    empty = np.empty
    tables = Tables(
        head=np.zeros(16, np.int64),
        arena=empty(ARENA_BYTES // shrink, np.uint8),
        series=empty((SERIES_MAX // shrink, 8), np.int64),
        series_index=empty(4 * SERIES_MAX // shrink, np.int32),
        measurements=empty((MEASUREMENTS_MAX // shrink, 16), np.int64),
        measurement_index=empty(4 * MEASUREMENTS_MAX // shrink, np.int32),
        fields=empty((FIELDS_MAX // shrink, 16), np.int64),
        field_names=empty(FIELDS_MAX // shrink * FIELD_NAME_BYTES, np.uint8),
        field_index=empty(4 * FIELDS_MAX // shrink, np.int32),
        keys=empty((TAG_KEYS_MAX // shrink, 4), np.int64),
        key_index=empty(4 * TAG_KEYS_MAX // shrink, np.int32),
        values=empty((VALUES_MAX // shrink, 4), np.int64),
        value_index=empty(2 * VALUES_MAX // shrink, np.int32),
        codes=empty(CODES_MAX // shrink, np.int32),
        declined=empty((DECLINED_MAX // shrink, 3), np.int64),
    )
    forget(tables)
    return tables


def forget(tables: Tables) -> None:
    """Empty all tables."""
    tables.head[: CODES_USED + 1] = 0
    tables.head[PREVIOUS] = -1
    for index in (
        tables.series_index,
        tables.measurement_index,
        tables.field_index,
        tables.key_index,
        tables.value_index,
    ):
        index.fill(-1)
