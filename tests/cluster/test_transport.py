"""Sessions between peers: what is urgent overtakes, what finds no place is dropped, who lies is cut off."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from arc.cluster.transport import BACKOFF_SECONDS, PeerTransport
from arc.errors import OutcomeUnknown, Unavailable
from arc.raft import codec
from arc.raft.messages import Append, Heartbeat, Message
from arc.raft.types import Entry, EntryKind, Peer
from arc.security.tls import Certificates, TlsFiles
from arc.telemetry import Log
from arc.telemetry.events import Event
from arc.wire.channels import FRAME_BYTES_MAX, Channel
from arc.wire.door import HANDSHAKE_SECONDS, PeerSecurity
from arc.wire.doorkeeper import HANDSHAKES_PER_HOST_MAX
from arc.wire.facts import ClusterIdentity, PeerFacts
from arc.wire.handshake import CHANCE_BYTES, Claims, HandshakeRefused, Purpose, Verdict
from arc.wire.outbox import Outbox
from arc.wire.session import SILENCE_SECONDS, STALL_SECONDS, Bell, Session, Shaken, shake_as_dialler
from tests.fakes import MemoryNetwork, SeededRng

LOG = Log([], lambda: 0)
SECRET = b"a secret of the tests"
N1, N2, LIAR = Peer("n1", 11), Peer("n2", 22), Peer("liar", 5)
CLUSTER = ClusterIdentity("c")


class TrioClock:
    """Tells Trio's time, so that an autojump clock is everybody's."""

    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return round(trio.current_time() * 1e6)


class Told:
    """A sink that keeps events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)


class Node:
    """A transport and what came out of it."""

    def __init__(
        self,
        network: MemoryNetwork,
        me: Peer,
        book: dict[str, str],
        cluster: ClusterIdentity = CLUSTER,
        secret: bytes = SECRET,
        log: Log = LOG,
        tls: Certificates | None = None,
    ) -> None:
        self.me = me
        self.got: list[Message] = []
        self.posts: list[tuple[Peer, Channel, bytes]] = []
        self.lost: list[Peer] = []
        self.met: list[tuple[Peer, PeerFacts]] = []
        self.story: list[str] = []
        self.came = trio.Event()
        self.transport = PeerTransport(
            me,
            network=network,
            rng=SeededRng(me.incarnation),
            clock=TrioClock(),
            log=log,
            security=PeerSecurity(secret=secret, tls=tls),
            identity=lambda: cluster,
            address_of=book.get,
            describe=lambda: PeerFacts(role="writer", api_address=f"{me.name}:8000", version="1", cores=2),
            channels={each: self._take(each) for each in (Channel.CALL, Channel.WAL, Channel.HEARTBEAT)},
            connected=self._connected,
            unreachable=self._unreachable,
            receive=self._receive,
            answer=self._answer,
        )

    async def _answer(self, peer: Peer, question: bytes) -> bytes:
        if question == b"hang":
            await trio.sleep_forever()
        return peer.name.encode() + b" asked " + question

    def _take(self, channel: Channel) -> Callable[[Peer, bytes], None]:
        def take(peer: Peer, payload: bytes) -> None:
            self.posts.append((peer, channel, payload))
            self.came.set()

        return take

    def _receive(self, message: Message) -> None:
        self.got.append(message)
        self.came.set()

    def _connected(self, peer: Peer, facts: PeerFacts) -> None:
        self.met.append((peer, facts))
        self.story.append("connected")

    def _unreachable(self, peer: Peer) -> None:
        self.lost.append(peer)
        self.story.append("unreachable")
        self.came.set()


