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
from arc.errors import Forbidden, NotFound
from arc.telemetry import rfc3339_ms

_DATABASE = obj({"name": STRING, "measurement_count": INTEGER}, {"created_at": TIMESTAMP})
_NAME = Parameter(name="name", place="path", about="Database.", schema=DATABASE_NAME, required=True)


class Databases:
    """List, look, make."""

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
                permission=Permission.ADMIN, summary="Not enabled in this version", view=self.delete,
                parameters=(_NAME,), answers={},
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
        """Deleting is a later version's; the answer is the one clients know for "switched off"."""
        raise Forbidden("delete is not enabled", code="delete_disabled")

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
