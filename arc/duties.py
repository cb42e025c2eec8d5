"""What holding a lease obliges: one nursery per lease, opened when it is granted and cancelled when it is gone.

The writer's duty is the write path: the WAL, the buffer above it, the intake and the flush, all under the epoch that
the lease was granted with. Nothing is decided here; parts are built, handed their neighbours and started in order.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.fsm import Catalog
from arc.cluster.registrar import FileRegistrar, RegistrarStatistics
from arc.errors import Unavailable
from arc.ids import Epoch, NodeId
from arc.ingest.buffer import Buffer, BufferStatistics
from arc.ingest.config import IngestConfig
from arc.ingest.flush import Flusher, FlushStatistics
from arc.ingest.intake import Intake, IntakeStatistics, LocalDurability
from arc.ingest.keys import IdempotencyKeys
from arc.ingest.memory import MemoryBudget, MemoryStatistics
from arc.ingest.replay import Progress, replay
from arc.ingest.requests import WriteRequest, Written
from arc.ingest.settlement import Propose
from arc.ports import Ports
from arc.storage.config import StorageConfig, WalConfig
from arc.storage.wal.log import WalLog, WalStatistics, load_keys
from arc.telemetry import Log

SPACE_TICK_SECONDS = 1.0
"""How often free disk space is looked at: at 1 GB/s the reserve of 256 MiB is gone in a quarter of it, and the log
refuses too.
"""


class Report(Protocol):
    """Told how far the recovery is."""

    def __call__(self, progress: Progress, /) -> None:
        """Called once per segment."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterStatistics:
    """The write path, part by part."""

    ingest: IntakeStatistics
    memory: MemoryStatistics
    wal: WalStatistics
    flush: FlushStatistics
    registrar: RegistrarStatistics
    buffer: BufferStatistics


