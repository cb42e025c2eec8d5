"""Every format carries the same rows, in primitive types, in pieces, and ends only when it is whole."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime

import msgpack
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.errors import InvalidRequest, TooLarge
from arc.query.narrow import Narrowing
from arc.query.results import CHUNK_BYTES, Encoder
from arc.query.results_arrow import ArrowEncoder
from arc.query.results_csv import CsvEncoder
from arc.query.results_json import JsonEncoder
from arc.query.results_msgpack import MsgpackEncoder, encode_values, load_pack_texts
from arc.query.service import QueryService

EVERYTHING = """
SELECT 7::TINYINT AS i8, 7::UBIGINT AS u64, 1.5::FLOAT AS f32, 2.5::DOUBLE AS f64, true AS flag, 'é"\n' AS text,
  sum(3)::HUGEINT AS huge, 12345.67::DECIMAL(10, 2) AS money, DATE '2026-01-31' AS day,
  TIMESTAMP '2026-01-31 12:00:00.5' AS moment, TIMESTAMPTZ '2026-01-31 12:00:00+02' AS zoned,
  TIMESTAMP_NS '2026-01-31 12:00:00.123456789' AS nanos, TIME '10:20:30' AS clock,
  INTERVAL '14 months 3 days 04:05:06.5' AS span, [1, 2] AS list, {'a': 1, 'b': [DATE '2026-01-01']} AS struct,
  MAP {'k': 1} AS map, 'x'::ENUM('x', 'y') AS choice, '\\x00\\xFFa'::BLOB AS blob, NULL AS nothing,
  'nan'::DOUBLE AS nan, '-infinity'::DOUBLE AS infinite, '{"a":1}'::JSON AS json,
  '5a1f5c5e-0000-4000-8000-000000000000'::UUID AS uuid
