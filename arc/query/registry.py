"""Which queries run, which ran, and how often what happened. Nothing here waits or decides."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from arc.errors import Conflict, NotFound

Status = Literal["queued", "running", "completed", "failed", "cancelled", "timed_out", "disconnected"]

SQL_CHARS_KEPT = 4_000
"""Of a statement in the list: the history must not hold 200 statements of 256 KiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningQuery:
    """One query as the list shows it. Times are µs since 1970 UTC; ``row_count`` counts rows handed out so far."""

    id: str
    sql: str
    database: str
    token_id: int | None = None
    token_name: str | None = None
    remote_addr: str | None = None
    status: Status = "queued"
    start_us: int = 0
    end_us: int | None = None
    row_count: int = 0
    error: str | None = None

    def duration_ms(self, now_us: int) -> int:
        """From start to end, or to ``now_us`` while it runs."""
        return max(0, ((self.end_us if self.end_us is not None else now_us) - self.start_us) // 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryStatistics:
    """Counters since the start, and what is under way."""

    running: int = 0
    queued: int = 0
    started_total: int = 0
    completed_total: int = 0
    failed_total: int = 0
    cancelled_total: int = 0
    timed_out_total: int = 0
    disconnected_total: int = 0
    rejected_total: int = 0
    rows_total: int = 0
    seconds_total: float = 0.0


class Registry:
    """The one owner of the records. A record is replaced, never changed, so a list that was handed out stays as it
    was."""

    def __init__(self, history: int) -> None:
        self._active: dict[str, RunningQuery] = {}
        self._recent: deque[RunningQuery] = deque(maxlen=history)
        self._counts: dict[str, int] = {}
        self._rows = 0
        self._seconds = 0.0

    def start(self, record: RunningQuery) -> None:
        """A query came in."""
        assert record.id not in self._active, record.id
        self._active[record.id] = replace(record, sql=record.sql[:SQL_CHARS_KEPT])
        self._count("started")

    def running_now(self, query_id: str) -> None:
        """It left the queue."""
        self._active[query_id] = replace(self._active[query_id], status="running")

    def finish(self, query_id: str, status: Status, *, end_us: int, row_count: int, error: str | None) -> None:
        """It is over."""
        record = self._active.pop(query_id)
        done = replace(record, status=status, end_us=end_us, row_count=row_count, error=error)
        self._recent.appendleft(done)
        self._count(status)
        self._rows += row_count
        self._seconds += done.duration_ms(end_us) / 1000

    def rejected(self) -> None:
        """A query was turned away because the queue was full or slow."""
        self._count("rejected")

    def active(self) -> Sequence[RunningQuery]:
        """Queued and running, oldest first."""
        return tuple(self._active.values())

    def recent(self) -> Sequence[RunningQuery]:
        """Finished, newest first."""
        return tuple(self._recent)

    def find(self, query_id: str) -> RunningQuery:
        """Raises NotFound."""
        found = self._active.get(query_id) or next((done for done in self._recent if done.id == query_id), None)
        if found is None:
            raise NotFound(f"there is no query {query_id!r}")
        return found

    def require_active(self, query_id: str) -> None:
        """Raises NotFound, or Conflict when it has finished."""
        record = self.find(query_id)
        if record.id not in self._active:
            raise Conflict(f"query {query_id!r} has finished: {record.status}", code="query_finished")

    def statistics(self) -> QueryStatistics:
        """Now."""
        queued = sum(record.status == "queued" for record in self._active.values())
        return QueryStatistics(
            running=len(self._active) - queued,
            queued=queued,
            rows_total=self._rows,
            seconds_total=round(self._seconds, 3),
            **{f"{name}_total": self._counts.get(name, 0) for name in _COUNTED},
        )

    def _count(self, name: str) -> None:
        self._counts[name] = self._counts.get(name, 0) + 1


_COUNTED = ("started", "completed", "failed", "cancelled", "timed_out", "disconnected", "rejected")
