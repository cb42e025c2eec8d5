"""The scan: one pass over a body that puts every value straight into its column, compiled by numba.

For each line: the raw bytes up to the first unescaped space are looked up as one key (predicted from the line before, else
hashed); then each field name is compared with the one that came next last time, its value is parsed and stored at the row's
place in that field's column, and its kind in a byte beside it; then the timestamp. `lp_tables` explains the memory.

The scan is exact or silent: whatever it is not sure about (an error, a number with too many digits, a very long name) takes
back the row it began, notes where the line lies and leaves it to `lineprotocol`. It must find the same line ends, though.
"""

# ruff: noqa: SIM109 - numba compiles a chain of comparisons better than a search in a tuple
# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np

from arc.ingest.lp_learn import BACKSLASH, BAD, COMMA, EQUALS, NEWLINE, SPACE, learn_field, learn_series
from arc.ingest.lp_swar import (
    POWERS_F64,
    POWERS_U64,
    ZEROS,
    U,
    digit_count,
    digits_value,
    eisel_lemire,
    equal_mask,
    float_bits,
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
from arc.ingest.lp_tables import (
    BOOLEAN,
    DECLINED,
    DECLINED_FULL,
    DONE,
    F_KINDS,
    F_MASK0,
    F_MASK1,
    F_NEXT,
    F_SIBLING,
    F_SIZE,
    F_VALUES,
    F_WORD0,
    F_WORD1,
    FIELD_NAME_BYTES,
    FLOAT,
    INTEGER,
    LINE,
    M_CAPACITY,
    M_FIELDS,
    M_FIRST,
    M_LINES,
    M_ROWS,
    M_SERIES,
    M_TIMES,
    NEED_ROWS,
    POSITION,
    PREVIOUS,
    S_MEASUREMENT,
    S_NEXT,
    S_OFFSET,
    S_SIZE,
    STRING,
    SUBJECT,
    TABLES_FULL,
    UNFINISHED,
    UNSIGNED,
    Tables,
)

CR, TAB, QUOTE, HASH, MINUS, DOT = 13, 9, 34, 35, 45, 46
INT64_MAX = (1 << 63) - 1
MANTISSA_MAX = 1 << 53

(T_DIVIDE, T_MULTIPLY, T_LIMIT, T_NOW) = range(4)
"""The ``time`` argument: one of divide (1 or 1000) and multiply, the largest number written, and the time of lines without one."""

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


@inline
def parse_number(body, at):
    """Parse the number at ``at``: (kind or 0, bits, index behind it). Zero means: not sure, or not a number."""
    negative = body[at] == MINUS
    if negative:
        at += 1
    word = load_word(body, at) ^ ZEROS
    count = digit_count(word)
    digits = count
    mantissa = U(0)
    if count > 0:
        mantissa = digits_value(word, count)
        at += count
        while count == 8:
            word = load_word(body, at) ^ ZEROS
            count = digit_count(word)
            if count > 0:
                digits += count
                if digits > 19:
                    return 0, U(0), at
                mantissa = mantissa * POWERS_U64[count] + digits_value(word, count)
                at += count
    c = body[at]
    if c == 105:  # i
        if digits == 0 or mantissa > U(INT64_MAX) + U(negative):
            return 0, U(0), at
        return INTEGER, (U(0) - mantissa if negative else mantissa), at + 1
    if c == 117:  # u
        if digits == 0 or negative:
            return 0, U(0), at
        return UNSIGNED, mantissa, at + 1
    exponent = 0
    any_digit = digits > 0
    if mantissa == U(0):
        digits = 0
    if c == DOT:
        at += 1
        count = 8
        while count == 8:
            word = load_word(body, at) ^ ZEROS
            count = digit_count(word)
            if count > 0:
                any_digit = True
                digits += count
                if mantissa == U(0):
                    digits -= min(count, trailing_zeros(word) >> 3)  # zeros before the first digit need no precision
                if digits > 19:
                    return 0, U(0), at
                mantissa = mantissa * POWERS_U64[count] + digits_value(word, count)
                exponent -= count
                at += count
        c = body[at]
    if not any_digit:
        return 0, U(0), at
    if c == 101 or c == 69:  # e E
        at += 1
        sign = body[at]
        if sign == MINUS or sign == 43:
            at += 1
        written = 0
        start = at
        while body[at] >= 48 and body[at] <= 57 and at - start < 5:
            written = written * 10 + (body[at] - 48)
            at += 1
        if at == start or at - start >= 5:
            return 0, U(0), at
        exponent += -written if sign == MINUS else written
    if mantissa <= U(MANTISSA_MAX) and exponent >= -22 and exponent <= 22:
        number = np.float64(mantissa)
        number = number / POWERS_F64[-exponent] if exponent < 0 else number * POWERS_F64[exponent]
        return FLOAT, float_bits(-number if negative else number), at
    sure, bits = eisel_lemire(exponent, mantissa)
    if not sure:
        return 0, U(0), at
    return FLOAT, (bits | (U(1) << U(63)) if negative else bits), at


@outline
def parse_boolean(body, at):
    """Parse the word at ``at``: (1, 0 or -1 when it is none, index behind it)."""
    word = load_word(body, at)
    end = at
    while body[end] != COMMA and body[end] != SPACE and body[end] != NEWLINE and body[end] != CR:
        end += 1
    size = end - at
    if size == 1:
        if word & U(0xFF) == U(0x74) or word & U(0xFF) == U(0x54):
            return 1, end
        if word & U(0xFF) == U(0x66) or word & U(0xFF) == U(0x46):
            return 0, end
    elif size == 4:
        word &= U(0xFFFFFFFF)
        if word == U(0x65757274) or word == U(0x65757254) or word == U(0x45555254):  # true True TRUE
            return 1, end
    elif size == 5:
        word &= U(0xFFFFFFFFFF)
        if word == U(0x65736C6166) or word == U(0x65736C6146) or word == U(0x45534C4146):  # false False FALSE
            return 0, end
    return -1, end


@inline
def parse_time(body, at, time):
    """Parse the timestamp at ``at``: (whether it is sure, microseconds, index behind it)."""
    negative = body[at] == MINUS
    if negative:
        at += 1
    number = U(0)
    digits = 0
    count = 8
    while count == 8:
        word = load_word(body, at) ^ ZEROS
        count = digit_count(word)
        if count > 0:
            digits += count
            if digits > 19:
                return False, np.int64(0), at
            number = number * POWERS_U64[count] + digits_value(word, count)
            at += count
    if digits == 0 or number > U(time[T_LIMIT]):
        return False, np.int64(0), at
    value = np.int64(number)
    if time[T_DIVIDE] == 1000:
        value = -((value + 999) // 1000) if negative else value // 1000
    else:
        value *= time[T_MULTIPLY]
        if negative:
            value = -value
    return True, value, at


@outline
def take_back(tables, measurement, row):
    """Make the cells of an unfinished row null again."""
    field = tables.measurements[measurement, M_FIELDS]
    while field >= 0:
        if tables.fields[field, F_KINDS] != 0:
            store_u8(tables.fields[field, F_KINDS], row, 0)
        field = tables.fields[field, F_SIBLING]


@inline
def find_series(index, series, arena, body, at, size):
    """Look up the series whose raw bytes, closing space included, are ``body[at:at+size]``: (it or -1, its cell)."""
    cells = index.shape[0] - 1
    cell = np.int64(hash_bytes(body, at, size) & U(cells))
    while True:
        known = np.int64(index[cell])
        if known < 0:
            return known, cell
        if series[known, S_SIZE] == size and same_bytes(body, at, arena, series[known, S_OFFSET], size):
            return known, cell
        cell = (cell + 1) & cells


@outline
def scan(body, end, last, ascii_only, base, time, *arrays):
    """Scan ``body[head[POSITION]:end]``, whose last line ends in a newline, at ``end - 1`` or at ``end``. Gives a status.

    With ``last`` the whole body ends at ``end``; otherwise a string that is open there makes the scan return UNFINISHED
    at the start of its line. With ``ascii_only`` every line with another byte is declined. ``base`` is added to positions
    that are kept. The 64 bytes behind ``end`` must be readable. ``arrays`` are the `Tables`, one by one, which numba
    takes from Python in a third of the time.
    """
    tables = Tables(*arrays)
    head, arena, series, measurements = tables.head, tables.arena, tables.series, tables.measurements
    index, fields, field_names, declined = tables.series_index, tables.fields, tables.field_names, tables.declined
    at = head[POSITION]
    line = head[LINE]
    previous = head[PREVIOUS]
    status = DONE
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
                guess = series[previous, S_NEXT]
                if guess >= 0:
                    size = series[guess, S_SIZE]
                    if same_bytes(body, at, arena, series[guess, S_OFFSET], size):
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
                            series[previous, S_NEXT] = which
                        at = space + 1
                    elif which != BAD:
                        status = TABLES_FULL
                        break
            good = which >= 0
        # ---- fields
        if good:
            measurement = series[which, S_MEASUREMENT]
            row = measurements[measurement, M_ROWS]
            if row >= measurements[measurement, M_CAPACITY]:
                head[SUBJECT] = measurement
                status = NEED_ROWS
                break
            field = measurements[measurement, M_FIRST]
            before = np.int64(-1)
            while True:
                hit = False
                if field >= 0:
                    size = fields[field, F_SIZE]
                    if size <= 16:
                        hit = (np.int64(load_word(body, at)) & fields[field, F_MASK0]) == fields[field, F_WORD0]
                        if hit and size > 8:
                            hit = (np.int64(load_word(body, at + 8)) & fields[field, F_MASK1]) == fields[field, F_WORD1]
                    else:
                        wanted = ~U(0) >> U(64 - size)
                        hit = (equal_mask(body, at, field_names, field * FIELD_NAME_BYTES) & wanted) == wanted
                if not hit:
                    if before < 0:
                        while body[at] == SPACE or body[at] == TAB or body[at] == 0:
                            at += 1
                    field = learn_field(tables, body, at, measurement)
                    if field < 0:
                        good = False
                        if field != BAD:
                            status = TABLES_FULL
                        break
                    if before < 0:
                        measurements[measurement, M_FIRST] = field
                    else:
                        fields[before, F_NEXT] = field
                at += fields[field, F_SIZE]
                values = fields[field, F_VALUES]
                kinds = fields[field, F_KINDS]
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
                    kind = STRING
                    bits = (U(base + begin_string) << U(31)) | U(at - begin_string) | (escaped << U(ESCAPED_BIT))
                    at += 1
                else:
                    truth, at = parse_boolean(body, at)
                    if truth < 0:
                        good = False
                        break
                    kind = BOOLEAN
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
                field = fields[field, F_NEXT]
            if good and unready:
                head[SUBJECT] = measurement
                status = NEED_ROWS
            if status != DONE:
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
                store_i32(measurements[measurement, M_SERIES], row, np.int32(which))
                store_u64(measurements[measurement, M_TIMES], row, U(microseconds))
                store_i32(measurements[measurement, M_LINES], row, np.int32(line))
                measurements[measurement, M_ROWS] = row + 1
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
            status = UNFINISHED
            break
        if head[DECLINED] >= declined.shape[0]:
            at = start
            status = DECLINED_FULL
            break
        declined[head[DECLINED], 0] = base + start
        declined[head[DECLINED], 1] = base + stop
        declined[head[DECLINED], 2] = line
        head[DECLINED] += 1
        at = stop + 1
        line += 1 + newlines
    if status != DONE and status != UNFINISHED and status != DECLINED_FULL:
        at = start
    head[POSITION] = at
    head[LINE] = line
    head[PREVIOUS] = previous
    return status
