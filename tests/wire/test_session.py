"""A session at work on slow and broken streams, under a clock that jumps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from arc.raft.types import Peer
from arc.wire.channels import FRAME_BYTES_MAX, Channel
from arc.wire.facts import ClusterIdentity, PeerFacts
from arc.wire.handshake import CHANCE_BYTES, Claims, Verdict
from arc.wire.outbox import Outbox
from arc.wire.session import (
    LOOK_SECONDS,
    QUIET_SECONDS,
    SILENCE_SECONDS,
    STALL_SECONDS,
    Bell,
    Session,
    shake_as_dialler,
    shake_as_listener,
)
from tests.fakes import SeededRng

BYTES_PER_SECOND = 1_000_000
"""Of the slow line: a frame of bulk takes a quarter of a second."""

PACKET_BYTES = 1500


class TrioClock:
    """Tells Trio's time."""

    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return round(trio.current_time() * 1e6)


class SlowStream(trio.abc.Stream):
    """Takes time for every byte that is sent, and can fall silent."""

    def __init__(self, inner: trio.abc.Stream, bytes_per_second: float = BYTES_PER_SECOND) -> None:
        self.inner = inner
        self.bytes_per_second = bytes_per_second
        self.is_silent = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        for start in range(0, len(data), PACKET_BYTES):
            packet = data[start : start + PACKET_BYTES]
            await trio.sleep(len(packet) / self.bytes_per_second)
            if not self.is_silent:
                await self.inner.send_all(packet)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self.inner.aclose()


def claims(name: str) -> Claims:
    return Claims(
        peer=Peer(name), cluster=ClusterIdentity("c"), address="h:1", facts=PeerFacts(role=name), boot=name.encode()
    )


class End:
    """One side of a session."""

    def __init__(self, stream: SlowStream) -> None:
        self.stream = stream
        self.outbox, self.bell = Outbox(), Bell()
        self.got: list[tuple[float, Channel, bytes]] = []
        self.session: Session

    def put(self, channel: Channel, payload: bytes, *, is_bulk: bool = False) -> None:
        assert self.outbox.put(channel, payload, is_bulk=is_bulk)
        self.bell.ring()

    def deliver(self, channel: Channel, payload: bytes) -> None:
        if payload == b"a lie":
            raise ValueError("it lies")
        self.got.append((trio.current_time(), channel, payload))


@asynccontextmanager
async def two_ends() -> AsyncIterator[tuple[End, End]]:
    near, far = trio.testing.memory_stream_pair()
    one, other = End(SlowStream(near)), End(SlowStream(far))

    async def dial() -> None:
        shaken = await shake_as_dialler(
            one.stream, b"secret", SeededRng(1).bytes(CHANCE_BYTES), lambda: claims("a"), lambda theirs: None
        )
        one.session = Session(
            one.stream,
            shaken,
            is_dialled_here=True,
            outbox=one.outbox,
            bell=one.bell,
            clock=TrioClock(),
            deliver=one.deliver,
        )
        await one.session.run()
        await one.stream.aclose()

    async def listen() -> None:
        shaken = await shake_as_listener(
            other.stream,
            b"secret",
            SeededRng(2).bytes(CHANCE_BYTES),
            lambda theirs: (claims("b"), Verdict.ACCEPTED),
        )
        other.session = Session(
            other.stream,
            shaken,
            is_dialled_here=False,
            outbox=other.outbox,
            bell=other.bell,
            clock=TrioClock(),
            deliver=other.deliver,
        )
        await other.session.run()
        await other.stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        nursery.start_soon(listen)
        await trio.sleep(0.1)
        yield one, other
        nursery.cancel_scope.cancel()


