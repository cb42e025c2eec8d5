"""``arc sim``: run the simulator that comes with the product.

A run is settled by its scenario and its seed, on every machine. What failed ends with the one command that repeats it.
The simulator is imported when a command runs, never before: nothing that serves depends on it.
"""

from __future__ import annotations

import json as codec
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.exhaustive import exhaustive
from arc.cli.exits import ERROR, USAGE, Failure
from arc.cli.mutants import mutants
from arc.cli.options import Json, screen_of
from arc.cli.pace import paced
from arc.cli.screen import Screen

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    invoke_without_command=True, no_args_is_help=True, rich_markup_mode=None, help="Simulate clusters, repeatably."
)

Seed = Annotated[int, typer.Option("--seed", help="Settles everything that is left to chance.")]
Html = Annotated[str | None, typer.Option("--html", help="Also write a page to look at.", metavar="FILE")]
Save = Annotated[str | None, typer.Option("--save", help="Write the plan, for replay.", metavar="FILE")]
Told = Annotated[str | None, typer.Option("--transcript", help="Write down what the cores did.", metavar="FILE")]
ShrinkSeconds = Annotated[
    float, typer.Option("--shrink-seconds", min=0, help="How long to look for a smaller failing plan; 0: not at all.")
]
Failures = Annotated[str, typer.Option("--failures", help="Where to write what a failure became.", metavar="DIR")]


@app.callback()
def one_seed(
    context: typer.Context,
    seed: Annotated[int | None, typer.Option("--seed", help="Run this seed, and settle everything by it.")] = None,
    scenario: Annotated[str, typer.Option("--scenario", help="Of this scenario.")] = "swarm",
    swarm: Annotated[bool, typer.Option("--swarm", help="The same as --scenario swarm.")] = False,
    html: Html = None,
    transcript: Told = None,
    json: Json = False,
) -> None:
    """Simulate clusters under faults, repeatably. `--seed N` alone runs one seed again."""
    if context.invoked_subcommand is not None:
        return
    if seed is None:
        raise _usage("which seed?", "arc sim --seed N --scenario S")
    _run_plan(screen_of(context), _plan("swarm" if swarm else scenario, seed), html=html, transcript=transcript)


@app.command("list")
def list_scenarios(context: typer.Context, json: Json = False) -> None:
    """Show the scenarios."""
    from simulations.scenarios import TABLE
    from simulations.scenarios.worlds import DRAWN, WORLDS

    screen = screen_of(context)
    rows = [(each.name, each.what) for each in TABLE]
    rows += [(name, what) for name, what, _ in (*DRAWN, *WORLDS)]
    if screen.json:
        screen.document({"scenarios": [{"scenario": name, "what": what} for name, what in rows]})
        return
    screen.table(("scenario", "what it shows"), rows)


@app.command("run")
def run(
    context: typer.Context,
    scenario: Annotated[str, typer.Argument(help="One of `arc sim list`.")],
    seed: Seed = 0,
    html: Html = None,
    save: Save = None,
    transcript: Told = None,
    json: Json = False,
) -> None:
    """Run one seed of a scenario."""
    _run_plan(screen_of(context), _plan(scenario, seed), html=html, transcript=transcript, save=save)


