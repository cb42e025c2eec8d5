"""``python -m simulations.mutants.trial``, run in a private copy of the project: plans of whole nodes come in as JSON,
and are run one after another until one fails. Says which property did, after how many.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from simulations.runner import PASSED
from simulations.world import run_world
from simulations.world_plan import WorldPlan

ERROR = "ERROR"
"""Killer of a run that ended with an exception instead of a verdict."""


def first_failure(plans: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The killer (empty for none), the number of runs, and what was wrong."""
    seeds = 0
    for document in plans:
        seeds += 1
        try:
            outcome = run_world(WorldPlan.read(document))
        except Exception as error:
            return {"killer": ERROR, "seeds": seeds, "violation": repr(error)}
        if outcome.verdict != PASSED:
            return {"killer": outcome.killer or outcome.verdict, "seeds": seeds, "violation": outcome.violation}
    return {"killer": "", "seeds": seeds, "violation": ""}


if __name__ == "__main__":
    print(json.dumps(first_failure(json.load(sys.stdin))))
