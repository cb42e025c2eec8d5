"""MessagePack: every form clients send, every way one can be wrong, small bodies that promise too much."""

from __future__ import annotations

import contextlib
import math
import struct
import time
import tracemalloc

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import bounds
from arc.ingest import msgpack as decoder
from arc.ingest.columns import Decoded, Kind, Request

NOW = 1_700_000_000_000_123
S = 1_700_000_000
US = S * 1_000_000


def decode(item: object) -> Request:
    return decoder.decode(msgpack.packb(item), now_us=NOW)


def one(item: object) -> Decoded:
    request = decode(item)
    assert request.refused == ()
    (batch,) = request.batches
    return batch


def cells(batch: Decoded) -> list[tuple[str, Kind, list[object]]]:
    return [(column.name, column.kind, column.values.to_pylist()) for column in batch.columns]


def columns(**columns: object) -> dict[str, object]:
    return {"m": "cpu", "columns": columns}


def reasons(item: object) -> list[tuple[int, str]]:
    return [(refused.line, refused.reason) for refused in decode(item).refused]


def test_columns_become_columns_in_their_order() -> None:
    batch = one(columns(time=[US, US + 1], host=["a", None], usage=[1.5, 2], n=[1, None], on=[None, True]))
    assert (batch.measurement, batch.time.to_pylist(), batch.lines) == ("cpu", [US, US + 1], None)
    assert cells(batch) == [
        ("host", Kind.STRING, ["a", None]),
        ("usage", Kind.FLOAT, [1.5, 2.0]),
        ("n", Kind.INTEGER, [1, None]),
        ("on", Kind.BOOLEAN, [None, True]),
    ]
    assert all(column.values.type == column.kind.arrow for column in batch.columns)


VALUES = [
    ([1, -(2**63), 2**63 - 1], Kind.INTEGER, [1, -(2**63), 2**63 - 1]),
    ([2**63, 0, None], Kind.UNSIGNED, [2**63, 0, None]),
    ([2**53, 0.5, None], Kind.FLOAT, [2.0**53, 0.5, None]),
    ([math.inf, -math.inf, 0.0], Kind.FLOAT, [math.inf, -math.inf, 0.0]),
    (["", "é", "\x00"], Kind.STRING, ["", "é", "\x00"]),
    ([None, None, None], Kind.STRING, [None, None, None]),
]


@pytest.mark.parametrize(("values", "kind", "expected"), VALUES)
def test_a_column_has_the_kind_of_its_values(values: list[object], kind: Kind, expected: list[object]) -> None:
    assert cells(one(columns(time=[US] * 3, v=values))) == [("v", kind, expected)]


def test_nan_is_a_value_and_not_null() -> None:
    (column,) = one(columns(v=[math.nan])).columns
    assert column.values.null_count == 0
    assert math.isnan(column.values[0].as_py())


def test_single_precision_floats_are_floats() -> None:
    body = msgpack.packb(columns(v=[0.5, 1.25]), use_single_float=True)
    assert cells(decoder.decode(body, now_us=NOW).batches[0]) == [("v", Kind.FLOAT, [0.5, 1.25])]


BAD_VALUES = [
    [1, -1, 2**63],
    [2**53 + 1, 1.5],
    [1, "a"],
    [1.5, "a"],
    [True, 1],
    ["a", False],
    [b"raw"],
    [[1]],
    [{"a": 1}],
    [msgpack.ExtType(5, b"x")],
    [msgpack.Timestamp(1)],
]


@pytest.mark.parametrize("values", BAD_VALUES, ids=repr)
def test_values_that_make_no_column_refuse_the_item(values: list[object]) -> None:
    ((line, reason),) = reasons(columns(v=values))
    assert line == 1
    assert '"v"' in reason


@pytest.mark.parametrize("first", [S, S * 1000, S * 1_000_000, S * 1_000_000_000, float(S)])
def test_the_first_time_tells_the_unit(first: float) -> None:
    assert one(columns(time=[first], v=[1])).time.to_pylist() == [US]


