"""One WAL record: an accepted batch with everything needed to store it again.

A record is self-contained: database, measurement, the settled columns as an Arrow IPC stream with their schema, the
position, and the idempotency key of its request. A request that touches several measurements becomes several records
in ONE journal group, which the journal keeps or drops as a whole; ``parts_left`` lets a reader of the stream keep
them together too.

The journal below numbers and checksums records; this module only says what is inside one. It does no input or output.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa

from arc.ids import Position
from arc.ports import Buffer

VERSION = 2
VERSION_MIN = 1
"""Records of it have no fingerprint."""
_FIXED = struct.Struct("<BBHIQQq")
"""version, unused, parts left, rows, epoch, sequence, moment in microseconds."""
_PARTS_LEFT = struct.Struct("<H")
_EPOCH = struct.Struct("<Q")
_LENGTHS = struct.Struct("<HHH")
"""Bytes of database, measurement and key, whose UTF-8 follows; then the fingerprint, zeros to a multiple of 8, and the
Arrow stream.
"""
_FINGERPRINT = struct.Struct("<I")

_WRITE_OPTIONS = pa.ipc.IpcWriteOptions(unify_dictionaries=False, emit_dictionary_deltas=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordHeader:
    """What a record says before its columns: enough to skip it, count it, or know it again. ``moment_us`` and
    ``fingerprint`` are those of `ingest.keys.Remembered`.
    """

    position: Position
    database: str
    measurement: str
    rows: int
    parts_left: int
    moment_us: int
    key: str
    fingerprint: int = 0


def encode_columns(batch: pa.RecordBatch) -> pa.Buffer:
    """The batch as an Arrow IPC stream of its own."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_WRITE_OPTIONS) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def encode(header: RecordHeader, columns: pa.Buffer) -> bytes:
    """The bytes of one record. Raises ValueError when a name is longer than 65,535 bytes."""
    database, measurement, key = (text.encode() for text in (header.database, header.measurement, header.key))
    if max(len(database), len(measurement), len(key)) > 0xFFFF:
        raise ValueError("database, measurement and idempotency key must each fit 65,535 bytes of UTF-8")
    names = _LENGTHS.pack(len(database), len(measurement), len(key)) + database + measurement + key
    position = header.position
    fixed = _FIXED.pack(VERSION, 0, header.parts_left, header.rows, position.epoch, position.sequence, header.moment_us)
    head = fixed + names + _FINGERPRINT.pack(header.fingerprint)
    return b"".join((head, bytes(-len(head) % 8), columns))


def decode_header(data: memoryview) -> tuple[RecordHeader, memoryview]:
    """The header, and a view of the Arrow stream behind it. Raises ValueError for a version from the future."""
    version, _, parts_left, rows, epoch, sequence, moment_us = _FIXED.unpack_from(data)
    if not VERSION_MIN <= version <= VERSION:
        raise ValueError(f"WAL record version {version} was written by a newer Arc; this one reads up to {VERSION}")
    lengths = _LENGTHS.unpack_from(data, _FIXED.size)
    cursor = _FIXED.size + _LENGTHS.size
    names = []
    for length in lengths:
        names.append(str(data[cursor : cursor + length], "utf-8"))
        cursor += length
    fingerprint = 0
    if version > VERSION_MIN:
        (fingerprint,) = _FINGERPRINT.unpack_from(data, cursor)
        cursor += _FINGERPRINT.size
    cursor += -cursor % 8
    header = RecordHeader(
        position=Position(epoch, sequence),
        database=names[0],
        measurement=names[1],
        rows=rows,
        parts_left=parts_left,
        moment_us=moment_us,
        key=names[2],
        fingerprint=fingerprint,
    )
    return header, data[cursor:]


def parts_left(data: Buffer) -> int:
    """How many records of the same request follow this one."""
    return int(_PARTS_LEFT.unpack_from(data, 2)[0])


def decode_columns(data: memoryview) -> pa.RecordBatch:
    """The columns of one record; zero-copy views of ``data``. Raises pa.ArrowInvalid."""
    with pa.ipc.open_stream(pa.py_buffer(data)) as reader:
        (batch,) = _exactly_one(reader)
    return batch


class Logged(NamedTuple):
    """A record, taken apart."""

    header: RecordHeader
    batch: pa.RecordBatch
    size_bytes: int
    """What the columns take in the log."""


def decode(data: bytes) -> Logged:
    """The whole record; its columns are views of ``data``. Raises ValueError."""
    header, columns = decode_header(memoryview(data))
    try:
        return Logged(header, decode_columns(columns), len(columns))
    except pa.ArrowInvalid as error:
        raise ValueError(f"the columns of record {header.position} cannot be read: {error}") from error


def epoch_of(data: Buffer) -> int:
    """The epoch that a record was written in."""
    return int(_EPOCH.unpack_from(data, 8)[0])


def _exactly_one(batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch]:
    found = list(batches)
    if len(found) != 1:
        raise pa.ArrowInvalid(f"a WAL record holds one batch, this one {len(found)}")
    return found
