"""How a command is agreed on in a cluster of one.

Judged, written durably, applied, told; then its proposer gets the result.

One task (`run`) owns the ledger. Whoever proposes joins the next batch; all commands of a batch share one durable
write, and commands that come meanwhile are the next batch. A proposer who is cancelled loses his answer and nothing
else: his command is dropped if its batch has not begun, and goes its way if it has.

Raft will do this for real clusters behind the same `propose`; nothing else may depend on this file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import trio

from arc.catalog.commands import Command
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.cluster.config import ProposalsConfig
from arc.cluster.feed import Feed
from arc.cluster.ledger import Decision, Ledger, open_ledger, weight
from arc.errors import ArcError, DiskFailed, OutcomeUnknown, Overloaded, Unavailable
from arc.ports import Ports
from arc.telemetry import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalsStatistics:
    """Counters since the start.

    ``unchanged`` commands stood already; ``commit_seconds_total`` is time spent in durable writes.
    """

    accepted_total: int
    unchanged_total: int
    refused_total: int
    batches_total: int
    commit_seconds_total: float
    snapshots_total: int
    waiting: int
    applied_index: int
    snapshot_index: int
    log_first_index: int
    log_next_index: int


@dataclass(slots=True, eq=False)
class _Asked:
    """A proposer who waits."""

    command: Command
    done: trio.Event = field(default_factory=trio.Event)
    result: Result | None = None
    error: ArcError | None = None
    abandoned: bool = False

    def answer(self, result: Result) -> None:
        self.result = result
        self.done.set()

    def fail(self, error: ArcError) -> None:
        if not self.done.is_set():
            self.error = error
            self.done.set()


@dataclass(slots=True)
class _Counts:
    accepted: int = 0
    unchanged: int = 0
    refused: int = 0
    batches: int = 0
    commit_seconds: float = 0.0
    snapshots: int = 0


class StandaloneProposals:
    """Changes the catalog of a cluster of one. ``fsm`` and ``feed`` are its own to change; others read them."""

    def __init__(self, ports: Ports, config: ProposalsConfig, fsm: ClusterFSM, feed: Feed, log: Log) -> None:
        self._ports = ports
        self._config = config
        self._fsm = fsm
        self._feed = feed
        self._log = log.bind(component="proposals")
        self._waiting: deque[_Asked] = deque()
        self._wake = trio.Event()
        self._closed_because: str | None = "the catalog is not open yet"
        self._ledger: Ledger | None = None
        self._failure: DiskFailed | None = None
        self._journal = trio.Lock()
        self._saving = False
        self._counts = _Counts()

    def __repr__(self) -> str:
        state = self._closed_because or "open"
        return f"<StandaloneProposals {state} waiting={len(self._waiting)} applied={self._fsm.catalog.index}>"

    async def propose(self, command: Command) -> Result:
        """Return the result of the command once it is durable and applied here; a refusal is a result too.

        Raises Unavailable when it was not stored (not open, stopping), Overloaded when too many wait or the disk is
        full (not stored either), OutcomeUnknown when the disk failed under it.
        """
        if self._closed_because is not None:
            raise Unavailable(self._closed_because)
        if len(self._waiting) >= self._config.waiting_max:
            raise Overloaded(f"{self._config.waiting_max} proposals are waiting already; nothing was stored")
        asked = _Asked(command)
        self._waiting.append(asked)
        self._wake.set()
        try:
            await asked.done.wait()
        except trio.Cancelled:
            asked.abandoned = True
            raise
        if asked.error is not None:
            raise asked.error
        assert asked.result is not None, "an answer is a result or an error"
        return asked.result

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Open the catalog, then serve until cancelled; started when the catalog is up to date and proposals are taken.

        Raises Corrupt or DiskFailed: the node must stop. A cancelled run leaves a snapshot and a closed log.
        """
        ledger, catalog = await self._ports.workers.run(
            open_ledger, self._ports.disk, self._config.folder, self._config.segment_bytes, self._log
        )
        self._ledger = ledger
        self._fsm.restore(catalog)
        self._feed.restart(catalog)
        in_order = False
        try:
            async with trio.open_nursery() as nursery:
                self._closed_because = None
                task_status.started()
                try:
                    await self._serve(ledger, nursery)
                except trio.Cancelled:
                    in_order = True
                    raise
                nursery.cancel_scope.cancel()
        finally:
            self._close()
            if in_order and self._failure is None:
                with trio.CancelScope(shield=True):
                    await self._ports.workers.run(ledger.leave, self._fsm.catalog)
        if self._failure is not None:
            raise self._failure

    def statistics(self) -> ProposalsStatistics:
        """Numbers for status, metrics and gates."""
        ledger, counts = self._ledger, self._counts
        return ProposalsStatistics(
            accepted_total=counts.accepted,
            unchanged_total=counts.unchanged,
            refused_total=counts.refused,
            batches_total=counts.batches,
            commit_seconds_total=counts.commit_seconds,
            snapshots_total=counts.snapshots,
            waiting=len(self._waiting),
            applied_index=self._fsm.catalog.index,
            snapshot_index=ledger.snapshot_index if ledger is not None else 0,
            log_first_index=ledger.first_index if ledger is not None else 0,
            log_next_index=ledger.next_index if ledger is not None else 0,
        )

    async def _serve(self, ledger: Ledger, nursery: trio.Nursery) -> None:
        """Settle batch after batch; returns only when the disk failed."""
        while self._failure is None:
            if not self._waiting:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            # From here to the answers nothing may be interrupted: what was written must be applied and told.
            with trio.CancelScope(shield=True):
                await self._settle(ledger, self._take_batch())
            if ledger.entries_since_snapshot >= self._config.snapshot_entries and not self._saving:
                self._saving = True
                nursery.start_soon(self._save_snapshot, ledger)
            await trio.lowlevel.checkpoint_if_cancelled()

    def _take_batch(self) -> list[_Asked]:
        batch: list[_Asked] = []
        heavy = 0
        while self._waiting and len(batch) < self._config.batch_commands_max:
            cost = weight(self._waiting[0].command)
            if batch and heavy + cost > self._config.batch_weight_max:
                break
            asked = self._waiting.popleft()
            if not asked.abandoned:
                batch.append(asked)
                heavy += cost
        return batch

    async def _settle(self, ledger: Ledger, batch: Sequence[_Asked]) -> None:
        if not batch:
            return
        commands = [asked.command for asked in batch]
        begun = self._ports.clock.now()
        try:
            async with self._journal:
                decisions = await self._ports.workers.run(ledger.commit, self._fsm.catalog, commands)
        except Overloaded as full:
            again = full.retry_after_seconds
            _fail_all(batch, partial(Overloaded, full.message, code=full.code, retry_after_seconds=again))
            return
        except DiskFailed as failure:
            self._failure = failure
            _fail_all(batch, partial(OutcomeUnknown, "the disk failed while the command was being stored"))
            return
        except BaseException:
            _fail_all(batch, partial(OutcomeUnknown, "the node failed while the command was being stored"))
            raise
        self._counts.batches += 1
        self._counts.commit_seconds += self._ports.clock.now() - begun
        for asked, decision in zip(batch, decisions, strict=True):
            self._apply(decision)
            asked.answer(decision.result)

    def _apply(self, decision: Decision) -> None:
        if not decision.logged:
            self._counts.unchanged += decision.result.ok
            self._counts.refused += not decision.result.ok
            return
        applied = self._fsm.apply(decision.result.index, decision.command)
        assert applied.result == decision.result, "the same command on the same version has the same result"
        self._counts.accepted += 1
        self._feed.publish(self._fsm.catalog, applied.events)

    async def _save_snapshot(self, ledger: Ledger) -> None:
        """Runs beside the proposals: a version never changes, and a snapshot has files of its own."""
        try:
            if await self._ports.workers.run(ledger.save_snapshot, self._fsm.catalog):
                self._counts.snapshots += 1
                async with self._journal:
                    await self._ports.workers.run(ledger.compact)
        except DiskFailed as failure:
            self._failure = failure
            self._wake.set()
        finally:
            self._saving = False

    def _close(self) -> None:
        self._closed_because = (
            "the node is stopping" if self._failure is None else f"the disk failed: {self._failure.message}"
        )
        _fail_all(self._waiting, partial(Unavailable, self._closed_because))
        self._waiting.clear()


def _fail_all(batch: Sequence[_Asked] | deque[_Asked], error: Callable[[], ArcError]) -> None:
    """Each proposer gets an error of his own: a shared one would collect everybody's traceback."""
    for asked in batch:
        asked.fail(error())