class NobodyThere(MemoryNetwork):
    """Writes down when somebody is dialled whom nobody reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.dialled: list[float] = []

    async def connect_tcp(self, host: str, port: int) -> trio.abc.Stream:
        try:
            return await super().connect_tcp(host, port)
        except OSError:
            self.dialled.append(trio.current_time())
            raise


@asynccontextmanager
async def two(**of_second: object) -> AsyncIterator[tuple[Node, Node, trio.Nursery]]:
    network, book = MemoryNetwork(), {"n1": "h:41001", "n2": "h:41002"}
    first, second = Node(network, N1, book), Node(network, N2, book, **of_second)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        yield first, second, nursery
        nursery.cancel_scope.cancel()


def heartbeat(round_: int) -> Heartbeat:
    return Heartbeat(N2, N1, 1, 0, round_)


def back(round_: int) -> Heartbeat:
    return Heartbeat(N1, N2, 1, 0, round_)


def append(index: int, size: int = 10) -> Append:
    return Append(N2, N1, 1, index - 1, 1, (Entry(index, 1, EntryKind.COMMAND, bytes(size)),), 0, 0)


async def settled(seconds: float = 1.0) -> None:
    """Until everything that was under way has come to rest, pings aside."""
    await trio.sleep(seconds)


async def test_messages_arrive_whole_and_in_their_order(autojump_clock: trio.testing.MockClock) -> None:
    """N-04."""
    async with two() as (first, second, _):
        sent = [heartbeat(number) for number in range(100)]
        for message in sent:
            first.transport.send(message)
        await settled()
        assert second.got == sent
        assert first.transport.statistics().sent_total == second.transport.statistics().received_total == 100


async def test_a_heartbeat_overtakes_entries_that_wait(autojump_clock: trio.testing.MockClock) -> None:
    """N-04: a path of their own for heartbeats."""
    async with two() as (first, second, _):
        for index in range(1, 101):
            first.transport.send(append(index, 100_000))
        first.transport.send(heartbeat(7))
        await settled()
        assert second.got.index(heartbeat(7)) == 0
        assert [message for message in second.got if type(message) is Append] == [
            append(index, 100_000) for index in range(1, 101)
        ]


async def test_a_heartbeat_of_the_node_goes_with_what_is_sent_in_a_moment_anyway_and_soon_without_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Consensus speaks ten times a second; one wake-up fewer at both ends for each."""
    async with two() as (first, second, _):
        first.transport.send(heartbeat(0))
        await settled()
        assert first.transport.post("n2", Channel.HEARTBEAT, b"at once")
        await trio.sleep(0.02)
        assert [payload for _, _, payload in second.posts] == [b"at once"]
        for number in range(1, 6):
            first.transport.send(heartbeat(number))
            await trio.sleep(0.1)
        assert first.transport.post("n2", Channel.HEARTBEAT, b"with the next")
        await trio.sleep(0.02)
        assert len(second.posts) == 1
        first.transport.send(heartbeat(6))
        await trio.sleep(0.02)
        assert [payload for _, _, payload in second.posts] == [b"at once", b"with the next"]
        assert first.transport.post("n2", Channel.HEARTBEAT, b"nothing comes")
        await trio.sleep(1.02)
        assert [payload for _, _, payload in second.posts][2:] == [b"nothing comes"]


async def test_a_message_without_a_place_is_dropped_and_counted(autojump_clock: trio.testing.MockClock) -> None:
    """N-04: bounded, and sending never waits."""
    async with two() as (first, second, _):
        for index in range(1, 1001):
            first.transport.send(append(index))
        first.transport.send(heartbeat(1)._replace(to=Peer("unknown")))
        await settled()
        assert len(second.got) == 256
        assert first.transport.statistics().dropped_total["raft"] == 1000 - 256 + 1


async def test_both_directions_share_one_session(autojump_clock: trio.testing.MockClock) -> None:
    """Promise 37: one multiplexed session per pair."""
    async with two() as (first, second, _):
        first.transport.send(heartbeat(1))
        await settled()
        second.transport.send(back(2))
        assert second.transport.post("n1", Channel.WAL, b"rows", is_bulk=True)
        await settled()
        assert first.got == [back(2)]
        assert first.posts == [(N2, Channel.WAL, b"rows")]
        assert [node.transport.statistics().sessions_total for node in (first, second)] == [1, 1]
        assert [node.transport.statistics().handshakes.dials_total for node in (first, second)] == [1, 0]
        facts = PeerFacts(role="writer", api_address="n1:8000", version="1", cores=2)
        assert second.met == [(N1, facts)]
        session = second.transport.sessions()["n1"]
        assert (session.peer, session.facts, session.is_dialled_here) == (N1, facts, False)
        assert session.rtt_seconds is not None


async def test_nobody_there_is_told_and_dialled_again(autojump_clock: trio.testing.MockClock) -> None:
    """N-04: and what waited meanwhile is not sent."""
    network, book = MemoryNetwork(), {"n2": "h:41002"}
    first, second = Node(network, N1, book), Node(network, N2, book)
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        first.transport.send(heartbeat(1))
        await first.came.wait()
        assert first.lost == [N2]
        await nursery.start(second.transport.run, "h", 41002)
        await trio.sleep(1)
        first.transport.send(heartbeat(2))
        await second.came.wait()
        assert second.got == [heartbeat(2)], "what waited while nobody answered is old news"
        nursery.cancel_scope.cancel()


