"""The least HTTP/1.1 client that a simulated program needs: one request after another on one connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import trio


class Answer(NamedTuple):
    """What a server said. Header names are lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NotSent(Exception):
    """The server cannot have seen anything of this request."""


class Lost(Exception):
    """The request may have been carried out, and nobody will say so."""


class Connect(Protocol):
    """Opens a stream. Raises OSError."""

    async def __call__(self, host: str, port: int) -> trio.abc.Stream:
        """Open it."""
        ...


class Http:
    """Speaks to one server at a time; keeps the connection while it is good."""

    def __init__(self, connect: Connect, patience_seconds: float) -> None:
        self._connect = connect
        self._patience_seconds = patience_seconds
        self._stream: trio.abc.Stream | None = None
        self._server = ("", 0)
        self._held = b""

    async def ask(
        self, host: str, port: int, method: str, path: str, *, headers: Mapping[str, str], body: bytes = b""
    ) -> Answer:
        """Send a request and read its answer. Raises NotSent, Lost."""
        if self._stream is None or self._server != (host, port):
            await self.close()
            try:
                self._stream = await self._connect(host, port)
            except OSError as error:
                raise NotSent(str(error)) from error
            self._server, self._held = (host, port), b""
        fields = {"host": host, "content-length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        answer: Answer | None = None
        try:
            with trio.move_on_after(self._patience_seconds):
                await self._stream.send_all(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)
                answer = await self._read()
        except (trio.BrokenResourceError, trio.ClosedResourceError, EOFError) as error:
            await self.close()
            raise Lost(str(error)) from error
        if answer is None:
            await self.close()
            raise Lost("no answer in time")
        if answer.headers.get("connection", "") == "close":
            await self.close()
        return answer

    async def close(self) -> None:
        """Hang up."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _read(self) -> Answer:
        head = (await self._until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(head[0].split(" ")[1])
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self._until(b"\r\n"), 16):
                body += await self._exactly(size)
                await self._exactly(2)
            await self._until(b"\r\n")
        else:
            body = await self._exactly(int(headers.get("content-length", "0")))
        return Answer(status, headers, body)

    async def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            await self._more()
        found, _, self._held = self._held.partition(mark)
        return found

    async def _exactly(self, size: int) -> bytes:
        while len(self._held) < size:
            await self._more()
        found, self._held = self._held[:size], self._held[size:]
        return found

    async def _more(self) -> None:
        assert self._stream is not None
        piece = await self._stream.receive_some(64 * 1024)
        if not piece:
            raise EOFError("the server closed the connection")
        self._held += piece
