"""One request sent to one node, and its answer sent on to the client while it comes: a piece each way at a time.

Four things go on side by side: the body goes up, the answer is waited for, the client may hang up, and the node may
turn out to be dead or not to be the right one any more. Whatever ends first ends the rest. What is left is either a
whole answer at the client, or a `Failure` that says what can have happened over there; the choice what to do about it
is `arc.api.forward`'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import trio

from arc.api.errors import ClientGone
from arc.api.exchange import Exchange
from arc.api.forward_head import answer_headers
from arc.api.limits import Body, BodyStalled
from arc.cluster.router import Candidate, RouterConfig
from arc.wire.http import AnswerHead, ConnectFailed, Conversation, HttpClient, HttpFailed, RequestHead

LOOK_SECONDS = 0.5
"""How often it is asked whether the node is still worth waiting for."""

GRACE_SECONDS = 1.0
"""How long an answer may still come after it is not: who hands the lease over finishes what he has."""


class Fate(Enum):
    """What a request that failed has done to the node: surely nothing, or that cannot be known."""

    NOTHING = "nothing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no answer. ``reason`` is for logs only. ``is_late``: it was waited for until a time-out."""

    fate: Fate
    reason: str
    is_late: bool = False


class Upload:
    """The body of a request: kept whole, or passed on as it comes after ``kept``, which may then be sent only once."""

    def __init__(self, body: Body, kept: bytes, *, is_whole: bool, declared: int | None) -> None:
        self._body = body
        self._is_flowing = False
        self.kept = kept
        self.is_whole = is_whole
        self.declared = declared

    @property
    def can_resend(self) -> bool:
        """Whether it can be sent from its beginning."""
        return self.is_whole or not self._is_flowing

    async def take(self) -> bytes:
        """The next piece after ``kept``; empty at the end. Raises BodyStalled, ClientGone."""
        self._is_flowing = True
        return await self._body.take()


class Attempt:
    """Sends one request to ``target`` and relays what comes. Used once.

    ``given_up`` says why the target need not be waited for; ``refusal`` gives the failure that an answer amounts to
    when it should not be relayed.
    """

    def __init__(
        self,
        *,
        exchange: Exchange,
        upload: Upload,
        target: Candidate,
        head: RequestHead,
        config: RouterConfig,
        answer_seconds: float,
        is_write: bool,
        given_up: Callable[[], str | None],
        refusal: Callable[[AnswerHead], Failure | None],
    ) -> None:
        self._exchange = exchange
        self._upload = upload
        self._target = target
        self._head = head
        self._config = config
        self._answer_seconds = answer_seconds
        self._is_write = is_write
        self._given_up = given_up
        self._refusal = refusal
        self._whole = trio.CancelScope()
        self._up = trio.CancelScope()
        self._until_head = trio.CancelScope()
        self._all_sent = False
        self._has_head = False
        self._is_done = False
        self._failure: Failure | None = None
        self._client_failed: ClientGone | BodyStalled | None = None

    async def run(self, client: HttpClient, *, may_reuse: bool) -> Failure | None:
        """None when the client has the whole answer.

        Raises ClientGone, BodyStalled, and HttpFailed when the answer broke after its beginning was sent on.
        """
        try:
            async with client.open(
                self._target.address, timeout_seconds=self._config.connect_timeout_seconds, fresh=not may_reuse
            ) as talk:
                was_reused = talk.is_reused
                await self._converse(talk)
        except ConnectFailed as error:
            return Failure(fate=Fate.NOTHING, reason=error.message, is_late=error.is_late)
        if self._is_done:
            return None
        if self._client_failed is not None:
            raise self._client_failed
        failure = self._failure
        assert failure is not None
        if self._exchange.started:
            raise HttpFailed(f"the answer of {self._target.node} broke: {failure.reason}")
        self.was_stale = was_reused and not self._has_head and not failure.is_late
        return failure

    was_stale = False
    """Whether the connection was an old one that may have been closed long ago: a new one is worth a try at once."""

    async def _converse(self, talk: Conversation) -> None:
        with self._whole:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, talk)
                nursery.start_soon(self._watch_target)
                await self._receive(talk)
                self._whole.cancel()

    async def _send(self, talk: Conversation) -> None:
        try:
            with self._up:
                await self._send_body(talk)
            if self._exchange.body.complete:
                await self._exchange.body.wait_gone()
                if not self._exchange.finished:
                    raise ClientGone
        except (ClientGone, BodyStalled) as error:
            self._client_failed = error
            self._whole.cancel()
        except HttpFailed as error:
            # A node that closed its side may have answered before; whoever receives will see.
            if error.is_late:
                self._fail(error.message, is_late=True)

    async def _send_body(self, talk: Conversation) -> None:
        idle = self._config.idle_timeout_seconds
        upload = self._upload
        if upload.is_whole:
            self._all_sent = True
            self._begin_waiting()
            await talk.send_all(self._head, upload.kept, idle)
            return
        await talk.send_head(self._head, idle)
        left = math.inf if upload.declared is None else upload.declared
        piece = upload.kept or await upload.take()
        while piece:
            left -= len(piece)
            if left <= 0:
                self._all_sent = True
            await talk.send_piece(piece, idle)
            piece = await upload.take()
        self._all_sent = True
        self._begin_waiting()
        await talk.send_end(idle)

    def _begin_waiting(self) -> None:
        self._until_head.deadline = trio.current_time() + self._answer_seconds

    async def _receive(self, talk: Conversation) -> None:
        try:
            with self._until_head:
                answer = await talk.receive_head(math.inf)
            if self._until_head.cancelled_caught:
                self._fail(f"no answer began within {self._answer_seconds:g} s", is_late=True)
                return
            self._has_head = True
            self._failure = self._refusal(answer)
            if self._failure is None:
                await self._relay(talk, answer)
        except HttpFailed as error:
            self._fail(error.message, is_late=error.is_late)

    async def _relay(self, talk: Conversation, answer: AnswerHead) -> None:
        exchange = self._exchange
        if not exchange.body.complete:
            self._up.cancel()  # it answered before it had everything, so it does not want the rest
        await exchange.relay(answer.status, answer_headers(answer, self._target))
        while piece := await talk.receive_piece(self._config.idle_timeout_seconds):
            await exchange.piece(piece)
        await exchange.end_relayed()
        self._is_done = True

    async def _watch_target(self) -> None:
        while not (self._is_write and self._has_head):
            await trio.sleep(LOOK_SECONDS)
            if self._given_up() is None:
                continue
            await trio.sleep(GRACE_SECONDS)
            reason = self._given_up()
            if reason is not None and not (self._is_write and self._has_head):
                self._fail(f"not waited for: {reason}")

    def _fail(self, reason: str, *, is_late: bool = False) -> None:
        if self._failure is None:
            fate = Fate.UNKNOWN if self._all_sent else Fate.NOTHING
            self._failure = Failure(fate=fate, reason=reason, is_late=is_late)
        self._whole.cancel()
