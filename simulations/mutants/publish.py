"""Writes the kill matrix to `docs/kill-matrix.md`: only what a command has just measured.

``python -m simulations.mutants.publish FILE`` puts what ``arc sim mutants --only R-01,… --json`` said of bugs of whole
nodes into the page, without hunting the others again: their rows stay, as long as the table says the same of them.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simulations.mutants.matrix import Verdict
from simulations.mutants.mutant import SEEDS_MAX, TIERS, Kill, Mutant
from simulations.mutants.planting import SEEDS
from simulations.mutants.rows import EXPLAINED, ROWS
from simulations.mutants.survey import Finding
from simulations.mutants.table import EQUIVALENT

PAGE = Path(__file__).resolve().parents[2] / "docs" / "kill-matrix.md"

STORIES = {mutant.id: mutant for mutant in ROWS}

PREFACE = """\
# Kill matrix

Written by `python -m arc sim mutants --publish`; do not edit.

Each row is a bug planted as an exact replacement into a copy of the code, and hunted with the standard campaign: drawn
plans, named scenarios and hunting scenarios in turn. Seeds and seconds are medians over {ranges} disjoint ranges of
seeds, each hunted until the first kill (on {cores}). A row counts as killed if most ranges kill it and the median of
seeds is within its tier: {tiers}; a hunt gives up after {limits}. Rows whose layer
is storage or codec are planted into a private copy of the whole project and meet that code's own tests; their killer is
the first test that fails.

*From outside* is the same campaign judged by client-visible checkers only: linearizability of every key's history,
which shows lost and doubled writes, and progress and agreement of the healed cluster. Its tier is in brackets; bold
is a row that lived through all seeds told there.
"""


NODES = """\
## Bugs of whole nodes

Each row is a bug where rows are acknowledged, replicated, flushed, copied, retried or routed, or where what is stored
is merged, deleted, aged out, aggregated, restored or shown, planted into a private copy of the whole project. Some are
hunted by a story of whole nodes (`arc sim list`) that provokes them, from the first seed of a range until a checker
says no; their killer is that property ([simulator.md](simulator.md)). The others meet the tests of that code, because a
story would need a rare meeting of events; their killer is the first test that fails.
Where one layer protects what another forgets, the bug is planted in both. Ranges of seeds: {ranges}; a hunt in one
range gives up after {seeds} seeds. Seconds are of {cores}, with the copying of the project and the start of Python.
"""


def page(verdicts: Sequence[Verdict], findings: Sequence[Finding], machine: str) -> str:
    """The whole page."""
    nodes = [verdict for verdict in verdicts if verdict.id in STORIES]
    verdicts = [verdict for verdict in verdicts if verdict.id not in STORIES]
    killed = sum(verdict.killed for verdict in verdicts)
    asked = [verdict for verdict in verdicts if verdict.black_box]
    seen = sum(bool(verdict.is_seen_from_outside) for verdict in asked)
    ranges = max((len(verdict.kills) for verdict in verdicts), default=0)
    lines = [
        PREFACE.format(
            ranges=ranges,
            cores=machine,
            tiers=", ".join(f"{tier} {seeds:,}" for tier, seeds in TIERS.items()),
            limits=", ".join(f"{seeds:,}" for seeds in SEEDS_MAX.values()),
        ),
        f"**{killed} of {len(verdicts)} killed within their tier; "
        f"{seen} of {len(asked)} seen from outside within theirs.**\n",
        "| id | planted bug | layer | tier | killed | seeds | seconds | killers | from outside |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(verdict) for verdict in verdicts]
    if EQUIVALENT:
        lines += ["\n## Rows that change nothing here\n", *(f"- {id}: {why}" for id, why in EQUIVALENT.items())]
    if findings:
        lines += ["", *_survey(findings)]
    text = "\n".join(lines) + "\n"
    return with_nodes(text, [verdict.document() for verdict in nodes], machine) if nodes else text


def with_nodes(text: str, documents: Sequence[Mapping[str, Any]], machine: str) -> str:
    """The page with what is said of bugs of whole nodes: from their verdicts as JSON values, and of bugs that have none
    what it said.

    Raises ValueError where neither knows a bug of the table, or the page tells of it what the table does not say now.
    """
    by_id = standing(text) | {document["id"]: _node_row(document) for document in documents}
    if missing := [mutant.id for mutant in ROWS if mutant.id not in by_id]:
        raise ValueError(f"nothing is known of {', '.join(missing)}")
    rows = [by_id[mutant.id] for mutant in ROWS]
    times = [_cells(row)[4] for row in rows]
    killed = sum(not cell.startswith("**") for cell in times)
    ranges = max(int(cell.strip("*").rpartition(" of ")[2]) for cell in times)
    lines = [
        NODES.format(ranges=ranges, seeds=SEEDS, cores=machine),
        f"**{killed} of {len(rows)} killed.**\n",
        "| id | planted bug | layer | noticed by | killed | seeds | seconds | killers |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
    ]
    if EXPLAINED:
        lines += ["\n### What single bugs taught\n", *(f"- {id}: {why}" for id, why in EXPLAINED.items())]
    before = text.partition("\n" + NODES.partition("\n")[0])[0].rstrip("\n")
    return before + "\n\n" + "\n".join(lines) + "\n"


def standing(text: str) -> dict[str, str]:
    """The rows of a page about bugs of whole nodes, by id: those that say of the bug what the table says."""
    rows = {_cells(row)[0]: row for row in re.findall(r"^\| R-.* \|$", text, re.MULTILINE)}
    return {id: row for id, row in rows.items() if id in STORIES and tuple(_cells(row)[:4]) == _what(STORIES[id])}


def _what(mutant: Mutant) -> tuple[str, str, str, str]:
    noticed_by = mutant.hunt.scenario if mutant.hunt is not None else "tests"
    return mutant.id, mutant.what, mutant.layer, noticed_by


def _cells(row: str) -> list[str]:
    return row.removeprefix("| ").removesuffix(" |").split(" | ")


def _node_row(document: Mapping[str, Any]) -> str:
    mutant = STORIES[document["id"]]
    kills = [each["killer"] for each in document["ranges"]]
    killed = f"{sum(map(bool, kills))} of {len(kills)}"
    cells = (
        *_what(mutant),
        killed if document["killed"] else f"**{killed}**",
        str(document["seeds"]),
        f"{document['seconds']:.0f}",
        ", ".join(name for name, _ in Counter(filter(None, kills)).most_common()),
    )
    return f"| {' | '.join(cells)} |"


def ids(text: str) -> list[str]:
    """The ids of a page's rows, in their order."""
    return re.findall(r"^\| ([KR]-\d+\w*) \|", text, re.MULTILINE)


