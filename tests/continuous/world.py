"""A catalog, a disk in memory and an engine over rows that a test puts in: all that continuous queries have to do with.

``metrics.cpu`` has the tag ``host`` and the field ``v``; rows go in by `World.write` and are seen at once. What is
stored of results is read back from the files that the catalog has, and from no others.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import trio

from arc.catalog.commands import WRITER, AssignLease, Command, RegisterFiles, ReplaceFiles
from arc.catalog.facts import Catalog
from arc.catalog.results import Result
from arc.cluster.clocks import earliest_us
from arc.continuous import definition, progress
from arc.continuous.changes import put
from arc.continuous.config import ContinuousConfig
from arc.continuous.definition import ContinuousQuery
from arc.continuous.ports import Copies
from arc.continuous.progress import Progress
from arc.continuous.runner import ContinuousRunner
from arc.errors import ArcError, InvalidRequest, OutcomeUnknown
from arc.ids import NodeId
from arc.node.results import ResultRows
from arc.storage.config import StorageConfig
from arc.storage.keeper import DATA, FileKeeper
from arc.telemetry import Log
from tests.catalog.facts import column, declare, do, ready
from tests.continuous.facts import NOON_US, QUERY
from tests.fakes import ManualClock, MemoryDisk, SeededRng, make_ports


class Proposer:
    """Applies at once. ``before`` happens once before an entry with a result; ``errors`` are raised for such, one
    each; with ``loses_answers`` one is applied, and its proposer not told.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.results: list[Command] = []
        self.before: Callable[[], object] | None = None
        self.errors: list[ArcError] = []
        self.loses_answers = 0

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        fsm = self._world.fsm
        is_result = isinstance(command, RegisterFiles | ReplaceFiles)
        if is_result:
            if self.errors:
                raise self.errors.pop(0)
            happens, self.before = self.before, None
            if happens is not None:
                happens()
        result = fsm.apply(fsm.catalog.index + 1, command).result
        if is_result and result.ok:
            self.results.append(command)
        if is_result and self.loses_answers:
            self.loses_answers -= 1
            raise OutcomeUnknown("the answer was lost")
        return result


class Answer:
    def __init__(self, table: pa.Table) -> None:
        self.schema = table.schema
        self._table = table

    async def batches(self) -> AsyncIterator[pa.RecordBatch]:
        for batch in self._table.to_batches():
            await trio.lowlevel.checkpoint()
            yield batch


class Engine:
    """DuckDB over the world's rows. ``before`` happens once before a statement whose text has ``FROM metrics``."""

    def __init__(self) -> None:
        self._db = duckdb.connect(":memory:")
        self._db.execute("SET TimeZone = 'UTC'")
        self._db.execute("ATTACH ':memory:' AS metrics")
        self._db.execute("CREATE TABLE metrics.cpu (time TIMESTAMPTZ, host VARCHAR, v DOUBLE)")
        self.asked: list[str] = []
        self.error: ArcError | None = None
        self.before: Callable[[], object] | None = None

    def insert(self, time_us: int, host: str, v: float) -> None:
        self._db.execute("INSERT INTO metrics.cpu VALUES (make_timestamptz(?), ?, ?)", [time_us, host, v])

    @asynccontextmanager
    async def open(self, sql: str, *, database: str | None, timeout_seconds: float | None) -> AsyncIterator[Answer]:
        await trio.lowlevel.checkpoint()
        if "count(*) FILTER" not in sql:
            if self.error is not None:
                raise self.error
            happens, self.before = self.before, None
            if happens is not None:
                happens()
        self.asked.append(sql)
        try:
            table = self._db.sql(sql).to_arrow_table()
        except duckdb.Error as error:
            raise InvalidRequest(str(error)) from error
        yield Answer(table)

    async def estimate(self, sql: str, *, database: str | None, timeout_seconds: float | None) -> int:
        async with self.open(f"SELECT * FROM ({sql})", database=database, timeout_seconds=timeout_seconds) as answer:
            return sum([batch.num_rows async for batch in answer.batches()])


class World:
    """One node, or several over the same catalog and disk."""

    def __init__(self, log: Log) -> None:
        self.fsm = ready()
        do(self.fsm, declare(column("host", "tag")))
        self.log = log
        self.clock = ManualClock(wall_us=NOON_US)
        self.disk = MemoryDisk()
        self.ports = make_ports(disk=self.disk, clock=self.clock, rng=SeededRng())
        self.keeper = FileKeeper(self.disk, self.ports.workers, self.clock, StorageConfig())
        self.engine = Engine()
        self.proposer = Proposer(self)
        self.copies: Copies | None = None
        self.clocks_us: dict[str, int | None] = {}
        """Of other nodes."""

    @property
    def catalog(self) -> Catalog:
        return self.fsm.catalog

    def runner(self, node: str = "n1", **config: object) -> ContinuousRunner:
        return ContinuousRunner(
            ContinuousConfig(**config),  # type: ignore[arg-type]
            propose=self.proposer,
            catalog=lambda: self.fsm.catalog,
            queries=self.engine,
            results=ResultRows(
                lambda: self.fsm.catalog, self.proposer, node=NodeId(node), ports=self.ports, shelf=None
            ),
            files=self.keeper,
            copies=self.copies,
            node=NodeId(node),
            clock=self.clock,
            now_us=lambda: earliest_us(self.clock.wall_us(), self.clocks_us),
            rng=self.ports.rng,
            log=self.log,
        )

    def write(self, *rows: tuple[int, float], host: str = "a") -> None:
        """Rows of one host: (time in µs, value)."""
        for time_us, v in rows:
            self.engine.insert(time_us, host, v)

    async def make(self, query: ContinuousQuery = QUERY) -> ContinuousQuery:
        return await put(self.proposer, self.catalog, query, now_us=self.clock.wall_us(), is_new=True)

    async def change(self, **change: object) -> ContinuousQuery:
        query = replace(definition.require(self.catalog, 7), **change)  # type: ignore[arg-type]
        return await put(self.proposer, self.catalog, query, now_us=self.clock.wall_us(), is_new=False)

    def move_lease(self, node: str) -> None:
        do(
            self.fsm,
            AssignLease(
                lease=WRITER, node=NodeId(node), expect_epoch=self.catalog.lease_epoch(WRITER), accepts_data_loss=True
            ),
        )

    def progress(self, query_id: int = 7) -> Progress:
        return progress.progress_of(self.catalog, definition.require(self.catalog, query_id))

    def stored(self, measurement: str = "cpu_1h") -> list[tuple[int, str | None, float, int]]:
        """What the catalog has of the destination, by hour of the day, host, mean and count; sorted."""
        rows: list[tuple[int, str | None, float, int]] = []
        for entry in self.catalog.files("metrics", measurement):
            table = pq.read_table(pa.BufferReader(self.disk.read(f"{DATA}/{entry.path}")))
            assert table.num_rows == entry.rows
            for row in table.to_pylist():
                rows.append((row["time"].hour, row["host"], row["v"], row["n"]))
        return sorted(rows)

    def on_disk(self) -> list[str]:
        """Names of the files on the disk that the catalog does not have."""
        return [path for path in self.disk.walk(DATA) if self.catalog.file(path.removeprefix(f"{DATA}/")) is None]
