"""The HTTP client against servers that split, stall, break off and lie."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
import trustme

from arc.wire.http import IDLE_SECONDS, AnswerHead, ConnectFailed, HttpClient, HttpFailed, RequestHead, over_tls
from tests.fakes import ManualClock
from tests.wire.scripts import Net, Script, Server, answer, drip, hang, hear, pause, say

GET = RequestHead(method=b"GET", target=b"/x", headers=[(b"host", b"a")])
HEAD = RequestHead(method=b"HEAD", target=b"/x", headers=[(b"host", b"a")])


@asynccontextmanager
async def talking(*scripts: Script, keep: bool = False) -> AsyncIterator[tuple[HttpClient, Net, Server, ManualClock]]:
    clock = ManualClock()
    async with trio.open_nursery() as nursery:
        server = Server(list(scripts))
        net = Net(nursery, {"a:80": server})
        client = HttpClient(net.connect, clock)
        if keep:
            await nursery.start(lambda task_status: client.run(task_status=task_status))
        yield client, net, server, clock
        nursery.cancel_scope.cancel()


async def ask(client: HttpClient, head: RequestHead = GET, *, fresh: bool = False) -> tuple[AnswerHead, bytes]:
    async with client.open("a:80", timeout_seconds=2.0, fresh=fresh) as talk:
        await talk.send_all(head, b"", 5.0)
        found = await talk.receive_head(5.0)
        body = b""
        while piece := await talk.receive_piece(5.0):
            body += piece
        return found, body


WHOLE = [
    ("length", answer(200, b"hello"), b"hello"),
    (
        "chunked",
        b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nT: 1\r\n\r\n",
        b"hello",
    ),
    ("no body", answer(204), b""),
    ("not modified", answer(304), b""),
    (
        "interim",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + answer(200, b"hello"),
        b"hello",
    ),
]


@pytest.mark.parametrize(("name", "said", "body"), WHOLE, ids=[row[0] for row in WHOLE])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
async def test_an_answer_is_the_same_however_it_is_split(name: str, said: bytes, body: bytes, size: int) -> None:
    async with talking((hear(), drip(said, size))) as (client, _, server, _):
        found, got = await ask(client)
    assert got == body
    assert found.status in (200, 204, 304)
    assert server.heard[0].startswith(b"GET /x HTTP/1.1\r\n")


async def test_an_answer_to_head_has_a_length_and_no_body() -> None:
    async with talking((hear(), say(b"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n"))) as (client, _, _, _):
        found, got = await ask(client, HEAD)
    assert (found.first(b"content-length"), got) == (b"5", b"")


async def test_repeated_headers_stay_apart_and_in_order() -> None:
    said = answer(200, b"", b"Set-Cookie: a=1", b"X-Y: z", b"Set-Cookie: b=2")
    async with talking((hear(), say(said))) as (client, _, _, _):
        found, _ = await ask(client)
    assert [value for name, value in found.headers if name == b"set-cookie"] == [b"a=1", b"b=2"]


BROKEN = [
    ("nothing", ()),
    ("half a head", (say(b"HTTP/1.1 200 X\r\nConte"),)),
    ("half a body", (say(b"HTTP/1.1 200 X\r\nContent-Length: 9\r\n\r\nhalf"),)),
    ("half a chunk", (say(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf"),)),
    ("no last chunk", (say(b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),)),
    ("not http", (say(b"SSH-2.0-x\r\n\r\n"),)),
    ("an endless head", (say(b"HTTP/1.1 200 X\r\nA: " + b"x" * 100_000),)),
    ("two lengths", (say(b"HTTP/1.1 200 X\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),)),
]


@pytest.mark.parametrize(("name", "steps"), BROKEN, ids=[row[0] for row in BROKEN])
async def test_a_broken_answer_is_an_error_and_never_a_short_one(name: str, steps: Script) -> None:
    async with talking((hear(), *steps)) as (client, _, _, _):
        with pytest.raises(HttpFailed) as failure:
            await ask(client)
    assert not failure.value.is_late


async def test_three_waits_have_limits_of_their_own(autojump_clock: trio.testing.MockClock) -> None:
    slow_head: Script = (hear(), pause(6.0), say(answer(200)))
    slow_body: Script = (hear(), say(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\na"), pause(6.0), say(b"b"))
    slow_but_steady: Script = (
        hear(),
        pause(4.0),
        say(b"HTTP/1.1 200 X\r\nContent-Length: 2\r\n\r\na"),
        pause(4.0),
        say(b"b"),
    )
    async with talking(slow_head, slow_body, slow_but_steady) as (client, net, _, _):
        for text in ("no answer came", "stood still"):
            with pytest.raises(HttpFailed, match=text) as failure:
                await ask(client)
            assert failure.value.is_late
        assert (await ask(client))[1] == b"ab"
        net.silent.add("a:80")
        with pytest.raises(ConnectFailed) as refused:
            await ask(client)
        assert refused.value.is_late


@pytest.mark.parametrize("address", ["a:81", "a", "a:x", ":80", ""])
async def test_where_nobody_listens_not_a_byte_was_sent(address: str) -> None:
    async with talking(()) as (client, _, _, _):
        with pytest.raises(ConnectFailed):
            async with client.open(address, timeout_seconds=1.0, fresh=False):
                pass
        assert client.statistics().failed_total == 1


async def test_a_body_in_pieces_is_framed_as_its_head_says() -> None:
    chunked = RequestHead(method=b"POST", target=b"/", headers=[(b"host", b"a"), (b"transfer-encoding", b"chunked")])
    sized = RequestHead(method=b"POST", target=b"/", headers=[(b"host", b"a"), (b"content-length", b"4")])
    script: Script = (hear(b"cd"), say(answer(204)))
    async with talking(script) as (client, _, server, _):
        for head in (chunked, sized):
            async with client.open("a:80", timeout_seconds=1.0, fresh=False) as talk:
                await talk.send_head(head, 1.0)
                await talk.send_piece(b"ab", 1.0)
                await talk.send_piece(b"cd", 1.0)
                await talk.send_end(1.0)
                assert (await talk.receive_head(1.0)).status == 204
    assert b"2\r\nab\r\n2\r\ncd" in server.heard[0]
    assert server.heard[1].endswith(b"\r\n\r\nabcd")


async def test_an_answer_may_come_before_the_request_is_complete_and_ends_the_connection() -> None:
    head = RequestHead(method=b"POST", target=b"/", headers=[(b"host", b"a"), (b"content-length", b"1000000")])
    async with talking((hear(), say(answer(413, b"no"))), keep=True) as (client, _, _, _):
        async with client.open("a:80", timeout_seconds=1.0, fresh=False) as talk:
            await talk.send_head(head, 1.0)
            assert (await talk.receive_head(1.0)).status == 413
            assert await talk.receive_piece(1.0) == b"no"
            assert await talk.receive_piece(1.0) == b""
        assert client.statistics().idle == 0


TWICE: Script = (hear(), say(answer(200, b"1")), hear(), say(answer(200, b"2")), hang)


async def test_a_connection_is_kept_while_somebody_keeps_it() -> None:
    async with talking(TWICE, keep=True) as (client, net, _, _):
        assert [(await ask(client))[1], (await ask(client))[1]] == [b"1", b"2"]
        assert net.dialled == ["a:80"]
        assert client.statistics().reused_total == 1
        await ask(client, fresh=True)
        assert len(net.dialled) == 2
    async with talking(TWICE, keep=False) as (client, net, _, _):
        await ask(client)
        await ask(client)
        assert len(net.dialled) == 2


@pytest.mark.parametrize(
    "said",
    [
        answer(200, b"1", b"Connection: close"),
        answer(200, b"1") + b"HTTP/1.1 200 smuggled\r\n",
        b"HTTP/1.0 200 X\r\nContent-Length: 1\r\n\r\n1",
    ],
)
async def test_a_connection_that_cannot_carry_another_answer_is_not_kept(said: bytes) -> None:
    async with talking((hear(), say(said), hang), keep=True) as (client, _, _, _):
        assert (await ask(client))[1] == b"1"
        assert client.statistics().idle == 0


async def test_an_idle_connection_is_closed_in_time_and_all_are_at_the_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    once: Script = (hear(), say(answer(200, b"1")), hear())
    async with talking(once, keep=True) as (client, net, server, clock):
        await ask(client)
        clock.advance(IDLE_SECONDS)
        await ask(client)
        assert len(net.dialled) == 2, "one that is too old is not used"
        await server.ended[0].wait()
        assert client.statistics().idle == 1
        again = server.ended[1]
        assert not again.is_set()
    assert client.statistics().idle == 0


async def test_a_cancelled_request_closes_its_connection() -> None:
    async with talking((hear(), hear(b"never")), keep=True) as (client, _, server, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, client)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        await server.ended[0].wait()
        assert client.statistics().idle == 0


@pytest.mark.parametrize("name", ["a", "b"])
async def test_over_tls_the_name_that_was_dialled_is_checked(name: str) -> None:
    authority = trustme.CA()
    ours, theirs = ssl.create_default_context(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.configure_trust(ours)
    authority.issue_cert(name).configure_cert(theirs)
    async with trio.open_nursery() as nursery:
        server = Server([(hear(), say(answer(200, b"secret")))])

        async def connect(host: str, port: int) -> trio.abc.Stream:
            near, far = trio.testing.memory_stream_pair()
            nursery.start_soon(server.talk, trio.SSLStream(far, theirs, server_side=True))
            return near

        client = HttpClient(over_tls(connect, lambda: ours), ManualClock())
        if name == "a":
            assert (await ask(client))[1] == b"secret"
        else:
            with pytest.raises(ConnectFailed):
                await ask(client)