async def test_pauses_between_dials_double_up_to_a_bound_and_begin_anew_after_a_success(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N-05: each is drawn from the upper half of what it may be, so that peers do not knock in step."""
    network = NobodyThere()
    first, second = Node(network, N1, {"n2": "h:41002"}), Node(network, N2, {})
    shortest, longest = BACKOFF_SECONDS
    poll = 0.001
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)

        async def dialled(count: int) -> list[float]:
            """The pauses between so many failed dials."""
            network.dialled.clear()
            while len(network.dialled) < count:
                first.transport.send(heartbeat(1))
                await trio.sleep(poll)
            return [after - before for before, after in pairwise(network.dialled)]

        pauses = await dialled(12)
        for number, pause in enumerate(pauses):
            most = min(shortest * 2**number, longest)
            assert most / 2 <= pause <= most + 2 * poll
        assert len({round(pause, 3) for pause in pauses[-6:]}) > 1, "drawn"
        async with trio.open_nursery() as life:
            await life.start(second.transport.run, "h", 41002)
            while not second.got:
                first.transport.send(heartbeat(2))
                await trio.sleep(poll)
            life.cancel_scope.cancel()
        assert (await dialled(2))[0] <= 2 * shortest + 2 * poll
        nursery.cancel_scope.cancel()


async def test_a_restarted_peer_is_noticed_and_reached_again(autojump_clock: trio.testing.MockClock) -> None:
    """N-04: another incarnation at the same address."""
    network, book = MemoryNetwork(), {"n2": "h:41002"}
    first, second, again = Node(network, N1, book), Node(network, N2, book), Node(network, Peer("n2", 23), book)
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        async with trio.open_nursery() as life:
            await life.start(second.transport.run, "h", 41002)
            first.transport.send(heartbeat(1))
            await second.came.wait()
            life.cancel_scope.cancel()
        await first.came.wait()
        assert first.lost == [N2]
        await nursery.start(again.transport.run, "h", 41002)
        await trio.sleep(1)
        first.transport.send(heartbeat(2))
        await again.came.wait()
        assert again.got == [heartbeat(2)]
        nursery.cancel_scope.cancel()


async def test_a_newcomer_answers_whoever_met_it_without_any_book(autojump_clock: trio.testing.MockClock) -> None:
    """N-04: over the session, and after it over a new one, to the address that was told."""
    network = MemoryNetwork()
    first, second = Node(network, N1, {"n2": "h:41002"}), Node(network, N2, {})
    async with trio.open_nursery() as nursery:
        async with trio.open_nursery() as life:
            await life.start(first.transport.run, "h", 41001)
            await nursery.start(second.transport.run, "h", 41002)
            first.transport.send(heartbeat(1))
            await second.came.wait()
            second.transport.send(back(5))
            await first.came.wait()
            assert first.got == [back(5)]
            life.cancel_scope.cancel()
        await settled()
        await nursery.start(first.transport.run, "h", 41001)
        second.transport.send(back(6))
        await settled()
        assert first.got == [back(5), back(6)]
        nursery.cancel_scope.cancel()


async def test_dial_tells_who_listens_somewhere(autojump_clock: trio.testing.MockClock) -> None:
    """N-04: proven by the secret, and without a session."""
    async with two(cluster=ClusterIdentity("c", "77aa")) as (first, _, __):
        found = await first.transport.dial("h:41002")
        assert (found.peer, found.address, found.cluster) == (N2, "h:41002", ClusterIdentity("c", "77aa"))
        assert found.facts.api_address == "n2:8000"
        assert first.transport.sessions() == {}
        for address, told in (("h:49999", "h:49999"), ("nonsense", "not host:port"), ("h:41001", "refused this node")):
            with pytest.raises(Unavailable, match=told):
                await first.transport.dial(address)


async def test_a_peer_may_shake_hands_as_often_as_it_likes(autojump_clock: trio.testing.MockClock) -> None:
    """Promise 39: the rate bounds strangers."""
    async with two() as (first, second, _):
        for _number in range(100):
            await first.transport.dial("h:41002")
        assert second.transport.statistics().handshakes.refused_total == {}


async def test_whoever_knows_an_address_may_ask_without_a_session(autojump_clock: trio.testing.MockClock) -> None:
    """A joining node asks a seed."""
    async with two() as (first, second, _):
        assert await first.transport.ask("h:41002", b"may I", timeout_seconds=5) == b"n1 asked may I"
        large = bytes(3 * FRAME_BYTES_MAX + 5)
        assert await first.transport.ask("h:41002", large, timeout_seconds=5) == b"n1 asked " + large
        with pytest.raises(OutcomeUnknown):
            await first.transport.ask("h:41002", b"hang", timeout_seconds=5)
        with pytest.raises(Unavailable):
            await first.transport.ask("h:49999", b"x", timeout_seconds=5)
        assert second.met == []


@pytest.mark.parametrize("is_asked", [True, False], ids=["who asks is told", "who is asked is told"])
async def test_a_peer_that_moved_is_reached_where_it_was_met_last(
    autojump_clock: trio.testing.MockClock, is_asked: bool
) -> None:
    """Nodes that all moved at once have nobody who can tell the others: the book is what they agreed on before. They
    ask at their seeds while they have no leader, and so they meet.
    """
    network = MemoryNetwork()
    first = Node(network, N1, {"n2": "h:49999"})
    second = Node(network, N2, {"n1": "h:41001"})
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        first.transport.send(heartbeat(1))
        await first.came.wait()
        assert first.lost == [N2], "nobody listens where the book says"
        if is_asked:
            assert await first.transport.ask("h:41002", b"who is there", timeout_seconds=5)
        else:
            assert await second.transport.ask("h:41001", b"who is there", timeout_seconds=5)
        for round_ in (2, 3):
            first.transport.send(heartbeat(round_))
            await settled()
        assert second.got == [heartbeat(2), heartbeat(3)]
        nursery.cancel_scope.cancel()


async def test_what_is_agreed_on_counts_when_the_peer_is_no_more_where_it_was_met(
    autojump_clock: trio.testing.MockClock,
) -> None:
    network, book = MemoryNetwork(), {"n2": "h:41002"}
    first, second = Node(network, N1, book), Node(network, N2, {})
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        async with trio.open_nursery() as life:
            await life.start(second.transport.run, "h", 41002)
            assert await first.transport.ask("h:41002", b"who is there", timeout_seconds=5)
            life.cancel_scope.cancel()
        book["n2"] = "h:41003"
        await nursery.start(second.transport.run, "h", 41003)
        for round_ in (1, 2, 3):
            first.transport.send(heartbeat(round_))
            await settled()
        assert heartbeat(3) in second.got
        nursery.cancel_scope.cancel()


async def test_a_peer_that_was_met_and_is_in_no_book_is_not_remembered_for_having_asked(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Whoever has the secret may ask, under as many names as it likes."""
    network = MemoryNetwork()
    first, second = Node(network, N1, {}), Node(network, N2, {"n1": "h:41001"})
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        assert await second.transport.ask("h:41001", b"may I", timeout_seconds=5)
        assert not first.transport.post("n2", Channel.WAL, b"rows")
        nursery.cancel_scope.cancel()


# --------------------------------------------------------------------------------------------------- whom we refuse


@pytest.mark.parametrize(
    ("of_second", "reason"),
    [
        ({"secret": b"another secret, not ours"}, "secret"),
        ({"cluster": ClusterIdentity("other")}, "cluster"),
        ({"cluster": ClusterIdentity("c", "u2")}, "none"),
    ],
)
async def test_a_peer_with_another_secret_or_cluster_hears_the_same_refusal_and_nothing_gets_through(
    autojump_clock: trio.testing.MockClock, of_second: dict[str, object], reason: str
) -> None:
    """Promises 25, 40: the reason is in the counters of the one who refuses."""
    async with two(**of_second) as (first, second, _):
        first.transport.send(heartbeat(1))
        await trio.sleep(0.5)
        refused = second.transport.statistics().handshakes.refused_total
        if reason == "none":
            assert second.got == [heartbeat(1)], "a newcomer has no identity yet and takes the cluster's"
        else:
            assert second.got == []
            assert list(refused) == [reason]
            assert list(first.transport.statistics().handshakes.refused_total) == ["refused"]


async def test_refusals_are_told_now_and_then_and_counted_always(autojump_clock: trio.testing.MockClock) -> None:
    """A stranger fills no log."""
    told = Told()
    async with two(secret=b"another secret, not ours", log=Log([told], lambda: 0)) as (first, second, _):
        for _number in range(200):
            first.transport.send(heartbeat(1))
            await trio.sleep(0.1)
        warnings = [event for event in told.events if event.message == "peer_handshake_refused"]
        assert 2 <= len(warnings) <= 3
        assert second.transport.statistics().handshakes.refused_total["secret"] > 20


class Stranger:
    """Knows the secret and speaks by hand."""

    def __init__(self, network: MemoryNetwork, me: Peer = LIAR) -> None:
        self.network, self.me = network, me

    def claims(self, purpose: Purpose = Purpose.SESSION) -> Claims:
        return Claims(
            peer=self.me,
            cluster=ClusterIdentity("c"),
            address="h:41009",
            facts=PeerFacts(),
            boot=b"strange",
            purpose=purpose,
        )

    async def shake(self, port: int) -> tuple[trio.abc.Stream, Shaken]:
        stream = await self.network.connect_tcp("h", port)
        chance = SeededRng(99).bytes(CHANCE_BYTES)
        return stream, await shake_as_dialler(stream, SECRET, chance, self.claims, lambda theirs: None)

    def session(self, stream: trio.abc.Stream, shaken: Shaken, outbox: Outbox) -> Session:
        return Session(
            stream,
            shaken,
            is_dialled_here=True,
            outbox=outbox,
            bell=Bell(),
            clock=TrioClock(),
            deliver=lambda channel, payload: None,
        )


@asynccontextmanager
async def one() -> AsyncIterator[tuple[Node, Stranger, trio.Nursery]]:
    network = MemoryNetwork()
    node = Node(network, N2, {})
    async with trio.open_nursery() as nursery:
        await nursery.start(node.transport.run, "h", 41002)
        yield node, Stranger(network), nursery
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "payload",
    [codec.encode(heartbeat(1)), b"nonsense", b""],
    ids=["speaks for another", "no message", "empty"],
)
async def test_a_peer_that_breaks_a_rule_is_cut_off_and_nothing_gets_through(
    autojump_clock: trio.testing.MockClock, payload: bytes
) -> None:
    """N-04, promise 34: and it speaks for nobody but itself."""
    async with one() as (node, stranger, _):
        outbox = Outbox()
        assert outbox.put(Channel.RAFT, payload, is_bulk=False)
        session = stranger.session(*await stranger.shake(41002), outbox)
        await session.run()
        assert "closed" in session.ended_because
        assert node.got == [] and node.transport.sessions() == {} and node.lost == [Peer("liar", 5)]


