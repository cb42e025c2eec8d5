"""What lies between the peer ports of nodes: connections that can be held up, as by a switch that passes nothing on.

Every node advertises a port here, and what others open to it goes on to its real port. While a node is cut off nothing
that it sends or is sent is passed on; connections stay open and new ones are taken and held, as when packets vanish.
What was under way arrives when the cut is healed, as TCP would send it again. The HTTP ports are not part of it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

RECEIVE_BYTES = 64 * 1024


class Between:
    """Ports in front of nodes. ``who`` tells which node opened a connection from a local port; None: it is gone."""

    def __init__(self, who: Callable[[int], str | None]) -> None:
        self._who = who
        self._cut: frozenset[str] = frozenset()
        self._changed = threading.Condition()
        self._closed = False
        self._listeners: list[socket.socket] = []

    def __repr__(self) -> str:
        return f"<Between cut={sorted(self._cut)}>"

    def __enter__(self) -> Between:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for listener in self._listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def port_before(self, name: str, target: int) -> int:
        """A new port whose connections go on to the port ``target`` of that node."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)
        threading.Thread(target=self._accept, args=(listener, name, target), daemon=True).start()
        return int(listener.getsockname()[1])

    def cut(self, *names: str) -> None:
        """Pass nothing on from or to these nodes, whatever others there are; none: all are connected again."""
        with self._changed:
            self._cut = frozenset(names)
            self._changed.notify_all()

    def _accept(self, listener: socket.socket, name: str, target: int) -> None:
        while True:
            try:
                near, (_, port) = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._join, args=(near, name, target, port), daemon=True).start()

    def _join(self, near: socket.socket, name: str, target: int, port: int) -> None:
        ends = {name, self._who(port)}
        try:
            if not self._wait_open(ends):
                return
            far = socket.create_connection(("127.0.0.1", target))
        except OSError:
            near.close()
            return
        back = threading.Thread(target=self._pass_on, args=(far, near, ends), daemon=True)
        back.start()
        self._pass_on(near, far, ends)
        back.join()
        near.close()
        far.close()

    def _pass_on(self, source: socket.socket, sink: socket.socket, ends: set[str | None]) -> None:
        with suppress(OSError):
            while data := source.recv(RECEIVE_BYTES):
                if not self._wait_open(ends):
                    return
                sink.sendall(data)
        self._wait_open(ends)
        for each in (source, sink):  # Either side's end is both sides' end: nobody here speaks half-open.
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _wait_open(self, ends: set[str | None]) -> bool:
        """Return when the two may talk; False: it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._cut & ends)
            return not self._closed
