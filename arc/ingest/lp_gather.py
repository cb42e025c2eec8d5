"""From the scan's row buffers to Arrow's memory: codes and dictionaries of tags, validity bits, strings, plain copies.

Compiled by numba. The scan keeps one buffer for each field and reuses it for the next request, so whatever Arrow gets is
copied out here, right-sized. Everything is written into memory the caller allocated; sizes are found first (`survey`).
"""

# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from arc.ingest.lp_kernel import BACKSLASH, ESCAPED_BIT, QUOTE
from arc.ingest.lp_swar import I8, U, fetch_i32, fetch_u8, fetch_u64, outline, store_u8
from arc.ingest.lp_tables import (
    F_KINDS,
    F_VALUES,
    M_LINES,
    M_ROWS,
    M_SERIES,
    M_TIMES,
    S_CODES,
    S_TAGS,
    STAMP,
    V_MARK,
    V_OFFSET,
    V_SIZE,
    VALUES_MAX,
)

NULL = 32
"""In the kinds of a column: some cell is null."""

(D_VALUES, D_NULLS, D_BYTES) = range(3)
"""What `survey` says of a tag: distinct values, rows without it, bytes of the distinct values."""

STRING_BYTES_MASK = (1 << 31) - 1

CODE_BITS = 20
CODE_MASK = (1 << CODE_BITS) - 1
assert VALUES_MAX <= 1 << CODE_BITS


@intrinsic
def copy_bytes(typingctx, target, source, size):
    """Copy between two addresses; they must not overlap."""

    def codegen(context, builder, sig, args):
        pointer = I8.as_pointer()
        to, of = builder.inttoptr(args[0], pointer), builder.inttoptr(args[1], pointer)
        cgutils.raw_memcpy(builder, to, of, args[2], ir.Constant(ir.IntType(64), 1))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@outline
def survey(tables, measurement, fields, kinds, codes, order, tags):
    """Look over the rows of a measurement; writes ``kinds`` of each field, and ``codes``, ``order`` and ``tags``.

    ``codes[t, row]`` becomes the code of tag t: its distinct values are numbered as they appear, and ``order[t, code]`` is
    the index of the value. ``tags[t]`` gets D_VALUES, D_NULLS and D_BYTES.
    """
    rows = tables.measurements[measurement, M_ROWS]
    for f in range(fields.shape[0]):
        address = tables.fields[fields[f], F_KINDS]
        present = np.uint8(0)
        low = np.uint8(0 if address == 0 else 255)
        # A field that only declined lines had has no buffer.
        for row in range(rows if address != 0 else 0):
            kind = fetch_u8(address, row)
            present |= kind
            low = min(low, kind)
        kinds[f] = np.int64(present) | (NULL if low == 0 else 0)
    count = codes.shape[0]
    if count == 0:
        return
    tables.head[STAMP] += 1
    stamp = tables.head[STAMP] << CODE_BITS
    values = tables.values
    which = tables.measurements[measurement, M_SERIES]
    for t in range(count):
        tags[t, D_VALUES] = 0
        tags[t, D_NULLS] = 0
        tags[t, D_BYTES] = 0
    for row in range(rows):
        s = fetch_i32(which, row)
        first = tables.series[s, S_CODES]
        known = tables.series[s, S_TAGS]
        for t in range(count):
            value = np.int64(tables.codes[first + t]) if t < known else -1
            if value < 0:
                codes[t, row] = 0
                tags[t, D_NULLS] += 1
                continue
            mark = values[value, V_MARK]
            if mark < stamp:
                code = tags[t, D_VALUES]
                order[t, code] = value
                tags[t, D_VALUES] = code + 1
                tags[t, D_BYTES] += values[value, V_SIZE]
                mark = stamp | code
                values[value, V_MARK] = mark
            codes[t, row] = np.int32(mark & CODE_MASK)