@pytest.mark.parametrize(("unit", "expected"), [("s", 5_000_000), ("ms", 5000), ("us", 5), ("ns", 0)])
def test_u_names_the_unit(unit: str, expected: int) -> None:
    assert one({**columns(time=[5], v=[1]), "u": unit}).time.to_pylist() == [expected]
    assert one({"m": "cpu", "t": 5, "fields": {"v": 1}, "u": unit}).time.to_pylist() == [expected]


def test_fractions_of_seconds_are_kept() -> None:
    assert one(columns(time=[S + 0.5, S], v=[1, 2])).time.to_pylist() == [US + 500_000, US]


def test_without_time_all_rows_are_of_now() -> None:
    assert one(columns(v=[1, 2])).time.to_pylist() == [NOW, NOW]


BAD_TIMES = [[None], ["1"], [True], [2**63], [2**64 - 1], [math.nan], [10**9, 2**62], [[1]], [S, None]]


@pytest.mark.parametrize("times", BAD_TIMES, ids=repr)
def test_a_time_that_is_none_refuses_the_item(times: list[object]) -> None:
    assert len(reasons(columns(time=times, v=[1] * len(times)))) == 1


def test_tags_of_the_column_form_name_tag_columns() -> None:
    batch = one({**columns(host=["a", None], rack=[None, None], v=[1, 2]), "tags": ["host", "rack", "absent"]})
    assert [(column.name, column.kind) for column in batch.columns] == [
        ("host", Kind.TAG),
        ("rack", Kind.TAG),
        ("v", Kind.INTEGER),
    ]


BAD_ITEMS = {
    "no measurement": ({"columns": {"v": [1]}}, "measurement"),
    "empty measurement": ({"m": "", "columns": {"v": [1]}}, "m is neither"),
    "measurement of the wrong type": ({"m": True, "columns": {"v": [1]}}, "m is neither"),
    "no columns": ({"m": "cpu", "columns": {}}, "columns is empty"),
    "columns that are no map": ({"m": "cpu", "columns": [1]}, "columns is not a map"),
    "a column that is no array": ({"m": "cpu", "columns": {"v": 1}}, '"v" is not an array'),
    "a column name that is no text": ({"m": "cpu", "columns": {5: [1]}}, "not text"),
    "unequal lengths": ({"m": "cpu", "columns": {"time": [1, 2], "v": [1]}}, "unequal"),
    "a numeric tag column": ({"m": "cpu", "columns": {"v": [1]}, "tags": ["v"]}, "tag"),
    "a tag map with columns": ({"m": "cpu", "columns": {"v": [1]}, "tags": {"a": "b"}}, "tags"),
    "an unknown unit": ({"m": "cpu", "columns": {"v": [1]}, "u": "h"}, "u is none of"),
    "neither columns nor fields": ({"m": "cpu", "t": 1}, "neither columns nor fields"),
    "no fields": ({"m": "cpu", "fields": {}}, "neither columns nor fields"),
    "a field that is a map": ({"m": "cpu", "fields": {"a": {"b": 1}}}, '"a"'),
    "a tag that is a map": ({"m": "cpu", "fields": {"a": 1}, "tags": {"b": {}}}, '"b"'),
    "tags that are a list": ({"m": "cpu", "fields": {"a": 1}, "tags": ["b"]}, "tags is not a map"),
    "a time that is text": ({"m": "cpu", "t": "1", "fields": {"a": 1}}, "t is"),
    "a host that is a float": ({"m": "cpu", "h": 1.5, "fields": {"a": 1}}, "h is"),
    "two hosts": ({"m": "cpu", "h": "a", "tags": {"host": "b"}, "fields": {"a": 1}}, "different"),
}


