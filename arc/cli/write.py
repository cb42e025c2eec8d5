"""``arc write``: send rows to a node, in pieces that are safe to repeat, and tell which lines were refused and why."""

from __future__ import annotations

import io
import secrets
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, cast

import typer

from arc.cli import lines, sources
from arc.cli.exits import ERROR, Failure, explain
from arc.cli.options import DEFAULT_ENDPOINT, Database, Endpoint, Json, Token, screen_of
from arc.cli.screen import Screen, counted
from arc.cli.sending import REFUSED_KEPT_MAX, Outcome, RefusedLine, Sender
from arc.cli.sources import STDIN, Format, Source

if TYPE_CHECKING:
    import httpx

PATHS: dict[Format, tuple[str, str]] = {
    "lp": ("/api/v1/write/line-protocol", "text/plain; charset=utf-8"),
    "msgpack": ("/api/v1/write/msgpack", "application/msgpack"),
    "arrow": ("/api/v1/write/arrow", "application/vnd.apache.arrow.stream"),
}

SPOOL_BYTES = 64 << 20
"""A body from standard input that must be sent whole is kept in memory up to here, and in a file beyond."""

REFUSED_SHOWN = 20

MAYBE_STORED = frozenset({"timeout", "cut_off", "outcome_unknown", "interrupted"})
"""Codes of failures after which a request may have been stored."""

REUSED = "idempotency_key_reused"
"""Code of the answer to a key that was used for other rows; sending them with it again is refused again."""


class FormatChoice(StrEnum):
    """What the input is."""

    auto = "auto"
    lp = "lp"
    msgpack = "msgpack"
    arrow = "arrow"


class Precision(StrEnum):
    """Unit of timestamps."""

    ns = "ns"
    us = "us"
    ms = "ms"
    s = "s"
    m = "m"
    h = "h"


@dataclass(slots=True, kw_only=True)
class Tally:
    """What was sent so far. ``rows_stored`` is None once a request was stored whose rows only the node has counted."""

    rows_stored: int | None = 0
    refused: list[RefusedLine] = field(default_factory=list)
    refused_total: int = 0
    size_bytes: int = 0
    requests: int = 0
    retries: int = 0
    next_line: int = 1

    def add(self, outcome: Outcome, *, size_bytes: int, rows: int | None) -> None:
        """Count one answered request. ``rows`` is how many it carried, when that is known here."""
        stored = outcome.written if outcome.written is not None else rows
        self.rows_stored = None if stored is None or self.rows_stored is None else self.rows_stored + stored
        room = REFUSED_KEPT_MAX - len(self.refused)
        self.refused.extend(outcome.refused[:room])
        self.refused_total += outcome.refused_total
        self.size_bytes += size_bytes
        self.requests += 1
        self.retries += outcome.retries


