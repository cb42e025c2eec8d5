"""Bulk import of CSV, Parquet and line protocol files: decoded whole, stored in slices, flushed before the answer.

A slice is a write like any other, durable when it is answered; so a failure in the middle leaves the slices before it
stored, and the error says how many rows that is, and never that nothing happened. With an ``Idempotency-Key`` every
slice gets a key of its own from it, and sending the file again stores only what is missing; another file is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from arc.api.bodies import whole_number
from arc.api.deps import Deps
from arc.api.errors import PartialWrite
from arc.api.exchange import Exchange
from arc.api.heads import Head
from arc.api.multipart import extract_file, file_boundary
from arc.api.observed import FormatCounts
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, RequestBody, Route, Schema
from arc.api.schemas import ANYTHING, BYTES, DATABASE_HEADER, DATABASE_NAME, STRING, json_answer, obj
from arc.api.write import KEY, read_wishes
from arc.catalog.names import check_measurement_name
from arc.errors import ArcError, InvalidRequest, OutcomeUnknown, Overloaded, Unavailable
from arc.ingest.columns import Column, Decoded, Refused, Request
from arc.ingest.keys import NOT_KNOWN, fingerprint_of
from arc.ingest.requests import WriteRequest, Written
from arc.ingest.tabular import decode_csv, decode_parquet
from arc.telemetry import rfc3339_ms

SLICE_ROWS = 100_000
"""Rows per write of an import: far below the log's largest record, far above what a write costs."""

FORM_BYTES_MAX = 64 * 1024
"""What a multipart form may add to its file."""

FLUSHES_MAX = 3
"""How often one slice may find the memory full before the import gives up; each time the buffers are flushed first."""

HOUR_US = 3_600_000_000

Decode = Callable[[bytes], Request]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an import goes. ``key`` is the client's idempotency key."""

    database: str
    measurement: str
    key: str | None


