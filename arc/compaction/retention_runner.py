"""Executes retention policies: files leave the manifest in entries of the log under the writer lease's token.

Any node can carry out an order, because the catalog refuses what the writer lease of another epoch asked for and what
is gone already; only the holder of the lease carries out the schedule. What was executed, and what came of it, is in
the catalog, so a successor neither repeats nor forgets. Bytes leave the disks later, by the difference to the manifest.

It goes by the clock of the cluster that is furthest behind (`cluster.clocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from arc.catalog.commands import WRITER, Command, PutPolicy, ReplaceFiles
from arc.catalog.facts import Catalog
from arc.catalog.results import Result
from arc.compaction import retention
from arc.compaction.config import RetentionConfig
from arc.compaction.retention import RetentionPolicy, Run
from arc.errors import ArcError, Conflict, NotFound, Unavailable
from arc.ids import NodeId
from arc.ports import Clock
from arc.storage.files import FileEntry
from arc.telemetry import Log

FILES_PER_ENTRY = 1000
LOOK_SECONDS = 60.0
"""How often the holder of the lease looks what is due, at most."""

LOOKS_MAX = 5
"""Files that somebody else removed meanwhile make it look again, so often."""


class Propose(Protocol):
    """Changes the catalog; `cluster.proposals`."""

    async def propose(self, command: Command) -> Result:
        """Have a command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an execution removed, or would; ``measurements`` are those that lost something."""

    rows: int
    files: int
    cutoff_us: int
    milliseconds: float
    measurements: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionStatistics:
    """Executions on this node, and what they removed. ``failures_total`` will be tried again when they are due."""

    executions_total: int
    failures_total: int
    files_removed_total: int
    rows_removed_total: int


class RetentionRunner:
    """Executes one policy at a time on this node. ``now_us`` is the time by which rows are old, `Registry.earliest_us`,
    which raises Unavailable where nobody knows.
    """

    def __init__(
        self,
        config: RetentionConfig,
        propose: Propose,
        catalog: Callable[[], Catalog],
        now_us: Callable[[], int],
        *,
        node: NodeId,
        clock: Clock,
        log: Log,
    ) -> None:
        self._config = config
        self._now_us = now_us
        self._propose = propose
        self._catalog = catalog
        self._node = node
        self._clock = clock
        self._log = log.bind(component="retention")
        self._turn = trio.StrictFIFOLock()
        self._executions = self._failures = self._files = self._rows = 0

    def __repr__(self) -> str:
        return f"<RetentionRunner {self._node} executions={self._executions} files={self._files}>"

    @property
    def every_seconds(self) -> float:
        """So long after its last execution a policy is due again; 0: never."""
        return self._config.every_seconds

    async def run(self) -> None:
        """Carry out the schedule until cancelled, whenever this node writes."""
        every_us = int(self._config.every_seconds * 1e6)
        if not every_us:
            await trio.sleep_forever()
        while True:
            lease = self._catalog().leases.get(WRITER)
            if lease is not None and lease.holder == self._node:
                for policy in self._due(every_us):
                    try:
                        await self.execute(policy.id)
                    except ArcError as error:  # It is in the log and the history, and due again later.
                        self._log.warning("retention_put_off", policy=policy.name, reason=error.message)
            await trio.sleep(min(self._config.every_seconds, LOOK_SECONDS))

    def _due(self, every_us: int) -> list[RetentionPolicy]:
        """None as long as nobody knows what time it is."""
        try:
            return retention.due(self._catalog(), self._now_us(), every_us)
        except Unavailable as error:
            self._log.info("retention_waits", reason=error.message)
            return []

    def preview(self, policy_id: int) -> Outcome:
        """What an execution would remove now. Raises NotFound, Unavailable."""
        policy, now_us = retention.require(self._catalog(), policy_id), self._now_us()
        return _outcome(policy, now_us, retention.expired(self._catalog(), policy, now_us), 0.0)

    async def execute(self, policy_id: int) -> Outcome:
        """Remove what is too old now, and note it.

        Raises NotFound, Conflict (the policy is not active, or others keep removing the same files), Unavailable,
        OutcomeUnknown. What was removed before a failure stays removed, and is in the history with it.
        """
        async with self._turn:
            policy = retention.require(self._catalog(), policy_id)
            if not policy.is_active:
                raise Conflict(f"retention policy {policy.name!r} is not active", code="inactive")
            began, now_us = self._clock.now(), self._now_us()
            gone: list[FileEntry] = []
            failure: ArcError | None = None
            try:
                await self._remove(policy, now_us, gone)
            except ArcError as error:
                failure = error
                self._failures += 1
            outcome = _outcome(policy, now_us, gone, (self._clock.now() - began) * 1e3)
            self._executions += 1
            self._files += outcome.files
            self._rows += outcome.rows
            self._log.info(
                "retention_executed",
                policy=policy.name,
                files=outcome.files,
                rows=outcome.rows,
                **({"reason": failure.message} if failure is not None else {}),
            )
            await self._note(policy, now_us, outcome, failure)
        if failure is not None:
            raise failure
        return outcome

    async def _remove(self, policy: RetentionPolicy, now_us: int, gone: list[FileEntry]) -> None:
        """Add to ``gone`` what left the manifest."""
        for _ in range(LOOKS_MAX):
            catalog = self._catalog()
            files = retention.expired(catalog, policy, now_us)
            if not files:
                return
            epoch = catalog.lease_epoch(WRITER)
            if not epoch:
                raise Unavailable("nobody holds the writer lease: nothing can be removed now")
            try:
                for at in range(0, len(files), FILES_PER_ENTRY):
                    part = files[at : at + FILES_PER_ENTRY]
                    remove = tuple((file.path, file.sha256) for file in part)
                    (await self._propose.propose(ReplaceFiles(remove=remove, lease=WRITER, epoch=epoch))).unwrap()
                    gone += part
                return
            except Conflict:  # The lease moved, or a file was merged or removed: what is too old now is another list.
                await trio.lowlevel.checkpoint()
        raise Conflict(f"files of {policy.database} kept changing; the next execution goes on", code="busy")

    async def _note(self, policy: RetentionPolicy, now_us: int, outcome: Outcome, failure: ArcError | None) -> None:
        """Into the history. Raises Unavailable, OutcomeUnknown unless it failed already."""
        run = Run(
            id=0,
            at_us=now_us,
            status="completed" if failure is None else "failed",
            rows=outcome.rows,
            files=outcome.files,
            cutoff_us=outcome.cutoff_us,
            milliseconds=round(outcome.milliseconds, 3),
            error=failure.message if failure is not None else None,
        )
        body = retention.body_of_runs(retention.runs(self._catalog(), policy.id), run)
        command = PutPolicy(kind=retention.RUNS_KIND, name=str(policy.id), body=body, at_us=now_us)
        try:
            (await self._propose.propose(command)).unwrap()
        except ArcError as error:
            self._log.warning("retention_not_noted", policy=policy.name, reason=error.message)
            if failure is None:
                raise

    def statistics(self) -> RetentionStatistics:
        """Numbers for status and metrics."""
        return RetentionStatistics(
            executions_total=self._executions,
            failures_total=self._failures,
            files_removed_total=self._files,
            rows_removed_total=self._rows,
        )


def _outcome(policy: RetentionPolicy, now_us: int, files: Sequence[FileEntry], milliseconds: float) -> Outcome:
    return Outcome(
        rows=sum(file.rows for file in files),
        files=len(files),
        cutoff_us=policy.cutoff_us(now_us),
        milliseconds=milliseconds,
        measurements=tuple(sorted({file.measurement for file in files})),
    )


async def put(
    propose: Propose, catalog: Catalog, policy: RetentionPolicy, *, now_us: int, is_new: bool
) -> RetentionPolicy:
    """Make or change a policy; as it stands then.

    Raises InvalidRequest, NotFound (no such database), Conflict (the name is taken, or it was changed meanwhile),
    Unavailable, OutcomeUnknown.
    """
    retention.check(policy)
    if policy.database not in catalog.databases:
        raise NotFound(f"database {policy.database!r} not found")
    if any(other.name == policy.name and other.id != policy.id for other in retention.policies(catalog)):
        raise Conflict(f"there is a retention policy {policy.name!r} already", code="exists")
    at_us = max(now_us, policy.updated_us + 1)
    command = PutPolicy(
        kind=retention.KIND,
        name=str(policy.id),
        body=retention.body_of(policy),
        at_us=at_us,
        expect_us=0 if is_new else policy.updated_us,
        title=policy.name,
    )
    (await propose.propose(command)).unwrap()
    return replace(policy, updated_us=at_us)