def write(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="File to send, also .gz or .zst; - is standard input.")] = STDIN,
    db: Database = "default",
    precision: Annotated[Precision, typer.Option(help="Unit of the timestamps in line protocol.")] = Precision.ns,
    form: Annotated[FormatChoice, typer.Option("--format", "-f", help="What the input is.")] = FormatChoice.auto,
    measurement: Annotated[str, typer.Option(help="Measurement of an Arrow stream that does not name one.")] = "",
    idempotency_key: Annotated[
        str, typer.Option(help="Repeating the same command with the same key stores everything once.", metavar="TEXT")
    ] = "",
    strict: Annotated[bool, typer.Option("--strict", help="Stop at the first request with a refused row.")] = False,
    give_up: Annotated[
        float, typer.Option("--give-up", help="Seconds to go on trying while the node is busy or away.", min=0)
    ] = 60.0,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Send line protocol, MessagePack or Arrow to a node.

    Line protocol goes in requests of whole lines, each with an idempotency key, so retries never store a line twice.
    Exit code 1 when lines were refused; all others are stored then.
    """
    from arc.cli.connect import open_client

    screen = screen_of(context)
    sources.need_file(file)
    key = idempotency_key or f"arc-{secrets.token_hex(8)}"
    with sources.open_source(file, screen) as source, open_client(endpoint, token) as client:
        found = sources.format_of(source) if form is FormatChoice.auto else cast(Format, form.value)
        sender = _sender(client, found, db=db, precision=precision, measurement=measurement, strict=strict,
                         give_up=give_up, screen=screen)  # fmt: skip
        started = time.monotonic()
        tally = Tally()
        try:
            if found == "lp":
                _send_lines(sender, source, key, tally, strict=strict, repeatable=bool(idempotency_key))
            else:
                _send_whole(sender, source, key, tally, form=found)
        except (Failure, KeyboardInterrupt) as error:
            failure = explain(error)
            failure.effect = _effect(tally, found, failure)
            if failure.code == REUSED:
                failure.next_step = "The key was given with other rows before: send these with another one."
            elif source.is_file or idempotency_key:
                failure.next_step += f" Repeat it with --idempotency-key {key} within an hour: nothing is stored twice."
            raise failure from error
    _report(screen, tally, database=db, form=found, seconds=time.monotonic() - started)
    if tally.refused_total:
        raise typer.Exit(ERROR)


def _sender(
    client: httpx.Client, form: Format, *, db: str, precision: Precision, measurement: str, strict: bool,
    give_up: float, screen: Screen,
) -> Sender:  # fmt: skip
    path, media = PATHS[form]
    headers = {"Content-Type": media, "x-arc-database": db}
    if measurement and form == "arrow":
        headers["x-arc-measurement"] = measurement
    parameters = {"precision": precision.value} if form == "lp" else {}
    if strict:
        parameters["strict"] = "true"
    return Sender(
        client=client, path=path, headers=headers, parameters=parameters, give_up_seconds=give_up, tell=screen.note
    )


def _send_lines(sender: Sender, source: Source, key: str, tally: Tally, *, strict: bool, repeatable: bool) -> None:
    # A pipe is sent as it comes: rows of `tail -f` must not wait. Pieces that must come out the same again are filled.
    read = source.stream.read if source.is_file or repeatable else source.stream.read1
    for number, piece in enumerate(lines.cut(read)):
        if piece.rows:
            outcome = sender.send(lambda data=piece.data: data, f"{key}-{number}", first_line=piece.first_line)  # type: ignore[misc]
            tally.add(outcome, size_bytes=len(piece.data), rows=piece.rows)
            if strict and outcome.refused:
                first = outcome.refused[0]
                raise Failure(
                    f"line {first.line}: {first.reason}: {first.text}",
                    next_step="Repair the line, or leave --strict away to store all others.",
                    code="refused",
                )
        tally.next_line = piece.first_line + piece.lines


def _send_whole(sender: Sender, source: Source, key: str, tally: Tally, *, form: Format) -> None:
    with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
        if form == "arrow" and source.head.startswith(b"ARROW1"):
            _stream_from_file(source, spool)
        else:
            while block := source.stream.read(sources.BLOCK_BYTES):
                spool.write(block)
        size = spool.tell()

        def body() -> Iterable[bytes]:
            spool.seek(0)
            return iter(lambda: spool.read(sources.BLOCK_BYTES), b"")

        tally.add(sender.send(body, key), size_bytes=size, rows=None)


def _stream_from_file(source: Source, spool: tempfile.SpooledTemporaryFile[bytes]) -> None:
    """Arrow's file form (Feather) holds the same batches as the stream that the node takes."""
    import pyarrow as pa

    sink = io.BytesIO(source.stream.read())
    with pa.ipc.open_file(sink) as reader, pa.ipc.new_stream(spool, reader.schema) as writer:
        for nth in range(reader.num_record_batches):
            writer.write_batch(reader.get_batch(nth))


def _effect(tally: Tally, form: Format, failure: Failure) -> str:
    unknown = failure.code in MAYBE_STORED
    if form != "lp":
        return "Whether it was stored is not known." if unknown else "Nothing was stored."
    before = tally.next_line - 1
    start = f"Lines 1 to {before} were answered, the rest not sent" if before else "Nothing more was sent"
    return f"{start}; whether the piece from line {before + 1} on was stored is not known." if unknown else f"{start}."


def _report(screen: Screen, tally: Tally, *, database: str, form: Format, seconds: float) -> None:
    if screen.json:
        screen.document(
            {
                "success": not tally.refused_total,
                "database": database,
                "format": form,
                "written": tally.rows_stored,
                "refused_total": tally.refused_total,
                "refused": [asdict(one) for one in tally.refused],
                "bytes": tally.size_bytes,
                "requests": tally.requests,
                "retries": tally.retries,
                "seconds": round(seconds, 3),
            }
        )
        return
    for one in _some(tally.refused):
        screen.line(f"line {one.line}: {one.reason}: {one.text}")
    if tally.refused_total > REFUSED_SHOWN:
        screen.note(f"… and {tally.refused_total - REFUSED_SHOWN:,} more; --json lists up to {REFUSED_KEPT_MAX:,}")
    rows = "all rows" if tally.rows_stored is None else counted(tally.rows_stored, "row")
    refused = f", {counted(tally.refused_total, 'line')} refused" if tally.refused_total else ""
    rate = f" ({tally.rows_stored / seconds:,.0f} rows/s)" if tally.rows_stored and seconds > 0 else ""
    screen.note(f"stored {rows} in {database}{refused}; {counted(tally.requests, 'request')}, {seconds:.2f} s{rate}")


def _some(refused: list[RefusedLine]) -> Iterator[RefusedLine]:
    from arc.cli.screen import shown

    for one in refused[:REFUSED_SHOWN]:
        yield RefusedLine(line=one.line, reason=shown(one.reason), text=shown(one.text))
