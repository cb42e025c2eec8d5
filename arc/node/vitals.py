"""How this node is, in numbers: what it tells the others with every heartbeat, and shows of itself.

Rates are taken over the last second or so, between two looks at counters that only grow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from arc.cluster.views import NodeStats
from arc.ports import Clock, Workers

WINDOW_SECONDS = 1.0
"""A rate is over at least so long: heartbeats come more often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the parts of the node have counted and are at, now."""

    rows_total: int = 0
    queries_total: int = 0
    storage_bytes: int = 0
    connections: int = 0
    active_queries: int = 0
    applied_index: int = 0
    durable_sequence: int = 0
    admitted_sequence: int = 0
    refuses_writes: str = ""
    refuses_queries: str = ""


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    cpu_seconds: float
    rows: int
    queries: int


class Vitals:
    """Call it for the numbers of now. ``counts`` is cheap."""

    def __init__(self, counts: Callable[[], Counts], clock: Clock, workers: Workers) -> None:
        self._counts = counts
        self._clock = clock
        self._workers = workers
        self._before = _Look(clock.now(), workers.load().cpu_seconds, 0, 0)
        self._rates = (0.0, 0.0, 0.0)

    def __call__(self) -> NodeStats:
        """The numbers."""
        counts, load, now = self._counts(), self._workers.load(), self._clock.now()
        before, passed = self._before, now - self._before.at
        if passed >= WINDOW_SECONDS:
            self._rates = (
                100 * (load.cpu_seconds - before.cpu_seconds) / passed / load.cores,
                (counts.rows_total - before.rows) / passed,
                (counts.queries_total - before.queries) / passed,
            )
            self._before = _Look(now, load.cpu_seconds, counts.rows_total, counts.queries_total)
        cpu, ingest, queries = self._rates
        return NodeStats(
            cpu_usage=round(cpu, 2),
            memory_usage=round(100 * load.memory_bytes / load.memory_total_bytes, 2),
            ingest_rate=max(0.0, ingest),
            query_rate=max(0.0, queries),
            storage_used=counts.storage_bytes,
            connections=counts.connections,
            active_queries=counts.active_queries,
            applied_index=counts.applied_index,
            durable_sequence=counts.durable_sequence,
            admitted_sequence=counts.admitted_sequence,
            refuses_writes=counts.refuses_writes,
            refuses_queries=counts.refuses_queries,
        )
