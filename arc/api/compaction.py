"""Compaction: what is merged, what was, what could be; and orders to whoever compacts, whichever node is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from arc.api.bodies import whole_number
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, Route
from arc.api.schemas import (
    BOOLEAN,
    DATABASE_NAME,
    INTEGER,
    NUMBER,
    STRING,
    TIMESTAMP,
    array,
    json_answer,
    nullable,
    obj,
)
from arc.compaction.runner import HISTORY_MAX
from arc.compaction.tiers import TIERS
from arc.errors import InvalidRequest
from arc.telemetry import rfc3339_ms

MB = 1e6
RECENT = 10

_SCHEDULER = obj(
    {"enabled": BOOLEAN, "running": BOOLEAN, "schedule": STRING, "role_gated": BOOLEAN, "gate_role": STRING}
)
_STATUS = obj(
    {
        "manager": obj({"active_jobs": INTEGER, "total_completed": INTEGER, "total_failed": INTEGER}),
        "schedulers": obj({tier: _SCHEDULER for tier in TIERS}),
        "holder": STRING, "is_paused": BOOLEAN, "last_error": STRING, "waiting_partitions": INTEGER,
    }
)  # fmt: skip
_JOB = obj(
    {
        "job": INTEGER, "tier": STRING, "database": STRING, "measurement": STRING, "partition_path": STRING,
        "phase": STRING, "files": INTEGER, "bytes_before": INTEGER, "rows_done": INTEGER, "rows_total": INTEGER,
        "percent": NUMBER, "started_at": TIMESTAMP,
    }
)  # fmt: skip
_ENDED = obj(
    {
        "job": INTEGER, "tier": STRING, "database": STRING, "measurement": STRING, "partition_path": STRING,
        "files_compacted": INTEGER, "files_written": INTEGER, "bytes_before": INTEGER, "bytes_after": INTEGER,
        "rows_before": INTEGER, "rows_after": INTEGER, "success": BOOLEAN, "outcome": STRING,
        "compression_ratio": nullable(NUMBER), "error": STRING, "started_at": TIMESTAMP, "duration_seconds": NUMBER,
    }
)  # fmt: skip
_TIER = obj(
    {
        "tier": STRING, "enabled": BOOLEAN, "min_age_hours": NUMBER, "min_files": INTEGER,
        "total_compactions": INTEGER, "total_files_compacted": INTEGER, "total_bytes_saved": INTEGER,
        "total_bytes_saved_mb": NUMBER,
    }
)  # fmt: skip
_STATS = obj(
    {
        "total_jobs_completed": INTEGER, "total_jobs_failed": INTEGER, "total_files_compacted": INTEGER,
        "total_bytes_saved": INTEGER, "total_bytes_saved_mb": NUMBER, "total_manifests_recover": INTEGER,
        "total_rows_merged": INTEGER, "total_rows_deduplicated": INTEGER, "cycle_running": BOOLEAN,
        "current_cycle_id": INTEGER, "recent_jobs": array(_ENDED), "tiers": array(_TIER),
    }
)  # fmt: skip
_CANDIDATE = obj(
    {
        "database": STRING, "measurement": STRING, "partition_path": STRING, "file_count": INTEGER, "tier": STRING,
        "size_bytes": INTEGER, "waits_seconds": NUMBER,
    }
)  # fmt: skip
_ORDERED = obj({"message": STRING, "holder": STRING, "done": BOOLEAN})


class Compaction:
    """Look at it and order it."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        base, read = "/api/v1/compaction", Permission.READ
        candidates = obj({"count": INTEGER, "candidates": array(_CANDIDATE)})
        limit = Parameter(
            name="limit", place="query", about="At most so many.",
            schema={"type": "integer", "minimum": 1, "maximum": HISTORY_MAX},
        )  # fmt: skip
        orders = (
            ("pause", "Begin no more jobs", self.pause),
            ("resume", "Begin jobs again", self.resume),
            ("cancel", "Give up the job that runs", self.cancel),
        )
        return (
            Route(
                method="GET", path=f"{base}/status", name="compaction_status", tag="compaction", permission=read,
                summary="Who compacts, and how it is", view=self.status,
                answers={200: json_answer("As the compactor says.", _STATUS)},
            ),
            Route(
                method="GET", path=f"{base}/stats", name="compaction_stats", tag="compaction", permission=read,
                summary="Totals since the compactor was given its lease", view=self.stats,
                answers={200: json_answer("As the compactor says.", _STATS)},
            ),
            Route(
                method="GET", path=f"{base}/candidates", name="compaction_candidates", tag="compaction",
                permission=read, summary="What may be merged now, the most valuable first", view=self.candidates,
                answers={200: json_answer("Found in the catalog.", candidates)},
            ),
            Route(
                method="GET", path=f"{base}/jobs", name="compaction_jobs", tag="compaction", permission=read,
                summary="What is merged now, and how far it is", view=self.jobs,
                answers={200: json_answer("None, or one.", obj({"active_jobs": INTEGER, "jobs": array(_JOB)}))},
            ),
            Route(
                method="GET", path=f"{base}/history", name="compaction_history", tag="compaction", permission=read,
                summary="Jobs that ended, newest first", view=self.history, parameters=(limit,),
                answers={200: json_answer(
                    "Since the lease was given.", obj({"total_jobs": INTEGER, "recent_jobs": array(_ENDED)}))},
            ),
            Route(
                method="POST", path=f"{base}/trigger", name="compaction_trigger", tag="compaction",
                permission=Permission.ADMIN, summary="Merge what may be merged now, also when disabled or paused",
                view=self.trigger,
                parameters=(
                    Parameter(name="tier", place="query", about=f"Some of {', '.join(TIERS)}, comma-separated.",
                              schema=STRING),
                    Parameter(name="database", place="query", about="Only this one.", schema=DATABASE_NAME),
                ),
                answers={200: json_answer("It runs.", obj(
                    {"message": STRING, "status": STRING, "tiers": array(STRING), "cycle_id": INTEGER},
                    {"database": STRING}))},
            ),
            *(
                Route(
                    method="POST", path=f"{base}/{order}", name=f"compaction_{order}", tag="compaction",
                    permission=Permission.ADMIN, summary=summary, view=view,
                    answers={200: json_answer("Heard.", _ORDERED)},
                )
                for order, summary, view in orders
            ),
        )  # fmt: skip

    async def status(self, call: Call) -> Reply:
        """Raises Unavailable, OutcomeUnknown."""
        told = await self._deps.compaction.look()
        found = cast("Mapping[str, Any]", told["statistics"])
        running = {str(job["tier"]) for job in _list(told, "running")}
        schedulers = {
            tier: {
                "enabled": found["is_enabled"] and not found["is_paused"],
                "running": tier in running,
                "schedule": "as soon as files are worth a merge",
                "role_gated": True,
                "gate_role": "compactor",
            }
            for tier in TIERS
        }
        return json_reply(
            200,
            {
                "manager": {
                    "active_jobs": len(running),
                    "total_completed": found["jobs_done_total"],
                    "total_failed": found["jobs_failed_total"],
                },
                "schedulers": schedulers,
                "holder": told["holder"],
                "is_paused": found["is_paused"],
                # It names files, and so measurements.
                "last_error": "" if call.principal.is_limited else found["last_error"],
                "waiting_partitions": found["waiting_partitions"],
            },
        )

    async def stats(self, call: Call) -> Reply:
        """Raises as `status`."""
        told = await self._deps.compaction.look()
        found, settings = cast("Mapping[str, Any]", told["statistics"]), cast("Mapping[str, Any]", told["settings"])
        tiers = cast("list[Mapping[str, Any]]", found["tiers"])
        return json_reply(
            200,
            {
                "total_jobs_completed": found["jobs_done_total"],
                "total_jobs_failed": found["jobs_failed_total"],
                "total_files_compacted": found["files_compacted_total"],
                "total_bytes_saved": found["bytes_saved_total"],
                "total_bytes_saved_mb": found["bytes_saved_total"] / MB,
                "total_manifests_recover": found["receipts_resumed_total"],
                "total_rows_merged": found["rows_merged_total"],
                "total_rows_deduplicated": found["rows_deduplicated_total"],
                "cycle_running": found["cycle_running"],
                "current_cycle_id": found["cycle_id"],
                "recent_jobs": [_shown(job) for job in _seen(call, _list(told, "history"))[:RECENT]],
                "tiers": [_tier(tier, settings) for tier in tiers],
            },
        )

    async def candidates(self, call: Call) -> Reply:
        """Raises as `status`."""
        told = await self._deps.compaction.candidates()
        found = _seen(call, _list(told, "candidates"))
        return json_reply(
            200, {**told, "candidates": found, "count": len(found)} if call.principal.is_limited else told
        )

    async def jobs(self, call: Call) -> Reply:
        """Raises as `status`."""
        running = _seen(call, _list(await self._deps.compaction.look(), "running"))
        return json_reply(200, {"active_jobs": len(running), "jobs": [_running(job) for job in running]})

    async def history(self, call: Call) -> Reply:
        """Raises as `status`, and InvalidRequest."""
        limit = whole_number(call.head.query(), "limit", default=RECENT, low=1, high=HISTORY_MAX)
        history = _seen(call, _list(await self._deps.compaction.look(), "history"))
        return json_reply(200, {"total_jobs": len(history), "recent_jobs": [_shown(job) for job in history[:limit]]})

    async def trigger(self, call: Call) -> Reply:
        """Returns at once; the jobs go on. Raises AlreadyRunning, InvalidRequest, and as `status`."""
        asked = call.head.query()
        tiers = tuple(tier for tier in asked.get("tier", "").split(",") if tier) or TIERS
        database = asked.get("database", "")
        told = await self._deps.compaction.trigger(tiers, database)
        self._deps.log.info("compaction_triggered", tiers=",".join(tiers), database=database, by=call.principal.name)
        answer = {
            "message": "compaction runs",
            "status": "running",
            "tiers": list(tiers),
            "cycle_id": told["cycle"],
            "holder": told["holder"],
        }
        return json_reply(200, answer | ({"database": database} if database else {}))

    async def pause(self, call: Call) -> Reply:
        """Raises as `status`."""
        return self._ordered(call, "compaction is paused until it is resumed", await self._deps.compaction.pause())

    async def resume(self, call: Call) -> Reply:
        """Raises as `status`."""
        return self._ordered(call, "compaction goes on", await self._deps.compaction.resume())

    async def cancel(self, call: Call) -> Reply:
        """Raises as `status`, and InvalidRequest when nothing runs that could be given up."""
        told = await self._deps.compaction.cancel()
        if not told["done"]:
            raise InvalidRequest("no job runs that can be given up now", code="nothing_runs")
        return self._ordered(call, "the job is given up; its files stay as they are", told)

    def _ordered(self, call: Call, message: str, told: Mapping[str, object]) -> Reply:
        self._deps.log.info("compaction_ordered", order=message, holder=told["holder"], by=call.principal.name)
        return json_reply(200, {"message": message, "holder": told["holder"], "done": True})


