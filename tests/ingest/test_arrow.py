"""Arrow streams: every type that is stored, every one that is not, and bytes made to hurt."""

from __future__ import annotations

import contextlib
import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import ipc

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import arrow
from arc.ingest.columns import Decoded, Kind

NOW = 1_700_000_000_000_000


def stream(
    columns: dict[str, pa.Array],
    metadata: dict[str, str] | None = None,
    compression: str | None = None,
    batches: int = 1,
) -> bytes:
    batch = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
    batch = batch.replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batch.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode_one(columns: dict[str, pa.Array], tags: list[str] | None = None) -> Decoded:
    _, request = arrow.decode(stream(columns), measurement="cpu", tags=tags, now_us=NOW)
    (batch,) = request.batches
    return batch


STORED = {
    "int8": (pa.array([1, None], pa.int8()), Kind.INTEGER, [1, None]),
    "int32": (pa.array([1, -2], pa.int32()), Kind.INTEGER, [1, -2]),
    "int64": (pa.array([1, -(2**63)], pa.int64()), Kind.INTEGER, [1, -(2**63)]),
    "uint32": (pa.array([1, 2**32 - 1], pa.uint32()), Kind.INTEGER, [1, 2**32 - 1]),
    "uint64": (pa.array([1, 2**64 - 1], pa.uint64()), Kind.UNSIGNED, [1, 2**64 - 1]),
    "float16": (pa.array(np.array([1.5, -2], np.float16)), Kind.FLOAT, [1.5, -2.0]),
    "float32": (pa.array([1.5, None], pa.float32()), Kind.FLOAT, [1.5, None]),
    "float64": (pa.array([0.1, float("inf")]), Kind.FLOAT, [0.1, float("inf")]),
    "bool": (pa.array([True, None]), Kind.BOOLEAN, [True, None]),
    "utf8": (pa.array(["ä", None]), Kind.STRING, ["ä", None]),
    "large_utf8": (pa.array(["ä", ""], pa.large_utf8()), Kind.STRING, ["ä", ""]),
    "string_view": (pa.array(["x" * 20, None], pa.string_view()), Kind.STRING, ["x" * 20, None]),
    "dictionary": (pa.array(["a", "a"]).dictionary_encode(), Kind.STRING, ["a", "a"]),
    "null": (pa.nulls(2), Kind.STRING, [None, None]),
}


@pytest.mark.parametrize(("given", "kind", "expected"), STORED.values(), ids=STORED.keys())
def test_every_stored_type_becomes_its_kind(given: pa.Array, kind: Kind, expected: list[object]) -> None:
    (column,) = decode_one({"time": pa.array([1, 2], pa.timestamp("us")), "v": given}).columns
    assert (column.kind, column.values.type, column.values.to_pylist()) == (kind, kind.arrow, expected)


REFUSED = {
    "binary": pa.array([b"x"]),
    "list": pa.array([[1]]),
    "struct": pa.array([{"a": 1}]),
    "decimal": pa.array([Decimal("1.5")]),
    "timestamp": pa.array([1], pa.timestamp("us")),
    "date": pa.array([dt.date(2020, 1, 1)]),
    "dictionary of integers": pa.array([1]).dictionary_encode(),
    "run ends": pa.RunEndEncodedArray.from_arrays([1], ["a"]),
}


@pytest.mark.parametrize("given", REFUSED.values(), ids=REFUSED.keys())
def test_other_types_are_refused_by_name(given: pa.Array) -> None:
    with pytest.raises(InvalidRequest, match='"odd"'):
        decode_one({"time": pa.array([1], pa.timestamp("us")), "odd": given})


@pytest.mark.parametrize("values", [pa.array(["a", None, "a"]), pa.array(["a", None, "a"]).dictionary_encode()])
def test_tags_are_text_columns_named_as_tags(values: pa.Array) -> None:
    (column,) = decode_one({"time": pa.array([1, 2, 3], pa.timestamp("us")), "host": values}, tags=["host"]).columns
    assert (column.kind, column.values.to_pylist()) == (Kind.TAG, ["a", None, "a"])


def test_a_tag_column_of_numbers_is_refused() -> None:
    with pytest.raises(InvalidRequest, match='"v"'):
        decode_one({"v": pa.array([1])}, tags=["v"])


def test_a_dictionary_with_doubles_and_nulls_is_made_clean() -> None:
    dictionary = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3], pa.int8()), pa.array(["a", "a", None, "b"]))
    (column,) = decode_one({"host": dictionary}, tags=["host"]).columns
    assert column.values.to_pylist() == ["a", "a", None, "b"]
    assert column.values.type == pa.dictionary(pa.int32(), pa.utf8())
    assert column.values.dictionary.to_pylist() == ["a", "b"]