async def test_a_node_that_has_our_name_is_refused(autojump_clock: trio.testing.MockClock) -> None:
    """Promise 34."""
    async with one() as (node, stranger, _):
        stranger.me = Peer("n2", 99)
        with pytest.raises(HandshakeRefused, match="refused this node"):
            await stranger.shake(41002)
        assert node.transport.statistics().handshakes.refused_total == {"self": 1}


async def test_a_connection_that_says_nothing_is_cut_off_in_time(autojump_clock: trio.testing.MockClock) -> None:
    """Promise 36: a slow handshake ends, and delays nobody meanwhile."""
    async with one() as (node, stranger, _):
        silent = await stranger.network.connect_tcp("h", 41002)
        begun = trio.current_time()
        _, shaken = await stranger.shake(41002)
        assert shaken.verdict is Verdict.ACCEPTED
        assert trio.current_time() - begun < HANDSHAKE_SECONDS / 2
        assert await silent.receive_some(1) == b""
        assert trio.current_time() - begun == pytest.approx(HANDSHAKE_SECONDS, abs=0.1)
        assert node.transport.statistics().handshakes.refused_total == {"timeout": 1}


async def test_connections_beyond_the_bound_are_closed_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """Promise 39."""
    async with one() as (node, stranger, _):
        silent = [await stranger.network.connect_tcp("h", 41002) for _ in range(HANDSHAKES_PER_HOST_MAX + 3)]
        await trio.testing.wait_all_tasks_blocked(0.001)
        statistics = node.transport.statistics()
        assert statistics.handshakes.under_way == HANDSHAKES_PER_HOST_MAX
        assert statistics.handshakes.refused_total == {"too_many": 3}
        assert await silent[-1].receive_some(1) == b""


