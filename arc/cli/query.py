"""``arc query``: one statement, its rows on stdout or in a file."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Annotated, BinaryIO, cast

import typer

from arc.cli.asking import Kind, ask, show, streamed, tell_time
from arc.cli.connect import open_client
from arc.cli.exits import USAGE, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of, wanted_of
from arc.cli.screen import Screen

ROWS_SHOWN = 1000
HELD_BYTES = 64 << 20
"""JSON for stdout is held until it is whole: in memory up to here, in a temporary file beyond."""


class FormatChoice(StrEnum):
    """What comes out."""

    table = "table"
    json = "json"
    csv = "csv"
    arrow = "arrow"


def query(
    context: typer.Context,
    statement: Annotated[str, typer.Argument(metavar="SQL", help="A statement that reads; - is standard input.")],
    db: Annotated[str | None, typer.Option("--db", "-d", help="Database of names without one.", metavar="NAME")] = None,
    form: Annotated[FormatChoice, typer.Option("--format", "-f", help="What to print.")] = FormatChoice.table,
    output: Annotated[str | None, typer.Option("--output", "-o", help="File to write.", metavar="FILE")] = None,
    rows: Annotated[int, typer.Option(help="Rows that a terminal is shown at most.", min=1)] = ROWS_SHOWN,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Run one SQL statement and print its rows.

    A table goes to a terminal, tab-separated text to a pipe; --json is --format json. Row count and time are on stderr.
    """
    screen = screen_of(context)
    sql = sys.stdin.read() if statement == "-" else statement
    if json:
        form = FormatChoice.json
    if form is FormatChoice.json:
        wanted_of(context).json = True
    with open_client(endpoint, token) as client:
        if form is FormatChoice.table and output is None:
            answer = ask(client, sql, database=db)
            show(screen, answer, rows_max=rows)
            tell_time(screen, answer)
            return
        kind = cast(Kind, "csv" if form is FormatChoice.table else form.value)
        with _sink(kind, output, screen) as sink, streamed(client, sql, database=db, kind=kind) as pieces:
            for piece in pieces:
                sink.write(piece)


@contextmanager
def _sink(kind: Kind, output: str | None, screen: Screen) -> Iterator[BinaryIO]:
    """Where bytes go. A file and a JSON document appear when they are whole, or not at all."""
    if output is not None:
        draft = f"{output}.part"
        try:
            with open(draft, "wb") as file:
                yield file
            os.replace(draft, output)
        finally:
            if os.path.exists(draft):
                os.remove(draft)
        screen.note(f"wrote {output}, {os.path.getsize(output):,} bytes")
    elif kind == "json":
        with tempfile.SpooledTemporaryFile(max_size=HELD_BYTES) as held:
            yield cast(BinaryIO, held)
            held.write(b"\n")
            held.seek(0)
            shutil.copyfileobj(held, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    elif kind == "arrow" and screen.out_is_terminal:
        raise Failure(
            "Arrow is not for a terminal", next_step="Add --output FILE, or pipe it on.", exit_code=USAGE, code="usage"
        )
    else:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
