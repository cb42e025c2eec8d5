"""Nodes that write and follow, without HTTP and without Raft: the duties of each on a disk in memory, one agreed list
of commands, and links that lose whatever is on the way when they break.

Needs the ``autojump_clock`` fixture. A link delivers in order within a lane; the two lanes overtake each other. A
killed node comes back on the disk it left.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
import trio

from arc.catalog.commands import AssignLease, Command, CreateDatabase, DescribeNode, SetInSync
from arc.catalog.fsm import Catalog, ClusterFSM
from arc.catalog.results import Result
from arc.cluster.feed import Feed
from arc.duties import WriterDuty
from arc.errors import OutcomeUnknown, Unavailable
from arc.ids import NodeId, Position
from arc.ingest.buffer import Buffer
from arc.ingest.columns import Column, Decoded, Kind, Request
from arc.ingest.config import IngestConfig
from arc.ingest.keys import fingerprint_of
from arc.ingest.requests import WriteRequest
from arc.ports import BLOCK_BYTES
from arc.query.snapshot import SnapshotTaker, TableRange
from arc.replication.crossing import Replication
from arc.storage.config import StorageConfig, WalConfig
from arc.storage.keeper import DATA
from arc.telemetry import Log, RingSink
from tests.fakes import MemoryDisk, make_ports

DELAY_SECONDS = 0.001
WAL = WalConfig(segment_bytes=8 * BLOCK_BYTES, lag_timeout_seconds=3.0)
INGEST = IngestConfig(write_timeout_seconds=20.0)
QUEUE_MESSAGES_MAX = 16


class TrioClock:
    """Both clocks are Trio's."""

    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return 1_750_000_000_000_000 + int(trio.current_time() * 1e6)


@dataclass(eq=False)
class Wire:
    """One direction between two nodes."""

    urgent: deque[bytes] = field(default_factory=deque)
    bulk: deque[bytes] = field(default_factory=deque)
    wake: trio.Event = field(default_factory=trio.Event)
    is_up: bool = True
    delay_seconds: float = DELAY_SECONDS
    carried: int = 0


@dataclass(eq=False)
class Node:
    name: NodeId
    disk: MemoryDisk
    role: str
    fsm: ClusterFSM = field(default_factory=ClusterFSM)
    feed: Feed = field(default_factory=Feed)
    buffer: Buffer = field(default_factory=Buffer)
    replication: Replication = field(default_factory=Replication)
    applied: int = 0
    hears_raft: bool = True
    heard_seconds: float = 0.0
    is_alive: bool = False
    duty: WriterDuty = None  # type: ignore[assignment]
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    ring: RingSink = field(default_factory=lambda: RingSink(2000))

    @property
    def catalog(self) -> Catalog:
        return self.fsm.catalog

    def is_readable(self, path: str) -> bool:
        return self.disk.exists(f"{DATA}/{path}")

    def seen(self, *measurements: str) -> Counter[int]:
        """How often a query on this node would see each row number."""
        taker = SnapshotTaker(
            lambda: self.catalog, self.buffer.snapshot, coverage=self.buffer, is_readable=self.is_readable
        )
        snapshot = taker([TableRange("db", name) for name in measurements or ("cpu", "mem")])
        found: Counter[int] = Counter()
        for table in snapshot.tables.values():
            for entry in table.files:
                read = pq.read_table(pa.BufferReader(self.disk.read(f"{DATA}/{entry.path}")))
                found.update(read.column("id").to_pylist())
            for batch in table.buffered:
                found.update(batch.column("id").to_pylist())
        return found

    def sees(self, rows: Iterable[int]) -> bool:
        """Whether a query here would see exactly these, once; not while it would be refused."""
        try:
            return self.seen() == dict.fromkeys(rows, 1)
        except Unavailable:
            return False

    def logged(self) -> int:
        return self.duty.durable_sequence

    async def write(self, ids: Sequence[int], *, key: str | None = None, two: bool = False) -> Position:
        return (await self.duty.write(request(ids, key=key, two=two))).position


