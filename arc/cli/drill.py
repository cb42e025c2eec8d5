"""``arc drill``: hurt your own cluster on purpose, and see for how long nothing was written and that no row is lost.

Each drill streams numbered rows in through every node, has something happen, and asks every node for every row. What
happens is ordered (a planned fail-over), run by a command that is given, or done by the operator who is asked to.
"""

from __future__ import annotations

from typing import Annotated

import typer

from arc.cli.drill_report import tell
from arc.cli.drill_story import Deed, Plan, ask_person, lines, look, nothing, order_failover, run_command, story
from arc.cli.exits import OK, USAGE, Failure
from arc.cli.live import Live
from arc.cli.options import DEFAULT_ENDPOINT, Json, Token, screen_of
from arc.cli.resources import agree, is_somebody_there
from arc.cli.screen import Screen

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Practise failures on a running cluster: measured gaps, and every row looked for on every node.",
    epilog="Exit codes: 0 nothing is lost and all is well; 1 rows are lost or doubled, or writes did not come back; "
    "3 nothing is lost, and something is not well or could not be looked at; 4 no cluster that takes writes.",
)

Url = Annotated[str, typer.Option("--url", "--endpoint", envvar="ARC_ENDPOINT", help="Any node.", metavar="URL")]
Seconds = Annotated[
    float, typer.Option("--seconds", help="How long rows stream in; the middle third is the fault.", min=1, max=3600)
]
Database = Annotated[str, typer.Option("--db", help="Database of the drill.", metavar="NAME")]
Begin = Annotated[str, typer.Option("--begin", help="Command that makes the fault.", metavar="COMMAND")]
End = Annotated[str, typer.Option("--end", help="Command that makes it good again.", metavar="COMMAND")]
Keep = Annotated[bool, typer.Option("--keep", help="Leave the rows of the drill where they are.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before.")]

KILL = "Kill the process of {writer}, which writes, with -9 (on its machine: kill -9 PID), or cut its power."
START = "Start {writer} again."
PARTITION = (
    "Cut {writer}, which writes, off from the other nodes: drop what passes between their peer ports"
    " (cluster.peer_port), for example with iptables on its machine."
)
HEAL = "Let {writer} and the other nodes reach each other again."
FILL = (
    "Fill the disk of {writer}, which writes, until less than storage.reserve_bytes (256 MiB) is free,"
    " for example with fallocate -l SIZE data-folder/ballast."
)
FREE = "Remove what fills the disk of {writer}."


@app.command("failover")
def failover(
    context: typer.Context,
    to: Annotated[str | None, typer.Option("--to", help="Whom to; else the best candidate.", metavar="NODE")] = None,
    unplanned: Annotated[
        bool, typer.Option("--unplanned", help="The writer is killed: you are asked to, or --command does it.")
    ] = False,
    command: Annotated[
        str, typer.Option("--command", help="Kills the writer: 'ssh db1 kill -9 …'.", metavar="COMMAND")
    ] = "",
    end: End = "",
    endpoint: Url = DEFAULT_ENDPOINT,
    token: Token = "",
    seconds: Seconds = 15.0,
    database: Database = "arc_drill",
    keep: Keep = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Hand the writer lease over in order, or lose the writer (--unplanned), and measure the gap."""
    screen = screen_of(context)
    if (command or end) and not unplanned:
        raise _usage("--command and --end are for a writer that is killed", "Add --unplanned.")
    if unplanned and to is not None:
        raise _usage("who takes over from a node that is killed is the cluster's to choose", "Leave --to out.")
    if unplanned:
        deed = _deed(KILL, START, command, end, moves_writer=True)
    else:
        words = f"the writer lease is handed over in order to {to or 'the best candidate'}."
        deed = Deed(words=words, begin=order_failover(screen, to), end=nothing, moves_writer=True)
    kind = "failover --unplanned" if unplanned else "failover"
    _run(screen, endpoint, token, Plan(kind=kind, seconds=seconds, deed=deed, database=database, keeps=keep), yes)


@app.command("partition")
def partition(
    context: typer.Context,
    begin: Begin = "",
    end: End = "",
    endpoint: Url = DEFAULT_ENDPOINT,
    token: Token = "",
    seconds: Seconds = 30.0,
    database: Database = "arc_drill",
    keep: Keep = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Have a node cut off from the others, by you or by --begin and --end, and measure the gap."""
    deed = _deed(PARTITION, HEAL, begin, end, moves_writer=False)
    plan = Plan(kind="partition", seconds=seconds, deed=deed, database=database, keeps=keep)
    _run(screen_of(context), endpoint, token, plan, yes)


@app.command("disk-full")
def disk_full(
    context: typer.Context,
    begin: Begin = "",
    end: End = "",
    endpoint: Url = DEFAULT_ENDPOINT,
    token: Token = "",
    seconds: Seconds = 30.0,
    database: Database = "arc_drill",
    keep: Keep = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Have a disk filled, by you or by --begin and --end, and measure the gap."""
    deed = _deed(FILL, FREE, begin, end, moves_writer=False)
    plan = Plan(kind="disk-full", seconds=seconds, deed=deed, database=database, keeps=keep)
    _run(screen_of(context), endpoint, token, plan, yes)


def _deed(make: str, mend: str, begin: str, end: str, *, moves_writer: bool) -> Deed:
    """By commands, or by a person for what has none. Raises Failure when nobody is there."""
    if begin:
        words = f"this command is run: {begin}" + (f"; and to make it good: {end}" if end else "")
        mending = run_command(end) if end else nothing
        return Deed(words=words, begin=run_command(begin), end=mending, moves_writer=moves_writer)
    if not is_somebody_there():
        raise _usage("nobody is there to make the fault", "Give a command that makes it; see --help.")
    return Deed(
        words=f"you are asked to do this, and to make it good again. {make}".replace("{writer}", "the node"),
        begin=ask_person(make),
        end=run_command(end) if end else ask_person(mend),
        moves_writer=moves_writer,
    )


def _run(screen: Screen, url: str, token: str, plan: Plan, yes: bool) -> None:
    """Look, ask, do, tell; the exit code is the report's."""
    scene = look(url, token)
    for line in lines(scene, plan):
        screen.note(line)
    if not yes:
        agree("Go on?", effect="Nothing was done.", look="Read what it will do, above")
    with Live(screen) as live:
        report = story(screen, live, scene, plan)
    if screen.json:
        screen.document(report.document())
    else:
        tell(screen, report)
    if report.exit_code != OK:
        raise typer.Exit(report.exit_code)


def _usage(cause: str, next_step: str) -> Failure:
    return Failure(cause, effect="Nothing was done.", next_step=next_step, exit_code=USAGE, code="usage")
