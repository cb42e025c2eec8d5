"""The power goes at every single disk step of a busy little life, and every acknowledged row is there once
afterwards.

A recording disk keeps a copy of itself before each step that changes it, and for log writes also copies in which only
a part of the write arrived. Each copy is then a machine that lost power there: a node boots from it, and what it
shows is compared with what had been acknowledged at that moment. The whole node below HTTP takes part: proposals,
catalog, WAL, intake, flush, registrar, replay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
import trio

from arc.catalog.bootstrap import bootstrap_commands
from arc.catalog.fsm import ClusterFSM
from arc.cluster.config import ClusterConfig, ConsensusConfig
from arc.cluster.consensus import running_consensus
from arc.cluster.feed import Feed
from arc.cluster.identity import Identity, founded_alone
from arc.cluster.identityfile import IdentityFile
from arc.duties import WriterDuty
from arc.ids import NodeId
from arc.ingest.buffer import Buffer
from arc.ingest.columns import Column, Decoded, Kind, Request
from arc.ingest.config import IngestConfig
from arc.ingest.requests import WriteRequest
from arc.ports import BLOCK_BYTES
from arc.raft.config import Config as RaftConfig
from arc.replication.crossing import Replication
from arc.storage.config import StorageConfig, WalConfig
from arc.storage.keeper import DATA, FileKeeper
from arc.telemetry import Log
from tests.cluster.test_proposals import Nobody
from tests.fakes import ManualClock, MemoryDisk, make_ports
from tests.raft.steps import StepDisk

NODE = NodeId("n1")
SMALL_WAL = WalConfig(segment_bytes=8 * BLOCK_BYTES)
SMALL_LOG = ConsensusConfig(segment_bytes=4 * BLOCK_BYTES, snapshot_entries=6, raft=RaftConfig(trailing_entries=0))


@dataclass(frozen=True)
class Moment:
    """The disk as it was when the power went, and what clients had been told until then."""

    step: str
    disk: MemoryDisk
    acknowledged: frozenset[int]
    sent: frozenset[int]


@dataclass
class Client:
    """Writes rows with running numbers and remembers what it was told."""

    acknowledged: set[int] = field(default_factory=set)
    sent: set[int] = field(default_factory=set)
    keys: dict[str, tuple[int, ...]] = field(default_factory=dict)

    async def write(self, writer: WriterDuty, ids: Sequence[int], *, key: str | None = None, two: bool = False) -> None:
        self.sent.update(ids)
        if key is not None:
            self.keys[key] = tuple(ids)
        await writer.write(request(ids, key=key, two=two))
        self.acknowledged.update(ids)


class RecordingDisk(StepDisk):
    """Keeps a copy of itself for every step, with what the client had been told by then."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.client = client
        self.moments: list[Moment] = []
        self.watch = self._record

    def _record(self, step: str, disk: MemoryDisk) -> None:
        self.moments.append(Moment(step, disk, frozenset(self.client.acknowledged), frozenset(self.client.sent)))


@dataclass
class Running:
    writer: WriterDuty
    fsm: ClusterFSM
    buffer: Buffer
    disk: MemoryDisk

    def visible(self) -> Counter[int]:
        """How often each row number is seen: files of the manifest, and the buffer above their marks."""
        catalog = self.fsm.catalog
        seen: Counter[int] = Counter()
        for entry in catalog.all_files():
            table = pq.read_table(pa.BufferReader(self.disk.read(f"{DATA}/{entry.path}")))
            seen.update(table.column("id").to_pylist())
        for measurement in ("cpu", "mem"):
            for batch in self.buffer.snapshot("db", measurement, catalog.mark("db", measurement)):
                seen.update(batch.column("id").to_pylist())
        return seen


