"""The write endpoints: read the body, decode it, hand it to the intake, say what became of it.

204 means that every row of the request is durable and visible to queries (DURABILITY 2). 400 ``partial_write`` means
that the named rows were refused and all others are stored. Every other answer means that nothing was stored, but for
code ``outcome_unknown``, which says what it is. The store itself runs in the intake's task, not in this one, so a
client that hangs up changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import trio

from arc.api.bodies import flag
from arc.api.decoding import (
    INLINE_BYTES_MAX,
    DecodedBody,
    DecodeJob,
    Format,
    decode_write,
    expected_bytes,
    is_compressed,
)
from arc.api.deps import Deps
from arc.api.errors import PartialWrite
from arc.api.exchange import Exchange
from arc.api.heads import Head
from arc.api.observed import FormatCounts
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route, Schema
from arc.api.schemas import ANYTHING, BYTES, DATABASE_HEADER, DATABASE_NAME, STRING, empty_answer, json_answer, obj
from arc.catalog.names import check_database_name
from arc.errors import InvalidRequest, TooLarge
from arc.ingest.columns import Request
from arc.ingest.lineprotocol import unit_of
from arc.ingest.requests import WriteRequest

DEFAULT_DATABASE = "default"
KEY_CHARS_MAX = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the head of a write request asks for; ``database`` is None when it names none."""

    database: str | None
    precision: str
    strict: bool
    idempotency_key: str | None
    measurement: str | None
    tags: tuple[str, ...] | None


