"""The compiled MessagePack decoder says what the definition says, on every body there is."""

from __future__ import annotations

import math

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import mp_fast
from arc.ingest import msgpack as definition
from arc.ingest.columns import Request
from arc.ingest.mp_fast import MsgpackDecoder, decode_columns

mp_kernel = pytest.importorskip("arc.ingest.mp_kernel")

NOW = 1_700_000_000_000_123


def seen(request: Request) -> object:
    """A request as plain values; NaN is equal to itself here."""
    return [
        (
            batch.measurement,
            batch.time.to_pylist(),
            batch.lines,
            [(column.name, column.kind, str(column.values.type), column.values.null_count) for column in batch.columns],
            [["nan" if value != value else value for value in column.values.to_pylist()] for column in batch.columns],
        )
        for batch in request.batches
    ], request.refused


def check(body: bytes) -> bool:
    """Decode both ways and compare. Returns whether the fast way took it."""
    fast = decode_columns(mp_kernel, body, NOW)
    if fast is None:
        return False
    for batch in fast.batches:
        for column in batch.columns:
            column.values.validate(full=True)
    assert seen(fast) == seen(definition.decode(body, now_us=NOW))
    return True


def body_of(columns: dict[str, list[object]], **others: object) -> bytes:
    packed: bytes = msgpack.packb({"m": "cpu", "columns": columns, **others})
    return packed


FAST = {
    "floats": [1.5, -0.0, math.inf, math.nan],
    "floats and nulls": [None, 1.5, None, 2.5],
    "floats and whole numbers": [1.5, 2, -3, 2**53],
    "single whole number first": [7, None, 1.5, -(2**53)],
    "small integers": [0, 127, -1, -32],
    "integers of every width": [200, 40_000, 3_000_000_000, 2**40, -100, -30_000, -(2**31), -(2**63), 2**63 - 1],
    "unsigned": [2**63, 2**64 - 1, 0, None],
    "long runs of integers": [2**62, 2**61, -(2**62), 5],
    "booleans": [True, False, None, True] * 5,
    "texts": ["", "a", "x" * 31, "x" * 32, "y" * 300, "z" * 70_000, None],
    "texts that are not ASCII": ["é", "日本", "a", "\U0001f600" * 9],
    "nulls": [None, None],
    "nulls first": [None, None, "a"],
}


@pytest.mark.parametrize("values", FAST.values(), ids=FAST.keys())
def test_usual_columns_go_the_fast_way(values: list[object]) -> None:
    times = [1_700_000_000 + row for row in range(len(values))]
    assert check(body_of({"time": times, "v": values, "last": values}))


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 15, 16, 17, 70_000])
def test_any_number_of_rows_goes_the_fast_way(rows: int) -> None:
    values = [None if row % 3 == 1 else f"v{row}" for row in range(rows)]
    assert check(body_of({"s": values, "b": [row % 2 == 0 for row in range(rows)]}))


def test_single_precision_goes_the_fast_way() -> None:
    assert check(msgpack.packb({"m": "cpu", "columns": {"v": [1.5, -2.25, math.inf]}}, use_single_float=True))


@pytest.mark.parametrize("others", [{"u": "ms"}, {"tags": ["host"]}, {"tags": ["absent"], "u": "ns"}])
def test_units_and_tags_go_the_fast_way(others: dict[str, object]) -> None:
    assert check(body_of({"time": [5, 6], "host": ["a", None], "v": [1, 2]}, **others))


SLOW = {
    "conflicting kinds": {"v": [1, "a"]},
    "text, then a number": {"v": ["a", 1]},
    "booleans and numbers": {"v": [True, 1.5]},
    "an integer no float holds": {"v": [1.5, 2**53 + 1]},
    "signs that fit nowhere": {"v": [-1, 2**63]},
    "raw bytes": {"v": [b"a"]},
    "an array": {"v": [[1]]},
    "a time of null": {"time": [None], "v": [1]},
    "a time of floats": {"time": [1.5], "v": [1]},
    "a time beyond range": {"time": [2**62, 1], "v": [1, 2], "u": ["s"]},
    "unequal lengths": {"time": [1], "v": [1, 2]},
    "no rows": {"v": []},
    "no columns": {},
}


@pytest.mark.parametrize("columns", SLOW.values(), ids=SLOW.keys())
def test_unusual_columns_are_left_to_the_definition(columns: dict[str, list[object]]) -> None:
    assert decode_columns(mp_kernel, body_of(columns), NOW) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x80",
        b"\x05",
        msgpack.packb([{"m": "cpu", "columns": {"v": [1]}}]),
        msgpack.packb({"m": "cpu", "fields": {"v": 1}}),
        msgpack.packb({"m": 5, "columns": {"v": [1]}}),
        msgpack.packb({"m": "", "columns": {"v": [1]}}),
        msgpack.packb({"m": "cpu", "columns": {"v": [1]}, "batch": []}),
        body_of({"v": [1]}) + b"\x00",
        b"\x82\xa1m\xa1a\xa7columns\x82\xa1v\x91\x01\xa1v\x91\x02",
        b"\x82\xa1m\xa1a\xa1m\xa1b",
        b"\x82\xa1m\xa1a\xa7columns\x81\xa1v\x91\xa1\xff",
        b"\x82\xa1m\xa1a\xa7columns\x81\xa1v\x92\xa1\xc3\xa1\xa9",
        b"\x82\xa1m\xa1a\xa7columns\x81\xa1v\xdd\xff\xff\xff\xff",
        b"\x82\xa1m\xa1a\xa7columns\x81\xa1v\x91\xdb\xff\xff\xff\xff",
    ],
)
def test_other_bodies_are_left_to_the_definition(body: bytes) -> None:
    """Among them text that is UTF-8 only when two values are read as one."""
    assert decode_columns(mp_kernel, body, NOW) is None


