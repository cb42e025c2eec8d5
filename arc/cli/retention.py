"""``arc retention``: how long rows are kept. Policies are the cluster's, whichever node is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, Yes, screen_of
from arc.cli.resources import agree, ask, by_name, show, tell
from arc.cli.screen import counted

BASE = "/api/v1/retention"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="How long rows are kept.")

Policy = Annotated[str, typer.Argument(help="Its name or number.", metavar="POLICY")]


@app.command("list")
def list_(context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False) -> None:
    """All policies, and what each did last."""
    columns = (
        "name", "database", "measurement", "retention_days", "buffer_days", "is_active", "last_execution_time",
        "last_execution_status", "last_deleted_count",
    )  # fmt: skip
    found = ask(endpoint, token, "GET", BASE)
    show(screen_of(context), found, found["policies"], columns)


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the policy.", metavar="NAME")],
    database: Annotated[str, typer.Option("--db", "-d", help="Database.", metavar="NAME")],
    days: Annotated[int, typer.Option("--days", help="Rows older than this go, whole files at a time.", min=1)],
    measurement: Annotated[
        str, typer.Option("--measurement", "-m", help="Of this one only; else of all.", metavar="NAME")
    ] = "",
    buffer_days: Annotated[int, typer.Option("--buffer-days", help="Wait so much longer.", min=0)] = 0,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Make a policy. It is carried out by the node that writes, on its schedule; `arc retention run` does so now."""
    wish: dict[str, object] = {"name": name, "database": database, "retention_days": days, "buffer_days": buffer_days}
    made = ask(endpoint, token, "POST", BASE, wish | ({"measurement": measurement} if measurement else {}))
    screen = screen_of(context)
    if screen.json:
        screen.document(made)
        return
    screen.line(f"{database}.{measurement or '*'} is kept for {counted(days + buffer_days, 'day')}")
    screen.note(f"next: arc retention run {name} --dry-run")


@app.command("remove")
def remove(
    context: typer.Context, policy: Policy, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Forget a policy and its history; rows stay."""
    done = ask(endpoint, token, "DELETE", f"{BASE}/{_find(endpoint, token, policy)['id']}")
    tell(screen_of(context), done, f"{policy} is forgotten")


@app.command("run")
def run(
    context: typer.Context,
    policy: Policy,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Yes = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Say what is too old, ask, remove it now."""
    screen = screen_of(context)
    path = f"{BASE}/{_find(endpoint, token, policy)['id']}/execute"
    found = ask(endpoint, token, "POST", path, {"dry_run": True})
    told = f"{counted(found['deleted_count'], 'row')} in {counted(found['files_deleted'], 'file')}"
    if not dry_run and found["files_deleted"]:
        if not yes:
            agree(f"Remove {told} from before {found['cutoff_date']} for good?", effect="Nothing was removed.")
        found = ask(endpoint, token, "POST", path, {"confirm": True})
    if screen.json:
        screen.document(found)
    elif found["dry_run"]:
        screen.line(f"{told} from before {found['cutoff_date']} would go")
    else:
        screen.line(f"{counted(found['deleted_count'], 'row')} gone, {counted(found['files_deleted'], 'file')}")


@app.command("history")
def history(
    context: typer.Context,
    policy: Policy,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, newest first.", min=1, max=50)] = 10,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """What a policy removed."""
    columns = ("execution_time", "status", "deleted_count", "cutoff_date", "execution_duration_ms", "error_message")
    path = f"{BASE}/{_find(endpoint, token, policy)['id']}/executions"
    found = ask(endpoint, token, "GET", path, limit=limit)
    show(screen_of(context), found, found["executions"], columns)


def _find(endpoint: str, token: str, policy: str) -> Mapping[str, Any]:
    return by_name(ask(endpoint, token, "GET", BASE)["policies"], policy, "retention policy", "arc retention list")
