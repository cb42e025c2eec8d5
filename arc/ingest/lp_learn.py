"""What the compiled line decoder does with something it sees for the first time: a measurement, series, tag or field.

These functions run on a miss only, so they read byte by byte and stay calls. Each gives an index into its table, or
`FULL` when a table has no room (the caller empties them and comes again), or `BAD` when the exact parser must look at
the line: it may be wrong, or only too unusual for the tables.
"""

# ruff: noqa: SIM109 - numba compiles a chain of comparisons better than a search in a tuple
# mypy: ignore-errors
# The types of compiled functions are numba's, inferred from the arguments; what mypy knows of numpy contradicts them.

from __future__ import annotations

import numpy as np

from arc.ingest import lp_tables as lp
from arc.ingest.lp_swar import U, hash_bytes, load_word, outline, same_bytes

FULL, BAD = -1, -2

SERIES_BYTES_MAX = 65_535  # as in `lineprotocol`; longer ones are the exact parser's to refuse

COMMA, SPACE, EQUALS, BACKSLASH, NEWLINE = 44, 32, 61, 92, 10


@outline
def is_time(data, at, size):
    """Whether the name is ``time`` in any case."""
    return size == 4 and (load_word(data, at) & U(0xFFFFFFFF) | U(0x20202020)) == U(0x656D6974)


@outline
def learn_measurement(tables, body, at, size):
    """Find or add the measurement whose raw name is ``body[at:at+size]``."""
    head, arena, rows, index = tables.head, tables.arena, tables.measurements, tables.measurement_index
    cells = index.shape[0] - 1
    cell = np.int64(hash_bytes(body, at, size) & U(cells))
    while index[cell] >= 0:
        known = np.int64(index[cell])
        if rows[known, lp.M_SIZE] == size and same_bytes(body, at, arena, rows[known, lp.M_OFFSET], size):
            return known
        cell = (cell + 1) & cells
    new = head[lp.N_MEASUREMENTS]
    if new >= rows.shape[0]:
        return np.int64(FULL)
    offset = head[lp.ARENA_USED]
    for k in range(size):
        arena[offset + k] = body[at + k]
    head[lp.ARENA_USED] = offset + size
    head[lp.N_MEASUREMENTS] = new + 1
    rows[new, lp.M_OFFSET] = offset
    rows[new, lp.M_SIZE] = size
    rows[new, lp.M_FIRST] = -1
    rows[new, lp.M_FIELDS] = -1
    rows[new, lp.M_ROWS] = 0
    rows[new, lp.M_CAPACITY] = 0
    rows[new, lp.M_TAGS] = 0
    index[cell] = new
    return new


@outline
def take_name(body, at, arena, offset):
    """Copy a tag key or value without its escapes to the arena: (its size there, index of the byte that ended it)."""
    size = 0
    while True:
        c = body[at]
        if c == BACKSLASH:
            following = body[at + 1]
            if following == COMMA or following == EQUALS or following == SPACE:
                c = following
                at += 1
        elif c == COMMA or c == EQUALS or c == SPACE or c == NEWLINE:
            return size, at
        arena[offset + size] = c
        size += 1
        at += 1


@outline
def learn_key(tables, measurement, offset, size):
    """Find or add the tag key whose text was put at the end of the arena."""
    head, arena, rows, index = tables.head, tables.arena, tables.keys, tables.key_index
    cells = index.shape[0] - 1
    cell = np.int64((hash_bytes(arena, offset, size) + U(measurement) * U(0x9E3779B97F4A7C15)) & U(cells))
    while index[cell] >= 0:
        known = np.int64(index[cell])
        if (
            rows[known, lp.K_MEASUREMENT] == measurement
            and rows[known, lp.K_SIZE] == size
            and same_bytes(arena, offset, arena, rows[known, lp.K_OFFSET], size)
        ):
            return known
        cell = (cell + 1) & cells
    new = head[lp.N_KEYS]
    local = tables.measurements[measurement, lp.M_TAGS]
    if new >= rows.shape[0]:
        return np.int64(FULL)
    if local >= lp.TAGS_PER_MEASUREMENT_MAX:
        return np.int64(BAD)
    head[lp.ARENA_USED] = offset + size
    head[lp.N_KEYS] = new + 1
    tables.measurements[measurement, lp.M_TAGS] = local + 1
    rows[new, lp.K_OFFSET] = offset
    rows[new, lp.K_SIZE] = size
    rows[new, lp.K_MEASUREMENT] = measurement
    rows[new, lp.K_LOCAL] = local
    index[cell] = new
    return new


@outline
def learn_value(tables, key, offset, size):
    """Find or add the tag value whose text was put at the end of the arena."""
    head, arena, rows, index = tables.head, tables.arena, tables.values, tables.value_index
    cells = index.shape[0] - 1
    cell = np.int64((hash_bytes(arena, offset, size) + U(key) * U(0x9E3779B97F4A7C15)) & U(cells))
    while index[cell] >= 0:
        known = np.int64(index[cell])
        if (
            rows[known, lp.V_KEY] == key
            and rows[known, lp.V_SIZE] == size
            and same_bytes(arena, offset, arena, rows[known, lp.V_OFFSET], size)
        ):
            return known
        cell = (cell + 1) & cells
    new = head[lp.N_VALUES]
    if new >= rows.shape[0]:
        return np.int64(FULL)
    head[lp.ARENA_USED] = offset + size
    head[lp.N_VALUES] = new + 1
    rows[new, lp.V_OFFSET] = offset
    rows[new, lp.V_SIZE] = size
    rows[new, lp.V_KEY] = key
    rows[new, lp.V_MARK] = -1
    index[cell] = new
    return new


