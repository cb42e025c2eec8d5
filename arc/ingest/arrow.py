"""Arrow IPC streams as write requests: columns that already are columns, taken over without a copy where they fit.

The stream is somebody else's bytes and the library trusts them: offsets may point anywhere, text may be no text, a
compressed buffer may say it becomes a terabyte. So what the messages claim is added up before anything is inflated,
types are checked before any batch is read, and every batch is validated whole before its first use. What grows when it
is unpacked (one long text shared by many rows) is measured before it is.

Where rows go is said by the request, or by the stream's schema metadata: ``arc.measurement``, ``arc.database`` and
``arc.tags`` (the names of tag columns, joined by commas). The request wins. ``time`` is a timestamp of any unit and
zone, or an integer whose unit is guessed from the first value as in the other formats; a row whose time is null is
refused, a stream without ``time`` gets the time of its arrival. Binary, nested, decimal and other temporal columns are
refused by name.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import timeunit
from arc.ingest.columns import Column, Decoded, Kind, Refused, Request
from arc.ingest.timeunit import Unit

COLUMNS_MAX = 4096
"""Columns of one stream."""

BATCHES_MAX = 10_000
"""Messages of one stream: each costs tens of microseconds however small it is."""

INFLATED_BYTES_MAX = 1 << 28
"""What the buffers of one stream may come to, uncompressed."""

REFUSED_MAX = 10_000
"""More rows without a time and the request is refused as a whole."""

_FAILURES = (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError, struct.error)
_VIEW_BYTES = 16


def decode(
    body: bytes,
    *,
    measurement: str | None = None,
    tags: Sequence[str] | None = None,
    now_us: int,
    inflated_bytes_max: int = INFLATED_BYTES_MAX,
) -> tuple[str | None, Request]:
    """Decode one stream. Returns the database its metadata names (or None) and the rows; their line numbers are row
    numbers.

    ``measurement`` and ``tags`` override the metadata. Arrays may share memory with ``body``.

    Raises InvalidRequest for a stream that is damaged or holds types that can not be stored, TooLarge when it would
    inflate beyond ``inflated_bytes_max``.
    """
    try:
        _check_sizes(body, inflated_bytes_max)
        with ipc.open_stream(body, options=_options()) as reader:
            target = _target(reader.schema, measurement, tags)
            _check_schema(reader.schema, target.tags)
            table = pa.Table.from_batches(_validated(reader, inflated_bytes_max), schema=reader.schema)
        request = _request(table, target, now_us, inflated_bytes_max)
    except (InvalidRequest, timeunit.OutOfRange) as error:
        raise error if isinstance(error, InvalidRequest) else InvalidRequest(str(error)) from error
    except _FAILURES as error:
        raise InvalidRequest(f"the body is not a valid Arrow IPC stream: {str(error)[:300]}") from error
    return target.database, request


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where the rows go."""

    database: str | None
    measurement: str
    tags: frozenset[str]


def _options() -> ipc.IpcReadOptions:
    # A hostile stream may put 8-byte values at odd addresses; those buffers alone are copied.
    return ipc.IpcReadOptions(use_threads=False, ensure_alignment=ipc.Alignment.DataTypeSpecific)


def _target(schema: pa.Schema, measurement: str | None, tags: Sequence[str] | None) -> _Target:
    metadata = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items() if key[:4] == b"arc."}
    name = measurement or metadata.get("arc.measurement")
    if not name:
        raise InvalidRequest("no measurement: neither the request nor the schema metadata arc.measurement names one")
    joined = metadata.get("arc.tags", "")
    chosen = tags if tags is not None else [tag.strip() for tag in joined.split(",") if tag.strip()]
    return _Target(database=metadata.get("arc.database") or None, measurement=name, tags=frozenset(chosen))


def _check_schema(schema: pa.Schema, tags: frozenset[str]) -> None:
    if len(schema) > COLUMNS_MAX:
        raise TooLarge(f"the stream has {len(schema)} columns; {COLUMNS_MAX} are allowed")
    seen: set[str] = set()
    for field in schema:
        if field.name in seen:
            raise InvalidRequest(f'two columns are called "{field.name}"')
        seen.add(field.name)
        if field.name == "time":
            if not pa.types.is_timestamp(field.type) and not pa.types.is_integer(field.type):
                raise InvalidRequest(f'column "time" is of type {field.type}; a timestamp or an integer is needed')
        else:
            kind_of(field.name, field.type, is_tag=field.name in tags)


