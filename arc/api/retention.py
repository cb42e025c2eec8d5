"""Retention policies: how long rows are kept, and what was removed. They are the cluster's, whichever node is asked."""

from __future__ import annotations

from dataclasses import replace

from arc.api.bodies import json_object, optional_flag, optional_text, path_number, text, whole_number
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route, Schema
from arc.api.schemas import BOOLEAN, INTEGER, NUMBER, STRING, TIMESTAMP, array, json_answer, nullable, obj
from arc.catalog.commands import DropPolicy
from arc.catalog.names import check_database_name, check_measurement_name
from arc.compaction import retention
from arc.compaction.retention import DAYS_MAX, KIND, RUNS_KEPT, RUNS_KIND, RetentionPolicy
from arc.compaction.retention_runner import Outcome, put
from arc.errors import InvalidRequest, NotFound
from arc.telemetry import rfc3339_ms

_POLICY = obj(
    {
        "id": INTEGER, "name": STRING, "database": STRING, "measurement": nullable(STRING), "retention_days": INTEGER,
        "buffer_days": INTEGER, "is_active": BOOLEAN, "last_execution_time": nullable(TIMESTAMP),
        "last_execution_status": nullable(STRING), "last_deleted_count": nullable(INTEGER), "created_at": TIMESTAMP,
        "updated_at": TIMESTAMP,
    }
)  # fmt: skip
_EXECUTED = obj(
    {
        "policy_id": INTEGER, "policy_name": STRING, "deleted_count": INTEGER, "files_deleted": INTEGER,
        "execution_time_ms": NUMBER, "dry_run": BOOLEAN, "cutoff_date": TIMESTAMP,
        "affected_measurements": array(STRING),
    }
)  # fmt: skip
_RUN = obj(
    {
        "id": INTEGER, "policy_id": INTEGER, "execution_time": TIMESTAMP, "status": STRING, "deleted_count": INTEGER,
        "cutoff_date": TIMESTAMP, "execution_duration_ms": NUMBER, "error_message": nullable(STRING),
    }
)  # fmt: skip
_DAYS: Schema = {"type": "integer", "minimum": 0, "maximum": DAYS_MAX}
_WISHES: dict[str, Schema] = {
    "name": STRING, "database": STRING, "measurement": nullable(STRING), "retention_days": _DAYS, "buffer_days": _DAYS,
    "is_active": nullable(BOOLEAN),
}  # fmt: skip
_ID = Parameter(
    name="id", place="path", about="Policy id.", schema={"type": "integer", "minimum": 1, "maximum": 2**53},
    required=True,
)  # fmt: skip


