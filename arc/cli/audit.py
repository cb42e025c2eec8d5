"""``arc audit``: who did what to the cluster, whichever node is asked."""

from __future__ import annotations

from typing import Annotated

import typer

from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.resources import ask, show


def audit(
    context: typer.Context,
    event: Annotated[
        str, typer.Option("--event", help="Only of this kind, as token.created or rbac.*.", metavar="KIND")
    ] = "",
    actor: Annotated[str, typer.Option("--actor", help="Only by the token of this name.", metavar="NAME")] = "",
    database: Annotated[str, typer.Option("--db", "-d", help="Only of this database.", metavar="NAME")] = "",
    since: Annotated[str, typer.Option("--since", help="Not before this time, RFC 3339.", metavar="TIME")] = "",
    until: Annotated[str, typer.Option("--until", help="Before this time.", metavar="TIME")] = "",
    limit: Annotated[int, typer.Option("--limit", help="At most so many.", min=1, max=1000)] = 50,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """What administrators did, newest first."""
    found = ask(
        endpoint, token, "GET", "/api/v1/audit/logs",
        event_type=event, actor=actor, database=database, since=since, until=until, limit=limit,
    )  # fmt: skip
    rows = [{**each, "what": f"{each['method']} {each['path']}"} for each in found["data"]]
    screen = screen_of(context)
    show(screen, found, rows, ("timestamp", "actor", "ip_address", "event_type", "what", "status_code"))
    if not screen.json and found["total"] > found["count"]:
        screen.note(f"{found['count']} of {found['total']} shown: --limit, --since")
