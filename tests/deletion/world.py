"""A real write path, real files and the real engine below a deleter and a dropper; other nodes are played."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from arc.catalog.commands import WRITER, AssignLease
from arc.catalog.fsm import ClusterFSM
from arc.deletion.config import DeleteConfig
from arc.deletion.deleter import Deleter
from arc.deletion.dropper import Dropper
from arc.deletion.orders import DeleteOrder
from arc.errors import Unavailable
from arc.ids import NodeId
from arc.ingest.buffer import Key
from arc.ingest.columns import Column, Decoded, Kind, Request
from arc.ingest.holds import Hold
from arc.ingest.requests import WriteRequest
from arc.ports import Ports
from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.predicate import Conditions
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA, FileKeeper
from arc.system import SystemClock, SystemNetwork, SystemWorkers
from arc.telemetry import Log
from tests.fakes import SeededRng
from tests.ingest.writepath import WritePath, open_write_path

HOUR_US = 3_600_000_000
Row = tuple[int, str | None, float | None]
"""time (µs), host, value."""


@dataclass
class World:
    """``spread`` is what the other nodes do with files that they are given before the catalog has them."""

    path: WritePath
    root: Path
    keeper: Files
    ports: Ports
    engine: Engine
    deleter: Deleter
    dropper: Dropper
    is_reigning: bool = True
    spread: Callable[[Sequence[FileEntry]], Awaitable[None]] | None = None
    before_confirmed: Callable[[], None] = lambda: None
    confirmed: int = 0
    given: list[FileEntry] = field(default_factory=list)
    suspected: list[FileEntry] = field(default_factory=list)

    # -------------------------------------------------------------------------------------------- as the duties have it

    def require_reign(self) -> World:
        if not self.is_reigning:
            raise Unavailable("this node does not write now")
        return self

    @property
    def epoch(self) -> int:
        return self.path.intake._epoch

    async def confirm(self) -> None:
        self.confirmed += 1
        self.before_confirmed()

    async def flush_rows(self, database: str, measurement: str) -> int:
        through = self.path.intake.admitted_sequence
        await self.path.flusher.flush_all(lambda key: key == Key(database, measurement))
        return through

    async def hold_rows(self, database: str, measurement: str | None) -> Hold:
        hold = await self.path.intake.hold(database, measurement)
        await self.path.flusher.flush_all(
            lambda key: key.database == database and measurement in (None, key.measurement)
        )
        return hold

    # --------------------------------------------------------------------------------------------------- what tests do

    async def write(self, *rows: Row, measurement: str = "cpu", database: str = "db") -> None:
        hosts = pa.array([host for _, host, _ in rows], pa.utf8()).dictionary_encode()
        decoded = Decoded(
            measurement=measurement,
            time=pa.array([time for time, _, _ in rows], pa.int64()),
            columns=(
                Column("host", Kind.TAG, hosts),
                Column("value", Kind.FLOAT, pa.array([value for _, _, value in rows], pa.float64())),
            ),
        )
        await self.path.intake.write(WriteRequest(database=database, decoded=Request((decoded,), ())))

    async def flush(self) -> None:
        await self.path.flusher.flush_all()

    def files(self, measurement: str = "cpu") -> list[FileEntry]:
        return list(self.path.fsm.catalog.files("db", measurement))

    def table(self, entry: FileEntry) -> pa.Table:
        return pq.read_table(pa.BufferReader(self.path.disk.read(f"{DATA}/{entry.path}")))

    def rows(self, measurement: str = "cpu", database: str = "db") -> list[Row]:
        """What a query would see, sorted."""
        catalog, found = self.path.fsm.catalog, list[Row]()
        mark = catalog.mark(database, measurement)
        batches = self.path.buffer.snapshot(database, measurement, mark)
        tables = [self.table(entry) for entry in catalog.files(database, measurement)]
        for table in (*tables, *map(pa.Table.from_batches, ([batch] for batch in batches))):
            times = table.column("time").cast(pa.int64()).to_pylist()
            hosts, values = (
                table.column(name).to_pylist() if name in table.column_names else [None] * len(times)
                for name in ("host", "value")
            )
            found += zip(times, hosts, values, strict=True)
        return sorted(found, key=str)

    async def delete(self, where: str, *, is_dry: bool = False, is_confirmed: bool = True) -> int:
        order = DeleteOrder(database="db", measurement="cpu", where=where, is_dry=is_dry, is_confirmed=is_confirmed)
        return (await self.deleter.delete(order)).rows

    def move_lease(self, node: str = "n1") -> None:
        fsm = self.path.fsm
        command = AssignLease(
            lease=WRITER, node=NodeId(node), expect_epoch=fsm.catalog.lease_epoch(WRITER), accepts_data_loss=True
        )
        assert fsm.apply(fsm.catalog.index + 1, command).result.ok


class Files(FileKeeper):
    """Whatever is on the disk is here; what was said to be away is not."""

    away: frozenset[str] = frozenset()
    root: Path = Path()

    def is_here(self, path: str) -> bool:
        return path not in self.away and (self.root / DATA / path).exists()


@asynccontextmanager
async def open_world(
    root: Path, *, fsm: ClusterFSM | None = None, config: DeleteConfig | None = None
) -> AsyncIterator[World]:
    async with open_write_path(root, fsm=fsm) as path:
        clock, workers = SystemClock(), SystemWorkers(4)
        ports = Ports(
            clock=clock,
            rng=SeededRng(int.from_bytes(os.urandom(4), "big")),
            network=SystemNetwork(),
            disk=path.disk,
            workers=workers,
        )
        keeper = Files(path.disk, workers, clock, StorageConfig())
        keeper.root = root
        engine = Engine(QueryConfig(), roots=[str(root)], native_path=path.disk.native_path)
        log = Log([], clock.wall_us)
        made: list[World] = []

        class Others:
            async def spread(self, entries: Sequence[FileEntry]) -> Sequence[NodeId]:
                made[0].given += [entry for entry in entries if entry not in made[0].given]
                if made[0].spread is not None:
                    await made[0].spread(entries)
                return (NodeId("n1"), NodeId("n2"))

        class Writer:
            def require_reign(self) -> World:
                return made[0].require_reign()

        deleter = Deleter(
            config=config or DeleteConfig(enabled=True),
            node=NodeId("n1"),
            ports=ports,
            catalog=lambda: path.fsm.catalog,
            propose=path.proposer,
            writer=Writer(),
            conditions=Conditions(engine),
            copies=Others(),
            files=keeper,
            suspect=lambda entries: made[0].suspected.extend(entries),
            reserve_bytes=0,
            log=log,
        )
        dropper = Dropper(
            node=NodeId("n1"),
            catalog=lambda: path.fsm.catalog,
            propose=path.proposer,
            writer=Writer(),
            clock=clock,
            rng=ports.rng,
            log=log,
        )
        made.append(World(path, root, keeper, ports, engine, deleter, dropper))
        yield made[0]
        engine.close()