class Writes:
    """Serves every write path. ``counts`` by format name."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._decoding = trio.Semaphore(deps.decode_threads)
        self.counts = {form.value: FormatCounts() for form in Format}

    async def influx1(self, exchange: Exchange) -> Reply:
        """InfluxDB 1.x; a body without rows is fine there."""
        return await self._write(exchange, Format.LINES, "db", empty_is_fine=True)

    async def influx2(self, exchange: Exchange) -> Reply:
        """InfluxDB 2.x; ``org`` is ignored and a retention policy after the bucket's name too."""
        return await self._write(exchange, Format.LINES, "bucket", empty_is_fine=True)

    async def lines(self, exchange: Exchange) -> Reply:
        """Arc's own path for line protocol."""
        return await self._write(exchange, Format.LINES, "db", empty_is_fine=False)

    async def msgpack(self, exchange: Exchange) -> Reply:
        """MessagePack."""
        return await self._write(exchange, Format.MSGPACK, "db", empty_is_fine=False)

    async def arrow(self, exchange: Exchange) -> Reply:
        """One Arrow IPC stream."""
        return await self._write(exchange, Format.ARROW, "db", empty_is_fine=False)

    async def _write(self, exchange: Exchange, form: Format, parameter: str, *, empty_is_fine: bool) -> Reply:
        counts = self.counts[form.value]
        counts.requests += 1
        try:
            wishes = read_wishes(exchange.head, parameter)
            with ExitStack() as held:
                body = await exchange.body.read(self._deps.server.max_body_bytes, self._deps.ingest.reserve, held)
                counts.bytes += len(body)
                named, decoded, fingerprint = await self._decode(self._job(form, body, wishes), held)
                if not decoded.rows and not decoded.refused:
                    return _nothing_in_it(empty_is_fine)
                database = wishes.database or (check_database_name(named) if named else DEFAULT_DATABASE)
                # Asked now and not before: the body may have taken minutes to come.
                writer = exchange.principal.as_of(self._deps.catalog())
                writer.require_on_all(Permission.WRITE, database, (batch.measurement for batch in decoded.batches))
                request = WriteRequest(
                    database=database,
                    decoded=decoded,
                    idempotency_key=wishes.idempotency_key,
                    fingerprint=fingerprint,
                    strict=wishes.strict,
                )
                return await self._store(request, counts)
        except Exception:
            counts.errors += 1
            raise

    def _job(self, form: Format, body: bytes, wishes: Wishes) -> DecodeJob:
        server = self._deps.server
        lines = form is Format.LINES
        return DecodeJob(
            form=form,
            body=body,
            limit_bytes=server.max_decompressed_lines_bytes if lines else server.max_decompressed_bytes,
            now_us=self._deps.clock.wall_us(),
            precision=wishes.precision,
            measurement=wishes.measurement,
            tags=wishes.tags,
            is_keyed=wishes.idempotency_key is not None,
        )

    async def _decode(self, job: DecodeJob, held: ExitStack) -> DecodedBody:
        if not job.body:
            return DecodedBody(None, Request(()))
        compressed = is_compressed(job.body)
        limit = expected_bytes(job) if compressed else job.limit_bytes
        if compressed:
            held.enter_context(self._deps.ingest.reserve(limit))
        try:
            return await self._decode_within(job, limit)
        except TooLarge:
            if limit == job.limit_bytes:
                raise
        # It grows more than metrics do. Before it may, memory for the worst case is set aside.
        held.enter_context(self._deps.ingest.reserve(job.limit_bytes - limit))
        return await self._decode_within(job, job.limit_bytes)

    async def _decode_within(self, job: DecodeJob, limit_bytes: int) -> DecodedBody:
        if expected_bytes(job) <= INLINE_BYTES_MAX:
            return decode_write(self._deps.decoders, job, limit_bytes)
        async with self._decoding:
            return await self._deps.workers.run(decode_write, self._deps.decoders, job, limit_bytes)

    async def _store(self, request: WriteRequest, counts: FormatCounts) -> Reply:
        written = await self._deps.ingest.write(request)
        counts.records += written.rows
        position = str(written.position)
        if written.refused:
            counts.refused += len(written.refused)
            raise PartialWrite(written=written.rows, refused=written.refused, position=position)
        return Reply(204, headers=((b"x-arc-position", position.encode()),))

    async def flush(self, exchange: Exchange) -> Reply:
        """Every buffered row of the writer into files, now."""
        await self._deps.node.flush_all()
        return json_reply(200, {"status": "success", "message": "All buffers flushed"})

    async def lines_stats(self, call: Call) -> Reply:
        """Counts of line protocol requests, in Arc's words."""
        counts = self.counts[Format.LINES.value]
        return json_reply(200, {"status": "success", "stats": _stats(counts)})

    async def msgpack_stats(self, call: Call) -> Reply:
        """Counts of MessagePack requests, in Arc's words."""
        counts = self.counts[Format.MSGPACK.value]
        return json_reply(200, {"status": "success", "stats": _stats(counts)})

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        write = Permission.WRITE
        stored = {204: empty_answer("Every row is durable and visible. `X-Arc-Position` is its place in the log.")}
        lines = RequestBody(content={"text/plain": STRING, "application/octet-stream": BYTES}, required=False)
        msgpack = RequestBody(content={"application/msgpack": BYTES})
        arrow = RequestBody(content={"application/vnd.apache.arrow.stream": BYTES})
        stats = {200: json_answer("Counts since the start.", obj({"status": STRING, "stats": ANYTHING}))}
        db, bucket = _named("db"), _named("bucket")
        return (
            Route(
                method="POST", path="/write", name="write_influx1", tag="write", permission=write, stream=self.influx1,
                routed="write", summary="Line protocol as InfluxDB 1.x clients send it", answers=stored, body=lines,
                parameters=(db, _PRECISION, _STRICT, KEY, DATABASE_HEADER),
            ),
            Route(
                method="POST", path="/api/v2/write", name="write_influx2", tag="write", permission=write,
                stream=self.influx2, routed="write", summary="Line protocol as InfluxDB 2.x clients send it",
                answers=stored, body=lines, parameters=(bucket, _PRECISION, _STRICT, KEY, DATABASE_HEADER),
            ),
            Route(
                method="POST", path="/api/v1/write/line-protocol", name="write_lines", tag="write", permission=write,
                stream=self.lines, routed="write", summary="Line protocol", answers=stored, body=lines,
                parameters=(db, _PRECISION, _STRICT, KEY, DATABASE_HEADER),
            ),
            Route(
                method="POST", path="/api/v1/write/msgpack", name="write_msgpack", tag="write", permission=write,
                stream=self.msgpack, routed="write", summary="MessagePack: columnar, rows, arrays, batches",
                answers=stored, body=msgpack, parameters=(db, _STRICT, KEY, DATABASE_HEADER),
            ),
            Route(
                method="POST", path="/api/v1/write/arrow", name="write_arrow", tag="write", permission=write,
                stream=self.arrow, routed="write", summary="One Arrow IPC stream", answers=stored, body=arrow,
                parameters=(db, _STRICT, KEY, DATABASE_HEADER, _MEASUREMENT, _TAGS),
            ),
            Route(
                method="POST", path="/api/v1/write/line-protocol/flush", name="flush", tag="write",
                permission=Permission.ADMIN, summary="Write all buffered rows to files now", stream=self.flush,
                routed="import",
                answers={200: json_answer("Done.", obj({"status": STRING, "message": STRING}))},
            ),
            Route(
                method="GET", path="/api/v1/write/line-protocol/stats", name="write_lines_stats", tag="write",
                permission=Permission.READ, summary="Counts of line protocol writes", view=self.lines_stats,
                answers=stats,
            ),
            Route(
                method="GET", path="/api/v1/write/msgpack/stats", name="write_msgpack_stats", tag="write",
                permission=Permission.READ, summary="Counts of MessagePack writes", view=self.msgpack_stats,
                answers=stats,
            ),
        )  # fmt: skip


