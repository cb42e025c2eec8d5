"""Shows that the specification and the exhaustive search can fail: planted bugs, and which of the two sees each.

Every row is run three times in a planted copy of the core: sampled seeds with the specification beside the copy, the
search by its own properties alone, and the search with the specification on each step. ``python -m
simulations.specmatrix`` prints the table that docs/specification.md holds.
"""

from __future__ import annotations

import sys
import time
from typing import Any, NamedTuple

from simulations import swarm
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.costep import watched
from simulations.exhaustive import Bounds, search
from simulations.mutants.plant import Edit, plant
from simulations.mutants.table import TABLE

SEEDS = 40

SMALL = Bounds(nodes=2, terms=2, entries=1, crashes=1, states_max=60_000)
WIDE = Bounds(nodes=3, terms=1, entries=1, crashes=1, states_max=100_000)
DEEP = Bounds(nodes=3, terms=2, entries=0, crashes=0, states_max=400_000)


class Planted(NamedTuple):
    """A bug, and the bounds in which the search looks for it."""

    id: str
    what: str
    edits: tuple[Edit, ...]
    bounds: Bounds = SMALL


def _known(id: str, bounds: Bounds = SMALL) -> Planted:
    mutant = next(each for each in TABLE if each.id == id)
    return Planted(id, mutant.what, tuple(mutant.edits), bounds)


PLANTED = (
    Planted(
        "P-1",
        "a node votes for whoever asks, also twice",
        (Edit("election", "    if state.vote not in (None, message.sender) or (", "    if False and ("),),
        WIDE,
    ),
    Planted(
        "P-2",
        "one copy is enough to commit",
        (Edit("append", "index = quorum_value(state.groups, matches)", "index = max(matches.values())"),),
    ),
    Planted(
        "P-3",
        "a leader counts itself before its disk is done",
        (Edit("append", "matches[state.me] = state.writes.durable_index", "matches[state.me] = state.log.last_index"),),
    ),
    Planted(
        "P-4",
        "a restart forgets the vote",
        (
            Edit(
                "state",
                "self.term, self.vote = stored.hard_state",
                "self.term, self.vote = stored.hard_state.term, None",
            ),
        ),
    ),
    Planted(
        "P-5",
        "a vote does not ask how far the candidate's log is",
        (Edit("election", "if not state.log.is_up_to_date(last_index, last_term):", "if False:"),),
        DEEP,
    ),
    Planted(
        "P-6",
        "a new term keeps the old vote",
        (
            Edit(
                "state",
                "            self.set_hard_state(term, None)",
                "            self.set_hard_state(term, self.vote)",
            ),
        ),
    ),
    *map(_known, ("K-01", "K-02", "K-04", "K-05", "K-13", "K-16", "K-28", "K-29", "K-31", "K-32", "K-34", "K-35")),
    *map(_known, ("K-37", "K-38", "K-44", "K-47", "K-50", "K-59")),
    _known("K-46", SMALL._replace(rounds=2)),
    *(_known(id, DEEP) for id in ("K-07", "K-10")),
)


def by_seeds(core: type[Any], seeds: int = SEEDS) -> str:
    """After how many seeds the specification beside the core says no; "" if never."""
    beside = watched(core)
    for seed in range(seeds):
        try:
            Cores(swarm.draw(seed), beside).run()
        except Violation as violation:
            if violation.killer == "SPEC":
                return f"seed {seed}"
    return ""


def by_search(core: type[Any], bounds: Bounds, *, has_spec: bool) -> str:
    """Which property the search finds broken, after how many states and how deep; "" if none."""
    result = search(bounds, core, has_spec=has_spec)
    if result.violation is None:
        return ""
    return f"{result.violation.killer}, {result.states:,} states, depth {len(result.violation.path)}"


def row(planted: Planted) -> str:
    """One line of the table."""
    core, start = plant(planted.id, planted.edits), time.perf_counter()
    bounds = f"{planted.bounds.nodes}/{planted.bounds.terms}/{planted.bounds.entries}/{planted.bounds.crashes}"
    found = [
        by_seeds(core),
        by_search(core, planted.bounds, has_spec=False),
        by_search(core, planted.bounds, has_spec=True),
    ]
    cells = [planted.id, planted.what, *(each or "-" for each in found), bounds, f"{time.perf_counter() - start:.1f}"]
    return f"| {' | '.join(cells)} |"


def main(only: list[str]) -> None:
    """Print the table, or these rows of it."""
    print("| id | bug | spec, seeds | search | search and spec | bounds | s |\n|---|---|---|---|---|---|---|")
    for planted in PLANTED:
        if not only or planted.id in only:
            print(row(planted), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
