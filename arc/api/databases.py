"""Databases and the measurements in them, as the catalog knows them. Writing makes databases too."""

from __future__ import annotations

from arc.api.bodies import json_object, text
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route
from arc.api.schemas import DATABASE_NAME, INTEGER, STRING, TIMESTAMP, array, json_answer, obj
from arc.catalog.commands import CreateDatabase
from arc.catalog.names import check_database_name
from arc.catalog.schemas import DatabaseFacts
from arc.deletion.orders import DropOrder
from arc.errors import Forbidden, InvalidRequest, NotFound
from arc.telemetry import rfc3339_ms

_DATABASE = obj({"name": STRING, "measurement_count": INTEGER}, {"created_at": TIMESTAMP})
_NAME = Parameter(name="name", place="path", about="Database.", schema=DATABASE_NAME, required=True)

_CONFIRM = Parameter(
    name="confirm", place="query", about="Must be true.", schema={"type": "string", "enum": ["true"]}, required=True
)
_DROPPED = obj({"message": STRING, "files_deleted": INTEGER, "rows_deleted": INTEGER})


class Databases:
    """List, look, make, drop."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        listed = obj({"databases": array(_DATABASE), "count": INTEGER})
        measurements = obj(
            {"database": STRING, "measurements": array(obj({"name": STRING, "file_count": INTEGER})), "count": INTEGER}
        )
        return (
            Route(
                method="GET", path="/api/v1/databases", name="list_databases", tag="databases",
                permission=Permission.READ, summary="All databases", view=self.list,
                answers={200: json_answer("Sorted by name.", listed)},
            ),
            Route(
                method="POST", path="/api/v1/databases", name="create_database", tag="databases",
                permission=Permission.ADMIN, summary="Make an empty database", view=self.create,
                body=RequestBody(content={"application/json": obj({"name": DATABASE_NAME})}),
                answers={201: json_answer("Made.", _DATABASE)},
            ),
            Route(
                method="GET", path="/api/v1/databases/{name}", name="get_database", tag="databases",
                permission=Permission.READ, summary="One database", view=self.get, parameters=(_NAME,),
                answers={200: json_answer("Found.", _DATABASE)},
            ),
            Route(
                method="DELETE", path="/api/v1/databases/{name}", name="delete_database", tag="databases",
                permission=Permission.ADMIN, summary="Drop a database with everything in it", view=self.delete,
                parameters=(_NAME, _CONFIRM), answers={200: json_answer("Gone.", _DROPPED)},
            ),
            Route(
                method="DELETE", path="/api/v1/databases/{name}/measurements/{measurement}", name="delete_measurement",
                tag="databases", permission=Permission.ADMIN, summary="Drop a measurement with all its rows",
                view=self.delete_measurement,
                parameters=(
                    _NAME,
                    Parameter(name="measurement", place="path", about="Measurement.", schema=STRING, required=True),
                    _CONFIRM,
                ),
                answers={200: json_answer("Gone.", _DROPPED)},
            ),
            Route(
                method="GET", path="/api/v1/databases/{name}/measurements", name="list_database_measurements",
                tag="databases", permission=Permission.READ, summary="Measurements of one database",
                view=self.measurements, parameters=(_NAME,),
                answers={200: json_answer("Sorted by name.", measurements)},
            ),
        )  # fmt: skip

    async def list(self, call: Call) -> Reply:
        """Names beginning with a dot or an underscore are the server's own."""
        catalog = call.principal.seen(self._deps.catalog())
        found = [_shown(facts) for name, facts in sorted(catalog.databases.items()) if name[0] not in "._"]
        return json_reply(200, {"databases": found, "count": len(found)})

    async def create(self, call: Call) -> Reply:
        """Raises InvalidRequest (name), Conflict (exists)."""
        name = check_database_name(text(json_object(call.body), "name"))
        created_us = self._deps.clock.wall_us()
        result = await call.proposer.propose(CreateDatabase(name=name, created_us=created_us, if_missing=False))
        result.unwrap()
        return json_reply(201, {"name": name, "measurement_count": 0, "created_at": rfc3339_ms(created_us)})

    async def get(self, call: Call) -> Reply:
        """Raises NotFound, Forbidden."""
        return json_reply(200, _shown(self._find(call)))

    async def delete(self, call: Call) -> Reply:
        """Raises Forbidden, InvalidRequest (not confirmed), NotFound, Unavailable, OutcomeUnknown."""
        return await self._drop(call, DropOrder(database=call.path["name"]), f"database {call.path['name']!r}")

    async def delete_measurement(self, call: Call) -> Reply:
        """Raises as `delete`."""
        name, measurement = call.path["name"], call.path["measurement"]
        order = DropOrder(database=name, measurement=measurement)
        return await self._drop(call, order, f"measurement {name}.{measurement}")

    async def _drop(self, call: Call, order: DropOrder, what: str) -> Reply:
        if not self._deps.deletions.config.enabled:
            raise Forbidden("delete is not enabled", code="delete_disabled")
        self._find(call)
        if call.head.query().get("confirm") != "true":
            question = f"{what} and all its rows will be gone for good: add confirm=true"
            raise InvalidRequest(question, code="not_confirmed")
        outcome = await self._deps.deletions.execute(order)
        self._deps.log.info("drop_ordered", what=what, rows=outcome.rows, by=call.principal.name)
        return json_reply(
            200, {"message": f"{what} deleted", "files_deleted": outcome.files, "rows_deleted": outcome.rows}
        )

    async def measurements(self, call: Call) -> Reply:
        """Raises NotFound."""
        facts = self._find(call)
        catalog = self._deps.catalog()
        found = [
            {"name": name, "file_count": catalog.file_stats(facts.name, name).files}
            for name in sorted(facts.measurements)
        ]
        return json_reply(200, {"database": facts.name, "measurements": found, "count": len(found)})

    def _find(self, call: Call) -> DatabaseFacts:
        name = call.path["name"]
        facts = call.principal.seen(self._deps.catalog()).databases.get(name)
        if facts is None:
            call.principal.require_seen(name, None)
            raise NotFound(f"database {name!r} not found")
        return facts


def _shown(facts: DatabaseFacts) -> dict[str, object]:
    return {
        "name": facts.name,
        "measurement_count": len(facts.measurements),
        "created_at": rfc3339_ms(facts.created_us),
    }
