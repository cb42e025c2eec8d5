"""Questions between nodes: each gets its answer, or the error of whoever was asked, or the truth about not knowing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import cbor2
import pytest
import trio
import trio.testing

from arc.cluster.calls import Calls
from arc.errors import (
    ArcError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from arc.raft.requests import NotLeading
from arc.raft.types import Peer
from arc.telemetry import Log
from arc.wire.channels import RULES, Channel
from arc.wire.errors import pack_error, unpack_error

LOG = Log([], lambda: 0)


class Wire:
    """Posts go straight to the other end; ``reach`` says who can be reached."""

    def __init__(self, me: str, ends: dict[str, Calls], reach: dict[str, bool]) -> None:
        self.me, self.ends, self.reach = me, ends, reach

    def post(self, name: str, channel: Channel, payload: bytes, *, is_bulk: bool = False) -> bool:
        assert channel is Channel.CALL
        if self.reach[name]:
            self.ends[name].receive(Peer(self.me), payload)
        return self.reach[name]

    async def ask(self, address: str, question: bytes, *, timeout_seconds: float) -> bytes:
        return await self.ends[address].answer(Peer(self.me), question)


@asynccontextmanager
async def calling() -> AsyncIterator[tuple[Calls, Calls, dict[str, bool]]]:
    """Two ends that answer questions of three kinds."""
    reach = {"n1": True, "n2": True}

    async def echo(peer: Peer, question: bytes) -> bytes:
        return peer.name.encode() + b" asked " + question

    async def hang(peer: Peer, question: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    async def refuse(peer: Peer, question: bytes) -> bytes:
        raise unpack_error(cbor2.loads(question))

    async def huge(peer: Peer, question: bytes) -> bytes:
        return bytes(RULES[Channel.CALL].message_bytes_max)

    kinds = {"echo": echo, "hang": hang, "refuse": refuse, "huge": huge}
    ends = {"n1": Calls(kinds, LOG), "n2": Calls(kinds, LOG)}
    async with trio.open_nursery() as nursery:
        for name, calls in ends.items():
            await nursery.start(calls.run, Wire(name, ends, reach))
        yield ends["n1"], ends["n2"], reach
        nursery.cancel_scope.cancel()


async def test_a_question_gets_its_own_answer() -> None:
    """N-04: many calls at once over one session."""
    async with calling() as (one, two, __):
        answers: dict[int, bytes] = {}

        async def ask(number: int) -> None:
            answers[number] = await one.call("n2", "echo", b"%d" % number, timeout_seconds=5)

        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(ask, number)
        assert answers == {number: b"n1 asked %d" % number for number in range(50)}
        assert one.statistics().asked_total == two.statistics().answered_total == 50


async def test_what_never_left_is_unavailable_and_what_may_have_is_unknown(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """N-04, N-01."""
    async with calling() as (one, _, reach):
        reach["n2"] = False
        with pytest.raises(Unavailable):
            await one.call("n2", "echo", b"x", timeout_seconds=1)
        reach["n2"] = True
        with pytest.raises(OutcomeUnknown):
            await one.call("n2", "hang", b"", timeout_seconds=1)


async def test_a_broken_connection_ends_the_calls_over_it_at_once() -> None:
    """N-04, N-01."""
    async with calling() as (one, _, __), trio.open_nursery() as nursery:

        async def ask() -> None:
            with pytest.raises(OutcomeUnknown):
                await one.call("n2", "hang", b"", timeout_seconds=1e9)

        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        one.unreachable(Peer("n2", 77))


async def test_an_answer_goes_only_to_the_life_that_asked() -> None:
    """N-04. Who starts again counts its questions from one again: what its former life asked is answered to nobody.

    World seed 650148: an order to delete got the answer to another one, and its rows stayed.
    """
    bell = trio.Event()

    async def slow(peer: Peer, question: bytes) -> bytes:
        await bell.wait()
        return b"to " + question

    async def never(peer: Peer, question: bytes) -> bytes:
        await trio.sleep_forever()
        raise AssertionError

    ends = {"n2": Calls({"slow": slow, "never": never}, LOG)}
    reach = {"n1": True, "n2": True}
    told: list[bytes] = []

    async def ask(kind: str, question: bytes) -> None:
        told.append(await ends["n1"].call("n2", kind, question, timeout_seconds=1e9))

    async with trio.open_nursery() as nursery:
        await nursery.start(ends["n2"].run, Wire("n2", ends, reach))
        async with trio.open_nursery() as life:
            ends["n1"] = Calls({}, LOG)
            await life.start(ends["n1"].run, Wire("n1", ends, reach))
            life.start_soon(ask, "slow", b"the first life")
            await trio.testing.wait_all_tasks_blocked()
            life.cancel_scope.cancel()
        ends["n2"].unreachable(Peer("n1"))  # Its session ends with it.
        ends["n1"] = Calls({}, LOG)
        await nursery.start(ends["n1"].run, Wire("n1", ends, reach))
        nursery.start_soon(ask, "never", b"the second life")
        await trio.testing.wait_all_tasks_blocked()
        bell.set()
        await trio.testing.wait_all_tasks_blocked()
        assert not told
        assert ends["n2"].statistics().undelivered_total == 1
        await ask("slow", b"whoever asks now")
        assert told == [b"to whoever asks now"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("way", ["call", "ask"])
@pytest.mark.parametrize(
    "family",
    [
        Unavailable,
        Overloaded,
        OutcomeUnknown,
        TooLarge,
        Conflict,
        NotFound,
        InvalidRequest,
        TimedOut,
        Forbidden,
        Unauthenticated,
    ],
)
async def test_an_error_arrives_in_its_family_with_its_code(family: type[ArcError], way: str) -> None:
    """Promise 40."""
    async with calling() as (one, _, __):
        question = cbor2.dumps(pack_error(family("because", code="special")))
        with pytest.raises(family) as found:
            if way == "call":
                await one.call("n2", "refuse", question, timeout_seconds=5)
            else:
                await one.ask("n2", "refuse", question, timeout_seconds=5)
        assert type(found.value) is family
        assert (found.value.code, found.value.message) == ("special", "because")


def test_an_error_without_a_family_on_the_wire_becomes_the_nearest_that_is_true() -> None:
    """A leader's name does not cross; a family of another version may mean that it happened."""
    nearest = unpack_error(pack_error(NotLeading("ask n3", "n3")))
    assert type(nearest) is Unavailable
    assert type(unpack_error([99, "new_code", "text"])) is OutcomeUnknown
    assert type(unpack_error("nonsense")) is OutcomeUnknown
    assert type(unpack_error(pack_error(ArcError("bug")))) is OutcomeUnknown


