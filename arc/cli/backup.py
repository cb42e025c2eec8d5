"""``arc backup``: take backups, look at them, read them whole, bring them back.

A node carries the operation out; the command begins it and looks how far it is until it is over. Ctrl-C ends the
looking and not the operation.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.connect import open_client
from arc.cli.exits import CORRUPT, DISK_FAILED, ERROR, UNREACHABLE, USAGE, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.resources import Method, ask_over
from arc.cli.screen import Screen, counted, progress_bar, size

if TYPE_CHECKING:
    import httpx

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Take backups of the whole cluster, and bring them back."
)

BASE = "/api/v1/backup"
LOOK_SECONDS = 0.2
LOST_LOOKS_MAX = 25
"""Looks in a row that nobody answered: a failover takes a moment, and a status is harmless to ask for."""

BackupId = Annotated[str, typer.Argument(metavar="ID", help="Id of a backup, as in `arc backup list`; `last` is one.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return as soon as it has begun.")]

_EXITS = {"corrupt": CORRUPT, "disk": DISK_FAILED, "unavailable": UNREACHABLE, "no_space": USAGE, "exists": USAGE}
_NEXT = {
    "corrupt": "The status names the files. With another copy of the backup: put them back, and give the same order.",
    "exists": "Drop it first, or restore others: --db.",
    "no_space": "Free some space, or restore less: --db.",
    "unavailable": "Give the same order again: it goes on where it stopped.",
    "outcome_unknown": "Give the same order again: it goes on where it stopped, and no row comes twice.",
}


@app.command("create")
def create(
    context: typer.Context,
    tokens: Annotated[bool, typer.Option("--tokens", help="With tokens: names, rights and hashes.")] = False,
    policies: Annotated[bool, typer.Option(help="With retention and other policies.")] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Read what earlier backups left, and replace what is damaged.")
    ] = False,
    no_wait: NoWait = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Take a backup of everything that is acknowledged now. Files that an earlier one has are not copied again."""
    body = {"include_tokens": tokens, "include_metadata": policies, "check_reused": check}
    _order(screen_of(context), "", body, endpoint, token, no_wait=no_wait)


