"""The plumbing between Hypercorn's protocols and the application."""

from __future__ import annotations

import trio
import trio.testing

from arc.api.connection import INBOX_MESSAGES_MAX, _IdleWatcher, _Inbox, _Tasks
from tests.api.fakes import READER, World
from tests.api.test_server import QUERY, http, local, request, serving


def message(number: int) -> dict[str, object]:
    return {"type": "http.request", "body": bytes([number])}


async def test_an_inbox_gives_messages_in_order_and_makes_a_fast_sender_wait() -> None:
    inbox = _Inbox()
    sent: list[int] = []

    async def send() -> None:
        for number in range(INBOX_MESSAGES_MAX + 3):
            await inbox.put(message(number))
            sent.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked()
        assert len(sent) == INBOX_MESSAGES_MAX
        got = [await inbox.get() for _ in range(INBOX_MESSAGES_MAX + 3)]
    assert got == [message(number) for number in range(INBOX_MESSAGES_MAX + 3)]


async def test_a_reader_waits_for_the_first_message() -> None:
    inbox = _Inbox()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.put, message(1))
        assert await inbox.get() == message(1)


async def test_a_sender_is_freed_when_nobody_reads_any_more() -> None:
    inbox = _Inbox()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            for number in range(INBOX_MESSAGES_MAX + 1):
                nursery.start_soon(inbox.put, message(number))
            await trio.testing.wait_all_tasks_blocked()
            inbox.close()
        for number in range(100):
            await inbox.put(message(number))


async def test_an_idle_connection_is_closed_after_its_time_and_a_busy_one_is_not(
    autojump_clock: trio.testing.MockClock,
) -> None:
    class Context:
        terminated = trio.Event()

    closed: list[float] = []

    async def close() -> None:
        closed.append(trio.current_time())

    async def no_app(*_: object) -> None: ...

    async with trio.open_nursery() as nursery:
        tasks = _Tasks(nursery, no_app, lambda error: None)
        watcher = _IdleWatcher(10.0, Context)
        await watcher.restart(tasks, close)
        await trio.sleep(5)
        await watcher.stop()
        await trio.sleep(100)
        assert closed == []
        await watcher.restart(tasks, close)
    assert closed == [115.0]


async def test_two_requests_in_one_packet_are_answered_in_order() -> None:
    world = World(server=local())
    async with serving(world) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(QUERY + QUERY + request("/api/v1/query/csv", READER, b"{}"))
        seen = b""
        with trio.fail_after(5):
            while seen.count(b"HTTP/1.1 ") < 3 or not seen.endswith(b"}"):
                seen += await stream.receive_some()
    assert [part[:3] for part in seen.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"400"]


async def test_garbage_is_answered_with_400_and_the_next_client_is_served() -> None:
    world = World(server=local())
    async with serving(world) as port:
        for garbage in (
            b"\x00\xff\r\n\r\n",
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"POST /write HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        ):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(garbage)
                with trio.fail_after(5):
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 400"), garbage
        async with http(port) as client:
            assert (await client.get("/health")).status_code == 200
