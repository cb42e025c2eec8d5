"""The audit log, read: who did what, newest first. It is the cluster's, so every node tells the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime

import orjson

from arc.api.bodies import whole_number
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, Route
from arc.api.schemas import ANYTHING, BOOLEAN, INTEGER, STRING, TIMESTAMP, array, json_answer, obj
from arc.catalog.audit import ENTRIES_KEPT, AuditEntry
from arc.errors import InvalidRequest
from arc.telemetry import rfc3339_ms

LIMIT_MAX = 1_000

_ENTRY = obj(
    {
        "id": INTEGER, "timestamp": TIMESTAMP, "event_type": STRING, "actor": STRING, "method": STRING, "path": STRING,
        "status_code": INTEGER, "ip_address": STRING, "user_agent": STRING, "duration_ms": INTEGER,
    },
    {"token_id": INTEGER, "database": STRING, "measurement": STRING, "detail": ANYTHING, "result": ANYTHING},
)  # fmt: skip


class AuditLog:
    """For admins (data plane 1.10)."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        since = _filter("since", "Only acts at or after this time (RFC 3339).")
        stats = obj({"total": INTEGER, "by_event_type": ANYTHING, "by_actor": ANYTHING, "kept_max": INTEGER})
        return (
            Route(
                method="GET", path="/api/v1/audit/logs", name="audit_logs", tag="audit", permission=Permission.ADMIN,
                summary="What administrators did", view=self.logs,
                parameters=(
                    _filter("event_type", "Only acts of this type; `rbac.*` is all that begins so."),
                    _filter("actor", "Only acts of the token of this name."),
                    _filter("database", "Only acts that concern this database."),
                    since,
                    _filter("until", "Only acts before this time (RFC 3339)."),
                    Parameter(name="limit", place="query", about="At most so many.",
                              schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": 100}),
                    Parameter(name="offset", place="query", about="Leave out this many first.",
                              schema={"type": "integer", "minimum": 0, "maximum": ENTRIES_KEPT, "default": 0}),
                ),
                answers={200: json_answer("Newest first. `total` counts those that fit.", obj(
                    {"success": BOOLEAN, "data": array(_ENTRY), "count": INTEGER, "total": INTEGER}))},
            ),
            Route(
                method="GET", path="/api/v1/audit/stats", name="audit_stats", tag="audit", permission=Permission.ADMIN,
                summary="How often what was done, and by whom", view=self.stats, parameters=(since,),
                answers={200: json_answer("Counted.", obj({"success": BOOLEAN, "data": stats}))},
            ),
        )  # fmt: skip

    async def logs(self, call: Call) -> Reply:
        """Raises InvalidRequest."""
        query = call.head.query()
        limit = whole_number(query, "limit", default=100, low=1, high=LIMIT_MAX)
        offset = whole_number(query, "offset", default=0, low=0, high=ENTRIES_KEPT)
        found = list(self._found(query))
        page = [_shown(entry) for entry in found[offset : offset + limit]]
        return json_reply(200, {"success": True, "data": page, "count": len(page), "total": len(found)})

    async def stats(self, call: Call) -> Reply:
        """Raises InvalidRequest."""
        found = list(self._found({"since": call.head.query().get("since", "")}))
        data = {
            "total": len(found),
            "by_event_type": dict(sorted(Counter(entry.event_type for entry in found).items())),
            "by_actor": dict(sorted(Counter(entry.actor for entry in found).items())),
            "kept_max": ENTRIES_KEPT,
        }
        return json_reply(200, {"success": True, "data": data})

    def _found(self, query: Mapping[str, str]) -> Iterator[AuditEntry]:
        fits = _filters(query)
        return (entry for entry in reversed(self._deps.catalog().audit) if all(fit(entry) for fit in fits))


def _filters(query: Mapping[str, str]) -> list[Callable[[AuditEntry], bool]]:
    found: list[Callable[[AuditEntry], bool]] = []
    if kind := query.get("event_type", ""):
        prefix = kind[:-1] if kind.endswith("*") else None
        found.append(lambda e: e.event_type == kind if prefix is None else e.event_type.startswith(prefix))
    if actor := query.get("actor", ""):
        found.append(lambda e: e.actor == actor)
    if database := query.get("database", ""):
        found.append(lambda e: e.database == database)
    if since := query.get("since", ""):
        since_us = _time(since, "since")
        found.append(lambda e: e.at_us >= since_us)
    if until := query.get("until", ""):
        until_us = _time(until, "until")
        found.append(lambda e: e.at_us < until_us)
    return found


def _time(text: str, key: str) -> int:
    try:
        # A plus that was not escaped arrives as a blank.
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return round(moment.timestamp() * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{key!r} must be a time as 2026-01-31T12:00:00Z, not {text[:40]!r}") from error


def _shown(entry: AuditEntry) -> dict[str, object]:
    shown: dict[str, object] = {
        "id": entry.id,
        "timestamp": rfc3339_ms(entry.at_us),
        "event_type": entry.event_type,
        "actor": entry.actor,
        "method": entry.method,
        "path": entry.path,
        "status_code": entry.status,
        "ip_address": entry.client,
        "user_agent": entry.user_agent,
        "duration_ms": entry.duration_ms,
    }
    optional = {
        "token_id": entry.token_id,
        "database": entry.database or None,
        "measurement": entry.measurement or None,
        "detail": _read(entry.detail),
        "result": entry.value,
    }
    return shown | {key: value for key, value in optional.items() if value is not None}


def _read(detail: str) -> object:
    try:
        return orjson.loads(detail) if detail else None
    except orjson.JSONDecodeError:
        return detail


def _filter(name: str, about: str) -> Parameter:
    return Parameter(name=name, place="query", about=about, schema=STRING)