@pytest.mark.parametrize("is_reading", [True, False])
async def test_a_half_open_peer_is_given_up(autojump_clock: trio.testing.MockClock, is_reading: bool) -> None:
    """It reads and says nothing, or does not even read."""
    async with one() as (node, stranger, nursery):
        stream, _ = await stranger.shake(41002)
        if is_reading:

            async def read() -> None:
                while await stream.receive_some(65536):
                    pass

            nursery.start_soon(read)
        await trio.sleep(SILENCE_SECONDS / 2)
        assert set(node.transport.sessions()) == {"liar"}
        await trio.sleep(max(SILENCE_SECONDS, STALL_SECONDS))
        assert node.transport.sessions() == {}
        assert node.story == ["connected", "unreachable"]


async def test_a_channel_that_nobody_serves_ends_the_session(autojump_clock: trio.testing.MockClock) -> None:
    """Nothing is dropped silently."""
    network = MemoryNetwork()
    node = Node(network, N2, {})
    node.transport._channels = {}
    async with trio.open_nursery() as nursery:
        await nursery.start(node.transport.run, "h", 41002)
        outbox = Outbox()
        outbox.put(Channel.WAL, b"rows", is_bulk=True)
        stranger = Stranger(network)
        await stranger.session(*await stranger.shake(41002), outbox).run()
        assert node.transport.sessions() == {}
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------ one per pair


