"""Connections: Hypercorn's HTTP/1.1 on Trio, with the accepting, the limits and the stopping done here.

Hypercorn's own loop would let one connection's bug end the whole server and waits for ever for a client that reads
nothing. Here every connection lives in a scope of its own: what goes wrong in it is logged and closes it alone, and a
stop ends it at the latest when its grace is over.

Settings that are not defaults: no ``server`` header; no access log (metrics count, `/api/v1/logs` tells); HTTP/1.1
only, because Hypercorn cannot abort one HTTP/2 stream and a cut answer must be seen as cut; connections are not
closed after a number of requests.
"""

from __future__ import annotations

import ssl
import sys
from functools import partial
from typing import Any, cast

import trio
from hypercorn.config import Config as HypercornConfig
from hypercorn.trio.worker_context import WorkerContext

from arc.api.config import ServerConfig
from arc.api.connection import INBOX_MESSAGES_MAX, Application, Connection
from arc.ports import Ports
from arc.security.tls import Certificates, TlsFiles
from arc.telemetry import Log
from arc.wire.certificates import keep_fresh

TLS_HANDSHAKE_SECONDS = 30.0

TCP_USER_TIMEOUT = 18
"""Linux, tcp(7): how long (ms) sent bytes may stay unacknowledged, or the peer's window closed."""


def hypercorn_config(config: ServerConfig, log: Log) -> HypercornConfig:
    """Hypercorn's settings for ours."""
    found = HypercornConfig()
    found.accesslog = None
    found.errorlog = None
    found.logger_class = cast(Any, _bridge(log))
    found.include_server_header = False
    found.h11_max_incomplete_size = config.max_header_bytes
    found.keep_alive_timeout = config.keep_alive_seconds
    found.keep_alive_max_requests = sys.maxsize
    found.max_app_queue_size = INBOX_MESSAGES_MAX
    found.graceful_timeout = config.shutdown_seconds
    found.ssl_handshake_timeout = TLS_HANDSHAKE_SECONDS
    return found


def http_certificates(config: ServerConfig, authority: str, ports: Ports) -> Certificates | None:
    """For connections of clients, whose TLS is not ours to choose: 1.2 is spoken as well. None without TLS.

    The same are for requests that this node passes on to the HTTP ports of others, which speak TLS when its own does;
    their certificates are checked against ``authority``, a PEM file, or the system's.
    """
    if not config.tls_enabled:
        return None
    files = TlsFiles(
        cert=config.tls_cert_file,
        key=config.tls_key_file,
        trusted=authority,
        minimum=ssl.TLSVersion.TLSv1_2,
        alpn=("http/1.1",),
    )
    return Certificates(files, ports.disk.read_outside)


async def serve(
    app: Application,
    config: ServerConfig,
    *,
    certificates: Certificates | None,
    ports: Ports,
    log: Log,
    stopping: trio.Event | None = None,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``stopping`` is set, then let requests under way finish within ``config.shutdown_seconds``.

    ``certificates`` have been loaded, and are looked after here: new connections use what is in the files by then. None
    is for a server in the clear. Reports the bound port. Cancelling stops at once. Raises OSError when the address
    cannot be had.
    """
    assert (certificates is not None) == config.tls_enabled
    server = _Server(app, config, log, certificates)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_application)
        if certificates is not None:
            bound = log.bind(port="http")
            nursery.start_soon(partial(keep_fresh, certificates, workers=ports.workers, clock=ports.clock, log=bound))
        port = await nursery.start(ports.network.serve_tcp, server.connection, config.host, config.port)
        log.info("http_listening", host=config.host, port=port, tls=config.tls_enabled)
        task_status.started(port)
        try:
            await (trio.Event() if stopping is None else stopping).wait()
            await server.stop(config.shutdown_seconds)
        finally:
            server.abort()
            nursery.cancel_scope.cancel()
    log.info("http_stopped")


class _Server:
    """The connections of one listener."""

    def __init__(self, app: Application, config: ServerConfig, log: Log, certificates: Certificates | None) -> None:
        self._app = app
        self._config = config
        self._log = log
        self._hypercorn = hypercorn_config(config, log)
        self._context = WorkerContext(None)
        self._certificates = certificates
        self._open: set[trio.CancelScope] = set()
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
            self._open.add(scope)
            try:
                await self._speak(stream)
            except (Exception, BaseExceptionGroup) as error:
                _, bugs = _split(error)
                if bugs is not None:
                    self._log.error("connection_failed", reason=bugs)
                if scope.cancel_called:
                    raise
            finally:
                self._open.discard(scope)
                self._changed.set()

    async def _speak(self, stream: trio.abc.Stream) -> None:
        if isinstance(stream, trio.SocketStream):
            stall_ms = int(self._config.response_stall_seconds * 1000)
            stream.setsockopt(trio.socket.IPPROTO_TCP, TCP_USER_TIMEOUT, stall_ms)
        spoken: Any = stream
        if self._certificates is not None:
            spoken = trio.SSLStream(stream, self._certificates.server, server_side=True, https_compatible=True)
        await Connection(self._app, self._hypercorn, self._context, spoken, self._report).run()

    def _report(self, error: BaseException) -> None:
        self._log.error("http_server_error", reason=error)

    async def stop(self, grace_seconds: float) -> None:
        """Close idle connections now, the others when their answer is sent or the grace is over."""
        await self._context.terminated.set()
        with trio.move_on_after(grace_seconds):
            while self._open:
                self._changed = trio.Event()
                await self._changed.wait()

    def abort(self) -> None:
        """End what is still open."""
        for scope in self._open:
            scope.cancel()


def _split(error: BaseException) -> tuple[BaseException | None, BaseException | None]:
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)
    return None, error


def _bridge(log: Log) -> type:
    """Hypercorn's logger class, speaking to ours; its informational chatter is dropped."""

    class Bridge:
        def __init__(self, config: HypercornConfig) -> None:
            pass

        async def access(self, request: object, response: object, request_time: float) -> None:
            pass

        async def warning(self, message: str, *args: object, **kwargs: object) -> None:
            log.warning("http_server_warning", reason=message)

        error = critical = exception = warning

        async def info(self, message: str, *args: object, **kwargs: object) -> None:
            pass

        debug = info

    return Bridge
