"""The floor: what any Raft in Python pays at the least. A fixed leader, group commit, nothing else.

Whatever came in one turn of the loop is one batch: sent to both followers, appended and synced, answered when one
follower has done the same. No elections, no terms, no checks, no recovery; reads are answered from memory, nobody is
asked. ``python -m benchmarks.consensus.floor_node --port P --log FILE [--peers P1,P2]``: with peers it leads.
"""

from __future__ import annotations

import argparse
import os
import struct
from collections import deque

import trio

from tests.e2e.framed import DONE, GET, NO_SUCH_KEY, OPS, PUT, reply, take_requests

_HEADER = struct.Struct("<II")  # length, batch number
_ACK = struct.Struct("<I")
RECEIVE_BYTES = 1 << 20


class Log:
    """Append and fdatasync, in the loop: a thread would cost more than the wait."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def append(self, data: bytes) -> None:
        """Durable on return."""
        os.write(self._fd, data)
        os.fdatasync(self._fd)


async def follow(port: int, log: Log) -> None:
    """Take batches, sync, acknowledge the last one."""

    async def serve(stream: trio.SocketStream) -> None:
        received = bytearray()
        while data := await stream.receive_some(RECEIVE_BYTES):
            received += data
            start, number, batches = 0, 0, []
            while len(received) - start >= _HEADER.size:
                length, number_here = _HEADER.unpack_from(received, start)
                end = start + _HEADER.size + length
                if end > len(received):
                    break
                batches.append(bytes(received[start + _HEADER.size : end]))
                start, number = end, number_here
            if batches:
                log.append(b"".join(batches))
                await stream.send_all(_ACK.pack(number))
                del received[:start]

    await trio.serve_tcp(serve, port, host="127.0.0.1")


class Client:
    """One connection's unsent answers."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.out = bytearray()
        self.wake = trio.Event()

    def answer(self, token: int, ok: int, payload: bytes = b"") -> None:
        """Queue one."""
        self.out += reply(token, ok, payload)
        self.wake.set()

    async def write(self) -> None:
        """Send what is queued, for ever."""
        while True:
            await self.wake.wait()
            self.wake = trio.Event()
            while self.out:
                data, self.out = self.out, bytearray()
                await self.stream.send_all(data)


class Leader:
    """Batches, who has them, and who waits for them."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._records: list[bytes] = []
        self._askers: list[tuple[Client, int]] = []
        self._wake = trio.Event()
        self._table: dict[bytes, bytes] = {}
        self._links: list[trio.MemorySendChannel[bytes]] = []
        self._matched: dict[int, int] = {}
        self._synced = self._number = 0
        self._waiting: deque[tuple[int, list[tuple[Client, int]]]] = deque()

    async def run(self, port: int, peers: list[int]) -> None:
        """Connect to the followers, then serve."""
        async with trio.open_nursery() as nursery:
            for peer in peers:
                sender, receiver = trio.open_memory_channel[bytes](1024)
                self._links.append(sender)
                await nursery.start(self._replicate, peer, receiver)
            nursery.start_soon(self._commit)
            await trio.serve_tcp(self._serve, port, host="127.0.0.1")

    async def _replicate(
        self, port: int, batches: trio.MemoryReceiveChannel[bytes], *, task_status: trio.TaskStatus[None]
    ) -> None:
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
                break
            except OSError:
                await trio.sleep(0.01)
        self._matched[port] = 0
        task_status.started()

        async def send() -> None:
            async for batch in batches:
                await stream.send_all(batch)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            received = bytearray()
            while data := await stream.receive_some(RECEIVE_BYTES):
                received += data
                whole = len(received) // _ACK.size * _ACK.size
                if whole:
                    (self._matched[port],) = _ACK.unpack_from(received, whole - _ACK.size)
                    del received[:whole]
                    self._advance()

    async def _commit(self) -> None:
        """One batch on its way at a time: what comes meanwhile makes the next one bigger."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            if not self._records or self._waiting:
                continue
            data, askers = b"".join(self._records), self._askers
            self._records, self._askers = [], []
            self._number += 1
            for link in self._links:
                await link.send(_HEADER.pack(len(data), self._number) + data)
            self._waiting.append((self._number, askers))
            await trio.lowlevel.checkpoint()  # the followers' batch leaves before our own sync blocks the loop
            self._log.append(data)
            self._synced = self._waiting[-1][0]
            self._advance()

    def _advance(self) -> None:
        agreed = min(self._synced, max(self._matched.values()))
        while self._waiting and self._waiting[0][0] <= agreed:
            for client, token in self._waiting.popleft()[1]:
                client.answer(token, DONE)
        if self._records:
            self._wake.set()

    async def _serve(self, stream: trio.SocketStream) -> None:
        client = Client(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.write)
            received = bytearray()
            try:
                while data := await stream.receive_some(RECEIVE_BYTES):
                    received += data
                    self._take(client, received)
            except trio.BrokenResourceError:
                pass
            nursery.cancel_scope.cancel()

    def _take(self, client: Client, received: bytearray) -> None:
        for token, op, key, value in take_requests(received):
            if op == OPS[PUT]:
                self._table[key] = value
                self._records.append(key + value)
                self._askers.append((client, token))
            elif op == OPS[GET]:
                found = self._table.get(key)
                client.answer(token, NO_SUCH_KEY if found is None else DONE, found or b"")
            else:
                client.answer(token, DONE, b"{}")
        if self._records:
            self._wake.set()


def main() -> None:
    """One process of three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--peers", default="")
    arguments = parser.parse_args()
    log = Log(arguments.log)
    if arguments.peers:
        trio.run(Leader(log).run, arguments.port, [int(port) for port in arguments.peers.split(",")])
    else:
        trio.run(follow, arguments.port, log)


if __name__ == "__main__":
    main()
