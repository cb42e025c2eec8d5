"""HTTP/1.1 for the one-threaded load of `benchmarks.consensus.client`: one request at a time on a connection.

What is sent is made of a key and a value, as for the other targets, so that the same loop drives all of them. Answers
have a length or no body (a node answers writes and orders so); anything else counts as a broken connection.
"""

from __future__ import annotations

from collections import deque

from tests.e2e.framed import Connection, Down, Reply

DATABASE = "demo"


class Http(Connection):
    """A connection of a client with a token. Subclasses say what a key and a value become."""

    def __init__(self, address: tuple[str, int], token: str) -> None:
        self._authorization = f"authorization: Bearer {token}\r\nhost: arc\r\n".encode()
        self._open: deque[int] = deque()
        super().__init__(address)

    def head(self, key: bytes) -> bytes:
        """Request line and headers of its own, each with its line end."""
        raise NotImplementedError

    def body(self, key: bytes, value: bytes) -> bytes:
        """What is sent."""
        return value

    def encode(self, op: str, key: bytes, value: bytes, token: int) -> None:
        """Append one request."""
        body = self.body(key, value)
        self.out += self.head(key) + self._authorization + b"content-length: %d\r\n\r\n" % len(body) + body
        self._open.append(token)

    def parse(self) -> list[Reply]:
        """Take whole answers. 2xx is an acknowledgement. Raises Down for what is not HTTP with a length."""
        found = []
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            lines = bytes(self.received[:end]).lower().split(b"\r\n")
            headers = dict(line.split(b": ", 1) for line in lines[1:])
            length = int(headers.get(b"content-length", b"0"))
            if b"transfer-encoding" in headers or not self._open:
                self.is_dead = True
                raise Down("an answer that nobody asked for, or without a length")
            if len(self.received) < end + 4 + length:
                break
            payload = bytes(self.received[end + 4 : end + 4 + length])
            del self.received[: end + 4 + length]
            found.append(Reply(self._open.popleft(), lines[0].split(b" ")[1].startswith(b"2"), payload))
            if headers.get(b"connection") == b"close":
                self.is_dead = True
        return found


class Lines(Http):
    """Line protocol: the key is the idempotency key, the value the body."""

    def head(self, key: bytes) -> bytes:
        """A line that does not fit refuses the body."""
        return (
            b"POST /api/v1/write/line-protocol?strict=true HTTP/1.1\r\n"
            b"content-type: text/plain; charset=utf-8\r\nx-arc-database: %s\r\nidempotency-key: %s\r\n"
            % (DATABASE.encode(), key)
        )


class Databases(Http):
    """The cheapest command of the catalog that HTTP has: an empty database, named by the key."""

    def head(self, key: bytes) -> bytes:
        """As any client."""
        return b"POST /api/v1/databases HTTP/1.1\r\ncontent-type: application/json\r\n"

    def body(self, key: bytes, value: bytes) -> bytes:
        """The value is not used."""
        return b'{"name":"%s"}' % key
