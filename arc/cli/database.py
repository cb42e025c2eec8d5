"""``arc database``: what there is, and the way to make and drop it. Writing makes databases, too."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import typer

from arc.cli.exits import Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, Yes, screen_of
from arc.cli.resources import agree, ask, show, tell
from arc.cli.screen import counted

BASE = "/api/v1/databases"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Databases and their measurements.")

Name = Annotated[str, typer.Argument(help="Of the database.", metavar="NAME")]


@app.command("list")
def list_(context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False) -> None:
    """All that the token may see."""
    found = ask(endpoint, token, "GET", BASE)
    show(screen_of(context), found, found["databases"], ("name", "measurement_count", "created_at"))


@app.command("show")
def show_(
    context: typer.Context, name: Name, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Its measurements, and in how many files each is."""
    found = ask(endpoint, token, "GET", f"{_path(name)}/measurements")
    show(screen_of(context), found, found["measurements"], ("name", "file_count"))


@app.command("create")
def create(
    context: typer.Context, name: Name, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Make an empty one."""
    made = ask(endpoint, token, "POST", BASE, {"name": name})
    tell(screen_of(context), made, f"database {name} is made")


@app.command("drop")
def drop(
    context: typer.Context,
    name: Name,
    measurement: Annotated[str, typer.Option("--measurement", "-m", help="Only this one of it.", metavar="NAME")] = "",
    yes: Yes = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Drop it, or a measurement of it, with all its rows. Needs `delete.enabled`."""
    known = ask(endpoint, token, "GET", f"{_path(name)}/measurements")["measurements"]
    if measurement and all(each["name"] != measurement for each in known):
        listing = f"arc database show {name}"
        raise Failure(f"there is no measurement {measurement!r} in {name}", next_step=listing, code="not_found")
    files = sum(each["file_count"] for each in known if measurement in ("", each["name"]))
    what = (
        f"measurement {name}.{measurement}" if measurement else f"database {name}, {counted(len(known), 'measurement')}"
    )
    if not yes:
        agree(
            f"Drop {what} and all its rows, {counted(files, 'file')} and what is not in files yet, for good?",
            effect="Nothing was dropped.",
            look=f"Look with `arc database show {name}`",
        )
    path = f"{_path(name)}/measurements/{quote(measurement, safe='')}" if measurement else _path(name)
    done = ask(endpoint, token, "DELETE", path, confirm="true")
    rows, gone = counted(done["rows_deleted"], "row"), counted(done["files_deleted"], "file")
    tell(screen_of(context), done, f"{what}: gone, {rows} in {gone}")


def _path(name: str) -> str:
    return f"{BASE}/{quote(name, safe='')}"
