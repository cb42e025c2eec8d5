"""A server that says and hears exactly what a script says: for conversations that no real server has on purpose.

A script is a list of steps. `hear(end)` reads until the given bytes came, `say` sends, `drip` sends byte by byte,
`hang` waits for ever; at the end of the script the stream is closed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import trio
import trio.testing


class Heard(bytearray):
    """All bytes that came; ``place`` is how far the script has heard them."""

    place = 0


Step = Callable[[trio.abc.Stream, Heard], Awaitable[None]]
Script = tuple[Step, ...]

HEAD_END = b"\r\n\r\n"


def hear(end: bytes = HEAD_END) -> Step:
    """Read until these bytes came; what came is kept."""

    async def step(stream: trio.abc.Stream, heard: Heard) -> None:
        while (found := heard.find(end, heard.place)) < 0:
            data = await stream.receive_some(1000)
            if not data:
                return
            heard.extend(data)
        heard.place = found + len(end)

    return step


def say(data: bytes) -> Step:
    """Send it in one piece."""

    async def step(stream: trio.abc.Stream, heard: Heard) -> None:
        await stream.send_all(data)

    return step


def drip(data: bytes, size: int = 1) -> Step:
    """Send it in small pieces."""

    async def step(stream: trio.abc.Stream, heard: Heard) -> None:
        for start in range(0, len(data), size):
            await stream.send_all(data[start : start + size])
            await trio.lowlevel.checkpoint()

    return step


async def hang(stream: trio.abc.Stream, heard: Heard) -> None:
    """Do nothing any more."""
    await trio.sleep_forever()


def pause(seconds: float) -> Step:
    """Do nothing for a while."""

    async def step(stream: trio.abc.Stream, heard: Heard) -> None:
        await trio.sleep(seconds)

    return step


def until(event: trio.Event) -> Step:
    """Wait for it."""

    async def step(stream: trio.abc.Stream, heard: Heard) -> None:
        await event.wait()

    return step


def answer(status: int, body: bytes = b"", *headers: bytes) -> bytes:
    """A whole answer with its length."""
    lines = [b"HTTP/1.1 %d X" % status, *headers]
    if status not in (204, 304):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + HEAD_END + body


@dataclass
class Server:
    """One address. The nth connection follows the nth script, those beyond it the last; ``heard`` is by connection."""

    scripts: list[Script]
    heard: list[Heard] = field(default_factory=list)
    ended: list[trio.Event] = field(default_factory=list)

    async def talk(self, stream: trio.abc.Stream) -> None:
        script = self.scripts[min(len(self.heard), len(self.scripts) - 1)]
        heard, ended = Heard(), trio.Event()
        self.heard.append(heard)
        self.ended.append(ended)
        try:
            for step in script:
                await step(stream, heard)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            ended.set()
            await trio.aclose_forcefully(stream)


class Net:
    """Who listens where, by ``host:port``. An address nobody listens on refuses; one in ``silent`` never answers."""

    def __init__(self, nursery: trio.Nursery, servers: Mapping[str, Server]) -> None:
        self._nursery = nursery
        self.servers = dict(servers)
        self.silent: set[str] = set()
        self.dialled: list[str] = []

    async def connect(self, host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        address = f"{host}:{port}"
        self.dialled.append(address)
        if address in self.silent:
            await trio.sleep_forever()
        if address not in self.servers:
            raise OSError("connection refused")
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self.servers[address].talk, theirs)
        return ours
