"""Deleting rows by a condition. The order is carried out by the node that writes, whichever is asked."""

from __future__ import annotations

from arc.api.bodies import json_object, optional_flag, text
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, RequestBody, Route
from arc.api.schemas import BOOLEAN, INTEGER, NUMBER, STRING, array, json_answer, nullable, obj
from arc.catalog.names import check_database_name, check_measurement_name
from arc.deletion.orders import DeleteOrder, Outcome
from arc.errors import Forbidden

_DELETED = obj(
    {
        "success": BOOLEAN, "deleted_count": INTEGER, "affected_files": INTEGER, "rewritten_files": INTEGER,
        "execution_time_ms": NUMBER, "dry_run": BOOLEAN, "files_processed": array(STRING),
    }
)  # fmt: skip
_CONFIG = obj(
    {
        "enabled": BOOLEAN, "confirmation_threshold": INTEGER, "max_rows_per_delete": INTEGER,
        "implementation": STRING, "performance_impact": obj({"writes": STRING, "queries": STRING, "deletes": STRING}),
    }
)  # fmt: skip
_WISH = obj(
    {"database": STRING, "measurement": STRING, "where": STRING},
    {"dry_run": nullable(BOOLEAN), "confirm": nullable(BOOLEAN)},
)


class Deletes:
    """Carry out, or look first."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        return (
            Route(
                method="POST", path="/api/v1/delete", name="delete_rows", tag="delete", permission=Permission.DELETE,
                summary="Delete the rows for which a condition is TRUE, or count them", view=self.delete,
                body=RequestBody(content={"application/json": _WISH}),
                answers={200: json_answer("Done, or what would be.", _DELETED)},
            ),
            Route(
                method="GET", path="/api/v1/delete/config", name="get_delete_config", tag="delete",
                permission=Permission.ADMIN, summary="What may be deleted", view=self.config,
                answers={200: json_answer("The settings of this node.", _CONFIG)},
            ),
        )  # fmt: skip

    async def delete(self, call: Call) -> Reply:
        """Raises Forbidden, InvalidRequest (also: not confirmed, too many rows), NotFound, Unavailable,
        OutcomeUnknown.
        """
        if not self._deps.deletions.config.enabled:
            raise Forbidden("delete is not enabled", code="delete_disabled")
        document = json_object(call.body)
        order = DeleteOrder(
            database=check_database_name(text(document, "database")),
            measurement=check_measurement_name(text(document, "measurement")),
            where=text(document, "where"),
            is_dry=bool(optional_flag(document, "dry_run")),
            is_confirmed=bool(optional_flag(document, "confirm")),
        )
        call.principal.require_on(Permission.DELETE, order.database, order.measurement)
        outcome = await self._deps.deletions.execute(order)
        if not order.is_dry:
            self._deps.log.info(
                "delete_ordered",
                measurement=f"{order.database}.{order.measurement}",
                where=order.where,
                rows=outcome.rows,
                by=call.principal.name,
            )
        return json_reply(200, _deleted(outcome, is_dry=order.is_dry))

    async def config(self, call: Call) -> Reply:
        """Also where it is not enabled."""
        config = self._deps.deletions.config
        return json_reply(
            200,
            {
                "enabled": config.enabled,
                "confirmation_threshold": config.confirmation_threshold,
                "max_rows_per_delete": config.max_rows_per_delete,
                "implementation": "rewrite-based",
                "performance_impact": {
                    "writes": "none: rows of the measurement are flushed first",
                    "queries": "none: files change in one step",
                    "deletes": "every file with rows that match is written again without them",
                },
            },
        )


def _deleted(outcome: Outcome, *, is_dry: bool) -> dict[str, object]:
    return {
        "success": True,
        "deleted_count": outcome.rows,
        "affected_files": outcome.files,
        "rewritten_files": outcome.rewritten,
        "execution_time_ms": round(outcome.milliseconds, 3),
        "dry_run": is_dry,
        "files_processed": list(outcome.paths),
    }
