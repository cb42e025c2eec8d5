"""One way for a query through the node, whatever its format: parse, check, wait for a place, snapshot, run, hand out,
let go.

`QueryService.open` is that way; everything it holds (place, snapshot, pinned files, cursor, record) is let go when
its block is left, for whatever reason, and leaving interrupts what still runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Protocol

import pyarrow as pa
import trio

from arc.catalog.fsm import Catalog
from arc.catalog.visible import Eyes
from arc.errors import Conflict, Overloaded, TimedOut, Unavailable
from arc.ports import Ports
from arc.query import results_json, results_msgpack
from arc.query.admission import TOO_MANY, Admission
from arc.query.answer import Answer, Beginning, Rows, TableRows
from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.mistakes import FILE_UNREADABLE
from arc.query.names import UnknownName
from arc.query.registry import QueryStatistics, Registry, RunningQuery, Status
from arc.query.show import Show, answer_show
from arc.query.snapshot import Snapshot, TakeSnapshot
from arc.query.statement import Statement, analyse
from arc.query.steps import Steps
from arc.storage.files import FileEntry

DEFAULT_DATABASE = "default"
"""What a bare name belongs to when the caller names no database."""


class Caller(Eyes, Protocol):
    """Who asks: for the list of queries, and for what may be read. That they may ask at all was decided before."""

    @property
    def token_id(self) -> int | None:
        """None without a token."""
        ...

    @property
    def name(self) -> str:
        """The token's name."""
        ...

    def as_of(self, catalog: Catalog) -> Caller:
        """The same caller with the rights of that version. Raises Unauthenticated when his token is not valid in it."""
        ...

    def seen(self, catalog: Catalog) -> Catalog:
        """The catalog without what this caller may not read (`arc.catalog.visible`)."""
        ...

    def require_seen(self, database: str, measurement: str | None) -> None:
        """Raises Forbidden unless it may be read, whether it is there or not."""
        ...


