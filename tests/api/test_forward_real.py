"""Two whole HTTP servers on loopback: whoever is asked, the client cannot tell, but for the header that says so."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import trio

from arc.api.forward import Forwarder
from arc.catalog.commands import DeleteToken
from arc.cluster.router import Router, RouterConfig
from arc.ids import NodeId
from arc.system import SystemNetwork
from arc.wire.http import HttpClient
from tests.api.fakes import READER, WRITER, FakeAnswers, World
from tests.api.forwarding import holder, node
from tests.api.test_server import http, local, serving
from tests.fakes import SeededRng


class Pair:
    """``n1`` is asked; ``n2`` holds the writer lease and answers queries as well."""

    def __init__(self, **config: object) -> None:
        self.asked, self.holder = World(server=local()), World(server=local(max_body_bytes=2_000_000))
        self._config = RouterConfig(**config)  # type: ignore[arg-type]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Gives the port of ``n1``."""
        self._join(self.holder, "n2", 1)
        async with serving(self.holder) as port:
            self._join(self.asked, "n1", port)
            async with serving(self.asked) as front:
                yield front

    def _join(self, world: World, name: str, port: int) -> None:
        views = [
            replace(node("n1", refuses_queries="catching up"), is_local=name == "n1"),
            replace(holder("n2", api_address=f"127.0.0.1:{port}"), is_local=name == "n2"),
        ]
        router = Router(
            self._config,
            lambda: views,
            lambda: next(view for view in views if view.is_local),
            rng=SeededRng(1),
            clock=world.clock,
        )
        world.replace(
            forward=Forwarder(
                node=NodeId(name),
                router=router,
                client=HttpClient(SystemNetwork().connect_tcp, world.clock),
                rng=SeededRng(2),
                log=world.log,
                wait_change=trio.sleep_forever,
                lacks_files=lambda: False,
                query_bytes_max=world.deps.server.max_json_bytes,
            )
        )


async def test_writes_of_every_framing_are_stored_at_the_holder() -> None:
    pair = Pair()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"cpu v=1 1\n"
        yield b"cpu v=2 2\n"

    async with pair.serving() as port, http(port) as client:
        plain = await client.post("/write", content=b"cpu v=1 1\n")
        chunked = await client.post("/write", content=pieces())
        zipped = await client.post(
            "/api/v1/write/line-protocol",
            content=gzip.compress(b"cpu v=1 1\n"),
            headers={"content-encoding": "gzip", "expect": "100-continue", "idempotency-key": "mine"},
        )
    for answer, position in ((plain, "1.1"), (chunked, "1.2"), (zipped, "1.3")):
        assert (answer.status_code, answer.headers["x-arc-position"]) == (204, position)
        assert answer.headers.get_list("x-arc-served-by") == ["n2"]
        assert len(answer.headers.get_list("date")) == 1
    assert [request.decoded.rows for request in pair.holder.ingest.requests] == [1, 2, 1]
    assert pair.holder.ingest.requests[2].idempotency_key == "mine"
    assert (pair.holder.ingest.requests[0].idempotency_key or "").startswith("arc-")
    assert pair.asked.ingest.requests == []


async def test_a_long_answer_comes_whole_through_the_other_node_and_a_broken_one_broken() -> None:
    pair = Pair()
    pair.holder.replace(queries=FakeAnswers(rows=100_000, batches=20))
    async with pair.serving() as port, http(port, READER) as client:
        got = await client.post("/api/v1/query/csv", json={"sql": "SELECT 1"})
        assert got.status_code == 200
        assert len(got.content.splitlines()) == 2_000_001
    pair = Pair()
    pair.holder.replace(queries=FakeAnswers(rows=100_000, batches=20, fail_after=10))
    async with pair.serving() as port, http(port, READER) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("/api/v1/query", json={"sql": "SELECT 1"})


async def test_a_body_that_is_too_large_there_is_refused_here_while_it_is_sent() -> None:
    pair = Pair()

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(500):
            yield b"cpu v=1 1\n" * 1000

    async with pair.serving() as port, http(port) as client:
        sized = await client.post("/write", content=b"x" * 3_000_000)
        chunked = await client.post("/write", content=endless())
        assert (sized.status_code, chunked.status_code) == (413, 413)
        assert sized.json()["code"] == "too_large"
        assert (await client.post("/write", content=b"cpu v=1 1\n")).status_code == 204
    assert pair.holder.ingest.reserved == 0


async def test_the_holder_asks_for_the_token_itself() -> None:
    pair = Pair()
    token = next(one for one in pair.holder.catalog.tokens.values() if one.name == "writer")
    pair.holder.apply(DeleteToken(id=token.id))
    async with pair.serving() as port, http(port, WRITER) as client:
        got = await client.post("/write", content=b"cpu v=1 1\n")
    assert got.status_code == 401
    assert got.headers.get_list("x-arc-served-by") == ["n2"]


async def test_many_clients_share_a_few_connections() -> None:
    pair = Pair()
    async with pair.serving() as port, http(port) as client, trio.open_nursery() as nursery:
        forwarder = pair.asked.deps.forward
        assert forwarder is not None
        await nursery.start(lambda task_status: forwarder.run(task_status=task_status))

        async def write_some() -> None:
            for _ in range(10):
                assert (await client.post("/write", content=b"cpu v=1 1\n")).status_code == 204

        async with trio.open_nursery() as writers:
            for _ in range(5):
                writers.start_soon(write_some)
        connections = forwarder.statistics().connections
        nursery.cancel_scope.cancel()
    assert len(pair.holder.ingest.requests) == 50
    assert connections.opened_total <= 5
    assert connections.opened_total + connections.reused_total == 50


async def test_a_client_that_goes_away_stops_its_query_at_the_other_node() -> None:
    pair = Pair()
    answers = FakeAnswers(hang=True)
    pair.holder.replace(queries=answers)
    async with pair.serving() as port:
        head = f"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nAuthorization: Token {READER}\r\nContent-Length: 18\r\n\r\n"
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(head.encode() + b'{"sql":"SELECT 1"}')
            with trio.fail_after(10):
                await answers.opened.wait()
        with trio.fail_after(10):
            await answers.closed.wait()
