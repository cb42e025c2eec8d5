"""Frames of a session: six bytes of header, then the sealed piece of a message, or several small ones.

A message is cut into frames of at most `FRAME_BYTES_MAX`; all but its last say that more follows. The two lanes of a
channel are put together apart from each other, so urgent messages come through between the pieces of bulk. Urgent ones
that leave together share a frame, for a seal costs more than they do. What would pass a bound of its channel is refused
at the header, before a byte of it is kept. Whatever is wrong ends the session: nothing is resynchronised.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from arc.security.signing import TAG_BYTES, Seal
from arc.wire.channels import FRAME_BYTES_MAX, RULES, URGENT_BYTES_MAX, Channel

_HEADER = struct.Struct("<IBB")  # bytes of the sealed piece, channel, flags
HEADER_BYTES = _HEADER.size
OVERHEAD_BYTES = HEADER_BYTES + TAG_BYTES

HOUSEKEEPING = 255
"""Channel of the session itself: pings. Their messages have no more than `HOUSEKEEPING_BYTES_MAX`."""
HOUSEKEEPING_BYTES_MAX = 64

_MORE, _BULK, _SEVERAL = 1, 2, 4
_LENGTH = struct.Struct("<I")  # before each message of a frame with several
LENGTH_BYTES = _LENGTH.size

_PIECE_BYTES_MAX: dict[tuple[int, int], int] = {(HOUSEKEEPING, 0): HOUSEKEEPING_BYTES_MAX} | {
    (int(channel), flags): FRAME_BYTES_MAX if flags & _BULK else URGENT_BYTES_MAX
    for channel in RULES
    for flags in (0, _SEVERAL, _BULK, _BULK | _MORE)
}
"""What may stand in a header, channel and flags, and how long the piece is then."""

_CHANNELS: dict[int, Channel | None] = {HOUSEKEEPING: None} | {int(channel): channel for channel in RULES}


class Received(NamedTuple):
    """A whole message. ``channel`` is None for the session's own."""

    channel: Channel | None
    payload: bytes


class FrameWriter:
    """Makes frames of one direction of one session."""

    def __init__(self, key: bytes) -> None:
        self._seal = Seal(key)

    def frame(
        self,
        channel: int,
        payload: bytes | memoryview,
        *,
        is_bulk: bool,
        is_last: bool,
        is_several: bool = False,
    ) -> bytes:
        """One piece of a message as it goes out, or several messages that `join_several` made one of."""
        assert len(payload) <= FRAME_BYTES_MAX, len(payload)
        flags = (_BULK if is_bulk else 0) | (0 if is_last else _MORE) | (_SEVERAL if is_several else 0)
        header = _HEADER.pack(len(payload) + TAG_BYTES, channel, flags)
        return header + self._seal.close(payload, header)


class FrameReader:
    """Turns what arrives, in pieces of any size, into messages. Holds at most one unfinished frame, and of each bulk
    lane one unfinished message.
    """

    def __init__(self, key: bytes) -> None:
        self._seal = Seal(key)
        self._held: list[bytes | bytearray] = []
        self._held_bytes = 0
        self._wanted_bytes = HEADER_BYTES
        """There is nothing to do below."""
        self._lanes: dict[int, list[bytes]] = {}

    def feed(self, data: bytes | bytearray) -> Iterator[Received]:
        """Take in a piece and yield every message that is whole. Raises ValueError: close the stream."""
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes < self._wanted_bytes:
            return
        buffer = bytes(data) if len(self._held) == 1 else b"".join(self._held)
        view, place, end = memoryview(buffer), 0, len(buffer)
        wanted = HEADER_BYTES
        while place + wanted <= end:
            sealed_bytes, channel, flags = _HEADER.unpack_from(buffer, place)
            self._admit(sealed_bytes - TAG_BYTES, channel, flags)
            start = place + HEADER_BYTES
            stop = start + sealed_bytes
            if stop > end:
                wanted = stop - place
                break
            piece = self._seal.open(view[start:stop], buffer[place:start])
            place = stop
            if flags & _SEVERAL:
                for message in split_several(piece):
                    yield Received(_CHANNELS[channel], message)
            elif not flags & _MORE:
                yield Received(_CHANNELS[channel], self._whole(piece, channel) if flags & _BULK else piece)
            else:
                self._lanes.setdefault(channel, []).append(piece)
        self._held, self._held_bytes, self._wanted_bytes = [buffer[place:]], end - place, wanted

    def _admit(self, size: int, channel: int, flags: int) -> None:
        """Raises ValueError for what nobody may send; the header is believed in nothing else."""
        most = _PIECE_BYTES_MAX.get((channel, flags))
        if most is None:
            raise ValueError(f"a frame for no channel: {channel}, flags {flags:#x}")
        if not 0 <= size <= most:
            raise ValueError(f"a frame of {size} bytes, more than {most}")
        if flags & _BULK:
            whole = RULES[Channel(channel)].message_bytes_max
            if sum(map(len, self._lanes.get(channel, ()))) + size > whole:
                raise ValueError(f"a message of more than {whole} bytes")

    def _whole(self, piece: bytes, channel: int) -> bytes:
        former = self._lanes.pop(channel, None)
        return piece if former is None else b"".join([*former, piece])


def join_several(messages: Iterable[bytes]) -> bytes:
    """Small messages as one payload."""
    pack = _LENGTH.pack
    return b"".join([part for message in messages for part in (pack(len(message)), message)])


def split_several(piece: bytes) -> Iterator[bytes]:
    """The messages of a frame with several. Raises ValueError."""
    place, end = 0, len(piece)
    while place < end:
        start = place + LENGTH_BYTES
        if start > end or (place := start + _LENGTH.unpack_from(piece, place)[0]) > end:
            raise ValueError("messages that do not fill their frame")
        yield piece[start:place]