async def test_a_heartbeat_never_waits_for_more_than_one_frame_of_a_transfer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A file of 8 MiB is on its way over a slow line, and a snapshot beside it."""
    frame_seconds = (FRAME_BYTES_MAX + 100) / BYTES_PER_SECOND
    file, piece = bytes(8 << 20), bytes(1 << 20)
    async with two_ends() as (one, other):
        one.put(Channel.CALL, file, is_bulk=True)
        one.put(Channel.RAFT, piece, is_bulk=True)
        begun = {}
        for number in range(20):
            await trio.sleep(0.13)
            begun[b"heartbeat %d" % number] = trio.current_time()
            one.put(Channel.RAFT, b"heartbeat %d" % number)
        await trio.sleep(1)
        delays = [at - begun[payload] for at, _, payload in other.got if payload in begun]
        assert len(delays) == 20
        assert file not in [payload for _, _, payload in other.got], "it is still on its way"
        assert max(delays) <= frame_seconds + 0.01
        assert max(delays) > frame_seconds / 2, "the line was busy, so the test could fail"
        await trio.sleep(20)
        bulk = [payload for _, channel, payload in other.got if len(payload) > 100]
        assert bulk == [piece, file], "in turns, so the smaller one is there first"


async def test_both_directions_know_each_other_and_how_long_a_round_trip_takes(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What health checking reads."""
    async with two_ends() as (one, other):
        for end, peer in ((one, "b"), (other, "a")):
            facts = end.session.look()
            assert (facts.peer, facts.facts) == (Peer(peer), PeerFacts(role=peer))
            assert facts.rtt_seconds is not None and 0 < facts.rtt_seconds < 0.01
        await trio.sleep(60)
        for end in (one, other):
            facts = end.session.look()
            assert trio.current_time() - facts.last_heard <= QUIET_SECONDS + LOOK_SECONDS
            assert facts.since < 1
            assert facts.sent_bytes and facts.received_bytes


async def test_a_peer_that_speaks_anyway_is_not_asked_whether_it_is_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Pings were a third of what each of a hundred nodes sent."""
    async with two_ends() as (one, other):
        await trio.sleep(1.0)
        sent = []
        for _ in range(8):
            before = one.session.sent_bytes
            one.put(Channel.HEARTBEAT, b"here")
            other.put(Channel.HEARTBEAT, b"here")
            await trio.sleep(1.0)
            sent.append(one.session.sent_bytes - before)
        assert len(set(sent)) == 1, "one frame each, and nothing else"
        assert one.session.ended_because == "closed here"


async def test_a_peer_that_falls_silent_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """Half open: the machine at the other end lost its power."""
    async with two_ends() as (one, other):
        other.stream.is_silent = True
        begun = trio.current_time()
        await trio.sleep(SILENCE_SECONDS - LOOK_SECONDS)
        assert one.session.ended_because == "closed here"
        await trio.sleep(2 * LOOK_SECONDS + 0.1)
        assert "said nothing" in one.session.ended_because
        assert trio.current_time() - begun < SILENCE_SECONDS + 2 * LOOK_SECONDS


async def test_a_peer_that_takes_nothing_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    """Its window is closed; what it says meanwhile does not help."""
    async with two_ends() as (one, _):
        one.stream.bytes_per_second = 0.001
        one.put(Channel.WAL, b"rows", is_bulk=True)
        await trio.sleep(STALL_SECONDS + LOOK_SECONDS + 0.1)
        assert "took nothing" in one.session.ended_because


async def test_a_line_may_be_slow(autojump_clock: trio.testing.MockClock) -> None:
    """One frame takes longer than a peer may take nothing: that it takes something is what counts."""
    async with two_ends() as (one, other):
        one.stream.bytes_per_second = 40_000
        one.put(Channel.WAL, bytes(2 * FRAME_BYTES_MAX), is_bulk=True)
        await trio.sleep(2 * FRAME_BYTES_MAX / 40_000 + 1)
        assert [len(payload) for _, _, payload in other.got] == [2 * FRAME_BYTES_MAX]
        assert FRAME_BYTES_MAX / 40_000 > STALL_SECONDS


async def test_a_message_that_breaks_a_rule_ends_the_session_and_nothing_follows(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Also what came with it in one piece."""
    async with two_ends() as (one, other):
        for payload in (b"fine", b"a lie", b"too late"):
            one.put(Channel.CALL, payload)
        await trio.sleep(1)
        assert [payload for _, _, payload in other.got] == [b"fine"]
        assert other.session.ended_because == "it lies"
        assert "closed the connection" in one.session.ended_because


async def test_nothing_is_delivered_after_an_end(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever ended it has told that it is over."""
    async with two_ends() as (one, other):
        one.put(Channel.CALL, b"late")
        other.session.end("replaced")
        await trio.sleep(1)
        assert other.got == []
        assert other.session.ended_because == "replaced"


@pytest.mark.parametrize("place", [0, 5, 6, 20])
async def test_a_garbled_stream_ends_the_session(autojump_clock: trio.testing.MockClock, place: int) -> None:
    """One bit, anywhere."""
    async with two_ends() as (one, other):
        whole = one.stream.inner.send_all

        async def garble(data: bytes) -> None:
            await whole(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])

        one.stream.inner.send_all = garble  # type: ignore[method-assign, assignment]
        one.put(Channel.CALL, b"x" * 30)
        await trio.sleep(3 * SILENCE_SECONDS)
        assert other.got == []
        assert other.session.ended_because != "closed here"
