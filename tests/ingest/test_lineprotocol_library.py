"""The library route answers only what it can prove, and then exactly as the exact parser does."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc.ingest.lineprotocol import parse, unit_of
from arc.ingest.lp_fast import LineDecoder
from arc.ingest.lp_library import decode_uniform
from tests.ingest.lines import EXAMPLES, NOW_US, body, compare

UNIFORM = b"".join(b"cpu,host=h%d,dc=a usage=%d.5,n=%di,u=%du %d\n" % (k % 3, k, -k, k, 1000 * k) for k in range(50))


def test_a_uniform_body_is_decoded() -> None:
    found = decode_uniform(UNIFORM, unit_of("ns"), NOW_US)
    assert found is not None
    compare(found, parse(UNIFORM, now_us=NOW_US))
    assert found.rows == 50


UNCERTAIN = {
    "another measurement": b"cpv,host=a,dc=a usage=1,n=1i,u=1u 1\n",
    "another tag key": b"cpu,hose=a,dc=a usage=1,n=1i,u=1u 1\n",
    "another field key": b"cpu,host=a,dc=a usagf=1,n=1i,u=1u 1\n",
    "keys in another order": b"cpu,host=a,dc=a usage=1,u=1u,n=1i 1\n",
    "a tag more": b"cpu,host=a,dc=a,e=f usage=1,n=1i,u=1u 1\n",
    "a field less": b"cpu,host=a,dc=a usage=1,n=1i 1\n",
    "no timestamp": b"cpu,host=a,dc=a usage=1,n=1i,u=1u\n",
    "a float for an integer": b"cpu,host=a,dc=a usage=1,n=1,u=1u 1\n",
    "an integer for a float": b"cpu,host=a,dc=a usage=1i,n=1i,u=1u 1\n",
    "a boolean": b"cpu,host=a,dc=a usage=t,n=1i,u=1u 1\n",
    "a string": b'cpu,host=a,dc=a usage="t",n=1i,u=1u 1\n',
    "an escape": b"cpu,host=a\\ b,dc=a usage=1,n=1i,u=1u 1\n",
    "a hexadecimal integer": b"cpu,host=a,dc=a usage=1,n=0x1i,u=1u 1\n",
    "a hexadecimal timestamp": b"cpu,host=a,dc=a usage=1,n=1i,u=1u 0x1\n",
    "a hexadecimal float": b"cpu,host=a,dc=a usage=0x1,n=1i,u=1u 1\n",
    "not a number": b"cpu,host=a,dc=a usage=nan,n=1i,u=1u 1\n",
    "infinity": b"cpu,host=a,dc=a usage=inf,n=1i,u=1u 1\n",
    "an overflow of a float": b"cpu,host=a,dc=a usage=1e999,n=1i,u=1u 1\n",
    "an overflow of an integer": b"cpu,host=a,dc=a usage=1,n=9223372036854775808i,u=1u 1\n",
    "a negative unsigned": b"cpu,host=a,dc=a usage=1,n=1i,u=-1u 1\n",
    "a sign": b"cpu,host=a,dc=a usage=+1,n=1i,u=1u 1\n",
    "a time out of range": b"cpu,host=a,dc=a usage=1,n=1i,u=1u 9223372036854775807\n",
    "an empty tag": b"cpu,host=,dc=a usage=1,n=1i,u=1u 1\n",
    "two spaces": b"cpu,host=a,dc=a usage=1,n=1i,u=1u  1\n",
    "a blank line": b"\n",
    "a comment": b"# x\n",
    "a carriage return": b"cpu,host=a,dc=a usage=1,n=1i,u=1u 1\r\n",
    "bytes that are not UTF-8": b"cpu,host=\xff,dc=a usage=1,n=1i,u=1u 1\n",
}


@pytest.mark.parametrize("what", UNCERTAIN)
def test_a_body_with_one_odd_line_is_left_to_the_exact_parser(what: str) -> None:
    for odd in (UNIFORM + UNCERTAIN[what], UNCERTAIN[what] + UNIFORM):
        assert decode_uniform(odd, unit_of("ns"), NOW_US) is None
        compare(LineDecoder().decode(odd, now_us=NOW_US), parse(odd, now_us=NOW_US))


@pytest.mark.parametrize(
    "line", ["m f=1", "m f=1 1", "m,a=b f=1i", "long_measurement_name,a=b long_field_name=1u 5", "m f=1,f=2"]
)
@pytest.mark.parametrize("end", ["", "\n"])
def test_short_bodies_are_right_or_left_alone(line: str, end: str) -> None:
    for count in (1, 2, 9):
        data = ("\n".join([line] * count) + end).encode()
        found = decode_uniform(data, unit_of("ns"), NOW_US)
        if found is not None:
            compare(found, parse(data, now_us=NOW_US))


token = st.text(alphabet="ab1xi.-eé", min_size=1, max_size=4)
template = st.tuples(
    st.sampled_from(["m", "measurement_1"]),
    st.lists(st.sampled_from(["a", "tag_key_longer"]), max_size=2),
    st.lists(st.sampled_from(["f", "g", "field_key_longer"]), min_size=1, max_size=3),
    st.booleans(),
)
number = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(-(2**63), 2**64).map(str),
    st.sampled_from(["0x1", ".5", "1.", "-.", "inf"]),
)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 200)
@given(st.data(), template, st.sampled_from(["ns", "ms", "h"]))
def test_the_library_route_equals_the_exact_parser(data: st.DataObject, shape: tuple, unit: str) -> None:
    """Lines of one shape, with values that are mostly numbers of one type."""
    measurement, tags, fields, timed = shape
    suffixes = [data.draw(st.sampled_from(["", "", "i", "u"])) for _ in fields]
    lines = []
    for _ in range(data.draw(st.integers(1, 5))):
        series = "".join(f",{tag}={data.draw(token)}" for tag in tags)
        values = ",".join(f"{field}={data.draw(number)}{end}" for field, end in zip(fields, suffixes, strict=True))
        stamp = f" {data.draw(st.integers(-(2**63), 2**63))}" if timed else ""
        lines.append(f"{measurement}{series} {values}{stamp}\n")
    text = "".join(lines).encode()
    found = decode_uniform(text, unit_of(unit), NOW_US)
    if found is not None:
        compare(found, parse(text, precision=unit, now_us=NOW_US))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 200)
@given(body)
def test_a_decoder_without_its_kernel_equals_the_exact_parser(text: str) -> None:
    data = text.encode() * 4
    compare(LineDecoder().decode(data, now_us=NOW_US), parse(data, now_us=NOW_US))
