"""What the line protocol tests share: comparing two answers, and bodies that Hypothesis makes up."""

from __future__ import annotations

import os
import struct

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from arc.ingest.columns import Kind, Request

NOW_US = 1_767_225_600_000_000

EXAMPLES = int(os.environ.get("ARC_LP_EXAMPLES", "100"))
"""Examples of each property; more than the default are drawn at random."""


def compare(found: Request, expected: Request) -> Request:
    assert found.refused == expected.refused
    assert [batch.measurement for batch in found.batches] == [batch.measurement for batch in expected.batches]
    for left, right in zip(found.batches, expected.batches, strict=True):
        assert left.lines is not None
        assert left.lines.equals(right.lines)
        assert left.time.equals(right.time)
        assert [(c.name, c.kind) for c in left.columns] == [(c.name, c.kind) for c in right.columns]
        for column, other in zip(left.columns, right.columns, strict=True):
            column.values.validate(full=True)
            assert column.values.type == other.values.type
            assert column.values.null_count == other.values.null_count
            if column.kind is Kind.TAG:
                # Not all readers of dictionaries look at the validity first.
                codes = np.frombuffer(column.values.indices.buffers()[1], np.int32)[: left.rows]
                assert codes.min() >= 0
                assert codes.max() < len(column.values.dictionary)
            if column.kind is Kind.FLOAT:
                assert bits(column.values) == bits(other.values)
            else:
                assert column.values.equals(other.values), (column, other)
    return found


def bits(values: pa.Array) -> list[bytes | None]:
    return [None if value is None else struct.pack("<d", value) for value in values.to_pylist()]


# -- bodies that look like bodies, with some poison in them -----------------------------------------------------------

poison = st.text(alphabet='ab,= "\\é#.1i\0\t', min_size=0, max_size=5)
word = st.sampled_from(
    ["cpu", "mem", "a", "host", "region", "usage_idle", "x", "k", "x=y", "x\\=y", "time", "Time", "µ", "b\\ c", "d\\,e",
     "f\\\\,g", "eight_88", "a_long_field_key_name_1234", "sixteen_letters_", "a_very_long_name_" * 4, '"', "\\",
     "fifteen_letters"]
)  # fmt: skip
name = st.one_of(word, word, word, word, poison)
string = st.text(alphabet='ab ,="\\é\t\n#\r', max_size=80).map(
    lambda s: '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
number = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.floats(0, 100).map(lambda x: f"{x:.3f}"),
    st.floats(0, 1e-3).map(lambda x: f"{x:.20f}"),
    st.integers(-(2**63), 2**64).map(str),
    st.integers(-(2**64), 2**64).map(lambda x: f"{x}i"),
    st.integers(0, 1000).map(lambda x: f"{x}i"),
    st.integers(-5, 2**65).map(lambda x: f"{x}u"),
    st.sampled_from(["1.", ".5", "-.5", "+1", "1e5", "1E+22", "1e400", "0x10", "-", ".", "1e", "00012", "1_0",
                     "nan", "inf", "i", "u", "5e-324", "-0", "-0i", "0.0", "-0.0e5", "9007199254740993",
                     "123456789012345678901", "00000000000000000001", "0.00000000000000000000000000001",
                     "1e00001", "1e-5000", "1..2", "1.2.3"]),
)  # fmt: skip
value = st.one_of(
    number,
    number,
    string,
    st.sampled_from(
        ["t", "T", "f", "F", "true", "TRUE", "True", "false", "FALSE", "False", "tRue", "x", "", '"', '"a', '""b']
    ),
    poison,
)
tags = st.lists(st.tuples(name, name).map("=".join), max_size=4).map(
    lambda parts: "".join("," + part for part in parts)
)
fields = st.lists(st.tuples(name, value).map("=".join), max_size=5).map(",".join)
stamp = st.one_of(
    st.just(""),
    st.integers(-(2**63), 2**63).map(lambda x: f" {x}"),
    st.sampled_from(
        [" 1767225600000000000", " 12", " x", "  5", " -1", " -1001", " 1\r", " 1 ", " 1 2", " ", " \t7", " 007"]
    ),
)
space = st.sampled_from([" ", " ", " ", " ", "  ", " \t", ""])
before = st.sampled_from(["", "", "", "", " ", "\t", "\0"])
after = st.sampled_from(["\n", "\n", "\n", "\n", "\r\n", "\n\n", "\\\n", " \n"])
line = st.tuples(before, name, tags, space, fields, stamp, after).map("".join)
good_value = st.one_of(
    st.floats(-1e6, 1e6).map(repr),
    st.integers(-(2**63), 2**63 - 1).map(lambda x: f"{x}i"),
    st.integers(0, 2**64 - 1).map(lambda x: f"{x}u"),
    string,
    st.sampled_from(["t", "F", "true", "False", "0", "-0.0", "1e3"]),
)
good_name = st.sampled_from(["cpu", "mem", "host", "usage_idle", "a_long_field_key_name_1234", "x", "b\\ c", "k"])
good_tags = st.lists(
    st.tuples(good_name, st.sampled_from(["a", "bb", "server01", "us-east-1", "x\\,y", "é"])).map("=".join),
    max_size=3,
    unique_by=lambda tag: tag.split("=")[0],
).map(lambda parts: "".join("," + part for part in parts))
good_fields = st.lists(st.tuples(good_name, good_value).map("=".join), min_size=1, max_size=5).map(",".join)
good_stamp = st.sampled_from(["", " 1767225600000000000", " 1", " -99999"])
good = st.tuples(good_name, good_tags, st.just(" "), good_fields, good_stamp, st.just("\n")).map("".join)
junk = st.text(alphabet='ab,= "\\\n#1i\r\t', max_size=30)
comment = st.sampled_from(["# c\n", '# ="\n', "\n", "\r\n", "  \n"])
body = st.lists(st.one_of(good, good, good, good, line, line, junk, comment), min_size=1, max_size=14).map("".join)
precision = st.sampled_from(["ns", "ns", "us", "ms", "s", "m", "h"])
