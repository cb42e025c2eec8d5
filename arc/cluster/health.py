"""Checks every other node at a steady pace, at once when its session breaks, and tells who fell ill or got well.

How a check is judged, and within which time a silent node is noticed, is said in `judging`. Here is the pace: rounds
``check_interval_seconds`` apart, all nodes in one round, so a round is one publication. A round that comes late says
more about this node than about the others, so nothing that was not heard counts against them in it.

A node that has just begun to be told at the full pace (it started, or became a voter) has no right to judge by that
pace yet: it is patient for ``detection_seconds`` first. One that has listened all along may decide in the very moment
it is elected.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from arc.cluster.judging import HealthConfig, Transition
from arc.cluster.redundancy import CompactorMemory, WriterMemory, compactor_warning, writer_warning
from arc.cluster.registry import Registry
from arc.ports import Clock
from arc.telemetry import Log

LATE_INTERVALS = 2.0
"""A round so many intervals after the one before comes late."""

WARNINGS_SECONDS = 1.0
"""How often it is looked whether there is something to warn of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthStatistics:
    """``late_rounds_total`` counts rounds in which this node had been held up itself."""

    rounds_total: int
    late_rounds_total: int
    transitions_total: int
    is_watching: bool


class HealthChecker:
    """Checks the nodes of a registry.

    ``warns_of_compactors``: one node merges files for all, so nobody or two would be wrong. ``replaces_writers``:
    failover is on.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        config: HealthConfig,
        clock: Clock,
        log: Log,
        warns_of_compactors: bool = False,
        replaces_writers: bool = True,
    ) -> None:
        self._registry = registry
        self._config = config
        self._clock = clock
        self._log = log.bind(component="health")
        self._warns_of_compactors = warns_of_compactors
        self._replaces_writers = replaces_writers
        self._watching_since: float | None = None
        self._round_at: float | None = None
        self._is_running = False
        self._warned_at = -WARNINGS_SECONDS + clock.now()
        self._compactor_memory = CompactorMemory()
        self._writer_memory = WriterMemory()
        self._rounds = self._late = self._transitions = 0

    def __repr__(self) -> str:
        return f"<HealthChecker rounds={self._rounds} watching={self.is_watching} {self._registry!r}>"

    @property
    def is_watching(self) -> bool:
        """Whether this node has been told at the full pace for long enough to judge by it."""
        since = self._watching_since
        return since is not None and self._clock.now() - since >= self._config.detection_seconds

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Check until cancelled."""
        self._is_running = True
        self._round_at = None
        try:
            task_status.started()
            while True:
                self.check_all()
                await trio.sleep(self._config.check_interval_seconds)
        finally:
            self._is_running = False

    def check_all(self) -> None:
        """One round."""
        now = self._clock.now()
        is_late = self._round_at is not None and now - self._round_at > LATE_INTERVALS * self._interval
        self._round_at = now
        self._rounds += 1
        self._late += is_late
        self._look_around(now)
        self._registry.listen()
        for name in self._registry.others():
            self._check(name, is_late=is_late)
        self._registry.publish()
        if now - self._warned_at >= WARNINGS_SECONDS:
            self._warned_at = now
            self._warn(now)

    def check_now(self, name: str) -> bool:
        """Whether a node was heard of lately; counts nothing. False for one that is not known."""
        return self._registry.is_fresh(name, is_watching=self.is_watching)

    def session_broke(self, name: str) -> None:
        """The session to a node broke, or could not be made: check it at once, but once only until it is heard."""
        if self._registry.session_broke(name):
            self._check(name, is_late=False)
            self._registry.publish()

    def status(self) -> dict[str, bool | int]:
        """For status pages."""
        return {
            "running": self._is_running,
            "check_interval_ms": round(self._config.check_interval_seconds * 1000),
            "check_timeout_ms": round(self._config.check_timeout_seconds * 1000),
            "unhealthy_threshold": self._config.unhealthy_threshold,
        }

    def statistics(self) -> HealthStatistics:
        """Counters since the start."""
        return HealthStatistics(
            rounds_total=self._rounds,
            late_rounds_total=self._late,
            transitions_total=self._transitions,
            is_watching=self.is_watching,
        )

    @property
    def _interval(self) -> float:
        return self._config.check_interval_seconds

    def _look_around(self, now: float) -> None:
        """Note since when this node is one of those that are told at the full pace."""
        if self._registry.is_watcher():
            self._watching_since = now if self._watching_since is None else self._watching_since
        else:
            self._watching_since = None

    def _check(self, name: str, *, is_late: bool) -> None:
        moved = self._registry.process_health_check(name, is_watching=self.is_watching, is_late=is_late)
        if moved is not None:
            self._transitions += 1
            self._tell(name, moved)

    def _tell(self, name: str, moved: Transition) -> None:
        view = self._registry.get(name)
        assert view is not None, name
        heard = view.heard_seconds_ago
        tell = self._log.info if view.is_available else self._log.warning
        tell(
            f"node_{moved.new}",
            node=name,
            before=moved.old.value,
            heard_seconds_ago=None if heard is None else round(heard, 3),
            failed_checks=view.failed_checks,
        )

    def _warn(self, now: float) -> None:
        views = self._registry.all()
        text, self._writer_memory = writer_warning(views, now, self._writer_memory, is_replaced=self._replaces_writers)
        if text is not None:
            self._log.warning("writers_too_few", reason=text)
        if not self._warns_of_compactors:
            return
        text, self._compactor_memory = compactor_warning(views, self._registry.catalog, now, self._compactor_memory)
        if text is not None:
            self._log.warning("compactors_wrong", reason=text)
