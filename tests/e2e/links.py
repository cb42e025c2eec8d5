"""Proxies before the peer ports, so that every direction between two nodes can be cut or slowed by itself.

Each node advertises a port here. Who opens a connection to it is found out by looking whose process has it, so each
direction of a connection belongs to a pair of nodes. A cut direction passes nothing on: connections stay open and new
ones wait, as when packets vanish; what was under way arrives when the cut is healed, as TCP would send it again. The
ports for clients are not part of it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType

RECEIVE_BYTES = 16 * 1024
BUFFER_BYTES = 64 * 1024
"""What the system holds for a proxy: a line that is narrow must not end in megabytes of memory."""
Pair = tuple[str, str]
"""From whom to whom."""


class Links:
    """Ports in front of nodes. ``who`` tells which node opened a connection from a local port; None: it is gone."""

    def __init__(self, who: Callable[[int], str | None]) -> None:
        self._who = who
        self._cut: frozenset[Pair] = frozenset()
        self._delays: Mapping[str, float] = {}
        self._rates: Mapping[str, float] = {}
        self._free_at: dict[str, float] = {}
        self._changed = threading.Condition()
        self._closed = False
        self._listeners: list[socket.socket] = []
        self._open: set[socket.socket] = set()

    def __repr__(self) -> str:
        return f"<Links cut={sorted(self._cut)} slow={dict(self._delays)}>"

    def __enter__(self) -> Links:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            left = list(self._open)
        for each in (*self._listeners, *left):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for listener in self._listeners:
            listener.close()

    def port_before(self, name: str, target: int) -> int:
        """A new port whose connections go on to the port ``target`` of that node."""
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, name, target), daemon=True).start()
        return int(listener.getsockname()[1])

    def cut(self, pairs: frozenset[Pair]) -> None:
        """Pass nothing on in these directions, everything in all others."""
        with self._changed:
            self._cut = pairs
            self._changed.notify_all()

    def slow(self, delays: Mapping[str, float]) -> None:
        """Hold up each piece from or to these nodes for so many seconds; all others not."""
        with self._changed:
            self._delays = dict(delays)
            self._changed.notify_all()

    def narrow(self, bytes_per_second: Mapping[str, float]) -> None:
        """Let no more than this leave these nodes, to all others together; the rest sends as it likes."""
        with self._changed:
            self._rates, self._free_at = dict(bytes_per_second), {}
            self._changed.notify_all()

    def _accept(self, listener: socket.socket, name: str, target: int) -> None:
        while True:
            try:
                near, (_, port) = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near, name, target, port), daemon=True).start()

    def _join(self, near: socket.socket, name: str, target: int, port: int) -> None:
        who = self._who(port)
        with near:
            if who is None or not (self._passes((who, name)) and self._passes((name, who))):
                return  # a connection needs both directions; its opener may be gone already
            with socket.socket() as far:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
                try:
                    far.connect(("127.0.0.1", target))
                except OSError:
                    return
                with self._changed:
                    self._open |= {near, far}
                back = threading.Thread(target=self._pass_on, args=(far, near, (name, who)), daemon=True)
                back.start()
                self._pass_on(near, far, (who, name))
                back.join()
                with self._changed:
                    self._open -= {near, far}

    def _pass_on(self, source: socket.socket, sink: socket.socket, pair: Pair) -> None:
        with suppress(OSError):
            while data := source.recv(RECEIVE_BYTES):
                if not self._passes(pair, len(data)):
                    return
                sink.sendall(data)
        self._passes(pair)  # An end travels as bytes do.
        for each in (source, sink):  # Either side's end is both sides' end: nobody here speaks half-open.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _passes(self, pair: Pair, size: int = 0) -> bool:
        """Return when so many bytes may pass; False: it is over."""
        with self._changed:
            if rate := self._rates.get(pair[0], 0.0):
                free_at = self._free_at[pair[0]] = max(time.monotonic(), self._free_at.get(pair[0], 0.0)) + size / rate
                self._changed.wait_for(lambda: self._closed or pair[0] not in self._rates, free_at - time.monotonic())
            delay = max((self._delays.get(each, 0.0) for each in pair), default=0.0)
            if delay:
                self._changed.wait_for(lambda: self._closed, delay)
            self._changed.wait_for(lambda: self._closed or pair not in self._cut)
            return not self._closed


def between(some: tuple[str, ...], others: tuple[str, ...]) -> frozenset[Pair]:
    """Both directions between each of the one and each of the other."""
    return frozenset(pair for one in some for other in others for pair in ((one, other), (other, one)))