@pytest.mark.parametrize(("item", "said"), BAD_ITEMS.values(), ids=BAD_ITEMS.keys())
def test_a_bad_item_is_refused_with_its_number_and_reason(item: object, said: str) -> None:
    good = {"m": "mem", "columns": {"v": [1]}}
    request = decode([good, item, good])
    assert [refused.line for refused in request.refused] == [2]
    assert said in request.refused[0].reason
    assert [(batch.measurement, batch.lines.to_pylist()) for batch in request.batches] == [("mem", [1, 3])]


def test_a_row_has_host_tags_and_fields_and_a_null_says_nothing() -> None:
    item = {"m": "cpu", "t": S * 1000, "h": "a", "fields": {"v": 1.5, "s": "x", "none": None}, "tags": {"dc": "eu"}}
    batch = one(item)
    assert batch.time.to_pylist() == [US]
    assert cells(batch) == [
        ("dc", Kind.TAG, ["eu"]),
        ("host", Kind.TAG, ["a"]),
        ("v", Kind.FLOAT, [1.5]),
        ("s", Kind.STRING, ["x"]),
    ]


@pytest.mark.parametrize(
    ("given", "host"),
    [
        ({"h": "a"}, "a"),
        ({"h": 7}, "host_7"),
        ({}, "unknown"),
        ({"tags": {"host": "b"}}, "b"),
        ({"h": None}, "unknown"),
    ],
)
def test_a_row_always_has_a_host(given: dict[str, object], host: str) -> None:
    assert ("host", Kind.TAG, [host]) in cells(one({"m": "cpu", "fields": {"v": 1}, **given}))


@pytest.mark.parametrize(
    ("given", "text"), [("x", "x"), (5, "5"), (-1, "-1"), (1.5, "1.5"), (True, "true"), (False, "false"), (None, None)]
)
def test_tag_values_of_rows_are_text(given: object, text: str | None) -> None:
    found = cells(one({"m": "cpu", "fields": {"v": 1}, "tags": {"k": given}}))
    assert (("k", Kind.TAG, [text]) in found) == (text is not None)


def test_f_gives_numbered_fields() -> None:
    assert cells(one({"m": "cpu", "h": "a", "f": [1, "x"]}))[1:] == [
        ("field_0", Kind.INTEGER, [1]),
        ("field_1", Kind.STRING, ["x"]),
    ]


def test_a_number_names_a_measurement() -> None:
    assert one({"m": 3, "columns": {"v": [1]}}).measurement == "measurement_3"


def test_rows_are_grouped_by_measurement_in_their_order() -> None:
    items = [{"m": name, "t": S + t, "fields": {"v": t}} for t, name in enumerate(["cpu", "mem", "cpu"])]
    cpu, mem = decode(items).batches
    assert (cpu.measurement, cpu.lines.to_pylist(), cpu.columns[1].values.to_pylist()) == ("cpu", [1, 3], [0, 2])
    assert (mem.measurement, mem.lines.to_pylist()) == ("mem", [2])


def test_each_row_guesses_its_own_unit() -> None:
    items = [{"m": "cpu", "t": t, "fields": {"v": 1}} for t in (S, S * 1000, S * 10**6, S * 10**9)]
    assert one(items).time.to_pylist() == [US] * 4


def test_a_field_of_several_kinds_becomes_a_column_for_each() -> None:
    values = [1, 1.5, "x", None, True, 2**63, 2]
    batch = one([{"m": "cpu", "fields": {"v": value, "w": 0}} for value in values])
    found = {column.kind: column.values.to_pylist() for column in batch.columns if column.name == "v"}
    assert found == {
        Kind.INTEGER: [1, None, None, None, None, None, 2],
        Kind.UNSIGNED: [None, None, None, None, None, 2**63, None],
        Kind.FLOAT: [None, 1.5, None, None, None, None, None],
        Kind.STRING: [None, None, "x", None, None, None, None],
        Kind.BOOLEAN: [None, None, None, None, True, None, None],
    }


