"""The client port of a bare consensus member: frames over TCP, pipelined. Used by tests and benchmarks alike.

A request is ``<I length><Q token><B op><H key length> key value``, a reply ``<I length><Q token><B ok> payload``;
little-endian, the length counts what follows it. Replies come in any order. ``ok`` is 0 refused (the payload says why),
1 done, 2 done and no such key. Nothing but the standard library, so that foreign interpreters can serve it, too.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import NamedTuple

PUT, GET, STATUS, ORDER = "put", "get", "status", "order"
"""Operations: write, linearizable read, what a node tells about itself, and what it applied from a place on."""

REQUEST = struct.Struct("<IQBH")
REPLY = struct.Struct("<IQB")
OPS = {PUT: 1, GET: 2, STATUS: 4, ORDER: 5}
REFUSED, DONE, NO_SUCH_KEY = 0, 1, 2

RECEIVE_BYTES = 1 << 18
CALL_SECONDS = 5.0


class Down(Exception):
    """The connection is refused, reset or closed, or nothing came in time."""


class Reply(NamedTuple):
    """One answer. ``ok`` means acknowledged (for a read: answered); ``payload`` is None for a key that is not there."""

    token: int
    ok: bool
    payload: bytes | None


class Connection:
    """One pipelined connection. Raises Down from every method once it is gone."""

    def __init__(self, address: tuple[str, int], timeout: float = CALL_SECONDS) -> None:
        self.address = address
        try:
            self._socket = socket.create_connection(address, timeout)
        except OSError as error:
            raise Down(str(error)) from error
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self.out, self.received = bytearray(), bytearray()
        self.is_dead = False
        self._last_token = 0
        self.hello()

    def hello(self) -> None:
        """What goes out before the first request."""

    def encode(self, op: str, key: bytes, value: bytes, token: int) -> None:
        """Append one request to ``out``."""
        raise NotImplementedError

    def parse(self) -> list[Reply]:
        """Take whole replies out of ``received``."""
        raise NotImplementedError

    def fileno(self) -> int:
        """For epoll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()
        self.is_dead = True

    def submit(self, op: str, key: bytes, value: bytes) -> int:
        """Queue a request and return its token; `flush` sends."""
        if self.is_dead:
            raise Down("closed")
        self._last_token += 1
        self.encode(op, key, value, self._last_token)
        return self._last_token

    def flush(self) -> bool:
        """Send what fits; True when nothing is left."""
        while self.out:
            try:
                sent = self._socket.send(self.out)
            except BlockingIOError:
                return False
            except OSError as error:
                self.is_dead = True
                raise Down(str(error)) from error
            del self.out[:sent]
        return True

    def poll(self) -> list[Reply]:
        """Read what is there."""
        try:
            while True:
                data = self._socket.recv(RECEIVE_BYTES)
                if not data:
                    self.is_dead = True
                    break
                self.received += data
                if len(data) < RECEIVE_BYTES:
                    break
        except BlockingIOError:
            pass
        except OSError:
            self.is_dead = True
        replies = self.parse()
        if self.is_dead and not replies:
            raise Down("closed")
        return replies

    def call(self, op: str, key: bytes = b"", value: bytes = b"", timeout: float = CALL_SECONDS) -> Reply:
        """One request, waited for."""
        token = self.submit(op, key, value)
        deadline = time.perf_counter() + timeout
        while (left := deadline - time.perf_counter()) > 0:
            writers = [] if self.flush() else [self]
            readable, _, _ = select.select([self], writers, [], left)
            for reply in self.poll() if readable else ():
                if reply.token == token:
                    return reply
        raise Down("no answer in time")


class Framed(Connection):
    """A connection that speaks the frames above."""

    def encode(self, op: str, key: bytes, value: bytes, token: int) -> None:
        """Append one request."""
        self.out += REQUEST.pack(11 + len(key) + len(value), token, OPS[op], len(key)) + key + value

    def parse(self) -> list[Reply]:
        """Take whole replies."""
        data, start, found = self.received, 0, []
        end = len(data)
        while end - start >= REPLY.size:
            length, token, ok = REPLY.unpack_from(data, start)
            if end - start < 4 + length:
                break
            payload = bytes(data[start + REPLY.size : start + 4 + length])
            found.append(Reply(token, ok != REFUSED, None if ok == NO_SUCH_KEY else payload))
            start += 4 + length
        del data[:start]
        return found

    def status(self, timeout: float = 1.0) -> dict[str, object]:
        """The node's own account of itself."""
        reply = self.call(STATUS, timeout=timeout)
        found: dict[str, object] = json.loads(reply.payload or b"{}")
        return found


class Asked(NamedTuple):
    """One request as the server sees it."""

    token: int
    op: int
    key: bytes
    value: bytes


def take_requests(received: bytearray) -> Iterator[Asked]:
    """The whole requests at the front, which are then gone from the buffer."""
    start = 0
    while len(received) - start >= REQUEST.size:
        length, token, op, key_length = REQUEST.unpack_from(received, start)
        end = start + 4 + length
        if end > len(received):
            break
        key_at = start + REQUEST.size
        value_at = key_at + key_length
        yield Asked(token, op, bytes(received[key_at:value_at]), bytes(received[value_at:end]))
        start = end
    del received[:start]


def reply(token: int, ok: int, payload: bytes = b"") -> bytes:
    """One reply, encoded."""
    return REPLY.pack(9 + len(payload), token, ok) + payload
