"""Frames: what was sent comes out whole and in order, or the stream ends."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.security.signing import TAG_BYTES
from arc.wire.channels import FRAME_BYTES_MAX, RULES, URGENT_BYTES_MAX, Channel
from arc.wire.frames import (
    HEADER_BYTES,
    HOUSEKEEPING,
    HOUSEKEEPING_BYTES_MAX,
    OVERHEAD_BYTES,
    FrameReader,
    FrameWriter,
    Received,
    join_several,
)

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def frames(*messages: tuple[Channel, bytes, bool]) -> list[bytes]:
    """Each message cut as the outbox cuts it."""
    writer = FrameWriter(KEY)
    return [
        writer.frame(
            channel,
            payload[start : start + FRAME_BYTES_MAX],
            is_bulk=is_bulk,
            is_last=start + FRAME_BYTES_MAX >= len(payload),
        )
        for channel, payload, is_bulk in messages
        for start in range(0, max(1, len(payload)), FRAME_BYTES_MAX)
    ]


@given(
    messages=st.lists(
        st.tuples(st.sampled_from(Channel), st.binary(max_size=200), st.booleans()), min_size=1, max_size=8
    ),
    data=st.data(),
)
def test_messages_come_back_however_the_stream_is_cut(
    messages: list[tuple[Channel, bytes, bool]], data: st.DataObject
) -> None:
    whole = b"".join(frames(*messages))
    places = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    reader, found = FrameReader(KEY), []
    for start, end in zip([0, *places], [*places, len(whole)], strict=True):
        found += reader.feed(whole[start:end])
    assert found == [Received(channel, payload) for channel, payload, _ in messages]


def test_urgent_messages_come_through_between_the_pieces_of_bulk() -> None:
    large = bytes(3 * FRAME_BYTES_MAX + 1)
    writer = FrameWriter(KEY)
    stream = b""
    for number in range(4):
        piece = large[number * FRAME_BYTES_MAX : (number + 1) * FRAME_BYTES_MAX]
        stream += writer.frame(Channel.CALL, piece, is_bulk=True, is_last=number == 3)
        stream += writer.frame(Channel.CALL, b"%d" % number, is_bulk=False, is_last=True)
    found = [message.payload for message in FrameReader(KEY).feed(stream)]
    assert found == [b"0", b"1", b"2", large, b"3"]


STREAM = frames((Channel.RAFT, b"one", False), (Channel.CALL, b"two", False), (Channel.WAL, b"three", True))


def altered(place: int) -> bytes:
    whole = bytearray(b"".join(STREAM))
    whole[place] ^= 1
    return bytes(whole)


@pytest.mark.parametrize(
    ("change", "through"),
    [
        (lambda: STREAM[1] + STREAM[0] + STREAM[2], 0),
        (lambda: STREAM[0] + STREAM[2], 1),
        (lambda: STREAM[0] + STREAM[0] + STREAM[1], 1),
        (lambda: STREAM[0] + STREAM[1] + STREAM[1], 2),
        (lambda: STREAM[0] + STREAM[1] + STREAM[2] + STREAM[0], 3),
    ],
    ids=["two change places", "one is left out", "one comes twice", "the last comes twice", "the first comes again"],
)
def test_frames_open_in_their_place_and_nowhere_else(change: Callable[[], bytes], through: int) -> None:
    """Promise 33: the counter is in no frame and in every seal."""
    reader, found = FrameReader(KEY), []
    with pytest.raises(ValueError, match="did not send"):
        for message in reader.feed(change()):
            found.append(message)
    assert len(found) == through


def test_no_flipped_bit_gets_through() -> None:
    """Header and payload alike; what came before it is still given."""
    whole = b"".join(STREAM)
    ends = [len(b"".join(STREAM[: number + 1])) for number in range(len(STREAM))]
    for place in range(len(whole)):
        reader, found = FrameReader(KEY), []
        try:
            for message in reader.feed(altered(place)):
                found.append(message)
        except ValueError:
            pass
        assert len(found) == sum(end <= place for end in ends)


def test_frames_of_the_other_direction_do_not_open() -> None:
    """Reflection."""
    with pytest.raises(ValueError, match="did not send"):
        list(FrameReader(OTHER).feed(STREAM[0]))


def test_a_stream_that_is_cut_gives_what_was_whole() -> None:
    """Truncation: nothing of a half message."""
    whole = b"".join(STREAM)
    for end in range(len(whole)):
        assert len(list(FrameReader(KEY).feed(whole[:end]))) == sum(
            end >= len(b"".join(STREAM[: number + 1])) for number in range(3)
        )


def header(size: int, channel: int, flags: int) -> bytes:
    return struct.pack("<IBB", size + TAG_BYTES, channel, flags)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (header(FRAME_BYTES_MAX + 1, Channel.WAL, 2), "more than"),
        (header(URGENT_BYTES_MAX + 1, Channel.RAFT, 0), "more than"),
        (header(HOUSEKEEPING_BYTES_MAX + 1, HOUSEKEEPING, 0), "more than"),
        (header(1 << 31, Channel.RAFT, 2), "more than"),
        (struct.pack("<IBB", TAG_BYTES - 1, Channel.RAFT, 0), "more than"),
        (header(10, 77, 0), "no channel"),
        (header(10, Channel.RAFT, 8), "flags"),
        (header(10, Channel.RAFT, 1), "flags"),
        (header(10, Channel.RAFT, 6), "flags"),
        (header(10, HOUSEKEEPING, 2), "flags"),
        (header(URGENT_BYTES_MAX + 1, Channel.RAFT, 4), "more than"),
    ],
    ids=[
        "bulk",
        "urgent",
        "housekeeping",
        "huge",
        "shorter than its seal",
        "channel",
        "flag",
        "urgent in pieces",
        "several in bulk",
        "housekeeping in bulk",
        "several that are too many",
    ],
)
def test_a_header_that_cannot_be_is_refused_before_anything_is_kept(head: bytes, told: str) -> None:
    """Promise 39: limits per kind before allocation."""
    with pytest.raises(ValueError, match=told):
        list(FrameReader(KEY).feed(head))


@pytest.mark.parametrize("channel", Channel)
def test_a_message_in_too_many_pieces_is_refused_at_the_header_that_passes_the_bound(channel: Channel) -> None:
    """And what is kept of it never passes the bound."""
    writer, reader = FrameWriter(KEY), FrameReader(KEY)
    piece = bytes(FRAME_BYTES_MAX)
    for _ in range(RULES[channel].message_bytes_max // FRAME_BYTES_MAX):
        assert list(reader.feed(writer.frame(channel, piece, is_bulk=True, is_last=False))) == []
    with pytest.raises(ValueError, match="a message of more than"):
        list(reader.feed(writer.frame(channel, b"x", is_bulk=True, is_last=True)[:HEADER_BYTES]))


@given(st.lists(st.binary(max_size=50), max_size=20))
def test_several_messages_in_one_frame_come_out_one_by_one(messages: list[bytes]) -> None:
    frame = FrameWriter(KEY).frame(Channel.CALL, join_several(messages), is_bulk=False, is_last=True, is_several=True)
    assert list(FrameReader(KEY).feed(frame)) == [Received(Channel.CALL, message) for message in messages]


@pytest.mark.parametrize("payload", [b"x", bytes(3), b"\x02\0\0\0x", b"\xff\xff\xff\xffx", bytes(5)])
def test_messages_that_do_not_fill_their_frame_are_refused(payload: bytes) -> None:
    frame = FrameWriter(KEY).frame(Channel.CALL, payload, is_bulk=False, is_last=True, is_several=True)
    with pytest.raises(ValueError, match="fill"):
        list(FrameReader(KEY).feed(frame))


def test_a_frame_has_a_fixed_overhead() -> None:
    assert len(FrameWriter(KEY).frame(Channel.RAFT, b"abc", is_bulk=False, is_last=True)) == 3 + OVERHEAD_BYTES == 25


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_nonsense_ends_the_stream_or_waits_for_more(pieces: list[bytes]) -> None:
    """Nobody without the key gets a message through, and what is held is what was sent."""
    reader = FrameReader(KEY)
    try:
        for piece in pieces:
            assert list(reader.feed(piece)) == []
    except ValueError:
        return
    assert sum(map(len, reader._held)) == sum(map(len, pieces))
