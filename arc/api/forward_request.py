"""A request that is for another node: sent there, answered from there, sent again elsewhere when that is safe.

Choose (`arc.cluster.router`), send (`arc.api.forward_attempt`), and when there is no answer decide what is honest. A
request is sent again only from a body that is still whole, only while nothing of an answer was sent to the client, and
a write whose fate is unknown only under an idempotency key, so that it is stored once. Where that cannot be had the
client is told which of the two it is: nothing was stored (503, a code of its own), or nobody knows (503
``outcome_unknown``). Texts for clients name no addresses; logs do (P-40).

When nobody can take a request it waits a little for somebody who can: a new holder of the lease is there within
seconds. A node that failed is asked again only after a pause that grows, and only if nobody else can be asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TypeGuard

import trio

from arc.api.errors import ClientGone, worst
from arc.api.exchange import Exchange
from arc.api.forward_attempt import Attempt, Failure, Fate, Upload
from arc.api.forward_head import KEY, Framing, check_hops, passed_nodes, request_head
from arc.api.replies import Reply
from arc.api.routes import Routed, Stream
from arc.cluster.router import Candidate, Forward, Local, NoReaderAvailable, NoWriterAvailable, Router, Wish
from arc.errors import ArcError, OutcomeUnknown, Overloaded, TimedOut, Unavailable
from arc.ids import NodeId
from arc.ports import Rng
from arc.query.mistakes import FILE_UNREADABLE
from arc.telemetry import Log
from arc.wire.http import AnswerHead, HttpClient

LOOK_SECONDS = 0.25
"""How often a waiting request looks although it was not told of a change: who reaches us next may be known only
by trying."""

PAUSE_SECONDS = 0.1
PAUSE_GROWTH = 4.0
"""0.1, 0.4, 1.6 s: with the default wait a node that is alone able is asked four times."""

HURRY_SECONDS = 0.05
"""Requests that failed together go to the next node spread over this time."""

NOT_FROM_HERE = frozenset({"files_missing", FILE_UNREADABLE})
"""Codes of a query that needs a file which is not on the node (`query.snapshot`), or cannot be read there."""

REFUSED_BUT_MAY_WORK = frozenset(
    {
        "unavailable", "not_holder", "not_seen_yet", "forward_loop", "no_writer_available", "no_reader_available",
        *NOT_FROM_HERE,
    }
)  # fmt: skip
"""Codes of answers that say: nothing happened, and somebody else, or this one soon, may do it."""


class RoutedRequest:
    """One request on its way: who was asked, since when nobody could, and what can have happened."""

    def __init__(self, means: Means, exchange: Exchange, kind: Routed, wish: Wish | None) -> None:
        self._means = means
        self._router = means.router
        self._config = means.router.config
        self._exchange = exchange
        self._kind = kind
        self._is_write = kind != "query"
        self._wish = wish
        self._retries = 0
        self._failures: dict[NodeId, int] = {}
        self._paused: dict[NodeId, float] = {}
        self._deadline: float | None = None
        self._stored_maybe_at: NodeId | None = None
        self._added_key: bytes | None = None
        self._is_keyed = False
        self._lacks_files = False

    async def run(self, plan: Local | Forward | None, here: Stream) -> Reply | None:
        """Have it answered. A query that this node cannot answer whole goes to one that may have what it needs."""
        with ExitStack() as held:
            upload = await self._take_body(held)
            self._choose_key(upload)
            while True:
                chosen = plan if plan is not None else await self._wait_for_plan()
                plan = None
                if isinstance(chosen, Local):
                    self._check_same_holder(self._means.node)
                    try:
                        return await self._serve_here(upload, here)
                    except (ArcError, BaseExceptionGroup) as error:
                        plan = self._plan_instead(error)
                        if plan is None:
                            if self._stored_maybe_at is not None and isinstance(worst(error), Unavailable):
                                raise _outcome_unknown() from error  # it knows nothing of the time before
                            raise
                        continue
                target = chosen.candidates[0]
                self._check_same_holder(target.node)
                check_hops(self._exchange.head, self._means.node)
                self._means.attempts += 1
                failure = await self._attempt(target, upload, has_other=len(chosen.candidates) > 1)
                if failure is None:
                    return None
                await self._go_on(target, failure, upload)

    # ---- the body

    async def _take_body(self, held: ExitStack) -> Upload:
        exchange, means = self._exchange, self._means
        declared = exchange.head.content_length()
        if not self._is_write:
            body = await exchange.body.read(means.query_bytes_max, means.hold, held)
            return Upload(exchange.body, body, is_whole=True, declared=len(body))
        limit = self._config.held_body_bytes_max
        size = limit if declared is None else declared
        if size > limit or not means.has_room(size):
            return Upload(exchange.body, b"", is_whole=False, declared=declared)
        held.enter_context(means.hold(size))
        pieces: list[bytes] = []
        taken = 0
        while taken <= limit and (piece := await exchange.body.take()):
            pieces.append(piece)
            taken += len(piece)
        return Upload(exchange.body, b"".join(pieces), is_whole=exchange.body.complete, declared=declared)

    def _choose_key(self, upload: Upload) -> None:
        """A write that can be sent again gets a key when it has none and may have one."""
        if not self._is_write or KEY in self._exchange.head.headers:
            self._is_keyed = self._is_write
        elif upload.is_whole and self._config.retries and self._router.keys.take():
            self._added_key = b"arc-" + self._means.rng.bytes(16).hex().encode()
            self._is_keyed = True

    async def _serve_here(self, upload: Upload, here: Stream) -> Reply | None:
        exchange = self._exchange
        self._means.local += 1
        head = exchange.head
        if self._stored_maybe_at is not None and self._added_key is not None:
            head = replace(head, headers={**head.headers, KEY: self._added_key})
        exchange.head = head
        exchange.body = exchange.body.with_beginning(head, upload.kept)
        return await here(exchange)

    def _plan_instead(self, error: BaseException) -> Forward | None:
        """Where to ask after this node could not answer; None when the client is better told why."""
        reason, exchange = worst(error), self._exchange
        is_lacking = isinstance(reason, Unavailable) and reason.code in NOT_FROM_HERE
        if self._wish is None or not is_lacking or exchange.started or passed_nodes(exchange.head):
            return None
        try:
            plan = self._router.plan_elsewhere(self._wish)
        except NoReaderAvailable:
            return None
        self._lacks_files = True
        return plan

    # ---- choosing

    def _plan(self) -> Local | Forward:
        now = trio.current_time()
        paused = tuple(node for node, until in self._paused.items() if until > now)
        if self._wish is None:
            return self._router.plan_write(paused)
        if self._lacks_files:
            return self._router.plan_elsewhere(self._wish, paused)
        return self._router.plan_query(self._wish, paused)

    async def _wait_for_plan(self) -> Local | Forward:
        last = self._try_plan()
        if is_good(last):
            return last
        deadline = self._wait_deadline()
        with self._means.waiting_room(self._nobody(last)):
            while not is_good(last) and (now := trio.current_time()) < deadline:
                wake = min([deadline, now + LOOK_SECONDS, *(until for until in self._paused.values() if until > now)])
                await self._wait_until(wake)
                last = self._try_plan()
        if is_good(last):
            return last
        if isinstance(last, Local) and self._stored_maybe_at is None:
            return last  # its own words are better than ours
        raise self._nobody(last)

    def _try_plan(self) -> Local | Forward | Unavailable:
        try:
            return self._plan()
        except Unavailable as error:
            return error

    def _wait_deadline(self) -> float:
        if self._deadline is None:
            self._deadline = trio.current_time() + self._config.failover_wait_seconds
        return self._deadline

    async def _wait_until(self, wake: float) -> None:
        """Until then, or until something changed. Raises ClientGone."""
        exchange = self._exchange
        gone = False

        async def watch_client() -> None:
            nonlocal gone
            await exchange.body.wait_gone()
            gone = True
            scope.cancel()

        with trio.move_on_at(wake) as scope:
            async with trio.open_nursery() as nursery:
                if exchange.body.complete:
                    nursery.start_soon(watch_client)
                await self._means.wait_change()
                scope.cancel()
        if gone:
            raise ClientGone

    # ---- sending

    async def _attempt(self, target: Candidate, upload: Upload, *, has_other: bool) -> Failure | None:
        # An old connection may be dead without our knowing: it is used only where trying again is safe.
        may_reuse = upload.is_whole and self._is_safe_again()
        failure, was_stale = await self._attempt_once(target, upload, may_reuse=may_reuse, has_other=has_other)
        if failure is not None and was_stale:
            if self._is_write and failure.fate is Fate.UNKNOWN:
                self._stored_maybe_at = target.node
            failure, _ = await self._attempt_once(target, upload, may_reuse=False, has_other=has_other)
        return failure

    async def _attempt_once(
        self, target: Candidate, upload: Upload, *, may_reuse: bool, has_other: bool
    ) -> tuple[Failure | None, bool]:
        attempt = Attempt(
            exchange=self._exchange,
            upload=upload,
            target=target,
            head=request_head(
                self._exchange,
                target,
                node=self._means.node,
                added_key=self._added_key,
                framing=_framing(self._exchange, upload),
            ),
            config=self._config,
            answer_seconds=(
                self._config.write_timeout_seconds if self._kind == "write" else self._config.query_timeout_seconds
            ),
            is_write=self._is_write,
            given_up=lambda: self._router.given_up(target.node, is_write=self._is_write),
            refusal=lambda answer: self._refusal(answer, upload, target, has_other),
        )
        with self._router.sending(target.node):
            return await attempt.run(self._means.client, may_reuse=may_reuse), attempt.was_stale

    def _refusal(self, answer: AnswerHead, upload: Upload, target: Candidate, has_other: bool) -> Failure | None:
        """The failure that an answer amounts to, when it is better not sent on."""
        if answer.status not in (503, 508):
            return None
        code = answer.first(b"x-arc-code").decode("latin-1")
        failure = Failure(fate=Fate.NOTHING, reason=f"it answered {answer.status} {code}")
        if self._stored_maybe_at is not None:
            return failure  # nothing happened this time, but nobody knows about the time before
        if not upload.can_resend or not self._config.retries:
            return None
        if code == OutcomeUnknown.code:
            is_new_try = self._is_write and self._is_keyed and self._retries < self._config.retries
            return replace(failure, fate=Fate.UNKNOWN) if is_new_try else None
        if not (code in REFUSED_BUT_MAY_WORK or (has_other and code == Overloaded.code)):
            return None
        is_in_time = has_other or trio.current_time() + self._pause(target.node, 1.0) < self._wait_deadline()
        return failure if is_in_time else None

    # ---- after a failure

    async def _go_on(self, target: Candidate, failure: Failure, upload: Upload) -> None:
        """Return when the request may be sent again. Raises what the client is told otherwise."""
        self._means.log.warning(
            "forward_failed", target=target.node, address=target.address, kind=self._kind, reason=failure.reason,
            may_be_stored=self._is_write and failure.fate is Fate.UNKNOWN,
        )  # fmt: skip
        if self._is_write and failure.fate is Fate.UNKNOWN:
            self._stored_maybe_at = target.node
        if not upload.can_resend or not self._config.retries or (failure.is_late and failure.fate is Fate.UNKNOWN):
            raise self._told(failure)
        if failure.fate is Fate.UNKNOWN:
            if self._retries >= self._config.retries or not self._is_safe_again() or not self._router.retries.take():
                raise self._told(failure)
            self._retries += 1
        elif trio.current_time() > self._wait_deadline():
            raise self._told(failure)
        self._wait_deadline()
        pause = self._pause(target.node, self._means.rng.uniform(0.75, 1.25))
        self._failures[target.node] = self._failures.get(target.node, 0) + 1
        self._paused[target.node] = trio.current_time() + pause
        await trio.sleep(self._means.rng.uniform(0.0, HURRY_SECONDS))

    def _pause(self, node: NodeId, jitter: float) -> float:
        return PAUSE_SECONDS * PAUSE_GROWTH ** self._failures.get(node, 0) * jitter

    def _is_safe_again(self) -> bool:
        """Whether asking twice does no more than asking once."""
        return not self._is_write or self._is_keyed

    def _check_same_holder(self, node: NodeId) -> None:
        """Raises OutcomeUnknown where the next holder might not know what the one before has stored."""
        maybe_at = self._stored_maybe_at
        if maybe_at is not None and maybe_at != node and not self._router.holders_share_keys:
            raise _outcome_unknown()

    def _told(self, failure: Failure) -> ArcError:
        if not self._is_write:
            if failure.is_late:
                return TimedOut("the node that answers this query did not answer in time")
            return NoReaderAvailable("the node that was to answer this query did not")
        if self._stored_maybe_at is not None:
            return _outcome_unknown()
        return NoWriterAvailable("the node that takes writes could not be given the whole request; nothing was stored")

    def _nobody(self, last: Local | Forward | Unavailable) -> ArcError:
        if self._stored_maybe_at is not None:
            return _outcome_unknown()
        if isinstance(last, Unavailable):
            return last
        return NoWriterAvailable("this node is to take writes and cannot yet; nothing was stored")


class Means:
    """What requests on their way share: who chooses, who sends, how much may be kept and how many may wait.

    Owned by `arc.api.forward.Forwarder`, which counts here.
    """

    def __init__(
        self,
        *,
        node: NodeId,
        router: Router,
        client: HttpClient,
        rng: Rng,
        log: Log,
        wait_change: Callable[[], Awaitable[object]],
        query_bytes_max: int,
    ) -> None:
        self.node = node
        self.router = router
        self.client = client
        self.rng = rng
        self.log = log
        self.wait_change = wait_change
        self.query_bytes_max = query_bytes_max
        self.waiting = 0
        self.held_bytes = 0
        self.local = self.attempts = self.failed = self.waited = self.refused = 0

    @contextmanager
    def hold(self, size_bytes: int) -> Iterator[None]:
        """Count bytes of a body that is kept. Raises Overloaded."""
        if not self.has_room(size_bytes):
            self.refused += 1
            raise Overloaded("too many requests for other nodes are under way; try again shortly")
        self.held_bytes += size_bytes
        try:
            yield
        finally:
            self.held_bytes -= size_bytes

    def has_room(self, size_bytes: int) -> bool:
        """Whether so much may be kept."""
        return self.held_bytes + size_bytes <= self.router.config.held_bytes_max

    @contextmanager
    def waiting_room(self, reason: ArcError) -> Iterator[None]:
        """Count a request as waiting. Raises ``reason`` when too many wait already."""
        if self.waiting >= self.router.config.waiting_max:
            self.refused += 1
            raise reason
        self.waiting += 1
        self.waited += 1
        try:
            yield
        finally:
            self.waiting -= 1


def is_good(plan: Local | Forward | Unavailable) -> TypeGuard[Local | Forward]:
    """Whether it can be acted on now."""
    return isinstance(plan, Forward) or (isinstance(plan, Local) and not plan.refuses)


def _outcome_unknown() -> OutcomeUnknown:
    return OutcomeUnknown(
        "the node that takes writes got this one and did not answer; it may be stored. "
        "Retry with the same Idempotency-Key to be sure that it is stored once"
    )


def _framing(exchange: Exchange, upload: Upload) -> Framing:
    if upload.is_whole:
        return len(upload.kept) if upload.kept or exchange.head.method == "POST" else None
    return "chunked" if upload.declared is None else upload.declared