@outline
def learn_series(tables, body, start, size, cell):
    """Add the series ``body[start:start+size]``, its closing space included, at a free cell of the series index."""
    head, arena, codes = tables.head, tables.arena, tables.codes
    new = head[lp.N_SERIES]
    first_code = head[lp.CODES_USED]
    if size > SERIES_BYTES_MAX:
        return np.int64(BAD)
    # Twice the size: once as the key, once more for measurement, tag keys and values.
    room = arena.shape[0] - head[lp.ARENA_USED] - 2 * lp.SLACK
    if new >= tables.series.shape[0] or 2 * size > room or first_code + lp.TAGS_PER_MEASUREMENT_MAX > codes.shape[0]:
        return np.int64(FULL)
    at = start
    while body[at] != COMMA and body[at] != SPACE:
        following = body[at + 1]
        at += 2 if body[at] == BACKSLASH and (following == COMMA or following == SPACE) else 1
    if at == start:
        return np.int64(BAD)
    measurement = learn_measurement(tables, body, start, at - start)
    if measurement < 0:
        return measurement
    for k in range(lp.TAGS_PER_MEASUREMENT_MAX):
        codes[first_code + k] = -1
    tags = 0
    while body[at] == COMMA:
        length, at = take_name(body, at + 1, arena, head[lp.ARENA_USED])
        if length == 0 or body[at] != EQUALS or is_time(arena, head[lp.ARENA_USED], length):
            return np.int64(BAD)
        key = learn_key(tables, measurement, head[lp.ARENA_USED], length)
        if key < 0:
            return key
        length, at = take_name(body, at + 1, arena, head[lp.ARENA_USED])
        if length == 0 or body[at] == EQUALS:
            return np.int64(BAD)
        value = learn_value(tables, key, head[lp.ARENA_USED], length)
        if value < 0:
            return value
        local = tables.keys[key, lp.K_LOCAL]
        if codes[first_code + local] >= 0:
            return np.int64(BAD)
        codes[first_code + local] = value
        tags = max(tags, local + 1)
    assert body[at] == SPACE
    assert at == start + size - 1
    offset = head[lp.ARENA_USED]
    for k in range(size):
        arena[offset + k] = body[start + k]
    head[lp.ARENA_USED] = offset + size
    head[lp.CODES_USED] = first_code + tags
    head[lp.N_SERIES] = new + 1
    row = tables.series[new]
    row[lp.S_OFFSET] = offset
    row[lp.S_SIZE] = size
    row[lp.S_MEASUREMENT] = measurement
    row[lp.S_NEXT] = -1
    row[lp.S_CODES] = first_code
    row[lp.S_TAGS] = tags
    tables.series_index[cell] = new
    return new


@outline
def learn_field(tables, body, at, measurement):
    """Find or add the field of a measurement whose raw name stands at ``body[at:]``."""
    head, names, rows, index = tables.head, tables.field_names, tables.fields, tables.field_index
    size = 0
    while body[at + size] != EQUALS:
        c = body[at + size]
        following = body[at + size + 1]
        if c == BACKSLASH and (following == COMMA or following == EQUALS or following == SPACE):
            size += 1
        elif c == COMMA or c == SPACE or c == NEWLINE:
            return np.int64(BAD)
        size += 1
        if size >= lp.FIELD_NAME_BYTES:
            return np.int64(BAD)
    if size == 0 or is_time(body, at, size):
        return np.int64(BAD)
    size += 1
    cells = index.shape[0] - 1
    cell = np.int64((hash_bytes(body, at, size) + U(measurement) * U(0x9E3779B97F4A7C15)) & U(cells))
    while index[cell] >= 0:
        known = np.int64(index[cell])
        if (
            rows[known, lp.F_MEASUREMENT] == measurement
            and rows[known, lp.F_SIZE] == size
            and same_bytes(body, at, names, known * lp.FIELD_NAME_BYTES, size)
        ):
            return known
        cell = (cell + 1) & cells
    new = head[lp.N_FIELDS]
    # One row stays free: names are compared 64 bytes at a time.
    if new >= rows.shape[0] - 1:
        return np.int64(FULL)
    base = new * lp.FIELD_NAME_BYTES
    for k in range(lp.FIELD_NAME_BYTES):
        names[base + k] = body[at + k] if k < size else 0
    mask0 = ~U(0) if size >= 8 else (U(1) << U(8 * size)) - U(1)
    mask1 = U(0)
    if size > 8:
        mask1 = ~U(0) if size >= 16 else (U(1) << U(8 * (size - 8))) - U(1)
    row = rows[new]
    row[lp.F_MASK0] = np.int64(mask0)
    row[lp.F_WORD0] = np.int64(load_word(body, at) & mask0)
    row[lp.F_MASK1] = np.int64(mask1)
    row[lp.F_WORD1] = np.int64(load_word(body, at + 8) & mask1)
    row[lp.F_SIZE] = size
    row[lp.F_NEXT] = -1
    row[lp.F_VALUES] = 0
    row[lp.F_KINDS] = 0
    row[lp.F_MEASUREMENT] = measurement
    row[lp.F_SIBLING] = tables.measurements[measurement, lp.M_FIELDS]
    tables.measurements[measurement, lp.M_FIELDS] = new
    head[lp.N_FIELDS] = new + 1
    index[cell] = new
    return new
