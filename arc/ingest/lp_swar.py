"""A small toolbox for parsing bytes in compiled Python: many bytes a step, and numbers exact to the last bit.

numba compiles these functions to machine code through LLVM. What Python cannot say, for it has no unaligned load and
no vector compare, a few `intrinsic` functions say directly. The rest is arithmetic on 64-bit words ("SIMD within a
register"): eight digits become an integer in three multiplications (Lemire, "Quickly parsing eight digits"), and
decimal floats are rounded correctly by Clinger's fast path or by the Eisel-Lemire algorithm ("Number Parsing at a
Gigabyte per Second", 2021).

Two rules of numba to know when reading: a uint64 combined with an int64 becomes a float, so every constant is wrapped
in `U`; and nothing checks bounds, so callers keep 64 readable bytes behind every index they give.
"""

# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np import arrayobj

U = np.uint64
I8, I32, I64, I128 = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.IntType(128)
V64 = ir.VectorType(I8, 64)

outline = njit(nogil=True, cache=True, error_model="numpy", inline="never")
"""Compiles a function that stays a call: rare work that must not bloat the hot loop."""

inline = njit(nogil=True, cache=True, error_model="numpy")
"""Compiles a function that LLVM may fold into its caller."""


# -- loads and stores -------------------------------------------------------------------------------------------------


def _address(context, builder, array_type, array, index):
    data = arrayobj.make_array(array_type)(context, builder, array).data
    return builder.gep(builder.bitcast(data, I8.as_pointer()), [index])


def _load(context, builder, sig, args, which, ir_type):
    pointer = _address(context, builder, sig.args[which], args[which], args[which + 1])
    return builder.load(builder.bitcast(pointer, ir_type.as_pointer()), align=1)


@intrinsic
def load_word(typingctx, array, index):
    """The eight bytes at ``array[index:]`` as a little-endian uint64; any alignment."""

    def codegen(context, builder, sig, args):
        return _load(context, builder, sig, args, 0, I64)

    return types.uint64(array, types.int64), codegen


@intrinsic
def equal_mask(typingctx, left, i, right, j):
    """Bit k is set when ``left[i+k] == right[j+k]``, for k in 0..63."""

    def codegen(context, builder, sig, args):
        x = _load(context, builder, sig, args, 0, V64)
        y = _load(context, builder, sig, args, 2, V64)
        return builder.bitcast(builder.icmp_unsigned("==", x, y), I64)

    return types.uint64(left, types.int64, right, types.int64), codegen


def _any_of(characters: bytes):
    """Make a function (array, index) -> uint64 whose bit k says that ``array[index+k]`` is one of the characters."""

    @intrinsic
    def mask(typingctx, array, index):
        def codegen(context, builder, sig, args):
            bytes_ = _load(context, builder, sig, args, 0, V64)
            found = ir.Constant(ir.VectorType(ir.IntType(1), 64), [0] * 64)
            for character in characters:
                same = builder.icmp_unsigned("==", bytes_, ir.Constant(V64, [character] * 64))
                found = builder.or_(found, same)
            return builder.bitcast(found, I64)

        return types.uint64(array, types.int64), codegen

    return mask


mask_series_end = _any_of(b" \n\\")
mask_string_end = _any_of(b'"\\\n')
mask_newline = _any_of(b"\n")


@intrinsic
def mask_high(typingctx, array, index):
    """Bit k is set when ``array[index+k]`` is not ASCII."""

    def codegen(context, builder, sig, args):
        bytes_ = _load(context, builder, sig, args, 0, V64)
        return builder.bitcast(builder.icmp_signed("<", bytes_, ir.Constant(V64, [0] * 64)), I64)

    return types.uint64(array, types.int64), codegen


