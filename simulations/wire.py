"""Messages as bytes, where a run asks for it: what is sent is encoded and decoded (I-32), and frames are damaged.

A frame is a length, a checksum and a message, as on a connection. Noise flips bits, cuts the end off or repeats a part;
whatever arrives with a wrong checksum is dropped, and counts as lost.
"""

from __future__ import annotations

import struct
import zlib

from arc.raft.codec import decode, encode
from arc.raft.messages import Message
from simulations.chance import Stream
from simulations.checkers.violation import Violation

HEAD = struct.Struct("!II")


def round_trip(message: Message) -> Message:
    """The message after a journey as bytes. I-32: nothing is lost, and equal messages are equal bytes."""
    data = encode(message)
    try:
        back = decode(data)
    except ValueError as error:
        raise Violation("I-32", "what was encoded does not decode", message, error) from error
    if back != message or type(back) is not type(message) or encode(back) != data:
        raise Violation("I-32", "what was decoded is another message", message, back)
    return back


def frame(message: Message) -> bytes:
    """As it goes on a wire."""
    data = encode(message)
    return HEAD.pack(len(data), zlib.crc32(data)) + data


def unframe(data: bytes) -> Message | None:
    """As it is taken from a wire; None: damaged."""
    if len(data) < HEAD.size:
        return None
    length, checksum = HEAD.unpack_from(data)
    body = data[HEAD.size :]
    if len(body) != length or zlib.crc32(body) != checksum:
        return None
    return decode(body)


def noise(data: bytes, chance: Stream) -> bytes:
    """A part of it changed."""
    place = chance.randrange(len(data))
    match chance.randrange(4):
        case 0:
            return data[:place]
        case 1:
            return data[:place] + data[place // 2 :]
        case _:
            flipped = bytearray(data)
            for _ in range(chance.choice((1, 1, 2, 8))):
                flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            return bytes(flipped)
