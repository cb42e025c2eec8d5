"""The rest of the node as the API sees it: a real catalog, a real decoder where there is one, and recorders for the
rest."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field, replace

import httpx
import pyarrow as pa
import trio

from arc.api.app import Api, build_app
from arc.api.config import AuthConfig, ServerConfig
from arc.api.deps import Deps
from arc.backup.restoring import Restorer
from arc.backup.service import BackupService
from arc.backup.taking import Taker
from arc.backup.vault import FolderVault
from arc.catalog.commands import Command, CreateToken
from arc.catalog.fsm import Catalog, ClusterFSM
from arc.catalog.results import Result
from arc.compaction.config import CompactionConfig, RetentionConfig
from arc.compaction.reports import FinishedJob, RunningJob
from arc.compaction.retention_runner import RetentionRunner
from arc.compaction.tally import Tally
from arc.continuous.config import ContinuousConfig
from arc.continuous.runner import ContinuousRunner
from arc.deletion.config import DeleteConfig
from arc.deletion.orders import Order, Outcome
from arc.errors import Conflict, NotFound, Overloaded, TimedOut, Unavailable
from arc.ids import NodeId, Position
from arc.ingest import arrow, compression, lineprotocol, msgpack
from arc.ingest.columns import Request
from arc.ingest.requests import AllRefused, WriteRequest, Written
from arc.node.results import ResultRows
from arc.query.registry import RunningQuery
from arc.query.results import Encoder, Encoding, Summary
from arc.replication.awaiting import Awaiting
from arc.security.tokens import hash_token
from arc.storage.config import StorageConfig
from arc.storage.keeper import FileKeeper
from arc.telemetry import Log, RingSink
from tests.continuous.world import Engine
from tests.fakes import MemoryDisk, make_ports

ADMIN = "admin-token-admin-token-admin-token"
READER = "reader-token-reader-token-reader-tok"
WRITER = "writer-token-writer-token-writer-tok"
NOBODY = "nobody-token-nobody-token-nobody-tok"
START_US = 1_767_225_600_000_000


@dataclass
class FakeClock:
    """Time that moves when a test says so."""

    seconds: float = 0.0

    def now(self) -> float:
        return self.seconds

    def wall_us(self) -> int:
        return START_US + int(self.seconds * 1_000_000)


class FakeRng:
    """Counts up instead of being random."""

    def __init__(self) -> None:
        self._next = 0

    def uniform(self, low: float, high: float) -> float:
        return low

    def bytes(self, count: int) -> bytes:
        self._next += 1
        return self._next.to_bytes(count, "big")


class InlineWorkers:
    """Runs in place, and remembers how often it was asked."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, fn: Callable[..., object], *args: object, abandon_on_cancel: bool = False) -> object:
        self.runs += 1
        await trio.lowlevel.checkpoint()
        return fn(*args)


@dataclass
class FakeIngest:
    """Stores nothing; `answer` or `error` is what the next writes get."""

    budget: int = 1 << 40
    reserved: int = 0
    peak: int = 0
    requests: list[WriteRequest] = field(default_factory=list)
    error: Exception | None = None
    refuse_fields: frozenset[str] = frozenset()
    wait: trio.Event | None = None
    entered: trio.Event = field(default_factory=trio.Event)
    stored: trio.Event = field(default_factory=trio.Event)

    async def write(self, request: WriteRequest) -> Written:
        self.entered.set()
        await trio.lowlevel.checkpoint()
        if self.wait is not None:
            await self.wait.wait()
        if self.error is not None:
            raise self.error
        refused = request.decoded.refused
        if refused and (request.strict or not request.decoded.rows):
            raise AllRefused(refused)
        self.requests.append(request)
        self.stored.set()
        return Written(position=Position(1, len(self.requests)), rows=request.decoded.rows, refused=refused)

    @contextmanager
    def reserve(self, size_bytes: int) -> Iterator[None]:
        if self.reserved + size_bytes > self.budget:
            raise Overloaded("memory", retry_after_seconds=1)
        self.reserved += size_bytes
        self.peak = max(self.peak, self.reserved)
        try:
            yield
        finally:
            self.reserved -= size_bytes