def kind_of(name: str, type_: pa.DataType, *, is_tag: bool) -> Kind:
    """The kind a column of this Arrow type is stored as. Raises InvalidRequest for types that are not stored."""
    value_type = type_.value_type if pa.types.is_dictionary(type_) else type_
    if _is_text(value_type) or pa.types.is_null(value_type):
        return Kind.TAG if is_tag else Kind.STRING
    if is_tag:
        raise InvalidRequest(f'the tag column "{name}" is of type {type_}; text is needed')
    if not pa.types.is_dictionary(type_):
        if pa.types.is_uint64(type_):
            return Kind.UNSIGNED
        if pa.types.is_integer(type_):
            return Kind.INTEGER
        if pa.types.is_floating(type_):
            return Kind.FLOAT
        if pa.types.is_boolean(type_):
            return Kind.BOOLEAN
    raise InvalidRequest(f'column "{name}" is of type {type_}, which can not be stored')


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _validated(reader: ipc.RecordBatchStreamReader, bytes_max: int) -> Iterator[pa.RecordBatch]:
    rows = 0
    for batch in reader:
        rows += batch.num_rows  # a column of nulls has no buffers: its length is a mere claim
        if rows * 8 > bytes_max:
            raise TooLarge(f"the stream has {rows} rows, which pass {bytes_max} bytes by their times alone")
        batch.validate(full=True)
        yield pa.RecordBatch.from_arrays([_without_noise(column) for column in batch.columns], schema=batch.schema)


