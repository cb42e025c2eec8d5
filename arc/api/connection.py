"""One connection: Hypercorn's protocols between a Trio stream and the application, moved by fewer task switches.

Hypercorn parses and writes HTTP. What is replaced is its plumbing: a task for the idle timeout per request, memory
channels that switch tasks for every piece of a body, locks that switch even when free, reads of 64 KiB, sends of
nothing. That was more than a third of what a small write costs. Two things are mended on the way: a body that the
application does not want no longer blocks the reader for ever, and the connection's memory is freed when the client
goes, not when the idle time is over.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol import ProtocolWrapper
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import ConnectionState, LifespanState
from hypercorn.utils import parse_socket_addr

Message = Mapping[str, object]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Callable[[], Awaitable[Message]], Send], Awaitable[None]]

RECEIVE_BYTES = 256 * 1024
"""Asked of the socket at once: a body of a thousand lines comes in one piece."""

INBOX_MESSAGES_MAX = 4
"""Pieces of a body that wait for a slow handler before the client is made to wait."""


class Connection(TCPServer):
    """Serves requests on one stream until either side closes it. ``report`` is told what escaped the application."""

    def __init__(
        self,
        app: Application,
        config: HypercornConfig,
        context: Any,
        stream: Any,
        report: Callable[[BaseException], None],
    ) -> None:
        state = ConnectionState(cast(LifespanState, {}))
        super().__init__(cast(Any, app), config, context, cast(Any, state), stream)
        self._application = app
        self._report = report
        self._idle = _IdleWatcher(config.keep_alive_timeout, context)
        self.idle_task = cast(Any, self._idle)

    async def run(self) -> None:
        """Serve. Bugs of the protocols leave as they are; a client that breaks the connection is no error."""
        try:
            is_tls = isinstance(self.stream, trio.SSLStream)
            if is_tls and not await self._shake_hands():
                return
            transport: Any = self.stream.transport_stream if is_tls else self.stream
            async with trio.open_nursery() as nursery:
                tasks = _Tasks(nursery, self._application, self._report)
                self._task_group = cast(Any, tasks)
                self.protocol = ProtocolWrapper(
                    self.app,
                    self.config,
                    self.context,
                    cast(Any, tasks),
                    cast(Any, self.state),
                    is_tls,
                    parse_socket_addr(transport.socket.family, transport.socket.getpeername()),
                    parse_socket_addr(transport.socket.family, transport.socket.getsockname()),
                    self.protocol_send,
                    "http/1.1",
                )
                await self.protocol.initiate()
                await self._idle.restart(tasks, self._close_idle)
                await self._read_data()
        except OSError:
            pass
        finally:
            await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Write what the protocol made, or close."""
        if not isinstance(event, RawData):
            await super().protocol_send(event)
        elif event.data:
            await self._send(event.data)

    async def _send(self, data: bytes) -> None:
        try:
            self.send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self.send_lock.acquire()
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            await self.protocol.handle(Closed())
        except trio.Cancelled:
            # Nobody knows how much of it went out: nothing else may follow.
            await trio.aclose_forcefully(self.stream)
            raise
        finally:
            self.send_lock.release()

    async def _read_data(self) -> None:
        data: bytes | bytearray = b"."
        while data:
            try:
                data = await self.stream.receive_some(RECEIVE_BYTES)
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                break
            await self.protocol.handle(RawData(bytes(data)))
        await self.protocol.handle(Closed())
        self._idle.finish()

    async def _shake_hands(self) -> bool:
        try:
            with trio.fail_after(self.config.ssl_handshake_timeout):
                await self.stream.do_handshake()
        except (trio.BrokenResourceError, trio.TooSlowError):
            return False
        return True

    async def _close_idle(self) -> None:
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()


class _IdleWatcher:
    """Stands in for Hypercorn's `TrioSingleTask`: ``restart`` when the connection becomes idle, ``stop`` when busy."""

    def __init__(self, idle_seconds: float, context: Any) -> None:
        self._idle_seconds = idle_seconds
        self._context = context
        self._scope = trio.CancelScope()
        self._is_idle = False
        self._is_running = False
        self._is_finished = False
        self._close: Callable[[], Awaitable[None]] | None = None

    async def restart(self, tasks: _Tasks, close: Callable[[], Awaitable[None]]) -> None:
        self._is_idle = True
        self._scope.deadline = trio.current_time() + self._idle_seconds
        if not self._is_running:
            self._is_running = True
            self._close = close
            tasks.spawn(self._watch)

    async def stop(self) -> None:
        self._is_idle = False
        self._scope.deadline = math.inf

    def finish(self) -> None:
        self._is_finished = True
        self._scope.cancel()

    async def _watch(self) -> None:
        with self._scope:
            await self._context.terminated.wait()
        # When the server stops in the middle of a request, Hypercorn itself closes the connection after the answer.
        if self._is_idle and not self._is_finished:
            assert self._close is not None
            await self._close()


class _Tasks:
    """Stands in for Hypercorn's `TaskGroup`: runs the application for a request, in a nursery of the connection."""

    def __init__(self, nursery: trio.Nursery, app: Application, report: Callable[[BaseException], None]) -> None:
        self._nursery = nursery
        self._app = app
        self._report = report

    async def spawn_app(self, app: object, config: object, scope: Any, send: Send) -> Callable[[Any], Awaitable[None]]:
        inbox = _Inbox()
        self._nursery.start_soon(self._answer, scope, inbox, send)
        return inbox.put

    def spawn(self, function: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self._nursery.start_soon(function, *arguments)

    async def _answer(self, scope: Any, inbox: _Inbox, send: Send) -> None:
        try:
            await self._app(scope, inbox.get, send)
        except BaseExceptionGroup as group:
            cancelled, bugs = group.split(trio.Cancelled)
            if bugs is not None:
                self._report(bugs)
            if cancelled is not None:
                raise cancelled from None
        except Exception as error:
            self._report(error)
        finally:
            inbox.close()
            # Tells Hypercorn that no more will come: an answer that is not whole is cut here.
            await send(None)


class _Inbox:
    """Messages for one request. ``put`` waits while `INBOX_MESSAGES_MAX` are there; else no side switches tasks."""

    __slots__ = ("_changed", "_is_closed", "_messages")

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._changed: trio.Event | None = None
        self._is_closed = False

    async def put(self, message: Message) -> None:
        if self._is_closed:
            return
        self._messages.append(message)
        self._tell()
        while len(self._messages) > INBOX_MESSAGES_MAX and not self._is_closed:
            await self._wait()

    async def get(self) -> Message:
        while not self._messages:
            await self._wait()
        message = self._messages.popleft()
        self._tell()
        return message

    def close(self) -> None:
        """Nobody reads any more: drop what comes."""
        self._is_closed = True
        self._tell()

    async def _wait(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    def _tell(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None
