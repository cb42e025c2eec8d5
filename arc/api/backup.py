"""Backups over HTTP: take one, look at them, verify, restore, and how far that is. The keys are those of Arc in Go.

Everything goes to the node that holds the writer lease, whichever is asked: there is the log that a backup begins with,
and there files may be registered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from arc.api.bodies import json_object, optional_flag, optional_texts, text
from arc.api.deps import Deps
from arc.api.exchange import Exchange
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Answer, Parameter, RequestBody, Route, Schema
from arc.api.schemas import ANYTHING, BOOLEAN, INTEGER, STRING, TIMESTAMP, array, json_answer, nullable, obj
from arc.backup.document import Document, Summary, check_id
from arc.backup.progress import Progress
from arc.backup.restoring import Order
from arc.backup.taking import Wish
from arc.errors import AlreadyRunning, Conflict, Corrupt, InvalidRequest
from arc.telemetry import rfc3339_ms

DATABASES_MAX = 1000

_SUMMARY = obj(
    {
        "backup_id": STRING, "created_at": TIMESTAMP, "backup_type": STRING, "total_files": INTEGER,
        "total_size_bytes": INTEGER, "total_rows": INTEGER, "database_count": INTEGER, "catalog_index": INTEGER,
    }
)  # fmt: skip
_STATUS = obj(
    {"status": STRING},
    {
        "operation": STRING, "backup_id": STRING, "phase": STRING, "total_files": INTEGER, "processed_files": INTEGER,
        "reused_files": INTEGER, "skipped_files": INTEGER, "total_bytes": INTEGER, "processed_bytes": INTEGER,
        "reused_bytes": INTEGER, "rows": INTEGER, "started_at": TIMESTAMP, "completed_at": nullable(TIMESTAMP),
        "error": nullable(STRING), "code": nullable(STRING), "damaged_files": INTEGER, "damaged": array(STRING),
        "policies_kept": INTEGER, "tokens_kept": INTEGER, "place": STRING,
    },
)  # fmt: skip
_BEGUN = obj({"message": STRING, "status": STRING, "backup_id": STRING})
_ID = Parameter(
    name="id", place="path", about="Id of a backup.", required=True,
    schema={"type": "string", "pattern": "^backup-[0-9]{8}-[0-9]{6}-[0-9a-f]{8}$"},
)  # fmt: skip


class Backups:
    """Serves the backup paths."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._backups = deps.backups

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        base, admin = "/api/v1/backup", Permission.ADMIN
        busy = {409: json_answer("Another operation is running.", ANYTHING)}
        begun: dict[int, Answer] = {202: json_answer("Begun: look at the status.", _BEGUN), **busy}
        return (
            Route(
                method="POST", path=base, name="create_backup", tag="backup", permission=admin, routed="import",
                stream=self.create, summary="Begin a backup", answers=begun,
                body=_body({"include_metadata": nullable(BOOLEAN), "include_config": nullable(BOOLEAN),
                            "include_tokens": nullable(BOOLEAN), "check_reused": nullable(BOOLEAN)}, required=False),
            ),
            Route(
                method="GET", path=base, name="list_backups", tag="backup", permission=admin, routed="import",
                stream=self.list, summary="All backups",
                answers={200: json_answer("Newest first.", obj(
                    {"backups": array(_SUMMARY), "count": INTEGER, "damaged": array(STRING), "place": STRING}))},
            ),
            Route(
                method="GET", path=f"{base}/status", name="backup_status", tag="backup", permission=admin,
                routed="import", stream=self.status, summary="How far the operation is, or how the last one ended",
                answers={200: json_answer("As of now.", _STATUS)},
            ),
            Route(
                method="POST", path=f"{base}/restore", name="restore_backup", tag="backup", permission=admin,
                routed="import", stream=self.restore, summary="Begin a restore, or go on with one", answers=begun,
                body=_body({"backup_id": STRING, "databases": nullable(array(STRING)),
                            "restore_data": nullable(BOOLEAN), "restore_metadata": nullable(BOOLEAN),
                            "restore_config": nullable(BOOLEAN), "restore_tokens": nullable(BOOLEAN),
                            "skip_damaged": nullable(BOOLEAN), "confirm": BOOLEAN}, "backup_id", "confirm"),
            ),
            Route(
                method="POST", path=f"{base}/verify", name="verify_backup", tag="backup", permission=admin,
                routed="import", stream=self.verify, summary="Begin to read a backup whole", answers=begun,
                body=_body({"backup_id": STRING}, "backup_id"),
            ),
            Route(
                method="GET", path=f"{base}/{{id}}", name="get_backup", tag="backup", permission=admin,
                routed="import", stream=self.get, summary="What a backup holds", parameters=(_ID,),
                answers={200: json_answer("Found.", ANYTHING)},
            ),
            Route(
                method="DELETE", path=f"{base}/{{id}}", name="delete_backup", tag="backup", permission=admin,
                routed="import", stream=self.delete, summary="Forget a backup, and files that no other one needs",
                parameters=(_ID,),
                answers={200: json_answer("Gone.", obj({"message": STRING, "files_removed": INTEGER})), **busy},
            ),
        )  # fmt: skip

    async def create(self, exchange: Exchange) -> Reply:
        """``include_config`` is taken and changes nothing: a node's configuration is a file of that node."""
        given = await self._object(exchange)
        optional_flag(given, "include_config")
        wish = Wish(
            backup_id="",
            with_policies=optional_flag(given, "include_metadata") is not False,
            with_tokens=bool(optional_flag(given, "include_tokens")),
            checks_reused=bool(optional_flag(given, "check_reused")),
        )
        if (busy := self._busy()) is not None:
            return busy
        backup_id = self._backups.create(wish)
        self._deps.log.info("backup_ordered", backup=backup_id, by=exchange.principal.name)
        return _begun("backup", backup_id)

    async def list(self, exchange: Exchange) -> Reply:
        """Raises Unavailable."""
        found = await self._backups.all()
        good = [_summary(each) for each in found if isinstance(each, Summary)]
        damaged = [str(each) for each in found if not isinstance(each, Summary)]
        return json_reply(200, {"backups": good, "count": len(good), "damaged": damaged, "place": self._backups.place})

    async def status(self, exchange: Exchange) -> Reply:
        """``idle`` until the first operation since the start of the node that is asked."""
        last = self._backups.last
        if last is None:
            return json_reply(200, {"status": "idle", "place": self._backups.place})
        return json_reply(200, {**_progress(last), "place": self._backups.place})

    async def restore(self, exchange: Exchange) -> Reply:
        """Raises InvalidRequest, NotFound. Whether it may be, the status tells: the document is read first."""
        given = await self._object(exchange)
        backup_id = check_id(text(given, "backup_id"))
        if not optional_flag(given, "confirm"):
            raise InvalidRequest("databases will be made and filled: send 'confirm': true")
        if optional_flag(given, "restore_config"):
            raise InvalidRequest("a backup holds no configuration: it is a file of each node")
        order = Order(
            backup_id=backup_id,
            databases=optional_texts(given, "databases", items_max=DATABASES_MAX) or (),
            with_data=optional_flag(given, "restore_data") is not False,
            with_policies=optional_flag(given, "restore_metadata") is not False,
            with_tokens=bool(optional_flag(given, "restore_tokens")),
            skips_damaged=bool(optional_flag(given, "skip_damaged")),
        )
        if (busy := self._busy()) is not None:
            return busy
        self._backups.restore(order)
        self._deps.log.info("restore_ordered", backup=backup_id, by=exchange.principal.name)
        return _begun("restore", backup_id)

    async def verify(self, exchange: Exchange) -> Reply:
        """Raises InvalidRequest."""
        backup_id = check_id(text(await self._object(exchange), "backup_id"))
        if (busy := self._busy()) is not None:
            return busy
        self._backups.verify(backup_id)
        return _begun("verify", backup_id)

    async def get(self, exchange: Exchange) -> Reply:
        """Raises InvalidRequest, NotFound, Conflict (the document is damaged), Unavailable."""
        with _told():
            found = await self._backups.get(_path_id(exchange))
        return json_reply(200, _shown(found))

    async def delete(self, exchange: Exchange) -> Reply:
        """Raises InvalidRequest, NotFound, Conflict (the document of another one is damaged), Unavailable."""
        backup_id = _path_id(exchange)
        if (busy := self._busy()) is not None:
            return busy
        with _told():
            removed = await self._backups.delete(backup_id)
        self._deps.log.info("backup_deleted", backup=backup_id, files=removed, by=exchange.principal.name)
        return json_reply(200, {"message": f"{backup_id} is gone", "files_removed": removed})

    async def _object(self, exchange: Exchange) -> dict[str, object]:
        with ExitStack() as held:
            body = await exchange.body.read(self._deps.server.max_json_bytes, self._deps.ingest.reserve, held)
        return json_object(body) if body else {}

    def _busy(self) -> Reply | None:
        now = self._backups.running
        if now is None:
            return None
        error = f"a {now.operation} of {now.backup_id} is running; one at a time"
        return json_reply(
            AlreadyRunning.status,
            {"success": False, "error": error, "message": error, "code": AlreadyRunning.code, "status": now.status,
             "operation": now.operation},
        )  # fmt: skip