@asynccontextmanager
async def boot(disk: MemoryDisk) -> AsyncIterator[Running]:
    """As `arc.node` does it, without HTTP. Leaving is a crash."""
    ports = make_ports(disk=disk, clock=ManualClock())
    log = Log([], ports.clock.wall_us)
    fsm, buffer = ClusterFSM(), Buffer()
    feed, founder = Feed(), founded_alone(Identity(node=NODE, incarnation=7), ports.rng, "")
    async with (
        running_consensus(
            ports,
            SMALL_LOG,
            ClusterConfig(),
            IdentityFile(ports.disk, ports.workers, founder),
            fsm=fsm,
            feed=feed,
            log=log,
            meet=lambda _: Nobody(),
        ) as (consensus, _),
        trio.open_nursery() as nursery,
    ):
        keeper = FileKeeper(disk, ports.workers, ports.clock, StorageConfig())
        writer = WriterDuty(
            ingest=IngestConfig(),
            wal=SMALL_WAL,
            storage=StorageConfig(),
            ports=ports,
            node=NODE,
            catalog=lambda: fsm.catalog,
            feed=feed,
            propose=consensus.proposals,
            buffer=buffer,
            replication=Replication(),
            post=None,
            is_readable=keeper.is_here,
            stored=keeper.came,
            factor=2,
            leader_heard=lambda: 0.0,
            confirm=consensus.raft.read,
            log=log,
        )
        await consensus.catch_up()
        for command in bootstrap_commands(fsm.catalog, NODE, 0, None):
            (await consensus.proposals.propose(command)).unwrap()
        await keeper.look(fsm.catalog.all_files())
        await nursery.start(writer.run, lambda progress: None)
        yield Running(writer, fsm, buffer, disk)
        nursery.cancel_scope.cancel()


def request(ids: Sequence[int], *, key: str | None = None, two: bool = False) -> WriteRequest:
    halves = [("cpu", ids[::2]), ("mem", ids[1::2])] if two else [("cpu", ids)]
    batches = tuple(
        Decoded(
            measurement=name,
            time=pa.array([1_700_000_000_000_000 + n * 40_000_000 for n in part], pa.int64()),
            columns=(
                Column("host", Kind.TAG, pa.array([f"h{n % 3}" for n in part]).dictionary_encode()),
                Column("id", Kind.INTEGER, pa.array(part, pa.int64())),
                Column("text", Kind.STRING, pa.array(["x" * 300] * len(part))),
            ),
        )
        for name, part in halves
        if part
    )
    return WriteRequest(database="db", decoded=Request(batches), idempotency_key=key)


async def busy_life(client: Client, disk: RecordingDisk) -> None:
    """Writes of all sizes, alone and together, with keys; flushes between and beside them; several segments' worth."""
    number = 0

    def take(count: int) -> range:
        nonlocal number
        number += count
        return range(number - count, number)

    async with boot(disk) as node:
        for turn in range(5):
            await client.write(node.writer, take(3), key=f"k{turn}")
            await client.write(node.writer, take(60), two=True)
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(client.write, node.writer, take(7))
                nursery.start_soon(node.writer.flush_all)
            await client.write(node.writer, take(2))
        await node.writer.finish()


async def test_power_cut_at_every_disk_step_loses_and_doubles_nothing() -> None:
    client = Client()
    disk = RecordingDisk(client)
    await busy_life(client, disk)
    steps = " ".join(moment.step for moment in disk.moments)
    for needed in ("parquet", ".spare", "keys.json", "snapshot", "front of", "odd of", "wal/000000000004"):
        assert needed in steps, f"this life never reached {needed}"
    for moment in disk.moments:
        async with boot(moment.disk) as node:
            seen = node.visible()
            lost = moment.acknowledged - seen.keys()
            doubled = {number for number, count in seen.items() if count > 1}
            never_sent = seen.keys() - moment.sent
            assert not (lost or doubled or never_sent), f"{moment.step}: {lost=} {doubled=} {never_sent=}"


async def test_power_cut_then_retry_with_the_same_key_stores_once() -> None:
    client = Client()
    disk = RecordingDisk(client)
    await busy_life(client, disk)
    for moment in disk.moments[::3]:
        async with boot(moment.disk) as node:
            for key, ids in client.keys.items():
                if moment.sent.issuperset(ids):
                    await node.writer.write(request(ids, key=key))
                    await node.writer.flush_all()
            seen = node.visible()
            wrong = {
                n: seen[n]
                for key, ids in client.keys.items()
                if moment.sent.issuperset(ids)
                for n in ids
                if seen[n] != 1
            }
            assert not wrong, f"{moment.step}: {wrong}"
