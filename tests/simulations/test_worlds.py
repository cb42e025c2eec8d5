"""Every named world runs once, two only in the long campaign: nothing is lost, doubled or out of order, and what the
name says did happen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from simulations.runner import PASSED, plan_of
from simulations.scenarios.worlds import NAMED, WORLDS
from simulations.world import World, run_world_told
from simulations.world_plan import WorldPlan

HAPPENED: dict[str, Callable[[World], bool]] = {
    "world_asymmetric": lambda world: world.faults["asymmetric"] == 2,
    "world_both": lambda world: len(world.leases.takeovers()) >= 1 and world.faults["both"] == 1,
    "world_clock": lambda world: world.trace.probes["ordered_failover_200"] == 1 and world.faults["clock"] == 6,
    "world_compaction": lambda world: world.trace.probes["swapped_files"] > 3,
    "world_continuous": lambda world: world.trace.probes["windows_seen"] > 3 and world.faults["crash_in_write"] == 2,
    "world_drops": lambda world: world.trace.probes["dropped_200"] >= 2,
    "world_flap": lambda world: world.faults["flap"] == 1,
    "world_joins": lambda world: len(world.members) == 3 and {"n4", "n5"} <= world.members.keys(),
    "world_leader_loss": lambda world: len(world.ghost.leaders) >= 3,
    "world_paused_primary": lambda world: len(world.leases.epochs) >= 2,
    "world_registrar_leader_loss": lambda world: len(world.ghost.leaders) >= 3,
    "world_retention": lambda world: bool(world.trace.probes["retention_seen_at_work"]),
    "world_rolling": lambda world: all(machine.lives >= 3 for machine in world.machines),
    "world_narrow_writer": lambda world: (
        len(world.leases.takeovers()) == 1 and world.trace.probes["line_was_narrow"] > 0
    ),
    "world_stalled_writer": lambda world: len(world.leases.takeovers()) == 1 and world.faults["stall_disk"] == 1,
    "world_store": lambda world: world.bucket is not None and len(world.bucket.bodies) > 3,
    "world_two_failovers": lambda world: len({each.lost for each in world.leases.takeovers()}) == 2,
    "world_two_lost": lambda world: len(world.leases.takeovers()) >= 1 and world.trace.probes["asked_strongly"] > 50,
    "world_wiped": lambda world: any(name.startswith("ordered_n") for name in world.trace.probes),
    "world_writer_loss": lambda world: len(world.leases.takeovers()) == 1,
    "world_wrong_secret": lambda world: bool(world.strangers) and world.strangers[0].lives == 1,
    "world_years_ahead": lambda world: (
        bool(world.trace.probes["retention_seen_at_work"]) and world.faults["clock"] == 2
    ),
}


SEEDS = {"world_drops": 3}
"""The seed by which a story happens, where it is not the first one."""


LONG_LIVES = frozenset({"world_narrow_writer", "world_two_lost"})
"""Half a minute each; `make sim-long` runs them."""


def of_a_story(name: str) -> Any:
    return pytest.param(name, id=name, marks=[pytest.mark.long] if name in LONG_LIVES else [])


@pytest.mark.parametrize("name", [of_a_story(name) for name, _, _ in WORLDS])
def test_a_named_world_is_sound(name: str) -> None:
    outcome, world = run_world_told(NAMED[name](SEEDS.get(name, 1)), is_told=False)
    assert outcome.verdict == PASSED, outcome.violation
    assert HAPPENED[name](world), (world.faults, world.trace.probes, world.leases.takeovers())
    assert world.rows.acknowledgements > 10
    assert world.rows.watermarks > 10


def test_every_named_world_is_run() -> None:
    assert HAPPENED.keys() == {name for name, _, _ in WORLDS}


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_plan_of_a_world_is_found_by_its_name_and_read_back_equal(name: str) -> None:
    plan = plan_of(name, 5)
    assert isinstance(plan, WorldPlan)
    assert WorldPlan.read(plan.document()) == plan
    assert plan.scenario == name or name == "world_named"


def test_drawn_worlds_have_everything_now_and_then() -> None:
    plans = [plan_of("world", seed) for seed in range(300)]
    worlds = [plan for plan in plans if isinstance(plan, WorldPlan)]
    kinds = {fault.kind for plan in worlds for fault in plan.faults}
    assert {"both", "failover", "drain", "rolling", "wipe", "join", "leave", "asymmetric", "flap"} <= kinds
    assert {plan.size for plan in worlds} == {1, 2, 3, 4, 5, 6, 7}
    assert {role for plan in worlds for role in plan.roles} == {"standalone", "writer", "reader", "compactor"}
    assert {plan.founding for plan in worlds} == {"join", "seeds"}
    assert {plan.has_store for plan in worlds} == {True, False}
    assert {"store_away", "lose_files"} <= kinds
    for has in ("has_continuous", "has_retention", "has_drops"):
        assert {getattr(plan, has) for plan in worlds} == {True, False}
    assert {plan.window_seconds for plan in worlds if plan.has_continuous} == {120.0, 300.0, 600.0}
    for plan in worlds:
        able = [number for number in range(plan.size) if plan.role(number) in ("standalone", "writer")]
        assert len(able) >= min(plan.size, 2), "somebody must be able to take over"
