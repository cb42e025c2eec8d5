"""``arc compaction``: what is merged, what could be and what was; and orders to whoever compacts.

Any node may be asked; it asks the one that holds the compactor lease.
"""

from __future__ import annotations

from typing import Annotated

import typer

from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.resources import ask, show, tell

BASE = "/api/v1/compaction"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What is merged, and orders to whoever compacts.")

Limit = Annotated[int, typer.Option("--limit", help="At most so many, newest first.", min=1, max=100)]


@app.command("status")
def status(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Who compacts, what is merged now and how far it is, what was done since the lease was given."""
    screen = screen_of(context)
    found = ask(endpoint, token, "GET", f"{BASE}/status")
    jobs = ask(endpoint, token, "GET", f"{BASE}/jobs")["jobs"]
    stats = ask(endpoint, token, "GET", f"{BASE}/stats")
    if screen.json:
        screen.document({**found, "jobs": jobs, "stats": stats})
        return
    state = "is paused" if found["is_paused"] else "compacts"
    if not any(each["enabled"] for each in found["schedulers"].values()) and not found["is_paused"]:
        state = "compacts only when it is told to (compaction.enabled = false)"
    screen.line(f"{found['holder']} {state}")
    for job in jobs:
        screen.line(
            f"now: {job['tier']} {job['partition_path']}, {job['files']} files, {job['phase']}, {job['percent']:g} %"
        )
    columns = ("tier", "merges", "files merged", "MB saved")
    shown = ("tier", "total_compactions", "total_files_compacted", "total_bytes_saved_mb")
    screen.table(columns, [[tier[key] for key in shown] for tier in stats["tiers"]])
    if found["last_error"]:
        screen.note(f"last trouble: {found['last_error']} ({found['waiting_partitions']} partitions wait)")


@app.command("candidates")
def candidates(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """What may be merged now, the most valuable first."""
    columns = ("tier", "partition_path", "file_count", "size_bytes", "waits_seconds")
    found = ask(endpoint, token, "GET", f"{BASE}/candidates")
    show(screen_of(context), found, found["candidates"], columns)


@app.command("history")
def history(
    context: typer.Context,
    limit: Limit = 10,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Jobs that ended since the compactor was given its lease."""
    columns = (
        "started_at", "tier", "partition_path", "files_compacted", "rows_before", "bytes_before", "bytes_after",
        "duration_seconds", "outcome", "error",
    )  # fmt: skip
    found = ask(endpoint, token, "GET", f"{BASE}/history", limit=limit)
    show(screen_of(context), found, found["recent_jobs"], columns)


@app.command("trigger")
def trigger(
    context: typer.Context,
    tier: Annotated[str, typer.Option("--tier", help="hourly, daily, late, or several; else all.")] = "",
    database: Annotated[str, typer.Option("--db", "-d", help="Only this database.", metavar="NAME")] = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Merge what may be merged now, also when compaction is disabled or paused. Returns at once."""
    found = ask(endpoint, token, "POST", f"{BASE}/trigger", tier=tier, database=database)
    screen = screen_of(context)
    if screen.json:
        screen.document(found)
        return
    screen.line(f"{found['holder']} merges {', '.join(found['tiers'])} files (cycle {found['cycle_id']})")
    screen.note("next: arc compaction status")


@app.command("pause")
def pause(context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False) -> None:
    """Begin no more jobs, until resumed or until another node compacts. The one that runs goes on."""
    _order(context, endpoint, token, "/pause")


@app.command("resume")
def resume(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Begin jobs again."""
    _order(context, endpoint, token, "/resume")


@app.command("cancel")
def cancel(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Give up the job that runs; its files stay as they are, and wait an hour."""
    _order(context, endpoint, token, "/cancel")


def _order(context: typer.Context, endpoint: str, token: str, path: str) -> None:
    found = ask(endpoint, token, "POST", f"{BASE}{path}")
    tell(screen_of(context), found, f"{found['holder']}: {found['message']}")
