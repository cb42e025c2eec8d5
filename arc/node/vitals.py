"""How this node is, in numbers: what it tells the others with every heartbeat, and shows of itself.

Rates are taken over the last second or so, between two looks at counters that only grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from arc.cluster.views import NodeStats
from arc.ports import Clock, Load, Workers

WINDOW_SECONDS = 1.0
"""A rate is over at least so long: heartbeats come more often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the parts of the node have counted and are at, now."""

    rows_total: int = 0
    queries_total: int = 0
    connections: int = 0
    active_queries: int = 0
    applied_index: int = 0
    durable_sequence: int = 0
    admitted_sequence: int = 0
    refuses_writes: str = ""
    refuses_queries: str = ""
    disk_free_bytes: int = 0
    certificate_expires_us: int = 0
    disk_stalled_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    load: Load
    storage_bytes: int
    rows: int
    queries: int


class Vitals:
    """Call it for the numbers of now. ``counts`` is cheap: every request that is routed asks. What costs more, the load
    of the machine and ``storage_bytes``, is looked at once in a window.
    """

    def __init__(
        self, counts: Callable[[], Counts], storage_bytes: Callable[[], int], clock: Clock, workers: Workers
    ) -> None:
        self._counts = counts
        self._storage_bytes = storage_bytes
        self._clock = clock
        self._workers = workers
        self._before = _Look(clock.now(), workers.load(), 0, 0, 0)
        self._rates = (0.0, 0.0, 0.0)

    def __call__(self) -> NodeStats:
        """The numbers."""
        counts, now = self._counts(), self._clock.now()
        if now - self._before.at >= WINDOW_SECONDS:
            self._look(counts, now)
        load = self._before.load
        cpu, ingest, queries = self._rates
        return NodeStats(
            cpu_usage=round(cpu, 2),
            memory_usage=round(100 * load.memory_bytes / load.memory_total_bytes, 2),
            ingest_rate=max(0.0, ingest),
            query_rate=max(0.0, queries),
            storage_used=self._before.storage_bytes,
            connections=counts.connections,
            active_queries=counts.active_queries,
            applied_index=counts.applied_index,
            durable_sequence=counts.durable_sequence,
            admitted_sequence=counts.admitted_sequence,
            refuses_writes=counts.refuses_writes,
            refuses_queries=counts.refuses_queries,
            disk_free_bytes=counts.disk_free_bytes,
            certificate_expires_us=counts.certificate_expires_us,
            clock_us=self._clock.wall_us(),
            disk_stalled_seconds=round(counts.disk_stalled_seconds, 3),
        )

    def _look(self, counts: Counts, now: float) -> None:
        before, load, passed = self._before, self._workers.load(), now - self._before.at
        self._rates = (
            100 * (load.cpu_seconds - before.load.cpu_seconds) / passed / load.cores,
            (counts.rows_total - before.rows) / passed,
            (counts.queries_total - before.queries) / passed,
        )
        self._before = _Look(now, load, self._storage_bytes(), counts.rows_total, counts.queries_total)
