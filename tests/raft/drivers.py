"""Several drivers in one Trio run: real storage on memory disks, messages by function call, time that jumps.

Needs the ``autojump_clock`` fixture. A `Member` can be stopped (its tasks end in order), killed (its disk is copied
first, as after a power cut) and cut off from others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager

import cbor2
import trio

from arc.ports import Ports
from arc.raft.config import Config
from arc.raft.messages import Message
from arc.raft.node import RaftNode
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, Peer
from arc.telemetry import Log
from tests.fakes import InlineWorkers, MemoryDisk, SeededRng, make_ports

LOG = Log([], lambda: 0)
CONFIG = Config(election_timeout_seconds=1.0, heartbeat_seconds=0.1, trailing_entries=5)
LATENCY_SECONDS = 0.001


class TrioClock:
    """The clock of the Trio run."""

    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return round(trio.current_time() * 1e6)


async def until(condition: Callable[[], bool]) -> None:
    """Let simulated time pass until it holds; a test that waits in vain ends by its time limit."""
    while not condition():  # noqa: ASYNC110  # time is simulated, and nobody tells what a test waits for
        await trio.sleep(0.01)


class Journal:
    """A state machine that remembers what it was told, in order. ``stalled`` keeps `thaw` from being needed."""

    def __init__(self) -> None:
        self.index = 0
        self.told: list[tuple[int, bytes]] = []

    def apply(self, entry: Entry) -> object:
        assert entry.index == self.index + 1
        self.index = entry.index
        if entry.kind is not EntryKind.COMMAND:
            return None
        assert isinstance(entry.payload, bytes)
        self.told.append((entry.index, entry.payload))
        return f"did {entry.payload.decode()}"

    def freeze(self) -> Callable[[], Iterable[bytes]]:
        version = (self.index, list(self.told))
        return lambda: [cbor2.dumps(version)]

    def thaw(self, index: int, chunks: Iterator[bytes]) -> Callable[[], None]:
        found, told = cbor2.loads(b"".join(chunks))
        assert found == index

        def install() -> None:
            self.index = index
            self.told = [(place, payload) for place, payload in told]

        return install

    @property
    def commands(self) -> list[bytes]:
        return [payload for _, payload in self.told]


class Member:
    """One node: its disk outlives its runs."""

    def __init__(self, cluster: Cluster, me: Peer, *, is_founder: bool = True, config: Config = CONFIG) -> None:
        self.cluster = cluster
        self.me = me
        self.config = config
        self.disk = MemoryDisk()
        self.workers = InlineWorkers()
        self.is_founder = is_founder
        self.snapshot_entries = 10_000
        self.machine = Journal()
        self.raft: RaftNode | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()
        self.failure: BaseException | None = None

    @property
    def ports(self) -> Ports:
        rng = SeededRng(len(self.cluster.members) + self.cluster.starts)
        return make_ports(clock=TrioClock(), rng=rng, disk=self.disk, workers=self.workers)

    async def start(self) -> RaftNode:
        """Begin a run from what is on the disk."""
        self.cluster.starts += 1
        founders = Configuration(voters=self.cluster.founders) if self.is_founder else Configuration()
        storage = RaftStorage.open(self.disk, "raft", me=self.me, founders=founders, segment_bytes=65536)
        self.machine = Journal()
        self.raft = RaftNode(
            self.me,
            self.config,
            storage,
            self.machine,
            ports=self.ports,
            log=LOG,
            snapshot_entries=self.snapshot_entries,
        )
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        await self.cluster.nursery.start(self._run, self.raft)
        return self.raft

    async def _run(self, raft: RaftNode, *, task_status: trio.TaskStatus[None]) -> None:
        try:
            with self._scope:
                await raft.run(self.cluster.sender(self), task_status=task_status)
        except* Exception as group:
            self.failure = group.exceptions[0]
        finally:
            self.raft = None
            self._ended.set()

    async def stop(self) -> None:
        """The orderly end."""
        self._scope.cancel()
        await self._ended.wait()

    async def kill(self) -> None:
        """The power goes: what the orderly end would still write is not there."""
        left = self.disk.copy()
        await self.stop()
        self.disk = left

    async def ended(self) -> BaseException | None:
        """Wait for a run that ends by itself; what it failed with."""
        await self._ended.wait()
        failure = self.failure
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
        return failure


class Cluster:
    """Members and what lies between them. ``cut`` holds directed (from, to) names that hear nothing."""

    def __init__(self, nursery: trio.Nursery, names: Iterable[str]) -> None:
        self.nursery = nursery
        self.founders = tuple(Peer(name) for name in names)
        self.members: dict[str, Member] = {}
        self.cut: set[tuple[str, str]] = set()
        self.starts = 0
        self.sent: list[Message] = []
        for peer in self.founders:
            self.members[peer.name] = Member(self, peer)

    def sender(self, member: Member) -> Callable[[Message], None]:
        """How this member's messages travel."""

        def send(message: Message) -> None:
            self.sent.append(message)
            if (member.me.name, message.to.name) not in self.cut:
                self.nursery.start_soon(self._deliver, message)

        return send

    async def _deliver(self, message: Message) -> None:
        await trio.sleep(LATENCY_SECONDS)
        member = self.members.get(message.to.name)
        if member is not None and member.raft is not None:
            member.raft.receive(message)

    def isolate(self, name: str) -> None:
        """Nobody hears this member and it hears nobody."""
        for other in self.members:
            self.cut |= {(name, other), (other, name)}

    async def start(self) -> RaftNode:
        """Start everybody; returns the leader."""
        for member in self.members.values():
            await member.start()
        return await self.leader()

    async def leader(self, *, but: str = "") -> RaftNode:
        """Wait until somebody (other than ``but``) leads and its lead is confirmed by a commit of its own."""
        while True:
            for name, member in sorted(self.members.items()):
                if name != but and member.raft is not None and member.raft.is_leader:
                    status = member.raft.status()
                    if status.commit and status.commit == status.last_index:
                        return member.raft
            await trio.sleep(0.01)

    async def settled(self) -> None:
        """Wait until every running member has applied the same, and all of it."""

        def is_settled() -> bool:
            running = [member for member in self.members.values() if member.raft is not None]
            seen = {(m.raft.status().applied, m.raft.status().last_index, m.machine.index) for m in running if m.raft}
            return len(seen) == 1 and len(set(next(iter(seen)))) == 1

        await until(is_settled)


@asynccontextmanager
async def cluster_of(*names: str) -> AsyncIterator[Cluster]:
    """A cluster that is not started yet; it ends with the block."""
    async with trio.open_nursery() as nursery:
        yield Cluster(nursery, names)
        nursery.cancel_scope.cancel()