@outline
def copy_rows(tables, measurement, fields, places, target):
    """Copy times, lines and plain eight-byte columns to ``target``: ``places`` is the offset of each, first of those two."""
    rows = tables.measurements[measurement, M_ROWS]
    base = target.ctypes.data
    copy_bytes(base + places[0], tables.measurements[measurement, M_TIMES], 8 * rows)
    copy_bytes(base + places[1], tables.measurements[measurement, M_LINES], 4 * rows)
    for f in range(fields.shape[0]):
        if places[f + 2] >= 0:
            copy_bytes(base + places[f + 2], tables.fields[fields[f], F_VALUES], 8 * rows)


@outline
def clear_rows(tables, measurement, fields):
    """Forget the rows of a measurement: all cells are null again."""
    rows = tables.measurements[measurement, M_ROWS]
    for f in range(fields.shape[0]):
        address = tables.fields[fields[f], F_KINDS]
        for row in range(rows if address != 0 else 0):
            store_u8(address, row, 0)
    tables.measurements[measurement, M_ROWS] = 0


@outline
def copy_dictionary(tables, order, count, offsets, text):
    """Write the distinct values of a tag as Arrow utf8: ``offsets[0..count]`` and ``text``."""
    at = 0
    for code in range(count):
        offsets[code] = at
        value = order[code]
        source = tables.values[value, V_OFFSET]
        for k in range(tables.values[value, V_SIZE]):
            text[at] = tables.arena[source + k]
            at += 1
    offsets[count] = at


@outline
def tag_validity(tables, measurement, tag, bits):
    """Set bit ``row`` of ``bits`` (zeroed by the caller) where the row has the tag."""
    which = tables.measurements[measurement, M_SERIES]
    for row in range(tables.measurements[measurement, M_ROWS]):
        s = fetch_i32(which, row)
        if tag < tables.series[s, S_TAGS] and tables.codes[tables.series[s, S_CODES] + tag] >= 0:
            bits[row >> 3] |= np.uint8(1 << (row & 7))


@outline
def field_validity(tables, field, kind, rows, bits):
    """Set bit ``row`` of ``bits`` (zeroed by the caller) where the cell is of that kind; gives how many are not."""
    address = tables.fields[field, F_KINDS]
    nulls = 0
    for row in range(rows):
        if fetch_u8(address, row) == kind:
            bits[row >> 3] |= np.uint8(1 << (row & 7))
        else:
            nulls += 1
    return nulls


@outline
def copy_booleans(tables, field, rows, bits):
    """Write the lowest bit of each cell as Arrow booleans into ``bits`` (zeroed by the caller)."""
    address = tables.fields[field, F_VALUES]
    for row in range(rows):
        bits[row >> 3] |= np.uint8((fetch_u64(address, row) & U(1)) << U(row & 7))


@outline
def string_bytes(tables, field, kind, rows):
    """Bytes of all strings of a field, escapes included."""
    total = 0
    for row in range(rows):
        if fetch_u8(tables.fields[field, F_KINDS], row) == kind:
            total += np.int64(fetch_u64(tables.fields[field, F_VALUES], row) & U(STRING_BYTES_MASK))
    return total


@outline
def copy_strings(tables, field, kind, rows, body, offsets, text):
    """Write the strings of a field as Arrow utf8, without their escapes; gives the bytes of ``text`` used."""
    at = 0
    for row in range(rows):
        offsets[row] = at
        if fetch_u8(tables.fields[field, F_KINDS], row) != kind:
            continue
        cell = fetch_u64(tables.fields[field, F_VALUES], row)
        source = np.int64((cell & ~(U(1) << U(ESCAPED_BIT))) >> U(31))
        end = source + np.int64(cell & U(STRING_BYTES_MASK))
        if cell >> U(ESCAPED_BIT) == U(0):
            while source < end:
                text[at] = body[source]
                source += 1
                at += 1
            continue
        while source < end:
            c = body[source]
            if c == BACKSLASH and source + 1 < end and (body[source + 1] == QUOTE or body[source + 1] == BACKSLASH):
                source += 1
                c = body[source]
            text[at] = c
            source += 1
            at += 1
    offsets[rows] = at
    return at