def test_columns_and_rows_of_one_measurement_are_one_batch() -> None:
    items = [columns(time=[S, S], v=[1, 2]), {"m": "cpu", "t": S, "fields": {"w": 1.5}}, columns(v=["x"])]
    batch = one(items)
    assert batch.lines.to_pylist() == [1, 1, 2, 3]
    assert cells(batch) == [
        ("v", Kind.INTEGER, [1, 2, None, None]),
        ("host", Kind.TAG, [None, None, "unknown", None]),
        ("w", Kind.FLOAT, [None, None, 1.5, None]),
        ("v", Kind.STRING, [None, None, None, "x"]),
    ]


@pytest.mark.parametrize("wrap", [lambda items: items, lambda items: {"batch": items, "columns": {}, "m": "no"}])
def test_items_come_as_an_array_or_as_a_batch(wrap: object) -> None:
    assert callable(wrap)
    request = decode(wrap([columns(v=[1]), 5, {"m": "mem", "columns": {"v": [2]}}]))
    assert [batch.measurement for batch in request.batches] == ["cpu", "mem"]
    assert [(refused.line, refused.reason) for refused in request.refused] == [(2, "the item is not a map")]


def test_unknown_keys_are_ignored() -> None:
    assert one({"v": 2, "x": {"deep": [[{}]]}, **columns(v=[1])}).rows == 1


def test_columns_without_rows_are_nothing() -> None:
    assert decode(columns(time=[], v=[])) == Request(())


def test_text_that_is_no_utf8_refuses_its_item_alone() -> None:
    bad = b"\x82\xa1m\xa1a\xa7columns\x81\xa1v\x91\xa2\xff\xfe"
    name = b"\x82\xa1m\xa1a\xa7columns\x81\xa1\xff\x91\x01"
    field = b"\x82\xa1m\xa1a\xa6fields\x81\xa1v\xa1\xff"
    measurement = b"\x82\xa1m\xa1\xff\xa7columns\x81\xa1v\x91\x01"
    good = msgpack.packb(columns(v=[1]))
    request = decoder.decode(b"\x95" + bad + name + field + measurement + good, now_us=NOW)
    assert [(refused.line, "UTF-8" in refused.reason) for refused in request.refused] == [
        (n, True) for n in (1, 2, 3, 4)
    ]
    assert all(refused.text.isprintable() for refused in request.refused)
    assert request.rows == 1


@pytest.mark.parametrize(
    "body",
    [
        b"\x82\xa1m\xa1a\xa1m\xa1b",
        b"\x82\xa1m\xa1a\xa7columns\x82\xa1v\x91\x01\xa1v\x91\x02",
        b"\x82\xa1m\xa1a\xa6fields\x82\xa1v\x01\xa1v\x02",
    ],
)
def test_a_key_that_comes_twice_refuses_the_item(body: bytes) -> None:
    (refused,) = decoder.decode(body, now_us=NOW).refused
    assert "twice" in refused.reason


def test_a_map_as_a_key_refuses_the_item() -> None:
    (refused,) = decoder.decode(b"\x81\x81\x01\x01\x02", now_us=NOW).refused
    assert "key" in refused.reason


