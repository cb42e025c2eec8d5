"""A bare member of a consensus cluster in a process of its own: driver, log, transport, and a table as state machine.

No catalog, no HTTP, nothing of a node but consensus, on a real disk and real sockets: for tests with processes and for
benchmarks. ``python -m tests.e2e.raftd --name n0 --members n0=127.0.0.1:7000,n1=… --port 8000 --folder D`` serves
`tests.e2e.framed`: a put is answered with the index of its entry once that is agreed on and applied here, a get is
linearizable at any member, and a refusal reads ``code`` or ``code leader``.
"""

from __future__ import annotations

import argparse
import gc
import json
import signal
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cbor2
import trio

from arc.cluster.calls import Calls
from arc.cluster.transport import PeerTransport
from arc.errors import ArcError
from arc.raft.config import Config
from arc.raft.node import RaftNode
from arc.raft.requests import NotLeading, Proposed
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, Peer
from arc.system import system_ports
from arc.telemetry import Log
from arc.telemetry.sinks import JsonSink
from arc.wire.door import PeerSecurity
from arc.wire.facts import Address, ClusterIdentity, PeerFacts
from tests.e2e.framed import DONE, GET, NO_SUCH_KEY, OPS, ORDER, PUT, REFUSED, reply, take_requests

RECEIVE_BYTES = 1 << 18
ORDER_KEYS_MAX = 10_000
"""Keys in one answer about the order."""
CHUNK_ENTRIES = 4096
_KEY = struct.Struct("<H")


