"""The line protocol grammar, case by case. The cases follow the InfluxDB 1.x reference; see also the oracle test."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from arc.errors import InvalidRequest
from arc.ingest.columns import Kind, Request
from arc.ingest.lineprotocol import EXCERPT_CHARS, TIME_US_MAX, TIME_US_MIN, parse

NOW_US = 1_767_225_600_000_000

Row = tuple[str, dict[str, str], dict[str, tuple[str, Any]], int]


def rows_of(request: Request) -> list[Row]:
    """The rows of a request as (measurement, tags, fields with their kinds, time), batch after batch."""
    out: list[Row] = []
    for batch in request.batches:
        cells = [(column.name, column.kind, column.values.to_pylist()) for column in batch.columns]
        for row, time in enumerate(batch.time.to_pylist()):
            present = [(name, kind, values[row]) for name, kind, values in cells if values[row] is not None]
            tags = {name: value for name, kind, value in present if kind is Kind.TAG}
            fields = {name: (kind.value, value) for name, kind, value in present if kind is not Kind.TAG}
            out.append((batch.measurement, tags, fields, time))
    return out


def one(line: str, precision: str = "ns") -> Row:
    request = parse(line.encode(), precision=precision, now_us=NOW_US)
    assert request.refused == ()
    (row,) = rows_of(request)
    return row


def reason(line: str | bytes, precision: str = "ns") -> str:
    body = line.encode() if isinstance(line, str) else line
    request = parse(body, precision=precision, now_us=NOW_US)
    assert request.batches == ()
    (refused,) = request.refused
    assert refused.line == 1
    return refused.reason


GOOD = [
    ("cpu v=1", ("cpu", {}, {"v": ("float", 1.0)}, NOW_US)),
    ("cpu v=1 1000", ("cpu", {}, {"v": ("float", 1.0)}, 1)),
    ("cpu,host=a v=1 1000", ("cpu", {"host": "a"}, {"v": ("float", 1.0)}, 1)),
    ("cpu,b=2,a=1 v=1,w=2i 1000", ("cpu", {"a": "1", "b": "2"}, {"v": ("float", 1.0), "w": ("integer", 2)}, 1)),
    # spaces, tabs and line ends
    ("  \t\0cpu   v=1   1000  ", ("cpu", {}, {"v": ("float", 1.0)}, 1)),
    ("cpu v=1 ", ("cpu", {}, {"v": ("float", 1.0)}, NOW_US)),
    ("cpu v=1 1000\r\n", ("cpu", {}, {"v": ("float", 1.0)}, 1)),
    ("cpu v=1\r\n", ("cpu", {}, {"v": ("float", 1.0)}, NOW_US)),
    ("cpu v=1\r", ("cpu", {}, {"v": ("float", 1.0)}, NOW_US)),
    ('cpu v="a"\r\n', ("cpu", {}, {"v": ("string", "a")}, NOW_US)),
    # escapes in names
    (r"a\,b\ c,k\ =x\,y\=z\  f\=\ \,=1", ("a,b c", {"k ": "x,y=z "}, {"f= ,": ("float", 1.0)}, NOW_US)),
    (r"a=b,k=v f=1", ("a=b", {"k": "v"}, {"f": ("float", 1.0)}, NOW_US)),
    (r"a\=b f=1", ("a=b", {}, {"f": ("float", 1.0)}, NOW_US)),
    (r"a\b,k\k=v\v f\f=1", (r"a\b", {r"k\k": r"v\v"}, {r"f\f": ("float", 1.0)}, NOW_US)),
    (r"a\\,b f=1", (r"a\,b", {}, {"f": ("float", 1.0)}, NOW_US)),
    (r"a,k=\\ v f=1", ("a", {"k": r"\ v"}, {"f": ("float", 1.0)}, NOW_US)),
    (r"\ a f=1", (" a", {}, {"f": ("float", 1.0)}, NOW_US)),
    # quotes mean nothing in names
    ('"m",k="v,"q"=x "f=1', ('"m"', {"k": '"v', '"q"': "x"}, {'"f': ("float", 1.0)}, NOW_US)),
    ("a.b/c:d,µ=é ☃=1", ("a.b/c:d", {"µ": "é"}, {"☃": ("float", 1.0)}, NOW_US)),
    # strings
    ('m s=""', ("m", {}, {"s": ("string", "")}, NOW_US)),
    (r'm s="a\"b\\c\d,e =f"', ("m", {}, {"s": ("string", r'a"b\c\d,e =f')}, NOW_US)),
    (r'm s="\\" 1000', ("m", {}, {"s": ("string", "\\")}, 1)),
    ('m s="a\nb # c\n\nd",t="\r\n" 1000', ("m", {}, {"s": ("string", "a\nb # c\n\nd"), "t": ("string", "\r\n")}, 1)),
    ('m s="a\\\nb"', ("m", {}, {"s": ("string", "a\\\nb")}, NOW_US)),
    ('m s="x=1 y,z=\'",t=t', ("m", {}, {"s": ("string", "x=1 y,z='"), "t": ("boolean", True)}, NOW_US)),
    # one name used twice
    ("m f=1,g=2,f=3", ("m", {}, {"f": ("float", 3.0), "g": ("float", 2.0)}, NOW_US)),
    ("m f=1,f=3i", ("m", {}, {"f": ("integer", 3)}, NOW_US)),
    ("m,a=x a=1", ("m", {"a": "x"}, {"a": ("float", 1.0)}, NOW_US)),
    # after the timestamp only spaces
    ("m f=1 -1", ("m", {}, {"f": ("float", 1.0)}, -1)),
    ("m f=1 0001000", ("m", {}, {"f": ("float", 1.0)}, 1)),
]


@pytest.mark.parametrize(("line", "expected"), GOOD, ids=[line for line, _ in GOOD])
def test_a_good_line_gives_its_row(line: str, expected: Row) -> None:
    assert one(line) == expected


VALUES = [
    *[(text, ("boolean", True)) for text in ("t", "T", "true", "True", "TRUE")],
    *[(text, ("boolean", False)) for text in ("f", "F", "false", "False", "FALSE")],
    *[(f"{number}i", ("integer", number)) for number in (0, 7, -7, 2**63 - 1, -(2**63))],
    ("-0i", ("integer", 0)),
    ("007i", ("integer", 7)),
    ("0000000000000000000000000000000000001i", ("integer", 1)),
    *[(f"{number}u", ("unsigned", number)) for number in (0, 7, 2**63, 2**64 - 1)],
    *[(text, ("float", float(text))) for text in ("0", "1", "-1", "1.5", "-.5", ".5", "5.", "00.5", "1e5", "1E+5")],
    *[(text, ("float", float(text))) for text in ("1.e2", "2e-5", "5e-324", "1e-400", "1.7976931348623157e308")],
    *[(text, ("float", float(text))) for text in ("0.1", "9007199254740993", "123456789012345678901234567890")],
]


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_a_value_has_the_type_its_spelling_says(text: str, expected: tuple[str, object]) -> None:
    assert one(f"m f={text} 1000") == ("m", {}, {"f": expected}, 1)


def test_negative_zero_keeps_its_sign() -> None:
    assert str(one("m f=-0.0")[2]["f"][1]) == "-0.0"


NOT_FINITE = "invalid number: NaN and infinity cannot be stored"
BAD = [
    ("cpu", "missing fields"),
    ("cpu ", "missing fields"),
    ("cpu,host=a", "missing fields"),
    ("cpu,host=a  ", "missing fields"),
    (",host=a v=1", "missing measurement"),
    ("cpu, v=1", "missing tag key"),
    ("cpu,=a v=1", "missing tag key"),
    ("cpu,host v=1", "missing tag value"),
    ("cpu,host= v=1", "missing tag value"),
    ("cpu,host=,b=c v=1", "missing tag value"),
    ("cpu,host,b=c v=1", "missing tag value"),
    ("cpu,host=a=b v=1", "invalid tag format"),
    ("cpu,a=1,b=2,a=3 v=1", "duplicate tags"),
    (r"cpu,a\ =1,b=2,a\ =1 v=1", "duplicate tags"),
    ("cpu,time=1 v=1", "tag name 'time' is reserved for the timestamp"),
    ("cpu time=1", "field name 'time' is reserved for the timestamp"),
    ("cpu v=1,Time=1", "field name 'Time' is reserved for the timestamp"),
    ("cpu =1", "missing field key"),
    ("cpu v=1,=2", "missing field key"),
    ("cpu v", "invalid field format"),
    ("cpu v=1,", "invalid field format"),
    ("cpu v=1,,w=2", "invalid field format"),
    ("cpu ,v=1", "invalid field format"),
    ("cpu v=1,w 1", "invalid field format"),
    ('cpu v="a"b', "invalid field format"),
    ('cpu v="a""b"', "invalid field format"),
    ("cpu v=", "missing field value"),
    ("cpu v= 1", "missing field value"),
    ("cpu v=,w=1", "missing field value"),
    ('cpu v="a', "unbalanced quotes"),
    ('cpu v="', "unbalanced quotes"),
    ('cpu v="a\\"', "unbalanced quotes"),
    ('cpu v="a\\', "unbalanced quotes"),
    ("cpu v=x", "invalid boolean"),
    ("cpu v=tRUE", "invalid boolean"),
    ("cpu v=tr", "invalid boolean"),
    ("cpu v=t\t1", "invalid boolean"),
    *[(f"m v={text}", "invalid number") for text in ("-", ".", "-.", "1.2.3", "1e", "1e+", ".e1", "+1", "0x1", "1_0")],
    *[(f"m v={text}", "invalid number") for text in ("1ii", "1.5i", "1e2i", "-1u", "1.u", "-i", "1a", "1\t2", '1"')],
    ("m v=1\\", "invalid number"),
    *[(f"cpu v={text}", "invalid number: float out of range") for text in ("1e309", "-1e309", "9" * 400)],
    *[(f"cpu v={text}", NOT_FINITE) for text in ("NaN", "nan", "-NaN", "inf", "+Inf", "-infinity")],
    ("cpu v=9223372036854775808i", "unable to parse integer 9223372036854775808i: value out of range"),
    ("cpu v=-9223372036854775809i", "unable to parse integer -9223372036854775809i: value out of range"),
    ("cpu v=18446744073709551616u", "unable to parse unsigned integer 18446744073709551616u: value out of range"),
    ("cpu v=1 x", "bad timestamp"),
    ("cpu v=1 -", "bad timestamp"),
    ("cpu v=1 +1", "bad timestamp"),
    ("cpu v=1 1.0", "bad timestamp"),
    ("cpu v=1 1 2", "bad timestamp"),
    ("cpu v=1 1\t", "bad timestamp"),
    ("cpu v=1 9223372036854775808", "bad timestamp: outside of 1677-09-21 to 2262-04-11"),
    ("cpu v=1 -9223372036854775808", "bad timestamp: outside of 1677-09-21 to 2262-04-11"),
    ("cpu v=1 " + "9" * 5000, "bad timestamp: outside of 1677-09-21 to 2262-04-11"),
    (b"cpu v=\"\xff\"", "invalid UTF-8"),
    (b"c\xc3pu v=1", "invalid UTF-8"),
    (b"cpu,a=\xed\xa0\x80 v=1", "invalid UTF-8"),
    ("m" * 65_536 + " v=1", "max key length exceeded: 65536 > 65535"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "expected"), BAD, ids=[repr(line)[:40] for line, _ in BAD])
def test_a_bad_line_is_refused_with_its_reason(line: str | bytes, expected: str) -> None:
    assert reason(line) == expected


def test_a_megabyte_of_digits_is_refused_quickly() -> None:
    assert reason("m v=" + "1" * 1_000_000 + "i").endswith("value out of range")


PRECISIONS = [
    ("", 1_999, 1), ("ns", 1_999, 1), ("n", -1, -1), ("ns", -1_000, -1), ("ns", -1_001, -2), ("us", 5, 5),
    ("u", -5, -5), ("µ", 5, 5), ("μ", 5, 5), ("ms", 5, 5_000),
    ("s", 5, 5_000_000), ("m", 2, 120_000_000), ("h", -1, -3_600_000_000),
]  # fmt: skip


@pytest.mark.parametrize(("precision", "written", "stored_us"), PRECISIONS)
def test_time_is_stored_as_floor_microseconds(precision: str, written: int, stored_us: int) -> None:
    assert one(f"m f=1 {written}", precision)[3] == stored_us


@pytest.mark.parametrize("precision", ["x", "NS", "d", "w", "us ", "1"])
def test_an_unknown_precision_is_an_invalid_request(precision: str) -> None:
    with pytest.raises(InvalidRequest, match="precision"):
        parse(b"m f=1", precision=precision, now_us=NOW_US)


def test_the_first_and_the_last_time_that_can_be_stored() -> None:
    assert one(f"m f=1 {TIME_US_MAX}", "us")[3] == TIME_US_MAX
    assert one(f"m f=1 {TIME_US_MIN}", "us")[3] == TIME_US_MIN
    assert reason(f"m f=1 {TIME_US_MAX + 1}", "us").startswith("bad timestamp")
    assert reason(f"m f=1 {TIME_US_MIN - 1}", "us").startswith("bad timestamp")
    assert reason("m f=1 9223372036854775807", "h").startswith("bad timestamp")


def test_blank_lines_and_comments_are_skipped_and_count_as_lines() -> None:
    body = b"\n  \n\r\n# it's =\"a comment\n \t# x\nm f=1\n\nbad\n"
    request = parse(body, precision="ns", now_us=NOW_US)
    assert request.batches[0].lines is not None
    assert request.batches[0].lines.to_pylist() == [6]
    assert [(refused.line, refused.text) for refused in request.refused] == [(8, "bad")]


@pytest.mark.parametrize("body", [b"", b"\n", b"# only a comment", b" \r\n\t\n"])
def test_nothing_to_store_gives_an_empty_request(body: bytes) -> None:
    assert parse(body, precision="ns", now_us=NOW_US) == Request((), ())


def test_a_newline_in_a_string_counts_in_line_numbers() -> None:
    request = parse(b'm s="a\n\nb"\nbad\nm s="c"', precision="ns", now_us=NOW_US)
    assert request.batches[0].lines is not None
    assert request.batches[0].lines.to_pylist() == [1, 5]
    assert [refused.line for refused in request.refused] == [4]


def test_a_bad_line_with_a_newline_in_its_string_is_one_line() -> None:
    """Text of a message must never be read as a line of its own, even when the line around it is refused."""
    request = parse(b'm,=x s="a\nevil f=1 1\n" 1\nm f=1 1', precision="ns", now_us=NOW_US)
    assert request.rows == 1
    assert [refused.reason for refused in request.refused] == ["missing tag key"]


def test_an_unclosed_string_swallows_the_rest_of_the_body() -> None:
    request = parse(b'm f=1\nm s="a\nm f=2\n', precision="ns", now_us=NOW_US)
    assert request.rows == 1
    assert [(refused.line, refused.reason) for refused in request.refused] == [(2, "unbalanced quotes")]


def test_a_backslash_does_not_hide_the_end_of_a_line() -> None:
    request = parse(b"m f=1\\\nm f=2\nm\\\nm f=3", precision="ns", now_us=NOW_US)
    assert [row[2]["f"][1] for row in rows_of(request)] == [2.0, 3.0]
    assert [refused.line for refused in request.refused] == [1, 3]


def test_a_quote_in_a_tag_opens_no_string() -> None:
    request = parse(b'm,a="x f=1\nm,a=y" f=2', precision="ns", now_us=NOW_US)
    assert [row[1]["a"] for row in rows_of(request)] == ['"x', 'y"']


def test_measurements_come_in_order_of_first_appearance_and_rows_in_order_of_lines() -> None:
    request = parse(b"b f=1\na f=2\nb f=3\n", precision="ns", now_us=NOW_US)
    assert [(batch.measurement, batch.rows) for batch in request.batches] == [("b", 2), ("a", 1)]
    assert [row[2]["f"][1] for row in rows_of(request)] == [1.0, 3.0, 2.0]


def test_types_of_the_columns_are_those_promised() -> None:
    body = b'm,a=x f=1,i=1i,u=1u,b=t,s="x"\nm,a=x,c=z f=2\nm f=3i'
    (batch,) = parse(body, precision="ns", now_us=NOW_US).batches
    assert batch.time.type == pa.int64()
    assert batch.lines is not None
    assert batch.lines.type == pa.int32()
    columns = [(column.name, column.kind, column.values.type) for column in batch.columns]
    tag = pa.dictionary(pa.int32(), pa.utf8())
    assert columns == [
        ("a", Kind.TAG, tag),
        ("c", Kind.TAG, tag),
        ("b", Kind.BOOLEAN, pa.bool_()),
        ("f", Kind.FLOAT, pa.float64()),
        ("f", Kind.INTEGER, pa.int64()),
        ("i", Kind.INTEGER, pa.int64()),
        ("s", Kind.STRING, pa.utf8()),
        ("u", Kind.UNSIGNED, pa.uint64()),
    ]
    assert batch.columns[0].values.dictionary.to_pylist() == ["x"]
    for column in batch.columns:
        column.values.validate(full=True)
        assert len(column.values) == 3


def test_the_shown_text_of_a_refused_line_is_short() -> None:
    request = parse(("  é" * 400).encode(), precision="ns", now_us=NOW_US)
    assert len(request.refused[0].text) == EXCERPT_CHARS
    assert request.refused[0].text.startswith("é  é")


def test_a_memoryview_is_a_body_too() -> None:
    assert parse(memoryview(b"m f=1 1000"), precision="ns", now_us=0).rows == 1
