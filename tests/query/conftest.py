"""A small store for tests: a catalog of our own making, Parquet files in a temporary folder, rows in a buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio

from arc.catalog.schemas import ColumnSchema, MeasurementSchema
from arc.ports import Load, Ports
from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.service import QueryService
from arc.query.snapshot import Snapshot, SnapshotTaker, TableRange
from arc.storage.files import FileEntry
from arc.storage.paths import file_path, hour_of

T = TypeVar("T")


@dataclass
class Facts:
    measurements: dict[str, MeasurementSchema] = field(default_factory=dict)


@dataclass
class Stats:
    files: int
    rows: int
    bytes: int


class FakeCatalog:
    """The read side of `arc.catalog.fsm.Catalog`, filled by hand."""

    def __init__(self) -> None:
        self.databases: dict[str, Facts] = {}
        self.entries: list[FileEntry] = []
        self.marks: dict[tuple[str, str], int] = {}

    def schema(self, database: str, measurement: str) -> MeasurementSchema | None:
        facts = self.databases.get(database)
        return None if facts is None else facts.measurements.get(measurement)

    def files(self, database: str, measurement: str) -> list[FileEntry]:
        return [e for e in self.entries if (e.database, e.measurement) == (database, measurement)]

    def files_between(self, database: str, measurement: str, low: int | None, high: int | None) -> list[FileEntry]:
        return [
            e
            for e in self.files(database, measurement)
            if (low is None or e.max_time_us >= low) and (high is None or e.min_time_us <= high)
        ]

    def file_stats(self, database: str, measurement: str) -> Stats:
        found = self.files(database, measurement)
        return Stats(len(found), sum(e.rows for e in found), sum(e.size_bytes for e in found))

    def mark(self, database: str, measurement: str) -> int:
        return self.marks.get((database, measurement), 0)


class Pins:
    """Counts who holds which file."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}

    def pin(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.held[path] = self.held.get(path, 0) + 1

    def unpin(self, paths: Sequence[str]) -> None:
        for path in paths:
            self.held[path] -= 1
            if not self.held[path]:
                del self.held[path]


class Store:
    """Tables of a test: columns by kind, rows in files and in the buffer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.catalog = FakeCatalog()
        self.pins = Pins()
        self.buffer: dict[tuple[str, str], list[pa.RecordBatch]] = {}
        self.taken = 0

    def measurement(self, database: str, name: str, **columns: str) -> None:
        """Declare a measurement: column name → kind."""
        facts = self.catalog.databases.setdefault(database, Facts())
        known = {n: ColumnSchema(n, kind) for n, kind in columns.items()}
        facts.measurements[name] = MeasurementSchema(known, self.taken)

    def batch(self, database: str, name: str, time_us: Sequence[int], **columns: Sequence[object]) -> pa.RecordBatch:
        """Rows in the types the write path settles them to."""
        schema = self.catalog.schema(database, name)
        assert schema is not None
        arrays: dict[str, pa.Array] = {"time": pa.array(time_us, pa.timestamp("us", tz="UTC"))}
        for column, values in columns.items():
            kind = schema.columns[column].kind
            arrays[column] = _array(kind, values)
        return pa.RecordBatch.from_pydict(arrays)

    def file(self, database: str, name: str, time_us: Sequence[int], **columns: Sequence[object]) -> FileEntry:
        """Write rows to a Parquet file of the manifest."""
        return self.file_of(database, name, self.batch(database, name, time_us, **columns))

    def file_of(self, database: str, name: str, batch: pa.RecordBatch) -> FileEntry:
        times = batch.column("time").cast(pa.int64()).to_pylist()
        path = file_path(database, name, hour_of(min(times)), node="n1", epoch=1, sequence=len(self.catalog.entries))
        native = Path(self.native_path(path))
        native.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_batches([batch]), native)
        entry = FileEntry(
            path=path,
            database=database,
            measurement=name,
            sha256="",
            size_bytes=native.stat().st_size,
            rows=batch.num_rows,
            min_time_us=min(times),
            max_time_us=max(times),
            origin="n1",
            epoch=1,
            first_sequence=1,
            last_sequence=1,
            created_us=0,
            columns=tuple(batch.schema.names),
        )
        self.catalog.entries.append(entry)
        return entry

    def lose(self, entry: FileEntry) -> None:
        """Unlink a file that the manifest still names."""
        Path(self.native_path(entry.path)).unlink()

    def spoil(self, entry: FileEntry, how: Callable[[bytes], bytes]) -> None:
        """Change the bytes of a file behind the manifest's back."""
        native = Path(self.native_path(entry.path))
        native.write_bytes(how(native.read_bytes()))

    def buffered(self, database: str, name: str, time_us: Sequence[int], **columns: Sequence[object]) -> None:
        """Put rows into the buffer only."""
        rows = self.batch(database, name, time_us, **columns)
        self.buffer.setdefault((database, name), []).append(rows)

    def take(self, tables: Sequence[TableRange]) -> Snapshot:
        self.taken += bool(tables)
        taker = SnapshotTaker(
            lambda: self.catalog,  # type: ignore[arg-type,return-value]
            lambda database, name, after: tuple(self.buffer.get((database, name), ())),
            self.pins,
        )
        return taker(tables)

    def native_path(self, path: str) -> str:
        return str(self.root / "files" / path)


def _array(kind: str, values: Sequence[object]) -> pa.Array:
    if kind == "tag":
        return pa.array(values, pa.utf8()).dictionary_encode()
    types = {
        "float": pa.float64(),
        "integer": pa.int64(),
        "unsigned": pa.uint64(),
        "boolean": pa.bool_(),
        "string": pa.utf8(),
    }
    return pa.array(values, types[kind])


class TestClock:
    __test__ = False

    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return 1_767_225_600_000_000


class TestRng:
    __test__ = False

    def __init__(self) -> None:
        self.drawn = 0

    def uniform(self, low: float, high: float) -> float:
        return low

    def bytes(self, count: int) -> bytes:
        self.drawn += 1
        return self.drawn.to_bytes(count, "big")


class TestWorkers:
    __test__ = False

    def load(self) -> Load:
        return Load(cpu_seconds=0.0, memory_bytes=0, memory_total_bytes=1, cores=1)

    async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
        return await trio.to_thread.run_sync(fn, *args, abandon_on_cancel=abandon_on_cancel)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "files").mkdir()
    return Store(tmp_path)


