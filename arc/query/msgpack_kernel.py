"""Strings of a column as MessagePack strings, one behind the other, in one compiled pass.

numba compiles on import; without numba the import fails and `results_msgpack` takes the library's way, which writes the
same bytes.
"""

# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np
from numba import int64, njit, uint8

from arc.query.json_kernel import load_byte, load_offset

HEADER_BYTES_MAX = 5


@njit(int64(int64, int64, int64, int64, int64, uint8[::1]), nogil=True, cache=True, error_model="numpy")
def pack_texts(data, offsets, validity, first_bit, rows, out):
    """Write the strings at raw addresses into ``out`` and return the number of bytes. ``validity`` 0: there are no
    nulls."""
    at = 0
    for row in range(rows):
        bit = row + first_bit
        if validity != 0 and (load_byte(validity, bit >> 3) >> (bit & 7)) & 1 == 0:
            out[at] = 0xC0
            at += 1
            continue
        start = np.int64(load_offset(offsets, row))
        length = np.int64(load_offset(offsets, row + 1)) - start
        if length < 32:
            out[at] = 0xA0 | length
            at += 1
        elif length < 256:
            out[at] = 0xD9
            out[at + 1] = length
            at += 2
        elif length < 65_536:
            out[at] = 0xDA
            out[at + 1] = length >> 8
            out[at + 2] = length & 255
            at += 3
        else:
            out[at] = 0xDB
            out[at + 1] = length >> 24
            out[at + 2] = length >> 16 & 255
            out[at + 3] = length >> 8 & 255
            out[at + 4] = length & 255
            at += 5
        for i in range(length):
            out[at + i] = load_byte(data, start + i)
        at += length
    return at
