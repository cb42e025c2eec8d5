"""One request on plain ASGI: its head and body coming in, an answer going out whole or in pieces.

An answer in pieces that fails half-way is cut: the chunked body stays without its end, which every HTTP client reports
as an error. There is no way to take a status back once it was sent, and closing the body normally would make half a
result look whole.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from arc.api.heads import Head, Scope
from arc.api.limits import Body
from arc.api.principal import Principal
from arc.api.replies import Headers, Reply

Send = Callable[[dict[str, object]], Awaitable[None]]

LINGER_BYTES = 64 << 20
LINGER_SECONDS = 5.0
"""How long a refused upload is still read, so that its sender sees the refusal instead of a broken pipe."""


class Exchange:
    """A request being answered. ``scope`` is the request as it came, with headers that are repeated.

    ``dress`` gives the headers that every answer wears.
    """

    __slots__ = ("_dress", "_send", "body", "finished", "head", "principal", "scope", "started", "status")

    def __init__(
        self,
        head: Head,
        principal: Principal,
        body: Body,
        send: Send,
        dress: Callable[[Head, bool], Headers],
        scope: Scope,
    ) -> None:
        self.head = head
        self.scope = scope
        self.principal = principal
        self.body = body
        self.started = False
        self.finished = False
        self.status = 0
        self._send = send
        self._dress = dress

    async def reply(self, reply: Reply) -> None:
        """Send a whole answer."""
        headers = [*reply.headers, *self._dress(self.head, not reply.body)]
        if reply.status != 204:
            headers.append((b"content-length", b"%d" % len(reply.body)))
        await self._start(reply.status, headers)
        if not self.body.complete and reply.status >= 400:
            await self._send({"type": "http.response.body", "body": reply.body, "more_body": True})
            await self.body.drain(LINGER_BYTES, LINGER_SECONDS)
            await self._finish(b"")
        else:
            await self._finish(reply.body)

    async def begin(self, status: int, headers: Headers) -> None:
        """Start an answer in pieces; its length is not known."""
        await self._start(status, [*headers, *self._dress(self.head, False)])

    async def piece(self, data: bytes) -> None:
        """Send a piece; waits while the client is slow."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """Say that the answer is complete."""
        await self._finish(b"")

    async def relay(self, status: int, headers: Headers) -> None:
        """Start an answer that another node dressed; `piece` and `end_relayed` follow."""
        await self._start(status, list(headers))

    async def end_relayed(self) -> None:
        """Say that it is complete. It may have come before the request was: then the rest of that is thrown away."""
        if not self.body.complete:
            await self.body.drain(LINGER_BYTES, LINGER_SECONDS)
        await self._finish(b"")

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert not self.started
        self.started = True
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _finish(self, data: bytes) -> None:
        self.finished = True
        await self._send({"type": "http.response.body", "body": data, "more_body": False})