class FakeProposer:
    """Applies to the catalog at once."""

    def __init__(self, fsm: ClusterFSM) -> None:
        self._fsm = fsm
        self.error: Exception | None = None

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return self._fsm.apply(self._fsm.catalog.index + 1, command).result


class FakeAnswers:
    """Answers every statement with the same rows, fails or hangs where it is told to; its encoders are real."""

    def __init__(
        self, *, rows: int = 3, batches: int = 1, fail_after: int | None = None, hang: bool = False,
        error: Exception | None = None,
    ) -> None:  # fmt: skip
        self.asked: list[dict[str, object]] = []
        self.opened = trio.Event()
        self.closed = trio.Event()
        self.error = error
        self._rows = rows
        self._batches = batches
        self._fail_after = fail_after
        self._hang = hang
        self.cancelled: list[str] = []

    @asynccontextmanager
    async def open(self, sql: str, **asked: object) -> AsyncIterator[FakeAnswer]:
        self.asked.append({"sql": sql, **asked})
        if self.error is not None:
            raise self.error
        answer = FakeAnswer(_Rows(self._rows, self._batches, self._fail_after))
        self.opened.set()
        try:
            if self._hang:
                await trio.sleep_forever()
            answer.rows.peek()
            yield answer
        finally:
            self.closed.set()

    async def estimate(self, sql: str, **asked: object) -> int:
        self.asked.append({"sql": sql, **asked})
        if self.error is not None:
            raise self.error
        return self._rows

    def running(self) -> list[RunningQuery]:
        return [RunningQuery(id="q1", sql="SELECT 1", database="default", status="running", start_us=START_US)]

    def recent(self) -> list[RunningQuery]:
        return [
            RunningQuery(
                id="q0", sql="SELECT 0", database="default", status="completed", start_us=START_US, end_us=START_US
            )
        ]

    def find(self, query_id: str) -> RunningQuery:
        for query in (*self.running(), *self.recent()):
            if query.id == query_id:
                return query
        raise NotFound(f"there is no query {query_id!r}")

    def cancel(self, query_id: str) -> None:
        if self.find(query_id).status == "completed":
            raise Conflict("finished", code="query_finished")
        self.cancelled.append(query_id)


class FakeAnswer:
    """What `arc.query.answer.Answer` is to its reader, over the real encoding."""

    query_id = "q1"
    elapsed_ms = 7

    def __init__(self, rows: _Rows) -> None:
        self.rows = rows

    async def encoded(self, encoder: Encoder, *, profile: bool = False) -> AsyncIterator[bytes]:
        encoding = Encoding(encoder, self.rows.schema, self.rows.next)
        while not encoding.ended:
            await trio.lowlevel.checkpoint()
            yield encoding.chunk()
        summary = Summary(row_count=encoding.row_count, execution_time_ms=7, timestamp="2026-01-01T00:00:00Z")
        for piece in encoding.tail(summary):
            yield piece


class _Rows:
    """``batches`` batches of ``rows`` rows, or a failure after ``fail_after`` of them."""

    def __init__(self, rows: int, batches: int, fail_after: int | None) -> None:
        self._batch = pa.record_batch({"n": pa.array(range(rows), pa.int64()), "host": ["server-01"] * rows})
        self.schema = self._batch.schema
        self._left = batches
        self._fail_after = fail_after
        self._given = 0

    def peek(self) -> None:
        if self._fail_after == 0:
            self.next()

    def next(self) -> pa.RecordBatch | None:
        if self._given == self._fail_after:
            raise TimedOut("Query timed out", code="query_timeout")
        if self._left == 0:
            return None
        self._left -= 1
        self._given += 1
        return self._batch


