"""The queries under way and those that ended lately: look, and stop one."""

from __future__ import annotations

from arc.api.bodies import whole_number
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, Route
from arc.api.schemas import BOOLEAN, INTEGER, STRING, TIMESTAMP, array, json_answer, nullable, obj
from arc.query.registry import RunningQuery
from arc.telemetry import rfc3339_ms

HISTORY_MAX = 1000


class QueryList:
    """For admins (data plane 1.10)."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        admin = Permission.ADMIN
        item = obj(
            {"id": STRING, "sql": STRING, "database": STRING, "status": STRING, "start_time": TIMESTAMP,
             "duration_ms": INTEGER, "row_count": INTEGER},
            {"end_time": nullable(TIMESTAMP), "token_id": nullable(INTEGER), "token_name": nullable(STRING),
             "remote_addr": nullable(STRING), "error": nullable(STRING)},
        )  # fmt: skip
        listed = {200: json_answer("Queries.", obj({"success": BOOLEAN, "queries": array(item), "count": INTEGER}))}
        query_id = Parameter(
            name="id", place="path", about="Query id, from `X-Arc-Query-ID`.", schema=STRING, required=True
        )
        limit = Parameter(
            name="limit", place="query", about="At most this many.",
            schema={"type": "integer", "minimum": 1, "maximum": HISTORY_MAX, "default": 100},
        )  # fmt: skip
        return (
            Route(
                method="GET", path="/api/v1/queries", name="list_queries", tag="queries", permission=admin,
                summary="Queries under way", view=self.active, answers=listed,
            ),
            Route(
                method="GET", path="/api/v1/queries/active", name="active_queries", tag="queries", permission=admin,
                summary="Queries under way", view=self.active, answers=listed,
            ),
            Route(
                method="GET", path="/api/v1/queries/history", name="query_history", tag="queries", permission=admin,
                summary="Queries that ended lately", view=self.history, parameters=(limit,), answers=listed,
            ),
            Route(
                method="GET", path="/api/v1/queries/{id}", name="get_query", tag="queries", permission=admin,
                summary="One query", view=self.get, parameters=(query_id,),
                answers={200: json_answer("Found.", obj({"success": BOOLEAN, "query": item}))},
            ),
            Route(
                method="DELETE", path="/api/v1/queries/{id}", name="cancel_query", tag="queries", permission=admin,
                summary="Stop a query", view=self.cancel, parameters=(query_id,),
                answers={200: json_answer("Being stopped.", obj({"success": BOOLEAN, "message": STRING}))},
            ),
        )  # fmt: skip

    async def active(self, call: Call) -> Reply:
        """Oldest first."""
        return self._listed([self._shown(query) for query in self._deps.queries.running()])

    async def history(self, call: Call) -> Reply:
        """Newest first."""
        limit = whole_number(call.head.query(), "limit", default=100, low=1, high=HISTORY_MAX)
        return self._listed([self._shown(query) for query in self._deps.queries.recent()[:limit]])

    async def get(self, call: Call) -> Reply:
        """Raises NotFound."""
        return json_reply(200, {"success": True, "query": self._shown(self._deps.queries.find(call.path["id"]))})

    async def cancel(self, call: Call) -> Reply:
        """Raises NotFound, Conflict when it has ended."""
        self._deps.queries.cancel(call.path["id"])
        self._deps.log.info("query_cancelled", id=call.path["id"], by=call.principal.name)
        return json_reply(200, {"success": True, "message": "the query is being stopped"})

    def _listed(self, queries: list[dict[str, object]]) -> Reply:
        return json_reply(200, {"success": True, "queries": queries, "count": len(queries)})

    def _shown(self, query: RunningQuery) -> dict[str, object]:
        return {
            "id": query.id,
            "sql": query.sql,
            "database": query.database,
            "token_id": query.token_id,
            "token_name": query.token_name,
            "remote_addr": query.remote_addr,
            "status": query.status,
            "start_time": rfc3339_ms(query.start_us),
            "end_time": None if query.end_us is None else rfc3339_ms(query.end_us),
            "duration_ms": query.duration_ms(self._deps.clock.wall_us()),
            "row_count": query.row_count,
            "error": query.error,
        }