def read_wishes(head: Head, parameter: str) -> Wishes:
    """Read the head. The database is ``x-arc-database``, else ``parameter``. Raises InvalidRequest."""
    query = head.query()
    precision = query.get("precision", "")
    unit_of(precision)
    return Wishes(
        database=_database(head, query, parameter),
        precision=precision,
        strict="strict" in query and flag(query, "strict"),
        idempotency_key=_idempotency_key(head),
        measurement=head.header(b"x-arc-measurement") or query.get("measurement") or None,
        tags=_tags(head.header(b"x-arc-tags") or query.get("tags") or ""),
    )


def _database(head: Head, query: Mapping[str, str], parameter: str) -> str | None:
    name = head.header(b"x-arc-database") or query.get(parameter) or query.get("db") or query.get("bucket") or ""
    if not name:
        return None
    if parameter == "bucket":
        # InfluxDB 1.8 clients name a bucket "database/retention-policy".
        name = name.partition("/")[0]
    return check_database_name(name)


def _tags(joined: str) -> tuple[str, ...] | None:
    return tuple(tag.strip() for tag in joined.split(",") if tag.strip()) or None


def _idempotency_key(head: Head) -> str | None:
    if b"idempotency-key" not in head.headers:
        return None
    key = head.header(b"idempotency-key")
    if not 1 <= len(key) <= KEY_CHARS_MAX or not (key.isascii() and key.isprintable()):
        raise InvalidRequest(f"Idempotency-Key must be 1 to {KEY_CHARS_MAX} printable ASCII characters")
    return key


def _nothing_in_it(is_fine: bool) -> Reply:
    if is_fine:
        return Reply(204)
    raise InvalidRequest("the request has no rows", code="empty")


def _stats(counts: FormatCounts) -> dict[str, int]:
    return {
        "total_requests": counts.requests,
        "total_records": counts.records,
        "total_refused": counts.refused,
        "total_bytes": counts.bytes,
        "total_errors": counts.errors,
    }


def _named(name: str) -> Parameter:
    schema: Schema = (
        DATABASE_NAME if name == "db" else {"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_-]{0,63}(/.*)?$"}
    )
    return Parameter(name=name, place="query", about="Database; `default` when nothing names one.", schema=schema)


_PRECISION = Parameter(
    name="precision", place="query", about="Unit of the timestamps; nanoseconds by default.",
    schema={"type": "string", "enum": ["ns", "us", "ms", "s", "n", "u", "m", "h"]},
)  # fmt: skip
_STRICT = Parameter(
    name="strict", place="query", about="Store nothing unless every row can be stored.", schema={"type": "boolean"}
)
KEY = Parameter(
    name="Idempotency-Key", place="header",
    about="A retry with the same key is stored once; another write with it is refused (422 `idempotency_key_reused`).",
    schema={"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX, "pattern": "^[!-~]([ -~]*[!-~])?$"},
)  # fmt: skip
_MEASUREMENT = Parameter(
    name="x-arc-measurement", place="header", about="Measurement; beats the stream's own metadata.", schema=STRING
)
_TAGS = Parameter(
    name="x-arc-tags", place="header", about="Tag columns, joined by commas; beats the stream's own metadata.",
    schema=STRING,
)  # fmt: skip
