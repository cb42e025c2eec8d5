"""Continuous queries and their executions as JSON, with the keys that clients of Arc in Go read."""

from __future__ import annotations

from arc.api.routes import Parameter, Schema
from arc.api.schemas import BOOLEAN, INTEGER, NUMBER, STRING, TIMESTAMP, array, nullable, obj
from arc.compaction.retention import DAYS_MAX
from arc.continuous.definition import ContinuousQuery
from arc.continuous.progress import Progress, Run
from arc.continuous.runner import Executed
from arc.telemetry import rfc3339_ms

_DAYS: Schema = {"anyOf": [{"type": "integer", "minimum": 1, "maximum": DAYS_MAX}, {"type": "null"}]}

QUERY = obj(
    {
        "id": INTEGER, "name": STRING, "description": nullable(STRING), "database": STRING,
        "source_measurement": STRING, "destination_measurement": STRING, "query": STRING, "interval": STRING,
        "lateness": STRING, "tag_columns": nullable(array(STRING)), "retention_days": nullable(INTEGER),
        "delete_source_after_days": nullable(INTEGER), "is_active": BOOLEAN,
        "last_execution_time": nullable(TIMESTAMP), "last_execution_status": nullable(STRING),
        "last_error": nullable(STRING), "last_processed_time": nullable(TIMESTAMP),
        "last_records_written": nullable(INTEGER), "open_windows": INTEGER, "created_at": TIMESTAMP,
        "updated_at": TIMESTAMP,
    }
)  # fmt: skip
ONE = obj({"success": BOOLEAN, "id": INTEGER, "name": STRING, "query": QUERY})
EXECUTED = obj(
    {
        "query_id": INTEGER, "query_name": STRING, "execution_id": STRING, "status": STRING, "start_time": TIMESTAMP,
        "end_time": TIMESTAMP, "windows": INTEGER, "records_read": nullable(INTEGER), "records_written": INTEGER,
        "execution_time_seconds": NUMBER, "destination_measurement": STRING, "dry_run": BOOLEAN,
        "executed_at": TIMESTAMP, "executed_query": STRING,
    }
)  # fmt: skip
RUN = obj(
    {
        "id": INTEGER, "query_id": INTEGER, "execution_id": STRING, "execution_time": TIMESTAMP, "cause": STRING,
        "status": STRING, "start_time": TIMESTAMP, "end_time": TIMESTAMP, "records_read": INTEGER,
        "records_written": INTEGER, "execution_duration_seconds": NUMBER, "error_message": nullable(STRING),
    }
)  # fmt: skip
WISHES: dict[str, Schema] = {
    "name": STRING, "description": nullable(STRING), "database": STRING, "source_measurement": STRING,
    "destination_measurement": STRING, "query": STRING, "interval": STRING, "lateness": nullable(STRING),
    "tag_columns": nullable(array(STRING)), "retention_days": _DAYS, "delete_source_after_days": _DAYS,
    "is_active": nullable(BOOLEAN),
}  # fmt: skip
ID = Parameter(
    name="id", place="path", about="Query id.", schema={"type": "integer", "minimum": 1, "maximum": 2**53},
    required=True,
)  # fmt: skip


def shown(query: ContinuousQuery, progress: Progress) -> dict[str, object]:
    """One query, and how far it is."""
    last = next(iter(progress.runs), None)
    return {
        "id": query.id,
        "name": query.name,
        "description": query.description,
        "database": query.database,
        "source_measurement": query.source,
        "destination_measurement": query.destination,
        "query": query.query,
        "interval": query.interval,
        "lateness": query.lateness,
        "tag_columns": list(query.tags) if query.tags is not None else None,
        "retention_days": query.retention_days,
        "delete_source_after_days": query.delete_source_after_days,
        "is_active": query.is_active,
        "last_execution_time": rfc3339_ms(last.at_us) if last is not None else None,
        "last_execution_status": last.status if last is not None else None,
        "last_error": last.error if last is not None else None,
        "last_processed_time": rfc3339_ms(progress.until_us) if progress.done else None,
        "last_records_written": last.rows_written if last is not None else None,
        "open_windows": len(progress.open),
        "created_at": rfc3339_ms(query.created_us),
        "updated_at": rfc3339_ms(query.updated_us),
    }


def one(query: ContinuousQuery, progress: Progress) -> dict[str, object]:
    """One query as an answer of its own. The Python client reads it below ``query``, others read the keys themselves,
    and both get them; only the text of the query is where the former looks for it.
    """
    document = shown(query, progress)
    return {"success": True, **document, "query": document}


def executed(query: ContinuousQuery, done: Executed, *, at_us: int, is_dry: bool) -> dict[str, object]:
    """What an order came to. A dry run reads no source."""
    return {
        "query_id": query.id,
        "query_name": query.name,
        "execution_id": done.execution_id,
        "status": "completed",
        "start_time": rfc3339_ms(done.start_us),
        "end_time": rfc3339_ms(done.end_us),
        "windows": done.windows,
        "records_read": None if is_dry else done.rows_read,
        "records_written": done.rows_written,
        "execution_time_seconds": round(done.milliseconds / 1e3, 6),
        "destination_measurement": query.destination,
        "dry_run": is_dry,
        "executed_at": rfc3339_ms(at_us),
        "executed_query": done.statement,
    }


def run_shown(query: ContinuousQuery, run: Run) -> dict[str, object]:
    """One row of the history."""
    return {
        "id": run.id,
        "query_id": query.id,
        "execution_id": run.execution_id,
        "execution_time": rfc3339_ms(run.at_us),
        "cause": run.cause,
        "status": run.status,
        "start_time": rfc3339_ms(run.start_us),
        "end_time": rfc3339_ms(run.end_us),
        "records_read": run.rows_read,
        "records_written": run.rows_written,
        "execution_duration_seconds": round(run.milliseconds / 1e3, 6),
        "error_message": run.error,
    }
