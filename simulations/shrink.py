"""Makes a failing plan small: fewer faults, a shorter run, fewer clients, as long as the same property breaks.

It edits the plan and never the generator. Order: whole kinds of faults, then single ones by halves (ddmin), then the
end, the clients, guided crashes and the masks of the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from arc.raft.core import RaftCore
from simulations.fabric import NetworkShape
from simulations.plan import Fault, Plan
from simulations.runner import FAILED, run

RUNS_MAX = 400


def smallest(plan: Plan, core_class: type[Any] = RaftCore, *, tell: Callable[[str], None] = lambda _: None) -> Plan:
    """A smaller plan that breaks the same property. One that breaks nothing comes back as it is."""
    first = run(plan, core_class)
    if first.verdict != FAILED:
        tell("the plan does not fail: nothing to shrink")
        return plan
    runs = 0

    def fails(candidate: Plan) -> bool:
        nonlocal runs
        runs += 1
        return runs <= RUNS_MAX and run(candidate, core_class).killer == first.killer

    def attempt(candidate: Plan) -> None:
        nonlocal plan
        if candidate != plan and fails(candidate):
            plan = candidate

    for kind in sorted({fault.kind for fault in plan.faults}):
        attempt(replace(plan, faults=tuple(fault for fault in plan.faults if fault.kind != kind)))
    plan = replace(plan, faults=_ddmin(plan.faults, lambda faults: fails(replace(plan, faults=faults))))
    attempt(replace(plan, guided=0.0))
    attempt(replace(plan, network=NetworkShape()))
    attempt(replace(plan, clocks=()))
    attempt(replace(plan, calm_seconds=0.0))
    for clients in range(1, plan.clients):
        attempt(replace(plan, clients=clients))
    for share in (0.25, 0.5, 0.75):
        attempt(replace(plan, seconds=round(plan.seconds * share, 3)))
    tell(f"{first.killer}: {len(plan.faults)} faults, {plan.seconds:g} s, after {runs} runs")
    return plan


def _ddmin(faults: tuple[Fault, ...], fails: Callable[[tuple[Fault, ...]], bool]) -> tuple[Fault, ...]:
    """Drop what is not needed, by halves first (Zeller and Hildebrandt, 2002)."""
    size = max(len(faults) // 2, 1)
    while faults:
        start, is_smaller = 0, False
        while start < len(faults):
            candidate = faults[:start] + faults[start + size :]
            if fails(candidate):
                faults, is_smaller = candidate, True
            else:
                start += size
        if size == 1 and not is_smaller:
            break
        size = max(size // 2, 1)
    return faults
