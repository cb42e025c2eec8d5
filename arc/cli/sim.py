"""``arc sim``: run the simulator that comes with the product.

A run is settled by its scenario and its seed, on every machine. What failed ends with the one command that repeats it.
The simulator is imported when a command runs, never before: nothing that serves depends on it.
"""

from __future__ import annotations

import json as codec
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.exits import ERROR, USAGE, Failure
from arc.cli.options import Json, screen_of
from arc.cli.screen import Screen, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Simulate clusters under faults, repeatably.")

Seed = Annotated[int, typer.Option("--seed", help="Settles everything that is left to chance.")]
Html = Annotated[str | None, typer.Option("--html", help="Also write a page to look at.", metavar="FILE")]


@app.command("list")
def list_scenarios(context: typer.Context, json: Json = False) -> None:
    """Show the scenarios."""
    from simulations.scenarios import TABLE

    screen = screen_of(context)
    if screen.json:
        screen.document({"scenarios": [{"scenario": each.name, "what": each.what} for each in TABLE]})
        return
    screen.table(("scenario", "what it shows"), [(each.name, each.what) for each in TABLE])


@app.command("run")
def run(
    context: typer.Context,
    scenario: Annotated[str, typer.Argument(help="One of `arc sim list`.")],
    seed: Seed = 0,
    html: Html = None,
    save: Annotated[str | None, typer.Option("--save", help="Write the plan, for replay.", metavar="FILE")] = None,
    json: Json = False,
) -> None:
    """Run one seed of a scenario."""
    from simulations.scenarios import BY_NAME

    if scenario not in BY_NAME:
        raise _usage(f"no scenario is called {scenario}", "arc sim list")
    plan = BY_NAME[scenario].plan(seed)
    if save is not None:
        Path(save).write_text(codec.dumps(plan.document(), indent=1))
    _run_plan(screen_of(context), plan, html)


@app.command("replay")
def replay(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A plan, as `run --save` wrote it.")],
    html: Html = None,
    shrink: Annotated[
        str | None, typer.Option("--shrink", help="Find a smaller plan that fails alike.", metavar="FILE")
    ] = None,
    json: Json = False,
) -> None:
    """Run a plan from a file."""
    from simulations.plan import Plan
    from simulations.shrink import smallest

    screen = screen_of(context)
    try:
        plan = Plan.read(codec.loads(Path(file).read_text()))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _usage(f"{file} is not a plan: {error}", "arc sim run SCENARIO --save FILE") from error
    if shrink is not None:
        plan = smallest(plan, tell=screen.note)
        Path(shrink).write_text(codec.dumps(plan.document(), indent=1))
    _run_plan(screen, plan, html)


@app.command("swarm")
def swarm(
    context: typer.Context,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many.")] = 100,
    first: Annotated[int, typer.Option("--first", help="The first seed.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes.")] = 1,
    scenario: Annotated[str, typer.Option("--scenario", help="Run the seeds of this one.")] = "swarm",
    json: Json = False,
) -> None:
    """Run many seeds; fail if any does, or if they have not seen enough."""
    from simulations import report
    from simulations.runner import run_many
    from simulations.scenarios import BY_NAME

    screen = screen_of(context)
    if scenario not in BY_NAME:
        raise _usage(f"no scenario is called {scenario}", "arc sim list")
    start = time.perf_counter()
    with progress_bar(screen, scenario, seeds, unit="seeds") as bar:
        campaign = run_many(scenario, range(first, first + seeds), jobs=jobs, each=lambda _: bar.advance(1))
    seconds = time.perf_counter() - start
    if screen.json:
        screen.document(report.campaign_document(campaign, seconds))
    else:
        _lines(screen, report.of_campaign(campaign, seconds))
    if campaign.failures or (scenario == "swarm" and campaign.missing()):
        raise typer.Exit(ERROR)


@app.command("mutants")
def mutants(
    context: typer.Context,
    only: Annotated[str, typer.Option("--only", help="Some of them.", metavar="K-01,…")] = "",
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="At most; by tier if not given.")] = None,
    json: Json = False,
) -> None:
    """Plant known bugs into a copy of the core and see them caught."""
    from simulations import report
    from simulations.mutants.matrix import hunt_all
    from simulations.mutants.table import TABLE

    screen = screen_of(context)
    wanted = [each.strip() for each in only.split(",") if each.strip()]
    verdicts = []
    try:
        with progress_bar(screen, "mutants", len(wanted) or len(TABLE), unit="bugs") as bar:
            for verdict in hunt_all(wanted, seeds):
                verdicts.append(verdict)
                bar.advance(1)
    except KeyError as error:
        raise _usage(str(error.args[0]), "arc sim mutants") from error
    alive = [verdict.id for verdict in verdicts if not verdict.killed]
    if screen.json:
        screen.document({"mutants": [verdict.document() for verdict in verdicts], "alive": alive})
    else:
        screen.table(("id", "tier", "killer", "seeds", "seconds", "what"), report.of_mutants(verdicts))
        screen.note(f"{len(verdicts) - len(alive)} of {len(verdicts)} killed")
    if alive:
        raise typer.Exit(ERROR)


def _run_plan(screen: Screen, plan: object, html: str | None) -> None:
    from simulations import report
    from simulations.page import page
    from simulations.plan import Plan
    from simulations.runner import PASSED, run_told

    assert isinstance(plan, Plan)
    outcome, world = run_told(plan, is_told=html is not None)
    if html is not None and world is not None:
        Path(html).write_text(page(outcome, world), encoding="utf-8")
    if screen.json:
        screen.document(outcome.document())
    else:
        _lines(screen, report.of_run(outcome))
    if outcome.verdict != PASSED:
        raise typer.Exit(ERROR)


def _lines(screen: Screen, lines: list[str]) -> None:
    say: Callable[[str], None] = screen.line
    for line in lines:
        say(line)


def _usage(cause: str, next_step: str) -> Failure:
    return Failure(cause, next_step=next_step, exit_code=USAGE, code="usage")
