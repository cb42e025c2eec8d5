"""What a session carries, side by side: one channel per matter, each with its bounds and its rank.

A channel has two lanes. What is urgent and small goes ahead of everything that is bulk, whatever its channel; among the
urgent the lower channel goes first. Bulk is cut into frames and the channels take turns, so that nothing waits for more
than one frame of each other channel. Order holds within a lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum


class Channel(IntEnum):
    """Whom a message is for. Numbers are on the wire: append only, lower is more urgent."""

    RAFT = 0
    """Consensus."""
    CALL = 1
    """Questions and answers."""
    WAL = 2
    """Rows on their way to other nodes."""
    HEARTBEAT = 3
    """How a node is, told by itself."""


MIB = 1 << 20

FRAME_BYTES_MAX = 256 << 10
"""Payload of one frame; a larger message is cut. At 1 Gbit/s a frame takes 2 ms."""

URGENT_BYTES_MAX = 64 << 10
"""A larger message is bulk, whatever its sender says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRule:
    """Bounds of one channel. At the ends of the queues a message is refused to its sender."""

    message_bytes_max: int
    """Whole message; the receiver closes the session at the header that would pass it."""
    urgent_messages_max: int
    urgent_bytes_max: int = 8 * MIB
    """What may wait in the urgent lane for one peer."""
    bulk_messages_max: int
    bulk_bytes_max: int
    """What may wait in the bulk lane; one message is always taken in when it is empty."""


RULES: Mapping[Channel, ChannelRule] = {
    # An append is at most append_bytes_max and one entry of entry_bytes_max; windows hold 16 MiB in flight.
    Channel.RAFT: ChannelRule(
        message_bytes_max=16 * MIB, urgent_messages_max=4096, bulk_messages_max=256, bulk_bytes_max=32 * MIB
    ),
    # A forwarded command is at most entry_bytes_max; files are fetched in pieces.
    Channel.CALL: ChannelRule(
        message_bytes_max=16 * MIB, urgent_messages_max=20_000, bulk_messages_max=1024, bulk_bytes_max=64 * MIB
    ),
    # A few a second, of some hundred bytes, and always urgent; an old one is worth nothing.
    Channel.HEARTBEAT: ChannelRule(
        message_bytes_max=MIB, urgent_messages_max=64, bulk_messages_max=16, bulk_bytes_max=2 * MIB
    ),
    Channel.WAL: ChannelRule(
        message_bytes_max=64 * MIB, urgent_messages_max=4096, bulk_messages_max=1024, bulk_bytes_max=64 * MIB
    ),
}
assert set(RULES) == set(Channel)