async def test_two_that_dial_each_other_at_once_keep_what_the_smaller_one_dialled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Promise 37: and what both had to say arrives."""
    async with two() as (first, second, _):
        first.transport.send(heartbeat(1))
        second.transport.send(back(2))
        await settled()
        assert (first.got, second.got) == ([back(2)], [heartbeat(1)])
        assert first.transport.sessions()["n2"].is_dialled_here
        assert not second.transport.sessions()["n1"].is_dialled_here
        assert first.story == second.story == ["connected"]
        assert first.transport.statistics().handshakes.settled_total == 1


class Delayed(MemoryNetwork):
    """Streams of one side need a while for every piece, so that two handshakes overlap as they please."""

    def __init__(self, seconds: dict[int, float]) -> None:
        super().__init__()
        self.seconds = seconds

    async def connect_tcp(self, host: str, port: int) -> trio.abc.Stream:
        stream = await super().connect_tcp(host, port)
        assert isinstance(stream, trio.StapledStream)
        seconds, send_all = self.seconds[port], stream.send_stream.send_all

        async def slow_send_all(data: bytes) -> None:
            await trio.sleep(seconds)
            await send_all(data)

        stream.send_stream.send_all = slow_send_all  # type: ignore[method-assign, assignment]
        return stream


@pytest.mark.parametrize("to_first", [0.0, 0.01, 0.03, 0.05, 0.2])
@pytest.mark.parametrize("later", [0.0, 0.005, 0.02, 0.06, 0.1])
async def test_whenever_two_dial_each_other_one_session_is_left_and_both_use_it(
    autojump_clock: trio.testing.MockClock, to_first: float, later: float
) -> None:
    """Promise 37: in all overlaps of two handshakes of 0.03 s a message."""
    network, book = Delayed({41001: to_first, 41002: 0.03}), {"n1": "h:41001", "n2": "h:41002"}
    first, second = Node(network, N1, book), Node(network, N2, book)
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        for node, message in ((first, heartbeat(1)), (second, back(1))):
            node.transport.send(message)
            await trio.sleep(later)
        await settled(2)
        for node in (first, second):
            assert node.story == ["connected"], "nothing is lost by it"
        assert [node.transport.statistics().sessions for node in (first, second)] == [1, 1]
        ways = [session.is_dialled_here for node in (first, second) for session in node.transport.sessions().values()]
        assert sorted(ways) == [False, True]
        first.transport.send(heartbeat(2))
        second.transport.send(back(2))
        await settled()
        assert (first.got, second.got) == ([back(1), back(2)], [heartbeat(1), heartbeat(2)])
        nursery.cancel_scope.cancel()


async def test_a_wrong_address_does_not_touch_the_session_of_who_listens_there(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The book says that n3 is where n2 listens."""
    network, book = MemoryNetwork(), {"n2": "h:41002", "n3": "h:41002"}
    first, second = Node(network, N1, book), Node(network, N2, {})
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        first.transport.send(heartbeat(1))
        await settled()
        first.transport.post("n3", Channel.WAL, b"rows")
        await settled()
        assert first.lost == [Peer("n3")]
        assert first.story == ["connected", "unreachable"] and second.story == ["connected"]
        assert second.posts == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["a", "z"])