@app.command("replay")
def replay(
    context: typer.Context,
    file: Annotated[str, typer.Argument(help="A plan, as `run --save` or a failing swarm wrote it.")],
    html: Html = None,
    transcript: Told = None,
    shrink: Annotated[
        str | None, typer.Option("--shrink", help="Find a smaller plan that fails alike.", metavar="FILE")
    ] = None,
    shrink_seconds: ShrinkSeconds = 60.0,
    json: Json = False,
) -> None:
    """Run a plan from a file."""
    from simulations.plan import Plan
    from simulations.runner import read_plan
    from simulations.shrink import smallest

    screen = screen_of(context)
    try:
        plan = read_plan(codec.loads(Path(file).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _usage(f"{file} is not a plan: {error}", "arc sim run SCENARIO --save FILE") from error
    if shrink is not None and isinstance(plan, Plan):
        plan, file = smallest(plan, seconds_max=shrink_seconds, tell=screen.note), shrink
        _write(shrink, codec.dumps(plan.document(), indent=1))
    _run_plan(screen, plan, html=html, transcript=transcript, repeat=f"python -m arc sim replay {shlex.quote(file)}")


@app.command("swarm")
def swarm(
    context: typer.Context,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many.")] = 100,
    first: Annotated[int, typer.Option("--first", help="The first seed.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes.")] = 1,
    scenario: Annotated[str, typer.Option("--scenario", help="Run the seeds of this one.")] = "swarm",
    twice: Annotated[
        bool, typer.Option("--twice", help="Each seed in two processes with different hash seeds; they must agree.")
    ] = False,
    shrink_seconds: ShrinkSeconds = 60.0,
    failures: Failures = "sim-failures",
    json: Json = False,
) -> None:
    """Run many seeds; fail if any does, if two runs of one differ, or if all together have not seen enough."""
    from simulations import report
    from simulations.failures import keep
    from simulations.runner import PASSED, Campaign, Outcome, plan_of, run_many

    screen = screen_of(context)
    _plan(scenario, first)
    start = time.perf_counter()
    campaign = Campaign(scenario)
    with paced(screen, scenario, seeds, "seeds") as one_more:

        def ended(outcome: Outcome) -> None:
            one_more()
            campaign.add(outcome)
            if outcome.verdict != PASSED:  # At once: a campaign takes hours, and may be stopped.
                screen.note(f"{scenario} seed {outcome.seed}: {outcome.verdict}: {outcome.violation[:300]}")

        try:
            run_many(scenario, range(first, first + seeds), jobs=jobs, is_twice=twice, each=ended)
        except KeyboardInterrupt:
            screen.note("stopped; what follows is about the seeds that ran")
    seconds = time.perf_counter() - start
    document = report.campaign_document(campaign, seconds)
    if not screen.json:
        for section in report.sections(campaign):
            screen.title(section.title)
            screen.table(section.columns, section.rows)
        screen.line()
        screen.line(report.headline(campaign, seconds))
    if campaign.failures and shrink_seconds:
        worst = report.quickest_failure(campaign)
        kept = keep(worst, plan_of(scenario, worst.seed), Path(failures), seconds_max=shrink_seconds, tell=screen.note)
        if screen.json:
            document["kept"] = kept.files
        else:
            _lines(screen, kept.lines)
    if screen.json:
        screen.document(document)
    else:
        _lines(screen, report.last_lines(campaign, first))
    if campaign.is_failed:
        raise typer.Exit(ERROR)


def _plan(scenario: str, seed: int) -> object:
    from simulations.runner import plan_of

    try:
        return plan_of(scenario, seed)
    except KeyError:
        raise _usage(f"no scenario is called {scenario}", "arc sim list") from None


app.command("exhaustive")(exhaustive)
app.command("mutants")(mutants)


def _run_plan(
    screen: Screen,
    plan: object,
    *,
    html: str | None,
    transcript: str | None,
    save: str | None = None,
    repeat: str = "",
) -> None:
    from simulations import report
    from simulations.page import page
    from simulations.plan import Plan
    from simulations.runner import PASSED
    from simulations.runner import run as run_plan
    from simulations.transcript import transcript as told_of
    from simulations.world_plan import WorldPlan

    assert isinstance(plan, Plan | WorldPlan)
    if save is not None:
        _write(save, codec.dumps(plan.document(), indent=1))
    outcome = run_plan(plan)
    if isinstance(plan, Plan):
        if html is not None:
            _write(html, page(outcome, plan))
        if transcript is not None:
            _write(transcript, told_of(plan))
    elif html is not None or transcript is not None:
        screen.note("pages and transcripts are of bare cores; the plan of whole nodes can be saved and replayed")
    if screen.json:
        screen.document(report.run_document(outcome, repeat))
    else:
        _lines(screen, report.of_run(outcome, repeat))
    if outcome.verdict != PASSED:
        raise typer.Exit(ERROR)


def _write(file: str, text: str) -> None:
    Path(file).write_text(text, encoding="utf-8")


def _lines(screen: Screen, lines: list[str]) -> None:
    say: Callable[[str], None] = screen.line
    for line in lines:
        say(line)


def _usage(cause: str, next_step: str) -> Failure:
    return Failure(cause, next_step=next_step, exit_code=USAGE, code="usage")
