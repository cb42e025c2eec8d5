"""Imported files: what each cell becomes, and which status a broken file gets."""

from __future__ import annotations

import contextlib
import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.errors import InvalidRequest, TooLarge
from arc.ingest.columns import Decoded, Kind
from arc.ingest.tabular import Unprocessable, decode_csv, decode_parquet


def read_csv(text: str | bytes, **options: object) -> Decoded:
    body = text.encode() if isinstance(text, str) else text
    (batch,) = decode_csv(body, measurement="cpu", **options).batches  # type: ignore[arg-type]
    return batch


def cells(batch: Decoded) -> dict[str, tuple[Kind, list[object]]]:
    return {column.name: (column.kind, column.values.to_pylist()) for column in batch.columns}


def parquet(columns: dict[str, pa.Array], **options: object) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink, **options)
    return bytes(sink.getvalue())


def read_parquet(columns: dict[str, pa.Array], **options: object) -> Decoded:
    (batch,) = decode_parquet(parquet(columns), measurement="cpu", **options).batches  # type: ignore[arg-type]
    return batch


CELLS = [
    (["1", "-2", ""], Kind.INTEGER, [1, -2, None]),
    (["1", "0", "1"], Kind.INTEGER, [1, 0, 1]),
    ([" 1", "2 ", "3"], Kind.INTEGER, [1, 2, 3]),
    (["1", "18446744073709551615", ""], Kind.UNSIGNED, [1, 2**64 - 1, None]),
    (["-1", "18446744073709551615", ""], Kind.FLOAT, [-1.0, 2.0**64, None]),
    (["1", "2.5", "1e3"], Kind.FLOAT, [1.0, 2.5, 1000.0]),
    (["true", "false", ""], Kind.BOOLEAN, [True, False, None]),
    (["true", "0", "1"], Kind.BOOLEAN, [True, False, True]),
    (["a", "", " 1"], Kind.STRING, ["a", "", " 1"]),
    (["0x10", "1", "1"], Kind.STRING, ["0x10", "1", "1"]),
    (["", "", " "], Kind.STRING, [None, None, None]),
    (['"a,b"', '"c""d"', '"e\nf"'], Kind.STRING, ["a,b", 'c"d', "e\nf"]),
]


@pytest.mark.parametrize(("given", "kind", "expected"), CELLS)
def test_a_csv_column_gets_the_narrowest_type(given: list[str], kind: Kind, expected: list[object]) -> None:
    text = "time,v\n" + "".join(f"{index + 1},{cell}\n" for index, cell in enumerate(given))
    assert cells(read_csv(text)) == {"v": (kind, expected)}


def test_tag_columns_of_a_csv_are_text_and_never_empty() -> None:
    assert cells(read_csv("time,rack,v\n1,7,1\n2,,2\n", tags=["rack"]))["rack"] == (Kind.TAG, ["7", None])


def test_bom_crlf_delimiter_and_skipped_lines_are_understood() -> None:
    text = b"\xef\xbb\xbfexported today\r\ntime;v\r\n1;2\r\n\r\n2;3\r\n"
    assert cells(read_csv(text, delimiter=";", skip_rows=1)) == {"v": (Kind.INTEGER, [2, 3])}


def test_short_rows_are_padded_in_their_place() -> None:
    assert cells(read_csv("time,a,b\n1,x,5\n2,y\n3\n4,z,6\n")) == {
        "a": (Kind.STRING, ["x", "y", "", "z"]),
        "b": (Kind.INTEGER, [5, None, None, 6]),
    }


def test_padding_does_not_grow_a_file_without_end() -> None:
    header = "time," + ",".join(f"c{index}" for index in range(4000))
    with pytest.raises(TooLarge):
        read_csv(header + "\n" + "1\n" * 20_000)


TIMES = [
    ("1700000000", "", 1_700_000_000_000_000),
    ("-1000", "", -1_000_000_000),
    ("1700000000000", "", 1_700_000_000_000_000),
    ("1700000000.5", "", 1_700_000_000_500_000),
    ("5", "epoch_ms", 5000),
    ("5", "epoch_us", 5),
    ("5999", "epoch_ns", 5),
    ("-1", "epoch_ns", -1),
    ("0.1", "epoch_s", 100_000),
    ("2020-01-02T03:04:05Z", "", 1_577_934_245_000_000),
    ("2020-01-02t03:04:05.123456789z", "", 1_577_934_245_123_456),
    ("2020-01-02T03:04:05+01:00", "", 1_577_930_645_000_000),
    ("2020-01-02 03:04:05", "", 1_577_934_245_000_000),
    ("2020-01-02 03:04:05.5", "", 1_577_934_245_500_000),
    ("2020-01-02", "", 1_577_923_200_000_000),
    ("1969-12-31T23:59:59.9999999Z", "", -1),
]


