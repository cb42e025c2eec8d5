"""What a failing seed becomes: a small plan, what the cores said in it, a page to look at; or where two runs part.

Everything is written into one folder under the name of the seed. Nothing here settles whether something failed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from arc.raft.core import RaftCore
from simulations.page import page
from simulations.plan import Plan
from simulations.runner import DIFFERS, Outcome, run
from simulations.shrink import measure, smallest
from simulations.transcript import transcript

if TYPE_CHECKING:
    from simulations.world_plan import WorldPlan

SUFFIXES = {"plan": ".json", "transcript": ".txt", "page": ".html"}


class Kept(NamedTuple):
    """What is left of a failure: lines for a person, and the files, by what they are."""

    lines: list[str]
    files: dict[str, str]


def keep(
    outcome: Outcome,
    plan: Plan | WorldPlan,
    folder: Path,
    *,
    seconds_max: float,
    core_class: type[Any] = RaftCore,
    tell: Callable[[str], None] = lambda _: None,
) -> Kept:
    """Look closer at a failure for ``seconds_max`` at most. Raises OSError when the folder cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{outcome.scenario}-{outcome.seed}"
    if not isinstance(plan, Plan):  # Whole nodes: a run takes seconds, and there is no core to write a transcript of.
        file = base.with_name(f"{base.name}.json")
        file.write_text(json.dumps(plan.document(), indent=1), encoding="utf-8")
        return Kept([f"  python -m arc sim replay {file}"], {"plan": str(file)})
    if outcome.killer == DIFFERS:
        from simulations.differ import first_difference

        difference = first_difference(plan)
        return Kept(difference.lines() if difference else ["two more runs agree: chance from outside got in"], {})
    small = smallest(plan, core_class, seconds_max=seconds_max, tell=tell)
    again = run(small, core_class)
    texts = {
        "plan": json.dumps(small.document(), indent=1),
        "transcript": transcript(small, core_class),
        "page": page(again, small, core_class),
    }
    files = {what: base.with_name(f"{base.name}{SUFFIXES[what]}") for what in texts}
    for what, text in texts.items():
        files[what].write_text(text, encoding="utf-8")
    lines = [
        f"smallest plan found: {measure(small)}; {again.violation}",
        f"  transcript {files['transcript']}, page {files['page']}",
        f"  python -m arc sim replay {files['plan']}",
    ]
    return Kept(lines, {what: str(file) for what, file in files.items()})
