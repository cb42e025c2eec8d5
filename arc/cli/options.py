"""Options that several commands share, so that they are spelled, documented and read the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from arc.cli.screen import Screen, Wanted

DEFAULT_ENDPOINT = "http://127.0.0.1:8000"


def _remember_json(context: typer.Context, value: bool) -> bool:
    """A failure anywhere in this run must know that JSON was asked for."""
    if value:
        wanted_of(context).json = True
    return value


def wanted_of(context: typer.Context) -> Wanted:
    """What this run's flags asked for so far."""
    found = context.find_root().ensure_object(Wanted)
    assert isinstance(found, Wanted)
    return found


def screen_of(context: typer.Context) -> Screen:
    """The screen of this run."""
    return Screen.of(wanted_of(context))


Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document instead of text.", callback=_remember_json, is_eager=True),
]
Endpoint = Annotated[str, typer.Option("--endpoint", envvar="ARC_ENDPOINT", help="Address of the node.", metavar="URL")]
Token = Annotated[str, typer.Option("--token", envvar="ARC_TOKEN", help="API token.", show_envvar=True, metavar="TEXT")]
CaFile = Annotated[
    str,
    typer.Option(
        "--ca-file",
        envvar="ARC_CA_FILE",
        help="Authority that the node's certificate must be of, a PEM file; else the system's.",
        metavar="FILE",
    ),
]
Database = Annotated[str, typer.Option("--db", "-d", help="Database.", metavar="NAME")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask before.")]
DataDir = Annotated[str | None, typer.Option("--data-dir", help="Folder of the node's data.", metavar="DIR")]
ConfigFile = Annotated[
    str | None, typer.Option("--config", help="Configuration file; without it ./arc.toml if there.", metavar="FILE")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Any setting, as --set wal.segment_bytes=16MiB. Repeatable.", metavar="SECTION.KEY=VALUE"
    ),
]
