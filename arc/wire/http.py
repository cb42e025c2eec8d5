"""A client for HTTP/1.1 on streams that somebody else opens: a head and a body in pieces each way, nothing kept whole.

One request at a time per connection, as HTTP/1.1 has it; sending and receiving may go on side by side, because a server
may answer before it has read everything. A connection whose two sides ended cleanly is kept for the next request, but
only while `HttpClient.run` runs, which closes those that were idle for too long. Parsing is h11's.

There are no redirects, no cookies, no compression and no retries: what arrives is what was sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h11
import trio

from arc.errors import Unavailable
from arc.ports import Clock

if TYPE_CHECKING:
    import ssl

Connect = Callable[[str, int], Awaitable[trio.abc.Stream]]
Headers = Sequence[tuple[bytes, bytes]]

RECEIVE_BYTES = 64 * 1024
"""A piece of an answer's body is at most this long."""

HEAD_BYTES_MAX = 64 * 1024
"""Longest head of an answer."""

IDLE_PER_ADDRESS_MAX = 32
"""Connections kept per address; more are closed after their answer."""

IDLE_SECONDS = 30.0
"""How long a connection is kept: less than half of what servers keep theirs (75 s), so that it is seldom dead."""


class HttpFailed(Unavailable):
    """The conversation broke. The text is for logs: it may name addresses. ``is_late``: a time-out broke it."""

    code = "http_failed"

    def __init__(self, message: str, *, is_late: bool = False) -> None:
        super().__init__(message)
        self.is_late = is_late


