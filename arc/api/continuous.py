"""Continuous queries: set, looked at, executed by order. They are the cluster's, whichever node is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from arc.api.bodies import json_object, optional_flag, optional_text, optional_texts, path_number, text, whole_number
from arc.api.continuous_retention import beside, forget
from arc.api.continuous_shapes import EXECUTED, ID, ONE, QUERY, RUN, WISHES, executed, one, run_shown, shown
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route
from arc.api.schemas import BOOLEAN, INTEGER, STRING, array, json_answer, nullable, obj
from arc.compaction.retention import DAYS_MAX
from arc.continuous import definition
from arc.continuous.changes import drop, put
from arc.continuous.definition import LATENESS, STATEMENT_CHARS_MAX, ContinuousQuery
from arc.continuous.progress import RUNS_KEPT, progress_of
from arc.errors import InvalidRequest, NotFound, Unavailable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ContinuousQueries:
    """Look at them, set them, carry them out."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        base, admin, read = "/api/v1/continuous_queries", Permission.ADMIN, Permission.READ
        tag = "continuous"
        return (
            Route(
                method="GET", path=base, name="list_continuous_queries", tag=tag, permission=read,
                summary="All continuous queries", view=self.list,
                parameters=(
                    Parameter(name="database", place="query", about="Only those of this database.", schema=STRING),
                    Parameter(name="is_active", place="query", about="Only active ones, or only resting ones.",
                              schema=BOOLEAN),
                ),
                answers={200: json_answer("Oldest first.", obj({"queries": array(QUERY), "count": INTEGER}))},
            ),
            Route(
                method="POST", path=base, name="create_continuous_query", tag=tag, permission=admin,
                summary="Make a continuous query", view=self.create,
                body=RequestBody(content={"application/json": {
                    "type": "object", "properties": WISHES,
                    "required": ["name", "database", "source_measurement", "destination_measurement", "query",
                                 "interval"]}}),
                answers={201: json_answer("Made.", ONE)},
            ),
            Route(
                method="GET", path=f"{base}/{{id}}", name="get_continuous_query", tag=tag, permission=read,
                summary="One continuous query", view=self.get, parameters=(ID,),
                answers={200: json_answer("Found.", ONE)},
            ),
            Route(
                method="PUT", path=f"{base}/{{id}}", name="update_continuous_query", tag=tag, permission=admin,
                summary="Change what is given", view=self.update, parameters=(ID,),
                body=RequestBody(content={"application/json": {"type": "object", "properties": WISHES}}),
                answers={200: json_answer("Changed.", ONE)},
            ),
            Route(
                method="DELETE", path=f"{base}/{{id}}", name="delete_continuous_query", tag=tag, permission=admin,
                summary="Forget a continuous query; its results stay", view=self.delete, parameters=(ID,),
                answers={200: json_answer("Gone.", obj({"success": BOOLEAN, "message": STRING}))},
            ),
            Route(
                method="POST", path=f"{base}/{{id}}/execute", name="execute_continuous_query", tag=tag,
                permission=admin, summary="Execute windows now, also again, or say what would be written",
                view=self.execute, parameters=(ID,),
                body=RequestBody(content={"application/json": {
                    "type": "object",
                    "properties": {"start_time": nullable(STRING), "end_time": nullable(STRING),
                                   "dry_run": nullable(BOOLEAN)}}}, required=False),
                answers={200: json_answer("Done.", EXECUTED)},
            ),
            Route(
                method="GET", path=f"{base}/{{id}}/executions", name="list_continuous_query_executions", tag=tag,
                permission=read, summary="What was executed, newest first", view=self.executions,
                parameters=(ID, Parameter(name="limit", place="query", about="At most so many.",
                                          schema={"type": "integer", "minimum": 1, "maximum": RUNS_KEPT})),
                answers={200: json_answer("Newest first.", obj({"query_id": INTEGER, "executions": array(RUN)}))},
            ),
        )  # fmt: skip

    async def list(self, call: Call) -> Reply:
        """An object and not the bare list of Arc in Go: its own Python client reads ``queries``."""
        values = call.head.query()
        database, wanted = values.get("database"), values.get("is_active", "").lower()
        if wanted not in ("", "true", "false"):
            raise InvalidRequest("'is_active' must be true or false")
        found = [
            shown(query, progress_of(self._deps.catalog(), query))
            for query in definition.definitions(self._deps.catalog())
            if call.principal.sees(query.database)
            and database in (None, "", query.database)
            and wanted in ("", str(query.is_active).lower())
        ]
        return json_reply(200, {"queries": found, "count": len(found)})

    async def get(self, call: Call) -> Reply:
        """Raises NotFound."""
        return json_reply(200, self._shown(self._find(call)))

    async def create(self, call: Call) -> Reply:
        """Raises InvalidRequest, NotFound (the database), Conflict (the name)."""
        document, now_us = json_object(call.body), self._deps.clock.wall_us()
        query = ContinuousQuery(
            id=now_us,
            name=text(document, "name"),
            description=optional_text(document, "description"),
            database=text(document, "database"),
            source=text(document, "source_measurement"),
            destination=text(document, "destination_measurement"),
            query=text(document, "query", chars_max=STATEMENT_CHARS_MAX),
            interval=text(document, "interval"),
            lateness=optional_text(document, "lateness") or LATENESS,
            tags=optional_texts(document, "tag_columns"),
            retention_days=_days(document, "retention_days"),
            delete_source_after_days=_days(document, "delete_source_after_days"),
            is_active=optional_flag(document, "is_active") is not False,
            created_us=now_us,
            updated_us=0,
        )
        made = await put(
            call.proposer,
            self._deps.catalog(),
            query,
            now_us=now_us,
            is_new=True,
            beside=beside(query, now_us),
        )
        self._deps.continuous.wake()
        self._deps.log.info("continuous_query_created", id=made.id, name=made.name, by=call.principal.name)
        return json_reply(201, self._shown(made))

    async def update(self, call: Call) -> Reply:
        """Keys that are absent stay, but a null of ``tag_columns`` or days means none. Raises as `create`, and Conflict
        when it was changed.
        """
        query, document, now_us = self._find(call), json_object(call.body), self._deps.clock.wall_us()
        active = optional_flag(document, "is_active")
        wanted = replace(
            query,
            name=optional_text(document, "name") or query.name,
            description=optional_text(document, "description") if "description" in document else query.description,
            database=optional_text(document, "database") or query.database,
            source=optional_text(document, "source_measurement") or query.source,
            destination=optional_text(document, "destination_measurement") or query.destination,
            query=optional_text(document, "query", chars_max=STATEMENT_CHARS_MAX) or query.query,
            interval=optional_text(document, "interval") or query.interval,
            lateness=optional_text(document, "lateness") or query.lateness,
            tags=optional_texts(document, "tag_columns") if "tag_columns" in document else query.tags,
            retention_days=_days(document, "retention_days", query.retention_days),
            delete_source_after_days=_days(document, "delete_source_after_days", query.delete_source_after_days),
            is_active=query.is_active if active is None else active,
        )
        _require_same_place(query, wanted)
        changed = await put(
            call.proposer,
            self._deps.catalog(),
            wanted,
            now_us=now_us,
            is_new=False,
            beside=beside(wanted, now_us) if {"retention_days", "delete_source_after_days"} & document.keys() else (),
        )
        await forget(call.proposer, self._deps.catalog(), query, kept=changed)
        self._deps.continuous.wake()
        self._deps.log.info("continuous_query_updated", id=changed.id, name=changed.name, by=call.principal.name)
        return json_reply(200, self._shown(changed))

    async def delete(self, call: Call) -> Reply:
        """Raises NotFound."""
        query = self._find(call)
        await drop(call.proposer, self._deps.catalog, query.id)
        await forget(call.proposer, self._deps.catalog(), query, kept=None)
        self._deps.log.info("continuous_query_deleted", id=query.id, name=query.name, by=call.principal.name)
        return json_reply(200, {"success": True, "message": "continuous query deleted"})

    async def execute(self, call: Call) -> Reply:
        """Raises NotFound, InvalidRequest, Conflict, TooLarge, Unavailable, OutcomeUnknown."""
        reason = self._deps.node.refuses_queries()
        if reason is not None:
            raise Unavailable(reason)
        query = self._find(call)
        document = json_object(call.body) if call.body else {}
        start_us, end_us = _moment(document, "start_time"), _moment(document, "end_time")
        is_dry, now_us = bool(optional_flag(document, "dry_run")), self._deps.clock.wall_us()
        carry_out = self._deps.continuous.preview if is_dry else self._deps.continuous.execute
        done = await carry_out(query.id, start_us, end_us)
        return json_reply(200, executed(query, done, at_us=now_us, is_dry=is_dry))

    async def executions(self, call: Call) -> Reply:
        """Raises NotFound."""
        query = self._find(call)
        limit = whole_number(call.head.query(), "limit", default=RUNS_KEPT, low=1, high=10**6)
        runs = progress_of(self._deps.catalog(), query).runs[:limit]
        return json_reply(200, {"query_id": query.id, "executions": [run_shown(query, run) for run in runs]})

    def _find(self, call: Call) -> ContinuousQuery:
        number = path_number(call.path["id"], "the id of a continuous query")
        query = definition.require(self._deps.catalog(), number)
        if not call.principal.sees(query.database):
            raise NotFound(f"continuous query {number} not found")
        return query

    def _shown(self, query: ContinuousQuery) -> dict[str, object]:
        return one(query, progress_of(self._deps.catalog(), query))


def _require_same_place(query: ContinuousQuery, wanted: ContinuousQuery) -> None:
    """Results are found again by where they are."""
    if (query.database, query.source, query.destination) != (wanted.database, wanted.source, wanted.destination):
        raise InvalidRequest(
            "'database', 'source_measurement' and 'destination_measurement' can not be changed: make another query"
        )


def _days(document: dict[str, object], key: str, default: int | None = None) -> int | None:
    value = document.get(key, default)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= DAYS_MAX:
        raise InvalidRequest(f"{key!r} must be a whole number from 1 to {DAYS_MAX}")
    return value


def _moment(document: dict[str, object], key: str) -> int | None:
    """µs since 1970 UTC. Raises InvalidRequest."""
    given = optional_text(document, key, chars_max=40)
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(f"{key!r} must be a time such as 2026-01-31T12:00:00Z") from error
