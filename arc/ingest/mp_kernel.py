"""One MessagePack array of plain values to one buffer, compiled by numba.

Each function walks the elements of one array and gives up, by returning -1 as the place, at the first thing it is not
sure of: a value of another kind, a number that no float holds, the end of the body. Giving up is never wrong, since
`msgpack` then decodes the body; so there is no message here and no rule about values, only speed. Nothing is read
beyond the end of ``data``: every element is checked against it before it is touched.
"""

# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

from arc.ingest.lp_swar import U, float_bits, load_word, outline

NULL, FLOAT, SMALL, NEGATIVE, LARGE, BOOLEAN = 1, 2, 4, 8, 16, 32
"""Bits for what was seen: SMALL is an integer in 0..2**63-1, LARGE one above."""

_I8, _I64 = ir.IntType(8), ir.IntType(64)
_HIGH_BITS = U(0x8080808080808080)
_EXACT = np.int64(2**53)


@intrinsic
def swapped(typingctx, x):
    """The bytes of a uint64 in reverse order: MessagePack is big-endian."""

    def codegen(context, builder, sig, args):
        return builder.bswap(args[0])

    return types.uint64(types.uint64), codegen


@intrinsic
def widened(typingctx, x):
    """The float64 of the bits of a float32."""

    def codegen(context, builder, sig, args):
        return builder.fpext(builder.bitcast(args[0], ir.FloatType()), ir.DoubleType())

    return types.float64(types.uint32), codegen


@intrinsic
def store_word(typingctx, array, index, value):
    """Write eight bytes at ``array[index:]``; any alignment."""

    def codegen(context, builder, sig, args):
        data = arrayobj.make_array(sig.args[0])(context, builder, args[0]).data
        at = builder.gep(builder.bitcast(data, _I8.as_pointer()), [args[1]])
        builder.store(args[2], builder.bitcast(at, _I64.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint64), codegen


@outline
def skip_nulls(data, i, count):
    """Place of the first element that is not null; the place after the array when there is none."""
    stop = min(data.size, i + count)
    while i < stop and data[i] == 0xC0:
        i += 1
    return i


@outline
def scan_numbers(data, i, count, out, valid, as_float):
    """Write the bits of ``count`` numbers, booleans or nulls to ``out``; a null clears its byte of ``valid``.

    With ``as_float`` integers become floats. Returns the place after the array (or -1) and the kinds seen.
    """
    end = data.size
    seen = 0
    r = 0
    while r < count:
        if i >= end:
            return -1, 0
        c = data[i]
        if c == 0xCB:
            stop = min(count, r + (end - i) // 9)
            if stop == r:
                return -1, 0
            while r < stop and data[i] == 0xCB:
                out[r] = swapped(load_word(data, i + 1))
                i += 9
                r += 1
            seen |= FLOAT
            continue
        if (c == 0xCF or c == 0xD3) and not as_float:
            stop = min(count, r + (end - i) // 9)
            if stop == r:
                return -1, 0
            high = U(0)
            low = ~U(0)
            while r < stop and data[i] == c:
                word = swapped(load_word(data, i + 1))
                out[r] = word
                high |= word
                low &= word
                i += 9
                r += 1
            if high >> U(63) == U(0):
                seen |= SMALL
            elif low >> U(63) == U(1):
                seen |= LARGE if c == 0xCF else NEGATIVE
            else:
                seen |= SMALL | (LARGE if c == 0xCF else NEGATIVE)
            continue
        if c == 0xC0:
            out[r] = U(0)
            valid[r] = 0
            seen |= NULL
            i += 1
            r += 1
            continue
        if c == 0xC2 or c == 0xC3:
            out[r] = U(c & 1)
            seen |= BOOLEAN
            i += 1
            r += 1
            continue
        if c == 0xCA:
            if i + 5 > end:
                return -1, 0
            bits = np.uint32(data[i + 1]) << np.uint32(24) | np.uint32(data[i + 2]) << np.uint32(16)
            bits |= np.uint32(data[i + 3]) << np.uint32(8) | np.uint32(data[i + 4])
            out[r] = float_bits(widened(np.uint32(bits)))
            seen |= FLOAT
            i += 5
            r += 1
            continue
        if c <= 0x7F:
            value = np.int64(c)
            size = 1
        elif c >= 0xE0:
            value = np.int64(c) - 256
            size = 1
        elif c >= 0xCC and c <= 0xCF:
            size = 1 + (1 << (c - 0xCC))
            if i + size > end:
                return -1, 0
            bits = U(0)
            for k in range(1, size):
                bits = (bits << U(8)) | U(data[i + k])
            value = np.int64(bits)
            if c == 0xCF and value < 0:
                return -1, 0
        elif c >= 0xD0 and c <= 0xD3:
            size = 1 + (1 << (c - 0xD0))
            if i + size > end:
                return -1, 0
            bits = U(0) if data[i + 1] < 0x80 else ~U(0)
            for k in range(1, size):
                bits = (bits << U(8)) | U(data[i + k])
            value = np.int64(bits)
        else:
            return -1, 0
        if as_float:
            if value > _EXACT or value < -_EXACT:
                return -1, 0
            out[r] = float_bits(np.float64(value))
            seen |= FLOAT
        else:
            out[r] = U(value)
            seen |= NEGATIVE if value < 0 else SMALL
        i += size
        r += 1
    return i, seen


@outline
def scan_texts(data, i, count, offsets, valid):
    """Write where each of ``count`` texts will begin (a null is empty and clears its byte of ``valid``).

    Returns the place after the array (or -1), the number of nulls and the bytes of all texts together.
    """
    end = data.size
    total = 0
    nulls = 0
    for r in range(count):
        offsets[r] = total
        if i >= end:
            return -1, 0, 0
        c = data[i]
        if c >= 0xA0 and c <= 0xBF:
            size = np.int64(c & 31)
            i += 1
        elif c == 0xC0:
            size = np.int64(0)
            valid[r] = 0
            nulls += 1
            i += 1
        elif c >= 0xD9 and c <= 0xDB:
            width = 1 << (c - 0xD9)
            if i + 1 + width > end:
                return -1, 0, 0
            size = np.int64(0)
            for k in range(width):
                size = (size << 8) | np.int64(data[i + 1 + k])
            i += 1 + width
        else:
            return -1, 0, 0
        i += size
        total += size
        if i > end or total > 2147483647:
            return -1, 0, 0
    offsets[count] = total
    return i, nulls, total


@outline
def copy_texts(data, i, count, offsets, out):
    """Copy the texts that `scan_texts` found behind each other; ``out`` has 8 bytes to spare. Whether all are ASCII."""
    last_word = data.size - 8
    high = U(0)
    for r in range(count):
        c = data[i]
        i += 1
        if c >= 0xD9:
            i += 1 << (c - 0xD9)
        at = np.int64(offsets[r])
        size = np.int64(offsets[r + 1]) - at
        done = 0
        while done < size:
            rest = size - done
            if i + done <= last_word:
                word = load_word(data, i + done)
            else:
                word = U(0)
                for k in range(min(rest, 8)):
                    word |= U(data[i + done + k]) << U(8 * k)
            store_word(out, at + done, word)
            high |= word if rest >= 8 else word & ((U(1) << U(8 * rest)) - U(1))
            done += 8
        i += size
    return (high & _HIGH_BITS) == U(0)
