"""``arc import``: whole CSV, Parquet and line protocol files, read and stored by the node in one request each."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from arc.cli.connect import answer_body, open_client, reaching, refusal
from arc.cli.exits import ERROR, USAGE, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.screen import Bar, Screen, counted, progress_bar, shown
from arc.cli.write import Precision

if TYPE_CHECKING:
    import httpx

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Store whole files: CSV, Parquet, line protocol.")

MEDIA = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet", "lp": "text/plain"}

Files = Annotated[list[str], typer.Argument(help="Files, one request each.", metavar="FILE…")]
Target = Annotated[str, typer.Option("--db", "-d", help="Database.", metavar="NAME")]
Measurement = Annotated[str, typer.Option("--measurement", "-m", help="Measurement.", metavar="NAME")]
TimeColumn = Annotated[str, typer.Option(help="Column that becomes the time.", metavar="NAME")]


class TimeFormat(StrEnum):
    """How a time column is written; ``auto`` looks at the values."""

    auto = "auto"
    epoch_s = "epoch_s"
    epoch_ms = "epoch_ms"
    epoch_us = "epoch_us"
    epoch_ns = "epoch_ns"


TimeForm = Annotated[TimeFormat, typer.Option(help="How the time column is written.")]


@app.command("csv")
def import_csv(
    context: typer.Context,
    files: Files,
    db: Target,
    measurement: Measurement,
    time_column: TimeColumn = "time",
    time_format: TimeForm = TimeFormat.auto,
    delimiter: Annotated[str, typer.Option(help="One character.")] = ",",
    skip_rows: Annotated[int, typer.Option(help="Lines before the header.", min=0)] = 0,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Store CSV files with a header line."""
    parameters = {
        "db": db,
        "measurement": measurement,
        "time_column": time_column,
        "time_format": _wire(time_format),
        "delimiter": delimiter,
        "skip_rows": str(skip_rows),
    }
    _import(screen_of(context), "csv", files, parameters, endpoint, token)


@app.command("parquet")
def import_parquet(
    context: typer.Context,
    files: Files,
    db: Target,
    measurement: Measurement,
    time_column: TimeColumn = "time",
    time_format: TimeForm = TimeFormat.auto,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Store Parquet files."""
    parameters = {
        "db": db,
        "measurement": measurement,
        "time_column": time_column,
        "time_format": _wire(time_format),
    }
    _import(screen_of(context), "parquet", files, parameters, endpoint, token)


@app.command("lp")
def import_lp(
    context: typer.Context,
    files: Files,
    db: Target,
    measurement: Annotated[str, typer.Option("--measurement", "-m", help="Store only this one.", metavar="NAME")] = "",
    precision: Annotated[Precision, typer.Option(help="Unit of the timestamps.")] = Precision.ns,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Store line protocol files. `arc write` does the same in pieces, for files of any size."""
    parameters = {"db": db, "precision": precision.value}
    if measurement:
        parameters["measurement"] = measurement
    _import(screen_of(context), "lp", files, parameters, endpoint, token)


def _wire(time_format: TimeFormat) -> str:
    return "" if time_format is TimeFormat.auto else time_format.value


def _import(
    screen: Screen, kind: str, files: Iterable[str], parameters: dict[str, str], endpoint: str, token: str
) -> None:
    for name in files:
        if not os.path.isfile(name):
            raise Failure(f"no such file: {name}", effect="Nothing was sent.", exit_code=USAGE, code="not_found")
    found: list[dict[str, object]] = []
    with open_client(endpoint, token) as client:
        for name in files:
            found.append(_send(client, kind, name, parameters, screen))
    failed = [one for one in found if one["error"] is not None]
    if screen.json:
        screen.document({"success": not failed, "database": parameters["db"], "files": found})
    if failed:
        raise typer.Exit(ERROR)


def _send(client: httpx.Client, kind: str, name: str, parameters: dict[str, str], screen: Screen) -> dict[str, object]:
    """Send one file. A refusal of one file is told and the next one is tried; a node that is gone ends it all."""
    started = time.monotonic()
    size = os.path.getsize(name)
    result: dict[str, object] = {}
    refused: list[object] = []
    problem: Failure | None = None
    with (
        open(name, "rb") as file,
        progress_bar(screen, os.path.basename(name), size) as bar,
        reaching(str(client.base_url)),
    ):
        upload = (os.path.basename(name), _Watched(file, bar), MEDIA[kind])
        answer = client.post(f"/api/v1/import/{kind}", params=parameters, files={"file": upload})  # type: ignore[dict-item]
    if answer.is_success:
        given = answer_body(answer).get("result")
        result = given if isinstance(given, dict) else {}
    else:
        problem = refusal(answer)
        body = answer_body(answer)
        listed = body.get("refused")
        refused = listed if isinstance(listed, list) else []
        if isinstance(body.get("written"), int):
            result = {"rows_imported": body["written"]}  # all but the refused lines are stored
        if answer.status_code in (401, 403, 429, 503):
            raise problem
    seconds = time.monotonic() - started
    if not screen.json:
        if problem is not None:
            problem.cause = f"{name}: {problem.cause}"
            screen.fail(problem)
            for one in refused:
                if isinstance(one, dict):
                    screen.line(f"{name}: line {one.get('line')}: {shown(one.get('reason'))}: {shown(one.get('text'))}")
        else:
            rows = result.get("rows_imported")
            count = counted(rows, "row") if isinstance(rows, int) else "stored"
            screen.line(f"{name}: {count}, {size:,} bytes, {seconds:.2f} s")
    return {
        "file": name,
        "bytes": size,
        "seconds": round(seconds, 3),
        "result": result or None,
        "refused": refused,
        "error": None if problem is None else problem.cause,
        "code": None if problem is None else problem.code,
    }


class _Watched:
    """A file that tells a bar what was read. httpx asks for its size by seeking, so that nothing is held in memory."""

    def __init__(self, file: BinaryIO, bar: Bar) -> None:
        self._file = file
        self._bar = bar

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self._bar.advance(len(data))
        return data

    def seek(self, offset: int, whence: int = 0) -> int:
        """As the file does."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """As the file does."""
        return self._file.tell()

    def fileno(self) -> int:
        """As the file does; its length is asked through this."""
        return self._file.fileno()
