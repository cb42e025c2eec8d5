"""Asks a node for rows: as a table to look at, or as bytes to pass on.

An answer that broke off is a failure, never a short answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from arc.cli.connect import reaching, refusal
from arc.cli.exits import Failure
from arc.cli.screen import counted

if TYPE_CHECKING:
    import httpx

    from arc.cli.screen import Screen

Kind = Literal["json", "csv", "arrow"]

PATHS: dict[Kind, str] = {
    "json": "/api/v1/query",
    "csv": "/api/v1/query/csv",
    "arrow": "/api/v1/query/arrow",
}

TABLE_BYTES_MAX = 256 << 20
"""A table to look at is held whole; nobody looks at more than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Rows to look at. ``engine_ms`` is the node's own time, ``seconds`` what the caller waited."""

    columns: tuple[str, ...]
    rows: Sequence[Sequence[object]]
    engine_ms: float
    seconds: float


def ask(client: httpx.Client, sql: str, *, database: str | None) -> Answer:
    """Run one statement and hold its rows. Raises Failure."""
    import json

    started = time.monotonic()
    body = bytearray()
    with streamed(client, sql, database=database, kind="json") as pieces:
        for piece in pieces:
            body += piece
            if len(body) > TABLE_BYTES_MAX:
                raise Failure(
                    f"the result is larger than {TABLE_BYTES_MAX >> 20} MiB, too much to show as a table",
                    next_step="Add LIMIT, or write it to a file: arc query … --format csv --output FILE",
                    code="too_large",
                )
    found = json.loads(body)
    return Answer(
        columns=tuple(found["columns"]),
        rows=found["data"],
        engine_ms=found["execution_time_ms"],
        seconds=time.monotonic() - started,
    )


@contextmanager
def streamed(client: httpx.Client, sql: str, *, database: str | None, kind: Kind) -> Iterator[Iterator[bytes]]:
    """Run one statement and give its bytes as they come; leaving early ends the query. Raises Failure."""
    headers = {} if database is None else {"x-arc-database": database}
    with (
        reaching(str(client.base_url)),
        client.stream("POST", PATHS[kind], json={"sql": sql}, headers=headers) as answer,
    ):
        if not answer.is_success:
            answer.read()
            raise refusal(answer)
        yield answer.iter_bytes()


def show(screen: Screen, answer: Answer, *, rows_max: int) -> None:
    """Print an answer. A terminal gets at most ``rows_max`` rows and is told of the rest; a pipe gets all."""
    if not screen.out_is_terminal:
        screen.table(answer.columns, answer.rows)
        return
    screen.table(answer.columns, answer.rows[:rows_max])
    if len(answer.rows) > rows_max:
        screen.note(f"the first {rows_max:,} of {len(answer.rows):,} rows; --rows shows more, --format csv all")


def tell_time(screen: Screen, answer: Answer) -> None:
    """How many rows and how long, on stderr."""
    count = len(answer.rows)
    screen.note(
        f"({counted(count, 'row')}, {answer.engine_ms:,.0f} ms in the node, {answer.seconds * 1000:,.0f} ms in all)"
    )
