"""Rows of JSON spliced from columns by one compiled pass.

Row-major JSON from column-major data means visiting every value once in row order, which Python cannot do fast.
Floats are the hard part of JSON text, and orjson already writes a whole float column at 15 ns a value: the kernel
only copies that text, a value per row, between the integers, times, booleans and strings it writes itself.

numba compiles on import (seconds the first time, then from its cache); without numba the import fails and
`results_json` takes the library's way. Both give the same values, see tests/query/test_json.py.
"""

# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import int64, njit, types, uint8
from numba.extending import intrinsic

FLOAT, INTEGER, UNSIGNED, TEXT, TIME, FLAG = range(6)
"""What a column is. FLOAT: ``data`` is orjson's text ``[a,b,…]``. TIME: µs since 1970 within the years 0 to 9999."""

VALUE_BYTES_MAX = {INTEGER: 21, UNSIGNED: 21, TIME: 30, FLAG: 6}
"""Longest text of one value with its comma."""

ESCAPED_BYTES_MAX = 6
"""One byte of text becomes at most ``\\u00XX``."""

inline = njit(nogil=True, cache=True, error_model="numpy")


def _load(bits, numba_type):
    """A function that reads element ``index`` of an array of these words at a raw address, aligned or not."""
    word = ir.IntType(bits)

    @intrinsic
    def load(typingctx, address, index):
        def codegen(context, builder, sig, args):
            offset = builder.mul(args[1], ir.Constant(ir.IntType(64), bits // 8))
            place = builder.inttoptr(builder.add(args[0], offset), word.as_pointer())
            return builder.load(place, align=1)

        return numba_type(types.int64, types.int64), codegen

    return load


load_byte = _load(8, types.uint8)
load_offset = _load(32, types.int32)
load_signed = _load(64, types.int64)
load_unsigned = _load(64, types.uint64)

_TWO_DIGITS = np.frombuffer(b"".join(b"%02d" % number for number in range(100)), np.uint8).copy()
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8).copy()
_NULL = np.frombuffer(b"null", np.uint8).copy()
_TRUE = np.frombuffer(b"true", np.uint8).copy()
_FALSE = np.frombuffer(b"false", np.uint8).copy()

_DAY_US = 86_400_000_000


@inline
def _put_word(out, at, word):
    for i in range(word.shape[0]):
        out[at + i] = word[i]
    return at + word.shape[0]


@inline
def _put_two(out, at, number):
    out[at] = _TWO_DIGITS[2 * number]
    out[at + 1] = _TWO_DIGITS[2 * number + 1]


@inline
def _put_digits(out, at, number):
    """A uint64 in decimal."""
    ten = np.uint64(10)
    length = 1
    rest = number // ten
    while rest:
        rest //= ten
        length += 1
    for i in range(at + length - 1, at - 1, -1):
        quotient = number // ten
        out[i] = np.uint8(48) + np.uint8(number - quotient * ten)
        number = quotient
    return at + length


@inline
def _put_signed(out, at, number):
    if number < 0:
        out[at] = 45
        # Two's complement in uint64 also holds for the smallest int64, which has no positive twin.
        return _put_digits(out, at + 1, np.uint64(0) - np.uint64(number))
    return _put_digits(out, at, np.uint64(number))


@inline
def _put_text(out, at, data, start, end):
    out[at] = 34
    at += 1
    for i in range(start, end):
        char = load_byte(data, i)
        if char >= 32 and char != 34 and char != 92:
            out[at] = char
            at += 1
        elif char == 34 or char == 92:
            out[at] = 92
            out[at + 1] = char
            at += 2
        else:
            out[at] = 92
            out[at + 1] = 117
            out[at + 2] = 48
            out[at + 3] = 48
            out[at + 4] = _HEX[char >> 4]
            out[at + 5] = _HEX[char & 15]
            at += 6
    out[at] = 34
    return at + 1


@inline
def _put_date(out, at, day):
    """``YYYY-MM-DD`` of a day since 1970 (Hinnant, "chrono-compatible low-level date algorithms")."""
    shifted = day + 719_468
    era = shifted // 146_097
    of_era = shifted - era * 146_097
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    part = (5 * of_year + 2) // 153
    month = part + 3 if part < 10 else part - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    _put_two(out, at, year // 100)
    _put_two(out, at + 2, year % 100)
    out[at + 4] = 45
    _put_two(out, at + 5, month)
    out[at + 7] = 45
    _put_two(out, at + 8, of_year - (153 * part + 2) // 5 + 1)


@inline
def _put_clock(out, at, within_day):
    """``THH:MM:SS``, a fraction if there is one, and ``Z``."""
    seconds = within_day // 1_000_000
    fraction = within_day - seconds * 1_000_000
    out[at] = 84
    _put_two(out, at + 1, seconds // 3600)
    out[at + 3] = 58
    _put_two(out, at + 4, seconds // 60 % 60)
    out[at + 6] = 58
    _put_two(out, at + 7, seconds % 60)
    at += 9
    if fraction:
        out[at] = 46
        _put_two(out, at + 1, fraction // 10_000)
        _put_two(out, at + 3, fraction // 100 % 100)
        _put_two(out, at + 5, fraction % 100)
        at += 7
    out[at] = 90
    return at + 1


_SIGNATURE = int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64, uint8[::1])


@njit(_SIGNATURE, nogil=True, cache=True, error_model="numpy")
def splice(kinds, data, offsets, validity, first_bits, cursors, rows, out):
    """Write ``[…],[…],…`` for all rows and return the number of bytes.

    Per column: its kind; addresses of its values, of its string offsets (or, for a FLAG, the first bit's index) and
    of its validity bitmap (0: no nulls) with the index of the first bit; and a cursor, which for a FLOAT starts
    behind its bracket.
    """
    at = 0
    last_day = np.int64(-(1 << 62))
    date = np.empty(10, np.uint8)
    for row in range(rows):
        out[at] = 91
        at += 1
        for column in range(kinds.shape[0]):
            kind = kinds[column]
            bit = row + first_bits[column]
            if kind == FLOAT:
                # Nulls are in the text, and the cursor must pass every value.
                source = data[column]
                cursor = cursors[column]
                char = load_byte(source, cursor)
                while char != 44 and char != 93:
                    out[at] = char
                    at += 1
                    cursor += 1
                    char = load_byte(source, cursor)
                cursors[column] = cursor + 1
            elif validity[column] != 0 and (load_byte(validity[column], bit >> 3) >> (bit & 7)) & 1 == 0:
                at = _put_word(out, at, _NULL)
            elif kind == INTEGER:
                at = _put_signed(out, at, load_signed(data[column], row))
            elif kind == TEXT:
                start = np.int64(load_offset(offsets[column], row))
                end = np.int64(load_offset(offsets[column], row + 1))
                at = _put_text(out, at, data[column], start, end)
            elif kind == TIME:
                moment = load_signed(data[column], row)
                day = moment // _DAY_US
                if day != last_day:
                    # Rows of one result lie near each other: nearly always the same day again.
                    last_day = day
                    _put_date(date, 0, day)
                out[at] = 34
                _put_word(out, at + 1, date)
                at = _put_clock(out, at + 11, moment - day * _DAY_US)
                out[at] = 34
                at += 1
            elif kind == FLAG:
                index = row + offsets[column]
                if (load_byte(data[column], index >> 3) >> (index & 7)) & 1:
                    at = _put_word(out, at, _TRUE)
                else:
                    at = _put_word(out, at, _FALSE)
            else:
                at = _put_digits(out, at, load_unsigned(data[column], row))
            out[at] = 44
            at += 1
        out[at - 1] = 93
        out[at] = 44
        at += 1
    return at - 1