def _row(verdict: Verdict) -> str:
    killers = Counter(kill.killer for kill in verdict.kills if kill.killer)
    cells = (
        verdict.id,
        verdict.what,
        verdict.layer,
        verdict.tier,
        f"{verdict.times_killed} of {len(verdict.kills)}"
        if verdict.killed
        else f"**{verdict.times_killed} of {len(verdict.kills)}**",
        f"{verdict.seeds:,}",
        f"{verdict.seconds:.1f}",
        ", ".join(name for name, _ in killers.most_common()),
        _outside(verdict.black_box, verdict),
    )
    return f"| {' | '.join(cells)} |"


def _outside(kills: Sequence[Kill], verdict: Verdict) -> str:
    if not kills:
        return ""
    killers = Counter(kill.killer for kill in kills if kill.killer)
    names = ", ".join(name for name, _ in killers.most_common()) or "–"
    seeds = sorted(kill.seeds for kill in kills)[len(kills) // 2]
    word = f"{sum(killers.values())} of {len(kills)}, {seeds:,} seeds, {names}"
    return f"{word if verdict.is_seen_from_outside else f'**{word}**'} ({verdict.black_box_tier})"


def _survey(findings: Sequence[Finding]) -> list[str]:
    alive = [finding for finding in findings if not finding.kill.killer]
    by_operator: dict[str, list[Finding]] = {}
    for finding in findings:
        by_operator.setdefault(finding.change.operator, []).append(finding)
    lines = [
        "## Bugs that are in no list\n",
        "One small change anywhere in the core, drawn from all that a dozen operators can make "
        "(`python -m arc sim mutants --generic N --seed S`).\n",
        f"**{len(findings) - len(alive)} of {len(findings)} killed.**\n",
        "| operator | planted | killed |",
        "|---|---|---|",
    ]
    for name, group in sorted(by_operator.items()):
        lines.append(f"| {name} | {len(group)} | {sum(bool(each.kill.killer) for each in group)} |")
    lines += ["\nSurvivors, and why they may live:\n"]
    for finding in alive:
        lines.append(
            f"- `{str(finding.change).replace('|', '¦')}`: {finding.reason or '**nobody has looked at it yet**'}"
        )
    return lines


def main(paths: Iterable[str]) -> None:
    """Put the verdicts of these files into the page; of a bug that is in several, the last one."""
    documents = [each for path in paths for each in json.loads(Path(path).read_text(encoding="utf-8"))["mutants"]]
    PAGE.write_text(with_nodes(PAGE.read_text(encoding="utf-8"), documents, "two cores that did other work"), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
