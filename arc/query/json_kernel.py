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

U = np.uint64
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


@inline
def _put_word(out, at, word):
    for i in range(word.shape[0]):
        out[at + i] = word[i]
    return at + word.shape[0]


@inline
def _put_two(out, at, number):
    """Two digits of a uint64 below 100."""
    out[at] = _TWO_DIGITS[U(2) * number]
    out[at + 1] = _TWO_DIGITS[U(2) * number + U(1)]


@inline
def _put_digits(out, at, number):
    """A uint64 in decimal, two digits a step from the end."""
    length = 1
    bound = U(10)
    # 10^19 is the last power of ten below 2^64: the loop ends before ``bound`` could overflow.
    while length < 20 and number >= bound:
        length += 1
        bound = bound * U(10)
    end = at + length
    place = end
    while number >= U(100):
        quotient = number // U(100)
        place -= 2
        _put_two(out, place, number - quotient * U(100))
        number = quotient
    if number >= U(10):
        _put_two(out, at, number)
    else:
        out[at] = np.uint8(48) + np.uint8(number)
    return end


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
def _put_second(out, second):
    """``"YYYY-MM-DDTHH:MM:SS`` of a second since 1970 into ``out``: 20 bytes (Hinnant's civil-from-days)."""
    day = second // 86_400
    # From here on nothing is negative, and unsigned division by a constant is cheap.
    within = np.uint64(second - day * 86_400)
    shifted = np.uint64(day + 719_468)
    era = shifted // U(146_097)
    of_era = shifted - era * U(146_097)
    year_of_era = (of_era - of_era // U(1460) + of_era // U(36_524) - of_era // U(146_096)) // U(365)
    of_year = of_era - (U(365) * year_of_era + year_of_era // U(4) - year_of_era // U(100))
    part = (U(5) * of_year + U(2)) // U(153)
    month = part + U(3) if part < U(10) else part - U(9)
    year = year_of_era + era * U(400) + (U(1) if month <= U(2) else U(0))
    out[0] = 34
    _put_two(out, 1, year // U(100))
    _put_two(out, 3, year % U(100))
    out[5] = 45
    _put_two(out, 6, month)
    out[8] = 45
    _put_two(out, 9, of_year - (U(153) * part + U(2)) // U(5) + U(1))
    out[11] = 84
    _put_two(out, 12, within // U(3600))
    out[14] = 58
    _put_two(out, 15, within // U(60) % U(60))
    out[17] = 58
    _put_two(out, 18, within % U(60))


_SIGNATURE = int64(int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], int64, uint8[::1])


@njit(_SIGNATURE, nogil=True, cache=True, error_model="numpy")
def splice(kinds, data, offsets, validity, first_bits, cursors, rows, out):
    """Write ``[…],[…],…`` for all rows and return the number of bytes.

    Per column: its kind; addresses of its values, of its string offsets (or, for a FLAG, the first bit's index) and
    of its validity bitmap (0: no nulls) with the index of the first bit; and a cursor, which for a FLOAT starts
    behind its bracket.
    """
    at = 0
    last_second = np.int64(-(1 << 62))
    written = np.empty(20, np.uint8)
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
                second = moment // 1_000_000
                if second != last_second:
                    # Rows of one result lie near each other: often it is the same second again.
                    last_second = second
                    _put_second(written, second)
                for i in range(20):
                    out[at + i] = written[i]
                at += 20
                fraction = np.uint64(moment - second * 1_000_000)
                if fraction:
                    out[at] = 46
                    _put_two(out, at + 1, fraction // U(10_000))
                    _put_two(out, at + 3, fraction // U(100) % U(100))
                    _put_two(out, at + 5, fraction % U(100))
                    at += 7
                out[at] = 90
                out[at + 1] = 34
                at += 2
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