class RealDecoders:
    """The exact parser and the real MessagePack decoder."""

    def inflate(self, body: bytes, limit_bytes: int) -> bytes:
        return compression.inflate(body, limit_bytes=limit_bytes)

    def lines(self, body: bytes, precision: str, now_us: int) -> Request:
        return lineprotocol.parse(body, precision=precision, now_us=now_us)

    def msgpack(self, body: bytes, now_us: int) -> Request:
        return msgpack.decode(body, now_us=now_us)

    def arrow(
        self, body: bytes, measurement: str | None, now_us: int, tags: Sequence[str] | None = None
    ) -> tuple[str | None, Request]:
        return arrow.decode(body, measurement=measurement, tags=tags, now_us=now_us)


class FakeCompaction:
    """A compactor that has done one job and does another."""

    def __init__(self) -> None:
        self.orders: list[tuple[object, ...]] = []
        self.failure: Exception | None = None
        self.runs = True

    async def look(self) -> Mapping[str, object]:
        self._fail()
        tally = Tally()
        job = FinishedJob(
            job=7, tier="hourly", database="db", measurement="cpu", partition_path="db/cpu/2026/05/28/17",
            files_compacted=4, files_written=1, bytes_before=4000, bytes_after=1000, rows_before=40, rows_after=40,
            outcome="done", error="", started_us=START_US, duration_seconds=0.5,
        )  # fmt: skip
        tally.add(job)
        is_paused = ("pause",) in self.orders
        statistics = replace(tally.statistics(), is_enabled=True, is_paused=is_paused)
        running = RunningJob(
            job=8, tier="daily", database="db", measurement="cpu", partition_path="db/cpu/2026/05/28", phase="merging",
            files=6, bytes_before=9000, rows_done=25, rows_total=100, started_us=START_US,
        )  # fmt: skip
        return {
            "holder": "n2",
            "settings": asdict(CompactionConfig()),
            "statistics": asdict(statistics),
            "running": [asdict(running)],
            "history": [{**asdict(job), "success": True, "compression_ratio": 4.0}],
        }

    async def candidates(self) -> Mapping[str, object]:
        self._fail()
        return {"count": 0, "candidates": []}

    async def trigger(self, tiers: tuple[str, ...], database: str) -> Mapping[str, object]:
        self._fail()
        self.orders.append(("trigger", tiers, database))
        return {"holder": "n2", "cycle": 3}

    async def pause(self) -> Mapping[str, object]:
        return self._order("pause")

    async def resume(self) -> Mapping[str, object]:
        return self._order("resume")

    async def cancel(self) -> Mapping[str, object]:
        return {**self._order("cancel"), "done": self.runs}

    def _order(self, what: str) -> Mapping[str, object]:
        self._fail()
        self.orders.append((what,))
        return {"holder": "n2", "done": True}

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class FakeNode:
    """Says what it is told to say."""

    write_reason: str | None = None
    query_reason: str | None = None
    flushes: int = 0
    seen: Position = field(default=Position(3, 100))
    strongly: int = 0
    starting: str | None = None

    def behind(self) -> str | None:
        return self.starting

    def not_ready(self) -> str | None:
        return self.write_reason or self.query_reason

    def refuses_writes(self) -> str | None:
        return self.write_reason

    def refuses_queries(self) -> str | None:
        return self.query_reason

    async def wait_seen(self, position: Position | None, index: int | None, *, is_strong: bool = False) -> None:
        self.strongly += is_strong
        if (position is not None and position > self.seen) or (index or 0) > 10:
            raise Unavailable("not seen yet", code="not_seen_yet")

    async def flush_all(self) -> None:
        self.flushes += 1


@dataclass
class FakeDeletions:
    """Notes every order; `outcome` or `error` is what the next ones come to."""

    config: DeleteConfig = field(default_factory=DeleteConfig)
    outcome: Outcome = field(default_factory=Outcome)
    error: Exception | None = None
    orders: list[Order] = field(default_factory=list)

    async def execute(self, order: Order) -> Outcome:
        await trio.lowlevel.checkpoint()
        self.orders.append(order)
        if self.error is not None:
            raise self.error
        return self.outcome


@dataclass(frozen=True)
class NodeNumbers:
    """A node's statistics tree."""

    buffer_rows: int = 3
    flushes_total: int = 2