class Table:
    """Key to value, and every entry in the order in which it was applied."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.indexes: list[int] = []
        self.keys: list[bytes] = []
        """Of every command; two lists, because a million tuples would be a burden for the collector."""
        self.digest = 0
        """Of all commands with their places: equal digests, equal histories."""

    def apply(self, entry: Entry, /) -> object:
        """Take in one entry; returns its index."""
        if entry.kind is EntryKind.COMMAND:
            assert isinstance(entry.payload, bytes)
            key = key_of(entry.payload)
            self.values[key] = entry.payload[_KEY.size + len(key) :]
            self.indexes.append(entry.index)
            self.keys.append(key)
            self.digest = zlib.crc32(entry.payload, self.digest ^ entry.index & 0xFFFFFFFF)
        return entry.index

    def freeze(self) -> Callable[[], Iterable[bytes]]:
        """Copies of the two lists; cheap beside their contents."""
        values, digest = list(self.values.items()), self.digest
        order = list(zip(self.indexes, self.keys, strict=True))

        def encode() -> Iterator[bytes]:
            yield cbor2.dumps((digest, len(values), len(order)))
            for rows in (values, order):
                for start in range(0, len(rows), CHUNK_ENTRIES):
                    yield cbor2.dumps(rows[start : start + CHUNK_ENTRIES])

        return encode

    def thaw(self, index: int, chunks: Iterator[bytes], /) -> Callable[[], None]:
        """Read what `freeze` wrote, chunk by chunk."""
        digest, value_count, order_count = cbor2.loads(next(chunks))
        values: dict[bytes, bytes] = {}
        order: list[tuple[int, bytes]] = []
        while len(values) < value_count:
            values.update((key, value) for key, value in cbor2.loads(next(chunks)))
        while len(order) < order_count:
            order.extend((place, key) for place, key in cbor2.loads(next(chunks)))
        assert next(chunks, None) is None  # The end is where the checksum of the whole is looked at.

        def install() -> None:
            self.values, self.digest = values, digest
            self.indexes, self.keys = [index for index, _ in order], [key for _, key in order]

        return install


def command_of(key: bytes, value: bytes) -> bytes:
    """The payload of a put."""
    return _KEY.pack(len(key)) + key + value


def key_of(payload: bytes) -> bytes:
    """The key that a command is about."""
    (length,) = _KEY.unpack_from(payload)
    return payload[_KEY.size : _KEY.size + length]


class Client:
    """One connection: requests in, answers out in the order in which they come about."""

    def __init__(self, node: RaftNode, table: Table, stream: trio.SocketStream) -> None:
        self._node, self._table, self._stream = node, table, stream
        self._out = bytearray()
        self._wake = trio.Event()

    async def run(self) -> None:
        """Serve until the other side goes."""
        received = bytearray()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            try:
                while data := await self._stream.receive_some(RECEIVE_BYTES):
                    received += data
                    for token, op, key, value in take_requests(received):
                        if op == OPS[PUT]:
                            self._put(token, command_of(key, value))
                        elif op == OPS[GET]:
                            self._get(token, key)
                        elif op == OPS[ORDER]:
                            self._answer(token, DONE, self._order(int(key)))
                        else:
                            self._answer(token, DONE, self._status())
            except trio.BrokenResourceError:
                pass
            nursery.cancel_scope.cancel()

    def _put(self, token: int, payload: bytes) -> None:
        def then(found: object, error: ArcError | None) -> None:
            if error is not None:
                self._answer(token, REFUSED, refusal(error))
            else:
                assert isinstance(found, Proposed)
                self._answer(token, DONE, b"%d" % found.index)

        try:
            self._node.propose_soon(payload, then)
        except ArcError as error:
            self._answer(token, REFUSED, refusal(error))

    def _get(self, token: int, key: bytes) -> None:
        def then(_: object, error: ArcError | None) -> None:
            if error is not None:
                self._answer(token, REFUSED, refusal(error))
            else:
                found = self._table.values.get(key)
                self._answer(token, NO_SUCH_KEY if found is None else DONE, found or b"")

        try:
            self._node.read_soon(then)
        except ArcError as error:
            self._answer(token, REFUSED, refusal(error))

    def _order(self, start: int) -> bytes:
        end = start + ORDER_KEYS_MAX
        return cbor2.dumps(list(zip(self._table.indexes[start:end], self._table.keys[start:end], strict=True)))

    def _status(self) -> bytes:
        status, counts = self._node.status(), self._node.counts()
        leader = self._node.leader
        return json.dumps(
            {
                "is_leader": self._node.is_leader,
                "leader": None if leader is None else leader.name,
                "term": status.term,
                "applied": counts.applied,
                "commands": len(self._table.keys),
                "digest": self._table.digest,
                "counts": counts._asdict(),
            }
        ).encode()

    def _answer(self, token: int, ok: int, payload: bytes) -> None:
        self._out += reply(token, ok, payload)
        self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while self._out:
                data, self._out = self._out, bytearray()
                await self._stream.send_all(data)


def refusal(error: ArcError) -> bytes:
    """What a client needs to know: the code, and who leads if that is known."""
    return f"{error.code} {error.leader}".encode() if isinstance(error, NotLeading) else error.code.encode()


async def serve(arguments: argparse.Namespace) -> None:
    """One member until it is told to stop (SIGTERM)."""
    members = dict(each.split("=") for each in arguments.members.split(","))
    me = Peer(arguments.name)
    config = Config(election_timeout_seconds=arguments.election_seconds, heartbeat_seconds=arguments.heartbeat_seconds)
    ports = system_ports(arguments.folder)
    log = Log([JsonSink(sys.stderr)], ports.clock.wall_us)
    founders = Configuration(voters=tuple(sorted(Peer(name) for name in members)))
    storage = RaftStorage.open(ports.disk, "raft", me=me, founders=founders)
    for finding in storage.findings:
        log.warning("raft_finding", text=finding)
    table = Table()
    node = RaftNode(me, config, storage, table, ports=ports, log=log, snapshot_entries=arguments.snapshot_entries)
    transport = PeerTransport(
        me,
        network=ports.network,
        rng=ports.rng,
        clock=ports.clock,
        log=log,
        security=PeerSecurity(secret=b"of members for tests"),
        identity=lambda: ClusterIdentity("raftd"),
        address_of=members.get,
        describe=PeerFacts,
        channels={},
        connected=lambda peer, facts: None,
        unreachable=node.unreachable,
        receive=node.receive,
        answer=Calls({}, log).answer,
    )

    async def serve_client(stream: trio.SocketStream) -> None:
        await Client(node, table, stream).run()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_stop_at_signal, nursery.cancel_scope)
        await nursery.start(transport.run, *Address.parse(members[me.name]))
        await nursery.start(node.run, transport.send)
        await nursery.start(trio.serve_tcp, serve_client, arguments.port)


async def _stop_at_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


def main() -> None:
    """Parse, run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--members", required=True, help="name=host:port of every member, with commas")
    parser.add_argument("--port", type=int, required=True, help="for clients")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--election-seconds", type=float, default=Config().election_timeout_seconds)
    parser.add_argument("--heartbeat-seconds", type=float, default=Config().heartbeat_seconds)
    parser.add_argument("--snapshot-entries", type=int, default=100_000, help="as etcd")
    arguments = parser.parse_args()
    gc.set_threshold(50_000, 50, 100)  # as `arc serve`
    gc.freeze()
    trio.run(serve, arguments)


if __name__ == "__main__":
    main()