class ConnectFailed(HttpFailed):
    """No connection could be opened: not a byte of the request was sent."""

    code = "connect_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """``target`` is path and query string as they are sent. ``headers`` must frame the body, if there is one."""

    method: bytes
    target: bytes
    headers: Headers


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """Header names are lower case; repeated headers stay as they came, in order."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]

    def first(self, name: bytes) -> bytes:
        """The first header of this name, empty when there is none."""
        return next((value for key, value in self.headers if key == name), b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpClientStatistics:
    """Connections since the start; ``idle`` are kept now."""

    opened_total: int
    reused_total: int
    failed_total: int
    idle: int


class HttpClient:
    """Opens conversations with ``host:port`` addresses."""

    def __init__(self, connect: Connect, clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self._idle: dict[str, list[_Idle]] = {}
        self._is_keeping = False
        self._opened = self._reused = self._failed = 0

    def __repr__(self) -> str:
        return f"<HttpClient idle={self.statistics().idle} opened={self._opened}>"

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep connections between requests until cancelled."""
        self._is_keeping = True
        task_status.started()
        try:
            while True:
                await trio.sleep(IDLE_SECONDS / 2)
                await self._close_older(IDLE_SECONDS)
        finally:
            self._is_keeping = False
            with trio.CancelScope(shield=True):
                await self._close_older(0.0)

    @asynccontextmanager
    async def open(self, address: str, *, timeout_seconds: float, fresh: bool) -> AsyncIterator[Conversation]:
        """Have one conversation; ``fresh`` insists on a new connection. Entering raises ConnectFailed."""
        idle = None if fresh else self._take(address)
        if idle is not None:
            self._reused += 1
            talk = Conversation(idle.stream, idle.http, is_reused=True)
        else:
            stream = await self._dial(address, timeout_seconds)
            http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
            talk = Conversation(stream, http, is_reused=False)
        kept = False
        try:
            yield talk
            kept = self._is_keeping and talk.end_cleanly() and self._keep(address, talk)
        finally:
            if not kept:
                await trio.aclose_forcefully(talk.stream)

    def statistics(self) -> HttpClientStatistics:
        """The counts so far."""
        return HttpClientStatistics(
            opened_total=self._opened,
            reused_total=self._reused,
            failed_total=self._failed,
            idle=sum(map(len, self._idle.values())),
        )

    async def _dial(self, address: str, timeout_seconds: float) -> trio.abc.Stream:
        host, colon, port = address.rpartition(":")
        try:
            if not colon or not host or not port.isdigit():
                raise ConnectFailed(f"{address!r} is not host:port")
            try:
                with trio.fail_after(timeout_seconds):
                    stream = await self._connect(host.strip("[]"), int(port))
            except trio.TooSlowError as error:
                message = f"{address} did not take the connection within {timeout_seconds:g} s"
                raise ConnectFailed(message, is_late=True) from error
            except (OSError, trio.BrokenResourceError) as error:
                raise ConnectFailed(f"{address} does not take connections: {error}") from error
        except ConnectFailed:
            self._failed += 1
            raise
        self._opened += 1
        return stream

    def _take(self, address: str) -> _Idle | None:
        kept = self._idle.get(address)
        if not kept or self._clock.now() - kept[-1].since >= IDLE_SECONDS:
            return None  # too old ones are closed by `run`
        found = kept.pop()  # the youngest, so that those nobody needs grow old
        if not kept:
            del self._idle[address]
        return found

    def _keep(self, address: str, talk: Conversation) -> bool:
        kept = self._idle.setdefault(address, [])
        if len(kept) >= IDLE_PER_ADDRESS_MAX:
            return False
        kept.append(_Idle(stream=talk.stream, http=talk.http, since=self._clock.now()))
        return True

    async def _close_older(self, seconds: float) -> None:
        limit = self._clock.now() - seconds
        old = [one for kept in self._idle.values() for one in kept if one.since <= limit]
        young = {address: [one for one in kept if one.since > limit] for address, kept in self._idle.items()}
        self._idle = {address: kept for address, kept in young.items() if kept}
        for one in old:
            await trio.aclose_forcefully(one.stream)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Idle:
    stream: trio.abc.Stream
    http: h11.Connection
    since: float


class Conversation:
    """One request and its answer. Every method raises HttpFailed when the connection or the other side breaks.

    One task may send while another receives. ``stream`` and ``http`` are `HttpClient`'s.
    """

    __slots__ = ("http", "is_reused", "stream")

    def __init__(self, stream: trio.abc.Stream, http: h11.Connection, *, is_reused: bool) -> None:
        self.stream = stream
        self.http = http
        self.is_reused = is_reused

    async def send_all(self, head: RequestHead, body: bytes, timeout_seconds: float) -> None:
        """Send a whole request."""
        data = self._encode(_request(head))
        if body:
            data += self._encode(h11.Data(data=body))
        await self._send(data + self._encode(h11.EndOfMessage()), timeout_seconds)

    async def send_head(self, head: RequestHead, timeout_seconds: float) -> None:
        """Begin a request."""
        await self._send(self._encode(_request(head)), timeout_seconds)

    async def send_piece(self, data: bytes, timeout_seconds: float) -> None:
        """Send a piece of the body; waits while the server is slow."""
        await self._send(self._encode(h11.Data(data=data)), timeout_seconds)

    async def send_end(self, timeout_seconds: float) -> None:
        """Say that the body is complete."""
        await self._send(self._encode(h11.EndOfMessage()), timeout_seconds)

    async def receive_head(self, timeout_seconds: float) -> AnswerHead:
        """The head of the answer; interim ones (100, 103) are passed over."""
        with trio.move_on_after(timeout_seconds):
            while True:
                event = await self._next()
                if isinstance(event, h11.Response):
                    return AnswerHead(status=event.status_code, headers=tuple(event.headers))
                if not isinstance(event, h11.InformationalResponse):
                    raise HttpFailed("the connection was closed before an answer came")
        raise HttpFailed(f"no answer came within {timeout_seconds:g} s", is_late=True)

    async def receive_piece(self, timeout_seconds: float) -> bytes:
        """A piece of the body as soon as one is there; empty at its end."""
        with trio.move_on_after(timeout_seconds):
            while True:
                event = await self._next()
                if isinstance(event, h11.EndOfMessage):
                    return b""
                if not isinstance(event, h11.Data):
                    raise HttpFailed("the connection was closed in the middle of an answer")
                if event.data:
                    return bytes(event.data)
        raise HttpFailed(f"an answer stood still for {timeout_seconds:g} s", is_late=True)

    def end_cleanly(self) -> bool:
        """Whether the connection can carry another request; prepared for it then."""
        if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE or self.http.trailing_data[0]:
            return False
        self.http.start_next_cycle()
        return True

    def _encode(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> bytes:
        try:
            return self.http.send(event) or b""
        except h11.LocalProtocolError as error:
            # The server broke the rules before, or the body is not as long as was declared.
            raise HttpFailed(f"the request cannot go on: {error}") from error

    async def _send(self, data: bytes, timeout_seconds: float) -> None:
        if not data:
            return
        try:
            with trio.fail_after(timeout_seconds):
                await self.stream.send_all(data)
        except trio.TooSlowError as error:
            raise HttpFailed(f"nothing was taken for {timeout_seconds:g} s", is_late=True) from error
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise HttpFailed(f"the connection broke while sending: {error}") from error

    async def _next(self) -> object:
        try:
            while (event := self.http.next_event()) is h11.NEED_DATA:
                self.http.receive_data(bytes(await self.stream.receive_some(RECEIVE_BYTES)))
            return event
        except h11.RemoteProtocolError as error:
            raise HttpFailed(f"what came is not an answer in HTTP/1.1: {error}") from error
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise HttpFailed(f"the connection broke while receiving: {error}") from error


def over_tls(connect: Connect, context: Callable[[], ssl.SSLContext]) -> Connect:
    """A `Connect` that speaks TLS on what ``connect`` opens and checks the name it dialled. ``context`` is asked for
    each connection: certificates change while they are used.
    """

    async def connect_tls(host: str, port: int) -> trio.abc.Stream:
        stream = await connect(host, port)
        secured = trio.SSLStream(stream, context(), server_hostname=host, https_compatible=True)
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured

    return connect_tls


def _request(head: RequestHead) -> h11.Request:
    return h11.Request(method=head.method, target=head.target, headers=list(head.headers))
