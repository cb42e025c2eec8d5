"""MessagePack: one map with ``success, columns, types, data, row_count, execution_time_ms, timestamp``; ``data`` is
columnar.

A column's length stands before its values, so all rows must be there before the first byte: every batch is encoded at
once, column by column, and kept up to a limit, beyond which the caller is told to take JSON or Arrow, which stream.

The keys and the names in ``types`` are Arc's (reference arc-data-plane 2.5). Integers are sent as int64 or uint64 and
floats as float64 whatever their value: a reader's decoder takes any width, and equal widths can be written by numpy
in one go. Timestamps are integers in the unit that their type names, counted from 1970 UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgpack
import numpy as np
import pyarrow as pa

from arc.errors import TooLarge
from arc.query.results import Summary

COMPILED_ROWS_MIN = 512
"""Smaller batches are not worth loading the kernel for."""

PackTexts = Callable[[pa.Array], bytes]

_NIL = 0xC0


class MsgpackEncoder:
    """One result as one map. Nothing is sent before everything is known."""

    content_type = "application/msgpack"

    def __init__(self, *, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._pack_texts: PackTexts | None = None
        self._schema = pa.schema([])
        self._columns: list[list[bytes]] = []

    def head(self, schema: pa.Schema) -> bytes:
        """Nothing yet."""
        self._schema = schema
        self._columns = [[] for _ in schema]
        return b""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """Nothing yet. Raises TooLarge when the result passes the limit."""
        if batch.num_rows >= COMPILED_ROWS_MIN and self._pack_texts is None:
            self._pack_texts = load_pack_texts()
        for kept, column in zip(self._columns, batch.columns, strict=True):
            encoded = encode_values(column, self._pack_texts)
            self._bytes += len(encoded)
            kept.append(encoded)
        if self._bytes > self._bytes_max:
            raise TooLarge(
                f"a MessagePack result must be held whole and is limited to {self._bytes_max} bytes; "
                "narrow the query, or ask for JSON or Arrow, which stream",
                code="result_too_large",
            )
        return b""

    def tail(self, summary: Summary) -> Sequence[bytes]:
        """The whole map in pieces."""
        rest: dict[str, object] = {
            "row_count": summary.row_count,
            "execution_time_ms": summary.execution_time_ms,
            "timestamp": summary.timestamp,
        }
        if summary.profile is not None:
            rest["profile"] = summary.profile
        packer = msgpack.Packer()
        start: list[bytes] = [packer.pack_map_header(4 + len(rest))]
        for key, value in (
            ("success", True),
            ("columns", self._schema.names),
            ("types", [type_name(field.type) for field in self._schema]),
        ):
            start += (packer.pack(key), packer.pack(value))
        start += (packer.pack("data"), packer.pack_array_header(len(self._columns)))
        pieces = [b"".join(start)]
        for kept in self._columns:
            pieces.append(packer.pack_array_header(summary.row_count))
            pieces.extend(kept)
        pieces.append(b"".join(packer.pack(item) for pair in rest.items() for item in pair))
        return pieces


def type_name(kind: pa.DataType) -> str:
    """A primitive type's name in Arc's vocabulary."""
    if pa.types.is_timestamp(kind):
        return f"timestamp[{kind.unit}]"
    return _TYPE_NAMES.get(str(kind), str(kind))


_TYPE_NAMES = {"float": "float32", "double": "float64", "string": "utf8"}


def encode_values(column: pa.Array, pack_texts: PackTexts | None = None) -> bytes:
    """The values of a primitive column one after another, without an array header."""
    kind = column.type
    if len(column) == 0:
        return b""
    if pa.types.is_string(kind):
        return _strings(column) if pack_texts is None else pack_texts(column)
    if pa.types.is_boolean(kind):
        flags = np.where(column.fill_null(False).to_numpy(zero_copy_only=False), 0xC3, 0xC2).astype(np.uint8)
        flags[_nulls(column)] = _NIL
        return flags.tobytes()
    if pa.types.is_timestamp(kind):
        return _numbers(column.view(pa.int64()), 0xD3, ">i8")
    if pa.types.is_float32(kind):
        return _numbers(column, 0xCA, ">f4")
    if pa.types.is_floating(kind):
        return _numbers(column, 0xCB, ">f8")
    unsigned = pa.types.is_unsigned_integer(kind)
    return _numbers(column, 0xCF if unsigned else 0xD3, ">u8" if unsigned else ">i8")


def load_pack_texts() -> PackTexts | None:
    """The compiled way for strings, None without numba. The first call in a process takes time."""
    try:
        from arc.query import msgpack_kernel
    except ImportError:
        return None

    def pack_texts(column: pa.Array) -> bytes:
        validity, offsets, data = column.buffers()
        rows = len(column)
        ends = np.frombuffer(offsets, np.int32)
        size = int(ends[column.offset + rows]) - int(ends[column.offset])
        out = np.empty(size + msgpack_kernel.HEADER_BYTES_MAX * rows, np.uint8)
        written = msgpack_kernel.pack_texts(
            0 if data is None else data.address,
            offsets.address + 4 * column.offset,
            validity.address if column.null_count else 0,
            column.offset,
            rows,
            out,
        )
        return out[:written].tobytes()

    return pack_texts


def warm() -> bool:
    """Compile or load the kernel, so that no query has to wait for it. Takes seconds: for a worker. False without
    numba."""
    return load_pack_texts() is not None


def _nulls(column: pa.Array) -> np.ndarray:
    found: np.ndarray = column.is_null().to_numpy(zero_copy_only=False)
    return found


def _numbers(column: pa.Array, marker: int, form: str) -> bytes:
    """A marker byte and a big-endian number per value; a null is one byte, so its row is cut to that."""
    cells = np.empty(len(column), np.dtype([("marker", "u1"), ("value", form)]))
    cells["marker"] = marker
    cells["value"] = (column.fill_null(0) if column.null_count else column).to_numpy(zero_copy_only=False)
    if column.null_count == 0:
        return cells.tobytes()
    nulls = _nulls(column)
    cells["marker"][nulls] = _NIL
    octets = cells.view(np.uint8).reshape(len(column), cells.itemsize)
    kept = np.ones(octets.shape, np.bool_)
    kept[nulls, 1:] = False
    return octets[kept].tobytes()


def _strings(column: pa.Array) -> bytes:
    """Each distinct value is packed once; Arrow's ``take`` then lays the packed values one after another."""
    encoded = column.dictionary_encode()
    pack: Callable[[str], bytes] = msgpack.Packer().pack
    packed = [pack(value) for value in encoded.dictionary.to_pylist()]
    indices = encoded.indices
    if column.null_count:
        indices = indices.fill_null(len(packed))
        packed.append(bytes([_NIL]))
    laid = pa.array(packed, pa.large_binary()).take(indices)
    _, offsets, data = laid.buffers()
    ends = np.frombuffer(offsets, np.int64)
    # After `take` the array starts at 0; asserted because slicing the buffer below depends on it.
    assert laid.offset == 0
    packed_values: bytes = data[int(ends[0]) : int(ends[len(laid)])].to_pybytes()
    return packed_values
