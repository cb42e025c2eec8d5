"""Values of the line protocol, compiled: numbers, booleans and timestamps.

Each function is sure or says that it is not: more than 19 digits, floats at the edge of their range and anything that
is not a value are the exact parser's. All of them stop at a newline, so the caller needs no bounds.
"""


# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np

from arc.ingest.lp_learn import COMMA, NEWLINE, SPACE
from arc.ingest.lp_swar import (
    POWERS_F64,
    POWERS_U64,
    ZEROS,
    U,
    digit_count,
    digits_value,
    eisel_lemire,
    float_bits,
    inline,
    load_word,
    outline,
    trailing_zeros,
)
from arc.ingest.lp_tables import FLOAT, INTEGER, UNSIGNED

CR, MINUS, DOT = 13, 45, 46
INT64_MAX = (1 << 63) - 1
MANTISSA_MAX = 1 << 53
"""Up to here a float64 holds every integer; Clinger's fast path needs that."""

(T_DIVIDE, T_MULTIPLY, T_LIMIT, T_NOW) = range(4)
"""The ``time`` argument: divide (1 or 1000) or multiply, the largest number allowed, the time of lines without one."""


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