def _without_noise(given: pa.Array) -> pa.Array:
    """The same with zeros in the slots of nulls.

    Validation leaves out what a null hides, but casting views and unifying dictionaries reads it: found by fuzzing, as
    a crash.
    """
    if isinstance(given, pa.DictionaryArray):
        indices, dictionary = given.indices, given.dictionary
        if indices.null_count:
            indices = _zeroed(indices, indices.type.bit_width // 8)
        return pa.DictionaryArray.from_arrays(indices, _without_noise(dictionary), ordered=given.type.ordered)
    if pa.types.is_string_view(given.type) and given.null_count:
        return _zeroed(given, _VIEW_BYTES)
    return given


def _zeroed(given: pa.Array, width: int) -> pa.Array:
    validity, slots, *others = given.buffers()
    first, last = given.offset, given.offset + len(given)
    clean = np.zeros((last, width), np.uint8)
    clean[first:] = np.frombuffer(slots, np.uint8, count=last * width).reshape(last, width)[first:]
    clean[first:][given.is_null().to_numpy(zero_copy_only=False)] = 0
    return pa.Array.from_buffers(given.type, len(given), [validity, pa.py_buffer(clean), *others], -1, given.offset)


def _request(table: pa.Table, target: _Target, now_us: int, bytes_max: int) -> Request:
    lines: pa.Array | None = None
    refused: tuple[Refused, ...] = ()
    if "time" in table.column_names and table.column("time").null_count:
        missing = table.column("time").is_null().to_numpy()
        refused = _without_time(target.measurement, missing)
        lines = pa.array((np.flatnonzero(~missing) + 1).astype(np.int32))
        table = table.filter(pa.array(~missing))
    if table.num_rows == 0:
        return Request((), refused)
    columns = []
    for name in table.column_names:
        if name != "time":
            columns.append(column(name, one_array(table.column(name)), name in target.tags, bytes_max))
    time = _time(table, now_us)
    return Request(
        (Decoded(measurement=target.measurement, time=time, columns=tuple(columns), lines=lines),), tuple(refused)
    )


def _without_time(measurement: str, missing: np.ndarray) -> tuple[Refused, ...]:
    rows = np.flatnonzero(missing).tolist()
    if len(rows) > REFUSED_MAX:
        raise InvalidRequest(f"{len(rows)} rows have no time")
    return tuple(Refused(row + 1, measurement, "time is null") for row in rows)


def _time(table: pa.Table, now_us: int) -> pa.Array:
    if "time" not in table.column_names:
        return pa.array(np.full(table.num_rows, now_us, np.int64))
    given = one_array(table.column("time"))
    if pa.types.is_timestamp(given.type):
        unit, numbers = Unit(given.type.unit), given.view(pa.int64())
    else:
        numbers = given.cast(pa.int64())
        unit = timeunit.guess(numbers[0].as_py())
    us = timeunit.ints_to_us(numbers.to_numpy(), unit)
    return numbers if unit is Unit.MICROSECONDS else pa.array(us)


def one_array(chunked: pa.ChunkedArray) -> pa.Array:
    """The chunks as one array; a single chunk is returned as it is."""
    if chunked.num_chunks == 1:
        return chunked.chunk(0)
    if pa.types.is_dictionary(chunked.type):
        chunked = chunked.unify_dictionaries()
    whole = chunked.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def column(name: str, given: pa.Array, is_tag: bool, bytes_max: int) -> Column:
    """A validated array as a column of its kind.

    Raises InvalidRequest, and TooLarge when its text would pass ``bytes_max``.
    """
    kind = kind_of(name, given.type, is_tag=is_tag)
    if isinstance(given, pa.DictionaryArray):
        if is_tag:
            return Column(name, kind, _clean_dictionary(given, bytes_max))
        _check_expansion(
            name, given.indices, pc.binary_length(_plain_text(given.dictionary, name, bytes_max)), bytes_max
        )
        given = given.dictionary_decode()
    if pa.types.is_null(given.type):
        return Column(name, kind, pa.nulls(len(given), pa.utf8()))
    if _is_text(given.type):
        return Column(name, kind, _plain_text(given, name, bytes_max))
    return Column(name, kind, given if given.type == kind.arrow else given.cast(kind.arrow))


def _clean_dictionary(given: pa.DictionaryArray, bytes_max: int) -> pa.DictionaryArray:
    """Codes of int32 into utf8 values, all different and not null, whatever the sender's dictionary is like."""
    values = _plain_text(given.dictionary, "dictionary", bytes_max)
    indices = given.indices if given.indices.type == pa.int32() else given.indices.cast(pa.int32())
    if values.null_count or pc.count_distinct(values).as_py() != len(values):
        clean = values.dictionary_encode()
        values, indices = clean.dictionary, clean.indices.take(indices)
    return pa.DictionaryArray.from_arrays(indices, values)


def _plain_text(given: pa.Array, name: str, bytes_max: int) -> pa.Array:
    """The same as utf8.

    Views of one long text may overlap, so their lengths are added up before they are copied apart.
    """
    if pa.types.is_string(given.type):
        return given
    if pa.types.is_string_view(given.type):
        last = given.offset + len(given)
        lengths = np.frombuffer(given.buffers()[1], np.int32, count=4 * last)[::4][given.offset :]
        if int(lengths.sum(dtype=np.int64)) > bytes_max:
            raise TooLarge(f'column "{name}" holds more than {bytes_max} bytes of text')
    return given.cast(pa.utf8())


def _check_expansion(name: str, indices: pa.Array, lengths: pa.Array, bytes_max: int) -> None:
    total = pc.sum(lengths.cast(pa.int64()).take(indices)).as_py() or 0
    if total > bytes_max:
        raise TooLarge(f'column "{name}" holds more than {bytes_max} bytes of text')


def _check_sizes(body: bytes, bytes_max: int) -> None:
    """Add up what the messages say their buffers come to. Inflates nothing; raises TooLarge.

    Layout: Arrow's Message.fbs. A compressed buffer begins with its inflated size as int64, -1 meaning that it is not
    compressed.
    """
    total = 0
    for count, message in enumerate(ipc.MessageReader.open_stream(body)):
        if count > BATCHES_MAX:
            raise TooLarge(f"the stream has more than {BATCHES_MAX} messages")
        total += message.body.size if message.body is not None else 0
        if message.type in ("record batch", "dictionary"):
            total += _inflated_bytes(message)
        if total > bytes_max:
            raise TooLarge(f"the stream inflates to more than {bytes_max} bytes")


def _inflated_bytes(message: ipc.Message) -> int:
    metadata = memoryview(message.metadata)
    batch = _field(metadata, _root(metadata), 2)  # Message.header
    if message.type == "dictionary":
        batch = _field(metadata, _follow(metadata, batch), 1)  # DictionaryBatch.data
    table = _follow(metadata, batch)
    if _field(metadata, table, 3) == 0:  # RecordBatch.compression
        return 0
    vector = _follow(metadata, _field(metadata, table, 2))  # RecordBatch.buffers
    (count,) = struct.unpack_from("<I", metadata, vector)
    body = memoryview(message.body)
    total = 0
    for index in range(count):
        offset, length = struct.unpack_from("<qq", metadata, vector + 4 + 16 * index)
        if length >= 8:
            if offset < 0:
                raise InvalidRequest("the body is not a valid Arrow IPC stream: a buffer begins before its message")
            (claimed,) = struct.unpack_from("<q", body, offset)
            total += max(0, claimed)
    return total


def _root(metadata: memoryview) -> int:
    (root,) = struct.unpack_from("<I", metadata, 0)
    return int(root)


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Position of a table's field, 0 when absent; a table points back to its list of field offsets."""
    (back,) = struct.unpack_from("<i", metadata, table)
    listing = table - back
    if listing < 0:
        raise InvalidRequest("the body is not a valid Arrow IPC stream: damaged metadata")
    (size,) = struct.unpack_from("<H", metadata, listing)
    if 4 + 2 * number + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", metadata, listing + 4 + 2 * number)
    return table + offset if offset else 0


def _follow(metadata: memoryview, position: int) -> int:
    if position == 0:
        raise InvalidRequest("the body is not a valid Arrow IPC stream: incomplete metadata")
    (offset,) = struct.unpack_from("<I", metadata, position)
    return position + int(offset)
