"""Runs plans and says how they ended, as values: one run, or a campaign of many seeds on some processes."""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from multiprocessing.pool import Pool
from typing import TYPE_CHECKING, Any

from arc.raft.core import RaftCore
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.outcome import FAILED, PASSED, VACUOUS, Outcome
from simulations.plan import Plan
from simulations.quotas import QUOTA_SEEDS, QUOTAS
from simulations.scenarios import BY_NAME

if TYPE_CHECKING:
    from simulations.world_plan import WorldPlan

WORLD = "world"
"""Scenarios of whole nodes are called so, or begin so; all others are of bare cores."""

DIFFERS = "I-36"
"""The same seed was not the same run: nothing to shrink, but something to find (`bisect`)."""

STOPPED = "SIM"
"""Not a checker, but the simulator itself stumbled over what a core did."""

HASH_SEEDS = ("1", "4242")


def run(plan: Plan | WorldPlan, core_class: type[Any] = RaftCore) -> Outcome:
    """One run from its plan: of bare cores, or of whole nodes (which run the project's own core)."""
    if not isinstance(plan, Plan):
        from simulations.world import run_world

        return run_world(plan)
    return run_told(plan, core_class, is_told=False)[0]


def run_told(plan: Plan, core_class: type[Any] = RaftCore, *, is_told: bool = True) -> tuple[Outcome, Cores | None]:
    """One run, with the world it ended in for whoever wants to look."""
    start = time.perf_counter()
    world: Cores | None = None
    verdict, killer, told = PASSED, "", ""
    try:
        world = Cores(plan, core_class, is_told=is_told)
        world.run()
        if not world.elections or not world.ghost.commit or not world.completed:
            verdict, told = VACUOUS, "nothing was elected, committed or answered"
    except Violation as violation:
        verdict, killer, told = FAILED, violation.killer, str(violation)
    except Exception as error:
        verdict, killer = FAILED, STOPPED
        told = f"SIM the simulator stopped: {error!r} {''.join(traceback.format_tb(error.__traceback__)[-2:])}"
    outcome = Outcome(
        plan.scenario,
        plan.seed,
        verdict,
        killer,
        told,
        world.digest if world is not None else "",
        round(world.now, 6) if world is not None else 0.0,
        world.events if world is not None else 0,
        world.elections if world is not None else 0,
        world.ghost.commit if world is not None else 0,
        world.completed if world is not None else 0,
        dict(sorted(world.fault_counts.items())) if world is not None else {},
        dict(sorted((name, count) for name, count in world.probes.items() if count)) if world is not None else {},
        world.touched if world is not None else "",
        time.perf_counter() - start,
    )
    return outcome, world


def run_seed(name_and_seed: tuple[str, int]) -> Outcome:
    """One seed of a scenario. Raises KeyError for an unknown scenario."""
    return run(plan_of(*name_and_seed))


def plan_of(name: str, seed: int) -> Plan | WorldPlan:
    """The plan of a seed. Raises KeyError for an unknown scenario."""
    if name.startswith(WORLD):
        from simulations.scenarios.worlds import NAMED

        return NAMED[name](seed)
    return BY_NAME[name].plan(seed)


def read_plan(document: Mapping[str, Any]) -> Plan | WorldPlan:
    """A plan from a file. Raises KeyError, TypeError or ValueError for what is none."""
    if str(document.get("scenario")).startswith(WORLD):
        from simulations.world_plan import WorldPlan

        return WorldPlan.read(document)
    return Plan.read(document)


class Campaign:
    """The sum of many runs of one scenario."""

    def __init__(self, scenario: str = "swarm") -> None:
        self.scenario = scenario
        self.seeds = 0
        self.events = 0
        self.simulated_seconds = 0.0
        self.faults: Counter[str] = Counter()
        self.probes: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        """Passed, vacuous, or what was broken."""
        self.failures: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        self.seeds += 1
        self.events += outcome.events
        self.simulated_seconds += outcome.simulated_seconds
        self.faults.update(outcome.faults)
        self.probes.update(outcome.probes)
        self.verdicts[outcome.killer or outcome.verdict] += 1
        if outcome.verdict != PASSED:
            self.failures.append(outcome)

    @property
    def is_failed(self) -> bool:
        """Whether a seed failed, or all of them together have seen too little."""
        return bool(self.failures or self.missing())

    def quotas(self) -> dict[str, int]:
        """How often each probe must have been seen, by the number of seeds; nothing is asked below QUOTA_SEEDS."""
        if self.seeds < QUOTA_SEEDS:
            return {}
        quotas = QUOTAS.get(self.scenario, {})
        wanted = {name: int(quota * self.seeds / QUOTA_SEEDS) for name, quota in quotas.items()}
        return {name: quota for name, quota in wanted.items() if quota}

    def missing(self) -> dict[str, tuple[int, int]]:
        """Probes below their quota, as (seen, wanted)."""
        wanted = self.quotas()
        return {name: (self.probes[name], quota) for name, quota in wanted.items() if self.probes[name] < quota}


def run_many(
    name: str,
    seeds: Iterable[int],
    *,
    jobs: int = 1,
    is_twice: bool = False,
    each: Callable[[Outcome], None] = lambda _: None,
) -> Campaign:
    """Run these seeds of a scenario, perhaps twice, in processes with different hash seeds.

    Raises KeyError for a scenario that is unknown.
    """
    plan_of(name, 0)
    campaign = Campaign(name)
    work = [(name, seed) for seed in seeds]
    for outcome in _twice(work, jobs) if is_twice else _outcomes(work, jobs):
        campaign.add(outcome)
        each(outcome)
    return campaign


def _outcomes(work: Iterable[tuple[str, int]], jobs: int) -> Iterator[Outcome]:
    if jobs <= 1:
        yield from map(run_seed, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_seed, work, chunksize=8)


def _twice(work: Iterable[tuple[str, int]], jobs: int) -> Iterator[Outcome]:
    """I-36: all that a run tells is the same wherever it runs."""
    with _pool(HASH_SEEDS[0], (jobs + 1) // 2) as one, _pool(HASH_SEEDS[1], max(jobs // 2, 1)) as other:
        for first, second in zip(one.imap(run_seed, work, 8), other.imap(run_seed, work, 8), strict=True):
            if first.document() == second.document():
                yield first
            else:
                told = f"I-36 two runs of one seed differ: {first.digest} and {second.digest}"
                yield first._replace(verdict=FAILED, killer=DIFFERS, violation=told)


def _pool(hash_seed: str, jobs: int) -> Pool:
    """Processes that hash text in their own way; a child takes this from its environment when it starts."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = hash_seed
    try:
        return multiprocessing.get_context("spawn").Pool(jobs)
    finally:
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


__all__ = [
    "FAILED",
    "PASSED",
    "VACUOUS",
    "Campaign",
    "Outcome",
    "plan_of",
    "read_plan",
    "run",
    "run_many",
    "run_seed",
    "run_told",
]