class QueryService:
    """Answers read-only SQL. Every method but `open` and `estimate` returns at once. ``suspect`` is told the files of a
    query that could not read one of them.
    """

    def __init__(
        self,
        *,
        config: QueryConfig,
        engine: Engine,
        take_snapshot: TakeSnapshot,
        ports: Ports,
        suspect: Callable[[Sequence[FileEntry]], None] = lambda entries: None,
    ) -> None:
        self._config = config
        self._engine = engine
        self._take_snapshot = take_snapshot
        self._ports = ports
        self._suspect = suspect
        self._admission = Admission(
            config.max_concurrent, queue_max=config.queue_max, queue_seconds=config.queue_seconds
        )
        self._registry = Registry(config.history)
        self._steps: dict[str, Steps] = {}

    @asynccontextmanager
    async def open(
        self,
        sql: str,
        *,
        database: str | None = None,
        database_explicit: bool = False,
        timeout_seconds: float | None = None,
        principal: Caller | None = None,
        remote_addr: str | None = None,
    ) -> AsyncIterator[Answer]:
        """Run one statement; the answer's first rows are there when this is entered.

        ``database`` is what bare names belong to (None: ``default``); ``database_explicit`` changes nothing, see
        `names`. ``timeout_seconds`` can only shorten the configured limit; it covers waiting, running and reading.

        A measurement that ``principal`` may not read is one that is not there, and asking for it raises Forbidden.

        Raises InvalidRequest (codes ``bad_query``, ``forbidden``, ``forbidden_function``, ``unknown_table``,
        ``unknown_database``), Overloaded (``too_many_queries``, ``query_memory``), TimedOut (``query_timeout``),
        Conflict (``query_cancelled``), Unavailable (``file_unreadable``, ``stopping``).
        """
        async with self._open(sql, database, timeout_seconds, principal, remote_addr, counting=False) as answer:
            yield answer

    async def estimate(
        self,
        sql: str,
        *,
        database: str | None = None,
        database_explicit: bool = False,
        timeout_seconds: float | None = None,
        principal: Caller | None = None,
        remote_addr: str | None = None,
    ) -> int:
        """How many rows the statement returns, by counting them. Raises as `open` does."""
        async with self._open(sql, database, timeout_seconds, principal, remote_addr, counting=True) as answer:
            total = 0
            async for batch in answer.batches():
                total += int(batch.column(0)[0].as_py())
            return total

    async def warm(self) -> None:
        """Load what the first query would otherwise wait for: compiled kernels (seconds in a fresh installation)."""
        await self._ports.workers.run(results_json.warm)
        await self._ports.workers.run(results_msgpack.warm)

    def running(self) -> Sequence[RunningQuery]:
        """Queries in the queue and under way, oldest first."""
        return self._registry.active()

    def recent(self) -> Sequence[RunningQuery]:
        """Finished queries that are still remembered, newest first."""
        return self._registry.recent()

    def find(self, query_id: str) -> RunningQuery:
        """A running or remembered query. Raises NotFound."""
        return self._registry.find(query_id)

    def cancel(self, query_id: str) -> None:
        """Interrupt a query. Raises NotFound, Conflict (finished already)."""
        self._registry.require_active(query_id)
        self._steps[query_id].cancel()

    def statistics(self) -> QueryStatistics:
        """Counters for status pages and metrics."""
        return self._registry.statistics()

    @asynccontextmanager
    async def _open(
        self,
        sql: str,
        database: str | None,
        timeout_seconds: float | None,
        principal: Caller | None,
        remote_addr: str | None,
        *,
        counting: bool,
    ) -> AsyncIterator[Answer]:
        query_id = self._ports.rng.bytes(6).hex()
        started = self._ports.clock.now()
        limit = self._config.timeout_seconds
        steps = Steps(self._ports.workers, limit if timeout_seconds is None else min(limit, timeout_seconds))
        self._registry.start(
            RunningQuery(
                id=query_id,
                sql=sql,
                database=database or DEFAULT_DATABASE,
                token_id=None if principal is None else principal.token_id,
                token_name=None if principal is None else principal.name,
                remote_addr=remote_addr,
                start_us=self._ports.clock.wall_us(),
            )
        )
        self._steps[query_id] = steps
        answer: Answer | None = None
        status: Status = "failed"
        failure: str | None = None
        try:
            async with self._run(
                sql, query_id, database or DEFAULT_DATABASE, principal, steps, started, counting
            ) as answer:
                yield answer
            status = "completed"
        except Exception as error:
            status, failure = _status_of(error), str(error)
            if isinstance(error, Overloaded) and error.code == TOO_MANY:
                self._registry.rejected()
            raise
        except BaseException:
            # The client hung up, or the node stops: nobody reads an error.
            status = "disconnected"
            raise
        finally:
            del self._steps[query_id]
            self._registry.finish(
                query_id,
                status,
                end_us=self._ports.clock.wall_us(),
                row_count=0 if answer is None else answer.row_count,
                error=failure,
            )

    @asynccontextmanager
    async def _run(
        self,
        sql: str,
        query_id: str,
        database: str,
        principal: Caller | None,
        steps: Steps,
        started: float,
        counting: bool,
    ) -> AsyncIterator[Answer]:
        async with self._admission.place(steps):
            self._registry.running_now(query_id)
            token = f"arc_{query_id}"
            catalog = self._take_snapshot(()).catalog
            if principal is not None:
                principal = principal.as_of(catalog)
                catalog = principal.seen(catalog)
            with _telling_nothing(principal):
                planned = await steps.run(lambda: self._plan(sql, database, catalog, token))
            if not isinstance(planned, Statement):
                # Also on a worker: the catalog version is immutable, and its statistics may be those of many files.
                with _telling_nothing(principal):
                    table = await steps.run(partial(answer_show, planned, catalog=catalog, database=database))
                if counting:
                    table = pa.table({"rows": [table.num_rows]})
                async with self._answer(TableRows(table), query_id, steps, started) as answer:
                    yield answer
                return
            # One synchronous step: catalog, files and buffered rows belong to the same moment.
            snapshot = self._take_snapshot(planned.ranges)
            try:
                if principal is not None:
                    # A right that was taken away between the two must not show rows that came after that.
                    reader = principal.as_of(snapshot.catalog)
                    for use in planned.uses:
                        reader.require_seen(*use.table)
                async with self._answer(
                    self._rows(planned, snapshot, token, counting), query_id, steps, started
                ) as answer:
                    yield answer
            except Unavailable as error:
                if error.code == FILE_UNREADABLE:
                    self._suspect([entry for table in snapshot.tables.values() for entry in table.files])
                raise
            finally:
                snapshot.release()

    @asynccontextmanager
    async def _answer(self, rows: Rows, query_id: str, steps: Steps, started: float) -> AsyncIterator[Answer]:
        beginning = Beginning(rows)
        try:
            await steps.run(beginning.fetch, rows)
            yield Answer(
                query_id=query_id,
                beginning=beginning,
                rows=rows,
                steps=steps,
                clock=self._ports.clock,
                started=started,
            )
        finally:
            if not rows.closed:
                # Closing waits for the engine's threads, so it is no work for this one, and it must not be left undone.
                with trio.CancelScope(shield=True):
                    await self._ports.workers.run(rows.close)

    def _plan(self, sql: str, database: str, catalog: Catalog, token: str) -> Statement | Show:
        """On a worker: parse and check."""
        parsed = self._engine.parse(sql)
        if parsed.show is not None:
            return parsed.show
        now_us = self._ports.clock.wall_us()
        return analyse(parsed, database=database, catalog=catalog, token=token, now_us=now_us)

    def _rows(self, statement: Statement, snapshot: Snapshot, token: str, counting: bool) -> Rows:
        if statement.count is not None and not statement.explain and not counting:
            held = snapshot.tables.get(statement.uses[0].table)
            if held is not None:
                # The manifest knows it: no file is opened.
                return TableRows(pa.table({statement.count: pa.array([held.rows], pa.int64())}))
        return self._engine.run(statement, snapshot, token=token, counting=counting)


@contextmanager
def _telling_nothing(principal: Caller | None) -> Iterator[None]:
    """Turn "there is no such thing" into "you may not" where the caller may not know which of the two it is."""
    try:
        yield
    except UnknownName as unknown:
        if principal is not None:
            principal.require_seen(unknown.database, unknown.measurement)
        raise


def _status_of(error: Exception) -> Status:
    match error:
        case TimedOut():
            return "timed_out"
        case Conflict(code="query_cancelled"):
            return "cancelled"
    return "failed"
