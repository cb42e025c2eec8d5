"""Bounds on what one client, and all clients together, may make this process do.

A body is counted while it arrives, so that an endless one is refused at the limit and not after it; a body that stops
arriving is given up. What is being read is charged to the memory budget before it is read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack

import trio

from arc.api.errors import ClientGone
from arc.api.heads import Head
from arc.errors import InvalidRequest, Overloaded, TooLarge

Receive = Callable[[], Awaitable[Mapping[str, object]]]
Reserve = Callable[[int], AbstractContextManager[None]]

CHUNK_RESERVE_BYTES = 4 << 20
"""A body of unknown length is charged to the budget in steps of this size, ahead of what was read."""


class BodyStalled(InvalidRequest):
    """The body stopped arriving."""

    code = "timeout"
    status = 408


class Slots:
    """At most ``limit`` requests under way; more are refused, not queued, because their clients know how to wait."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.taken = 0
        self.refused = 0

    def __enter__(self) -> None:
        """Hold one slot for the time of the block. Raises Overloaded."""
        if self.taken >= self._limit:
            self.refused += 1
            raise Overloaded(f"{self._limit} requests are under way already; try again shortly")
        self.taken += 1

    def __exit__(self, *failure: object) -> None:
        self.taken -= 1


class Body:
    """The incoming body of one request. ``complete`` tells whether its end was seen."""

    def __init__(self, head: Head, receive: Receive, *, stall_seconds: float) -> None:
        self._head = head
        self._receive = receive
        self._stall_seconds = stall_seconds
        self.complete = False

    async def read(self, limit_bytes: int, reserve: Reserve, held: ExitStack) -> bytes:
        """The whole body; its reservation is given back when ``held`` closes.

        Raises TooLarge, Overloaded, BodyStalled, ClientGone.
        """
        declared = self._head.content_length()
        if declared is not None:
            if declared > limit_bytes:
                raise too_large(limit_bytes)
            held.enter_context(reserve(declared))
        reserved = declared or 0
        chunks: list[bytes] = []
        size = 0
        with trio.CancelScope(deadline=trio.current_time() + self._stall_seconds) as stall:
            while not self.complete:
                chunk = await self._next()
                if not chunk:
                    continue
                size += len(chunk)
                if size > limit_bytes:
                    raise too_large(limit_bytes)
                if size > reserved:
                    held.enter_context(reserve(CHUNK_RESERVE_BYTES))
                    reserved += CHUNK_RESERVE_BYTES
                chunks.append(chunk)
                stall.deadline = trio.current_time() + self._stall_seconds
        if stall.cancelled_caught:
            raise self._stalled()
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def take(self) -> bytes:
        """The next piece, as it came; empty when the body is complete. Raises BodyStalled, ClientGone."""
        with trio.move_on_after(self._stall_seconds):
            while not self.complete:
                if chunk := await self._next():
                    return chunk
            return b""
        raise self._stalled()

    def with_beginning(self, head: Head, taken: bytes) -> Body:
        """The same body with what was taken of it put back, for a request with that head."""
        was_complete, pending = self.complete, [taken]

        async def receive() -> Mapping[str, object]:
            if pending:
                return {"type": "http.request", "body": pending.pop(), "more_body": not was_complete}
            return await self._receive()

        return Body(head, receive, stall_seconds=self._stall_seconds)

    async def drain(self, limit_bytes: int, seconds: float) -> None:
        """Throw the rest away, up to a bound, so that a client still sending gets to read our answer."""
        with trio.move_on_after(seconds):
            while not self.complete and limit_bytes > 0:
                try:
                    limit_bytes -= len(await self._next())
                except ClientGone:
                    return

    async def wait_gone(self) -> None:
        """Return when the client has closed the connection. Only once the body is complete."""
        assert self.complete
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def _stalled(self) -> BodyStalled:
        return BodyStalled(f"no byte of the request body came for {self._stall_seconds:g} seconds")

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.complete = True
            raise ClientGone
        self.complete = not message.get("more_body", False)
        chunk = message.get("body", b"")
        assert isinstance(chunk, bytes)
        return chunk


def too_large(limit_bytes: int) -> TooLarge:
    """The error for a body beyond its limit."""
    return TooLarge(f"request body is larger than {limit_bytes} bytes; send smaller pieces")
