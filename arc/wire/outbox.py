"""What waits for one peer, and in which order it goes out.

Pure: `put` says whether there was a place, `take` gives the next pieces. The order is the one of `arc.wire.channels`:
urgent first, lower channel first; then bulk, one piece of each channel by turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from arc.wire.channels import FRAME_BYTES_MAX, RULES, URGENT_BYTES_MAX, Channel
from arc.wire.frames import LENGTH_BYTES, join_several

BURST_BYTES = FRAME_BYTES_MAX
"""Bulk that is handed to the socket at once: what an urgent message may have to wait for."""


class Piece(NamedTuple):
    """A frame to be."""

    channel: Channel
    payload: bytes | memoryview
    is_bulk: bool = False
    is_last: bool = True
    is_several: bool = False


class _Lane:
    """Messages of one rank, first in, first out, within two bounds."""

    __slots__ = ("bytes", "bytes_max", "messages", "messages_max", "offset")

    def __init__(self, messages_max: int, bytes_max: int) -> None:
        self.messages: deque[bytes] = deque()
        self.messages_max = messages_max
        self.bytes_max = bytes_max
        self.bytes = 0
        self.offset = 0
        """How much of the first message has gone out."""

    def put(self, message: bytes) -> bool:
        if len(self.messages) >= self.messages_max or (self.messages and self.bytes + len(message) > self.bytes_max):
            return False
        self.messages.append(message)
        self.bytes += len(message)
        return True

    def next_bytes(self) -> int:
        return min(FRAME_BYTES_MAX, len(self.messages[0]) - self.offset)

    def cut(self, channel: Channel) -> Piece:
        """The next piece of the first message."""
        message, start, size = self.messages[0], self.offset, self.next_bytes()
        is_last = start + size == len(message)
        self.offset = 0 if is_last else start + size
        if is_last:
            self.messages.popleft()
            self.bytes -= len(message)
        is_whole = start == 0 and is_last
        return Piece(channel, message if is_whole else memoryview(message)[start : start + size], True, is_last)

    def gather(self, channel: Channel) -> Piece:
        """As many whole messages as one urgent frame takes."""
        messages = self.messages
        first = messages.popleft()
        size = len(first) + LENGTH_BYTES
        gathered = [first]
        while messages and (size := size + len(messages[0]) + LENGTH_BYTES) <= URGENT_BYTES_MAX:
            gathered.append(messages.popleft())
        self.bytes -= sum(map(len, gathered))
        if len(gathered) == 1:
            return Piece(channel, first)
        return Piece(channel, join_several(gathered), is_several=True)

    def clear(self) -> int:
        count = len(self.messages)
        self.messages.clear()
        self.bytes = self.offset = 0
        return count


class Outbox:
    """Messages for one peer, bounded per channel and lane."""

    def __init__(self) -> None:
        self._urgent, self._bulk = {}, {}
        for channel, rule in RULES.items():
            self._urgent[channel] = _Lane(rule.urgent_messages_max, rule.urgent_bytes_max)
            self._bulk[channel] = _Lane(rule.bulk_messages_max, rule.bulk_bytes_max)
        self._turns = deque(Channel)

    def __repr__(self) -> str:
        return f"<Outbox {', '.join(f'{channel.name}={self.count(channel)}' for channel in Channel)}>"

    def __bool__(self) -> bool:
        return any(self.count(channel) for channel in Channel)

    def count(self, channel: Channel) -> int:
        """Messages of a channel that wait."""
        return len(self._urgent[channel].messages) + len(self._bulk[channel].messages)

    def put(self, channel: Channel, message: bytes, *, is_bulk: bool) -> bool:
        """Whether there was a place for it."""
        size = len(message)
        if size > RULES[channel].message_bytes_max:
            return False
        lanes = self._bulk if is_bulk or size > URGENT_BYTES_MAX else self._urgent
        return lanes[channel].put(message)

    def take(self) -> Iterator[Piece]:
        """The next burst: what is urgent, then bulk, up to `BURST_BYTES` of each; nothing when nothing waits."""
        left = BURST_BYTES
        for channel, lane in self._urgent.items():
            while lane.messages and left > 0:
                piece = lane.gather(channel)
                left -= len(piece.payload)
                yield piece
        left, idle = BURST_BYTES, 0  # Of its own: whatever is urgent all the time starves nobody.
        while idle < len(self._turns):
            channel = self._turns[0]
            lane = self._bulk[channel]
            if lane.messages:
                if lane.next_bytes() > left:
                    return
                left -= lane.next_bytes()
                idle = 0
                yield lane.cut(channel)
            else:
                idle += 1
            self._turns.rotate(-1)

    def clear(self) -> dict[Channel, int]:
        """Forget all: what waited while nobody listened is old news. How many messages of each channel."""
        return {channel: self._urgent[channel].clear() + self._bulk[channel].clear() for channel in Channel}