@pytest.mark.parametrize(("text", "time_format", "expected"), TIMES)
def test_a_csv_time_becomes_microseconds(text: str, time_format: str, expected: int) -> None:
    assert read_csv(f"time,v\n{text},1\n", time_format=time_format).time.to_pylist() == [expected]


def test_written_times_with_and_without_zone_may_be_mixed() -> None:
    times = read_csv("time,v\n1970-01-01,1\n1970-01-01T01:00:00+01:00,1\n1970-01-01 00:00:01,1\n").time
    assert times.to_pylist() == [0, 0, 1_000_000]


def test_another_column_can_be_the_time() -> None:
    assert cells(read_csv("at,v\n1,2\n", time_column="at")) == {"v": (Kind.INTEGER, [2])}


BAD_CSV = {
    "empty": (b"", {}, 400),
    "only a header": (b"time,v\n", {}, 400),
    "no time column": (b"a,v\n1,2\n", {}, 400),
    "a second time column": (b"at,time\n1,2\n", {"time_column": "at"}, 400),
    "an unnamed column": (b"time,,v\n1,2,3\n", {}, 400),
    "a name twice": (b"time,v,v\n1,2,3\n", {}, 400),
    "a time that is none": (b"time,v\nyesterday,2\n", {}, 400),
    "no time in a row": (b"time,v\n1,2\n,3\n", {}, 400),
    "a time out of range": (b"time,v\n9999999999999999,1\n", {"time_format": "epoch_s"}, 400),
    "an unknown time format": (b"time,v\n1,2\n", {"time_format": "epoch_h"}, 400),
    "a long delimiter": (b"time,v\n1,2\n", {"delimiter": ",,"}, 400),
    "more skipped than there is": (b"time,v\n1,2\n", {"skip_rows": 9}, 400),
    "too many cells": (b"time,v\n1,2,3\n", {}, 422),
    "too many cells after a short row": (b"time,v\n1\n1,2,3\n", {}, 422),
    "no UTF-8": (b"time,v\n1,\xff\xfe\n", {}, 422),
}


@pytest.mark.parametrize(("body", "options", "status"), BAD_CSV.values(), ids=BAD_CSV.keys())
def test_a_bad_csv_gets_its_status(body: bytes, options: dict[str, object], status: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_csv(body, **options)
    assert caught.value.status == status


PARQUET_TYPES = [
    (pa.array([1, None], pa.int16()), Kind.INTEGER, [1, None]),
    (pa.array([1, 2**64 - 1], pa.uint64()), Kind.UNSIGNED, [1, 2**64 - 1]),
    (pa.array([1.5, None], pa.float32()), Kind.FLOAT, [1.5, None]),
    (pa.array([True, None]), Kind.BOOLEAN, [True, None]),
    (pa.array(["a", None]), Kind.STRING, ["a", None]),
    (pa.array(["a", "b"]).dictionary_encode(), Kind.STRING, ["a", "b"]),
    (pa.array([b"a", None]), Kind.STRING, ["a", None]),
    (pa.array([b"ab", b"cd"], pa.binary(2)), Kind.STRING, ["ab", "cd"]),
    (pa.array([Decimal("1.25"), None]), Kind.FLOAT, [1.25, None]),
    (pa.array([1, None], pa.timestamp("ms")), Kind.INTEGER, [1000, None]),
]


@pytest.mark.parametrize(("given", "kind", "expected"), PARQUET_TYPES, ids=lambda value: str(value)[:20])
def test_a_parquet_type_becomes_its_kind(given: pa.Array, kind: Kind, expected: list[object]) -> None:
    assert cells(read_parquet({"time": pa.array([1, 2]), "v": given})) == {"v": (kind, expected)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (pa.array([5], pa.timestamp("ms")), 5000),
        (pa.array([5], pa.timestamp("ns", tz="UTC")), 0),
        (pa.array([1_700_000_000]), 1_700_000_000_000_000),
        (pa.array(["2020-01-02T03:04:05Z"]), 1_577_934_245_000_000),
        (pa.array([1_700_000_000.5]), 1_700_000_000_500_000),
    ],
)
def test_a_parquet_time_becomes_microseconds(given: pa.Array, expected: int) -> None:
    assert read_parquet({"at": given, "v": pa.array([1])}, time_column="at").time.to_pylist() == [expected]


