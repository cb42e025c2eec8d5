"""The writer lease is handed over in order: its holder, wherever it is, stops taking writes and waits until the next
one has every row; then the lease is given away, and nobody's write failed for it.

Whoever asks may die, or the grant may fail. So the holder goes by its own watch: when the lease is still its own after
the time that was given, it takes writes again, and nobody has to tell it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import cbor2
import trio

from arc.errors import Conflict, InvalidRequest, Unavailable
from arc.ids import NodeId
from arc.raft.types import Peer
from arc.telemetry import Log

KIND = "hand-over"
"""Of the question between nodes."""

SECONDS_MAX = 60.0
"""No holder keeps writers waiting for longer, whatever it was asked."""


class Holder(Protocol):
    """The rows of this node; `duties.WriterDuty`."""

    async def hand_over(self, target: NodeId) -> None:
        """Take no more writes; return when the target has every record. Raises Unavailable."""
        ...

    def take_back(self) -> None:
        """Take writes again."""
        ...


class Ask(Protocol):
    """`cluster.calls.Calls.call`."""

    async def __call__(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """The answer. Raises Unavailable, OutcomeUnknown, and what was raised there."""
        ...


class HandOvers:
    """Asks the holder, and is it when it holds. ``epoch`` is that of the writer lease if this node holds it, else 0."""

    def __init__(self, me: NodeId, holder: Holder, epoch: Callable[[], int], ask: Ask | None, log: Log) -> None:
        self._me = me
        self._holder = holder
        self._epoch = epoch
        self._ask = ask
        self._log = log.bind(component="hand-over")
        self._watches = trio.Event()
        self._watched: tuple[int, float] | None = None

    def __repr__(self) -> str:
        return f"<HandOvers of {self._me} watched={self._watched}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take writes again when a hand-over did not come about, until cancelled."""
        task_status.started()
        while True:
            while self._watched is None:
                self._watches = trio.Event()
                await self._watches.wait()
            epoch, deadline = self._watched
            await trio.sleep_until(deadline)
            if self._watched == (epoch, deadline):
                self._watched = None
                if self._epoch() == epoch:
                    self._holder.take_back()
                    self._log.warning("hand_over_given_up", epoch=epoch, reason="the lease was not moved in time")

    async def __call__(self, holder: NodeId, target: NodeId, epoch: int, /, *, seconds_max: float) -> None:
        """Return when the target has all. See `cluster.moving.PrepareHandOver`.

        Raises Unavailable, OutcomeUnknown, Conflict: it does not, or cannot.
        """
        if holder == self._me:
            await self._prepare(target, epoch, seconds_max)
        elif self._ask is None:
            raise Unavailable(f"{holder} cannot be asked: this node has no peers")
        else:
            question = cbor2.dumps([target, epoch, float(seconds_max)])
            await self._ask(holder, KIND, question, timeout_seconds=seconds_max)

    async def answer(self, peer: Peer, question: bytes) -> bytes:
        """Another node asks this one to hand over. Raises as `__call__`, and InvalidRequest."""
        try:
            target, epoch, seconds = cbor2.loads(question)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise InvalidRequest(f"not an order to hand over: {error}") from error
        if not (isinstance(target, str) and type(epoch) is int and type(seconds) is float and seconds > 0):
            raise InvalidRequest("not an order to hand over: wrong types")
        await self._prepare(NodeId(target), epoch, min(seconds, SECONDS_MAX))
        return b""

    async def _prepare(self, target: NodeId, epoch: int, seconds: float) -> None:
        if self._epoch() != epoch:
            raise Conflict(f"{self._me} does not hold the writer lease of epoch {epoch}", code="stale_epoch")
        deadline = trio.current_time() + seconds
        with trio.move_on_at(deadline) as soon:
            await self._holder.hand_over(target)
        if soon.cancelled_caught:
            raise Unavailable(f"{target} did not have every row within {seconds:g} s; {self._me} goes on")
        self._watched = (epoch, deadline)
        self._watches.set()
