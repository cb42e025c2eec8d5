"""Questions between nodes and their answers, on the sessions that carry everything else.

A question names its kind, and each kind has one answerer. A call ends in one of three ways: with the answer, or the
error that the answerer raised; with Unavailable, when it certainly never left; or with OutcomeUnknown, when the session
broke or time ran out after it may have left. Late answers are dropped.

Each process numbers its questions from one on, so an answer goes back only in the session that brought its question:
in a later one the number may be that of another question, of a node that was started again meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import cbor2
import trio

from arc.errors import ArcError, OutcomeUnknown, Overloaded, TooLarge, Unavailable
from arc.raft.types import Peer
from arc.telemetry import Log
from arc.wire.channels import RULES, Channel
from arc.wire.errors import pack_error, unpack_error

CALLS_MAX = 10_000
"""Calls that may wait for their answers; and those of others that are being answered."""

_QUESTION, _ANSWER, _ERROR = 0, 1, 2


class Wire(Protocol):
    """What is needed of `arc.cluster.transport.PeerTransport`."""

    def post(self, name: str, channel: Channel, payload: bytes, *, is_bulk: bool = False) -> bool:
        """Queue a message for a node; says whether it found a place."""
        ...

    async def ask(self, address: str, question: bytes, *, timeout_seconds: float) -> bytes:
        """The answer of whoever listens somewhere. Raises Unavailable, OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsStatistics:
    """Counters since the start, and what is under way."""

    waiting: int
    answering: int
    asked_total: int
    answered_total: int
    refused_total: int
    """Questions of others that were over the bound, or of a kind that is not known here."""
    undelivered_total: int
    """Answers that could not be sent back, or would have found another session than the one they were asked in."""


class _Open:
    __slots__ = ("answer", "done", "peer")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.done = trio.Event()
        self.answer: bytes | ArcError | None = None