def test_parquet_tags_are_dictionaries() -> None:
    (column,) = read_parquet({"time": pa.array([1, 2]), "host": pa.array(["a", "a"])}, tags=["host"]).columns
    assert (column.kind, column.values.to_pylist()) == (Kind.TAG, ["a", "a"])


BAD_PARQUET = {
    "no parquet": (b"PAR1 nothing PAR1", 422),
    "empty": (b"", 422),
    "a list": (parquet({"time": pa.array([1]), "v": pa.array([[1]])}), 422),
    "a date": (parquet({"time": pa.array([1]), "v": pa.array([dt.date(2020, 1, 1)])}), 422),
    "binary that is no text": (parquet({"time": pa.array([1]), "v": pa.array([b"\xff"])}), 422),
    "no time column": (parquet({"v": pa.array([1])}), 400),
    "no rows": (parquet({"time": pa.array([], pa.int64())}), 400),
    "no time in a row": (parquet({"time": pa.array([None, 1]), "v": pa.array([1, 2])}), 400),
}


@pytest.mark.parametrize(("body", "status"), BAD_PARQUET.values(), ids=BAD_PARQUET.keys())
def test_a_bad_parquet_file_gets_its_status(body: bytes, status: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_parquet(body, measurement="cpu")
    assert caught.value.status == status


def test_unprocessable_is_422() -> None:
    assert Unprocessable("x").status == 422


def test_a_small_parquet_file_of_very_many_rows_is_too_large() -> None:
    body = parquet({"time": pa.array(np.zeros(1_000_000, np.int64))})
    assert len(body) < 100_000
    with pytest.raises(TooLarge):
        decode_parquet(body, measurement="cpu", bytes_max=1 << 20)


def test_one_long_text_in_many_parquet_rows_does_not_unfold() -> None:
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000, np.int32)), pa.array(["x" * 10_000]))
    body = parquet({"time": pa.array(np.zeros(10_000, np.int64)), "v": text})
    assert len(body) < 100_000
    before = pa.total_allocated_bytes()
    with pytest.raises(TooLarge):
        decode_parquet(body, measurement="cpu", bytes_max=10 << 20)
    assert pa.total_allocated_bytes() - before < 10 << 20


@given(
    body=st.binary(max_size=100) | st.text('time,v\n1.5"x', max_size=40).map(lambda text: f"time,v\n{text}".encode())
)
@settings(max_examples=200)
def test_random_csv_never_raises_anything_unforeseen(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        decode_csv(body, measurement="cpu")


SAMPLE = parquet({"time": pa.array([1, 2, 3]), "v": pa.array([1.5, None, 2.5]), "s": pa.array(["a", "b", None])})


@given(data=st.data())
@settings(max_examples=200)
def test_a_damaged_parquet_file_never_raises_anything_unforeseen(data: st.DataObject) -> None:
    body = bytearray(SAMPLE)
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidRequest):
        decode_parquet(bytes(body), measurement="cpu", bytes_max=1 << 24)


@given(
    rows=st.lists(
        st.tuples(
            st.integers(-(2**40), 2**40), st.none() | st.integers(-(2**63), 2**63 - 1), st.text("ab,\"' é", min_size=1)
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=100)
def test_what_was_written_as_csv_is_read_again(rows: list[tuple[int, int | None, str]]) -> None:
    lines = [f'{time},{"" if v is None else v},"{s.replace(chr(34), chr(34) * 2)}"' for time, v, s in rows]
    batch = read_csv("time,v,s\n" + "\n".join(lines) + "\n", time_format="epoch_us")
    assert batch.time.to_pylist() == [time for time, _, _ in rows]
    assert batch.columns[0].values.to_pylist() == [v for _, v, _ in rows]
    texts = [s for _, _, s in rows]
    if any(text.strip() for text in texts):
        assert batch.columns[1].values.to_pylist() == texts
