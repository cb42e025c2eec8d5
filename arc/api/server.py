"""Connections: Hypercorn's HTTP/1.1 on Trio, with the accepting, the limits and the stopping done here.

Hypercorn's own loop would let one connection's bug end the whole server and waits for ever for a client that reads
nothing. Here every connection lives in a scope of its own: what goes wrong in it is logged and closes it alone, and a
stop ends it at the latest when its grace is over.

Settings that are not defaults: no ``server`` header; no access log (metrics count, `/api/v1/logs` tells); HTTP/1.1 only,
because Hypercorn cannot abort one HTTP/2 stream and a cut answer must be seen as cut; connections are not closed after a
number of requests.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

from arc.api.app import Api
from arc.api.config import ServerConfig
from arc.ports import Network
from arc.telemetry import Log

TLS_HANDSHAKE_SECONDS = 30.0

TCP_USER_TIMEOUT = 18
"""Linux, tcp(7): how long (ms) sent bytes may stay unacknowledged, or the peer's window closed."""

READ_AHEAD_MESSAGES = 4
"""Pieces of a body (64 KiB each) that wait for a slow handler before the client is made to wait."""


def hypercorn_config(config: ServerConfig, log: Log) -> HypercornConfig:
    """Hypercorn's settings for ours."""
    found = HypercornConfig()
    found.accesslog = None
    found.errorlog = None
    found.logger_class = cast(Any, _bridge(log))
    found.include_server_header = False
    found.alpn_protocols = ["http/1.1"]
    found.h11_max_incomplete_size = config.max_header_bytes
    found.keep_alive_timeout = config.keep_alive_seconds
    found.keep_alive_max_requests = sys.maxsize
    found.max_app_queue_size = READ_AHEAD_MESSAGES
    found.graceful_timeout = config.shutdown_seconds
    found.ssl_handshake_timeout = TLS_HANDSHAKE_SECONDS
    if config.tls_enabled:
        found.certfile = config.tls_cert_file
        found.keyfile = config.tls_key_file
    return found


