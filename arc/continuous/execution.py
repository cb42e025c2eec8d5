"""One window, exactly once: count, query, write, and one entry of the log that has files and progress.

The entry is refused when anything it was made from has changed: the writer's lease, the query, its progress, the files
that it replaces. Then nothing has happened, the new files go, and whoever asked looks again. So a window is never in
the destination twice nor half, whatever dies between: a file that no entry names is no data.

A window covers the rows that this node sees when it is executed. The source is counted before, so a row that comes
between is at worst read and not counted, and the window is executed once more; it is never counted and not read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import trio

from arc.catalog.commands import WRITER, Command, PutPolicy, RegisterFiles, ReplaceFiles
from arc.catalog.facts import Catalog
from arc.continuous import definition, names, progress, windows
from arc.continuous.config import ContinuousConfig
from arc.continuous.definition import ContinuousQuery
from arc.continuous.ports import Copies, Files, Propose, Queries, Results
from arc.continuous.progress import Progress, Run, overlap, progress_of
from arc.continuous.reading import Shaped, count_rows, read_rows, timed
from arc.continuous.statement import Span, statement_for
from arc.errors import Conflict, InvalidRequest, NotFound, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.ports import Clock
from arc.storage.files import FileEntry

BACKOFF_SECONDS = (0.1, 0.3, 1.0, 3.0)
"""Pauses between attempts at one entry; after the last the window has failed."""

CHANGED = frozenset({"conflict", "stale_epoch", "file_gone"})
"""Codes of a Conflict that says that something changed meanwhile: looking again may help."""

CHANGES_MAX = 10
"""What changed while a window was executed makes it look again, so often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One window to execute. ``execution_id`` is random hexadecimal digits; ``rows`` is what the source was counted to
    have, None when it was not.
    """

    query_id: int
    window: Span
    cause: str
    execution_id: str
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class _Look:
    """What a window is executed from. ``unchanged`` expects the query to be what it is; ``tags`` names tag columns."""

    query: ContinuousQuery
    before: Progress
    epoch: int
    replaced: tuple[FileEntry, ...]
    unchanged: PutPolicy
    tags: Collection[str]

    def is_as_good_as(self, fresh: _Look, window: Span) -> bool:
        """Whether nothing that concerns the window is another one in a later look."""
        mine = (self.epoch, self.replaced, self.unchanged, self.tags, self.before.open_at(window))
        theirs = (fresh.epoch, fresh.replaced, fresh.unchanged, fresh.tags, fresh.before.open_at(window))
        return mine == theirs and _is_done(self.before, window) == _is_done(fresh.before, window)


@dataclass(frozen=True, slots=True)
class _Finished:
    """A window that was executed and is not in the catalog yet."""

    task: Task
    run: Run
    shaped: Shaped
    is_open: bool

    def after(self, before: Progress) -> Progress:
        """The progress with it. Raises TooLarge."""
        return before.with_result(
            self.task.window,
            rows=self.run.rows_read,
            files=len(self.shaped.hours),
            is_open=self.is_open,
            has_strays=self.shaped.reaches_beyond(self.task.window),
        ).with_run(self.run)


def _is_done(progress: Progress, window: Span) -> bool:
    return any(overlap(window, span) for span in progress.done)


class Executor:
    """Executes windows, any number at a time: of two that touch the same query one is refused."""

    def __init__(
        self,
        config: ContinuousConfig,
        *,
        propose: Propose,
        catalog: Callable[[], Catalog],
        queries: Queries,
        results: Results,
        files: Files,
        copies: Copies | None,
        node: NodeId,
        clock: Clock,
        now_us: Callable[[], int],
    ) -> None:
        self._config = config
        self._propose = propose
        self._catalog = catalog
        self._queries = queries
        self._results = results
        self._files = files
        self._copies = copies
        self._node = node
        self._clock = clock
        self._now_us = now_us
        self._number = 0

    def __repr__(self) -> str:
        return f"<Executor {self._node} runs={self._number}>"

    async def execute(self, task: Task) -> Run:
        """What came of it, which is in the catalog then.

        Raises NotFound (the query is gone), Conflict (code in `CHANGED`: look again; ``merged``: it cannot be executed
        again), Unavailable, OutcomeUnknown, TooLarge, InvalidRequest; OSError when a file cannot be written.
        """
        began, now_us = self._clock.now(), self._now_us()
        look = self._look(task)
        query = look.query
        counted = task.rows if task.rows is not None else (await self.count(query, [task.window]))[task.window]
        shaped = await self._shaped(query, task.window, look.tags)
        run = Run(
            id=0,
            execution_id=task.execution_id,
            at_us=now_us,
            cause=task.cause,
            status="completed",
            start_us=task.window[0],
            end_us=task.window[1],
            rows_read=counted,
            rows_written=shaped.rows,
            milliseconds=round((self._clock.now() - began) * 1e3, 3),
        )
        finished = _Finished(task, run, shaped, windows.is_open(task.window, query.lateness_us, now_us))
        finished.after(look.before)  # Whatever cannot be noted is refused before anything is written.
        await self._store(finished, look)
        return run

    def _look(self, task: Task) -> _Look:
        """Everything that the entry will expect to be as it is now. One synchronous step."""
        catalog = self._catalog()
        query = definition.require(catalog, task.query_id)
        before = progress_of(catalog, query)
        epoch = catalog.lease_epoch(WRITER)
        if not epoch:
            raise Unavailable("nobody holds the writer lease: no result can be stored now")
        known = before.open_at(task.window)
        files = catalog.files(query.database, query.destination)
        if known is not None and not before.has_strays:
            # Its last result is of exactly this window, and so are the times of its rows: no need to look at years.
            files = catalog.files_between(query.database, query.destination, task.window[0], task.window[1] - 1)
        replaced = names.to_replace(
            query.id, task.window, files, done=before.done, known=known, has_strays=before.has_strays
        )
        source = catalog.schema(query.database, query.source)
        tags = query.tags if query.tags is not None else source.tags if source is not None else ()
        return _Look(query, before, epoch, tuple(replaced), _unchanged(catalog, query), tags)

    async def _shaped(self, query: ContinuousQuery, window: Span, tags: Collection[str]) -> Shaped:
        """The rows of the result, as they will be stored."""
        rows = timed(
            await read_rows(
                self._queries,
                statement_for(query.query, window),
                database=query.database,
                timeout_seconds=self._config.timeout_seconds,
                bytes_max=self._config.result_bytes_max,
            ),
            window,
        )
        if not rows.num_rows:
            return Shaped(())
        chosen = [name for name in rows.column_names if name in tags]
        return Shaped(await self._results.fit(query.database, query.destination, rows, chosen))

    async def _store(self, finished: _Finished, look: _Look) -> None:
        """Files to the disk, and into the catalog with the progress."""
        query, shaped, window = look.query, finished.shaped, finished.task.window
        self._number += 1
        # Both: an epoch may outlive this process, and one execution may need several attempts.
        run = (int(finished.task.execution_id, 16) + self._number) % names.RUNS

        def path_of(hour: int) -> str:
            return names.result_path(
                query.database,
                query.destination,
                hour,
                epoch=look.epoch,
                run=run,
                node=self._node,
                query=query.id,
                window=window,
                files=len(shaped.hours),
            )

        paths = [path_of(hour) for hour in shaped.hours]
        is_data = False
        self._files.pin(paths)
        try:
            entries: Sequence[FileEntry] = ()
            if paths:
                entries = await self._results.write(
                    shaped.batches, path_of, database=query.database, measurement=query.destination, epoch=look.epoch
                )
            assert [entry.path for entry in entries] == paths, (paths, entries)
            for path in paths:
                self._files.came(path)
            holders = await self._spread(entries)
            is_data = True  # From here on they may be, as long as nobody has said no.
            try:
                await self._enter(entries, holders, finished, look)
            except (InvalidRequest, Unavailable):
                is_data = False
                raise
        finally:
            self._files.unpin(paths)
            if not is_data:  # But what the manifest has is data, however it came there.
                self._files.left([path for path in paths if self._catalog().file(path) is None])

    async def _spread(self, entries: Sequence[FileEntry]) -> Sequence[NodeId]:
        """Who has the files. Nodes take what they are offered by the holder of the lease only: the results of an order
        elsewhere get their copies afterwards, as files of a flush do.
        """
        lease = self._catalog().leases.get(WRITER)
        if self._copies is None or not entries or lease is None or lease.holder != self._node:
            return ()
        return await self._copies.spread(entries)

    async def _enter(
        self, entries: Sequence[FileEntry], holders: Sequence[NodeId], finished: _Finished, look: _Look
    ) -> None:
        """Into the catalog. Where only other windows were executed meanwhile, the result is as good as it was."""
        for _ in range(CHANGES_MAX):
            put = self.put(look.query, look.before, finished.after(look.before))
            try:
                await self._commit(_command(entries, holders, look, put), finished.task)
                return
            except Conflict as error:
                fresh = self._look(finished.task) if error.code == "conflict" else look
                if fresh is look or not look.is_as_good_as(fresh, finished.task.window):
                    raise
                look = fresh
        raise Conflict("other windows of the query were executed all the time", code="conflict")

    async def _commit(self, command: Command, task: Task) -> None:
        """Have the entry agreed on, asking until its outcome is known.

        Raises InvalidRequest (Conflict, NotFound) when it was refused, Unavailable when nothing happened, and
        OutcomeUnknown.
        """
        is_unknown = False
        for pause in (*BACKOFF_SECONDS, None):
            try:
                (await self._propose.propose(command)).unwrap()
                return
            except Conflict:
                # An attempt whose answer was lost went before this one.
                if is_unknown and self._stands(task):
                    return
                raise
            except (Unavailable, OutcomeUnknown) as error:
                is_unknown |= isinstance(error, OutcomeUnknown)
                if pause is None:
                    raise OutcomeUnknown(error.message) if is_unknown else error from None
            await trio.sleep(pause)

    def _stands(self, task: Task) -> bool:
        """Whether this very execution is in the history that the catalog has."""
        query = definition.find(self._catalog(), task.query_id)
        if query is None:
            return False
        runs = progress_of(self._catalog(), query).runs
        return any(
            (run.execution_id, run.start_us, run.end_us) == (task.execution_id, *task.window)
            and run.status == "completed"
            for run in runs
        )

    async def count(self, query: ContinuousQuery, spans: Sequence[Span]) -> dict[Span, int]:
        """How many rows the source has in these windows."""
        return await count_rows(
            self._queries, query.database, query.source, spans, timeout_seconds=self._config.timeout_seconds
        )

    async def close(self, query: ContinuousQuery, spans: Sequence[Span]) -> None:
        """Note that late rows change these windows no more. Raises Conflict, Unavailable, OutcomeUnknown."""
        catalog = self._catalog()
        before = progress_of(catalog, query)
        await self._propose_once(catalog, query, self.put(query, before, before.without_open(spans)))

    async def note(self, query: ContinuousQuery, run: Run, *, gives_up: bool) -> None:
        """Put a failed run into the history; with ``gives_up`` its window is not tried again.

        Raises Conflict, Unavailable, OutcomeUnknown.
        """
        catalog = self._catalog()
        before = progress_of(catalog, query)
        after = before.with_run(run)
        if gives_up:
            after = after.without_open([(run.start_us, run.end_us)])
        await self._propose_once(catalog, query, self.put(query, before, after))

    def put(self, query: ContinuousQuery, before: Progress, after: Progress) -> PutPolicy:
        """Progress as a command, which expects what it was made from."""
        return PutPolicy(
            kind=progress.KIND,
            name=str(query.id),
            body=progress.body_of(after),
            at_us=max(self._clock.wall_us(), before.updated_us + 1),
            expect_us=before.updated_us,
        )

    async def _propose_once(self, catalog: Catalog, query: ContinuousQuery, put: PutPolicy) -> None:
        """Progress without files: also only of a query that is there, and under the lease."""
        epoch = catalog.lease_epoch(WRITER)
        command = RegisterFiles(files=(), epoch=epoch, policies=(_unchanged(catalog, query), put))
        (await self._propose.propose(command)).unwrap()


def _unchanged(catalog: Catalog, query: ContinuousQuery) -> PutPolicy:
    """Sets the query to what it is: refused when it was changed or deleted meanwhile. Raises NotFound."""
    kept = catalog.policies.get((definition.KIND, str(query.id)))
    if kept is None:
        raise NotFound(f"continuous query {query.id} not found")
    return PutPolicy(
        kind=kept.kind,
        name=kept.name,
        body=kept.body,
        at_us=kept.updated_us,
        expect_us=kept.updated_us,
        title=kept.title,
    )


def _command(entries: Sequence[FileEntry], holders: Sequence[NodeId], look: _Look, put: PutPolicy) -> Command:
    return ReplaceFiles(
        remove=tuple((entry.path, entry.sha256) for entry in look.replaced),
        add=tuple(entries),
        lease=WRITER,
        epoch=look.epoch,
        holders=tuple(holders),
        policies=(look.unchanged, put),
    )