GOOD = msgpack.packb([columns(time=[S], v=[1.5], s=["text"]), {"m": "cpu", "h": "a", "fields": {"v": 1}}])
BROKEN = {
    "empty": b"",
    "a number": b"\x05",
    "text": b"\xa3cpu",
    "a byte without meaning": b"\x91\xc1",
    "bytes after the end": GOOD + b"\xc0",
    "an array cut short": b"\xdd\xff\xff\xff\xff",
    "a map cut short": b"\xdf\xff\xff\xff\xff",
    "depth": b"\x91" * 5000 + b"\xc0",
    "batch without array": msgpack.packb({"batch": 5}),
    "a timestamp of odd length": b"\x91\xd4\xff\x00",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_body_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        decoder.decode(body, now_us=NOW)


def test_every_cut_of_a_body_is_invalid_and_tells_the_place() -> None:
    for length in range(1, len(GOOD)):
        with pytest.raises(InvalidRequest, match=r"near byte \d+: it ends too early"):
            decoder.decode(GOOD[:length], now_us=NOW)


def test_promises_of_nested_arrays_cost_nothing() -> None:
    """Each of 500 headers promises as many elements as the body has bytes; believed, they would take gigabytes."""
    body = (b"\xdd" + struct.pack(">I", 1_000_000)) * 500 + b"\xc0" * 1_000_000
    tracemalloc.start()
    began = time.perf_counter()
    with pytest.raises(InvalidRequest):
        decoder.decode(body, now_us=NOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * len(body)
    assert time.perf_counter() - began < 5


def test_rows_of_ever_new_columns_are_too_large() -> None:
    items = [{"m": "cpu", "fields": {f"v{index}": 1}} for index in range(5000)]
    with pytest.raises(TooLarge):
        decode(items)


def test_column_items_of_ever_new_columns_are_too_large() -> None:
    with pytest.raises(TooLarge):
        decode([columns(**{f"v{index}": [1]}) for index in range(5000)])


def test_very_many_bad_items_refuse_the_request() -> None:
    with pytest.raises(TooLarge):
        decode([5] * (decoder.REFUSED_MAX + 1))


def test_very_many_columns_refuse_the_item() -> None:
    assert len(reasons(columns(**{f"v{index}": [1] for index in range(decoder.COLUMNS_MAX + 1)}))) == 1


def test_very_many_measurements_are_too_large() -> None:
    with pytest.raises(TooLarge):
        decode([{"m": f"m{index}", "fields": {"v": 1}} for index in range(bounds.MEASUREMENTS_MAX + 1)])


def test_a_reason_never_repeats_a_huge_name() -> None:
    ((_, reason),) = reasons(columns(**{"x" * 100_000: [1, "a"]}))
    assert len(reason) <= 300


@given(body=st.binary(max_size=200) | st.binary(max_size=60).map(lambda rest: b"\x82\xa1m\xa1a\xa7columns" + rest))
@settings(max_examples=300)
def test_random_bytes_never_raise_anything_unforeseen(body: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        decoder.decode(body, now_us=NOW)


plain = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=3)
)
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
)
shaped = st.fixed_dictionaries(
    {},
    optional={
        "m": st.just("cpu") | anything,
        "t": st.integers(0, 2**64 - 1) | anything,
        "h": st.just("a") | anything,
        "u": st.sampled_from(["s", "ns", "x"]) | anything,
        "columns": st.dictionaries(st.sampled_from(["time", "v", "w"]), st.lists(plain, max_size=3)) | anything,
        "fields": st.dictionaries(st.sampled_from(["v", "w"]), plain) | anything,
        "tags": st.dictionaries(st.sampled_from(["v", "host"]), plain) | st.lists(st.just("v")) | anything,
        "f": st.lists(plain, max_size=3) | anything,
        "batch": anything,
    },
)


@given(item=st.lists(shaped, max_size=4) | shaped)
@settings(max_examples=300)
def test_every_item_is_understood_or_refused(item: object) -> None:
    with contextlib.suppress(InvalidRequest):
        request = decode(item)
        items = len(item) if isinstance(item, list) else 1
        assert len({refused.line for refused in request.refused}) == len(request.refused)
        for batch in request.batches:
            assert batch.time.null_count == 0
            for column in batch.columns:
                assert len(column.values) == batch.rows
                assert column.values.type == column.kind.arrow
                column.values.validate(full=True)
            if isinstance(item, list):
                assert 1 <= min(batch.lines.to_pylist()) <= max(batch.lines.to_pylist()) <= items
                refused = {refused.line for refused in request.refused}
                assert refused.isdisjoint(batch.lines.to_pylist())
