"""HTTP on a node that belongs to no cluster yet: it is alive, it is not ready and says why, and an operator may have it
found a cluster.

Nothing of the database is there to be asked: no catalog, no tokens, no rows. So this is an application of its own, and
everything but these few answers is 503 with the reason (P-45: it never serves alone).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import trio

from arc.api.config import AuthConfig
from arc.api.exchange import LINGER_BYTES, LINGER_SECONDS, Send
from arc.api.heads import Head, Scope
from arc.api.limits import Body, Receive
from arc.api.replies import Reply, common_headers, json_reply
from arc.errors import ArcError, Forbidden, Unauthenticated
from arc.security.tokens import hash_token, verify_token

INIT = "/api/v1/cluster/init"

RETRY_SECONDS = 2


class WaitingApi:
    """The ASGI application. ``reason`` says what is waited for; ``found`` founds a cluster, and returns its UUID."""

    def __init__(
        self, *, version: str, auth: AuthConfig, reason: Callable[[], str | None], found: Callable[[], Awaitable[str]]
    ) -> None:
        self._version = version
        self._auth = auth
        self._reason = reason
        self._found = found

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await trio.sleep_forever()
        head = Head.scan(cast(Scope, scope))
        try:
            reply = await self._answer(head)
        except ArcError as error:
            reply = json_reply(error.status, {"success": False, "error": error.message, "code": error.code})
        headers = [*reply.headers, *common_headers(head, cors_origin="", tls=False, empty=not reply.body)]
        headers.append((b"content-length", b"%d" % len(reply.body)))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": True})
        # An answer that ends before its request makes Hypercorn close a connection that the client keeps.
        await Body(head, receive, stall_seconds=LINGER_SECONDS).drain(LINGER_BYTES, LINGER_SECONDS)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _answer(self, head: Head) -> Reply:
        if (head.method, head.path) == ("POST", INIT):
            self._require_operator(head)
            return json_reply(200, {"success": True, "cluster": {"uuid": await self._found()}})
        if head.path == "/":
            return json_reply(200, {"name": "arc", "version": self._version})
        if head.path == "/health":
            return json_reply(200, {"status": "ok", "version": self._version})
        reason = self._reason() or "this node is about to take part in its cluster"
        document = {"success": False, "status": "not_ready", "reason": reason, "error": reason, "code": "not_a_member"}
        return json_reply(503, document, ((b"retry-after", b"%d" % RETRY_SECONDS),))

    def _require_operator(self, head: Head) -> None:
        """There are no tokens before there is a cluster; who knows the first one may begin. Raises Forbidden."""
        if not self._auth.enabled:
            return
        if not self._auth.bootstrap_token:
            raise Forbidden(
                "nobody can prove to be the operator before there is a cluster; set auth.bootstrap_token and send it",
                code="no_bootstrap_token",
            )
        scheme, _, token = head.headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if scheme.lower() != "bearer" or not verify_token(token.strip(), hash_token(self._auth.bootstrap_token)):
            raise Unauthenticated("send auth.bootstrap_token as Authorization: Bearer")