class WriterDuty:
    """The write path of this node, open while it holds the writer lease."""

    def __init__(
        self,
        *,
        ingest: IngestConfig,
        wal: WalConfig,
        storage: StorageConfig,
        ports: Ports,
        node: NodeId,
        catalog: Callable[[], Catalog],
        propose: Propose,
        buffer: Buffer,
        log: Log,
    ) -> None:
        self._ingest_config = ingest
        self._wal_config = wal
        self._storage_config = storage
        self._ports = ports
        self._node = node
        self._catalog = catalog
        self._propose = propose
        self._buffer = buffer
        self._log = log.bind(component="writer")
        self._memory = MemoryBudget(ingest.memory_bytes, lambda: buffer.size_bytes)
        self._keys = IdempotencyKeys(int(wal.idempotency_window_seconds * 1e6), wal.idempotency_keys_max)
        self._not_open = "the write-ahead log is being recovered"
        self._wal: WalLog | None = None
        self._intake: Intake | None = None
        self._flusher: Flusher | None = None
        self._registrar: FileRegistrar | None = None

    async def run(
        self, epoch: Epoch, report: Report, *, task_status: trio.TaskStatus[Progress] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Recover the WAL, then take writes until cancelled. Raises Corrupt, DiskFailed."""
        ports, catalog = self._ports, self._catalog()
        first = 1 + max((mark.sequence for mark in catalog.marks()), default=0)
        self._wal = wal = await ports.workers.run(
            lambda: WalLog.open(ports.disk, ports.workers, self._wal_config, first_sequence=first)
        )
        if wal.dropped_tail is not None:
            # Nobody was told that these bytes are stored; recycled files end this way after every crash.
            self._log.info("wal_tail_dropped", reason=wal.dropped_tail)
        recovered = await replay(
            wal,
            catalog=catalog,
            buffer=self._buffer,
            keys=self._keys,
            stored_keys=await ports.workers.run(load_keys, ports.disk),
            clock=ports.clock,
            workers=ports.workers,
            report=report,
        )
        self._registrar = FileRegistrar(self._propose, self._catalog, epoch, self._log)
        self._intake = intake = self._build_intake(wal, epoch)
        self._flusher = flusher = self._build_flusher(wal, epoch, intake, self._registrar)
        async with trio.open_nursery() as nursery:
            await nursery.start(intake.run)
            await nursery.start(flusher.run)
            nursery.start_soon(self._watch_space, intake)
            task_status.started(recovered)

    def _build_intake(self, wal: WalLog, epoch: Epoch) -> Intake:
        return Intake(
            config=self._ingest_config,
            group_bytes=self._wal_config.group_bytes,
            epoch=epoch,
            clock=self._ports.clock,
            workers=self._ports.workers,
            catalog=self._catalog,
            propose=self._propose,
            log=wal,
            durability=LocalDurability(),
            buffer=self._buffer,
            keys=self._keys,
            memory=self._memory,
        )

    def _build_flusher(self, wal: WalLog, epoch: Epoch, intake: Intake, registrar: FileRegistrar) -> Flusher:
        return Flusher(
            config=self._ingest_config,
            wal_bytes_max=self._wal_config.max_bytes,
            node=self._node,
            epoch=epoch,
            clock=self._ports.clock,
            disk=self._ports.disk,
            workers=self._ports.workers,
            buffer=self._buffer,
            keys=self._keys,
            wal=wal,
            registrar=registrar,
            admitted=lambda: intake.admitted_sequence,
            log=self._log,
        )

    async def _watch_space(self, intake: Intake) -> None:
        """Close the intake while the disk is nearly full: flush and the catalog's log need the rest to make room."""
        reserve = self._storage_config.reserve_bytes
        short: str | None = None
        while True:
            free = await self._ports.workers.run(self._ports.disk.free_bytes)
            if free < reserve and intake.closed_because is None:
                short = f"the disk has {free} bytes free and {reserve} are kept in reserve (storage.reserve_bytes)"
                intake.close(short)
                self._log.error("disk_nearly_full", free_bytes=free, effect="writes answer 503", next_step="free space")
            elif free >= reserve and short is not None and intake.closed_because == short:
                short = None
                intake.open()
                self._log.info("disk_has_room", free_bytes=free)
            await trio.sleep(SPACE_TICK_SECONDS)

    @property
    def closed_because(self) -> str | None:
        """Why no writes are taken; None while they are."""
        return self._not_open if self._intake is None else self._intake.closed_because

    async def write(self, request: WriteRequest) -> Written:
        """`Intake.write`. Raises Unavailable while there is no intake."""
        if self._intake is None:
            raise Unavailable(f"this node takes no writes now: {self.closed_because}")
        return await self._intake.write(request)

    async def wait_admitted(self, sequence: int) -> None:
        """`Intake.wait_admitted`; for ever while there is no intake."""
        if self._intake is None:
            await trio.sleep_forever()
        else:
            await self._intake.wait_admitted(sequence)

    def reserve(self, size_bytes: int) -> AbstractContextManager[None]:
        """Count a request's bytes while it is read and decoded. Raises Overloaded."""
        return self._memory.reserve(size_bytes)

    async def flush_all(self) -> None:
        """`Flusher.flush_all`. Raises Unavailable."""
        if self._flusher is None:
            raise Unavailable(f"nothing can be flushed now: {self.closed_because}")
        await self._flusher.flush_all()

    def stand_aside(self, reason: str) -> None:
        """This node does not hold the lease: say why nothing is open."""
        self._not_open = reason

    def close(self, reason: str) -> None:
        """Take no more writes; those inside go on."""
        if self._intake is not None:
            self._intake.close(reason)

    async def finish(self) -> None:
        """The orderly end: answer every write inside, move all rows to files, mark the end of the log.

        What cannot be flushed stays in the WAL, where the next start finds it.
        """
        if self._intake is None or self._wal is None:
            return
        await self._intake.drain()
        try:
            await self.flush_all()
        except Unavailable as error:
            self._log.warning("rows_left_in_wal", reason=error.message)
        await self._wal.close()

    def statistics(self) -> WriterStatistics | None:
        """The write path in numbers; None before it is open."""
        if self._intake is None or self._flusher is None or self._wal is None or self._registrar is None:
            return None
        return WriterStatistics(
            ingest=self._intake.statistics(),
            memory=self._memory.statistics(),
            wal=self._wal.statistics(),
            flush=self._flusher.statistics(),
            registrar=self._registrar.statistics(),
            buffer=self._buffer.statistics(),
        )
