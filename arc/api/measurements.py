"""`GET /api/v1/measurements`: every measurement and the files behind it, from the manifest and not from a listing."""

from __future__ import annotations

from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, Route
from arc.api.schemas import BOOLEAN, DATABASE_NAME, INTEGER, NUMBER, STRING, array, json_answer, obj

_MIB = 1 << 20


class Measurements:
    """The whole inventory, or that of one database."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        row = obj(
            {
                "database": STRING, "measurement": STRING, "file_count": INTEGER, "total_size_mb": NUMBER,
                "storage_path": STRING, "row_count": INTEGER, "columns": INTEGER,
            }
        )  # fmt: skip
        answer = obj({"success": BOOLEAN, "measurements": array(row), "count": INTEGER, "execution_time_ms": NUMBER})
        return (
            Route(
                method="GET", path="/api/v1/measurements", name="list_measurements", tag="databases",
                permission=Permission.READ, summary="Measurements with their files", view=self.list,
                parameters=(
                    Parameter(name="database", place="query", about="Only this database.", schema=DATABASE_NAME),
                ),
                answers={200: json_answer("Sorted by database and name.", answer)},
            ),
        )  # fmt: skip

    async def list(self, call: Call) -> Reply:
        """``row_count`` counts rows in files; rows still in the buffer are not in it."""
        started = self._deps.clock.now()
        only = call.head.query().get("database")
        catalog = call.principal.seen(self._deps.catalog())
        found = []
        for database, facts in sorted(catalog.databases.items()):
            if database[0] in "._" or (only and database != only):
                continue
            for measurement, schema in sorted(facts.measurements.items()):
                stats = catalog.file_stats(database, measurement)
                found.append(
                    {
                        "database": database,
                        "measurement": measurement,
                        "file_count": stats.files,
                        "total_size_mb": round(stats.bytes / _MIB, 3),
                        "storage_path": f"{database}/{measurement}",
                        "row_count": stats.rows,
                        "columns": len(schema.columns) + 1,
                    }
                )
        spent_ms = (self._deps.clock.now() - started) * 1000
        document = {
            "success": True,
            "measurements": found,
            "count": len(found),
            "execution_time_ms": round(spent_ms, 3),
        }
        return json_reply(200, document)
