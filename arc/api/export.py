"""For programs that keep a copy of the data elsewhere: which files are the data now, and their bytes.

A file never changes; one that has left the manifest is answered with 404, and the program asks for the files anew.
"""

from __future__ import annotations

from contextlib import ExitStack

from arc.api.bodies import json_object, optional_texts
from arc.api.deps import Deps
from arc.api.exchange import Exchange
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Answer, Parameter, RequestBody, Route
from arc.api.schemas import BYTES, INTEGER, STRING, TIMESTAMP, array, json_answer, nullable, obj
from arc.backup.document import Document
from arc.errors import InvalidRequest, NotFound
from arc.storage.files import FileEntry
from arc.telemetry import rfc3339_ms

DATABASES_MAX = 1000
PARQUET = "application/vnd.apache.parquet"

_FILE = obj(
    {
        "path": STRING, "sha256": STRING, "size_bytes": INTEGER, "rows": INTEGER, "min_time_us": INTEGER,
        "max_time_us": INTEGER, "columns": array(STRING),
    }
)  # fmt: skip
_TABLE = obj(
    {
        "database": STRING, "measurement": STRING, "columns": array(obj({"name": STRING, "kind": STRING})),
        "files": array(_FILE),
    }
)  # fmt: skip


class Export:
    """Serves the export paths."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._backups = deps.backups

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        admin = Permission.ADMIN
        return (
            Route(
                method="POST", path="/api/v1/export/files", name="export_files", tag="export", permission=admin,
                routed="import", stream=self.files,
                summary="Flush, and say which files are the data: one version of the catalog",
                body=RequestBody(content={"application/json": {
                    "type": "object", "properties": {"databases": nullable(array(STRING))}}}, required=False),
                answers={200: json_answer("All tables.", obj(
                    {"catalog_index": INTEGER, "created_at": TIMESTAMP, "cluster": STRING, "tables": array(_TABLE)}))},
            ),
            Route(
                method="GET", path="/api/v1/export/file", name="export_file", tag="export", permission=admin,
                stream=self.file, summary="The bytes of a file",
                parameters=(_query("path", "Path of the file."), _query("sha256", "Hash of the file.")),
                answers={200: Answer(about="Parquet.", content={PARQUET: BYTES})},
            ),
        )  # fmt: skip

    async def files(self, exchange: Exchange) -> Reply:
        """Raises InvalidRequest, NotFound (a database), Unavailable."""
        with ExitStack() as held:
            body = await exchange.body.read(self._deps.server.max_json_bytes, self._deps.ingest.reserve, held)
        given = optional_texts(json_object(body) if body else {}, "databases", items_max=DATABASES_MAX)
        found = await self._backups.point()
        known = [name for name, _ in found.databases]
        for name in given or ():
            if name not in known:
                raise NotFound(f"database {name!r} not found")
        return json_reply(200, await self._deps.workers.run(_shown, found, frozenset(given or known)))

    async def file(self, exchange: Exchange) -> None:
        """Raises InvalidRequest, NotFound, Unavailable. What breaks off is cut, and the hash tells."""
        query = exchange.head.query()
        path, sha256 = query.get("path", ""), query.get("sha256", "")
        if not path or not sha256:
            raise InvalidRequest("the parameters path and sha256 are required")
        entry, pieces = await self._backups.open_file(path, sha256)
        await exchange.begin(200, ((b"content-type", PARQUET.encode()), (b"x-arc-size", b"%d" % entry.size_bytes)))
        try:
            async for piece in pieces:
                await exchange.piece(piece)
        finally:
            await pieces.aclose()
        await exchange.end()


def _query(name: str, about: str) -> Parameter:
    return Parameter(name=name, place="query", about=about, schema=STRING, required=True)


def _shown(found: Document, databases: frozenset[str]) -> dict[str, object]:
    files: dict[tuple[str, str], list[FileEntry]] = {}
    for entry in found.files:
        files.setdefault((entry.database, entry.measurement), []).append(entry)
    return {
        "catalog_index": found.summary.catalog_index,
        "created_at": rfc3339_ms(found.summary.created_us),
        "cluster": found.cluster_uuid,
        "tables": [
            {
                "database": each.database,
                "measurement": each.name,
                "columns": [{"name": column.name, "kind": column.kind} for column in each.columns],
                "files": [
                    {
                        "path": entry.path,
                        "sha256": entry.sha256,
                        "size_bytes": entry.size_bytes,
                        "rows": entry.rows,
                        "min_time_us": entry.min_time_us,
                        "max_time_us": entry.max_time_us,
                        "columns": list(entry.columns),
                    }
                    for entry in files.get((each.database, each.name), [])
                ],
            }
            for each in found.measurements
            if each.database in databases
        ],
    }
