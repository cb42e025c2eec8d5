"""Runs plans and says how they ended, as values: one run, or a campaign of many seeds on some processes."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from arc.raft.core import RaftCore
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.plan import Plan
from simulations.scenarios import BY_NAME

PASSED, FAILED, VACUOUS = "passed", "failed", "vacuous"

QUOTAS = {
    "answer_Readable": 500,
    "answer_Unknown": 10,
    "campaign_waits_for_disk": 1,
    "catch_up_done": 1,
    "committed_while_joint": 1,
    "crash_of_leader": 50,
    "cut": 20,
    "cut_of_several": 5,
    "disk_full_refused_a_write": 10,
    "disk_full_then_free": 10,
    "handover_sent": 5,
    "leader_crash_between_append_and_commit": 20,
    "leader_disk_stalled": 1,
    "leader_lost_quorum": 10,
    "leader_removed": 1,
    "lease_read": 50,
    "membership": 50,
    "membership_reverted": 1,
    "overloaded": 10,
    "pre_vote_granted": 100,
    "pre_vote_refused": 100,
    "read_early": 50,
    "retry_deduplicated": 10,
    "snapshot_installed": 20,
    "tail_lost": 10,
    "tail_torn": 10,
    "unknown_outcome_retried": 50,
    "vote_shielded": 10,
    "window_full": 50,
    "wing_gong_searched": 200,
}
"""What a campaign of 500 swarm seeds must have seen, else it tested less than it claims (reference, 5.4)."""

QUOTA_SEEDS = 500


class Outcome(NamedTuple):
    """How one run ended."""

    scenario: str
    seed: int
    verdict: str
    killer: str
    violation: str
    digest: str
    simulated_seconds: float
    events: int
    elections: int
    commits: int
    operations: int
    faults: dict[str, int]
    probes: dict[str, int]
    wall_seconds: float

    def document(self) -> dict[str, Any]:
        """As JSON values; wall time is left out, for it is the only thing that differs between equal runs."""
        return {name: value for name, value in self._asdict().items() if name != "wall_seconds"}


def run(plan: Plan, core_class: type[Any] = RaftCore) -> Outcome:
    """One run from its plan."""
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
        time.perf_counter() - start,
    )
    return outcome, world


def run_seed(name_and_seed: tuple[str, int]) -> Outcome:
    """One seed of a scenario. Raises KeyError for an unknown scenario."""
    name, seed = name_and_seed
    return run(BY_NAME[name].plan(seed))


class Campaign:
    """The sum of many runs."""

    def __init__(self) -> None:
        self.seeds = 0
        self.events = 0
        self.simulated_seconds = 0.0
        self.faults: Counter[str] = Counter()
        self.probes: Counter[str] = Counter()
        self.failures: list[Outcome] = []

    def add(self, outcome: Outcome) -> None:
        """One more run."""
        self.seeds += 1
        self.events += outcome.events
        self.simulated_seconds += outcome.simulated_seconds
        self.faults.update(outcome.faults)
        self.probes.update(outcome.probes)
        if outcome.verdict != PASSED:
            self.failures.append(outcome)

    def missing(self) -> dict[str, tuple[int, int]]:
        """Probes below their quota, as (seen, wanted), scaled to the number of seeds; none below QUOTA_SEEDS seeds."""
        if self.seeds < QUOTA_SEEDS:
            return {}
        scale = self.seeds / QUOTA_SEEDS
        wanted = {name: max(int(quota * scale), 1) for name, quota in QUOTAS.items()}
        return {name: (self.probes[name], quota) for name, quota in wanted.items() if self.probes[name] < quota}


def run_many(
    name: str, seeds: Iterable[int], *, jobs: int = 1, each: Callable[[Outcome], None] = lambda _: None
) -> Campaign:
    """Run these seeds of a scenario. Raises KeyError for an unknown one."""
    assert name in BY_NAME, name
    campaign = Campaign()
    for outcome in _outcomes(((name, seed) for seed in seeds), jobs):
        campaign.add(outcome)
        each(outcome)
    return campaign


def _outcomes(work: Iterator[tuple[str, int]], jobs: int) -> Iterator[Outcome]:
    if jobs <= 1:
        yield from map(run_seed, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(run_seed, work, chunksize=8)
