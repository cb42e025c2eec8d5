"""Plans that once broke something, shrunk, and replayed for ever: ``corpus.jsonl``, one a line.

The plan is kept and not the seed, for what a seed draws changes whenever the generator does. Where the bug never was
in the project but was planted, the line has its edits: then the plan must also go on to find it, which shows that it
has not lost its teeth.

``python -m simulations.corpus FILE --fixed-in COMMIT --story TEXT`` adds a plan that `arc sim` wrote.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from simulations.plan import Plan

FILE = Path(__file__).with_name("corpus.jsonl")


class Case(NamedTuple):
    """One line: where it was found (``seed@commit#scenario``), what broke, what repaired it, what it takes."""

    found: str
    killer: str
    fixed_in: str
    story: str
    plan: Plan
    edits: tuple[tuple[str, str, str], ...] = ()
    """(module, old, new): the bug, when it is a planted one."""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self._asdict(), "plan": self.plan.document()}


def read(file: Path = FILE) -> list[Case]:
    """All cases. Raises ValueError or TypeError for a line that is none."""
    return [_case(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]


def add(case: Case, file: Path = FILE) -> None:
    """One more line."""
    with file.open("a", encoding="utf-8") as out:
        out.write(json.dumps(case.document()) + "\n")


def _case(document: dict[str, Any]) -> Case:
    edits = tuple((module, old, new) for module, old, new in document.pop("edits", ()))
    plan = Plan.read(document.pop("plan"))
    return Case(**document, plan=plan, edits=edits)


def main(arguments: Sequence[str] | None = None) -> None:
    """Add a plan file."""
    parser = argparse.ArgumentParser(prog="python -m simulations.corpus", description=__doc__)
    parser.add_argument("file", help="a plan, as arc sim wrote it")
    parser.add_argument("--found", required=True, help="seed@commit#scenario, as the report said")
    parser.add_argument("--killer", required=True, help="the property that broke")
    parser.add_argument("--fixed-in", required=True, help="the commit, or 'planted' or 'open'")
    parser.add_argument("--story", required=True, help="one sentence: what happens, and what was wrong")
    given = parser.parse_args(arguments)
    plan = Plan.read(json.loads(Path(given.file).read_text(encoding="utf-8")))
    add(Case(given.found, given.killer, given.fixed_in, given.story, plan))


if __name__ == "__main__":
    main()
