"""Files as imports: CSV and Parquet, one table of one measurement each, taken whole or refused whole.

Unlike the write formats, an import has no rows to refuse singly: a person waits for the answer and will mend the file.
Statuses follow Arc: 400 when the request does not fit the file (no rows, a bad header, a time that is none), 422 when
the file itself can not be read.

CSV cells have no types, so the narrowest that holds every cell of a column is taken: integer, unsigned, float, boolean,
text. Spaces around a number do not count. An empty cell is null, in a column of text it is empty text; a column without
any content is left out. Parquet decimals become floats and timestamps other than the row's time become integer
microseconds, as Arc does.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import arrow, timeunit
from arc.ingest.columns import TIME_TYPE, Column, Decoded, Kind, Request
from arc.ingest.timeunit import Unit

TIME_FORMATS = {
    "": None,
    "epoch_s": Unit.SECONDS,
    "epoch_ms": Unit.MILLISECONDS,
    "epoch_us": Unit.MICROSECONDS,
    "epoch_ns": Unit.NANOSECONDS,
}
"""The empty format guesses the unit of numbers and reads RFC 3339, ``YYYY-MM-DD HH:MM:SS.f`` and dates."""

COLUMNS_MAX = 4096
"""Columns of one file."""

BYTES_MAX = 1 << 30
"""What one file may come to in memory; a Parquet file of a few kilobytes can hold billions of equal rows."""

_CELLS_FREE = 4_000_000
_BLOCK_BYTES = 1 << 24
_FAILURES = (pa.ArrowException, OSError, ValueError, OverflowError, NotImplementedError)
_ZONED = r"(Z|[+-]\d\d:?\d\d)$"


class Unprocessable(InvalidRequest):
    """The file can not be read, whatever the request says about it."""

    code = "unprocessable"
    status = 422


def decode_csv(
    body: bytes,
    *,
    measurement: str,
    time_column: str = "time",
    time_format: str = "",
    delimiter: str = ",",
    skip_rows: int = 0,
    tags: Collection[str] = (),
) -> Request:
    """Decode a CSV file with a header (RFC 4180; UTF-8, with or without BOM). ``skip_rows`` lines before the header are
    ignored.

    Raises InvalidRequest for a bad header, parameter or time, Unprocessable for a row with more cells than the header
    or text that is not UTF-8, and TooLarge.
    """
    unit = _unit(time_format)
    if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n':
        raise InvalidRequest("delimiter must be one ASCII character, not a quote or the end of a line")
    body = _after_lines(body.removeprefix(b"\xef\xbb\xbf"), skip_rows)
    names = _header(body, delimiter)
    _check_names(names, time_column)
    texts = _texts(body, names, delimiter)
    if texts.num_rows == 0:
        raise InvalidRequest("the file has a header and no rows")
    time = _time(texts.column(time_column), unit)
    columns = [_typed(name, arrow.one_array(texts.column(name)), name in tags) for name in names if name != time_column]
    return Request((Decoded(measurement=measurement, time=time, columns=tuple(columns)),))


def decode_parquet(
    body: bytes,
    *,
    measurement: str,
    time_column: str = "time",
    time_format: str = "",
    tags: Collection[str] = (),
    bytes_max: int = BYTES_MAX,
) -> Request:
    """Decode a Parquet file.

    Raises InvalidRequest for a bad column name or time, Unprocessable for a damaged file or a type that can not be
    stored, and TooLarge when it would come to more than ``bytes_max``.
    """
    unit = _unit(time_format)
    try:
        table = _read_parquet(body, time_column, bytes_max)
    except InvalidRequest:
        raise
    except _FAILURES as error:
        raise Unprocessable(f"the body is not a readable Parquet file: {str(error)[:300]}") from error
    if table.num_rows == 0:
        raise InvalidRequest("the file has no rows")
    return _decoded(table, measurement, time_column, unit, tags, bytes_max, "the body is not a readable Parquet file")


def decode_table(
    table: pa.Table, *, measurement: str, tags: Collection[str] = (), bytes_max: int = BYTES_MAX
) -> Request:
    """Take rows that this node made itself, a query's result, by the rules for Parquet. ``time`` is a column of it.

    Raises InvalidRequest for a bad column name or time, Unprocessable for a type that can not be stored, and TooLarge.
    """
    _check_names(table.column_names, "time")
    for field in table.schema:
        if field.name != "time":
            _check_type(field.name, field.type)
    return _decoded(table, measurement, "time", None, tags, bytes_max, "the rows can not be stored")


def _decoded(
    table: pa.Table,
    measurement: str,
    time_column: str,
    unit: Unit | None,
    tags: Collection[str],
    bytes_max: int,
    failure: str,
) -> Request:
    try:
        columns = [
            _converted(name, arrow.one_array(table.column(name)), name in tags, bytes_max)
            for name in table.column_names
            if name != time_column
        ]
    except InvalidRequest:
        raise
    except _FAILURES as error:
        raise Unprocessable(f"{failure}: {str(error)[:300]}") from error
    time = _time(table.column(time_column), unit)
    return Request((Decoded(measurement=measurement, time=time, columns=tuple(columns)),))


def _unit(time_format: str) -> Unit | None:
    if time_format not in TIME_FORMATS:
        raise InvalidRequest(f"time_format is none of {', '.join(filter(None, TIME_FORMATS))}: {time_format[:40]!r}")
    return TIME_FORMATS[time_format]


def _check_names(names: Sequence[str], time_column: str) -> None:
    if len(names) > COLUMNS_MAX:
        raise TooLarge(f"the file has {len(names)} columns; {COLUMNS_MAX} are allowed")
    seen: set[str] = set()
    for name in names:
        if not name:
            raise InvalidRequest("a column has no name")
        if name in seen:
            raise InvalidRequest(f'two columns are called "{name}"')
        seen.add(name)
    if time_column not in seen:
        raise InvalidRequest(f'there is no time column "{time_column}"')
    if time_column != "time" and "time" in seen:
        raise InvalidRequest(f'the time is in "{time_column}", so no other column can be called "time"')


def _after_lines(body: bytes, count: int) -> bytes:
    if count < 0:
        raise InvalidRequest("skip_rows must not be negative")
    start = 0
    for _ in range(count):
        end = body.find(b"\n", start)
        if end < 0:
            raise InvalidRequest(f"skip_rows skips {count} lines and the file has fewer")
        start = end + 1
    return body[start:]


def _header(body: bytes, delimiter: str) -> list[str]:
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(body), "utf-8", newline=""), delimiter=delimiter, strict=True)
    try:
        for row in rows:
            if row:
                return row
    except csv.Error as error:
        raise InvalidRequest(f"the header can not be read: {error}") from error
    except UnicodeDecodeError as error:
        raise Unprocessable(f"the CSV is not UTF-8: {error}") from error
    raise InvalidRequest("the file is empty")


def _texts(body: bytes, names: list[str], delimiter: str) -> pa.Table:
    """Every cell as text.

    Rows shorter than the header, which the fast reader knows only as errors, are padded by the slow one.
    """
    ragged: list[int] = []

    def on_bad_row(row: pa.csv.InvalidRow) -> str:
        if row.actual_columns > row.expected_columns:
            return "error"
        ragged.append(row.actual_columns)
        return "skip"

    try:
        table = pa.csv.read_csv(
            pa.BufferReader(body),
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK_BYTES),
            parse_options=pa.csv.ParseOptions(
                delimiter=delimiter, newlines_in_values=True, invalid_row_handler=on_bad_row
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.utf8()), strings_can_be_null=False
            ),
        )
    except _FAILURES as error:
        raise Unprocessable(f"the CSV can not be read: {str(error)[:300]}") from error
    return _padded_texts(body, names, delimiter) if ragged or table.column_names != names else table


def _padded_texts(body: bytes, names: list[str], delimiter: str) -> pa.Table:
    cells_free = len(body) + _CELLS_FREE
    columns: list[list[str]] = [[] for _ in names]
    rows = csv.reader(io.TextIOWrapper(io.BytesIO(body), "utf-8", newline=""), delimiter=delimiter, strict=True)
    try:
        for number, row in enumerate(filter(None, rows)):
            if number == 0:
                continue
            if len(row) > len(names):
                raise Unprocessable(f"row {number} has {len(row)} cells and the header {len(names)}")
            cells_free -= len(names)
            if cells_free < 0:
                raise TooLarge("the rows are much shorter than the header: padded, they would grow many times")
            for column, cell in zip(columns, row + [""] * (len(names) - len(row)), strict=True):
                column.append(cell)
    except (csv.Error, UnicodeDecodeError) as error:
        raise Unprocessable(f"the CSV can not be read: {error}") from error
    return pa.table({name: pa.array(column, pa.utf8()) for name, column in zip(names, columns, strict=True)})


def _typed(name: str, texts: pa.Array, is_tag: bool) -> Column:
    if is_tag:
        return Column(name, Kind.TAG, _nulled(texts))
    trimmed = _nulled(pc.ascii_trim_whitespace(texts))
    if trimmed.null_count == len(trimmed):
        return Column(name, Kind.STRING, pa.nulls(len(texts), pa.utf8()))
    for kind in (Kind.INTEGER, Kind.UNSIGNED, Kind.FLOAT, Kind.BOOLEAN):
        if kind in (Kind.INTEGER, Kind.UNSIGNED) and not _all_match(trimmed, "^-?[0-9]+$"):
            continue  # the library would also take hexadecimal
        try:
            return Column(name, kind, trimmed.cast(kind.arrow))
        except pa.ArrowInvalid:
            continue
    return Column(name, Kind.STRING, texts)


def _nulled(texts: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.utf8()), texts)


def _all_match(texts: pa.Array, pattern: str) -> bool:
    return pc.all(pc.match_substring_regex(texts, pattern)).as_py() is not False


def _time(chunked: pa.ChunkedArray, unit: Unit | None) -> pa.Array:
    """The time column as int64 microseconds. Raises InvalidRequest naming the first row that is none."""
    given = arrow.one_array(chunked)
    if _is_text(given.type):
        given = pc.utf8_trim_whitespace(given.cast(pa.utf8()))
        given = _nulled(given)
    if given.null_count:
        row = int(np.argmax(given.is_null().to_numpy(zero_copy_only=False)))
        raise InvalidRequest(f"row {row + 1} has no time")
    try:
        if pa.types.is_timestamp(given.type):
            named = Unit(given.type.unit)
            return pa.array(timeunit.ints_to_us(given.view(pa.int64()).to_numpy(), named))
        if _is_text(given.type):
            if unit is None and not _all_match(given, r"^[+-]?[0-9]+(\.[0-9]+)?$"):
                return _parsed_times(given)
            given = given.cast(pa.int64() if _all_match(given, "^-?[0-9]+$") else pa.float64())
        return _numbers_to_us(given, unit)
    except timeunit.OutOfRange as error:
        raise InvalidRequest(str(error)) from error
    except _FAILURES as error:
        raise InvalidRequest(f"the time column can not be read as times: {str(error)[:200]}") from error


def _numbers_to_us(given: pa.Array, unit: Unit | None) -> pa.Array:
    if pa.types.is_integer(given.type):
        numbers = given.cast(pa.int64()).to_numpy()
        return pa.array(timeunit.ints_to_us(numbers, unit or timeunit.guess(int(numbers[0]))))
    if pa.types.is_floating(given.type):
        floats: list[float] = given.cast(pa.float64()).to_pylist()
        known = unit or timeunit.guess(floats[0])
        return pa.array([timeunit.one_to_us(value, known) for value in floats], pa.int64())
    raise InvalidRequest(f"the time column is of type {given.type}")


def _parsed_times(texts: pa.Array) -> pa.Array:
    """Written times. Without a zone they are UTC; digits below the microsecond are cut, which is rounding down."""
    texts = pc.replace_substring_regex(pc.utf8_upper(texts), r"(\.\d{6})\d+", r"\1")
    zoned = pc.match_substring_regex(texts, r"\d\d:\d\d.*" + _ZONED)
    nothing = pa.scalar(None, pa.utf8())
    with_zone = pc.if_else(zoned, texts, nothing).cast(TIME_TYPE)
    without = pc.if_else(zoned, nothing, texts).cast(pa.timestamp("us")).view(pa.int64())
    return pc.coalesce(with_zone.view(pa.int64()), without)


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_))


def _read_parquet(body: bytes, time_column: str, bytes_max: int) -> pa.Table:
    file = pq.ParquetFile(pa.BufferReader(body))
    schema = file.schema_arrow
    _check_names(schema.names, time_column)
    for field in schema:
        if field.name != time_column:
            _check_type(field.name, field.type)
    if file.metadata.num_rows * 8 * len(schema) > bytes_max:
        raise TooLarge(f"the file has {file.metadata.num_rows} rows, which pass {bytes_max} bytes in memory")
    # Text is kept as codes into its dictionary, so that one long text in many rows does not unfold while it is read.
    coded = [field.name for field in schema if _is_text(field.type) and field.name != time_column]
    table = pq.ParquetFile(pa.BufferReader(body), read_dictionary=coded).read(use_threads=False)
    table.validate(full=True)
    return table


def _check_type(name: str, type_: pa.DataType) -> None:
    if _is_binary(type_) or pa.types.is_decimal(type_) or pa.types.is_timestamp(type_):
        return
    try:
        arrow.kind_of(name, type_, is_tag=False)
    except InvalidRequest as error:
        raise Unprocessable(error.message) from error


def _is_binary(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type_) or pa.types.is_large_binary(type_) or pa.types.is_fixed_size_binary(type_)
    ) and not pa.types.is_decimal(type_)


def _converted(name: str, given: pa.Array, is_tag: bool, bytes_max: int) -> Column:
    if _is_binary(given.type):
        given = given.cast(pa.binary()).cast(pa.utf8())
    elif pa.types.is_decimal(given.type):
        given = given.cast(pa.float64())
    elif pa.types.is_timestamp(given.type):
        given = _timestamps_as_integers(given)
    return arrow.column(name, given, is_tag, bytes_max)


def _timestamps_as_integers(given: pa.Array) -> pa.Array:
    unit = Unit(given.type.unit)
    us = timeunit.ints_to_us(given.view(pa.int64()).fill_null(0).to_numpy(), unit)
    return pa.array(us, mask=given.is_null().to_numpy(zero_copy_only=False))
