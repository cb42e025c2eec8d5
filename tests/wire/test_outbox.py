"""What waits for a peer: bounded, and in the order in which it may go out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.wire.channels import FRAME_BYTES_MAX, RULES, URGENT_BYTES_MAX, Channel
from arc.wire.frames import split_several
from arc.wire.outbox import BURST_BYTES, Outbox, Piece

RAFT, CALL, WAL = Channel.RAFT, Channel.CALL, Channel.WAL


def taken(outbox: Outbox) -> list[Piece]:
    """Everything, burst by burst."""
    found: list[Piece] = []
    while outbox:
        burst = list(outbox.take())
        assert burst, "what waits can go"
        assert sum(len(piece.payload) for piece in burst if piece.is_bulk) <= BURST_BYTES
        found += burst
    assert list(outbox.take()) == []
    return found


def test_what_is_urgent_goes_ahead_of_all_bulk_and_lower_channels_first() -> None:
    outbox = Outbox()
    outbox.put(RAFT, b"bulk", is_bulk=True)
    outbox.put(WAL, b"rows", is_bulk=False)
    outbox.put(CALL, b"question", is_bulk=False)
    outbox.put(RAFT, b"heartbeat", is_bulk=False)
    assert [bytes(piece.payload) for piece in taken(outbox)] == [b"heartbeat", b"question", b"rows", b"bulk"]


def test_bulk_takes_turns_by_channel_and_keeps_its_order_within() -> None:
    outbox = Outbox()
    for channel in (CALL, RAFT):
        for number in range(3):
            outbox.put(channel, bytes([number]) * FRAME_BYTES_MAX, is_bulk=True)
    found = [(piece.channel, piece.payload[0]) for piece in taken(outbox)]
    assert found == [(RAFT, 0), (CALL, 0), (RAFT, 1), (CALL, 1), (RAFT, 2), (CALL, 2)]


def test_a_heartbeat_that_comes_meanwhile_waits_for_one_burst() -> None:
    """A burst of bulk is one frame's worth."""
    outbox = Outbox()
    outbox.put(CALL, bytes(10 * FRAME_BYTES_MAX), is_bulk=True)
    assert [len(piece.payload) for piece in outbox.take()] == [FRAME_BYTES_MAX]
    outbox.put(RAFT, b"heartbeat", is_bulk=False)
    assert next(iter(outbox.take())).payload == b"heartbeat"


def test_urgent_messages_without_end_starve_no_bulk() -> None:
    outbox = Outbox()
    outbox.put(WAL, bytes(FRAME_BYTES_MAX), is_bulk=True)
    for _ in range(2 * BURST_BYTES // URGENT_BYTES_MAX):
        outbox.put(CALL, bytes(URGENT_BYTES_MAX), is_bulk=False)
    assert any(piece.is_bulk for piece in outbox.take())


def test_urgent_messages_that_leave_together_share_frames_of_a_bounded_size() -> None:
    outbox = Outbox()
    messages = [bytes([number]) * 1000 for number in range(100)]
    for message in messages:
        outbox.put(CALL, message, is_bulk=False)
    pieces = taken(outbox)
    assert len(pieces) == 2
    assert all(piece.is_several and len(piece.payload) <= URGENT_BYTES_MAX for piece in pieces)
    assert [message for piece in pieces for message in split_several(bytes(piece.payload))] == messages


def test_a_large_message_is_bulk_whatever_is_said() -> None:
    outbox = Outbox()
    outbox.put(CALL, bytes(URGENT_BYTES_MAX + 1), is_bulk=False)
    assert [piece.is_bulk for piece in taken(outbox)] == [True]


@pytest.mark.parametrize("channel", Channel)
def test_bounds_hold_and_one_message_always_finds_an_empty_lane(channel: Channel) -> None:
    rule, outbox = RULES[channel], Outbox()
    assert not outbox.put(channel, bytes(rule.message_bytes_max + 1), is_bulk=True)
    assert outbox.put(channel, bytes(rule.message_bytes_max), is_bulk=True)
    held = rule.message_bytes_max
    while outbox.put(channel, bytes(rule.message_bytes_max), is_bulk=True):
        held += rule.message_bytes_max
    assert held <= rule.bulk_bytes_max
    outbox.clear()
    count = 0
    while outbox.put(channel, b"", is_bulk=True):
        count += 1
    assert count == rule.bulk_messages_max
    outbox.clear()
    count = 0
    while outbox.put(channel, bytes(URGENT_BYTES_MAX), is_bulk=False):
        count += 1
    assert count == min(rule.urgent_messages_max, rule.urgent_bytes_max // URGENT_BYTES_MAX)


def test_clear_forgets_half_sent_messages_as_well_and_counts_them() -> None:
    outbox = Outbox()
    outbox.put(WAL, bytes(3 * FRAME_BYTES_MAX), is_bulk=True)
    outbox.put(RAFT, b"x", is_bulk=False)
    assert [piece.is_last for piece in outbox.take()] == [True, False]
    assert outbox.clear() == {**dict.fromkeys(Channel, 0), WAL: 1}
    assert not outbox
    outbox.put(WAL, b"new", is_bulk=True)
    assert [(bytes(piece.payload), piece.is_last) for piece in taken(outbox)] == [(b"new", True)]


sizes = st.one_of(st.integers(0, 300), st.integers(FRAME_BYTES_MAX - 2, 3 * FRAME_BYTES_MAX))


@given(st.lists(st.tuples(st.sampled_from(Channel), sizes, st.booleans()), max_size=12))
def test_every_message_goes_out_whole_and_in_the_order_of_its_lane(messages: list[tuple[Channel, int, bool]]) -> None:
    outbox = Outbox()
    expected: dict[tuple[Channel, bool], list[bytes]] = {}
    for number, (channel, size, is_bulk) in enumerate(messages):
        message = bytes([number]) * size
        before = expected.setdefault((channel, is_bulk or size > URGENT_BYTES_MAX), [])
        if outbox.put(channel, message, is_bulk=is_bulk):
            before.append(message)
        else:
            assert sum(map(len, before)) + size > RULES[channel].bulk_bytes_max, "refused although there was room"
    found: dict[tuple[Channel, bool], list[bytes]] = {}
    open_ones: dict[tuple[Channel, bool], bytes] = {}
    for piece in taken(outbox):
        lane = piece.channel, piece.is_bulk
        if piece.is_several:
            assert not piece.is_bulk and piece.is_last
            found.setdefault(lane, []).extend(split_several(bytes(piece.payload)))
            continue
        open_ones[lane] = open_ones.get(lane, b"") + piece.payload
        if piece.is_last:
            found.setdefault(lane, []).append(open_ones.pop(lane))
    assert found == {lane: wanted for lane, wanted in expected.items() if wanted}
    assert not open_ones