class Retention:
    """Look at them, set them, carry them out."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        base, admin, read = "/api/v1/retention", Permission.ADMIN, Permission.READ
        listed = obj({"policies": array(_POLICY), "count": INTEGER})
        return (
            Route(
                method="GET", path=base, name="list_retention", tag="retention", permission=read,
                summary="All retention policies", view=self.list, answers={200: json_answer("Oldest first.", listed)},
            ),
            Route(
                method="POST", path=base, name="create_retention", tag="retention", permission=admin,
                summary="Make a retention policy", view=self.create,
                body=RequestBody(content={"application/json": {
                    "type": "object", "properties": _WISHES, "required": ["name", "database", "retention_days"]}}),
                answers={201: json_answer("Made.", _POLICY)},
            ),
            Route(
                method="GET", path=f"{base}/{{id}}", name="get_retention", tag="retention", permission=read,
                summary="One retention policy", view=self.get, parameters=(_ID,),
                answers={200: json_answer("Found.", _POLICY)},
            ),
            Route(
                method="PUT", path=f"{base}/{{id}}", name="update_retention", tag="retention", permission=admin,
                summary="Change what is given", view=self.update, parameters=(_ID,),
                body=RequestBody(content={"application/json": {"type": "object", "properties": _WISHES}}),
                answers={200: json_answer("Changed.", _POLICY)},
            ),
            Route(
                method="DELETE", path=f"{base}/{{id}}", name="delete_retention", tag="retention", permission=admin,
                summary="Forget a retention policy and its history", view=self.delete, parameters=(_ID,),
                answers={200: json_answer("Gone.", obj({"success": BOOLEAN, "message": STRING}))},
            ),
            Route(
                method="POST", path=f"{base}/{{id}}/execute", name="execute_retention", tag="retention",
                permission=admin, summary="Remove what is too old now, or say what would be", view=self.execute,
                parameters=(_ID,),
                body=RequestBody(content={"application/json": {
                    "type": "object",
                    "properties": {"dry_run": nullable(BOOLEAN), "confirm": nullable(BOOLEAN)}}}, required=False),
                answers={200: json_answer("Done.", _EXECUTED)},
            ),
            Route(
                method="GET", path=f"{base}/{{id}}/executions", name="list_retention_executions", tag="retention",
                permission=read, summary="What was removed, newest first", view=self.executions,
                parameters=(_ID, Parameter(name="limit", place="query", about="At most so many.",
                                           schema={"type": "integer", "minimum": 1, "maximum": RUNS_KEPT})),
                answers={200: json_answer("Newest first.", obj({"policy_id": INTEGER, "executions": array(_RUN)}))},
            ),
        )  # fmt: skip

    async def list(self, call: Call) -> Reply:
        """An object and not the bare list of Arc in Go: its own Python client reads ``policies``."""
        found = [
            self._shown(policy)
            for policy in retention.policies(self._deps.catalog())
            if call.principal.sees(policy.database)
        ]
        return json_reply(200, {"policies": found, "count": len(found)})

    async def get(self, call: Call) -> Reply:
        """Raises NotFound."""
        return json_reply(200, self._shown(self._find(call)))

    async def create(self, call: Call) -> Reply:
        """Raises InvalidRequest, NotFound (the database), Conflict (the name)."""
        document, now_us = json_object(call.body), self._deps.clock.wall_us()
        database = check_database_name(text(document, "database"))
        policy = RetentionPolicy(
            id=now_us,
            name=text(document, "name"),
            database=database,
            measurement=_measurement(document),
            retention_days=_days(document, "retention_days", 0),
            buffer_days=_days(document, "buffer_days", 0),
            is_active=optional_flag(document, "is_active") is not False,
            created_us=now_us,
            updated_us=0,
        )
        made = await put(call.proposer, self._deps.catalog(), policy, now_us=now_us, is_new=True)
        self._deps.log.info("retention_created", id=made.id, name=made.name, by=call.principal.name)
        return json_reply(201, self._shown(made))

    async def update(self, call: Call) -> Reply:
        """Keys that are absent stay; a measurement of null means all. Raises as `create`, and Conflict when changed."""
        policy, document, now_us = self._find(call), json_object(call.body), self._deps.clock.wall_us()
        active = optional_flag(document, "is_active")
        wanted = replace(
            policy,
            name=optional_text(document, "name") or policy.name,
            database=check_database_name(optional_text(document, "database") or policy.database),
            measurement=_measurement(document) if "measurement" in document else policy.measurement,
            retention_days=_days(document, "retention_days", policy.retention_days),
            buffer_days=_days(document, "buffer_days", policy.buffer_days),
            is_active=policy.is_active if active is None else active,
        )
        changed = await put(call.proposer, self._deps.catalog(), wanted, now_us=now_us, is_new=False)
        self._deps.log.info("retention_updated", id=changed.id, name=changed.name, by=call.principal.name)
        return json_reply(200, self._shown(changed))

    async def delete(self, call: Call) -> Reply:
        """Raises NotFound."""
        policy = self._find(call)
        (await call.proposer.propose(DropPolicy(kind=KIND, name=str(policy.id)))).unwrap()
        if retention.runs(self._deps.catalog(), policy.id):
            await call.proposer.propose(DropPolicy(kind=RUNS_KIND, name=str(policy.id)))
        self._deps.log.info("retention_deleted", id=policy.id, name=policy.name, by=call.principal.name)
        return json_reply(200, {"success": True, "message": "retention policy deleted"})

    async def execute(self, call: Call) -> Reply:
        """Without ``dry_run`` it must be confirmed. Raises NotFound, InvalidRequest, Conflict, Unavailable."""
        policy = self._find(call)
        document = json_object(call.body) if call.body else {}
        is_dry = bool(optional_flag(document, "dry_run"))
        if is_dry:
            return json_reply(200, _executed(policy, self._deps.retention.preview(policy.id), is_dry=True))
        if not policy.is_active:
            raise InvalidRequest(f"retention policy {policy.name!r} is not active", code="inactive")
        if not optional_flag(document, "confirm"):
            raise InvalidRequest(
                "rows will be removed for good: send 'confirm': true, or 'dry_run': true to look first"
            )
        outcome = await self._deps.retention.execute(policy.id)
        return json_reply(200, _executed(policy, outcome, is_dry=False))

    async def executions(self, call: Call) -> Reply:
        """Raises NotFound."""
        policy = self._find(call)
        limit = whole_number(call.head.query(), "limit", default=RUNS_KEPT, low=1, high=RUNS_KEPT)
        found = [
            {
                "id": run.id,
                "policy_id": policy.id,
                "execution_time": rfc3339_ms(run.at_us),
                "status": run.status,
                "deleted_count": run.rows,
                "cutoff_date": rfc3339_ms(run.cutoff_us),
                "execution_duration_ms": run.milliseconds,
                "error_message": run.error,
            }
            for run in retention.runs(self._deps.catalog(), policy.id)[:limit]
        ]
        return json_reply(200, {"policy_id": policy.id, "executions": found})

    def _find(self, call: Call) -> RetentionPolicy:
        number = path_number(call.path["id"], "the id of a retention policy")
        policy = retention.require(self._deps.catalog(), number)
        if not call.principal.sees(policy.database):
            raise NotFound(f"retention policy {number} not found")
        return policy

    def _shown(self, policy: RetentionPolicy) -> dict[str, object]:
        last = next(iter(retention.runs(self._deps.catalog(), policy.id)), None)
        return {
            "id": policy.id,
            "name": policy.name,
            "database": policy.database,
            "measurement": policy.measurement,
            "retention_days": policy.retention_days,
            "buffer_days": policy.buffer_days,
            "is_active": policy.is_active,
            "last_execution_time": rfc3339_ms(last.at_us) if last is not None else None,
            "last_execution_status": last.status if last is not None else None,
            "last_deleted_count": last.rows if last is not None else None,
            "created_at": rfc3339_ms(policy.created_us),
            "updated_at": rfc3339_ms(policy.updated_us),
        }


def _executed(policy: RetentionPolicy, outcome: Outcome, *, is_dry: bool) -> dict[str, object]:
    return {
        "policy_id": policy.id,
        "policy_name": policy.name,
        "deleted_count": outcome.rows,
        "files_deleted": outcome.files,
        "execution_time_ms": round(outcome.milliseconds, 3),
        "dry_run": is_dry,
        "cutoff_date": rfc3339_ms(outcome.cutoff_us),
        "affected_measurements": list(outcome.measurements),
    }


def _measurement(document: dict[str, object]) -> str | None:
    found = optional_text(document, "measurement")
    return check_measurement_name(found) if found else None


def _days(document: dict[str, object], key: str, default: int) -> int:
    value = document.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= DAYS_MAX:
        raise InvalidRequest(f"{key!r} must be a whole number from 0 to {DAYS_MAX}")
    return value