@pytest.mark.parametrize("way", ["call", "ask"])
async def test_a_kind_that_nobody_answers_is_a_clear_error(way: str) -> None:
    """A node of another version asks what is not known here."""
    async with calling() as (one, two, __):
        with pytest.raises(Unavailable, match="'sing'") as found:
            if way == "call":
                await one.call("n2", "sing", b"", timeout_seconds=5)
            else:
                await one.ask("n2", "sing", b"", timeout_seconds=5)
        assert found.value.code == "unknown_call"
        assert two.statistics().refused_total == 1


async def test_an_answer_that_fits_no_message_is_an_error_and_not_silence() -> None:
    """Nothing fails silently."""
    async with calling() as (one, _, __):
        with pytest.raises(OutcomeUnknown) as found:
            await one.call("n2", "huge", b"", timeout_seconds=5)
        assert found.value.code == "answer_too_large"


async def test_a_question_that_fits_no_message_is_told_to_who_asks() -> None:
    """And is not the peer's fault."""
    async with calling() as (one, _, __):
        with pytest.raises(TooLarge):
            await one.call("n2", "echo", bytes(RULES[Channel.CALL].message_bytes_max), timeout_seconds=5)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        cbor2.dumps([3, 1, b""]),
        cbor2.dumps([0, "1", "k", b""]),
        cbor2.dumps([0, 1, 5, b""]),
        cbor2.dumps(5),
    ],
)
async def test_what_is_no_call_is_refused(data: bytes) -> None:
    """N-04."""
    async with calling() as (one, _, __):
        with pytest.raises(ValueError, match="not a call"):
            one.receive(Peer("n2"), data)
        with pytest.raises(Unavailable, match="not a question"):
            raise unpack_error(cbor2.loads(await one.answer(Peer("n2"), data))[2])