TIMES = [
    (pa.array([1], pa.timestamp("s")), 1_000_000),
    (pa.array([1], pa.timestamp("ms", tz="Europe/Berlin")), 1000),
    (pa.array([1], pa.timestamp("us", tz="UTC")), 1),
    (pa.array([1999], pa.timestamp("ns")), 1),
    (pa.array([-1], pa.timestamp("ns")), -1),
    (pa.array([1_700_000_000]), 1_700_000_000_000_000),
    (pa.array([1_700_000_000_000]), 1_700_000_000_000_000),
    (pa.array([1_700_000_000_000_000], pa.uint64()), 1_700_000_000_000_000),
    (pa.array([1_700_000_000_000_000_001]), 1_700_000_000_000_000),
]


@pytest.mark.parametrize(("given", "expected"), TIMES, ids=str)
def test_times_of_any_unit_become_microseconds(given: pa.Array, expected: int) -> None:
    assert decode_one({"time": given, "v": pa.array([1])}).time.to_pylist() == [expected]


@pytest.mark.parametrize(
    "given",
    [pa.array([2**62], pa.timestamp("s")), pa.array([2**64 - 1], pa.uint64()), pa.array([1.5]), pa.array(["x"])],
)
def test_a_time_that_is_none_is_invalid(given: pa.Array) -> None:
    with pytest.raises(InvalidRequest):
        decode_one({"time": given, "v": pa.array([1])})


def test_rows_without_time_are_refused_and_the_others_keep_their_numbers() -> None:
    body = stream({"time": pa.array([1, None, 3], pa.timestamp("us")), "v": pa.array([1, 2, 3])})
    _, request = arrow.decode(body, measurement="cpu", now_us=NOW)
    (batch,) = request.batches
    assert [(refused.line, refused.reason) for refused in request.refused] == [(2, "time is null")]
    assert batch.lines.to_pylist() == [1, 3]
    assert batch.columns[0].values.to_pylist() == [1, 3]


def test_a_stream_without_time_column_is_of_now() -> None:
    assert decode_one({"v": pa.array([1, 2])}).time.to_pylist() == [NOW, NOW]


def test_metadata_names_database_measurement_and_tags() -> None:
    metadata = {"arc.measurement": "mem", "arc.database": "prod", "arc.tags": "host, rack", "other": "x"}
    body = stream({"host": pa.array(["a"]), "v": pa.array([1])}, metadata)
    database, request = arrow.decode(body, now_us=NOW)
    assert (database, request.batches[0].measurement) == ("prod", "mem")
    assert [column.kind for column in request.batches[0].columns] == [Kind.TAG, Kind.INTEGER]


def test_the_request_wins_over_metadata() -> None:
    body = stream({"host": pa.array(["a"])}, {"arc.measurement": "mem", "arc.tags": "host"})
    _, request = arrow.decode(body, measurement="cpu", tags=[], now_us=NOW)
    assert request.batches[0].measurement == "cpu"
    assert request.batches[0].columns[0].kind is Kind.STRING


def test_a_stream_for_no_measurement_is_invalid() -> None:
    with pytest.raises(InvalidRequest, match=r"arc\.measurement"):
        arrow.decode(stream({"v": pa.array([1])}), now_us=NOW)


def test_two_columns_of_one_name_are_invalid() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["v", "v"])
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    with pytest.raises(InvalidRequest, match='"v"'):
        arrow.decode(bytes(sink.getvalue()), measurement="cpu", now_us=NOW)


def test_batches_of_one_stream_are_one_batch() -> None:
    columns = {"time": pa.array([1, 2], pa.timestamp("us")), "host": pa.array(["a", "b"]).dictionary_encode()}
    _, request = arrow.decode(stream(columns, batches=3), measurement="cpu", tags=["host"], now_us=NOW)
    assert request.rows == 6
    assert request.batches[0].columns[0].values.to_pylist() == ["a", "b"] * 3


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_compressed_streams_are_read(compression: str) -> None:
    body = stream({"v": pa.array(range(5000))}, compression=compression)
    _, request = arrow.decode(body, measurement="cpu", now_us=NOW)
    assert request.batches[0].columns[0].values.to_pylist() == list(range(5000))


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_stream_that_inflates_too_far_is_refused_before_it_does(compression: str) -> None:
    body = stream({"v": pa.array(np.zeros(1_000_000, np.int64))}, compression=compression)
    assert len(body) < 100_000
    before = pa.total_allocated_bytes()
    with pytest.raises(TooLarge):
        arrow.decode(body, measurement="cpu", now_us=NOW, inflated_bytes_max=1 << 20)
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_a_compressed_dictionary_is_counted_too() -> None:
    body = stream({"v": pa.array(["x" * 2_000_000]).dictionary_encode()}, compression="zstd")
    with pytest.raises(TooLarge):
        arrow.decode(body, measurement="cpu", tags=["v"], now_us=NOW, inflated_bytes_max=1 << 20)