class Cluster:
    """Nodes by name; ``roles`` says what each may do."""

    def __init__(self, nursery: trio.Nursery, roles: dict[str, str], wal: WalConfig) -> None:
        self._nursery = nursery
        self._wal = wal
        self.factor = 2
        self.entries: list[Command] = []
        self.nodes = {name: Node(NodeId(name), MemoryDisk(), role) for name, role in roles.items()}
        self.wires = {(a, b): Wire() for a in roles for b in roles if a != b}
        self.lose_answers: Callable[[Command], bool] = lambda command: False
        self.before_propose: Callable[[Command], None] = lambda command: None
        for name, role in roles.items():
            self.agree(DescribeNode(name=NodeId(name), incarnation=2, address=f"{name}:1", role=role))
        self.agree(CreateDatabase(name="db", created_us=0))
        self.agree(AssignLease(lease="writer", node=NodeId(next(iter(roles))), expect_epoch=0))

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    # ---------------------------------------------------------------------------------------------------- the catalog

    def agree(self, command: Command) -> None:
        """A command is agreed on, and applied wherever Raft is heard."""
        self.entries.append(command)
        self.spread()

    def spread(self) -> None:
        for node in self.nodes.values():
            while node.hears_raft and node.applied < len(self.entries):
                node.applied += 1
                applied = node.fsm.apply(node.applied, self.entries[node.applied - 1])
                self.last = applied.result
                node.feed.publish(node.catalog, applied.events)

    def hear(self, name: str, hears: bool) -> None:
        self[name].hears_raft = hears
        self.spread()

    async def propose(self, name: str, command: Command) -> Result:
        await trio.sleep(0.002)
        self.before_propose(command)
        if not self[name].hears_raft:
            raise Unavailable("no leader is heard")
        self.entries.append(command)
        self.spread()
        # Every node applies the same: what another one made of it is the answer.
        result = self.last
        if self.lose_answers(command):
            raise OutcomeUnknown("the answer was lost")
        return result

    async def confirm(self, name: str) -> None:
        """Raises Unavailable where Raft is not heard within a second."""
        with trio.move_on_after(1.0):
            while self[name].applied < len(self.entries):  # noqa: ASYNC110 (a fact about another node; time is virtual)
                await trio.sleep(0.002)
            await trio.sleep(0.002)
            return
        raise Unavailable("no leader is heard")

    def assign(self, name: str, *, accepts_data_loss: bool = False) -> Result:
        """Give the writer lease to another node."""
        some = next(node for node in self.nodes.values() if node.hears_raft)
        self.agree(
            AssignLease(
                lease="writer",
                node=NodeId(name),
                expect_epoch=some.catalog.lease_epoch("writer"),
                accepts_data_loss=accepts_data_loss,
            )
        )
        return self.last

    def reigns(self, name: str) -> bool:
        """Whether this node holds the lease and has begun to."""
        found = self[name].duty.statistics()
        return found is not None and found.reign is not None

    def in_sync(self) -> set[str]:
        some = max(self.nodes.values(), key=lambda node: node.applied)
        assert some.catalog.in_sync is not None
        return set(some.catalog.in_sync.members)

    # ---------------------------------------------------------------------------------------------------------- links

    def post(self, sender: str, name: str, payload: bytes, *, is_bulk: bool) -> bool:
        wire = self.wires.get((sender, name))
        if wire is None or not wire.is_up or not self[name].is_alive:
            return False
        lane = wire.bulk if is_bulk else wire.urgent
        if len(lane) >= QUEUE_MESSAGES_MAX:
            return False
        lane.append(payload)
        wire.wake.set()
        return True

    async def carry(self, sender: str, name: str) -> None:
        wire = self.wires[sender, name]
        while True:
            if not wire.urgent and not wire.bulk:
                wire.wake = trio.Event()
                await wire.wake.wait()
            await trio.sleep(wire.delay_seconds)
            lane = wire.urgent or wire.bulk
            if lane and self[name].is_alive:
                wire.carried += 1
                self[name].replication.receive(sender, lane.popleft())

    def cut(self, a: str, b: str) -> None:
        """Break the link: what is on the way is lost, both are told."""
        self.lose(a, b)
        for one, other in ((a, b), (b, a)):
            self.wires[one, other].is_up = False
            if self[one].is_alive:
                self[one].replication.peer_down(other)

    def lose(self, a: str, b: str) -> None:
        """Lose what is on the way, and tell nobody."""
        for pair in ((a, b), (b, a)):
            self.wires[pair].urgent.clear()
            self.wires[pair].bulk.clear()

    def join(self, a: str, b: str) -> None:
        for one, other in ((a, b), (b, a)):
            self.wires[one, other].is_up = True
        for one, other in ((a, b), (b, a)):
            if self[one].is_alive and self[other].is_alive:
                self[one].replication.peer_up(other)

    def cut_off(self, name: str) -> None:
        """A node reaches nobody, and hears nothing of Raft."""
        self.hear(name, False)
        for other in self.nodes:
            if other != name:
                self.cut(name, other)

    def heal(self, name: str) -> None:
        self.hear(name, True)
        for other in self.nodes:
            if other != name:
                self.join(name, other)

    # ---------------------------------------------------------------------------------------------------------- nodes

    async def start(self, name: str) -> None:
        node = self[name]
        ports = make_ports(disk=node.disk, clock=TrioClock(), seed=sum(map(ord, name)) + len(self.entries))
        node.is_alive = True
        node.duty = WriterDuty(
            ingest=INGEST,
            wal=self._wal,
            storage=StorageConfig(reserve_bytes=0),
            ports=ports,
            node=node.name,
            catalog=lambda: node.catalog,
            feed=node.feed,
            propose=_Proposer(self, name),
            buffer=node.buffer,
            replication=node.replication,
            post=lambda to, payload, *, is_bulk: self.post(name, to, payload, is_bulk=is_bulk),
            is_readable=node.is_readable,
            stored=lambda path: None,
            factor=self.factor,
            leader_heard=lambda: node.heard_seconds,
            confirm=lambda: self.confirm(name),
            log=Log([node.ring], ports.clock.wall_us, level="debug"),
        )

        async def live(*, task_status: trio.TaskStatus[None]) -> None:
            with node.scope:
                async with trio.open_nursery() as nursery:
                    await nursery.start(node.duty.run, lambda progress: None)
                    task_status.started()
            node.ended.set()

        await self._nursery.start(live)
        for other in self.nodes:
            if other != name and self.wires[name, other].is_up and self[other].is_alive:
                self.join(name, other)

    async def kill(self, name: str) -> None:
        """The process is gone; its disk stays."""
        node = self[name]
        node.is_alive = False
        for other in self.nodes:
            if other != name:
                was_up = self.wires[name, other].is_up
                self.cut(name, other)
                self.wires[name, other].is_up = self.wires[other, name].is_up = was_up
        node.scope.cancel()
        await node.ended.wait()
        self.nodes[name] = Node(node.name, node.disk.copy(), node.role)
        self.spread()

    def copy_files(self, a: str, b: str, count: int | None = None) -> None:
        """Bring every file of one node to another, or the first of them."""
        for path in self[a].disk.walk(DATA)[:count]:
            self[b].disk.make_dirs(path.rsplit("/", 1)[0])
            self[b].disk.write_durable(path, self[a].disk.read(path))


