"""A write path on a real disk without HTTP and without consensus: what the intake and flush tests stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import trio

from arc.catalog.commands import AssignLease, Command
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.cluster.registrar import FileRegistrar
from arc.ids import Epoch, NodeId
from arc.ingest.buffer import EVERYTHING, Buffer, Key
from arc.ingest.columns import Column, Decoded, Kind, Refused, Request
from arc.ingest.config import IngestConfig
from arc.ingest.durable import LocalDurability
from arc.ingest.flush import Flusher
from arc.ingest.intake import Intake
from arc.ingest.keys import IdempotencyKeys
from arc.ingest.memory import MemoryBudget
from arc.ingest.replay import replay
from arc.ingest.requests import WriteRequest
from arc.ingest.retirement import Retirement
from arc.ingest.visibility import Visibility
from arc.ports import Clock, Disk
from arc.storage.config import WalConfig
from arc.storage.shelf import Shelf
from arc.storage.wal.history import History
from arc.storage.wal.keys import load_keys
from arc.storage.wal.log import WalLog
from arc.system import SystemClock, SystemDisk, SystemWorkers
from arc.telemetry import Log

WAL = WalConfig(segment_bytes=1 << 18)
CONFIG = IngestConfig()


@dataclass
class DirectProposer:
    """Applies at once; `before` may raise instead, `after` loses an answer."""

    fsm: ClusterFSM
    before: Callable[[Command], None] = lambda command: None
    after: Callable[[Command], None] = lambda command: None
    proposed: list[Command] = field(default_factory=list)

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        self.before(command)
        self.proposed.append(command)
        result = self.fsm.apply(self.fsm.catalog.index + 1, command).result
        self.after(command)
        return result


@dataclass
class WritePath:
    fsm: ClusterFSM
    proposer: DirectProposer
    wal: WalLog
    buffer: Buffer
    keys: IdempotencyKeys
    intake: Intake
    flusher: Flusher
    disk: Disk

    def rows(self, measurement: str = "cpu", database: str = "db") -> int:
        """Rows a query would see now: files of the manifest plus the buffer above the mark."""
        catalog = self.fsm.catalog
        buffered = self.buffer.snapshot(database, measurement, catalog.mark(database, measurement))
        return sum(f.rows for f in catalog.files(database, measurement)) + sum(b.num_rows for b in buffered)


def values(count: int, *, measurement: str = "cpu", start: int = 0, step_us: int = 1000) -> Decoded:
    """Rows with one tag and one float, ``step_us`` apart."""
    return Decoded(
        measurement=measurement,
        time=pa.array([start + n * step_us for n in range(count)], pa.int64()),
        columns=(
            Column("host", Kind.TAG, pa.array([f"h{n % 3}" for n in range(count)]).dictionary_encode()),
            Column("value", Kind.FLOAT, pa.array([float(n) for n in range(count)])),
        ),
    )


def write(
    *batches: Decoded,
    key: str | None = None,
    fingerprint: int = 0,
    refused: tuple[Refused, ...] = (),
    strict: bool = False,
) -> WriteRequest:
    return WriteRequest(
        database="db",
        decoded=Request(tuple(batches), refused),
        idempotency_key=key,
        fingerprint=fingerprint,
        strict=strict,
    )


def nobody_else(evicted: list[Key]) -> None:
    """Every file can be read here, so no rows are kept, and none have to go."""
    assert evicted == []


@asynccontextmanager
async def open_write_path(
    root: Path,
    *,
    fsm: ClusterFSM | None = None,
    disk: Disk | None = None,
    config: IngestConfig = CONFIG,
    wal_config: WalConfig = WAL,
    durability: object | None = None,
    shelf: Shelf | None = None,
    clock: Clock | None = None,
) -> AsyncIterator[WritePath]:
    """Boot as a node does: lease, WAL, replay, intake. Leaving is a crash: nothing is flushed or closed."""
    fsm = fsm if fsm is not None else ClusterFSM()
    disk = disk if disk is not None else SystemDisk(root)
    clock, workers = clock if clock is not None else SystemClock(), SystemWorkers(4)
    lease = fsm.catalog.leases.get("writer")
    granted = fsm.apply(
        fsm.catalog.index + 1,
        AssignLease(lease="writer", node=NodeId("n1"), expect_epoch=lease.epoch if lease else 0),
    ).result
    assert granted.ok, granted
    epoch = Epoch(granted.index)
    proposer = DirectProposer(fsm)
    buffer = Buffer()
    keys = IdempotencyKeys(window_us=3_600_000_000, keys_max=1000, now=clock.now)
    memory = MemoryBudget(config.memory_bytes, lambda: buffer.size_bytes)
    wal = WalLog.open(disk, workers, clock, wal_config, first_sequence=1)
    await replay(
        wal,
        catalog=fsm.catalog,
        buffer=buffer,
        keys=keys,
        stored_keys=load_keys(disk),
        clock=clock,
        workers=workers,
        report=lambda progress: None,
        history=History(),
        is_readable=lambda path: True,
    )
    retirement = Retirement(buffer, lambda: fsm.catalog, lambda path: True, EVERYTHING)
    visibility = Visibility(buffer, wal.next_sequence - 1)
    intake = Intake(
        config=config,
        group_bytes=wal_config.group_bytes,
        epoch=epoch,
        clock=clock,
        workers=workers,
        catalog=lambda: fsm.catalog,
        propose=proposer,
        log=wal,
        durability=durability if durability is not None else LocalDurability(wal),  # type: ignore[arg-type]
        buffer=buffer,
        keys=keys,
        memory=memory,
        visibility=visibility,
    )
    log = Log([], clock.wall_us)
    flusher = Flusher(
        config=config,
        wal_bytes_max=wal_config.max_bytes,
        node=NodeId("n1"),
        epoch=epoch,
        clock=clock,
        disk=disk,
        workers=workers,
        buffer=buffer,
        keys=keys,
        wal=wal,
        registrar=FileRegistrar(proposer, lambda: fsm.catalog, epoch, log),
        admitted=lambda: intake.admitted_sequence,
        needed_from=lambda: EVERYTHING,
        stored=lambda path: None,
        retire=lambda key: nobody_else(retirement.settle([key])),
        log=log,
        shelf=shelf,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(intake.run)
        await nursery.start(flusher.run)
        yield WritePath(fsm, proposer, wal, buffer, keys, intake, flusher, disk)
        nursery.cancel_scope.cancel()
