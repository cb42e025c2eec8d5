"""Line protocol without a compiler: whole bodies of one shape, decoded by numpy and Arrow's CSV reader.

A body qualifies when every line has the measurement, the tag keys and the field keys of the first one, in its order,
each field in the type it has there, and when nothing is escaped or quoted. Then the separators of every line are the
same and the rest is a table. What qualifies is proven, not guessed, and whatever is not gives None: the exact parser
takes over.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as csv

from arc.ingest.columns import Column, Decoded, Kind, Request
from arc.ingest.lineprotocol import TIME_US_MAX, LineRefused, Point, Unit, parse_line
from arc.ingest.lp_rows import TAG_TYPE, column_order

Places = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]

_SEPARATORS = bytes.maketrans(bytes(range(256)), bytes(c in b",= \n" for c in range(256)))
_UNIT_SEPARATOR = 0x1F
_UNUSUAL = (b'"', b"\\", b"\r", b"\t", b"\0", bytes([_UNIT_SEPARATOR]))
_SUFFIX = {Kind.INTEGER: ord("i"), Kind.UNSIGNED: ord("u")}

_COLUMNS = {Kind.TAG: TAG_TYPE, Kind.FLOAT: pa.float64(), Kind.INTEGER: pa.int64(), Kind.UNSIGNED: pa.uint64()}


def decode_uniform(body: bytes, unit: Unit, now_us: int) -> Request | None:
    """Decode a body whose lines all have one shape; None when that is not certain."""
    if any(unusual in body for unusual in _UNUSUAL):
        return None
    if not body.endswith(b"\n"):
        body += b"\n"
    first = body[: body.index(b"\n") + 1]
    try:
        point = parse_line(first[:-1], unit) if first[:1] != b"#" else None
    except LineRefused:
        return None
    if point is None or not all(kind in _COLUMNS for kind, _ in point.fields.values()):
        return None
    text = np.frombuffer(body, np.uint8)
    ends = np.flatnonzero(np.frombuffer(body.translate(_SEPARATORS), np.bool_))
    tokens = sum(first.count(separator) for separator in (b",", b"=", b" ", b"\n"))
    names = [(name, Kind.TAG) for name, _ in point.tags] + [(name, kind) for name, (kind, _) in point.fields.items()]
    # Tokens: measurement, then key and value in turn, then perhaps the timestamp.
    if len(ends) % tokens or tokens not in (1 + 2 * len(names), 2 + 2 * len(names)):
        return None
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    # A row for each token, a column for each line.
    starts, ends = (np.ascontiguousarray(places.reshape(-1, tokens).T) for places in (starts, ends))
    if not (text[ends] == text[ends[:, :1]]).all() or not (ends > starts).all():
        return None
    words = np.ndarray((len(text) - 7,), np.dtype("<u8"), text.data, strides=(1,)) if len(text) > 7 else None
    keys = (0, *range(1, 2 * len(names), 2))
    if words is None or not all(_same_token(words, starts[at], ends[at]) for at in keys):
        return None
    return _read(text, starts, ends, point, names, unit, now_us)


def _same_token(words: Words, starts: Places, ends: Places) -> bool:
    """Whether a token has the same bytes in every line; ``words[k]`` are the eight bytes at k, at any alignment."""
    size = int(ends[0] - starts[0])
    if not (ends - starts == size).all():
        return False
    if size < 8:
        # Back from the end where there are not eight bytes ahead; then the token is the upper part of the word.
        if starts[-1] < len(words):
            found = words[starts] << np.uint64(64 - 8 * size)
        elif ends[0] >= 8:
            found = words[ends - 8] >> np.uint64(64 - 8 * size)
        else:
            return False
        return bool((found == found[0]).all())
    for at in (*range(0, size - 8, 8), size - 8):
        found = words[starts + at]
        if not (found == found[0]).all():
            return False
    return True


def _read(
    text: Bytes,
    starts: Places,
    ends: Places,
    point: Point,
    names: list[tuple[str, Kind]],
    unit: Unit,
    now_us: int,
) -> Request | None:
    tokens, rows = ends.shape
    timed = tokens > 1 + 2 * len(names)
    table = text.copy()
    table[ends[:-1]] = _UNIT_SEPARATOR
    types = {}
    for index, (_, kind) in enumerate(names):
        token = 2 + 2 * index
        types[str(token)] = _COLUMNS[kind]
        if kind is not Kind.TAG and _any_foreign_spelling(text, starts[token]):
            return None
        if kind in _SUFFIX:
            last = ends[token] - 1
            if not (text[last] == _SUFFIX[kind]).all():
                return None
            table[last] = 32  # the reader trims blanks around numbers
    if timed:
        types[str(tokens - 1)] = pa.int64()
        if _any_foreign_spelling(text, starts[-1]):
            return None
    try:
        read = csv.read_csv(
            pa.BufferReader(pa.py_buffer(table)),
            csv.ReadOptions(use_threads=False, block_size=len(table) + 1, column_names=[str(k) for k in range(tokens)]),
            csv.ParseOptions(delimiter=chr(_UNIT_SEPARATOR), quote_char=False),
            csv.ConvertOptions(column_types=types, include_columns=list(types), null_values=[]),
        )
    except pa.ArrowInvalid:
        return None
    columns = {}
    for (name, kind), column in zip(names, read.columns, strict=False):
        values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if kind is Kind.FLOAT and not np.isfinite(values.to_numpy()).all():
            return None
        columns[name, kind] = values
    if len(columns) != len(names) or read.num_rows != rows:
        return None
    time = np.full(rows, now_us, np.int64)
    if timed:
        written = read.columns[-1].combine_chunks().to_numpy()
        limit = TIME_US_MAX * unit.divide // unit.multiply
        if written.max() > limit or written.min() < -limit:
            return None
        time = written // unit.divide if unit.divide > 1 else written * unit.multiply
    batch = Decoded(
        measurement=point.measurement,
        time=pa.array(time, pa.int64()),
        columns=tuple(Column(*key, columns[key]) for key in sorted(columns, key=column_order)),
        lines=pa.array(np.arange(1, rows + 1, dtype=np.int32)),
    )
    return Request((batch,), ())


def _any_foreign_spelling(text: Bytes, starts: Places) -> bool:
    """Whether Arrow might read a number that starts here, but line protocol would not: ``+1``, ``0x1`` or ``inf``."""
    first, second, third = (text[np.minimum(starts + k, len(text) - 1)] for k in range(3))
    is_known = ((first >= ord("0")) & (first <= ord("9"))) | (first == ord("-")) | (first == ord("."))
    return bool((~is_known | (second | 32 == ord("x")) | (third | 32 == ord("x"))).any())
