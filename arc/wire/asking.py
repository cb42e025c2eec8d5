"""Questions to a node of which only the address is known: a connection for the moment, beside all sessions.

A node that wants to join asks a seed so, before anybody knows it. Both ends have proven who they are, as always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from arc.errors import OutcomeUnknown, Unavailable
from arc.ports import Clock
from arc.raft.types import Peer
from arc.wire.channels import Channel
from arc.wire.door import Door
from arc.wire.facts import Address, Met
from arc.wire.handshake import Claims, HandshakeRefused
from arc.wire.outbox import Outbox
from arc.wire.session import BROKEN, Bell, Session, Shaken, close

ASKERS_MAX, ASKERS_PER_PEER_MAX = 64, 4
"""Those who ask at once; more are refused."""
ASKER_SECONDS = 120.0
"""How long one may stay."""


class Asking:
    """Both sides of it. ``claims`` are ours; ``check`` refuses whom we do not talk to; ``answer`` answers; ``met`` is
    told who was found at an address.
    """

    def __init__(
        self,
        door: Door,
        clock: Clock,
        *,
        claims: Callable[[], Claims],
        check: Callable[[Claims], None],
        answer: Callable[[Peer, bytes], Awaitable[bytes]],
        met: Callable[[Claims], None],
    ) -> None:
        self._door = door
        self._clock = clock
        self._claims = claims
        self._check = check
        self._answer = answer
        self._met = met
        self._askers: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Asking askers={self._askers.total()}>"

    async def meet(self, address: str) -> Met:
        """Who listens at ``host:port``. Raises Unavailable."""
        async with self._visit(address) as (_, shaken):
            theirs = shaken.theirs
        return Met(peer=theirs.peer, facts=theirs.facts, cluster=theirs.cluster, address=theirs.address)

    async def ask(self, address: str, question: bytes, *, timeout_seconds: float) -> bytes:
        """The answer of whoever listens at ``host:port``. Raises Unavailable (it never left), OutcomeUnknown."""
        has_left = False
        with trio.move_on_after(timeout_seconds):
            async with self._visit(address) as (stream, shaken):
                answers: list[bytes] = []
                outbox = Outbox()

                def deliver(_: Channel, payload: bytes) -> None:
                    answers.append(payload)
                    session.end("answered")

                if not outbox.put(Channel.CALL, question, is_bulk=False):
                    raise Unavailable("the question is too large for one message")
                session = self._session(stream, shaken, outbox, Bell(), deliver, is_dialled_here=True)
                has_left = True
                await session.run()
                if answers:
                    return answers[0]
                raise OutcomeUnknown(f"no answer from {address}: {session.ended_because}; it may have done it")
        if not has_left:
            raise Unavailable(f"no node answers at {address} within {timeout_seconds:g} s")
        raise OutcomeUnknown(f"no answer from {address} within {timeout_seconds:g} s; it may have done it")

    def require_place(self, peer: Peer) -> None:
        """Raises HandshakeRefused when too many ask already."""
        if self._askers.total() >= ASKERS_MAX or self._askers[peer.name] >= ASKERS_PER_PEER_MAX:
            raise HandshakeRefused("too_many", f"{peer} asks too much at once")

    async def serve(self, stream: trio.abc.Stream, shaken: Shaken) -> None:
        """Answer one who asks, one question after the other, until he goes."""
        peer, outbox, bell = shaken.theirs.peer, Outbox(), Bell()
        questions: list[bytes] = []

        def deliver(channel: Channel, payload: bytes) -> None:
            if channel is not Channel.CALL or questions:
                raise ValueError("one question at a time")
            questions.append(payload)
            nursery.start_soon(reply)

        async def reply() -> None:
            answer = await self._answer(peer, questions[0])
            questions.clear()
            if not outbox.put(Channel.CALL, answer, is_bulk=False):
                session.end("the answer is too large for one message")
            bell.ring()

        session = self._session(stream, shaken, outbox, bell, deliver, is_dialled_here=False)
        self._askers[peer.name] += 1
        try:
            with trio.move_on_after(ASKER_SECONDS):
                async with trio.open_nursery() as nursery:
                    await session.run()
                    nursery.cancel_scope.cancel()
        finally:
            self._askers[peer.name] -= 1
            if not self._askers[peer.name]:
                del self._askers[peer.name]

    @asynccontextmanager
    async def _visit(self, address: str) -> AsyncIterator[tuple[trio.abc.Stream, Shaken]]:
        try:
            stream, shaken = await self._door.dial(Address.parse(address), self._claims, self._check)
        except (*BROKEN, ValueError) as error:
            raise Unavailable(f"no node answers at {address}: {str(error) or type(error).__name__}") from error
        self._met(shaken.theirs)
        try:
            yield stream, shaken
        finally:
            await close(stream)

    def _session(
        self,
        stream: trio.abc.Stream,
        shaken: Shaken,
        outbox: Outbox,
        bell: Bell,
        deliver: Callable[[Channel, bytes], None],
        *,
        is_dialled_here: bool,
    ) -> Session:
        return Session(
            stream,
            shaken,
            is_dialled_here=is_dialled_here,
            outbox=outbox,
            bell=bell,
            clock=self._clock,
            deliver=deliver,
        )
