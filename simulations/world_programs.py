"""Programs of a world that have something done with their rows, each in measurements of its own where that can be:
`world_continuous`, `world_expiry` and `world_drops`. Which of them a world has its plan says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from simulations.chance import stream
from simulations.world_client import Client
from simulations.world_continuous import Summing
from simulations.world_drops import KILLER as DROPPED
from simulations.world_drops import Drops
from simulations.world_expiry import AGE_SECONDS, MEASUREMENT, Expiry
from simulations.world_expiry import KILLER as EXPIRED
from simulations.world_history import History
from simulations.world_judge import Judge
from simulations.world_plan import WorldPlan
from simulations.world_trace import Trace


class Program(Protocol):
    """It works until ``stop``, and says then whether all is well."""

    history: History
    stop: bool

    async def run(self) -> None:
        """Work. Raises Violation."""
        ...

    async def judge(self, names: Sequence[str]) -> None:
        """Everything at rest, on these nodes. Raises Violation."""
        ...


class World(Protocol):
    """What programs are made from."""

    plan: WorldPlan
    history: History
    trace: Trace

    def client(self, name: str, plan: WorldPlan, history: History) -> Client:
        """Somebody who uses the database."""
        ...

    def judge(self, name: str, history: History) -> Judge:
        """Somebody who compares a history with what nodes show."""
        ...

    def wall_clocks(self) -> list[int]:
        """Of all nodes, in µs since 1970."""
        ...


def programs(world: World) -> list[Program]:
    """Those that the plan names."""
    plan, found = world.plan, list[Program]()

    if plan.has_continuous:
        chance, own = stream(plan.seed, "program/continuous"), History(())
        client = world.client("summing", plan, own)
        judge = world.judge("judge_of_windows", world.history)
        found.append(Summing(plan, client, own, world.history, judge, world.trace, chance, world.wall_clocks))
    if plan.has_retention:
        chance, old = stream(plan.seed, "program/retention"), History((MEASUREMENT,), killer=EXPIRED)
        aged = replace(plan, rows_age_seconds=AGE_SECONDS)
        client, judge = world.client("expiry", aged, old), world.judge("judge_of_expiry", old)
        found.append(Expiry(aged, client, old, judge, world.trace, chance))
    if plan.has_drops:
        chance, shed = stream(plan.seed, "program/drops"), History((), killer=DROPPED)
        writer, dropper = world.client("drops", plan, shed), world.client("dropper", plan, shed)
        judge = world.judge("judge_of_drops", shed)
        found.append(Drops(plan, writer, dropper, shed, judge, world.trace, chance))
    return found
