"""A name server that takes longer than a dial, one that fails, and answers that serve for a moment."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import trio
import trio.testing

from arc.system import SystemNetwork
from arc.system_names import KEPT_SECONDS, Answer, Names


class Servers:
    """What the system would ask: every question waits for its gate, and the second one for ever if nobody opens it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.gate = threading.Event()
        self.error: OSError | None = None

    def __call__(self, host: Any, port: Any, *rest: int) -> Answer:
        self.asked.append(host)
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port)))]


async def look_up(names: Names, host: bytes = b"n2.test") -> str:
    return str((await names.getaddrinfo(host, 9100))[0][4][0])


async def given_up(names: Names) -> None:
    """Somebody asks, and does not wait."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_up, names)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_a_dial_that_was_given_up_leaves_its_lookup_to_the_next_one() -> None:
    """The first of two name servers was dead: each dial ended before its lookup, and threw it away."""
    servers = Servers()
    network = SystemNetwork(Names(servers))

    async def close(stream: trio.abc.Stream) -> None:
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        port = await nursery.start(network.serve_tcp, close, "127.0.0.1", 0)
        async with trio.open_nursery() as dial:
            dial.start_soon(network.connect_tcp, "n2.test", port)
            await trio.testing.wait_all_tasks_blocked()
            dial.cancel_scope.cancel()
        servers.gate.set()
        with trio.fail_after(30):
            stream = await network.connect_tcp("n2.test", port)
        await stream.aclose()
        assert servers.asked == [b"n2.test"]
        nursery.cancel_scope.cancel()


async def test_whoever_asks_meanwhile_joins_and_the_answer_serves_for_a_moment(
    mock_clock: trio.testing.MockClock,
) -> None:
    servers = Servers()
    names = Names(servers)
    await given_up(names)
    servers.gate.set()
    with trio.fail_after(1):
        assert await look_up(names) == "127.0.0.1"
    assert await look_up(names) == "127.0.0.1"
    assert len(servers.asked) == 1
    assert await look_up(names, b"n3.test") == "127.0.0.1"
    assert servers.asked == [b"n2.test", b"n3.test"], "each name is a question of its own"
    mock_clock.jump(KEPT_SECONDS)
    assert await look_up(names) == "127.0.0.1"
    assert servers.asked == [b"n2.test", b"n3.test", b"n2.test"]


async def test_a_failure_is_told_to_all_who_wait_and_not_kept() -> None:
    servers = Servers()
    servers.error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    names = Names(servers)
    told: list[BaseException] = []

    async def ask() -> None:
        with pytest.raises(socket.gaierror, match="Temporary failure") as raised:
            await look_up(names)
        told.append(raised.value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        servers.gate.set()
    assert len(told) == 2 and told[0] is not told[1]
    assert len(servers.asked) == 1
    servers.error = None
    assert await look_up(names) == "127.0.0.1"


async def test_the_system_is_asked_for_a_real_name() -> None:
    found = await Names().getaddrinfo(b"localhost", 80, type=socket.SOCK_STREAM)
    assert {each[4][0] for each in found} & {"127.0.0.1", "::1"}
