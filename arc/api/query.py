"""The query endpoints: read the statement, run it, stream the result. A client that hangs up stops its query."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import trio

from arc.api.bodies import json_object, text, whole_number
from arc.api.deps import Deps
from arc.api.errors import ClientGone
from arc.api.exchange import Exchange
from arc.api.heads import Head
from arc.api.observed import QueryGateCounts
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.results import choose_encoder, send_result, wants_csv
from arc.api.routes import Answer, Parameter, RequestBody, Route, Schema
from arc.api.schemas import (
    ANYTHING,
    BOOLEAN,
    BYTES,
    DATABASE_HEADER,
    DATABASE_NAME,
    INTEGER,
    STRING,
    TIMESTAMP,
    array,
    json_answer,
    nullable,
    obj,
)
from arc.errors import InvalidRequest, Unavailable
from arc.ids import Position

LIMIT_MAX = 1_000_000
WHERE_CHARS_MAX = 4096
ORDER_CHARS_MAX = 256
RETRY_SECONDS = 5
WARNINGS = ((1_000_000, "high"), (100_000, "medium"), (10_000, "low"))
"""Rows above which an estimate warns, and how it calls that (data plane 1.4)."""

_ORDER = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([A-Za-z_][A-Za-z0-9_.-]*))(?:\s+(ASC|DESC))?\s*', re.IGNORECASE)

_POSITION = re.compile(r"[0-9]{1,18}\.[0-9]{1,18}", re.ASCII)
_INDEX = re.compile(r"[0-9]{1,18}", re.ASCII)


class Queries:
    """SQL in, results out."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self.gate = QueryGateCounts()

    async def json(self, exchange: Exchange) -> None:
        """JSON, or CSV when only that is accepted."""
        await self._statement(exchange, "csv" if wants_csv(exchange.head) else "json")

    async def msgpack(self, exchange: Exchange) -> None:
        """One MessagePack map with columns."""
        await self._statement(exchange, "msgpack")

    async def arrow(self, exchange: Exchange) -> None:
        """An Arrow IPC stream."""
        await self._statement(exchange, "arrow")

    async def csv(self, exchange: Exchange) -> None:
        """CSV with a header line."""
        await self._statement(exchange, "csv")

    async def measurement(self, exchange: Exchange) -> None:
        """One measurement without writing SQL."""
        head = exchange.head
        query = head.query()
        with ExitStack() as held:
            await exchange.body.read(self._deps.server.max_json_bytes, _unreserved, held)
        sql = measurement_sql(
            database=head.header(b"x-arc-database") or query.get("database") or "default",
            measurement=head.path.rpartition("/")[2],
            where=query.get("where", ""),
            order_by=query.get("order_by") or "time DESC",
            limit=whole_number(query, "limit", default=100, low=0, high=LIMIT_MAX),
            offset=whole_number(query, "offset", default=0, low=0, high=2**53),
        )
        await self._run(exchange, sql, "csv" if wants_csv(head) else "json")

    async def estimate(self, exchange: Exchange) -> Reply:
        """How many rows a statement would return."""
        head = exchange.head
        with ExitStack() as held:
            body = await exchange.body.read(self._deps.server.max_json_bytes, _unreserved, held)
        await self._require_ready(head)
        started = self._deps.clock.now()
        database = head.header(b"x-arc-database") or None
        with self.gate.counting("files_missing", code="files_missing"):
            rows = await self._deps.queries.estimate(
                text(json_object(body), "sql", chars_max=self._deps.server.max_json_bytes),
                database=database,
                database_explicit=database is not None,
                principal=exchange.principal,
                remote_addr=head.client or None,
            )
        level = next((name for bound, name in WARNINGS if rows > bound), "none")
        document: dict[str, object] = {
            "success": True,
            "estimated_rows": rows,
            "warning_level": level,
            "warning_message": None if level == "none" else f"the result has {rows} rows; consider LIMIT",
            "execution_time_ms": round((self._deps.clock.now() - started) * 1000),
        }
        return json_reply(200, document)

    async def _statement(self, exchange: Exchange, kind: str) -> None:
        with ExitStack() as held:
            body = await exchange.body.read(self._deps.server.max_json_bytes, _unreserved, held)
        sql = text(json_object(body), "sql", chars_max=self._deps.server.max_json_bytes)
        await self._run(exchange, sql, kind)

    async def _run(self, exchange: Exchange, sql: str, kind: str) -> None:
        head = exchange.head
        await self._require_ready(head)
        encoder = choose_encoder(kind, head, materialised_bytes_max=self._deps.materialised_bytes_max)
        database = head.header(b"x-arc-database") or None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_stop_when_gone, exchange, nursery.cancel_scope)
            with self.gate.counting("files_missing", code="files_missing"):
                async with self._deps.queries.open(
                    sql,
                    database=database,
                    database_explicit=database is not None,
                    principal=exchange.principal,
                    remote_addr=head.client or None,
                ) as answer:
                    await send_result(exchange, answer, encoder, self._deps.workers)
            nursery.cancel_scope.cancel()
        if not exchange.finished:
            raise ClientGone

    async def _require_ready(self, head: Head) -> None:
        """Wait until this node sees what the caller has seen elsewhere (DURABILITY 6). Raises Unavailable,
        InvalidRequest.
        """
        with self.gate.counting("not_ready"):
            reason = self._deps.node.refuses_queries()
            if reason is not None:
                raise Unavailable(f"queries are not answered now: {reason}", retry_after_seconds=RETRY_SECONDS)
        position, index = least_seen(head)
        is_strong = wants_strong(head)
        if is_strong:
            with self.gate.counting("not_confirmed"):
                agreed = await self._confirm()
            index = agreed if index is None else max(agreed, index)
        if position is not None or index is not None:
            with self.gate.counting("not_seen"):
                await self._deps.node.wait_seen(position, index, is_strong=is_strong)

    async def _confirm(self) -> int:
        """The index of everything agreed on before now. Raises Unavailable: also where rows may be missing that were
        acknowledged elsewhere.
        """
        agreed = 0 if self._deps.read_index is None else await self._deps.read_index()
        # Asked after the confirmation: who was replaced before the query came has heard of it by now.
        if self._deps.forward is not None and not self._deps.forward.holds_lease():
            raise Unavailable(
                "this node does not hold the writer lease; a strong read is for the one that does", code="not_holder"
            )
        return agreed

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        read = Permission.READ
        sql = RequestBody(content={"application/json": obj({"sql": {"type": "string", "minLength": 1}})})
        envelope = obj(
            {
                "success": BOOLEAN, "columns": array(STRING), "data": array(array(ANYTHING)), "row_count": INTEGER,
                "execution_time_ms": INTEGER, "timestamp": TIMESTAMP,
            },
            {"profile": ANYTHING},
        )  # fmt: skip
        rows = Answer(about="The rows.", content={"application/json": envelope, "text/csv": STRING})
        profile = Parameter(name="x-arc-profile", place="header", about="`true` adds timings.", schema=STRING)
        estimate = obj(
            {"success": BOOLEAN, "estimated_rows": nullable(INTEGER), "warning_level": STRING,
             "execution_time_ms": INTEGER}, {"warning_message": nullable(STRING)},
        )  # fmt: skip
        arrow = (
            Parameter(name="x-arc-arrow-compression", place="header", about="Compress buffers.",
                      schema={"type": "string", "enum": ["zstd", "lz4"]}),
            Parameter(name="x-arc-arrow-dictionary", place="header", about="Dictionary-encode text.",
                      schema={"type": "string", "enum": ["true", "false", "1", "0"]}),
        )  # fmt: skip
        consistency: Schema = {"type": "string", "enum": ["eventual", "strong"]}
        seen = (
            Parameter(name="x-arc-min-position", place="header", about="Wait for the write that was answered with it.",
                      schema={"type": "string", "pattern": r"^[0-9]{1,18}\.[0-9]{1,18}$"}),
            Parameter(name="x-arc-min-index", place="header", about="Wait for this entry of the catalog.",
                      schema={"type": "string", "pattern": "^[0-9]{1,18}$"}),
            Parameter(name="x-arc-consistency", place="header", schema=consistency,
                      about="`strong`: see every write that was acknowledged before the query was sent."),
            Parameter(name="consistency", place="query", about="The same in the URL.", schema=consistency),
        )  # fmt: skip
        common = (DATABASE_HEADER, profile, *seen)

        def binary(media: str) -> dict[int, Answer]:
            return {200: Answer(about="The rows.", content={media: BYTES})}

        return (
            Route(
                method="POST", path="/api/v1/query", name="query_json", tag="query", permission=read,
                stream=self.json, routed="query", summary="Run SQL", body=sql, parameters=common, answers={200: rows},
            ),
            Route(
                method="POST", path="/api/v1/query/msgpack", name="query_msgpack", tag="query", permission=read,
                stream=self.msgpack, routed="query", summary="Run SQL, columns in MessagePack", body=sql,
                parameters=common, answers=binary("application/msgpack"),
            ),
            Route(
                method="POST", path="/api/v1/query/arrow", name="query_arrow", tag="query", permission=read,
                stream=self.arrow, routed="query", summary="Run SQL, an Arrow IPC stream", body=sql,
                parameters=(DATABASE_HEADER, *arrow, *seen), answers=binary("application/vnd.apache.arrow.stream"),
            ),
            Route(
                method="POST", path="/api/v1/query/csv", name="query_csv", tag="query", permission=read,
                stream=self.csv, routed="query", summary="Run SQL, CSV", body=sql,
                parameters=(DATABASE_HEADER, *seen),
                answers={200: Answer(about="The rows.", content={"text/csv": STRING})},
            ),
            Route(
                method="POST", path="/api/v1/query/estimate", name="query_estimate", tag="query", permission=read,
                stream=self.estimate, routed="query", summary="How many rows a statement would return", body=sql,
                parameters=(DATABASE_HEADER, *seen), answers={200: json_answer("Counted.", estimate)},
            ),
            Route(
                method="GET", path="/api/v1/query/{measurement}", name="query_measurement", tag="query",
                permission=read, stream=self.measurement, routed="query",
                summary="Rows of one measurement, newest first",
                parameters=(
                    Parameter(name="measurement", place="path", about="Measurement.",
                              schema={"type": "string", "minLength": 1, "maxLength": 128}, required=True),
                    Parameter(name="database", place="query", about="Database; `default` by default.",
                              schema=DATABASE_NAME),
                    Parameter(name="limit", place="query", about="At most this many rows.",
                              schema={"type": "integer", "minimum": 0, "maximum": LIMIT_MAX, "default": 100}),
                    Parameter(name="offset", place="query", about="Leave out this many first.",
                              schema={"type": "integer", "minimum": 0, "maximum": 2**53, "default": 0}),
                    Parameter(name="order_by", place="query", about="`column [ASC|DESC], …`",
                              schema={"type": "string", "maxLength": ORDER_CHARS_MAX}),
                    Parameter(name="where", place="query", about="A condition in SQL.",
                              schema={"type": "string", "maxLength": WHERE_CHARS_MAX}),
                    DATABASE_HEADER,
                    *seen,
                ),
                answers={200: rows},
            ),
        )  # fmt: skip