def _list(told: Mapping[str, object], key: str) -> list[Mapping[str, Any]]:
    return cast("list[Mapping[str, Any]]", told[key])


def _seen(call: Call, rows: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those about measurements that the caller may read."""
    return [row for row in rows if call.principal.reads(str(row["database"]), str(row["measurement"]))]


def _running(job: Mapping[str, Any]) -> dict[str, object]:
    percent = 100 * job["rows_done"] / job["rows_total"] if job["rows_total"] else 0.0
    return {**_shown(job), "percent": round(percent, 1)}


def _shown(job: Mapping[str, Any]) -> dict[str, object]:
    shown = {key: value for key, value in job.items() if key != "started_us"}
    return {**shown, "started_at": rfc3339_ms(job["started_us"])}


def _tier(tier: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, object]:
    name = str(tier["tier"])
    return {
        "tier": name,
        "enabled": settings["enabled"],
        "min_age_hours": settings["hourly_min_age_seconds" if name == "hourly" else "daily_min_age_seconds"] / 3600,
        "min_files": settings[f"{name}_min_files"],
        "total_compactions": tier["compactions_total"],
        "total_files_compacted": tier["files_compacted_total"],
        "total_bytes_saved": tier["bytes_saved_total"],
        "total_bytes_saved_mb": tier["bytes_saved_total"] / MB,
    }
