"""The scan: one pass over a body that puts every value straight into its column, compiled by numba.

For each line: the raw bytes up to the first unescaped space are looked up as one key (predicted from the line before,
else hashed); then each field name is compared with the one that came next last time, its value is parsed and stored
at the row's place in that field's column, and its kind in a byte beside it; then the timestamp. `lp_tables` explains
the memory.

The scan is exact or silent: whatever it is not sure about (an error, a number with too many digits, a very long name)
takes back the row it began, notes where the line lies and leaves it to `lineprotocol`. It must find the same line
ends, though.
"""

# ruff: noqa: SIM109 - numba compiles a chain of comparisons better than a search in a tuple
# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np

from arc.ingest import lp_tables as lp
from arc.ingest.lp_learn import BACKSLASH, BAD, COMMA, EQUALS, NEWLINE, SPACE, learn_field, learn_series
from arc.ingest.lp_swar import (
    U,
    equal_mask,
    hash_bytes,
    inline,
    load_word,
    mask_high,
    mask_newline,
    mask_series_end,
    mask_string_end,
    outline,
    same_bytes,
    store_i32,
    store_u8,
    store_u64,
    trailing_zeros,
)
from arc.ingest.lp_values import CR, DOT, MINUS, T_NOW, parse_boolean, parse_number, parse_time

TAB, QUOTE, HASH = 9, 34, 35

ESCAPED_BIT = 63
"""A string cell is ``index in the body << 31 | size``; this bit says that it has escapes."""


@outline
def behind_last_newline(body, end):
    """Index behind the last newline of ``body[:end]``; zero when there is none."""
    while end > 0 and body[end - 1] != NEWLINE:
        end -= 1
    return end


@outline
def has_high_bytes(body, start, end):
    """Whether any byte of ``body[start:end]`` is not ASCII."""
    at = start
    while at + 64 <= end:
        if mask_high(body, at) != U(0):
            return True
        at += 64
    while at < end:
        if body[at] >= 128:
            return True
        at += 1
    return False


@outline
def find_line_end(body, at, end):
    """`lineprotocol.line_end` for a line whose first byte that is no blank is at ``at``: (index, newlines before it).

    The index is ``end`` when a string is open there.
    """
    newlines = 0
    while body[at] != NEWLINE and body[at] != SPACE:
        at += 2 if body[at] == BACKSLASH and body[at + 1] == SPACE else 1
    while at < end:
        c = body[at]
        following = body[at + 1]
        if c == NEWLINE:
            return at, newlines
        if c == BACKSLASH and (following == COMMA or following == EQUALS or following == SPACE):
            at += 2
        elif c == EQUALS and following == QUOTE:
            at += 2
            while at < end and body[at] != QUOTE:
                if body[at] == NEWLINE:
                    newlines += 1
                if body[at] == BACKSLASH:
                    at += 1
                    if at < end and body[at] == NEWLINE:
                        newlines += 1
                at += 1
            at += 1
        else:
            at += 1
    return end, newlines


@outline
def take_back(tables, measurement, row):
    """Make the cells of an unfinished row null again."""
    field = tables.measurements[measurement, lp.M_FIELDS]
    while field >= 0:
        if tables.fields[field, lp.F_KINDS] != 0:
            store_u8(tables.fields[field, lp.F_KINDS], row, 0)
        field = tables.fields[field, lp.F_SIBLING]


@inline
def find_series(index, series, arena, body, at, size):
    """Look up the series whose raw bytes, closing space included, are ``body[at:at+size]``: (it or -1, its cell)."""
    cells = index.shape[0] - 1
    cell = np.int64(hash_bytes(body, at, size) & U(cells))
    while True:
        known = np.int64(index[cell])
        if known < 0:
            return known, cell
        if series[known, lp.S_SIZE] == size and same_bytes(body, at, arena, series[known, lp.S_OFFSET], size):
            return known, cell
        cell = (cell + 1) & cells