@pytest.fixture
def engine(store: Store):
    engine = Engine(QueryConfig(threads=2), roots=[str(store.root / "files")], native_path=store.native_path)
    yield engine
    engine.close()


def make_service(
    store: Store,
    engine: Engine,
    config: QueryConfig | None = None,
    suspect: Callable[[Sequence[FileEntry]], None] = lambda entries: None,
) -> QueryService:
    ports = Ports(
        clock=TestClock(),
        rng=TestRng(),
        network=None,  # type: ignore[arg-type]
        disk=None,  # type: ignore[arg-type]
        workers=TestWorkers(),
    )
    return QueryService(
        config=config or QueryConfig(), engine=engine, take_snapshot=store.take, ports=ports, suspect=suspect
    )


@pytest.fixture
def service(store: Store, engine: Engine) -> QueryService:
    return make_service(store, engine)


async def fetch(service: QueryService, sql: str, database: str | None = None) -> pa.Table:
    """All rows of a query as DuckDB's own types."""
    async with service.open(sql, database=database) as answer:
        batches = [batch async for batch in answer.batches()]
        return pa.Table.from_batches(batches, schema=answer.schema)


async def rows(service: QueryService, sql: str, database: str | None = None) -> list[tuple[object, ...]]:
    """All rows of a query as Python tuples."""
    table = await fetch(service, sql, database)
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


async def until(fact: Callable[[], bool]) -> None:
    """Let other tasks run until a fact holds; the test's own timeout is the bound."""
    while not fact():
        await trio.lowlevel.checkpoint()