"""

AS_JSON = {
    "i8": 7, "u64": 7, "f32": 1.5, "f64": 2.5, "flag": True, "text": 'é"\n', "huge": 3, "money": 12345.67,
    "day": "2026-01-31T00:00:00Z", "moment": "2026-01-31T12:00:00.500000Z", "zoned": "2026-01-31T10:00:00Z",
    "nanos": "2026-01-31T12:00:00.123456789Z", "clock": "10:20:30.000000",
    "span": "1 year 2 months 3 days 04:05:06.5", "list": "[1,2]", "struct": '{"a":1,"b":["2026-01-01"]}',
    "map": '[["k",1]]', "choice": "x", "blob": "\x00\\xffa", "nothing": None, "nan": None, "infinite": None,
    "json": '{"a":1}', "uuid": "5a1f5c5e-0000-4000-8000-000000000000",
}  # fmt: skip


async def encoded(service: QueryService, sql: str, encoder: Encoder) -> list[bytes]:
    async with service.open(sql) as answer:
        return [chunk async for chunk in answer.encoded(encoder)]


async def test_json_carries_every_type_duckdb_has(service: QueryService) -> None:
    document = json.loads(b"".join(await encoded(service, EVERYTHING, JsonEncoder())))
    assert dict(zip(document["columns"], document["data"][0], strict=True)) == AS_JSON


async def test_arrow_has_only_types_that_its_readers_know(service: QueryService) -> None:
    body = b"".join(await encoded(service, EVERYTHING, ArrowEncoder()))
    table = pa.ipc.open_stream(body).read_all()
    names = {str(field.type) for field in table.schema}
    assert names <= {
        "int8", "int64", "int32", "uint64", "float", "double", "bool", "string",
        "timestamp[us]", "timestamp[us, tz=UTC]", "timestamp[ns]",
    }  # fmt: skip
    row = table.to_pydict()
    assert row["huge"] == [3] and row["choice"] == ["x"]
    assert row["zoned"] == [datetime(2026, 1, 31, 10, tzinfo=UTC)]


async def test_msgpack_is_one_columnar_map_with_types(service: QueryService) -> None:
    sql = "SELECT range AS i, range / 2 AS f, 'h' || range AS s, NULLIF(range % 2 = 0, true) AS b, "
    sql += "CASE WHEN range <> 1 THEN range END AS n, to_timestamp(range) AS t FROM range(3) ORDER BY 1"
    document = msgpack.unpackb(b"".join(await encoded(service, sql, MsgpackEncoder(bytes_max=1 << 20))))
    assert list(document)[:5] == ["success", "columns", "types", "data", "row_count"]
    assert document["columns"] == ["i", "f", "s", "b", "n", "t"]
    assert document["types"] == ["int64", "float64", "utf8", "bool", "int64", "timestamp[us]"]
    assert document["data"] == [
        [0, 1, 2], [0.0, 0.5, 1.0], ["h0", "h1", "h2"], [None, False, None], [0, None, 2], [0, 1_000_000, 2_000_000],
    ]  # fmt: skip
    assert document["row_count"] == 3


async def test_msgpack_that_grows_too_large_is_refused_before_its_first_byte(service: QueryService) -> None:
    chunks = 0
    with pytest.raises(TooLarge, match="JSON or Arrow"):
        async with service.open("SELECT range FROM range(1000000)") as answer:
            async for _ in answer.encoded(MsgpackEncoder(bytes_max=100_000)):
                chunks += 1
    assert chunks == 0


async def test_csv_has_a_header_and_tells_null_from_empty(service: QueryService) -> None:
    sql = "SELECT 'a,\"b\"\nc' AS \"x\"\"y\", '' AS empty, NULL::VARCHAR AS nothing, 1.5 AS n, DATE '2026-01-01' AS t"
    text = b"".join(await encoded(service, sql, CsvEncoder())).decode()
    assert text.endswith('"",,1.5,"2026-01-01T00:00:00Z"\n')
    assert list(csv.reader(io.StringIO(text))) == [
        ['x"y', "empty", "nothing", "n", "t"],
        ['a,"b"\nc', "", "", "1.5", "2026-01-01T00:00:00Z"],
    ]


@pytest.mark.parametrize("encoder", [JsonEncoder, ArrowEncoder, CsvEncoder, lambda: MsgpackEncoder(bytes_max=1 << 20)])
async def test_an_empty_result_is_a_whole_document(service: QueryService, encoder: type[Encoder]) -> None:
    made = encoder()
    body = b"".join(await encoded(service, "SELECT 1 AS a, 'x' AS b WHERE false", made))
    match made:
        case JsonEncoder():
            assert json.loads(body)["columns"] == ["a", "b"] and json.loads(body)["data"] == []
        case ArrowEncoder():
            assert pa.ipc.open_stream(body).read_all().schema.names == ["a", "b"]
        case CsvEncoder():
            assert body == b'"a","b"\n'
        case MsgpackEncoder():
            assert msgpack.unpackb(body)["data"] == [[], []]


@pytest.mark.parametrize("encoder", [JsonEncoder, ArrowEncoder, CsvEncoder])
async def test_a_long_result_comes_in_pieces_of_bounded_size(service: QueryService, encoder: type[Encoder]) -> None:
    chunks = await encoded(service, "SELECT range AS n, 'text' AS s FROM range(500000)", encoder())
    assert len(chunks) > 3
    assert max(map(len, chunks)) < 3 * CHUNK_BYTES


async def test_several_batches_make_one_list_of_rows(service: QueryService) -> None:
    body = b"".join(await encoded(service, "SELECT range AS n FROM range(100000)", JsonEncoder()))
    document = json.loads(body)
    assert sorted(row[0] for row in document["data"]) == list(range(100_000))
    assert document["row_count"] == 100_000


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
@pytest.mark.parametrize("dictionary", [False, True])
async def test_arrow_options_change_the_bytes_and_not_the_rows(
    service: QueryService, compression: str | None, dictionary: bool
) -> None:
    sql = "SELECT range AS n, 'host' || (range % 7 + range // 50000) AS host FROM range(100000)"
    body = b"".join(await encoded(service, sql, ArrowEncoder(compression=compression, dictionary=dictionary)))
    table = pa.ipc.open_stream(body).read_all()
    assert pa.types.is_dictionary(table.schema.field("host").type) == dictionary
    rows = dict(zip(table.column("n").to_pylist(), table.column("host").to_pylist(), strict=True))
    assert rows == {n: f"host{n % 7 + n // 50_000}" for n in range(100_000)}


def test_an_arrow_compression_that_is_not_known_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="zstd or lz4"):
        ArrowEncoder(compression="gzip")


async def test_repeated_column_names_are_kept(service: QueryService) -> None:
    document = json.loads(b"".join(await encoded(service, "SELECT 1 AS a, 2 AS a", JsonEncoder())))
    assert document["columns"] == ["a", "a"] and document["data"] == [[1, 2]]
    body = b"".join(await encoded(service, "SELECT 1 AS a, 2 AS a", CsvEncoder()))
    assert body == b'"a","a"\n1,2\n'


async def test_a_profile_is_given_when_asked_for(service: QueryService) -> None:
    async with service.open("SELECT 1") as answer:
        body = b"".join([chunk async for chunk in answer.encoded(JsonEncoder(), profile=True)])
    assert set(json.loads(body)["profile"]) == {
        "total_ms", "planner_ms", "execution_ms", "rows_scanned", "latency_ms",
    }  # fmt: skip


def test_an_integer_beyond_64_bits_makes_the_column_double_or_fails_later() -> None:
    schema = pa.schema([pa.field("s", pa.decimal128(38, 0))])
    small = pa.RecordBatch.from_arrays([pa.array([1], pa.decimal128(38, 0))], schema=schema)
    large = pa.RecordBatch.from_arrays([pa.array([10**30], pa.decimal128(38, 0))], schema=schema)
    assert Narrowing(schema, large).batch(large).to_pydict() == {"s": [1e30]}
    narrowing = Narrowing(schema, small)
    assert narrowing.batch(small).to_pydict() == {"s": [1]}
    with pytest.raises(InvalidRequest, match="column 's'"):
        narrowing.batch(large)


@given(
    values=st.lists(st.none() | st.text(max_size=40) | st.sampled_from(["x" * 31, "x" * 32, "y" * 255, "y" * 256])),
    skip=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_both_ways_pack_the_same_strings(values: list[str | None], skip: int) -> None:
    column = pa.array(values, pa.utf8()).slice(skip)
    expected = b"".join(msgpack.packb(value) for value in values[skip:])
    assert encode_values(column) == expected
    pack_texts = load_pack_texts()
    if pack_texts is not None:
        assert encode_values(column, pack_texts) == expected


def test_long_strings_have_long_headers() -> None:
    pack_texts = load_pack_texts()
    for length in (65_535, 65_536, 1 << 20):
        column = pa.array(["x" * length])
        assert encode_values(column, pack_texts) == msgpack.packb("x" * length)
