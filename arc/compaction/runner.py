"""Compaction under one grant of the compactor lease: look, choose, merge, keep a receipt, spread, swap; one job at a
time.

What to merge is `tiers`, how is `merge`, what a crash leaves is `receipt`; here they only follow one another. No row is
ever in two files of the manifest or in none: outputs are durable here and on the nodes that answer queries before one
entry of the log puts them in the place of their sources. Whatever fails before that leaves the sources as they are;
the partition waits, longer each time, and is tried again. Started by whoever sees to the lease, and cancelled with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import trio

from arc.catalog.facts import Catalog
from arc.catalog.schemas import MeasurementSchema
from arc.compaction.config import CompactionConfig
from arc.compaction.merge import Merged, Progress, merge
from arc.compaction.names import JOBS, merged_path
from arc.compaction.ports import Copies, Doubt, Fetch, Files, Swap
from arc.compaction.receipt import WORK, Receipt, Resumed, resume
from arc.compaction.reports import Candidate, CompactionStatistics, FinishedJob, RunningJob, candidate
from arc.compaction.survey import Leaves, none_left, plan_catalog
from arc.compaction.swapping import Swapping
from arc.compaction.tally import Tally
from arc.compaction.tiers import TIERS, Job
from arc.compaction.windows import Stopped
from arc.compaction.yard import Yard
from arc.errors import (
    AlreadyRunning,
    Conflict,
    Corrupt,
    DiskFailed,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from arc.ids import Epoch, NodeId
from arc.ports import Ports, is_full
from arc.storage.files import FileEntry
from arc.storage.shelf import Shelf
from arc.telemetry import Log

HISTORY_MAX = 100
RETRY_SECONDS = 60.0
"""A partition whose job failed waits so long, twice as long after each further failure, up to an hour."""
RETRY_SECONDS_MAX = 3600.0

Place = tuple[str, str, int]


@dataclass(slots=True)
class _Now:
    """The job that runs."""

    job: Job
    number: int
    started_us: int
    began: float
    phase: str = "merging"
    progress: Progress = field(default_factory=Progress)
    is_stopped: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Compactor:
    """``reserve_bytes`` of the disk are left to others. ``shelf`` is the store that all nodes share, None without.
    ``leaves`` says which files are left alone.
    """

    def __init__(
        self,
        *,
        config: CompactionConfig,
        node: NodeId,
        epoch: Epoch,
        ports: Ports,
        catalog: Callable[[], Catalog],
        swap: Swap,
        copies: Copies,
        fetch: Fetch,
        files: Files,
        doubt: Doubt,
        reserve_bytes: int,
        log: Log,
        shelf: Shelf | None = None,
        leaves: Leaves = none_left,
    ) -> None:
        self._leaves = leaves
        self.config, self._node, self._epoch, self._ports = config, node, epoch, ports
        self._catalog, self._fetch = catalog, fetch
        self._files, self._doubt, self._reserve_bytes = files, doubt, reserve_bytes
        self._log = log.bind(component="compaction")
        self._yard = Yard(ports, files, shelf, self._log)
        self._now: _Now | None = None
        self._history: deque[FinishedJob] = deque(maxlen=HISTORY_MAX)
        self._tally = Tally()
        self._swapping = Swapping(swap, copies, self._tally)
        self._waits: dict[Place, tuple[float, float]] = {}
        """Partition → (until when it waits, how long it waited)."""
        self._is_paused = False
        self._asked: tuple[tuple[str, ...], str] | None = None
        self._cycle = 0
        self._woken = trio.Event()

    def __repr__(self) -> str:
        return f"<Compactor {self._node} epoch={self._epoch} running={self._now is not None} paused={self._is_paused}>"

    # ------------------------------------------------------------------------------------------------------ the life

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Compact until cancelled. Raises DiskFailed, after which the node must stop."""
        try:
            await self._resume_receipts()
            task_status.started()
            while True:
                job = await self._next()
                if job is not None:
                    await self._do(job)
                    continue
                self._asked = None
                with trio.move_on_after(self.config.poll_seconds):
                    await self._woken.wait()
                self._woken = trio.Event()
        except OSError as error:
            raise DiskFailed(f"compaction cannot use its disk: {error}") from error

    async def _next(self) -> Job | None:
        if self._asked is not None:
            tiers, database = self._asked
        elif self.config.enabled and not self._is_paused:
            tiers, database = TIERS, ""
        else:
            return None
        for job in await self._plan():
            place = (job.database, job.measurement, job.day)
            until, _ = self._waits.get(place, (0.0, 0.0))
            if job.tier in tiers and database in ("", job.database) and until <= self._ports.clock.now():
                return job
        return None

    async def _plan(self) -> list[Job]:
        return await self._ports.workers.run(
            plan_catalog,
            self._catalog(),
            self.config,
            self._ports.clock.wall_us(),
            self._leaves,
            abandon_on_cancel=True,
        )

    # --------------------------------------------------------------------------------------------------------- a job

    async def _do(self, job: Job) -> None:
        number = int.from_bytes(self._ports.rng.bytes(8), "big") % JOBS
        clock = self._ports.clock
        self._now = now = _Now(job, number, clock.wall_us(), clock.now())
        paths = [file.path for file in job.sources]
        self._files.pin(paths)
        outcome, error, outputs, merged = "cancelled", "an operator cancelled it", tuple[FileEntry, ...](), None
        try:
            with now.scope:
                merged = await self._merge(now)
                outputs = await self._install(now, merged)
                now.phase = "spreading"
                holders = await self._swapping.spread(outputs)
                if now.is_stopped:
                    raise Stopped("an operator cancelled it")
                now.phase = "swapping"
                await self._swapping.swap(number, outputs, paths, holders)
                outcome, error = "done", ""
        except Stopped:
            pass
        except Conflict as problem:
            outcome, error = "void", problem.message
        except NotFound as problem:
            outcome, error = "skipped", problem.message
        except Corrupt as problem:
            outcome, error = "failed", str(problem)
            bad = next((file for file in job.sources if file.path == problem.path), None)
            if bad is not None:
                await self._doubt(bad, str(problem))
        except Unavailable as problem:
            outcome, error = "skipped" if now.phase == "merging" else "failed", problem.message
        except OSError as problem:
            if not is_full(problem):
                raise
            outcome, error = "failed", f"the disk is full: {problem}"
        finally:
            self._files.unpin(paths)
            self._now = None
        if outcome != "done":
            # Whether outputs were installed or only receipted, the receipt knows them.
            await self._yard.discard(number, self._catalog())
        await self._yard.clear(number)
        self._finish(now, outcome, error, outputs if outcome == "done" else (), merged)

    async def _merge(self, now: _Now) -> Merged:
        job = now.job
        if lacking := [file for file in job.sources if not self._files.is_here(file.path)]:
            await self._fetch.fetch(lacking)
        disk = self._ports.disk
        if await self._ports.workers.run(disk.free_bytes) < self._reserve_bytes + job.size_bytes:
            raise Unavailable(f"a merge of {job.size_bytes} bytes may need as many beside them: no room for that")
        known = self._catalog().schema(job.database, job.measurement)
        done: list[Merged] = []
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_when_cancelled, now, done)
            try:
                done.append(await self._ports.workers.run(self._merge_blocking, now, known))
            except Exception as error:  # raised below: the nursery would wrap it
                failure = error
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        if now.is_stopped:
            raise Stopped("an operator cancelled it")
        return done[0]

    def _merge_blocking(self, now: _Now, known: MeasurementSchema | None) -> Merged:
        return merge(
            now.job,
            disk=self._ports.disk,
            folder=WORK,
            known=known,
            node=self._node,
            epoch=self._epoch,
            number=now.number,
            deduplicate=self.config.deduplicate,
            target_bytes=self.config.target_file_bytes,
            memory_bytes=self.config.memory_bytes,
            stop=lambda: now.is_stopped,
            progress=now.progress,
        )

    async def _install(self, now: _Now, merged: Merged) -> tuple[FileEntry, ...]:
        now.phase = "installing"
        job = now.job
        outputs = tuple(
            FileEntry(
                path=merged_path(
                    job.database,
                    job.measurement,
                    part.min_time_us,
                    epoch=self._epoch,
                    job=now.number,
                    node=self._node,
                    tier=job.tier,
                    part=n,
                ),
                database=job.database,
                measurement=job.measurement,
                sha256=part.sha256,
                size_bytes=part.size_bytes,
                rows=part.rows,
                min_time_us=part.min_time_us,
                max_time_us=part.max_time_us,
                origin=self._node,
                epoch=self._epoch,
                first_sequence=min(file.first_sequence for file in job.sources),
                last_sequence=max(file.last_sequence for file in job.sources),
                created_us=self._ports.clock.wall_us(),
                columns=merged.columns,
            )
            for n, part in enumerate(merged.parts)
        )
        receipt = Receipt(
            job=now.number,
            tier=job.tier,
            epoch=self._epoch,
            outputs=outputs,
            drafts=tuple(part.draft for part in merged.parts),
            sources=tuple((file.path, file.sha256) for file in job.sources),
            deduplicate=self.config.deduplicate,
        )
        await self._yard.install(receipt)
        return outputs

    def _finish(
        self, now: _Now, outcome: str, error: str, outputs: tuple[FileEntry, ...], merged: Merged | None
    ) -> None:
        clock, job = self._ports.clock, now.job
        line = FinishedJob(
            job=now.number,
            tier=job.tier,
            database=job.database,
            measurement=job.measurement,
            partition_path=job.partition_path,
            files_compacted=len(job.sources),
            files_written=len(outputs),
            bytes_before=job.size_bytes,
            bytes_after=sum(entry.size_bytes for entry in outputs),
            rows_before=sum(file.rows for file in job.sources),
            rows_after=merged.rows_out if merged is not None else 0,
            outcome=outcome,
            error=error,
            started_us=now.started_us,
            duration_seconds=clock.now() - now.began,
        )
        self._history.append(line)
        self._tally.add(line)
        place = (job.database, job.measurement, job.day)
        told = {"job": now.number, "tier": job.tier, "partition": job.partition_path, "files": len(job.sources)}
        if outcome == "done":
            self._waits.pop(place, None)
            self._log.info("files_merged", **told, written=len(outputs), rows=line.rows_after)
            return
        waited = self._waits.get(place, (0.0, 0.0))[1]
        pause = min(RETRY_SECONDS_MAX, max(RETRY_SECONDS, waited * 2))
        pause = RETRY_SECONDS_MAX if outcome == "cancelled" else pause
        self._waits[place] = (clock.now() + pause, pause)
        effect = "its files stay as they are"
        self._log.warning("merge_failed", **told, outcome=outcome, reason=error, effect=effect, retry_seconds=pause)

    # ------------------------------------------------------------------------------------------- what a crash has left

    async def _resume_receipts(self) -> None:
        """What an earlier life, or an earlier job of this one, has left: drafts go, receipts are settled."""
        receipts, bad = await self._yard.find()
        for reason in bad:
            self._log.error("receipt_unreadable", reason=reason, effect="its outputs are quarantined as unknown files")
        for receipt in receipts:
            decided = resume(receipt, self._catalog(), node=self._node, is_whole=self._yard.is_whole)
            self._log.info("receipt_found", job=receipt.job, tier=receipt.tier, decided=decided.value)
            if decided is Resumed.SWAP:
                decided = await self._resume(receipt)
            self._tally.receipts_resumed += decided is Resumed.DONE
            if decided is Resumed.DISCARD:
                self._tally.receipts_discarded += 1
                await self._yard.discard(receipt.job, self._catalog())
            await self._yard.clear(receipt.job)

    async def _resume(self, receipt: Receipt) -> Resumed:
        for entry in receipt.outputs:
            self._files.came(entry.path)
        try:
            holders = await self._swapping.spread(receipt.outputs)
            await self._swapping.swap(receipt.job, receipt.outputs, [path for path, _ in receipt.sources], holders)
        except (Conflict, Unavailable) as problem:
            self._tally.last_error = problem.message
            return Resumed.DISCARD
        return Resumed.DONE

    # ------------------------------------------------------------------------------------------------------- operators

    def trigger(self, tiers: Collection[str] = TIERS, database: str = "") -> int:
        """Run what may run now in these tiers, also when disabled or paused; returns the number of the cycle.

        Raises AlreadyRunning, InvalidRequest.
        """
        if unknown := sorted({*tiers} - {*TIERS}):
            raise InvalidRequest(f"there is no tier {unknown[0]!r}; there are {', '.join(TIERS)}", code="invalid_tier")
        if database and database not in self._catalog().databases:
            raise InvalidRequest(f"there is no database {database!r}", code="invalid_database")
        if self._asked is not None:
            raise AlreadyRunning(f"cycle {self._cycle} runs already")
        self._cycle += 1
        self._asked = (tuple(tiers), database)
        self._waits.clear()
        self._woken.set()
        return self._cycle

    def pause(self) -> None:
        """Begin no more jobs; the one that runs goes on."""
        self._is_paused = True

    def resume(self) -> None:
        """Begin jobs again."""
        self._is_paused = False
        self._woken.set()

    def cancel(self) -> bool:
        """Give up the job that runs; its partition waits an hour. False: none runs, or it is too late for that."""
        now = self._now
        if now is None or now.phase in ("installing", "swapping"):
            return False
        now.is_stopped = True
        if now.phase == "spreading":
            now.scope.cancel()
        return True

    def running(self) -> tuple[RunningJob, ...]:
        """The job that runs, if one does."""
        now = self._now
        if now is None:
            return ()
        return (
            RunningJob(
                job=now.number,
                tier=now.job.tier,
                database=now.job.database,
                measurement=now.job.measurement,
                partition_path=now.job.partition_path,
                phase=now.phase,
                files=len(now.job.sources),
                bytes_before=now.job.size_bytes,
                rows_done=now.progress.rows_done,
                rows_total=now.progress.rows_total,
                started_us=now.started_us,
            ),
        )

    def history(self, limit: int = 10) -> tuple[FinishedJob, ...]:
        """The last jobs, newest first; at most `HISTORY_MAX` are remembered."""
        return tuple(reversed(self._history))[: max(0, limit)]

    async def candidates(self) -> tuple[Candidate, ...]:
        """What may be merged now, the most valuable first."""
        now = self._ports.clock.now()
        waits = self._waits
        return tuple(
            candidate(job, max(0.0, waits.get((job.database, job.measurement, job.day), (now, 0.0))[0] - now))
            for job in await self._plan()
        )

    def statistics(self) -> CompactionStatistics:
        """Numbers for status and metrics."""
        return replace(
            self._tally.statistics(),
            is_enabled=self.config.enabled,
            is_paused=self._is_paused,
            is_running=self._now is not None,
            cycle_running=self._asked is not None,
            cycle_id=self._cycle,
            waiting_partitions=len(self._waits),
        )


async def _stop_when_cancelled(now: _Now, done: Collection[Merged]) -> None:
    """A thread cannot be cancelled, but it asks."""
    try:
        await trio.sleep_forever()
    finally:
        now.is_stopped = now.is_stopped or not done