class Calls:
    """Asks other nodes and answers what they ask. ``answerers``: kind → who answers it, or raises an ArcError."""

    def __init__(self, answerers: Mapping[str, Callable[[Peer, bytes], Awaitable[bytes]]], log: Log) -> None:
        self._answerers = answerers
        self._log = log.bind(component="calls")
        self._open: dict[int, _Open] = {}
        self._next = 1
        self._sessions_over: Counter[str] = Counter()
        self._answering = 0
        self._answered = self._refused = self._undelivered = 0
        self._wire: Wire | None = None
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Calls open={len(self._open)} answering={self._answering} kinds={','.join(sorted(self._answerers))}>"

    async def run(self, wire: Wire, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Answer others until cancelled."""
        async with trio.open_nursery() as nursery:
            self._wire, self._nursery = wire, nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._wire = self._nursery = None

    async def call(self, peer: str, kind: str, question: bytes, *, timeout_seconds: float) -> bytes:
        """Ask a node and return its answer.

        Raises Unavailable or TooLarge (nothing happened), OutcomeUnknown, or what the answerer raised: the same family
        and code.
        """
        if self._wire is None or len(self._open) >= CALLS_MAX:
            raise Unavailable("too many questions to other nodes wait already" if self._wire else "no peers here")
        number = self._number()
        waiting, asked = _Open(peer), _question(number, kind, question)
        if not self._wire.post(peer, Channel.CALL, asked):
            raise Unavailable(f"{peer} cannot be reached now")
        self._open[number] = waiting
        try:
            with trio.move_on_after(timeout_seconds):
                await waiting.done.wait()
        finally:
            del self._open[number]
        if isinstance(waiting.answer, bytes):
            return waiting.answer
        raise waiting.answer or OutcomeUnknown(f"{peer} did not answer; it may have done what it was asked")

    async def ask(self, address: str, kind: str, question: bytes, *, timeout_seconds: float) -> bytes:
        """Ask whoever listens at ``host:port``, beside all sessions, for one who knows no more. Raises as `call`."""
        if self._wire is None:
            raise Unavailable("no peers here")
        asked = _question(self._number(), kind, question)
        data = await self._wire.ask(address, asked, timeout_seconds=timeout_seconds)
        try:
            what, _, payload = cbor2.loads(data)
            answer = _came_of(what, payload)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise OutcomeUnknown(f"{address} answered nonsense: {error}; it may have done what it was asked") from error
        if isinstance(answer, bytes):
            return answer
        raise answer

    async def answer(self, peer: Peer, data: bytes) -> bytes:
        """The answer, as it goes back, to a question of `ask`; an answer to what is no question is an error."""
        try:
            _, number, kind, question = cbor2.loads(data)
            if type(number) is not int or type(kind) is not str or type(question) is not bytes:
                raise ValueError("wrong types")
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            return _error(0, Unavailable(f"not a question: {error}", code="unknown_call"))
        return await self._answer(peer, number, kind, question)

    def receive(self, peer: Peer, data: bytes) -> None:
        """Something came from a peer. Raises ValueError when it is no call: the session must end."""
        try:
            what, number, *rest = cbor2.loads(data)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise ValueError(f"not a call: {error}") from error
        match what, number, rest:
            case int(), int(), [str(kind), bytes(question)] if what == _QUESTION:
                self._take_question(peer, number, kind, question)
            case int(), int(), [payload]:
                answer = _came_of(what, payload)
                waiting = self._open.get(number)
                if waiting is not None and waiting.peer == peer.name:
                    waiting.answer = answer
                    waiting.done.set()
            case _:
                raise ValueError("not a call: wrong types")

    def unreachable(self, peer: Peer) -> None:
        """The session with a peer broke: nobody will answer what was asked there, nor hear what was to be answered."""
        self._sessions_over[peer.name] += 1
        for waiting in self._open.values():
            if waiting.peer == peer.name:
                waiting.done.set()

    def statistics(self) -> CallsStatistics:
        """Counters since the start."""
        return CallsStatistics(
            waiting=len(self._open),
            answering=self._answering,
            asked_total=self._next - 1,
            answered_total=self._answered,
            refused_total=self._refused,
            undelivered_total=self._undelivered,
        )

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _take_question(self, peer: Peer, number: int, kind: str, question: bytes) -> None:
        if self._nursery is None:
            return  # About to end: the session ends as well, and the asker is told that.
        if self._answering >= CALLS_MAX:
            self._refused += 1
            error = Overloaded("too many questions of other nodes are being answered")
            self._send_back(peer, _error(number, error), self._sessions_over[peer.name])
            return
        self._nursery.start_soon(self._reply, peer, number, kind, question, self._sessions_over[peer.name])

    async def _reply(self, peer: Peer, number: int, kind: str, question: bytes, session: int) -> None:
        self._send_back(peer, await self._answer(peer, number, kind, question), session)

    def _send_back(self, peer: Peer, answer: bytes, session: int) -> None:
        """``session``: how many with this peer were over when it asked."""
        is_over = self._sessions_over[peer.name] != session
        if is_over or self._wire is None or not self._wire.post(peer.name, Channel.CALL, answer):
            self._undelivered += 1
            reason = "it was asked in a session that is over" if is_over else "the peer cannot be reached"
            self._log.debug("answer_dropped", peer=str(peer), reason=reason)

    async def _answer(self, peer: Peer, number: int, kind: str, question: bytes) -> bytes:
        answerer = self._answerers.get(kind)
        if answerer is None:
            self._refused += 1
            error = Unavailable(f"this node answers no questions of kind {kind!r:.80}", code="unknown_call")
            return _error(number, error)
        self._answering += 1
        try:
            answer = await answerer(peer, question)
        except ArcError as error:
            return _error(number, error)
        finally:
            self._answering -= 1
        self._answered += 1
        packed: bytes = cbor2.dumps([_ANSWER, number, answer])
        if len(packed) > RULES[Channel.CALL].message_bytes_max:
            return _error(number, OutcomeUnknown("the answer is too large for one message", code="answer_too_large"))
        return packed


def _question(number: int, kind: str, question: bytes) -> bytes:
    """Raises TooLarge."""
    data: bytes = cbor2.dumps([_QUESTION, number, kind, question])
    if len(data) > RULES[Channel.CALL].message_bytes_max:
        raise TooLarge(f"a question of {len(question)} bytes is too large for one message")
    return data


def _error(number: int, error: ArcError) -> bytes:
    data: bytes = cbor2.dumps([_ERROR, number, pack_error(error)])
    return data


def _came_of(what: object, payload: object) -> bytes | ArcError:
    """What an answer holds. Raises ValueError."""
    if what == _ANSWER and type(payload) is bytes:
        return payload
    if what == _ERROR:
        return unpack_error(payload)
    raise ValueError("not a call: wrong types")
