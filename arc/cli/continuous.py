"""``arc continuous``: queries that sum up rows into other measurements, window by window. They are the cluster's,
whichever node is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.resources import ask, by_name, show, tell
from arc.cli.screen import counted

BASE = "/api/v1/continuous_queries"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Queries that sum up rows into other measurements.")

Query = Annotated[str, typer.Argument(help="Its name or number.", metavar="QUERY")]


@app.command("list")
def list_(
    context: typer.Context,
    database: Annotated[str, typer.Option("--db", "-d", help="Only of this database.", metavar="NAME")] = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """All of them, how far each is and what it did last."""
    columns = (
        "name", "database", "source_measurement", "destination_measurement", "interval", "is_active",
        "last_processed_time", "open_windows", "last_execution_status", "last_error",
    )  # fmt: skip
    found = ask(endpoint, token, "GET", BASE, database=database)
    show(screen_of(context), found, found["queries"], columns)


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the query.", metavar="NAME")],
    database: Annotated[str, typer.Option("--db", "-d", help="Database.", metavar="NAME")],
    source: Annotated[str, typer.Option("--from", help="Measurement that is read.", metavar="NAME")],
    destination: Annotated[str, typer.Option("--into", help="Measurement that is written.", metavar="NAME")],
    every: Annotated[str, typer.Option("--every", help="Interval as 5m, or a cron line.", metavar="TEXT")],
    sql: Annotated[
        str, typer.Option("--sql", help="With {start_time} and {end_time} in its condition.", metavar="SELECT")
    ],
    lateness: Annotated[str, typer.Option("--lateness", help="How late rows are waited for.", metavar="TEXT")] = "",
    tags: Annotated[str, typer.Option("--tags", help="Result columns that are tags.", metavar="NAME,…")] = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Make one. The node that writes executes each window once, and again when rows of it came late."""
    wish: dict[str, object] = {
        "name": name, "database": database, "source_measurement": source, "destination_measurement": destination,
        "interval": every, "query": sql,
    }  # fmt: skip
    if lateness:
        wish["lateness"] = lateness
    if tags:
        wish["tag_columns"] = tags.split(",")
    made = ask(endpoint, token, "POST", BASE, wish)
    screen = screen_of(context)
    if screen.json:
        screen.document(made)
        return
    screen.line(f"{database}.{source} is summed up into {destination}, {every}")
    screen.note(f"next: arc continuous run {name} --start TIME --end TIME --dry-run")


@app.command("remove")
def remove(
    context: typer.Context, query: Query, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Forget one; its results stay."""
    _order(context, endpoint, token, "DELETE", query, None, "is forgotten")


@app.command("pause")
def pause(
    context: typer.Context, query: Query, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Execute no more windows of it, until resumed."""
    _order(context, endpoint, token, "PUT", query, {"is_active": False}, "rests")


@app.command("resume")
def resume(
    context: typer.Context, query: Query, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Go on where it was paused."""
    _order(context, endpoint, token, "PUT", query, {"is_active": True}, "goes on")


@app.command("run")
def run(
    context: typer.Context,
    query: Query,
    start: Annotated[str, typer.Option("--start", help="From here, RFC 3339; else where it is.", metavar="TIME")] = "",
    end: Annotated[str, typer.Option("--end", help="Up to here; else as far as can be.", metavar="TIME")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be written.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Execute windows now, also of long ago, also again: results take the place of those that were there."""
    wish: dict[str, object] = {"dry_run": dry_run}
    if start:
        wish["start_time"] = start
    if end:
        wish["end_time"] = end
    done = ask(endpoint, token, "POST", f"{BASE}/{_find(endpoint, token, query)['id']}/execute", wish)
    windows, rows = counted(done["windows"], "window"), counted(done["records_written"], "row")
    verb = "would be written" if done["dry_run"] else "written"
    tell(screen_of(context), done, f"{windows} from {done['start_time']} to {done['end_time']}: {rows} {verb}")


@app.command("history")
def history(
    context: typer.Context,
    query: Query,
    limit: Annotated[int, typer.Option("--limit", help="At most so many, newest first.", min=1, max=50)] = 10,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """What was executed, and why."""
    columns = (
        "execution_time", "cause", "status", "start_time", "end_time", "records_read", "records_written",
        "execution_duration_seconds", "error_message",
    )  # fmt: skip
    found = ask(endpoint, token, "GET", f"{BASE}/{_find(endpoint, token, query)['id']}/executions", limit=limit)
    show(screen_of(context), found, found["executions"], columns)


def _order(context: typer.Context, endpoint: str, token: str, method: Any, query: str, body: Any, told: str) -> None:
    done = ask(endpoint, token, method, f"{BASE}/{_find(endpoint, token, query)['id']}", body)
    tell(screen_of(context), done, f"{query} {told}")


def _find(endpoint: str, token: str, query: str) -> Mapping[str, Any]:
    return by_name(ask(endpoint, token, "GET", BASE)["queries"], query, "continuous query", "arc continuous list")
