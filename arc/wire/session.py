"""A session at work: both directions of one authenticated stream, until one end has had enough.

`Session.run` sends what its outbox holds, hands what arrives to ``deliver`` at once and in order, and asks a peer that
has been quiet whether it is there. It ends when the stream breaks, when the peer breaks a rule, takes nothing for
`STALL_SECONDS` or says nothing for `SILENCE_SECONDS`; then whoever started it hears why.

`shake_as_dialler` and `shake_as_listener` are the input and output of `arc.wire.handshake`; they wait for ever, so
whoever calls them sets a limit.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from arc.ports import Clock
from arc.wire.channels import Channel
from arc.wire.facts import SessionFacts
from arc.wire.frames import HOUSEKEEPING, FrameReader, FrameWriter
from arc.wire.handshake import (
    LENGTH_BYTES,
    REFUSED,
    Claims,
    DiallerHandshake,
    HandshakeRefused,
    Keys,
    ListenerHandshake,
    Verdict,
    message_bytes,
)
from arc.wire.outbox import Outbox

LOOK_SECONDS = 1.0
"""How often a session looks whether its peer is quiet, or takes nothing."""
QUIET_SECONDS = 2.5
"""Who said nothing for so long is asked, and so is who was told nothing: a little more than the time between two
heartbeats to a node that does not watch. Whoever speaks anyway is asked for nothing but the round trip.
"""
TALKING_SECONDS = 0.25
"""Two bursts within this time: the next one will come soon, and what is in no hurry goes with it."""
TRIP_SECONDS = 10.0
"""How often the round trip is measured."""
SILENCE_SECONDS = 5.0
"""At least two pings: a peer that is slow for a while is not dead, and whoever is in a hurry reads `last_heard`."""
STALL_SECONDS = 5.0
"""A peer that takes nothing for so long is half open or stopped."""
SEND_BYTES = 128 << 10
"""What a peer must take within `STALL_SECONDS`: a line of 26 kB/s is slow, and none of that stands still."""
CLOSE_SECONDS = 1.0
RECEIVE_BYTES = 256 << 10

BROKEN = (OSError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError, trio.EndOfChannel)
"""How a stream ends by itself."""

_PING, _PONG = 0, 1
_HOUSEKEEPING = struct.Struct("<BQ")  # kind, number


class Shaken(NamedTuple):
    """What a handshake came to. ``behind``: bytes that arrived after it; ``answer``: those that must still be sent."""

    theirs: Claims
    verdict: Verdict
    keys: Keys
    behind: bytes
    answer: bytes = b""


class Bell:
    """Wakes all who wait, and nobody who comes later."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event: trio.Event | None = None

    def ring(self) -> None:
        """Wake them."""
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Until the next ring. Look at the condition before, without a checkpoint in between."""
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()


class Session:
    """One session. ``deliver`` takes every message as it comes; it raises ValueError to end the session."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        shaken: Shaken,
        *,
        is_dialled_here: bool,
        outbox: Outbox,
        bell: Bell,
        clock: Clock,
        deliver: Callable[[Channel, bytes], None],
    ) -> None:
        self.peer = shaken.theirs.peer
        self.facts = shaken.theirs.facts
        self.boot = shaken.theirs.boot
        self.name = shaken.keys.session
        self.is_dialled_here = is_dialled_here
        self.sent_bytes = self.received_bytes = 0
        keys = shaken.keys
        outward, inward = keys.to_listener, keys.to_dialler
        if not is_dialled_here:
            outward, inward = inward, outward
        self._stream = stream
        self._behind = shaken.behind
        self._answer = shaken.answer
        self._writer = FrameWriter(outward)
        self._reader = FrameReader(inward)
        self._outbox = outbox
        self._bell = bell
        self._clock = clock
        self._deliver = deliver
        self._since = self._last_heard = clock.now()
        self._ping = 0
        self._ping_sent = self._since
        self._is_ping_due = False
        self._pong: int | None = None
        """Only the last ping is answered: whoever sends many gets one answer."""
        self._rtt: float | None = None
        self._sending_since: float | None = None
        self._sent_at = (float("-inf"), float("-inf"))
        self._scope = trio.CancelScope()
        self._end = ""

    def __repr__(self) -> str:
        way = "to" if self.is_dialled_here else "from"
        return f"<Session {way} {self.peer} sent={self.sent_bytes} received={self.received_bytes}>"

    @property
    def ended_because(self) -> str:
        """Why it ended."""
        return self._end or "closed here"

    @property
    def is_talking(self) -> bool:
        """Whether this end has sent so often lately that it will again in a moment."""
        return self._clock.now() - self._sent_at[0] < TALKING_SECONDS

    def end(self, reason: str) -> None:
        """Stop: nothing is sent or delivered from here on."""
        self._end = self._end or reason
        self._scope.cancel()

    def look(self) -> SessionFacts:
        """Facts as they are now."""
        return SessionFacts(
            peer=self.peer,
            facts=self.facts,
            since=self._since,
            last_heard=self._last_heard,
            is_dialled_here=self.is_dialled_here,
            sent_bytes=self.sent_bytes,
            received_bytes=self.received_bytes,
            rtt_seconds=self._rtt,
        )

    async def run(self) -> None:
        """Work until the end; `ended_because` tells it. The stream is left to whoever opened it."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                for part in (self._pump, self._listen, self._watch):
                    nursery.start_soon(self._until_end, part)

    async def _until_end(self, part: Callable[[], Awaitable[None]]) -> None:
        try:
            await part()
        except trio.TooSlowError:
            self.end(f"the peer took nothing for {STALL_SECONDS:g} s")
        except (*BROKEN, ValueError) as error:
            self.end(str(error) or type(error).__name__)

    async def _pump(self) -> None:
        if self._answer:
            await self._send(self._answer)
        while True:
            burst = self._burst()
            if not burst:
                await self._bell.wait()
                continue
            self.sent_bytes += len(burst)
            await self._send(burst)

    async def _send(self, data: bytes) -> None:
        """Send all; `_watch` ends a session whose peer does not take it, which costs less than a time limit each."""
        now = self._clock.now()
        self._sent_at = (self._sent_at[1], now)
        for offset in range(0, len(data), SEND_BYTES):
            self._sending_since = self._clock.now()
            await self._stream.send_all(data[offset : offset + SEND_BYTES])
        self._sending_since = None

    def _burst(self) -> bytes:
        frame = self._writer.frame
        frames: list[bytes] = []
        if self._pong is not None:
            frames.append(frame(HOUSEKEEPING, _HOUSEKEEPING.pack(_PONG, self._pong), is_bulk=False, is_last=True))
            self._pong = None
        if self._is_ping_due:
            self._is_ping_due = False
            self._ping += 1
            self._ping_sent = self._clock.now()
            frames.append(frame(HOUSEKEEPING, _HOUSEKEEPING.pack(_PING, self._ping), is_bulk=False, is_last=True))
        for channel, payload, is_bulk, is_last, is_several in self._outbox.take():
            frames.append(frame(channel, payload, is_bulk=is_bulk, is_last=is_last, is_several=is_several))
        return b"".join(frames)

    async def _listen(self) -> None:
        data: bytes | bytearray = self._behind
        self._behind = b""
        while True:
            for message in self._reader.feed(data):
                if message.channel is None:
                    self._keep_house(message.payload)
                else:
                    self._deliver(message.channel, message.payload)
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise OSError("the peer closed the connection")
            self.received_bytes += len(data)
            self._last_heard = self._clock.now()

    async def _watch(self) -> None:
        pinged_at = float("-inf")
        while True:
            now = self._clock.now()
            # Who gets a long message over a slow line and has nothing to say is not heard by its sender.
            last = min(self._last_heard, max(self._sent_at[1], self._since))
            if now - last >= QUIET_SECONDS or now - pinged_at >= TRIP_SECONDS:
                pinged_at = now
                self._is_ping_due = True
            if self._is_ping_due or self._outbox:
                self._bell.ring()
            since = self._sending_since
            await trio.sleep(
                LOOK_SECONDS if since is None else min(LOOK_SECONDS, max(0.0, since + STALL_SECONDS - now))
            )
            now = self._clock.now()
            if now - self._last_heard > SILENCE_SECONDS:
                raise OSError(f"the peer said nothing for {SILENCE_SECONDS:g} s")
            if self._sending_since is not None and now - self._sending_since >= STALL_SECONDS:
                raise trio.TooSlowError

    def _keep_house(self, payload: bytes) -> None:
        try:
            kind, number = _HOUSEKEEPING.unpack(payload)
        except struct.error as error:
            raise ValueError(f"no ping: {error}") from error
        if kind == _PING:
            self._pong = number
            self._bell.ring()
        elif kind == _PONG and number == self._ping:
            self._rtt = self._clock.now() - self._ping_sent
        elif kind != _PONG:
            raise ValueError(f"no ping: {kind}")


async def shake_as_dialler(
    stream: trio.abc.Stream,
    secret: bytes,
    chance: bytes,
    claims: Callable[[], Claims],
    check: Callable[[Claims], None],
) -> Shaken:
    """Shake hands with who listens. ``claims`` is asked when they are needed, ``check`` refuses whom we do not want.

    Raises HandshakeRefused, or one of `BROKEN`.
    """
    handshake, pieces = DiallerHandshake(secret, chance), _Pieces(stream)
    await stream.send_all(handshake.hello)
    await stream.send_all(handshake.prove(await pieces.message(), claims()))
    theirs, verdict = handshake.finish(await pieces.message())
    check(theirs)
    return Shaken(theirs, verdict, handshake.keys, pieces.rest())


async def shake_as_listener(
    stream: trio.abc.Stream,
    secret: bytes,
    chance: bytes,
    decide: Callable[[Claims], tuple[Claims, Verdict]],
) -> Shaken:
    """Shake hands with who dialled. ``decide`` gives our claims and what becomes of it; it may refuse.

    Nothing is awaited after the decision, so it still holds for the caller, who sends the answer. Whoever is refused is
    told `REFUSED`. Raises HandshakeRefused, or one of `BROKEN`.
    """
    handshake, pieces = ListenerHandshake(secret, chance), _Pieces(stream)
    try:
        await stream.send_all(handshake.challenge(await pieces.message()))
        handshake.require_version()
        theirs = handshake.verify(await pieces.message())
        ours, verdict = decide(theirs)
    except HandshakeRefused:
        await stream.send_all(REFUSED)
        raise
    answer = handshake.answer(ours, verdict)
    return Shaken(theirs, verdict, handshake.keys, pieces.rest(), answer)


async def close(stream: trio.abc.Stream) -> None:
    """Close, politely if that is quick."""
    with trio.move_on_after(CLOSE_SECONDS):
        await stream.aclose()


class _Pieces:
    """Messages of a handshake out of a stream, never more than one of them and a piece."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._held = bytearray()

    async def message(self) -> bytes:
        """The next message with its length."""
        await self._until(LENGTH_BYTES)
        end = LENGTH_BYTES + message_bytes(bytes(self._held[:LENGTH_BYTES]))
        await self._until(end)
        message = bytes(self._held[:end])
        del self._held[:end]
        return message

    def rest(self) -> bytes:
        """What came behind the last message."""
        return bytes(self._held)

    async def _until(self, size: int) -> None:
        while len(self._held) < size:
            data = await self._stream.receive_some(4096)
            if not data:
                raise HandshakeRefused("closed", "the peer closed before it had said who it is")
            self._held += data
