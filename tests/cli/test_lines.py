"""Pieces are whole lines, nothing is lost between them, and line numbers are those an editor shows."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.cli import lines
from arc.cli.exits import Failure
from arc.ingest.lineprotocol import parse, split_lines

LINES = st.lists(
    st.sampled_from(
        [
            b"m v=1",
            b"m,h=a v=1i 17",
            b'm s="text"',
            b'm s="two\nlines"',
            b'm s="a \\" quote\nand # this" 5',
            b'# comment with a " quote',
            b"",
            b"   ",
            b"bad line",
            b"m v=2\r",
            b"\r",
        ]
    ),
    max_size=40,
)


@given(given=LINES, ended=st.booleans(), size=st.integers(1, 60))
def test_pieces_put_together_are_the_input_and_refusals_have_its_line_numbers(
    given: list[bytes], ended: bool, size: int
) -> None:
    body = b"\n".join(given) + (b"\n" if ended and given else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "PIECE_BYTES", size)
        pieces = list(lines.cut(io.BytesIO(body).read))
    assert b"".join(piece.data for piece in pieces) == body
    whole = [one.line for one in parse(body, now_us=0).refused]
    parts = [piece.first_line - 1 + one.line for piece in pieces for one in parse(piece.data, now_us=0).refused]
    assert parts == whole
    assert sum(piece.rows for piece in pieces) == len(list(split_lines(body)))


@given(body=st.binary(max_size=200).map(lambda data: data.replace(b'"', b"")))
def test_rows_are_counted_as_the_parser_counts_lines(body: bytes) -> None:
    assert lines.count_rows(body) == len(list(split_lines(body)))


def test_the_pieces_of_a_file_depend_on_its_bytes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the idempotency keys of a repeated command would not fit what they were given to."""
    monkeypatch.setattr(lines, "PIECE_BYTES", 100)
    body = b"".join(b"m v=%d\n" % n for n in range(1000))
    once = list(lines.cut(io.BytesIO(body).read))
    again = list(lines.cut(io.BufferedReader(io.BytesIO(body), 7).read))
    assert once == again
    assert len(once) > 10


def test_a_quote_that_is_never_closed_ends_the_command_and_names_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "PIECE_BYTES", 64)
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 256)
    body = b'm v=1\nm s="open\n' + b"m v=2\n" * 200
    with pytest.raises(Failure, match="line 2 is longer") as failure:
        list(lines.cut(io.BytesIO(body).read))
    assert "quote" in failure.value.next_step


def test_half_a_line_waits_for_its_rest() -> None:
    assert lines.whole_lines(b"m v=1\nm v=") == 6
    assert lines.whole_lines(b'm s="a"\nm s="x\n') == 8
    assert lines.whole_lines(b"m v=") == 0