@app.command("list")
def list_backups(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """All backups, newest first."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        found = _ask(client, "GET", "")
    damaged = found["damaged"]
    assert isinstance(damaged, list)
    if screen.json:
        screen.document(found)
    else:
        columns = ("backup_id", "created_at", "backup_type", "total_files", "total_rows", "total_size_bytes")
        rows = found["backups"]
        assert isinstance(rows, list)
        screen.table(columns, [[each[name] for name in columns] for each in rows])
        screen.note(f"in {found['place']}")
    if damaged:
        raise Failure("documents cannot be read:\n" + "\n".join(map(str, damaged)), exit_code=CORRUPT, code="corrupt")


@app.command("show")
def show(
    context: typer.Context,
    backup_id: BackupId,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """What a backup holds."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        found = _ask(client, "GET", f"/{_named(client, backup_id)}")
    if screen.json:
        screen.document(found)
        return
    databases = found["databases"]
    assert isinstance(databases, list)
    rows = [
        [database["name"], each["name"], each["file_count"], each["row_count"], each["size_bytes"]]
        for database in databases
        for each in database["measurements"]
    ]
    screen.table(("database", "measurement", "files", "rows", "bytes"), rows)
    screen.note(f"{found['backup_id']}: {found['policy_count']} policies, {found['token_count']} tokens")


@app.command("status")
def status(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """How far the operation under way is, or how the last one ended."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        found = _ask(client, "GET", "/status")
    _tell(screen, found)


@app.command("verify")
def verify(
    context: typer.Context,
    backup_id: BackupId,
    no_wait: NoWait = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Read every byte of a backup; what is damaged or missing is named."""
    with open_client(endpoint, token) as client:
        backup_id = _named(client, backup_id)
    _order(screen_of(context), "/verify", {"backup_id": backup_id}, endpoint, token, no_wait=no_wait)


@app.command("restore")
def restore(
    context: typer.Context,
    backup_id: BackupId,
    db: Annotated[
        list[str] | None, typer.Option("--db", "-d", help="Only this database. Repeatable.", metavar="NAME")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Also the tokens that the backup has.")] = False,
    policies: Annotated[bool, typer.Option(help="Also policies, teams and roles that are not there.")] = True,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out files that are damaged, and name them.")
    ] = False,
    no_wait: NoWait = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Bring a backup back into databases that do not exist here; what exists is never changed.

    The same order again goes on with a restore that did not end; no row comes twice.
    """
    with open_client(endpoint, token) as client:
        backup_id = _named(client, backup_id)
    body = {
        "backup_id": backup_id,
        "databases": db or None,
        "restore_tokens": tokens,
        "restore_metadata": policies,
        "skip_damaged": skip_damaged,
        "confirm": True,
    }
    _order(screen_of(context), "/restore", body, endpoint, token, no_wait=no_wait)


@app.command("delete")
def delete(
    context: typer.Context,
    backup_id: BackupId,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Forget a backup, and remove the files that no other one needs."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        found = _ask(client, "DELETE", f"/{_named(client, backup_id)}")
    if screen.json:
        screen.document(found)
    else:
        screen.line(f"{found['message']}, and {counted(int(str(found['files_removed'])), 'file')} with it")


def _order(screen: Screen, path: str, body: Mapping[str, object], endpoint: str, token: str, *, no_wait: bool) -> None:
    with open_client(endpoint, token) as client:
        begun = _ask(client, "POST", path, body)
        if no_wait:
            if screen.json:
                screen.document(begun)
            else:
                screen.line(f"{begun['backup_id']} {begun['status']}")
            return
        _tell(screen, _until_over(screen, client, str(begun["backup_id"])))


def _until_over(screen: Screen, client: httpx.Client, backup_id: str) -> dict[str, object]:
    """The last status of the operation. Raises Failure when another node, which knows of none, answers meanwhile."""
    found: dict[str, object] = {}
    drawn = lost = 0
    with progress_bar(screen, backup_id, None) as bar:
        while not found or found["status"] == "running":
            time.sleep(LOOK_SECONDS)
            try:
                found = _ask(client, "GET", "/status")
                lost = 0
            except Failure as failure:
                lost += 1
                if failure.exit_code != UNREACHABLE or lost == LOST_LOOKS_MAX:
                    raise
                continue
            if found.get("backup_id") != backup_id:
                raise Failure(
                    f"the node that answers now knows nothing of the operation on {backup_id}: the writer lease moved,"
                    " or it was started again",
                    effect="What was done stays done.",
                    next_step="Give the same order again.",
                    exit_code=UNREACHABLE,
                    code="unavailable",
                )
            done = int(str(found["processed_bytes"]))
            bar.advance(done - drawn)
            drawn = done
    return found


def _tell(screen: Screen, found: Mapping[str, object]) -> None:
    """Print how it stands. Raises Failure for what failed, and for what is not all of it."""
    ended, code = found["status"], str(found.get("code") or "failed")
    damaged = found.get("damaged")
    named = "\n".join(map(str, damaged)) if isinstance(damaged, list) else ""
    if ended == "failed":
        raise _failure(screen, found, str(found["error"]) + (f"\n{named}" if named else ""), code)
    if ended == "incomplete":
        raise _failure(screen, found, f"{found['damaged_files']} files were damaged and left out:\n{named}", "corrupt")
    if screen.json:
        screen.document(found)
    elif ended == "idle":
        screen.line("idle")
    else:
        screen.line(
            f"{found['operation']} {found['backup_id']} {ended}: {found['processed_files']} of"
            f" {found['total_files']} files ({found['reused_files']} were there),"
            f" {size(int(str(found['processed_bytes'])))}, {int(str(found['rows'])):,} rows"
        )


def _failure(screen: Screen, found: Mapping[str, object], cause: str, code: str) -> Failure:
    return Failure(
        f"{found['operation']} of {found['backup_id']} {found['status']}: {cause}",
        next_step=_NEXT.get(code, "The log of the node has the details."),
        exit_code=_EXITS.get(code, ERROR),
        code=code,
    )


def _named(client: httpx.Client, backup_id: str) -> str:
    """The id; ``last`` is that of the newest. Raises Failure."""
    if backup_id != "last":
        return backup_id
    found = _ask(client, "GET", "")["backups"]
    assert isinstance(found, list)
    if not found:
        raise Failure("there is no backup yet", next_step="arc backup create", code="not_found")
    return str(found[0]["backup_id"])


def _ask(
    client: httpx.Client, method: Method, path: str, body: Mapping[str, object] | None = None
) -> dict[str, object]:
    return ask_over(client, method, f"{BASE}{path}", body)
