"""Frames on a byte stream: length and CRC32C, then the payload (RFC 3720, appendix B.4, for the polynomial).

A stream that breaks a rule is not resynchronised: whoever reads it closes it, and the peer connects again. The check is
against accidents; against people there are sessions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import google_crc32c

FRAME_BYTES_MAX = 64 << 20
"""Nothing that is ever sent is larger; checked before anything is allocated."""

_HEADER = struct.Struct("<II")  # length, crc32c of the payload
HEADER_BYTES = _HEADER.size


def encode_frame(payload: bytes) -> bytes:
    """The payload with its header."""
    assert len(payload) <= FRAME_BYTES_MAX, len(payload)
    return _HEADER.pack(len(payload), google_crc32c.value(payload)) + payload


class FrameReader:
    """Turns what arrives, in pieces of any size, into payloads. Holds at most one unfinished frame and a piece."""

    def __init__(self, frame_bytes_max: int = FRAME_BYTES_MAX) -> None:
        self._max = frame_bytes_max
        self._pending = bytearray()

    def feed(self, data: bytes | bytearray) -> Iterator[bytes]:
        """Take in a piece and yield every payload that is whole. Raises ValueError: close the stream."""
        pending = self._pending
        pending += data
        place = 0
        try:
            while len(pending) - place >= HEADER_BYTES:
                length, crc = _HEADER.unpack_from(pending, place)
                if length > self._max:
                    raise ValueError(f"a frame of {length} bytes, more than {self._max}")
                end = place + HEADER_BYTES + length
                if len(pending) < end:
                    return
                payload = bytes(memoryview(pending)[place + HEADER_BYTES : end])
                if google_crc32c.value(payload) != crc:
                    raise ValueError("a frame does not match its checksum")
                place = end
                yield payload
        finally:
            del pending[:place]