@contextmanager
def _told() -> Iterator[None]:
    """A damaged backup is no reason to suspect the node: it is told like any other answer."""
    try:
        yield
    except Corrupt as problem:
        raise Conflict(str(problem), code="corrupt") from problem


def _begun(operation: str, backup_id: str) -> Reply:
    return json_reply(202, {"message": f"{operation} begun", "status": "running", "backup_id": backup_id})


def _path_id(exchange: Exchange) -> str:
    return check_id(exchange.head.path.rpartition("/")[2])


def _body(properties: dict[str, Schema], *needed: str, required: bool = True) -> RequestBody:
    schema: Schema = {"type": "object", "properties": properties}
    if needed:
        schema["required"] = list(needed)
    return RequestBody(content={"application/json": schema}, required=required)


def _summary(found: Summary) -> dict[str, object]:
    return {
        "backup_id": found.backup_id,
        "created_at": rfc3339_ms(found.created_us),
        "backup_type": found.backup_type,
        "total_files": found.total_files,
        "total_size_bytes": found.total_size_bytes,
        "total_rows": found.total_rows,
        "database_count": found.database_count,
        "catalog_index": found.catalog_index,
    }


def _progress(found: Progress) -> dict[str, object]:
    return {
        "operation": found.operation,
        "backup_id": found.backup_id,
        "status": found.status,
        "phase": found.phase,
        "total_files": found.total_files,
        "processed_files": found.processed_files,
        "reused_files": found.reused_files,
        "skipped_files": found.damaged_files if found.operation == "restore" else 0,
        "total_bytes": found.total_bytes,
        "processed_bytes": found.processed_bytes,
        "reused_bytes": found.reused_bytes,
        "rows": found.rows,
        "started_at": rfc3339_ms(found.started_us),
        "completed_at": rfc3339_ms(found.completed_us) if found.completed_us is not None else None,
        "error": found.error,
        "code": found.code,
        "damaged_files": found.damaged_files,
        "damaged": found.damaged,
        "policies_kept": found.policies_kept,
        "tokens_kept": found.tokens_kept,
    }


def _shown(found: Document) -> dict[str, object]:
    files, rows, sizes = Counter[tuple[str, str]](), Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for file in found.files:
        table = (file.database, file.measurement)
        files[table] += 1
        rows[table] += file.rows
        sizes[table] += file.size_bytes
    measurements: dict[str, list[dict[str, object]]] = {name: [] for name, _ in found.databases}
    for each in found.measurements:
        table = (each.database, each.name)
        measurements[each.database].append(
            {"name": each.name, "columns": len(each.columns), "file_count": files[table], "row_count": rows[table],
             "size_bytes": sizes[table]}
        )  # fmt: skip
    return {
        **_summary(found.summary),
        "cluster": {"uuid": found.cluster_uuid, "name": found.cluster_name},
        "version": found.version,
        "databases": [
            {
                "name": name,
                "created_at": rfc3339_ms(created_us),
                "measurements": measurements[name],
                "file_count": sum(count for (database, _), count in files.items() if database == name),
                "size_bytes": sum(count for (database, _), count in sizes.items() if database == name),
            }
            for name, created_us in found.databases
        ],
        "policy_count": len(found.policies),
        "token_count": len(found.tokens),
    }
