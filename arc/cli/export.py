"""``arc export iceberg``: a folder of Apache Iceberg tables over copies of a cluster's Parquet files, kept up to date.

The files are copied and not referred to where they lie, because Arc unlinks a file a minute after it was merged or its
rows expired, while a snapshot of a table promises its files for as long as it is kept. A copy has the very bytes of the
original, under its hash; what is there already is not fetched again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.connect import answer_body, open_client, reaching, refusal
from arc.cli.exits import CORRUPT, USAGE, Failure
from arc.cli.export_folder import local_name
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.screen import Screen, progress_bar

if TYPE_CHECKING:
    import httpx

    from arc.cli.iceberg import Told

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Give the data to other engines.")

VERSIONS_MAX = 5
"""How often a file may be merged away before it was fetched; each time the files are asked for anew."""


@app.callback()
def export() -> None:
    """Give the data to other engines."""


@app.command("iceberg")
def iceberg(
    context: typer.Context,
    to: Annotated[Path, typer.Option("--to", help="Folder of the tables, made if need be.", metavar="DIR")],
    db: Annotated[
        list[str] | None, typer.Option("--db", "-d", help="Only this database. Repeatable.", metavar="NAME")
    ] = None,
    keep_days: Annotated[
        float, typer.Option("--keep-days", min=0, help="Snapshots that are older, and files only they need, go.")
    ] = 7.0,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Make, or bring up to date, one Iceberg table per measurement: a snapshot for each time that files changed.

    Engines read DIR/tables/DATABASE/MEASUREMENT, or use DIR/catalog.db as an SQL catalog. Needs the packages of
    `pip install arc-tsdb-py[iceberg]`.
    """
    screen = screen_of(context)
    tables = _library()
    root = to.absolute()
    with open_client(endpoint, token) as client:
        found = _fetched(screen, client, root, db or ())
    listed = found["tables"]
    assert isinstance(listed, list)
    told: list[Told] = tables.bring_up_to_date(
        root, listed, index=int(str(found["catalog_index"])), databases=db or (), keep_days=keep_days
    )
    if screen.json:
        screen.document({"catalog_index": found["catalog_index"], "tables": [each.document() for each in told]})
        return
    columns = ("table", "files", "added", "removed", "rows", "what happened")
    screen.table(columns, [[each.table, each.files, each.added, each.removed, each.rows, each.what] for each in told])
    screen.note(f"as of catalog index {found['catalog_index']}, in {root}")


def _library() -> ModuleType:
    """Raises Failure."""
    try:
        from arc.cli import iceberg as tables
    except ImportError as error:
        raise Failure(
            f"{error.name} is not installed",
            effect="Nothing was done.",
            next_step="pip install 'arc-tsdb-py[iceberg]'",
            exit_code=USAGE,
            code="not_installed",
        ) from error
    return tables


def _fetched(screen: Screen, client: httpx.Client, root: Path, databases: Sequence[str]) -> dict[str, object]:
    """Which files are the data, all of which are here. Raises Failure."""
    for _ in range(VERSIONS_MAX):
        found = _files(client, databases)
        lacking = [each for each in _entries(found) if not _is_here(root, each)]
        total = sum(int(str(each["size_bytes"])) for each in lacking)
        with progress_bar(screen, "fetching", total) as bar:
            for each in lacking:
                if not _fetch(client, root, each):
                    break
                bar.advance(int(str(each["size_bytes"])))
            else:
                return found
    raise Failure(f"files changed faster than they could be fetched, {VERSIONS_MAX} times", next_step="Try again.")


def _files(client: httpx.Client, databases: Sequence[str]) -> dict[str, object]:
    with reaching(str(client.base_url)):
        answer = client.post("/api/v1/export/files", json={"databases": list(databases) or None})
    if not answer.is_success:
        raise refusal(answer)
    return answer_body(answer)


def _entries(found: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    listed = found["tables"]
    assert isinstance(listed, list)
    for table in listed:
        yield from table["files"]


def _is_here(root: Path, entry: Mapping[str, object]) -> bool:
    """A file was proven before it got its name."""
    try:
        return (root / local_name(str(entry["sha256"]))).stat().st_size == entry["size_bytes"]
    except FileNotFoundError:
        return False


def _fetch(client: httpx.Client, root: Path, entry: Mapping[str, object]) -> bool:
    """Whether the file could be had; not when it left the manifest meanwhile. Raises Failure."""
    target = root / local_name(str(entry["sha256"]))
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.part")
    digest = hashlib.sha256()
    parameters = {"path": str(entry["path"]), "sha256": str(entry["sha256"])}
    try:
        with (
            reaching(str(client.base_url)),
            client.stream("GET", "/api/v1/export/file", params=parameters) as answer,
        ):
            if not answer.is_success:
                answer.read()
                if answer_body(answer).get("code") == "file_gone":
                    return False
                raise refusal(answer)
            with draft.open("wb") as file:
                for piece in answer.iter_bytes():
                    digest.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        if digest.hexdigest() != entry["sha256"]:
            raise Failure(
                f"{entry['path']} came with other bytes than its hash says",
                effect="The tables stay as they were.",
                next_step="The node looks after its copy by itself; try again, or another node: --endpoint.",
                exit_code=CORRUPT,
                code="corrupt",
            )
        draft.replace(target)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    return True
