"""Questions between nodes and their answers, on the same streams as Raft's messages.

A call ends in one of three ways: with the answer; with Unavailable, when it certainly never left; or with
OutcomeUnknown, when the connection broke or time ran out after it may have left. Late answers are dropped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import cbor2
import trio

from arc.errors import OutcomeUnknown, Unavailable
from arc.telemetry import Log

CALLS_MAX = 10_000
"""Calls that may wait for their answers; and those of others that are being answered."""

_QUESTION, _ANSWER = 0, 1


class _Open:
    __slots__ = ("answer", "done", "peer")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.done = trio.Event()
        self.answer: bytes | None = None


class Calls:
    """``post`` queues bytes for a peer and says whether they found a place; ``answer`` answers what others ask."""

    def __init__(self, answer: Callable[[str, bytes], Awaitable[bytes]], log: Log) -> None:
        self._answer = answer
        self._log = log.bind(component="calls")
        self._open: dict[int, _Open] = {}
        self._next = 1
        self._answering = 0
        self._post: Callable[[str, bytes], bool] | None = None
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Calls open={len(self._open)} answering={self._answering}>"

    async def run(
        self, post: Callable[[str, bytes], bool], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Answer others until cancelled."""
        async with trio.open_nursery() as nursery:
            self._post, self._nursery = post, nursery
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._post = self._nursery = None

    async def call(self, peer: str, question: bytes, *, timeout_seconds: float) -> bytes:
        """Ask and return the answer. Raises Unavailable (nothing happened) or OutcomeUnknown."""
        number = self._next
        self._next += 1
        if self._post is None or len(self._open) >= CALLS_MAX:
            raise Unavailable("too many questions to other nodes wait already" if self._post else "no peers here")
        waiting = _Open(peer)
        if not self._post(peer, cbor2.dumps([_QUESTION, number, question])):
            raise Unavailable(f"{peer} cannot be reached now")
        self._open[number] = waiting
        try:
            with trio.move_on_after(timeout_seconds):
                await waiting.done.wait()
        finally:
            del self._open[number]
        if waiting.answer is None:
            raise OutcomeUnknown(f"{peer} did not answer; it may have done what it was asked")
        return waiting.answer

    def receive(self, peer: str, data: bytes) -> None:
        """Something came from a peer. Raises ValueError when it is no call: the stream must be closed."""
        try:
            kind, number, payload = cbor2.loads(data)
        except (cbor2.CBORDecodeError, TypeError) as error:
            raise ValueError(f"not a call: {error}") from error
        if kind not in (_QUESTION, _ANSWER) or type(number) is not int or type(payload) is not bytes:
            raise ValueError("not a call: wrong types")
        if kind == _ANSWER:
            waiting = self._open.get(number)
            if waiting is not None and waiting.peer == peer:
                waiting.answer = payload
                waiting.done.set()
        elif self._nursery is not None and self._answering < CALLS_MAX:
            self._answering += 1
            self._nursery.start_soon(self._reply, peer, number, payload)
        else:
            self._log.warning("call_dropped", peer=peer, reason="too many are being answered")

    def unreachable(self, peer: str) -> None:
        """The connection to a peer broke: nobody will answer what was asked there."""
        for waiting in self._open.values():
            if waiting.peer == peer:
                waiting.done.set()

    async def _reply(self, peer: str, number: int, question: bytes) -> None:
        try:
            answer = await self._answer(peer, question)
            if self._post is None or not self._post(peer, cbor2.dumps([_ANSWER, number, answer])):
                self._log.warning("answer_dropped", peer=peer, reason="the peer cannot be reached")
        finally:
            self._answering -= 1
