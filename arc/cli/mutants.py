"""``arc sim mutants``: plant known and unknown bugs and see them caught; write the kill matrix."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.exits import ERROR, USAGE, Failure
from arc.cli.options import Json, screen_of
from arc.cli.pace import paced

if TYPE_CHECKING:
    from arc.cli.screen import Screen
    from simulations.mutants.matrix import Verdict
    from simulations.mutants.survey import Finding

RANGES = 5
GENERIC = 60
"""What a published matrix rests on."""


def mutants(
    context: typer.Context,
    only: Annotated[str, typer.Option("--only", help="Some of them.", metavar="K-01,…")] = "",
    seeds: Annotated[int | None, typer.Option("--seeds", min=1, help="At most; by tier if not given.")] = None,
    ranges: Annotated[int, typer.Option("--ranges", min=1, help="Disjoint ranges of seeds; medians over them.")] = 1,
    black_box: Annotated[bool, typer.Option("--black-box", help="Also with client-visible checkers alone.")] = False,
    generic: Annotated[int, typer.Option("--generic", min=0, help="Instead: so many small changes anywhere.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Settles which small changes.")] = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes.")] = 1,
    publish: Annotated[bool, typer.Option("--publish", help="Everything, in five ranges; write the page.")] = False,
    json: Json = False,
) -> None:
    """Plant known bugs into a copy of the code and see them caught."""
    screen = screen_of(context)
    if publish:
        only, ranges, black_box = "", max(ranges, RANGES), True
    wanted = [each.strip() for each in only.split(",") if each.strip()]
    verdicts = _verdicts(screen, wanted, seeds, ranges, black_box, jobs) if publish or not generic else []
    findings = _findings(screen, generic or GENERIC, seed, seeds) if publish or generic else []
    alive = [verdict.id for verdict in verdicts if not verdict.killed]
    living = [finding.change.key for finding in findings if not finding.kill.killer]
    if screen.json:
        told = [*(each.document() for each in verdicts), *(each.document() for each in findings)]
        screen.document({"mutants": told, "alive": [*alive, *living]})
    else:
        _tables(screen, verdicts, findings)
    if publish:
        from simulations.mutants.publish import PAGE, page

        PAGE.write_text(page(verdicts, findings, f"{os.cpu_count()} cores, {jobs} used"), encoding="utf-8")
        screen.note(f"wrote {PAGE.relative_to(PAGE.parents[1])}")
    if alive:
        raise typer.Exit(ERROR)


def _verdicts(
    screen: Screen, wanted: list[str], seeds: int | None, ranges: int, is_blind: bool, jobs: int
) -> list[Verdict]:
    from simulations.mutants.matrix import chosen, hunt_all

    try:
        count = len(chosen(wanted))
    except KeyError as error:
        raise Failure(
            str(error.args[0]), next_step="arc sim mutants --only K-01", exit_code=USAGE, code="usage"
        ) from error
    verdicts = []
    with paced(screen, "mutants", count, "bugs") as one_more:
        for verdict in hunt_all(wanted, seeds, ranges=ranges, is_blind=is_blind, jobs=jobs):
            verdicts.append(verdict)
            one_more()
    return verdicts


def _findings(screen: Screen, count: int, seed: int, seeds: int | None) -> list[Finding]:
    from simulations.mutants.survey import SEEDS_MAX, survey

    findings = []
    with paced(screen, "small changes", count, "bugs") as one_more:
        for finding in survey(count, seed, seeds or SEEDS_MAX):
            findings.append(finding)
            one_more()
    return findings


def _tables(screen: Screen, verdicts: list[Verdict], findings: list[Finding]) -> None:
    from simulations import report

    if verdicts:
        screen.table(("id", "tier", "killer", "seeds", "seconds", "what"), report.of_mutants(verdicts))
        screen.note(f"{sum(verdict.killed for verdict in verdicts)} of {len(verdicts)} killed")
    if findings:
        rows = [
            (
                each.kill.killer or "ALIVE",
                str(each.kill.seeds),
                f"{each.kill.seconds:.1f}",
                str(each.change),
                each.reason,
            )
            for each in findings
        ]
        screen.table(("killer", "seeds", "seconds", "change", "why it may live"), rows)
        screen.note(f"{sum(bool(each.kill.killer) for each in findings)} of {len(findings)} killed")
