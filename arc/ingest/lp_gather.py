"""From the scan's row buffers to Arrow's memory: codes and dictionaries of tags, validity bits, strings, plain copies.

Compiled by numba. The scan keeps one buffer for each field and reuses it for the next request, so whatever Arrow gets
is copied out here, right-sized, into memory the caller allocated. Sizes are found first (`survey`), and all that is
common is copied by one call (`emit`): a call costs more than a thousand cells.
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
from arc.ingest.lp_swar import I8, U, fetch_u8, outline, store_u8
from arc.ingest.lp_tables import F_KINDS, F_VALUES, S_CODES, S_TAGS, V_MARK, V_OFFSET, V_SIZE, VALUES_MAX

NULL = 32
"""In the kinds of a column: some cell is null."""

(D_VALUES, D_NULLS, D_BYTES, D_OFFSETS, D_TEXT) = range(5)
"""Of a tag: distinct values, rows without it, bytes of the distinct values, and where `emit` writes its dictionary."""

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
def survey(rows, which, series, known_codes, values, stamp, field_table, fields, kinds, codes, order, tags):
    """Look over the rows of a measurement, whose series are ``which``; writes the last four arguments.

    ``kinds[f]`` becomes the kinds that occur in a field. ``codes[t, row]`` becomes the code of tag t: its distinct
    values are numbered as they appear, and ``order[t, code]`` is the index of the value. ``tags[t]`` gets D_VALUES,
    D_NULLS and D_BYTES. ``stamp`` must be larger at every call.
    """
    for f in range(fields.shape[0]):
        address = field_table[fields[f], F_KINDS]
        present = np.uint8(0)
        low = np.uint8(0 if address == 0 else 255)
        # A field that only declined lines had has no buffer.
        for row in range(rows if address != 0 else 0):
            kind = fetch_u8(address, row)
            present |= kind
            low = min(low, kind)
        kinds[f] = np.int64(present) | (NULL if low == 0 else 0)
    count = codes.shape[0]
    mark_of_now = stamp << CODE_BITS
    for t in range(count):
        tags[t, D_VALUES] = 0
        tags[t, D_NULLS] = 0
        tags[t, D_BYTES] = 0
    for row in range(rows if count > 0 else 0):
        s = which[row]
        first = series[s, S_CODES]
        known = series[s, S_TAGS]
        for t in range(count):
            value = np.int64(known_codes[first + t]) if t < known else -1
            if value < 0:
                codes[t, row] = 0
                tags[t, D_NULLS] += 1
                continue
            mark = values[value, V_MARK]
            if mark < mark_of_now:
                code = tags[t, D_VALUES]
                order[t, code] = value
                tags[t, D_VALUES] = code + 1
                tags[t, D_BYTES] += values[value, V_SIZE]
                mark = mark_of_now | code
                values[value, V_MARK] = mark
            codes[t, row] = np.int32(mark & CODE_MASK)


@outline
def emit(rows, times, lines, field_table, fields, places, arena, values, order, tags, block):
    """Copy out what every batch has, into ``block``.

    ``places`` has the offsets in the block of times, lines, and of each field's cells (-1: not copied); ``tags`` has in
    D_OFFSETS and D_TEXT where the dictionary of each tag goes, as Arrow utf8.
    """
    base = block.ctypes.data
    copy_bytes(base + places[0], times.ctypes.data, 8 * rows)
    copy_bytes(base + places[1], lines.ctypes.data, 4 * rows)
    for f in range(fields.shape[0]):
        if places[f + 2] >= 0:
            copy_bytes(base + places[f + 2], field_table[fields[f], F_VALUES], 8 * rows)
    for t in range(order.shape[0]):
        offsets = block[tags[t, D_OFFSETS] :].view(np.int32)
        at = 0
        text = tags[t, D_TEXT]
        for code in range(tags[t, D_VALUES]):
            offsets[code] = at
            value = order[t, code]
            source = values[value, V_OFFSET]
            for k in range(values[value, V_SIZE]):
                block[text + at] = arena[source + k]
                at += 1
        offsets[tags[t, D_VALUES]] = at


@outline
def clear(rows, field_table, fields):
    """Make all cells null again."""
    for f in range(fields.shape[0]):
        address = field_table[fields[f], F_KINDS]
        for row in range(rows if address != 0 else 0):
            store_u8(address, row, 0)


@outline
def tag_validity(rows, which, series, known_codes, tag, bits):
    """Set bit ``row`` of ``bits`` (zeroed by the caller) where the row has the tag."""
    for row in range(rows):
        s = which[row]
        if tag < series[s, S_TAGS] and known_codes[series[s, S_CODES] + tag] >= 0:
            bits[row >> 3] |= np.uint8(1 << (row & 7))


@outline
def field_validity(rows, kinds, kind, bits):
    """Set bit ``row`` of ``bits`` (zeroed by the caller) where the cell is of that kind; gives how many are not."""
    nulls = 0
    for row in range(rows):
        if kinds[row] == kind:
            bits[row >> 3] |= np.uint8(1 << (row & 7))
        else:
            nulls += 1
    return nulls


@outline
def copy_booleans(rows, cells, bits):
    """Write the lowest bit of each cell as Arrow booleans into ``bits`` (zeroed by the caller)."""
    for row in range(rows):
        bits[row >> 3] |= np.uint8((cells[row] & 1) << (row & 7))


@outline
def string_bytes(rows, kinds, kind, cells):
    """Bytes of all strings of a field, escapes included."""
    total = 0
    for row in range(rows):
        if kinds[row] == kind:
            total += cells[row] & STRING_BYTES_MASK
    return total


@outline
def copy_strings(rows, kinds, kind, cells, body, offsets, text):
    """Write the strings of a field as Arrow utf8, without their escapes; gives the bytes of ``text`` used."""
    at = 0
    for row in range(rows):
        offsets[row] = at
        if kinds[row] != kind:
            continue
        cell = U(cells[row])
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
