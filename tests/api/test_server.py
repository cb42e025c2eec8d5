"""Real connections: what only shows on a socket. Every server listens on a port the system chose."""

from __future__ import annotations

import ssl
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing
import trustme

from arc.api.config import ServerConfig
from arc.api.exchange import Exchange
from arc.api.server import http_certificates, serve
from arc.system import SystemNetwork
from arc.telemetry import Log
from arc.telemetry.events import Event
from arc.wire import certificates
from tests.api.fakes import READER, WRITER, FakeAnswers, World
from tests.fakes import make_ports

Serving = Callable[[World], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def serving(world: World, stopping: trio.Event | None = None) -> AsyncIterator[int]:
    """A world behind a real socket; gives its port."""
    ports = make_ports(network=SystemNetwork())
    pems = http_certificates(world.deps.server, "", ports)
    if pems is not None:
        pems.load()
    async with trio.open_nursery() as nursery:
        start = partial(
            serve,
            world.api,
            world.deps.server,
            certificates=pems,
            ports=ports,
            log=world.log,
            stopping=stopping or trio.Event(),
        )
        yield await nursery.start(start)
        nursery.cancel_scope.cancel()


def local(**changes: object) -> ServerConfig:
    return ServerConfig(port=0, **changes)  # type: ignore[arg-type]


def http(port: int, token: str = WRITER) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {token}"})


def request(path: str, token: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Token {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


WRITE = request("/write", WRITER, b"cpu v=1 1\n")
QUERY = request("/api/v1/query", READER, b'{"sql":"SELECT 1"}')


async def read_all(stream: trio.SocketStream) -> bytes:
    found = b""
    with trio.fail_after(5):
        while chunk := await stream.receive_some():
            found += chunk
    return found


async def test_a_connection_is_kept_for_many_requests() -> None:
    world = World(server=local())
    async with serving(world) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for nth in range(1, 4):
            await stream.send_all(WRITE)
            with trio.fail_after(5):
                answer = await stream.receive_some()
            assert answer.startswith(b"HTTP/1.1 204")
            assert f"x-arc-position: 1.{nth}".encode() in answer
            assert b"server:" not in answer.lower()
            assert b"content-type" not in answer.lower()


async def test_a_chunked_body_and_expect_continue_are_taken() -> None:
    world = World(server=local())
    async with serving(world) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        head = f"POST /write HTTP/1.1\r\nHost: x\r\nAuthorization: Token {WRITER}\r\nTransfer-Encoding: chunked\r\n"
        await stream.send_all(head.encode() + b"Expect: 100-continue\r\n\r\n")
        with trio.fail_after(5):
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
            await stream.send_all(b"4\r\ncpu \r\n6\r\nv=1 1\n\r\n0\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 204")


async def test_a_body_over_the_limit_is_refused_while_it_is_sent_and_the_sender_sees_why() -> None:
    world = World(server=local(max_body_bytes=100_000))
    async with serving(world) as port, http(port) as client:

        async def endless() -> AsyncIterator[bytes]:
            for _ in range(100):
                yield b"cpu v=1 1\n" * 1000

        answer = await client.post("/write", content=endless())
        assert answer.status_code == 413
        assert world.ingest.requests == []
        assert world.ingest.reserved == 0
        big = await client.post("/write", content=b"x" * 3_000_000)
        assert big.status_code == 413
        assert (await client.post("/write", content=b"cpu v=1 1\n")).status_code == 204


async def test_a_head_that_is_too_large_is_431() -> None:
    world = World(server=local(max_header_bytes=2000))
    async with serving(world) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\nX-Much: " + b"y" * 3000)
        assert (await read_all(stream)).startswith(b"HTTP/1.1 431")


async def test_a_result_that_fails_half_way_is_cut_and_not_ended() -> None:
    world = World(server=local())
    world.replace(queries=FakeAnswers(rows=100_000, batches=20, fail_after=10))
    async with serving(world) as port, http(port, READER) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/api/v1/query", json={"sql": "SELECT 1"})
    assert world.logged("answer_cut")


async def test_a_result_that_fails_early_gets_its_status() -> None:
    world = World(server=local())
    world.replace(queries=FakeAnswers(rows=10, batches=3, fail_after=2))
    async with serving(world) as port, http(port, READER) as client:
        answer = await client.post("/api/v1/query", json={"sql": "SELECT 1"})
    assert answer.status_code == 504
    assert answer.json()["success"] is False


async def test_a_client_that_hangs_up_stops_its_query() -> None:
    world = World(server=local())
    queries = FakeAnswers(rows=1, batches=1, hang=True)
    world.replace(queries=queries)
    async with serving(world) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(QUERY)
        with trio.fail_after(5):
            await queries.opened.wait()
            await stream.aclose()
            await queries.closed.wait()


async def test_a_client_that_hangs_up_does_not_stop_its_write() -> None:
    world = World(server=local())
    world.ingest.wait = trio.Event()
    async with serving(world) as port:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(WRITE)
        with trio.fail_after(5):
            await world.ingest.entered.wait()
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.05)
            world.ingest.wait.set()
            await world.ingest.stored.wait()


async def test_a_stop_lets_a_request_finish_and_closes_idle_connections() -> None:
    world = World(server=local(shutdown_seconds=20))
    world.ingest.wait = trio.Event()
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        ports = make_ports(network=SystemNetwork())
        start = partial(
            serve, world.api, world.deps.server, certificates=None, ports=ports, log=world.log, stopping=stopping
        )
        port = await nursery.start(start)
        idle = await trio.open_tcp_stream("127.0.0.1", port)
        async with http(port) as client, trio.open_nursery() as writers:
            answers: list[httpx.Response] = []

            async def write() -> None:
                answers.append(await client.post("/write", content=b"cpu v=1 1\n"))

            writers.start_soon(write)
            with trio.fail_after(5):
                await world.ingest.entered.wait()
                stopping.set()
                assert await idle.receive_some() == b""
                assert answers == []
                world.ingest.wait.set()
        assert answers[0].status_code == 204
        await idle.aclose()
    assert world.logged("http_stopped")


async def test_a_stop_does_not_wait_for_a_client_that_reads_nothing() -> None:
    world = World(server=local(shutdown_seconds=0.2))
    world.replace(queries=FakeAnswers(rows=100_000, batches=10_000))
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        ports = make_ports(network=SystemNetwork())
        start = partial(
            serve, world.api, world.deps.server, certificates=None, ports=ports, log=world.log, stopping=stopping
        )
        port = await nursery.start(start)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(QUERY)
        await stream.receive_some(1)
        stopping.set()
        with trio.fail_after(5):
            while not world.logged("http_stopped"):
                await trio.testing.wait_all_tasks_blocked(0.05)
        await stream.aclose()


async def test_one_broken_connection_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(server=local())

    async def broken(self: Exchange, *arguments: object) -> None:
        raise RuntimeError("bug")

    async with serving(world) as port:
        with monkeypatch.context() as patch:
            patch.setattr(Exchange, "reply", broken)
            async with http(port) as client:
                assert (await client.post("/write", content=b"cpu v=1 1\n")).status_code == 500
        async with http(port) as client:
            assert (await client.post("/write", content=b"cpu v=1 1\n")).status_code == 204


async def test_http_2_is_answered_as_not_implemented() -> None:
    world = World(server=local())
    async with serving(world) as port:
        async with httpx.AsyncClient(http1=False, http2=True, base_url=f"http://127.0.0.1:{port}") as client:
            answer = await client.post("/arrow.flight.protocol.FlightService/DoGet", content=b"x" * 200_000)
            assert answer.status_code == 404
        async with http(port) as client:
            assert (await client.get("/health")).status_code == 200


async def test_connections_over_the_limit_are_closed_at_once() -> None:
    world = World(server=local(max_connections=2))
    async with serving(world) as port:
        first, second = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        for stream in (first, second):
            await stream.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        third = await trio.open_tcp_stream("127.0.0.1", port)
        assert await read_all(third) == b""
        await first.aclose()
        with trio.fail_after(5):
            while True:
                fourth = await trio.open_tcp_stream("127.0.0.1", port)
                await fourth.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                try:
                    if await read_all(fourth):
                        break
                except trio.BrokenResourceError:
                    pass
        await second.aclose()


async def test_tls_speaks_http_1_with_the_given_certificate(tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    for part in issued.cert_chain_pems:
        part.write_to_path(tmp_path / "cert.pem", append=True)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    server = local(tls_cert_file=str(tmp_path / "cert.pem"), tls_key_file=str(tmp_path / "key.pem"))
    async with serving(World(server=server)) as port:
        async with httpx.AsyncClient(verify=context, http2=True, base_url=f"https://localhost:{port}") as client:
            answer = await client.get("/health")
        assert (answer.status_code, answer.http_version) == (200, "HTTP/1.1")
        assert "max-age" in answer.headers["strict-transport-security"]
        # Somebody who speaks no TLS does no harm.
        async with await trio.open_tcp_stream("127.0.0.1", port) as plain:
            await plain.send_all(b"GET / HTTP/1.1\r\n\r\n")
            await read_all(plain)


class Told:
    """A sink that wakes who waits for an event."""

    def __init__(self) -> None:
        self.events: defaultdict[str, trio.Event] = defaultdict(trio.Event)

    def write(self, event: Event) -> None:
        self.events[event.message].set()


async def test_a_new_certificate_is_taken_up_without_a_restart_and_a_broken_one_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that are open go on with the former one."""
    monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.01)
    files = {"tls_cert_file": str(tmp_path / "cert.pem"), "tls_key_file": str(tmp_path / "key.pem")}
    context = ssl.create_default_context()

    def install(authority: trustme.CA) -> bytes:
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    async def shown(port: int) -> bytes:
        async with await trio.open_tcp_stream("127.0.0.1", port) as raw:
            spoken = trio.SSLStream(raw, context, server_hostname="localhost", https_compatible=True)
            await spoken.do_handshake()
            return spoken.getpeercert(binary_form=True) or b""

    async def until(event: str) -> None:
        with trio.fail_after(10):
            await told.events[event].wait()

    former, latter = trustme.CA(), trustme.CA()
    for authority in (former, latter):
        authority.configure_trust(context)
    first = install(former)
    told, world = Told(), World(server=local(**files))
    world.log = Log([told], lambda: 0)
    async with serving(world) as port:
        assert await shown(port) == first
        kept = await trio.open_tcp_stream("127.0.0.1", port)
        open_one = trio.SSLStream(kept, context, server_hostname="localhost", https_compatible=True)
        await open_one.do_handshake()
        (tmp_path / "cert.pem").write_bytes(b"half of a file")
        await until("certificate_refused")
        assert await shown(port) == first
        second = install(latter)
        await until("certificate_reloaded")
        assert await shown(port) == second != first
        await open_one.send_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await open_one.receive_some()).startswith(b"HTTP/1.1 200")
        await kept.aclose()