@outline
def scan(body, end, last, ascii_only, base, time, *arrays):
    """Scan ``body[head[POSITION]:end]``, whose last line ends in a newline at ``end - 1`` or ``end``; gives a status.

    With ``last`` the whole body ends at ``end``; otherwise a string that is open there makes the scan return
    lp.UNFINISHED at the start of its line. With ``ascii_only`` every line with another byte is declined. ``base`` is
    added to positions that are kept. The 64 bytes behind ``end`` must be readable. ``arrays`` are the `lp.Tables`, one
    by one, which numba takes from Python in a third of the time.
    """
    tables = lp.Tables(*arrays)
    head, arena, series, measurements = tables.head, tables.arena, tables.series, tables.measurements
    index, fields, field_names, declined = tables.series_index, tables.fields, tables.field_names, tables.declined
    at = head[lp.POSITION]
    line = head[lp.LINE]
    previous = head[lp.PREVIOUS]
    status = lp.DONE
    while at < end:
        c = body[at]
        start = at
        # ---- blank lines and comments
        while c == SPACE or c == TAB or c == 0:
            at += 1
            c = body[at]
        if c == CR and body[at + 1] == NEWLINE:
            at += 1
            c = body[at]
        if c == HASH:
            found = U(0)
            while found == U(0):
                found = mask_newline(body, at)
                at += trailing_zeros(found)
            c = body[at]
        if c == NEWLINE or at >= end:
            at += 1
            line += 1
            continue
        begin = at
        newlines = 0
        row = np.int64(-1)
        measurement = np.int64(-1)
        good = True
        unready = False
        if ascii_only:
            stop, _ = find_line_end(body, begin, end)
            good = not has_high_bytes(body, begin, stop)
        # ---- series
        which = np.int64(BAD)
        if good:
            if previous >= 0:
                guess = series[previous, lp.S_NEXT]
                if guess >= 0:
                    size = series[guess, lp.S_SIZE]
                    if same_bytes(body, at, arena, series[guess, lp.S_OFFSET], size):
                        which = guess
                        at += size
            if which < 0:
                space = at
                while True:
                    found = mask_series_end(body, space)
                    space += trailing_zeros(found)
                    if found == U(0):
                        continue
                    if body[space] != BACKSLASH:
                        break
                    space += 2 if body[space + 1] == SPACE else 1
                if body[space] == SPACE and space < end:
                    size = space + 1 - at
                    which, cell = find_series(index, series, arena, body, at, size)
                    if which < 0:
                        which = learn_series(tables, body, at, size, cell)
                    if which >= 0:
                        if previous >= 0:
                            series[previous, lp.S_NEXT] = which
                        at = space + 1
                    elif which != BAD:
                        status = lp.TABLES_FULL
                        break
            good = which >= 0
        # ---- fields
        if good:
            measurement = series[which, lp.S_MEASUREMENT]
            row = measurements[measurement, lp.M_ROWS]
            if row >= measurements[measurement, lp.M_CAPACITY]:
                head[lp.SUBJECT] = measurement
                status = lp.NEED_ROWS
                break
            field = measurements[measurement, lp.M_FIRST]
            before = np.int64(-1)
            while True:
                hit = False
                if field >= 0:
                    size = fields[field, lp.F_SIZE]
                    if size <= 16:
                        word = np.int64(load_word(body, at))
                        hit = (word & fields[field, lp.F_MASK0]) == fields[field, lp.F_WORD0]
                        if hit and size > 8:
                            hit = (np.int64(load_word(body, at + 8)) & fields[field, lp.F_MASK1]) == fields[
                                field, lp.F_WORD1
                            ]
                    else:
                        wanted = ~U(0) >> U(64 - size)
                        hit = (equal_mask(body, at, field_names, field * lp.FIELD_NAME_BYTES) & wanted) == wanted
                if not hit:
                    if before < 0:
                        while body[at] == SPACE or body[at] == TAB or body[at] == 0:
                            at += 1
                    field = learn_field(tables, body, at, measurement)
                    if field < 0:
                        good = False
                        if field != BAD:
                            status = lp.TABLES_FULL
                        break
                    if before < 0:
                        measurements[measurement, lp.M_FIRST] = field
                    else:
                        fields[before, lp.F_NEXT] = field
                at += fields[field, lp.F_SIZE]
                values = fields[field, lp.F_VALUES]
                kinds = fields[field, lp.F_KINDS]
                c = body[at]
                if c == MINUS or c == DOT or (c >= 48 and c <= 57):
                    kind, bits, at = parse_number(body, at)
                    if kind == 0:
                        good = False
                        break
                elif c == QUOTE:
                    at += 1
                    begin_string = at
                    escaped = U(0)
                    while True:
                        found = mask_string_end(body, at)
                        at += trailing_zeros(found)
                        if at >= end:
                            break
                        if found == U(0):
                            continue
                        c = body[at]
                        if c == QUOTE:
                            break
                        if c == NEWLINE:
                            newlines += 1
                            at += 1
                        elif body[at + 1] == QUOTE or body[at + 1] == BACKSLASH:
                            escaped = U(1)
                            at += 2
                        else:
                            at += 1
                    if at >= end:
                        good = False
                        break
                    kind = lp.STRING
                    bits = (U(base + begin_string) << U(31)) | U(at - begin_string) | (escaped << U(ESCAPED_BIT))
                    at += 1
                else:
                    truth, at = parse_boolean(body, at)
                    if truth < 0:
                        good = False
                        break
                    kind = lp.BOOLEAN
                    bits = U(truth)
                if values == 0:
                    unready = True  # go on, so that all new fields of the line get their buffers at once
                else:
                    store_u64(values, row, bits)
                    store_u8(kinds, row, kind)
                c = body[at]
                if c != COMMA:
                    break
                at += 1
                before = field
                field = fields[field, lp.F_NEXT]
            if good and unready:
                head[lp.SUBJECT] = measurement
                status = lp.NEED_ROWS
            if status != lp.DONE:
                take_back(tables, measurement, row)
                break
        # ---- timestamp and line end
        if good:
            microseconds = time[T_NOW]
            if c == SPACE:
                at += 1
                c = body[at]
                while c == SPACE or c == TAB or c == 0:
                    at += 1
                    c = body[at]
                if c == MINUS or (c >= 48 and c <= 57):
                    good, microseconds, at = parse_time(body, at, time)
                    c = body[at]
                    while c == SPACE:
                        at += 1
                        c = body[at]
            if c == CR and body[at + 1] == NEWLINE:
                at += 1
                c = body[at]
            if good and c == NEWLINE:
                store_i32(measurements[measurement, lp.M_SERIES], row, np.int32(which))
                store_u64(measurements[measurement, lp.M_TIMES], row, U(microseconds))
                store_i32(measurements[measurement, lp.M_LINES], row, np.int32(line))
                measurements[measurement, lp.M_ROWS] = row + 1
                previous = which
                at += 1
                line += 1 + newlines
                continue
        # ---- not sure: the exact parser looks at the line
        if row >= 0:
            take_back(tables, measurement, row)
        stop, newlines = find_line_end(body, begin, end)
        if stop >= end and not last:
            at = start
            status = lp.UNFINISHED
            break
        if head[lp.DECLINED] >= declined.shape[0]:
            at = start
            status = lp.DECLINED_FULL
            break
        declined[head[lp.DECLINED], 0] = base + start
        declined[head[lp.DECLINED], 1] = base + stop
        declined[head[lp.DECLINED], 2] = line
        head[lp.DECLINED] += 1
        at = stop + 1
        line += 1 + newlines
    if status != lp.DONE and status != lp.UNFINISHED and status != lp.DECLINED_FULL:
        at = start
    head[lp.POSITION] = at
    head[lp.LINE] = line
    head[lp.PREVIOUS] = previous
    return status
