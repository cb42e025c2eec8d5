"""Short ways to say what tests of continuous queries are about."""

from __future__ import annotations

from arc.continuous.definition import ContinuousQuery
from arc.continuous.progress import Run

HOUR_US = 3_600_000_000
NOON_US = 1_767_225_600_000_000 + 12 * HOUR_US
"""2026-01-01T12:00:00Z."""

QUERY = ContinuousQuery(
    id=7, name="hourly", description=None, database="metrics", source="cpu", destination="cpu_1h",
    query="SELECT date_trunc('hour', time) AS time, host, avg(v) AS v, count(*) AS n FROM metrics.cpu "
    "WHERE time >= {start_time} AND time < {end_time} GROUP BY 1, 2",
    interval="1h", lateness="2h", tags=None, retention_days=None, delete_source_after_days=None, is_active=True,
    created_us=NOON_US, updated_us=0,
)  # fmt: skip


def hours(start: int, end: int | None = None) -> tuple[int, int]:
    """The window from one hour of that day to another; one hour long if no end is given."""
    return NOON_US + (start - 12) * HOUR_US, NOON_US + ((end if end is not None else start + 1) - 12) * HOUR_US


def run(**more: object) -> Run:
    given: dict[str, object] = {
        "id": 0, "execution_id": "e", "at_us": NOON_US, "cause": "schedule", "status": "completed",
        "start_us": 0, "end_us": 1, "rows_read": 1, "rows_written": 1, "milliseconds": 1.5,
    }  # fmt: skip
    return Run(**(given | more))  # type: ignore[arg-type]