class Imports:
    """Serves the import paths; ``counts`` for their statistics."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self.counts = FormatCounts()

    async def csv(self, exchange: Exchange) -> Reply:
        """CSV with a header line."""
        query = exchange.head.query()
        target = _target(exchange.head, measurement_needed=True)
        skip_rows = whole_number(query, "skip_rows", default=0, low=0, high=1_000_000)

        def decode(body: bytes) -> Request:
            return decode_csv(
                body,
                measurement=target.measurement,
                time_column=query.get("time_column") or "time",
                time_format=query.get("time_format", ""),
                delimiter=query.get("delimiter") or ",",
                skip_rows=skip_rows,
                tags=_tags(query),
            )

        return await self._import(exchange, target, decode)

    async def parquet(self, exchange: Exchange) -> Reply:
        """A Parquet file."""
        query = exchange.head.query()
        target = _target(exchange.head, measurement_needed=True)

        def decode(body: bytes) -> Request:
            return decode_parquet(
                body,
                measurement=target.measurement,
                time_column=query.get("time_column") or "time",
                time_format=query.get("time_format", ""),
                tags=_tags(query),
                bytes_max=self._deps.server.max_decompressed_bytes,
            )

        return await self._import(exchange, target, decode)

    async def lines(self, exchange: Exchange) -> Reply:
        """A file of line protocol; ``measurement`` keeps only that one."""
        target = _target(exchange.head, measurement_needed=False)
        precision = read_wishes(exchange.head, "db").precision
        now_us = self._deps.clock.wall_us()

        def decode(body: bytes) -> Request:
            decoded = self._deps.decoders.lines(body, precision, now_us)
            if not target.measurement:
                return decoded
            kept = tuple(batch for batch in decoded.batches if batch.measurement == target.measurement)
            return Request(kept, decoded.refused)

        return await self._import(exchange, target, decode, precision=precision or "ns")

    async def _import(self, exchange: Exchange, target: Target, decode: Decode, **extra: str) -> Reply:
        self.counts.requests += 1
        started = self._deps.clock.now()
        try:
            with ExitStack() as held:
                decoded, fingerprint = await self._read(exchange, target, decode, held)
                if not decoded.rows and not decoded.refused:
                    raise InvalidRequest("the file has no rows", code="empty")
                writer = exchange.principal.as_of(self._deps.catalog())
                measurements = (batch.measurement for batch in decoded.batches)
                writer.require_on_all(Permission.WRITE, target.database, measurements)
                stored = await self._store(decoded, target, fingerprint)
                await self._flush()
        except Exception:
            self.counts.errors += 1
            raise
        self.counts.records += decoded.rows
        duration_ms = round((self._deps.clock.now() - started) * 1000)
        if stored.refused:
            raise PartialWrite(written=stored.rows, refused=stored.refused, position=str(stored.position))
        result = await self._deps.workers.run(_summary, decoded, target, bool(extra))
        position = (b"x-arc-position", str(stored.position).encode())
        return json_reply(200, {"status": "ok", "result": {**result, **extra, "duration_ms": duration_ms}}, (position,))

    async def _read(self, exchange: Exchange, target: Target, decode: Decode, held: ExitStack) -> tuple[Request, int]:
        limit = self._deps.server.max_import_bytes
        boundary = file_boundary(exchange.head)
        slack = FORM_BYTES_MAX if boundary is not None else 0
        body = await exchange.body.read(limit + slack, self._deps.ingest.reserve, held)
        self.counts.bytes += len(body)

        def unpack() -> tuple[Request, int]:
            file = body if boundary is None else extract_file(body, boundary)
            plain = self._deps.decoders.inflate(file, limit)
            fingerprint = NOT_KNOWN
            if target.key is not None:
                query = sorted(f"{name}={value}" for name, value in exchange.head.query().items())
                fingerprint = fingerprint_of(plain, exchange.head.path, target.measurement, *query)
            return decode(plain), fingerprint

        return await self._deps.workers.run(unpack)

    async def _flush(self) -> None:
        """What cannot be flushed now is stored all the same, and will be: who is told otherwise sends it again."""
        try:
            await self._deps.node.flush_all()
        except Unavailable as error:
            self._deps.log.warning("import_not_flushed", reason=error.message, effect="its rows are in the log")

    async def _store(self, decoded: Request, target: Target, fingerprint: int) -> Written:
        written: Written | None = None
        rows = 0
        refused: list[Refused] = []
        for nth, part in enumerate(slices(decoded)):
            request = WriteRequest(
                database=target.database,
                decoded=part,
                idempotency_key=None if target.key is None else f"{target.key}#{nth}",
                fingerprint=fingerprint,
            )
            try:
                written = await self._store_slice(request)
            except ArcError as error:
                if rows:
                    error.message += f" ({rows} of {decoded.rows} rows of the file were stored before)"
                    if isinstance(error, Unavailable):  # That is: nothing happened.
                        raise OutcomeUnknown(error.message) from error
                raise
            rows += written.rows
            refused += written.refused
        assert written is not None
        return Written(position=written.position, rows=rows, refused=tuple(refused))

    async def _store_slice(self, request: WriteRequest) -> Written:
        for _ in range(FLUSHES_MAX):
            try:
                return await self._deps.ingest.write(request)
            except Overloaded:
                await self._deps.node.flush_all()
        return await self._deps.ingest.write(request)

    async def stats(self, call: Call) -> Reply:
        """Counts of imports, in Arc's words."""
        counts = self.counts
        document = {
            "total_requests": counts.requests, "total_records": counts.records, "total_errors": counts.errors,
        }  # fmt: skip
        return json_reply(200, {"status": "success", "stats": document})

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        admin = Permission.ADMIN
        form = obj({"file": BYTES})
        about = "Stored and flushed. `X-Arc-Position` is the place of the last row in the log."
        done = {200: json_answer(about, obj({"status": STRING, "result": ANYTHING}))}
        unreadable = {422: json_answer("The file cannot be read, or the Idempotency-Key is another one's.", ANYTHING)}
        common = (KEY, _query("db", "Database, unless `x-arc-database` names it.", DATABASE_NAME), DATABASE_HEADER)
        measurement = _query("measurement", "Measurement.", {"type": "string", "minLength": 1, "maxLength": 128}, True)
        table = (
            measurement,
            _query("time_column", "Column with the time; `time` by default.", STRING),
            _query("time_format", "Unit of numbers; guessed by default.",
                   {"type": "string", "enum": ["", "epoch_s", "epoch_ms", "epoch_us", "epoch_ns"]}),
            _query("tags", "Tag columns, joined by commas.", STRING),
        )  # fmt: skip
        csv = (
            _query(
                "delimiter", "One character; a comma by default.", {"type": "string", "minLength": 1, "maxLength": 1}
            ),
            _query("skip_rows", "Lines before the header.", {"type": "integer", "minimum": 0, "maximum": 1_000_000}),
        )

        def body(media: str) -> RequestBody:
            return RequestBody(content={"multipart/form-data": form, media: BYTES})

        return (
            Route(
                method="POST", path="/api/v1/import/csv", name="import_csv", tag="import", permission=admin,
                stream=self.csv, routed="import", summary="Import a CSV file",
                body=body("text/csv"),
                parameters=(*common, *table, *csv), answers=done | unreadable,
            ),
            Route(
                method="POST", path="/api/v1/import/parquet", name="import_parquet", tag="import", permission=admin,
                stream=self.parquet, routed="import", summary="Import a Parquet file",
                body=body("application/vnd.apache.parquet"),
                parameters=(*common, *table), answers=done | unreadable,
            ),
            Route(
                method="POST", path="/api/v1/import/lp", name="import_lines", tag="import", permission=admin,
                stream=self.lines, routed="import", summary="Import a file of line protocol",
                body=body("text/plain"),
                parameters=(
                    *common,
                    _query("measurement", "Keep only this one.", STRING),
                    _query("precision", "Unit of the timestamps; nanoseconds by default.",
                           {"type": "string", "enum": ["ns", "us", "ms", "s", "n", "u", "m", "h"]}),
                ),
                answers=done,
            ),
            Route(
                method="GET", path="/api/v1/import/stats", name="import_stats", tag="import",
                permission=Permission.READ, summary="Counts of imports", view=self.stats,
                answers={200: json_answer("Since the start.", obj({"status": STRING, "stats": ANYTHING}))},
            ),
        )  # fmt: skip