def make_backups(world: World) -> BackupService:
    """Over disks in memory, on the node n1."""
    ports, catalog = make_ports(), lambda: world.catalog
    files = FileKeeper(ports.disk, ports.workers, ports.clock, StorageConfig())
    vault, fetch = FolderVault(MemoryDisk(), "", "n1"), Awaiting(files, is_brought=False)
    taker = Taker(
        vault=vault,
        ports=ports,
        files=files,
        fetch=fetch,
        flush=world.node,
        catalog=catalog,
        version="1",
        log=world.log,
    )
    restorer = Restorer(
        vault=vault, ports=ports, files=files, propose=world.proposer, catalog=catalog, shelf=None, node=NodeId("n1"),
        reserve_bytes=0, log=world.log,
    )  # fmt: skip
    return BackupService(
        vault=vault, taker=taker, restorer=restorer, ports=ports, files=files, fetch=fetch, flush=world.node,
        catalog=catalog, log=world.log,
    )  # fmt: skip


class World:
    """A node around an `Api`, with one token of every kind."""

    def __init__(self, *, server: ServerConfig | None = None, auth: AuthConfig | None = None) -> None:
        self.clock = FakeClock()
        self.rng = FakeRng()
        self.workers = InlineWorkers()
        self.ring = RingSink(1000)
        self.log = Log([self.ring], self.clock.wall_us, level="debug")
        self.fsm = ClusterFSM()
        self.proposer = FakeProposer(self.fsm)
        self.ingest = FakeIngest()
        self.node = FakeNode()
        self.deletions = FakeDeletions()
        self.compaction = FakeCompaction()
        for name, token, permissions in (
            ("admin", ADMIN, ("admin",)),
            ("reader", READER, ("read",)),
            ("writer", WRITER, ("write",)),
            ("nobody", NOBODY, ()),
        ):
            self.apply(CreateToken(name=name, hash=hash_token(token), permissions=permissions, created_us=START_US))
        ports = make_ports(clock=self.clock, rng=self.rng)  # type: ignore[arg-type]
        self.engine = Engine()
        self.deps = Deps(
            server=server or ServerConfig(),
            auth=auth or AuthConfig(),
            clock=self.clock,
            rng=self.rng,
            workers=self.workers,  # type: ignore[arg-type]
            log=self.log,
            logs=self.ring,
            ingest=self.ingest,
            decoders=RealDecoders(),
            queries=FakeAnswers(),
            proposer=self.proposer,
            node=self.node,
            deletions=self.deletions,
            compaction=self.compaction,
            retention=RetentionRunner(
                RetentionConfig(),
                self.proposer,
                lambda: self.catalog,
                self.clock.wall_us,
                node=NodeId("n1"),
                clock=self.clock,  # type: ignore[arg-type]
                log=self.log,
            ),
            continuous=ContinuousRunner(
                ContinuousConfig(),
                propose=self.proposer,
                catalog=lambda: self.catalog,
                queries=self.engine,
                results=ResultRows(lambda: self.catalog, self.proposer, node=NodeId("n1"), ports=ports, shelf=None),
                files=FileKeeper(ports.disk, ports.workers, ports.clock, StorageConfig()),
                node=NodeId("n1"),
                clock=ports.clock,
                now_us=self.clock.wall_us,
                rng=ports.rng,
                log=self.log,
            ),
            backups=make_backups(self),
            catalog=lambda: self.catalog,
            statistics=NodeNumbers,
            version="0.0.1",
        )
        self._api: Api | None = None

    @property
    def catalog(self) -> Catalog:
        return self.fsm.catalog

    @property
    def api(self) -> Api:
        if self._api is None:
            self._api = build_app(self.deps)
        return self._api

    def replace(self, **changes: object) -> None:
        self.deps = replace(self.deps, **changes)

    def apply(self, command: Command) -> Result:
        return self.fsm.apply(self.fsm.catalog.index + 1, command).result

    def client(self, token: str | None = ADMIN) -> httpx.AsyncClient:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.api), base_url="http://arc", headers=headers)

    def logged(self, message: str) -> list[dict[str, object]]:
        return [event.as_dict() for event in self.ring.select(limit=1000) if event.message == message]