def _store(ir_type, numba_type, size: int):
    """Make a function (address, index, value) that stores into memory whose address a table holds."""

    @intrinsic
    def store(typingctx, address, index, value):
        def codegen(context, builder, sig, args):
            at = builder.add(args[0], builder.mul(args[1], ir.Constant(I64, size)))
            builder.store(args[2], builder.inttoptr(at, ir_type.as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, numba_type), codegen

    return store


def _fetch(ir_type, numba_type, size: int):
    """Make a function (address, index) -> value, the counterpart of `_store`."""

    @intrinsic
    def fetch(typingctx, address, index):
        def codegen(context, builder, sig, args):
            at = builder.add(args[0], builder.mul(args[1], ir.Constant(I64, size)))
            return builder.load(builder.inttoptr(at, ir_type.as_pointer()), align=1)

        return numba_type(types.int64, types.int64), codegen

    return fetch


store_u64 = _store(I64, types.uint64, 8)
store_i32 = _store(I32, types.int32, 4)
store_u8 = _store(I8, types.uint8, 1)
fetch_u64 = _fetch(I64, types.uint64, 8)
fetch_i32 = _fetch(I32, types.int32, 4)
fetch_u8 = _fetch(I8, types.uint8, 1)


# -- bits -------------------------------------------------------------------------------------------------------------


@intrinsic
def trailing_zeros(typingctx, x):
    """Index of the lowest set bit; 64 when none is set."""

    def codegen(context, builder, sig, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def leading_zeros(typingctx, x):
    """Zero bits above the highest set bit; 64 when none is set."""

    def codegen(context, builder, sig, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@intrinsic
def multiply_high(typingctx, x, y):
    """The upper 64 bits of a 64 x 64 bit product."""

    def codegen(context, builder, sig, args):
        product = builder.mul(builder.zext(args[0], I128), builder.zext(args[1], I128))
        return builder.trunc(builder.lshr(product, ir.Constant(I128, 64)), I64)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def float_bits(typingctx, x):
    """The bits of a float64."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], I64)

    return types.uint64(types.float64), codegen


@inline
def hash_bytes(data, at, size):
    """A 64-bit hash of ``data[at:at+size]``, wyhash-like: one wide multiplication for eight bytes."""
    h = U(0x9E3779B97F4A7C15) ^ U(size)
    k = 0
    while k < size:
        word = load_word(data, at + k)
        if size - k < 8:
            word &= (U(1) << U((size - k) * 8)) - U(1)
        word ^= h
        h = multiply_high(word, U(0xA0761D6478BD642F)) ^ (word * U(0xE7037ED1A0B428DB))
        k += 8
    return h ^ (h >> U(29))


@inline
def same_bytes(left, i, right, j, size):
    """Whether ``left[i:i+size] == right[j:j+size]``; reads 64 bytes at a time."""
    while size >= 64:
        if equal_mask(left, i, right, j) != ~U(0):
            return False
        i += 64
        j += 64
        size -= 64
    wanted = (U(1) << U(size)) - U(1)
    return (equal_mask(left, i, right, j) & wanted) == wanted


# -- numbers ----------------------------------------------------------------------------------------------------------

ZEROS = U(0x3030303030303030)
POWERS_U64 = np.array([10**k for k in range(9)], np.uint64)
POWERS_F64 = np.array([10.0**k for k in range(23)])


@inline
def digit_count(word):
    """How many of the eight bytes of ``word`` (already xor `ZEROS`), from the first on, are digits."""
    other = ((word + U(0x0606060606060606)) | word) & U(0xF0F0F0F0F0F0F0F0)
    return trailing_zeros(other) >> 3


@inline
def digits_value(word, count):
    """The number written by the first ``count`` (1..8) bytes of ``word`` (already xor `ZEROS`)."""
    word = word << U(64 - 8 * count)
    word = (word * U(10)) + (word >> U(8))
    high = (word & U(0x000000FF000000FF)) * U(0x000F424000000064)
    low = ((word >> U(16)) & U(0x000000FF000000FF)) * U(0x0000271000000001)
    return (high + low) >> U(32)


def _powers_of_five() -> tuple[np.ndarray, np.ndarray]:
    """5**q for q in -342..308, as the top 128 bits; the table of the Eisel-Lemire algorithm, section 5 of the paper."""
    tops = []
    for q in range(-342, 309):
        if q >= 0:
            top = 5**q
            top = top << (128 - top.bit_length()) if top.bit_length() < 128 else top >> (top.bit_length() - 128)
        else:
            divisor = 5**-q
            z = (divisor - 1).bit_length()
            top = 2 ** (z + 127 if q >= -27 else 2 * z + 128) // divisor + 1
            top >>= max(0, top.bit_length() - 128)
        tops.append(top)
    return np.array([t >> 64 for t in tops], np.uint64), np.array([t & (2**64 - 1) for t in tops], np.uint64)


FIVES_HIGH, FIVES_LOW = _powers_of_five()


@outline
def eisel_lemire(q, w):
    """Bits of the float64 nearest to ``w * 10**q``: (True, bits), or (False, _) where the algorithm gives up.

    Subnormal and huge results are given up too; a caller falls back to Python's float.
    """
    if w == U(0):
        return True, U(0)
    if q < -300 or q > 290:
        return False, U(0)
    zeros = leading_zeros(w)
    w = w << U(zeros)
    power = FIVES_HIGH[q + 342]
    high = multiply_high(w, power)
    low = w * power
    if (high & U(0x1FF)) == U(0x1FF):
        second = multiply_high(w, FIVES_LOW[q + 342])
        total = low + second
        if total < low:
            high = high + U(1)
        low = total
    upper = high >> U(63)
    mantissa = high >> (upper + U(9))
    exponent = ((217706 * q) >> 16) + 63 + np.int64(upper) - zeros + 1023
    if exponent <= 0:
        return False, U(0)
    # Exactly half way between two floats: round to even.
    if low <= U(1) and q >= -4 and q <= 23 and (mantissa & U(3)) == U(1) and (mantissa << (upper + U(9))) == high:
        mantissa = mantissa & ~U(1)
    mantissa = (mantissa + (mantissa & U(1))) >> U(1)
    if mantissa >= (U(2) << U(52)):
        mantissa = U(1) << U(52)
        exponent += 1
    if exponent >= 0x7FF:
        return False, U(0)
    return True, (mantissa & ~(U(1) << U(52))) | (U(exponent) << U(52))
