"""Requests that may be for another node: the door. What is for this node goes on as it came, the rest is sent away.

A node alone has no forwarder, and its requests pay one comparison. With one, a request for this node pays one choice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from arc.api.errors import ClientGone
from arc.api.exchange import Exchange
from arc.api.forward_request import Means, RoutedRequest, is_good
from arc.api.heads import Head
from arc.api.query import least_seen, wants_strong
from arc.api.replies import Reply
from arc.api.routes import Routed, Stream
from arc.cluster.router import Forward, Local, Router, RouterStatistics, Wish
from arc.errors import ArcError, Unavailable
from arc.ids import NodeId
from arc.ports import Rng
from arc.telemetry import Log
from arc.wire.http import HttpClient, HttpClientStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardStatistics:
    """Requests since the start: answered here, failed for want of a node, made to wait, refused because too many did.

    ``attempts_total`` is how often one was sent to another node; ``waiting`` and ``held_bytes`` are now.
    """

    local_total: int
    attempts_total: int
    failed_total: int
    waited_total: int
    refused_total: int
    waiting: int
    held_bytes: int
    router: RouterStatistics
    connections: HttpClientStatistics


class Forwarder:
    """Answers routed requests of clients, here or by asking another node. ``node`` is this node's name.

    ``wait_change`` returns when what is known of the nodes may have changed. ``lacks_files``: whether any file is not
    on this node, so that a query which is for it may have to go elsewhere after all. ``query_bytes_max`` is the longest
    body of a query, as the query endpoints have it.
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
        lacks_files: Callable[[], bool],
        query_bytes_max: int,
    ) -> None:
        self.node = node
        self._router = router
        self._lacks_files = lacks_files
        self._means = Means(
            node=node,
            router=router,
            client=client,
            rng=rng,
            log=log,
            wait_change=wait_change,
            query_bytes_max=query_bytes_max,
        )

    def __repr__(self) -> str:
        return f"<Forwarder {self.node} waiting={self._means.waiting} held={self._means.held_bytes}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep connections to other nodes between requests, until cancelled. Without it each request opens one."""
        await self._means.client.run(task_status=task_status)

    def holds_lease(self) -> bool:
        """Whether this node holds the writer lease, as far as its catalog tells."""
        return self._router.holds_lease()

    async def serve(self, exchange: Exchange, kind: Routed, here: Stream) -> Reply | None:
        """Answer a request: by ``here`` when it is for this node.

        Raises what ``here`` raises, Unavailable, OutcomeUnknown, TooLarge, Overloaded, ClientGone, BodyStalled.
        """
        wish = None if kind != "query" else _wish(exchange.head)
        plan = self._plan_at_once(wish)
        if isinstance(plan, Local) and (wish is None or not self._lacks_files()):
            self._means.local += 1
            return await here(exchange)
        self._router.retries.pay_in(self._router.config.retry_share)
        try:
            return await RoutedRequest(self._means, exchange, kind, wish).run(plan, here)
        except ClientGone:
            raise
        except ArcError:
            self._means.failed += 1
            raise

    def _plan_at_once(self, wish: Wish | None) -> Local | Forward | None:
        """The choice now; None when nobody, or only this node and not just now, can take it."""
        try:
            plan = self._router.plan_write() if wish is None else self._router.plan_query(wish)
        except Unavailable:
            return None
        return plan if is_good(plan) else None

    def statistics(self) -> ForwardStatistics:
        """The counts so far."""
        return ForwardStatistics(
            local_total=self._means.local,
            attempts_total=self._means.attempts,
            failed_total=self._means.failed,
            waited_total=self._means.waited,
            refused_total=self._means.refused,
            waiting=self._means.waiting,
            held_bytes=self._means.held_bytes,
            router=self._router.statistics(),
            connections=self._means.client.statistics(),
        )


def _wish(head: Head) -> Wish:
    """What a query must see. Raises InvalidRequest."""
    position, index = least_seen(head)
    return Wish(index=index, position=position, is_strong=wants_strong(head))