async def test_a_peer_that_lost_its_end_of_a_session_gets_a_new_one_at_once(
    autojump_clock: trio.testing.MockClock, name: str
) -> None:
    """Half open at our side: the new dial is the proof that the former session is dead."""
    async with one() as (node, stranger, _):
        stranger.me = Peer(name, 5)
        for _number in range(3):
            _, shaken = await stranger.shake(41002)
            assert shaken.verdict is Verdict.ACCEPTED
            await trio.sleep(0.1)
        assert node.story == ["connected", "unreachable"] * 2 + ["connected"]
        assert node.transport.statistics().sessions == 1


# --------------------------------------------------------------------------------------------------------------- TLS


class Authority:
    """Issues certificates for a host into files, and looks after them as a node does."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.ca.cert_pem.write_to_path(folder / "ca.pem")
        for name in names:
            self.issue(name)

    def issue(self, name: str, ca: trustme.CA | None = None) -> None:
        issued = (ca or self.ca).issue_cert("h")
        issued.private_key_pem.write_to_path(self.folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(self.folder / f"{name}.pem")

    def certificates(self, name: str, ca: str = "ca.pem") -> Certificates:
        files = TlsFiles(
            cert=str(self.folder / f"{name}.pem"),
            key=str(self.folder / f"{name}.key"),
            ca=str(self.folder / ca) if ca else "",
        )
        found = Certificates(files, lambda path: Path(path).read_bytes())
        found.load()
        return found


async def test_sessions_go_over_tls_and_new_certificates_serve_new_sessions(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """The peer port: without a restart, and the session that stands is left alone."""
    authority = Authority(tmp_path, "n1", "n2")
    network, book = MemoryNetwork(), {"n1": "h:41001", "n2": "h:41002"}
    tls = {name: authority.certificates(name) for name in ("n1", "n2")}
    first, second = Node(network, N1, book, tls=tls["n1"]), Node(network, N2, book, tls=tls["n2"])
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        first.transport.send(heartbeat(1))
        await settled()
        assert second.got == [heartbeat(1)]
        former = tls["n2"].server
        authority.issue("n2")
        assert tls["n2"].refresh().is_new
        assert tls["n2"].server is not former
        first.transport.send(heartbeat(2))
        await settled()
        assert second.got == [heartbeat(1), heartbeat(2)]
        assert (await first.transport.dial("h:41002")).peer == N2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("case", ["another authority", "no certificate", "no TLS", "TLS 1.2"])
async def test_mutual_tls_refuses_who_shows_no_certificate_of_ours(
    autojump_clock: trio.testing.MockClock, tmp_path: Path, case: str
) -> None:
    """Although he knows the secret."""
    authority = Authority(tmp_path, "n1", "n2")
    network, book = MemoryNetwork(), {"n2": "h:41002"}
    second = Node(network, N2, book, tls=authority.certificates("n2"))
    theirs: Certificates | None = authority.certificates("n1")
    if case == "another authority":
        authority.issue("n1", trustme.CA())
        theirs = authority.certificates("n1")
    elif case == "no certificate":
        theirs = authority.certificates("n1")
        theirs._client = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    elif case == "TLS 1.2":
        theirs = authority.certificates("n1")
        theirs.client.minimum_version = ssl.TLSVersion.TLSv1_2
        theirs.client.maximum_version = ssl.TLSVersion.TLSv1_2
    else:
        theirs = None
    first = Node(network, N1, book, tls=theirs)
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        first.transport.send(heartbeat(1))
        await settled()
        assert first.lost and not second.got and not second.met
        assert set(second.transport.statistics().handshakes.refused_total) <= {"closed", "malformed"}
        nursery.cancel_scope.cancel()


async def test_a_listener_with_a_certificate_for_another_host_is_not_believed(
    autojump_clock: trio.testing.MockClock, tmp_path: Path
) -> None:
    """The name that was dialled must be in the certificate."""
    authority = Authority(tmp_path, "n1", "n2")
    network, book = MemoryNetwork(), {"n2": "other:41002"}
    first = Node(network, N1, book, tls=authority.certificates("n1"))
    second = Node(network, N2, book, tls=authority.certificates("n2"))
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        first.transport.send(heartbeat(1))
        await settled()
        assert first.lost and not second.got
        nursery.cancel_scope.cancel()
