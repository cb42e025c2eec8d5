"""Looks into the questions that nodes ask each other over their sessions: each with the answer it ends with.

As `world_spy` does for what is agreed on: a few methods are wrapped while the block lasts, nothing is changed and
nothing is delayed. The methods are named here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import cbor2

from arc.cluster.calls import Calls
from arc.raft.types import Peer
from simulations.checkers.violation import Violation
from simulations.checkers.world_calls import Answers
from simulations.world_spy import wrapped

Method = Callable[..., Any]

_ANSWER_HEAD = 0x83
"""First byte of an answer: a CBOR array of three. A question has four."""


@contextmanager
def watching_calls(who: Callable[[], str], *, fail: Callable[[Violation], None]) -> Iterator[None]:
    """Watch until the block ends; ``who`` names the process of the current task. ``fail`` is told what is wrong:
    raised, it would be an error of the session that is under way.
    """
    watch = Answers()
    with ExitStack() as stack:
        stack.enter_context(wrapped(Calls, "call", _asking(watch)))
        stack.enter_context(wrapped(Calls, "_answer", _answering(watch)))
        stack.enter_context(wrapped(Calls, "receive", _receiving(watch, who, fail)))
        yield


def _asking(watch: Answers) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        async def wrapper(self: Calls, peer: str, kind: str, question: bytes, *, timeout_seconds: float) -> Any:
            watch.asked(id(self), self._next, kind, question)
            return await method(self, peer, kind, question, timeout_seconds=timeout_seconds)

        return wrapper

    return wrap


def _answering(watch: Answers) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        async def wrapper(self: Calls, peer: Peer, number: int, kind: str, question: bytes) -> bytes:
            answer: bytes = await method(self, peer, number, kind, question)
            watch.made(kind, question, answer)
            return answer

        return wrapper

    return wrap


def _receiving(watch: Answers, who: Callable[[], str], fail: Callable[[Violation], None]) -> Callable[[Method], Method]:
    def wrap(method: Method) -> Method:
        @wraps(method)
        def wrapper(self: Calls, peer: Peer, data: bytes) -> None:
            if data[0] == _ANSWER_HEAD:
                _, number, _ = cbor2.loads(data)
                waiting = self._open.get(number)
                if waiting is not None and waiting.peer == peer.name:
                    try:
                        watch.told(id(self), number, data, who())
                    except Violation as violation:
                        fail(violation)
            method(self, peer, data)

        return wrapper

    return wrap
