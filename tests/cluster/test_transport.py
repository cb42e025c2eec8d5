"""Streams between peers: what is urgent overtakes, what finds no place is dropped, who lies is cut off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import cbor2
import pytest
import trio
import trio.testing

from arc.cluster.calls import Calls
from arc.cluster.transport import BACKOFF_SECONDS, VERSION, Address, PeerTransport
from arc.errors import OutcomeUnknown, Unavailable
from arc.raft import codec
from arc.raft.messages import Append, Heartbeat, Message
from arc.raft.types import Entry, EntryKind, Peer
from arc.telemetry import Log
from arc.wire.framing import encode_frame
from tests.fakes import MemoryNetwork, SeededRng

LOG = Log([], lambda: 0)
N1, N2 = Peer("n1", 11), Peer("n2", 22)


class Node:
    """A transport and what came out of it."""

    def __init__(self, network: MemoryNetwork, me: Peer, book: dict[str, str], cluster: str = "c") -> None:
        self.me = me
        self.got: list[Message] = []
        self.calls: list[tuple[str, bytes]] = []
        self.lost: list[Peer] = []
        self.came = trio.Event()
        self.transport = PeerTransport(
            me,
            network=network,
            rng=SeededRng(1),
            log=LOG,
            cluster=lambda: cluster,
            address_of=book.get,
            receive=self._receive,
            receive_call=self._receive_call,
            unreachable=self._unreachable,
        )

    def _receive(self, message: Message) -> None:
        self.got.append(message)
        self.came.set()

    def _receive_call(self, peer: str, data: bytes) -> None:
        self.calls.append((peer, data))
        self.came.set()

    def _unreachable(self, peer: Peer) -> None:
        self.lost.append(peer)
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
async def two(cluster: str = "c") -> AsyncIterator[tuple[Node, Node, trio.Nursery]]:
    network, book = MemoryNetwork(), {"n1": "h:41001", "n2": "h:41002"}
    first, second = Node(network, N1, book), Node(network, N2, book, cluster)
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        yield first, second, nursery
        nursery.cancel_scope.cancel()


def heartbeat(round_: int) -> Heartbeat:
    return Heartbeat(N2, N1, 1, 0, round_)


def append(index: int, size: int = 10) -> Append:
    return Append(N2, N1, 1, index - 1, 1, (Entry(index, 1, EntryKind.COMMAND, bytes(size)),), 0, 0)


async def test_messages_arrive_whole_and_in_their_order() -> None:
    """N-04."""
    async with two() as (first, second, _):
        sent = [heartbeat(number) for number in range(100)]
        for message in sent:
            first.transport.send(message)
        await trio.testing.wait_all_tasks_blocked()
        assert second.got == sent
        assert first.transport.statistics().sent_total == second.transport.statistics().received_total == 100


async def test_a_heartbeat_overtakes_entries_that_wait() -> None:
    """N-04: a path of their own for heartbeats."""
    async with two() as (first, second, _):
        for index in range(1, 101):
            first.transport.send(append(index, 100_000))
        first.transport.send(heartbeat(7))
        await trio.testing.wait_all_tasks_blocked()
        assert second.got.index(heartbeat(7)) == 0
        assert [message for message in second.got if type(message) is Append] == [
            append(index, 100_000) for index in range(1, 101)
        ]


async def test_a_message_without_a_place_is_dropped_and_counted() -> None:
    """N-04: bounded, and sending never waits."""
    async with two() as (first, second, _):
        for index in range(1, 1001):
            first.transport.send(append(index))
        first.transport.send(heartbeat(1)._replace(to=Peer("unknown")))
        await trio.testing.wait_all_tasks_blocked()
        assert len(second.got) == 256
        assert first.transport.statistics().dropped_total == 1000 - 256 + 1


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
        await trio.testing.wait_all_tasks_blocked()
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


async def test_a_newcomer_answers_whoever_greeted_it_without_any_book() -> None:
    """N-04: addresses come from the book, or from who dialled."""
    network = MemoryNetwork()
    first, second = Node(network, N1, {"n2": "h:41002"}), Node(network, N2, {})
    async with trio.open_nursery() as nursery:
        await nursery.start(first.transport.run, "h", 41001)
        await nursery.start(second.transport.run, "h", 41002)
        first.transport.send(heartbeat(1))
        await second.came.wait()
        second.transport.send(Heartbeat(N1, N2, 1, 0, 5))
        await first.came.wait()
        assert first.got == [Heartbeat(N1, N2, 1, 0, 5)]
        nursery.cancel_scope.cancel()


async def test_greeting_tells_who_listens_somewhere() -> None:
    """N-04."""
    async with two() as (first, _, __):
        found = await first.transport.greet("h:41002")
        assert (found.peer, found.address) == (N2, Address("h", 41002))
        with pytest.raises(Unavailable, match="h:49999"):
            await first.transport.greet("h:49999")
        with pytest.raises(Unavailable, match="not host:port"):
            await first.transport.greet("nonsense")


@pytest.mark.parametrize(
    "frames",
    [
        [encode_frame(b"\x00" + codec.encode(heartbeat(1)))],
        [encode_frame(b"\x00nonsense")],
        [encode_frame(b"\x07" + codec.encode(Heartbeat(N2, Peer("liar", 5), 1, 0, 1)))],
        [b"\xff" * 100],
    ],
    ids=["speaks for another", "no message", "no such kind", "no frame"],
)
async def test_a_peer_that_breaks_a_rule_is_cut_off_and_nothing_gets_through(frames: list[bytes]) -> None:
    """N-04: and it speaks for nobody but itself."""
    network = MemoryNetwork()
    node = Node(network, N2, {})
    async with trio.open_nursery() as nursery:
        await nursery.start(node.transport.run, "h", 41002)
        stream = await network.connect_tcp("h", 41002)
        await stream.send_all(encode_frame(cbor2.dumps([VERSION, "c", "liar", 5, "h", 41005])))
        for frame in frames:
            await stream.send_all(frame)
        while await stream.receive_some(4096):
            pass
        assert node.got == []
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "greeting",
    [[VERSION + 1, "c", "n1", 11, "h", 1], [VERSION, "other", "n1", 11, "h", 1], [VERSION, "c", 5, 11, "h", 1], [], 5],
)
async def test_a_stranger_with_a_wrong_greeting_is_not_heard(greeting: object) -> None:
    """N-04; N-03: another version, another cluster."""
    network = MemoryNetwork()
    node = Node(network, N2, {})
    async with trio.open_nursery() as nursery:
        await nursery.start(node.transport.run, "h", 41002)
        stream = await network.connect_tcp("h", 41002)
        await stream.send_all(encode_frame(cbor2.dumps(greeting)))
        await stream.send_all(encode_frame(b"\x00" + codec.encode(heartbeat(1))))
        while await stream.receive_some(4096):
            pass
        assert node.got == []
        nursery.cancel_scope.cancel()


# --------------------------------------------------------------------------------------------------------------- calls


@asynccontextmanager
async def calling() -> AsyncIterator[tuple[Calls, Calls, dict[str, bool]]]:
    """Two ends of calls whose posts go straight to the other; ``reach`` says who can be reached."""
    reach = {"n1": True, "n2": True}

    async def answer(peer: str, question: bytes) -> bytes:
        if question == b"hang":
            await trio.sleep_forever()
        return peer.encode() + b" asked " + question

    ends: dict[str, Calls] = {"n1": Calls(answer, LOG), "n2": Calls(answer, LOG)}

    def post_from(me: str) -> Callable[[str, bytes], bool]:
        def post(name: str, data: bytes) -> bool:
            if reach[name]:
                ends[name].receive(me, data)
            return reach[name]

        return post

    async with trio.open_nursery() as nursery:
        for name, calls in ends.items():
            await nursery.start(calls.run, post_from(name))
        yield ends["n1"], ends["n2"], reach
        nursery.cancel_scope.cancel()


async def test_a_question_gets_its_own_answer() -> None:
    """N-04: many calls at once over one stream."""
    async with calling() as (one, _, __):
        answers: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            answers[number] = await one.call("n2", b"%d" % number, timeout_seconds=5)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)
        assert answers == {number: b"n1 asked %d" % number for number in range(50)}


async def test_what_never_left_is_unavailable_and_what_may_have_is_unknown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N-04, N-01."""
    async with calling() as (one, _, reach):
        reach["n2"] = False
        with pytest.raises(Unavailable):
            await one.call("n2", b"x", timeout_seconds=1)
        reach["n2"] = True
        with pytest.raises(OutcomeUnknown):
            await one.call("n2", b"hang", timeout_seconds=1)


async def test_a_broken_connection_ends_the_calls_over_it_at_once() -> None:
    """N-04, N-01."""
    async with calling() as (one, _, __), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(OutcomeUnknown):
                await one.call("n2", b"hang", timeout_seconds=1e9)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        one.unreachable("n2")


@pytest.mark.parametrize("data", [b"", b"\xff", cbor2.dumps([2, 1, b""]), cbor2.dumps([0, "1", b""]), cbor2.dumps(5)])
async def test_what_is_no_call_is_refused(data: bytes) -> None:
    """N-04."""
    async with calling() as (one, _, __):
        with pytest.raises(ValueError, match="not a call"):
            one.receive("n2", data)