def least_seen(head: Head) -> tuple[Position | None, int | None]:
    """What ``X-Arc-Min-Position`` and ``X-Arc-Min-Index`` ask for. Raises InvalidRequest."""
    position, index = head.header(b"x-arc-min-position"), head.header(b"x-arc-min-index")
    if position and _POSITION.fullmatch(position) is None:
        raise InvalidRequest(f"X-Arc-Min-Position is what a write answered in X-Arc-Position, not {position[:40]!r}")
    if index and _INDEX.fullmatch(index) is None:
        raise InvalidRequest(f"X-Arc-Min-Index is a number, not {index[:40]!r}")
    return Position.parse(position) if position else None, int(index) if index else None


def wants_strong(head: Head) -> bool:
    """Whether the query must see everything acknowledged before it: ``consistency=strong`` in the URL, or
    ``X-Arc-Consistency``. Raises InvalidRequest for a word that is not known.
    """
    wish = head.header(b"x-arc-consistency")
    if not wish and b"consistency" in head.query_string:
        wish = head.query().get("consistency", "")
    if wish.lower() not in ("", "eventual", "strong"):
        raise InvalidRequest(f"consistency is eventual or strong, not {wish[:40]!r}")
    return wish.lower() == "strong"


def measurement_sql(*, database: str, measurement: str, where: str, order_by: str, limit: int, offset: int) -> str:
    """A SELECT over one measurement, its names quoted. Raises InvalidRequest.

    ``where`` is SQL and goes through the same checks as any statement; the line breaks keep a comment in it from
    hiding the rest.
    """
    if len(where) > WHERE_CHARS_MAX:
        raise InvalidRequest(f"where is longer than {WHERE_CHARS_MAX} characters")
    condition = f" WHERE (\n{where}\n)" if where.strip() else ""
    table = f"{quoted(database)}.{quoted(measurement)}"
    return f"SELECT * FROM {table}{condition} ORDER BY {_order(order_by)} LIMIT {limit} OFFSET {offset}"


def quoted(name: str) -> str:
    """A name as SQL writes it whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _order(wish: str) -> str:
    if len(wish) > ORDER_CHARS_MAX:
        raise InvalidRequest(f"order_by is longer than {ORDER_CHARS_MAX} characters")
    parts = []
    for part in wish.split(","):
        found = _ORDER.fullmatch(part)
        if found is None:
            raise InvalidRequest(f"order_by must be columns with ASC or DESC, not {part[:80]!r}")
        name = found[1].replace('""', '"') if found[1] else found[2]
        parts.append(f"{quoted(name)} {(found[3] or 'ASC').upper()}")
    return ", ".join(parts)


async def _stop_when_gone(exchange: Exchange, scope: trio.CancelScope) -> None:
    await exchange.body.wait_gone()
    if not exchange.finished:
        scope.cancel()


@contextmanager
def _unreserved(size_bytes: int) -> Iterator[None]:
    # A statement is small and bounded; a node too full for writes still answers queries.
    yield