def test_every_cut_of_a_body_is_left_to_the_definition() -> None:
    columns = {"t": [1, 300, 70_000, 2**40, 2**63], "f": [1.5, None, 2], "s": ["a", "x" * 40], "b": [True, False]}
    for name, values in columns.items():
        body = body_of({name: values})
        assert check(body)
        for length in range(len(body)):
            assert decode_columns(mp_kernel, body[:length], NOW) is None


@pytest.mark.parametrize(
    "array",
    [
        b"\xd0\x7f\xd0\x80\xd0\xff",
        b"\xd1\x7f\xff\xd1\x80\x00\xd1\x00\x01",
        b"\xd2\x7f\xff\xff\xff\xd2\x80\x00\x00\x00\x05",
        b"\xcc\x05\xcd\x00\x05\xce\x00\x00\x00\x05",
        b"\xcf\0\0\0\0\0\0\0\x05\xd3\0\0\0\0\0\0\0\x05\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xd9\x01a\xda\x00\x01b\xdb\x00\x00\x00\x01c",
    ],
)
def test_values_written_wider_than_needed_go_the_fast_way(array: bytes) -> None:
    assert check(b"\x82\xa1m\xa1a\xa7columns\x81\xa1v\xdc\x00\x03" + array)


def test_the_first_time_tells_the_unit_of_all() -> None:
    assert check(body_of({"time": [1_700_000_000, 1_700_000_000_000], "v": [1, 2]}))


ELEMENTS = {
    "single": b"\xca\x3f\xc0\0\0",
    "double": b"\xcb\x3f\xf8\0\0\0\0\0\0",
    "uint16": b"\xcd\x01\x00",
    "uint64": b"\xcf\0\0\0\0\0\0\0\x05",
    "int32": b"\xd2\xff\xff\xff\xff",
}


@pytest.mark.parametrize("element", ELEMENTS.values(), ids=ELEMENTS.keys())
@pytest.mark.parametrize("as_float", [False, True])
def test_numbers_are_never_read_beyond_the_body(element: bytes, as_float: bool) -> None:
    for size in range(len(element) * 2 + 1):
        data = np.frombuffer((element * 2)[:size], np.uint8)
        out, valid = np.zeros(2, np.uint64), np.ones(2, np.uint8)
        end, _ = mp_kernel.scan_numbers(data, 0, 2, out, valid, as_float)
        assert end == (size if size == len(element) * 2 else -1)


@pytest.mark.parametrize("element", [b"\xa5hello", b"\xd9\x05hello", b"\xda\x00\x05hello", b"\xdb\0\0\0\x05hello"])
def test_texts_are_never_read_beyond_the_body(element: bytes) -> None:
    for size in range(len(element) * 2 + 1):
        data = np.frombuffer((element * 2)[:size], np.uint8)
        end, _, total = mp_kernel.scan_texts(data, 0, 2, np.zeros(3, np.int32), np.ones(2, np.uint8))
        assert (end, total) == ((size, 10) if size == len(element) * 2 else (-1, 0))


def test_the_decoder_answers_alike_before_and_after_it_is_warm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mp_fast, "FAST_BYTES_MIN", 0)
    decoder = MsgpackDecoder()
    bodies = [body_of({"time": [1, 2], "v": [1.5, None]}), body_of({"v": [1, "a"]}), b"\x91\x05"]
    before = [seen(decoder.decode(body, now_us=NOW)) for body in bodies]
    assert "interpreted" in repr(decoder)
    assert decoder.warm()
    assert "compiled" in repr(decoder)
    assert [seen(decoder.decode(body, now_us=NOW)) for body in bodies] == before
    with pytest.raises(InvalidRequest):
        decoder.decode(b"\xc1", now_us=NOW)


def test_the_warm_up_body_uses_every_compiled_function() -> None:
    assert check(mp_fast._WARM)


values = st.one_of(
    st.lists(st.none() | st.floats(), max_size=20),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=20),
    st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=20),
    st.lists(
        st.none() | st.sampled_from([0, 127, 128, -32, -33, 255, 256, 65535, 65536, -129, 2**32, 2**53, 1.5]),
        max_size=20,
    ),
    st.lists(st.none() | st.booleans(), max_size=20),
    st.lists(st.none() | st.text(max_size=40), max_size=20),
    st.lists(st.none() | st.booleans() | st.integers(-5, 2**64 - 1) | st.floats() | st.text(max_size=3), max_size=6),
)


@given(columns=st.dictionaries(st.sampled_from(["time", "a", "b", "é"]), values, max_size=4))
@settings(max_examples=400)
def test_any_columns_are_the_same_both_ways(columns: dict[str, list[object]]) -> None:
    rows = min((len(column) for column in columns.values()), default=0)
    check(body_of({name: column[:rows] for name, column in columns.items()}, tags=["a"]))


@given(values=st.lists(st.none() | st.floats(width=32) | st.integers(-300, 70_000), max_size=20))
@settings(max_examples=100)
def test_single_precision_is_the_same_both_ways(values: list[object]) -> None:
    check(msgpack.packb({"m": "cpu", "columns": {"v": values}}, use_single_float=True))


@given(data=st.data())
@settings(max_examples=400)
def test_a_damaged_body_is_the_same_both_ways(data: st.DataObject) -> None:
    columns = {
        "time": [1, 2, 3],
        "f": [1.5, None, 2],
        "s": ["ab", "é", None],
        "i": [1, 70_000, -1],
        "b": [True, None, False],
    }
    body = bytearray(body_of(columns, u="ms", tags=["s"]))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        check(bytes(body))
    except (InvalidRequest, TooLarge) as error:
        raise AssertionError("the fast way took a body that the definition refuses") from error