def test_one_long_text_shared_by_many_rows_is_not_copied_apart() -> None:
    shared = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int8)), pa.array(["x" * 100_000]))
    with pytest.raises(TooLarge, match='"v"'):
        decode_one({"v": shared})
    assert decode_one({"v": shared}, tags=["v"]).rows == 100_000


def test_overlapping_views_of_one_text_are_not_copied_apart() -> None:
    text = b"x" * 100_000
    view = np.array([len(text), int.from_bytes(text[:4], "little"), 0, 0], np.int32)
    views = pa.py_buffer(np.tile(view, 10_000))
    array = pa.Array.from_buffers(pa.string_view(), 10_000, [None, views, pa.py_buffer(text)])
    array.validate(full=True)
    with pytest.raises(TooLarge, match='"v"'):
        decode_one({"v": array})


def test_rows_without_bytes_are_bounded() -> None:
    """A column of nulls has no buffers: its length is a mere claim."""
    with pytest.raises(TooLarge):
        decode_one({"v": pa.Array.from_buffers(pa.null(), 2**31 - 1, [None])})


def test_text_that_is_no_utf8_is_invalid() -> None:
    bad = pa.array([b"\xff\xfe"]).view(pa.utf8())
    with pytest.raises(InvalidRequest, match=r"UTF-?8"):
        decode_one({"v": bad})


def test_codes_outside_their_dictionary_are_invalid() -> None:
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 7], pa.int32()), pa.array(["a"]), safe=False)
    with pytest.raises(InvalidRequest):
        decode_one({"v": codes})


def test_a_column_that_fits_shares_the_memory_of_the_body() -> None:
    body = stream({"time": pa.array([1] * 1000, pa.timestamp("us")), "v": pa.array([1.5] * 1000)})
    start = pa.py_buffer(body).address
    _, request = arrow.decode(body, measurement="cpu", now_us=NOW)
    for values in (request.batches[0].time, request.batches[0].columns[0].values):
        assert start <= values.buffers()[1].address < start + len(body)


def test_an_empty_stream_has_no_rows() -> None:
    _, request = arrow.decode(stream({"v": pa.array([], pa.int64())}), measurement="cpu", now_us=NOW)
    assert request.batches == ()


def test_what_a_null_hides_is_never_followed() -> None:
    """Found by fuzzing: validation passes these, and casting or unifying them read wild memory."""
    validity = pa.py_buffer(b"\x01")
    wild = np.array([[1, 120, 0, 0], [2**31 - 1, 0, 2**31 - 1, 2**31 - 1]], np.int32)
    views = pa.Array.from_buffers(pa.string_view(), 2, [validity, pa.py_buffer(wild)])
    codes = pa.Array.from_buffers(pa.int32(), 2, [validity, pa.py_buffer(np.array([0, 2**31 - 1], np.int32))])
    shared = pa.DictionaryArray.from_arrays(codes, pa.array(["a"]), safe=False)
    for array in (views, shared):
        assert not any(arrow._without_noise(array).buffers()[1].to_pybytes()[-4:])
    body = stream({"view": views, "host": shared}, batches=2)
    _, request = arrow.decode(body, measurement="cpu", tags=["host"], now_us=NOW)
    assert [column.values.to_pylist() for column in request.batches[0].columns] == [["x", None] * 2, ["a", None] * 2]


SAMPLE = stream(
    {
        "time": pa.array([1, 2, 3], pa.timestamp("us")),
        "host": pa.array(["a", "b", None]).dictionary_encode(),
        "v": pa.array([1.5, None, 2.5]),
        "s": pa.array(["x", "yy", None]),
        "view": pa.array(["x", "y" * 30, None], pa.string_view()),
    }
)
COMPRESSED = stream({"v": pa.array([1.5] * 100), "s": pa.array(["abc"] * 100)}, compression="zstd")


@given(body=st.binary(max_size=300))
@settings(max_examples=100)
def test_random_bytes_are_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        arrow.decode(body, measurement="cpu", now_us=NOW)


@pytest.mark.parametrize("body", [SAMPLE, COMPRESSED], ids=["plain", "compressed"])
@given(data=st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.differing_executors])
def test_a_damaged_stream_is_invalid_or_read_but_never_worse(body: bytes, data: st.DataObject) -> None:
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        _, request = arrow.decode(bytes(damaged), measurement="cpu", tags=["host"], now_us=NOW)
        for batch in request.batches:
            for column in batch.columns:
                column.values.validate(full=True)
                column.values.to_pylist()


@pytest.mark.parametrize("body", [SAMPLE, COMPRESSED], ids=["plain", "compressed"])
def test_every_cut_of_a_stream_is_invalid_or_ends_between_batches(body: bytes) -> None:
    for length in range(0, len(body), 7):
        with contextlib.suppress(InvalidRequest):
            _, request = arrow.decode(body[:length], measurement="cpu", now_us=NOW)
            assert request.rows in (0, 3, 100)