async def serve(
    app: Api,
    config: ServerConfig,
    *,
    network: Network,
    log: Log,
    stopping: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``stopping`` is set, then let requests under way finish within ``config.shutdown_seconds``.

    Reports the bound port. Cancelling stops at once. Raises OSError when the address cannot be had.
    """
    server = _Server(app, config, log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_application)
        port = await nursery.start(network.serve_tcp, server.connection, config.host, config.port)
        log.info("http_listening", host=config.host, port=port, tls=config.tls_enabled)
        task_status.started(port)
        try:
            await (trio.Event() if stopping is None else stopping).wait()
            await server.stop(config.shutdown_seconds)
        finally:
            await server.abort()
            nursery.cancel_scope.cancel()
    log.info("http_stopped")


class _Server:
    """The connections of one listener."""

    def __init__(self, app: Api, config: ServerConfig, log: Log) -> None:
        self._app = app
        self._config = config
        self._log = log
        self._hypercorn = hypercorn_config(config, log)
        self._context = WorkerContext(None)
        self._tls = self._hypercorn.create_ssl_context()
        self._open: dict[trio.CancelScope, trio.abc.Stream] = {}
        self._changed = trio.Event()

    async def serve_application(self) -> None:
        """Run the ASGI lifespan, which Quart needs for its nursery."""
        started = trio.Event()

        async def receive() -> dict[str, object]:
            if started.is_set():
                await trio.sleep_forever()
            started.set()
            return {"type": "lifespan.startup"}

        async def send(message: dict[str, object]) -> None:
            if message["type"] != "lifespan.startup.complete":
                raise RuntimeError(f"the application did not start: {message}")

        await self._app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)

    async def connection(self, stream: trio.abc.Stream) -> None:
        """Serve one connection; nothing but a cancellation of its own leaves here."""
        if len(self._open) >= self._config.max_connections:
            self._log.warning("connection_refused", open=len(self._open))
            return
        # Shielded, so that closing the listener leaves those who are being served alone; `stop` ends them in time.
        with trio.CancelScope(shield=True) as scope:
            self._open[scope] = stream
            try:
                await self._speak(stream)
            except (Exception, BaseExceptionGroup) as error:
                _, bugs = _split(error)
                if bugs is not None:
                    self._log.error("connection_failed", reason=bugs)
                if scope.cancel_called:
                    raise
            finally:
                del self._open[scope]
                self._changed.set()

    async def _speak(self, stream: trio.abc.Stream) -> None:
        if isinstance(stream, trio.SocketStream):
            stall_ms = int(self._config.response_stall_seconds * 1000)
            stream.setsockopt(trio.socket.IPPROTO_TCP, TCP_USER_TIMEOUT, stall_ms)
        spoken: Any = stream
        if self._tls is not None:
            spoken = trio.SSLStream(stream, self._tls, server_side=True, https_compatible=True)
        state = ConnectionState(cast(LifespanState, {}))
        app = cast(Any, ASGIWrapper(cast(Any, self._app)))
        await _Connection(app, self._hypercorn, cast(Any, self._context), cast(Any, state), spoken)

    async def stop(self, grace_seconds: float) -> None:
        """Close idle connections now, the others when their answer is sent or the grace is over."""
        await self._context.terminated.set()
        with trio.move_on_after(grace_seconds):
            while self._open:
                self._changed = trio.Event()
                await self._changed.wait()

    async def abort(self) -> None:
        """End what is still open. Closing the socket frees a send that waits for its client; it heeds no cancellation."""
        with trio.CancelScope(shield=True):
            for scope, stream in list(self._open.items()):
                scope.cancel()
                await trio.aclose_forcefully(stream)


class _Connection(TCPServer):
    """Hypercorn's connection with one idle watcher for its whole life, where Hypercorn starts a task per request."""

    def __init__(self, app: Any, config: HypercornConfig, context: Any, state: Any, stream: Any) -> None:
        super().__init__(app, config, context, state, stream)
        self._idle = _IdleWatcher(config.keep_alive_timeout, context)
        self.idle_task = cast(Any, self._idle)

    async def _read_data(self) -> None:
        await super()._read_data()
        # Hypercorn would keep the connection's memory for the rest of the idle time after the client has gone.
        self._idle.finish()

    async def _idle_timeout(self) -> None:
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

    async def restart(self, task_group: Any, close: Callable[[], Awaitable[None]]) -> None:
        self._is_idle = True
        self._scope.deadline = trio.current_time() + self._idle_seconds
        if not self._is_running:
            self._is_running = True
            task_group.spawn(self._watch, close)

    async def stop(self) -> None:
        self._is_idle = False
        self._scope.deadline = math.inf

    def finish(self) -> None:
        self._is_finished = True
        self._scope.cancel()

    async def _watch(self, close: Callable[[], Awaitable[None]]) -> None:
        with self._scope:
            await self._context.terminated.wait()
        # When the server stops in the middle of a request, Hypercorn itself closes the connection after the answer.
        if self._is_idle and not self._is_finished:
            await close()


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return None, error


def _bridge(log: Log) -> type:
    """Hypercorn's logger class, speaking to ours. Its informational chatter is dropped; it only reports what escaped."""

    class Bridge:
        def __init__(self, config: HypercornConfig) -> None:
            pass

        async def access(self, request: object, response: object, request_time: float) -> None:
            pass

        async def exception(self, message: str, *args: object, **kwargs: object) -> None:
            log.error("http_server_error", reason=message, error=sys.exc_info()[1])

        async def error(self, message: str, *args: object, **kwargs: object) -> None:
            log.error("http_server_error", reason=message)

        async def warning(self, message: str, *args: object, **kwargs: object) -> None:
            log.warning("http_server_warning", reason=message)

        critical = error

        async def info(self, message: str, *args: object, **kwargs: object) -> None:
            pass

        debug = info
        log = info

    return Bridge
