"""One PySyncObj replica behind our client port (`tests.e2e.framed`), in PySyncObj's own loop.

PySyncObj has no network interface for clients and never calls fsync: its journal is a mapped file that nobody flushes.
``--sync`` adds one flush of the journal for each batch, before a follower answers and before a leader sends, to show
what durability would cost it. Timers are short and appends do not wait for a batching tick, which is what it is fastest
with. Needs only PySyncObj and the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from functools import partial
from typing import Any

import pysyncobj
from pysyncobj import SyncObj, SyncObjConf, journal, replicated
from pysyncobj.poller import POLL_EVENT_TYPE

from tests.e2e.framed import DONE, GET, NO_SUCH_KEY, OPS, PUT, REFUSED, reply, take_requests

TICK_SECONDS = 0.01
SETTINGS = {
    "appendEntriesUseBatch": False, "appendEntriesPeriod": 0.05, "raftMinTimeout": 0.25, "raftMaxTimeout": 0.5,
    "connectionRetryTime": 0.5,
}  # fmt: skip
_READ = POLL_EVENT_TYPE.READ | POLL_EVENT_TYPE.ERROR


class Table(SyncObj):  # type: ignore[misc]
    """The replicated state."""

    def __init__(self, me: str, others: list[str], settings: SyncObjConf) -> None:
        super().__init__(me, others, settings)
        self.values: dict[bytes, bytes] = {}

    @replicated  # type: ignore[untyped-decorator]
    def put(self, key: bytes, value: bytes) -> None:
        """A write."""
        self.values[key] = value

    @replicated  # type: ignore[untyped-decorator]
    def get(self, key: bytes) -> bytes | None:
        """A linearizable read goes through the log; there is no other."""
        return self.values.get(key)


def add_sync() -> None:
    """Flush the journal and the vote where Raft needs them durable."""
    add = journal.FileJournal.add
    send, answer = SyncObj._SyncObj__sendAppendEntries, SyncObj._SyncObj__sendNextNodeIdx

    def noting_add(self: Any, *arguments: Any) -> None:
        add(self, *arguments)
        self._is_dirty = True

    def flush(node: Any) -> None:
        log = node._SyncObj__raftLog
        if getattr(log, "_is_dirty", False):
            log._is_dirty = False
            log.flush()

    def syncing_send(self: Any) -> Any:
        flush(self)
        return send(self)

    def syncing_answer(self: Any, *arguments: Any, **named: Any) -> Any:
        flush(self)
        return answer(self, *arguments, **named)

    def store_meta(self: Any, meta: Any) -> None:
        path = self.getPath()
        with open(path + ".tmp", "wb") as file:
            file.write(journal.dumps(meta))
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".tmp", path)
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    journal.FileJournal.add = noting_add
    SyncObj._SyncObj__sendAppendEntries = syncing_send
    SyncObj._SyncObj__sendNextNodeIdx = syncing_answer
    journal.MetaStorer.storeMeta = store_meta


class Front:
    """The listening socket and its clients, in PySyncObj's poller."""

    def __init__(self, table: Table, port: int) -> None:
        self.table, self.poller = table, table._poller
        self.dirty: list[Client] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._listener.setblocking(False)
        self.poller.subscribe(self._listener.fileno(), self._accept, POLL_EVENT_TYPE.READ)

    def flush(self) -> None:
        """Send answers before the poller sleeps again."""
        dirty, self.dirty = self.dirty, []
        for client in dirty:
            client.flush()

    def _accept(self, *_: object) -> None:
        Client(self, self._listener.accept()[0])


class Client:
    """One connection."""

    def __init__(self, front: Front, connection: socket.socket) -> None:
        self._front, self._socket = front, connection
        self._received, self._out = bytearray(), bytearray()
        self._is_open = True
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        front.poller.subscribe(connection.fileno(), self._event, _READ)

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._front.poller.unsubscribe(self._socket.fileno())
            self._socket.close()

    def _answer(self, token: int, ok: int, payload: bytes = b"") -> None:
        self._out += reply(token, ok, payload)
        self._front.dirty.append(self)

    def flush(self) -> None:
        """Send what fits, and ask to be told when more does."""
        if not self._is_open:
            return
        had = bool(self._out)
        try:
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except BlockingIOError:
            pass
        except OSError:
            self._close()
            return
        if had:
            what = _READ | POLL_EVENT_TYPE.WRITE if self._out else _READ
            self._front.poller.subscribe(self._socket.fileno(), self._event, what)

    def _event(self, _: int, what: int) -> None:
        if what & POLL_EVENT_TYPE.WRITE:
            self.flush()
        if not what & _READ or not self._is_open:
            return
        try:
            data = self._socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._received += data
        for token, op, key, value in take_requests(self._received):
            self._request(token, op, key, value)

    def _request(self, token: int, op: int, key: bytes, value: bytes) -> None:
        table = self._front.table
        if op == OPS[PUT]:
            table.put(key, value, callback=lambda _, error: self._answer(token, REFUSED if error else DONE))
        elif op == OPS[GET]:
            table.get(key, callback=partial(self._got, token))
        else:
            status = {"applied": table.raftLastApplied, "term": table._getTerm(), "is_leader": table._isLeader()}
            self._answer(token, DONE, json.dumps(status).encode())

    def _got(self, token: int, value: bytes | None, error: int) -> None:
        self._answer(token, REFUSED if error else NO_SUCH_KEY if value is None else DONE, value or b"")


def main() -> None:
    """One replica, for ever."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--self", dest="me", required=True)
    parser.add_argument("--others", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--sync", action="store_true")
    arguments = parser.parse_args()
    if arguments.sync:
        add_sync()
    files = {"journalFile": f"{arguments.folder}/journal", "fullDumpFile": f"{arguments.folder}/dump"}
    settings = SyncObjConf(autoTick=False, **SETTINGS, **files)
    table = Table(arguments.me, arguments.others.split(","), settings)
    front = Front(table, arguments.port)
    table.addOnTickCallback(front.flush)
    assert pysyncobj.version.VERSION
    while True:
        table.doTick(TICK_SECONDS)
        front.flush()


if __name__ == "__main__":
    main()
