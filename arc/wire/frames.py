"""Frames of a session: six bytes of header, then the sealed piece of a message.

A message is cut into frames of at most `FRAME_BYTES_MAX`; all but its last say that more follows. The two lanes of a
channel are put together apart from each other, so urgent messages come through between the pieces of bulk. What would
pass a bound of its channel is refused at the header, before a byte of it is kept. Whatever is wrong ends the session:
nothing is resynchronised.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from arc.security.signing import TAG_BYTES, Seal
from arc.wire.channels import FRAME_BYTES_MAX, RULES, URGENT_BYTES_MAX, Channel

_HEADER = struct.Struct("<IBB")  # bytes of the sealed piece, channel, flags
HEADER_BYTES = _HEADER.size
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES

HOUSEKEEPING = 255
"""Channel of the session itself: pings. Their messages have no more than `HOUSEKEEPING_BYTES_MAX`."""
HOUSEKEEPING_BYTES_MAX = 64

_MORE, _BULK = 1, 2


class Received(NamedTuple):
    """A whole message. ``channel`` is None for the session's own."""

    channel: Channel | None
    payload: bytes


class FrameWriter:
    """Makes frames of one direction of one session."""

    def __init__(self, key: bytes) -> None:
        self._seal = Seal(key)

    def frame(self, channel: int, payload: bytes | memoryview, *, is_bulk: bool, is_last: bool) -> bytes:
        """One piece of a message as it goes out."""
        assert len(payload) <= FRAME_BYTES_MAX, len(payload)
        flags = (_BULK if is_bulk else 0) | (0 if is_last else _MORE)
        header = _HEADER.pack(len(payload) + TAG_BYTES, channel, flags)
        return header + self._seal.close(payload, header)


class FrameReader:
    """Turns what arrives, in pieces of any size, into messages. Holds at most one unfinished frame, and of each lane
    one unfinished message.
    """

    def __init__(self, key: bytes) -> None:
        self._seal = Seal(key)
        self._pending = bytearray()
        self._lanes: dict[tuple[int, int], bytearray] = {}

    def feed(self, data: bytes | bytearray) -> Iterator[Received]:
        """Take in a piece and yield every message that is whole. Raises ValueError: close the stream."""
        pending = self._pending
        pending += data
        place = 0
        try:
            while len(pending) - place >= HEADER_BYTES:
                sealed_bytes, channel, flags = _HEADER.unpack_from(pending, place)
                self._admit(sealed_bytes - TAG_BYTES, channel, flags)
                start = place + HEADER_BYTES
                if len(pending) < start + sealed_bytes:
                    return
                header = bytes(pending[place:start])
                with memoryview(pending) as whole, whole[start : start + sealed_bytes] as sealed:
                    piece = self._seal.open(sealed, header)
                place = start + sealed_bytes
                message = self._join(piece, channel, flags)
                if message is not None:
                    yield Received(None if channel == HOUSEKEEPING else Channel(channel), message)
        finally:
            del pending[:place]

    def _admit(self, size: int, channel: int, flags: int) -> None:
        """Raises ValueError for what nobody may send; the header is believed in nothing else."""
        if channel == HOUSEKEEPING:
            most, whole = HOUSEKEEPING_BYTES_MAX, HOUSEKEEPING_BYTES_MAX
        elif channel in _MESSAGE_BYTES_MAX:
            most = FRAME_BYTES_MAX if flags & _BULK else URGENT_BYTES_MAX
            whole = _MESSAGE_BYTES_MAX[channel]
        else:
            raise ValueError(f"a frame for no channel: {channel}")
        if flags & ~(_MORE | _BULK) or (flags & _MORE and not flags & _BULK):
            raise ValueError(f"a frame with flags {flags:#x}")
        if not 0 <= size <= most:
            raise ValueError(f"a frame of {size} bytes, more than {most}")
        lane = self._lanes.get((channel, flags & _BULK))
        if lane is not None and len(lane) + size > whole:
            raise ValueError(f"a message of more than {whole} bytes")

    def _join(self, piece: bytes, channel: int, flags: int) -> bytes | None:
        key = (channel, flags & _BULK)
        lane = self._lanes.get(key)
        if flags & _MORE:
            if lane is None:
                lane = self._lanes[key] = bytearray()
            lane += piece
            return None
        if lane is None:
            return piece
        del self._lanes[key]
        lane += piece
        return bytes(lane)


_MESSAGE_BYTES_MAX = {int(channel): rule.message_bytes_max for channel, rule in RULES.items()}