class _Proposer:
    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    async def propose(self, command: Command) -> Result:
        return await self._cluster.propose(self._name, command)


@asynccontextmanager
async def open_cluster(
    roles: dict[str, str] | int = 3, *, wal: WalConfig = WAL, until_in_sync: bool = True
) -> AsyncIterator[Cluster]:
    """Started, the first one holds the lease, all writers are in sync unless told otherwise."""
    if isinstance(roles, int):
        roles = {f"n{number + 1}": "writer" for number in range(roles)}
    async with trio.open_nursery() as nursery:
        cluster = Cluster(nursery, roles, wal)
        for pair in cluster.wires:
            nursery.start_soon(cluster.carry, *pair)
        for name in roles:
            await cluster.start(name)
        if until_in_sync:
            writers = {name for name, role in roles.items() if role == "writer"}
            await until(lambda: cluster.in_sync() == writers)
        yield cluster
        nursery.cancel_scope.cancel()


async def until(fact: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait, in virtual time, until something is true."""
    with trio.fail_after(seconds):
        while not fact():  # noqa: ASYNC110 (a fact about other tasks' state; time is virtual)
            await trio.sleep(0.01)


def request(ids: Sequence[int], *, key: str | None = None, two: bool = False) -> WriteRequest:
    halves = [("cpu", ids[::2]), ("mem", ids[1::2])] if two else [("cpu", ids)]
    batches = tuple(
        Decoded(
            measurement=name,
            time=pa.array([1_700_000_000_000_000 + n * 1_000 for n in part], pa.int64()),
            columns=(
                Column("host", Kind.TAG, pa.array([f"h{n % 3}" for n in part]).dictionary_encode()),
                Column("id", Kind.INTEGER, pa.array(part, pa.int64())),
            ),
        )
        for name, part in halves
        if part
    )
    fingerprint = fingerprint_of(repr((ids, two)).encode())
    return WriteRequest(database="db", decoded=Request(batches), idempotency_key=key, fingerprint=fingerprint)


def is_set_in_sync(command: Command) -> bool:
    action = getattr(command, "action", command)
    return isinstance(action, SetInSync)
