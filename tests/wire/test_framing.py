"""Frames survive any cutting of the stream, and nothing damaged gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.wire.framing import HEADER_BYTES, FrameReader, encode_frame

PAYLOADS = st.lists(st.binary(max_size=300), max_size=8)


@given(PAYLOADS, st.integers(1, 64))
def test_payloads_come_back_however_the_stream_is_cut(payloads: list[bytes], piece: int) -> None:
    """N-04."""
    stream = b"".join(map(encode_frame, payloads))
    reader = FrameReader()
    found = [each for at in range(0, len(stream), piece) for each in reader.feed(stream[at : at + piece])]
    assert found == payloads


@given(st.binary(min_size=1, max_size=60), st.data())
def test_no_flipped_bit_gets_through(payload: bytes, data: st.DataObject) -> None:
    """N-04."""
    frame = bytearray(encode_frame(payload))
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    frame[bit // 8] ^= 1 << bit % 8
    reader = FrameReader(frame_bytes_max=1000)
    try:
        assert list(reader.feed(frame)) == []  # a longer length: the frame is not whole yet
        assert bit < 32
    except ValueError:
        pass


def test_a_frame_that_is_too_long_is_refused_by_its_header_alone() -> None:
    """N-04: nobody reserves memory on a stranger's word."""
    reader = FrameReader(frame_bytes_max=10)
    with pytest.raises(ValueError, match="11 bytes, more than 10"):
        list(reader.feed(encode_frame(b"x" * 11)[:HEADER_BYTES]))


def test_what_came_before_a_damaged_frame_is_still_given() -> None:
    """N-04."""
    reader = FrameReader()
    damaged = bytearray(encode_frame(b"two"))
    damaged[-1] ^= 1
    got = []
    with pytest.raises(ValueError, match="checksum"):
        for payload in reader.feed(encode_frame(b"one") + damaged):
            got.append(payload)
    assert got == [b"one"]