def slices(decoded: Request) -> Iterator[Request]:
    """The request in writes of at most `SLICE_ROWS` rows of one measurement; refused lines go with the first."""
    refused = decoded.refused
    for batch in decoded.batches:
        for start in range(0, batch.rows, SLICE_ROWS):
            yield Request((_sliced(batch, start),), refused)
            refused = ()
    if refused:
        yield Request((), refused)


def _sliced(batch: Decoded, start: int) -> Decoded:
    return Decoded(
        measurement=batch.measurement,
        time=batch.time.slice(start, SLICE_ROWS),
        columns=tuple(
            Column(column.name, column.kind, column.values.slice(start, SLICE_ROWS)) for column in batch.columns
        ),
        lines=_line_numbers(batch, start),
    )


def _line_numbers(batch: Decoded, start: int) -> pa.Array:
    if batch.lines is not None:
        return batch.lines.slice(start, SLICE_ROWS)
    return pa.array(np.arange(start + 1, min(start + SLICE_ROWS, batch.rows) + 1, dtype=np.int32))


def _target(head: Head, *, measurement_needed: bool) -> Target:
    wishes = read_wishes(head, "db")
    if wishes.database is None:
        raise InvalidRequest("a database is required: the header x-arc-database or the parameter db")
    measurement = wishes.measurement or ""
    if measurement_needed and not measurement:
        raise InvalidRequest("the parameter measurement is required")
    if measurement:
        check_measurement_name(measurement)
    return Target(database=wishes.database, measurement=measurement, key=wishes.idempotency_key)


def _tags(query: dict[str, str]) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in query.get("tags", "").split(",") if tag.strip())


def _summary(decoded: Request, target: Target, is_lines: bool) -> dict[str, object]:
    """What Arc says of a finished import. Times are those of the file."""
    if is_lines:
        names = sorted({batch.measurement for batch in decoded.batches})
        return {"database": target.database, "measurements": names, "rows_imported": decoded.rows}
    (batch,) = decoded.batches
    time = batch.time.to_numpy()
    return {
        "database": target.database,
        "measurement": target.measurement,
        "rows_imported": decoded.rows,
        "partitions_created": len(np.unique(time // HOUR_US)),
        "time_range_min": rfc3339_ms(int(time.min())),
        "time_range_max": rfc3339_ms(int(time.max())),
        "columns": ["time", *(column.name for column in batch.columns)],
    }


def _query(name: str, about: str, schema: Schema, required: bool = False) -> Parameter:
    return Parameter(name=name, place="query", about=about, schema=schema, required=required)
