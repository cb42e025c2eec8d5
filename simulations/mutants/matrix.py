"""Runs every planted bug until something kills it: which property, after how many seeds, in how many seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from simulations import swarm
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.mutants.plant import plant
from simulations.mutants.table import TABLE, TIERS, Mutant
from simulations.plan import Plan
from simulations.scenarios import TABLE as TABLE_OF_SCENARIOS


class Verdict(NamedTuple):
    """How one planted bug fared. ``seeds`` is how many were run, the killing one included."""

    id: str
    killed: bool
    killer: str
    seeds: int
    seconds: float
    tier: str
    what: str

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {**self._asdict(), "seconds": round(self.seconds, 2)}


def campaign_plan(number: int) -> Plan:
    """The standard campaign: two drawn plans, then a named scenario, all of them in turn."""
    if number % 3 < 2:
        return swarm.draw(number)
    return TABLE_OF_SCENARIOS[number // 3 % len(TABLE_OF_SCENARIOS)].plan(number)


def hunt(mutant: Mutant, first_seed: int = 0, seeds_max: int | None = None) -> Verdict:
    """Run seeds until the bug shows. Raises NotPlantable."""
    core = plant(mutant.id, mutant.edits)
    start = time.perf_counter()
    count = seeds_max or TIERS[mutant.tier]
    for number in range(count):
        try:
            Cores(campaign_plan(first_seed + number), core).run()
        except Violation as violation:
            seconds = time.perf_counter() - start
            return Verdict(mutant.id, True, violation.killer, number + 1, seconds, mutant.tier, mutant.what)
    return Verdict(mutant.id, False, "", count, time.perf_counter() - start, mutant.tier, mutant.what)


def hunt_all(only: Iterable[str] = (), seeds_max: int | None = None) -> Iterator[Verdict]:
    """Every planted bug, or those of these ids. Raises KeyError for an id that is not in the table."""
    wanted = list(only)
    unknown = sorted(set(wanted) - {mutant.id for mutant in TABLE})
    if unknown:
        raise KeyError(f"no planted bug {', '.join(unknown)}")
    for mutant in TABLE:
        if not wanted or mutant.id in wanted:
            yield hunt(mutant, seeds_max=seeds_max)
