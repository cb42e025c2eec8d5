"""The compiled decoder gives exactly what the exact parser gives: rows and their order, columns, refusals."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc.errors import InvalidRequest, TooLarge
from arc.ingest import lp_fast
from arc.ingest.columns import Request
from arc.ingest.lineprotocol import parse
from arc.ingest.lp_fast import LineDecoder
from tests.ingest.lines import EXAMPLES, NOW_US, body, compare, good, precision
from tests.ingest.test_lineprotocol import BAD, GOOD, VALUES

pytest.importorskip("numba", reason="the compiled kernel needs numba (extra 'fast')")

bounded = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES <= 200
)


@pytest.fixture(scope="module")
def decoder() -> Iterator[LineDecoder]:
    decoder = LineDecoder()
    assert decoder.warm()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lp_fast, "FAST_BYTES_MIN", 0)
        yield decoder


@pytest.fixture(scope="module")
def cramped() -> Iterator[LineDecoder]:
    """A decoder whose tables are so small that it forgets all the time."""
    from arc.ingest import lp_scratch, lp_tables

    decoder = LineDecoder()
    assert decoder.warm()
    decoder._idle = [lp_scratch.Scratch(lp_tables.new_tables(shrink=512))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lp_fast, "FAST_BYTES_MIN", 0)
        patch.setattr(lp_scratch, "ROWS_START", 1)
        patch.setattr(lp_scratch, "ROWS_MAX", 4)
        patch.setattr(lp_scratch, "SCRATCH_BYTES", 400)
        yield decoder


def check(decoder: LineDecoder, body: bytes, precision: str = "ns") -> Request:
    """Decode both ways and compare everything, the bits of floats too."""
    expected = parse(body, precision=precision, now_us=NOW_US)
    return compare(decoder.decode(body, precision=precision, now_us=NOW_US), expected)


@bounded
@given(body, precision, st.booleans())
def test_the_compiled_decoder_equals_the_exact_parser(decoder: LineDecoder, text: str, unit: str, twice: bool) -> None:
    check(decoder, text.encode() * (1 + twice), unit)


@bounded
@given(st.lists(body, min_size=1, max_size=3).map("".join))
def test_a_decoder_that_keeps_forgetting_equals_the_exact_parser(cramped: LineDecoder, text: str) -> None:
    check(cramped, text.encode())


@bounded
@given(
    st.lists(st.one_of(good.map(str.encode), good.map(str.encode), st.binary(max_size=20)), max_size=10).map(b"".join)
)
def test_bytes_that_are_not_utf8_are_refused_line_by_line(decoder: LineDecoder, data: bytes) -> None:
    check(decoder, data)


@pytest.mark.parametrize("text", [line for line, _ in [*GOOD, *BAD]], ids=lambda text: repr(text)[:40])
def test_every_case_of_the_grammar_is_the_same_compiled(decoder: LineDecoder, text: str | bytes) -> None:
    data = text.encode() if isinstance(text, str) else text
    check(decoder, data)
    check(decoder, b"m f=1 1\n" * 20 + data + b"\nm f=2 2\n" * 20)


@pytest.mark.parametrize("text", [text for text, _ in VALUES])
def test_every_spelling_of_a_value_is_the_same_compiled(decoder: LineDecoder, text: str) -> None:
    check(decoder, f"m f={text} 1000\n".encode() * 3)
    check(decoder, f"m f={text}".encode())


def test_floats_are_exact_to_the_last_bit(decoder: LineDecoder) -> None:
    chance = random.Random(1)
    texts = []
    for _ in range(20_000):
        texts.append(repr(struct.unpack("<d", struct.pack("<Q", chance.getrandbits(64)))[0]))
        texts.append(repr(chance.random() * 10 ** chance.randrange(-10, 10)))
        texts.append(f"{chance.getrandbits(60)}.{chance.getrandbits(3)}")
        texts.append(f"{chance.getrandbits(62)}e{chance.randrange(-60, 60)}")
        texts.append(f"{chance.getrandbits(54) * 2 + 1}e{chance.randrange(-5, 24)}")  # near the middle of two floats
    texts = [text for text in texts if "n" not in text]
    request = decoder.decode("".join(f"m v={text} 1\n" for text in texts).encode(), now_us=0)
    assert request.refused == ()
    found = request.batches[0].columns[0].values.to_numpy().view(np.uint64)
    assert (found == np.array([float(text) for text in texts]).view(np.uint64)).all()


def test_a_string_that_crosses_the_copied_end_of_the_body(decoder: LineDecoder) -> None:
    for size in range(0, 300, 7):
        text = "x\n" * size
        check(decoder, f'm f=1 1\nm s="{text}" 2\nm f=3 3'.encode())
        check(decoder, f'm f=1 1\nm s="{text} 2\nm f=3 3'.encode())


def test_more_rows_than_one_buffer_holds(decoder: LineDecoder) -> None:
    data = b"".join(b"m,h=%d v=%d,w=%d.5 %d\n" % (k % 7, k, k, 1000 * k) for k in range(70_000)) + b"bad\nm v=1 1"
    request = check(decoder, data)
    assert request.rows == 70_001


def test_more_series_than_the_tables_hold(decoder: LineDecoder) -> None:
    request = check(decoder, b"".join(b"m,h=%d v=1 1\n" % k for k in range(70_000)))
    assert request.rows == 70_000


def test_a_line_with_more_fields_than_the_tables_hold(decoder: LineDecoder) -> None:
    wide = b"m " + b",".join(b"f%d=1i" % k for k in range(9_000)) + b" 1\n"
    request = check(decoder, b"m a=1 1\n" + wide + b"m a=2 2\n")
    assert request.rows == 3


def test_a_line_with_many_tags(decoder: LineDecoder) -> None:
    check(decoder, b"m," + b",".join(b"t%d=%d" % (k, k) for k in range(300)) + b" v=1 1\nm,t1=x v=2 2\n")


def test_a_memoryview_is_decoded_in_place(decoder: LineDecoder) -> None:
    data = memoryview(bytearray(b"m,a=x f=1 1000\n" * 50))
    assert decoder.decode(data, now_us=0) == parse(bytes(data), now_us=0)


def test_an_unknown_precision_is_refused_by_the_compiled_decoder_too(decoder: LineDecoder) -> None:
    with pytest.raises(InvalidRequest, match="precision"):
        decoder.decode(b"m f=1\n" * 100, precision="d", now_us=0)


def test_two_spellings_of_one_measurement_are_one_batch(decoder: LineDecoder) -> None:
    request = check(decoder, b"a=b,t=x f=1 1\na\\=b f=2 2\nc f=3 3\na=b,t=y f=4 4\n")
    assert [(batch.measurement, batch.rows) for batch in request.batches] == [("a=b", 3), ("c", 1)]


def test_calls_from_several_threads_do_not_mix(decoder: LineDecoder) -> None:
    bodies = [b"".join(b"m%d,h=%d f%d=%d %d\n" % (n % 3, k, n, k, k) for k in range(200)) for n in range(8)]
    expected = [parse(data, now_us=0) for data in bodies]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert list(pool.map(lambda data: decoder.decode(data, now_us=0), bodies)) == expected
    assert len(decoder._idle) <= lp_fast.IDLE_SCRATCHES_MAX


def test_an_unwarmed_decoder_answers_the_same() -> None:
    data = b"m,a=x f=1 1000\n" * 50 + b"bad\n"
    assert LineDecoder().decode(data, now_us=0) == parse(data, now_us=0)


@pytest.mark.parametrize(
    "body",
    [
        b"\n".join(b"m f%d=1" % n for n in range(6000)),
        b"\n".join(b"m,t%d=x f=1" % n for n in range(6000)),
        b"\n".join(b"m%d f=1" % n for n in range(10_001)),
        b"\n".join(b"m%d f%d=1" % (n % 7, n) for n in range(9000)),
    ],
    ids=["field a line", "tag a line", "measurement a line", "field a line in several measurements"],
)
def test_lines_that_share_no_column_are_too_large_before_their_padding_is_made(body: bytes) -> None:
    """60 kB took minutes and gigabytes: the nulls of such a body grow with its square."""
    decoder = LineDecoder()
    decoder.warm()
    for decode in (parse, decoder.decode):
        with pytest.raises(TooLarge):
            decode(body, now_us=0)


def test_wide_rows_that_share_their_columns_are_fine() -> None:
    body = b"\n".join(b"m " + b",".join(b"f%d=%d" % (n, row) for n in range(1000)) for row in range(60))
    decoder = LineDecoder()
    decoder.warm()
    compare(decoder.decode(body, now_us=0), parse(body, now_us=0))


def test_a_flood_of_bad_lines_is_too_large_whichever_way_it_goes() -> None:
    body = b"x\n" * 100_001
    decoder = LineDecoder()
    decoder.warm()
    for decode in (parse, decoder.decode):
        with pytest.raises(TooLarge, match="line 100001"):
            decode(body, now_us=0)
