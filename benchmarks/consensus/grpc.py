"""Enough gRPC to load etcd by its native API without the cost of a client library: unary calls, many at once.

Fixed request headers sit in the HPACK table after the first call, response headers are not decoded: a call that
succeeded carries a DATA frame, a failed one has trailers only (RFC 9113; RFC 7541; the gRPC over HTTP/2 protocol page).
"""

from __future__ import annotations

import contextlib
import struct
from collections import deque

from tests.e2e.framed import GET, PUT, STATUS, Connection, Down, Reply

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
WINDOW_MAX = (1 << 31) - 1


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + body


def _text(data: bytes) -> bytes:
    assert len(data) < 127
    return bytes((len(data),)) + data


class Etcd(Connection):
    """etcd's KV and Maintenance services."""

    PATHS = {  # noqa: RUF012
        PUT: b"/etcdserverpb.KV/Put",
        GET: b"/etcdserverpb.KV/Range",
        STATUS: b"/etcdserverpb.Maintenance/Status",
    }

    def hello(self) -> None:
        """Preface, settings, and a receive window that never fills."""
        self._stream = 1
        self._send_window = 65535
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._open: dict[int, tuple[int, str, bytearray]] = {}
        self._consumed = 0
        authority = b"%s:%d" % (self.address[0].encode(), self.address[1])
        fixed = [b"\x41" + _text(authority), b"\x5f" + _text(b"application/grpc")]
        self._first: bytes | None = b"".join(fixed) + b"\x40" + _text(b"te") + _text(b"trailers")
        self.out += _PREFACE + _frame(_SETTINGS, 0, 0, struct.pack(">HIHI", 2, 0, 4, WINDOW_MAX))
        self.out += _frame(_WINDOW, 0, 0, struct.pack(">I", WINDOW_MAX - 65535))

    def encode(self, op: str, key: bytes, value: bytes, token: int) -> None:
        """Append one call, or hold it until the send window opens."""
        message = _bytes_field(1, key) + (_bytes_field(2, value) if op == PUT else b"") if op != STATUS else b""
        # Without Huffman: literal path; then literals that fill the table once, and indices 64 to 62 ever after.
        headers = b"\x83\x86\x04" + _text(self.PATHS[op]) + (self._first or b"\xc0\xbf\xbe")
        self._first = None
        body = b"\0" + struct.pack(">I", len(message)) + message
        stream, self._stream = self._stream, self._stream + 2
        self._open[stream] = (token, op, bytearray())
        self.out += _frame(_HEADERS, _END_HEADERS, stream, headers)
        self._waiting.append((stream, body))
        self._send_waiting()

    def parse(self) -> list[Reply]:
        """Walk the frames."""
        data, start, end, found = self.received, 0, len(self.received), []
        while end - start >= 9:
            length = (data[start] << 16) | (data[start + 1] << 8) | data[start + 2]
            if end - start < 9 + length:
                break
            kind, flags = data[start + 3], data[start + 4]
            stream = int.from_bytes(data[start + 5 : start + 9], "big") & WINDOW_MAX
            first, start = start + 9, start + 9 + length
            if kind == _DATA:
                self._consumed += length
                if stream in self._open:
                    self._open[stream][2].extend(data[first:start])
            elif kind == _HEADERS:
                if flags & _END_STREAM and stream in self._open:
                    found.append(self._finish(*self._open.pop(stream)))
            elif kind == _RESET:
                if stream in self._open:
                    found.append(Reply(self._open.pop(stream)[0], False, b"reset"))
            elif kind == _SETTINGS and not flags & _ACK:
                self.out += _frame(_SETTINGS, _ACK, 0, b"")
            elif kind == _PING and not flags & _ACK:
                self.out += _frame(_PING, _ACK, 0, bytes(data[first:start]))
            elif kind == _GOAWAY:
                self.is_dead = True
            elif kind == _WINDOW and stream == 0:
                self._send_window += int.from_bytes(data[first:start], "big") & WINDOW_MAX
        del data[:start]
        self._send_waiting()
        if self._consumed > 1 << 28:
            self.out += _frame(_WINDOW, 0, 0, struct.pack(">I", self._consumed))
            self._consumed = 0
        if self.out and not self.is_dead:
            with contextlib.suppress(Down):
                self.flush()
        return found

    def _send_waiting(self) -> None:
        while self._waiting and len(self._waiting[0][1]) <= self._send_window:
            stream, body = self._waiting.popleft()
            self._send_window -= len(body)
            self.out += _frame(_DATA, _END_STREAM, stream, body)

    @staticmethod
    def _finish(token: int, op: str, body: bytearray) -> Reply:
        if len(body) < 5:
            return Reply(token, False, b"grpc error")
        message = bytes(body[5:])
        if op != GET:
            return Reply(token, True, message)
        found = fields(message).get(2)
        return Reply(token, True, found[0] if found and isinstance(found[0], bytes) else None)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def _bytes_field(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | 2,)) + _varint(len(data)) + data


def fields(data: bytes) -> dict[int, list[int | bytes]]:
    """Top-level protobuf fields of a message by number, in order."""
    found: dict[int, list[int | bytes]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        result = shift = 0
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 127) << shift
            if byte < 128:
                return result
            shift += 7

    while at < len(data):
        tag = varint()
        value: int | bytes
        if tag & 7 == 0:
            value = varint()
        else:
            length = varint() if tag & 7 == 2 else 8 if tag & 7 == 1 else 4
            value = data[at : at + length]
            at += length
        found.setdefault(tag >> 3, []).append(value)
    return found
