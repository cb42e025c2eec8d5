"""Carries continuous queries out: by schedule while this node holds the writer lease, and by order.

Which windows are due follows from the catalog and the clock alone, so whoever is the next writer goes on where this
one was. A window that fails is in the history with its reason and is tried again after a pause that grows; the windows
behind it wait for it, so that no gap is left. Orders can be carried out by any node: the catalog refuses what was made
from anything that has changed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import trio

from arc.catalog.commands import WRITER
from arc.catalog.facts import Catalog
from arc.continuous import definition, windows
from arc.continuous.config import ContinuousConfig
from arc.continuous.definition import ContinuousQuery
from arc.continuous.execution import CHANGED, CHANGES_MAX, Executor, Task
from arc.continuous.names import MERGED
from arc.continuous.ports import Copies, Files, Propose, Queries, Results
from arc.continuous.progress import Run, progress_of
from arc.continuous.statement import Span, statement_for
from arc.errors import ArcError, Conflict, DiskFailed, InvalidRequest, Unavailable
from arc.ids import NodeId
from arc.ports import Clock, Rng, is_full
from arc.telemetry import Log

LOOK_SECONDS = 5.0
"""How often it is looked what is due, at most."""

LOOK_SECONDS_MIN = 0.1

RETRY_SECONDS = 10.0
RETRY_SECONDS_MAX = 600.0
"""A query that failed waits so long, twice as long after each further failure, up to the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What an order came to. ``statement`` is that of its first window, empty when it had none."""

    execution_id: str
    start_us: int
    end_us: int
    windows: int
    rows_read: int
    rows_written: int
    milliseconds: float
    statement: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousStatistics:
    """Windows that were executed on this node. ``late_total`` of them again, because rows came behind them;
    ``failures_total`` are tried again, but for ``given_up_total``.
    """

    windows_total: int
    late_total: int
    rows_read_total: int
    rows_written_total: int
    failures_total: int
    given_up_total: int
    running: int
    waiting_after_failure: int


class ContinuousRunner:
    """Executes one window of a query at a time. ``copies`` sees to copies of results before they are data, because no
    log has their rows; None where nobody else needs any. ``now_us`` is the time by which windows are over
    (`Registry.earliest_us`); it raises Unavailable where nobody knows.
    """

    def __init__(
        self,
        config: ContinuousConfig,
        *,
        propose: Propose,
        catalog: Callable[[], Catalog],
        queries: Queries,
        results: Results,
        files: Files,
        node: NodeId,
        clock: Clock,
        now_us: Callable[[], int],
        rng: Rng,
        log: Log,
        copies: Copies | None = None,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._queries = queries
        self._node = node
        self._clock = clock
        self._now_us = now_us
        self._rng = rng
        self._log = log.bind(component="continuous")
        self._executor = Executor(
            config,
            propose=propose,
            catalog=catalog,
            queries=queries,
            results=results,
            files=files,
            copies=copies,
            node=node,
            clock=clock,
            now_us=now_us,
        )
        self._turns: defaultdict[int, trio.StrictFIFOLock] = defaultdict(trio.StrictFIFOLock)
        self._slots = trio.CapacityLimiter(config.concurrent)
        self._busy: set[int] = set()
        self._looked_us: dict[int, int] = {}
        self._waits: dict[int, tuple[float, float]] = {}
        """Query → (until when it waits after a failure, how long it waited)."""
        self._woken = trio.Event()
        self._windows = self._late = self._rows_read = self._rows_written = self._failures = self._given_up = 0

    def __repr__(self) -> str:
        return f"<ContinuousRunner {self._node} windows={self._windows} busy={len(self._busy)}>"

    # ------------------------------------------------------------------------------------------------- by the schedule

    async def run(self) -> None:
        """Carry the schedules out until cancelled, whenever this node writes.

        Raises DiskFailed (in a group), after which the node must stop.
        """
        if not self._config.enabled:
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            while True:
                pause = LOOK_SECONDS
                if self.is_holder:
                    ready, pause = self._ready()
                    for query_id in ready:
                        self._busy.add(query_id)
                        nursery.start_soon(self._serve, query_id)
                with trio.move_on_after(pause):
                    await self._woken.wait()
                self._woken = trio.Event()

    @property
    def holds_writer(self) -> bool:
        """Whether this node holds the writer lease."""
        lease = self._catalog().leases.get(WRITER)
        return lease is not None and lease.holder == self._node

    @property
    def is_holder(self) -> bool:
        """Whether this node carries the schedules out now."""
        return self._config.enabled and self.holds_writer

    def wake(self) -> int:
        """Look at once what is due, also at what waits after a failure; how many queries are active."""
        self._waits.clear()
        self._woken.set()
        return sum(query.is_active for query in definition.definitions(self._catalog()))

    def _ready(self) -> tuple[list[int], float]:
        """Queries with something to do now, and how many seconds until there may be more."""
        catalog, ready, pause = self._catalog(), list[int](), LOOK_SECONDS
        try:
            now_us = self._now_us()
        except Unavailable as error:
            self._log.info("continuous_queries_wait", reason=error.message)
            return ready, pause
        queries = definition.definitions(catalog)
        known = {query.id for query in queries}
        self._waits = {number: wait for number, wait in self._waits.items() if number in known}
        self._looked_us = {number: at_us for number, at_us in self._looked_us.items() if number in known}
        for query in queries:
            if not query.is_active or query.id in self._busy or query.database not in catalog.databases:
                continue
            waits = self._waits.get(query.id, (0.0, 0.0))[0] - self._clock.now()
            try:
                due = self._due(query, now_us)
            except InvalidRequest as error:  # Made by a version that knows more; it must not stop this node.
                self._log.error("continuous_query_not_understood", query=query.name, reason=error.message)
                continue
            if waits <= 0 and (due.new or due.look):
                ready.append(query.id)
            else:
                pause = min(pause, max(waits, (due.next_us - now_us) / 1e6))
        return ready, max(pause, LOOK_SECONDS_MIN)

    def _due(self, query: ContinuousQuery, now_us: int) -> windows.Due:
        return windows.due(
            progress_of(self._catalog(), query),
            query.schedule,
            now_us=now_us,
            delay_us=int(self._config.delay_seconds * 1e6),
            lateness_us=query.lateness_us,
            looked_us=self._looked_us.get(query.id, 0),
            look_every_us=int(self._config.late_check_seconds * 1e6),
        )

    async def _serve(self, query_id: int) -> None:
        try:
            async with self._slots, self._turns[query_id]:
                await self._take_turn(query_id)
        finally:
            self._busy.discard(query_id)
            self._woken.set()

    async def _take_turn(self, query_id: int) -> None:
        """Everything that is due of one query, until something fails."""
        trying: Task | None = None
        try:
            now_us = self._now_us()
            query = definition.require(self._catalog(), query_id)
            due = self._due(query, now_us)
            if due.look:
                trying = self._task(query_id, due.look[0].span, "late")
                for trying in await self._look(query, due, now_us):
                    await self._again(trying)
            for window in due.new:
                trying = self._task(query_id, window, "schedule")
                await self._again(trying)
        except OSError as error:
            if not is_full(error):
                raise DiskFailed(f"writing the result of a continuous query failed: {error}") from error
            await self._failed(trying, query_id, Unavailable(f"the disk is full: {error}"))
        except ArcError as error:
            if definition.find(self._catalog(), query_id) is not None:
                await self._failed(trying, query_id, error)
        else:
            self._waits.pop(query_id, None)

    async def _look(self, query: ContinuousQuery, due: windows.Due, now_us: int) -> list[Task]:
        """Count the source of open windows; what has to be executed again. Notes what is closed."""
        looked = await self._executor.count(query, [each.span for each in due.look])
        self._looked_us[query.id] = now_us
        before = progress_of(self._catalog(), query)
        tasks = [self._task(query.id, span, "late", looked[span]) for span in windows.late(looked, before)]
        closed = windows.closed(looked, before, lateness_us=query.lateness_us, now_us=now_us)
        if closed:
            try:
                await self._executor.close(query, closed)
            except Conflict as error:
                if error.code not in CHANGED:
                    raise
                self._looked_us.pop(query.id)  # Another window was executed meanwhile: they are counted again at once.
        return tasks

    async def _again(self, task: Task) -> None:
        """Execute a window, as long as this node writes and whatever changes between."""
        for _ in range(CHANGES_MAX):
            if not self.is_holder:
                return
            query = definition.require(self._catalog(), task.query_id)
            if not query.is_active:
                return
            try:
                self._count(await self._executor.execute(task))
                return
            except Conflict as error:
                if error.code not in CHANGED:
                    raise
                self._log.info("continuous_query_repeated", query=query.name, reason=error.message)
                if task.cause == "schedule" and task.window not in self._due(query, self._now_us()).new:
                    return  # Somebody else has executed it, or cut it otherwise.
        raise Unavailable("what the window is made from kept changing while it was executed", code="busy")

    async def _failed(self, task: Task | None, query_id: int, error: ArcError) -> None:
        """Into the history, and a pause."""
        _, waited = self._waits.get(query_id, (0.0, 0.0))
        pause = min(2 * waited, RETRY_SECONDS_MAX) or RETRY_SECONDS
        self._waits[query_id] = (self._clock.now() + pause, pause)
        self._failures += 1
        gives_up = error.code == MERGED
        self._given_up += gives_up
        query = definition.find(self._catalog(), query_id)
        self._log.warning(
            "continuous_query_failed",
            query=query.name if query is not None else query_id,
            reason=error.message,
            next_step="the late rows are left out" if gives_up else f"retried in {pause:g} s",
        )
        if task is None or query is None:
            return
        try:
            await self._executor.note(query, self._failure(task, error), gives_up=gives_up)
        except ArcError as again:
            self._log.warning("continuous_query_not_noted", query=query.name, reason=again.message)

    # ---------------------------------------------------------------------------------------------------- by an order

    async def execute(self, query_id: int, start_us: int | None, end_us: int | None) -> Executed:
        """Execute the windows that hold any moment of a span, also those that were executed before; without a start,
        the ones that are due.

        Raises NotFound, InvalidRequest, TooLarge, Conflict (``window_open``: none has ended; ``merged``: one cannot be
        executed again), Unavailable, OutcomeUnknown. Windows before the one that failed stay executed.
        """
        async with self._turns[query_id]:
            began, wish = self._clock.now(), self._task(query_id, (0, 0), "order")
            spans = self._spans(query_id, start_us, end_us)
            runs: list[Run] = []
            for span in spans:
                task = self._task(query_id, span, "order", execution_id=wish.execution_id)
                try:
                    runs.append(await self._ordered(task))
                except ArcError as error:
                    await self._note_order(task, error)
                    raise
                except OSError as error:
                    family = Unavailable if is_full(error) else DiskFailed
                    raise family(f"writing the result of a continuous query failed: {error}") from error
            return self._executed(query_id, wish.execution_id, spans, runs, began)

    async def preview(self, query_id: int, start_us: int | None, end_us: int | None) -> Executed:
        """What `execute` would write, without writing it. Raises the same."""
        began = self._clock.now()
        spans, runs = self._spans(query_id, start_us, end_us), []
        query = definition.require(self._catalog(), query_id)
        for span in spans:
            rows = await self._queries.estimate(
                statement_for(query.query, span),
                database=query.database,
                timeout_seconds=self._config.timeout_seconds,
            )
            task = self._task(query_id, span, "order")
            runs.append(self._run(task, status="completed", rows_written=rows))
        return self._executed(query_id, self._rng.bytes(8).hex(), spans, runs, began)

    def _spans(self, query_id: int, start_us: int | None, end_us: int | None) -> list[Span]:
        query = definition.require(self._catalog(), query_id)
        return windows.ordered(
            progress_of(self._catalog(), query),
            query.schedule,
            start_us=start_us,
            end_us=end_us,
            now_us=self._now_us(),
        )

    async def _ordered(self, task: Task) -> Run:
        for _ in range(CHANGES_MAX):
            try:
                run = await self._executor.execute(task)
                self._count(run)
                return run
            except Conflict as error:
                if error.code not in CHANGED:
                    raise
        raise Unavailable("what the window is made from kept changing while it was executed", code="busy")

    async def _note_order(self, task: Task, error: ArcError) -> None:
        self._failures += 1
        query = definition.find(self._catalog(), task.query_id)
        if query is None:
            return
        try:
            await self._executor.note(query, self._failure(task, error), gives_up=False)
        except ArcError as again:  # The one who ordered it is told what failed first.
            self._log.warning("continuous_query_not_noted", query=query.name, reason=again.message)

    def _executed(self, query_id: int, execution_id: str, spans: list[Span], runs: list[Run], began: float) -> Executed:
        query = definition.require(self._catalog(), query_id)
        until_us = progress_of(self._catalog(), query).until_us
        return Executed(
            execution_id=execution_id,
            start_us=spans[0][0] if spans else until_us,
            end_us=spans[-1][1] if spans else until_us,
            windows=len(spans),
            rows_read=sum(run.rows_read for run in runs),
            rows_written=sum(run.rows_written for run in runs),
            milliseconds=(self._clock.now() - began) * 1e3,
            statement=statement_for(query.query, spans[0]) if spans else "",
        )

    # ------------------------------------------------------------------------------------------------------- in common

    def _task(
        self, query_id: int, window: Span, cause: str, rows: int | None = None, execution_id: str | None = None
    ) -> Task:
        chosen = execution_id if execution_id is not None else self._rng.bytes(8).hex()
        return Task(query_id=query_id, window=window, cause=cause, execution_id=chosen, rows=rows)

    def _failure(self, task: Task, error: ArcError) -> Run:
        return self._run(task, status="failed", error=error.message)

    def _run(self, task: Task, *, status: str, rows_written: int = 0, error: str | None = None) -> Run:
        return Run(
            id=0,
            execution_id=task.execution_id,
            at_us=self._clock.wall_us(),
            cause=task.cause,
            status=status,
            start_us=task.window[0],
            end_us=task.window[1],
            rows_read=0,
            rows_written=rows_written,
            milliseconds=0.0,
            error=error,
        )

    def _count(self, run: Run) -> None:
        self._windows += 1
        self._late += run.cause == "late"
        self._rows_read += run.rows_read
        self._rows_written += run.rows_written

    def statistics(self) -> ContinuousStatistics:
        """Numbers for status and metrics."""
        return ContinuousStatistics(
            windows_total=self._windows,
            late_total=self._late,
            rows_read_total=self._rows_read,
            rows_written_total=self._rows_written,
            failures_total=self._failures,
            given_up_total=self._given_up,
            running=len(self._busy),
            waiting_after_failure=len(self._waits),
        )
