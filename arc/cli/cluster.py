"""``arc cluster``: how the cluster is, in one screen, and what its operator orders.

``status`` and ``health`` end with 0 when all is well, 3 when the cluster works and somebody should look, 4 when changes
or writes are not possible or nobody answers; so they can stand in a script.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer

from arc.cli.cluster_asking import fetch
from arc.cli.cluster_orders import (
    drain,
    failover,
    init,
    leave,
    promote,
    remove,
    transfer_leader,
    undrain,
)
from arc.cli.cluster_screen import (
    COLUMNS,
    event_line,
    events_of,
    exit_of,
    is_alone,
    lines,
    nodes_of,
    notes,
    rows,
    snippet,
    summary,
)
from arc.cli.cluster_watch import watch
from arc.cli.connect import open_client
from arc.cli.exits import OK, UNREACHABLE, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.resources import tell
from arc.cli.screen import Screen

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="How the cluster is, and what its operator orders.")

POLL_SECONDS = 0.5
LOOK_SECONDS = 5.0
"""How long one look may take while many are made."""
FOLLOW_SECONDS = 20
"""How long a node keeps a question for events; below what proxies allow."""


@app.command("status")
def status(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """One screen: who leads, how many more may fail, how everybody is, who writes and why, what to do next.

    Exit code 0 healthy, 3 degraded, 4 unavailable.
    """
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        document = fetch(client)
    if screen.json:
        screen.document(document)
    elif is_alone(document):
        screen.line(str(document.get("reason")))
    else:
        show(screen, document)
    raise typer.Exit(exit_of(document))


@app.command("nodes")
def nodes(
    context: typer.Context,
    role: Annotated[str, typer.Option("--role", help="Only nodes of this role.", metavar="ROLE")] = "",
    state: Annotated[str, typer.Option("--state", help="Only nodes in this state.", metavar="STATE")] = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """List the nodes."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        document = fetch(client, "/nodes", role=role, state=state)
    if screen.json:
        screen.document(document)
    elif is_alone(document):
        screen.line(str(document.get("reason")))
    else:
        screen.table(COLUMNS, rows(nodes_of(document)))


@app.command("health")
def health(
    context: typer.Context,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the cluster is healthy.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=0)] = 60.0,
    at_least: Annotated[int, typer.Option("--nodes", help="With --wait: and has so many nodes.", min=1)] = 1,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Say whether the cluster is healthy, and why not. Exit code 0 healthy, 3 degraded, 4 unavailable."""
    screen = screen_of(context)
    document = _wait(screen, endpoint, token, timeout, at_least) if wait else _health(endpoint, token, 600.0)
    if screen.json:
        screen.document(document)
    elif is_alone(document):
        screen.line(str(document.get("reason")))
    else:
        screen.line(summary(document))
        for note in notes(document):
            screen.line(note)
    code = exit_of(document)
    raise typer.Exit(UNREACHABLE if wait and code == OK and not _has(document, at_least) else code)


@app.command("events")
def events(
    context: typer.Context,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option(help="At most this many, the newest.", min=1, max=1000)] = 50,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """What happened: who got a lease and why, who fell silent. Oldest first; with --follow one line an event."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        document = fetch(client, "/events", limit=limit)
        if is_alone(document):
            tell(screen, document, str(document.get("reason")))
            return
        if screen.json and not follow:
            screen.document(document)
            return
        while True:
            for event in events_of(document):
                tell(screen, event, event_line(event))
            if not follow:
                return
            document = fetch(client, "/events", after=document.get("next"), wait=FOLLOW_SECONDS)


@app.command("join-token")
def join_token(
    context: typer.Context,
    role: Annotated[str, typer.Option("--role", help="What the new node is for.", metavar="ROLE")] = "writer",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Print the configuration with which a new node joins. The secret is not in it: the variable's name is."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        document = fetch(client)
    if is_alone(document):
        raise Failure(
            str(document.get("reason")),
            next_step="Set enabled = true in [cluster] of its configuration, and start it again.",
            code="cluster_disabled",
        )
    tell(screen, {"configuration": snippet(document, role=role), "secret_variable": "ARC_CLUSTER_SHARED_SECRET",
                   "cluster_uuid": document.get("cluster_uuid")}, snippet(document, role=role))  # fmt: skip


app.command("watch")(watch)
app.command("init")(init)
app.command("leave")(leave)
app.command("drain")(drain)
app.command("undrain")(undrain)
app.command("remove")(remove)
app.command("transfer-leader")(transfer_leader)
app.command("failover")(failover)
app.command("promote")(promote)


def show(screen: Screen, document: dict[str, object]) -> None:
    """The whole screen of a status."""
    for name, text in lines(document):
        screen.line(f"{name:10} {text}")
    screen.title("nodes")
    screen.table(COLUMNS, rows(nodes_of(document)))
    found = list(notes(document))
    if found:
        screen.title("what is wrong")
    for note in found:
        screen.line(note)


def _health(endpoint: str, token: str, seconds: float) -> dict[str, object]:
    with open_client(endpoint, token, answer_seconds=seconds) as client:
        return fetch(client, "/health")


def _wait(screen: Screen, endpoint: str, token: str, timeout: float, at_least: int) -> dict[str, object]:
    """Look until all is well or the time is over; the last answer. Raises Failure when there was none."""
    until = time.monotonic() + timeout
    said = ""
    while True:
        try:
            document = _health(endpoint, token, LOOK_SECONDS)
            if exit_of(document) == OK and _has(document, at_least):
                return document
            why = next(notes(document), f"{document.get('total')} of {at_least} nodes are there")
            failure = None
        except Failure as error:
            if error.exit_code != UNREACHABLE:
                raise
            failure, why = error, error.cause
        if time.monotonic() >= until:
            if failure is not None:
                raise failure
            return document
        if why != said and not screen.json:
            screen.note(f"waiting: {why}")
            said = why
        time.sleep(POLL_SECONDS)


def _has(document: dict[str, object], at_least: int) -> bool:
    total = document.get("total", 1)
    return is_alone(document) or (isinstance(total, int) and total >= at_least)
