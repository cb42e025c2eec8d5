"""A run is written down in the language of the conversations, and what is written down runs again, to the letter."""

from __future__ import annotations

import pytest

from simulations import swarm
from simulations.mutants.plant import Edit, plant
from simulations.runner import run
from simulations.scenarios import BY_NAME
from simulations.shrink import smallest
from simulations.spelling import pairs, ranges
from simulations.transcript import transcript
from tests.raft.test_conversations import retell

SCENARIOS = ("full_disk", "membership", "power_cut", "snapshots", "transfer")

ACKNOWLEDGED_TOO_EARLY = [Edit("append", "covers = match if status is AppendStatus.ACCEPTED else 0", "covers = 0")]


@pytest.mark.parametrize("seed", range(5))
def test_a_drawn_life_is_retold_to_the_letter(seed: int) -> None:
    """Crashes, torn tails, snapshots, changes of members, clocks of their own: nothing of it is left out."""
    told = transcript(swarm.draw(seed))
    assert retell(told) == told


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_is_retold_to_the_letter(scenario: str) -> None:
    told = transcript(BY_NAME[scenario].plan(1))
    assert retell(told) == told


def test_a_shrunk_failure_is_a_short_conversation_that_fails_again() -> None:
    """Planted: a follower acknowledges before its disk does (K-47). The sound core tells another story."""
    core = plant("told", ACKNOWLEDGED_TOO_EARLY)
    plan = BY_NAME["power_cut"].plan(1)
    killer = run(plan, core).killer
    told = transcript(smallest(plan, core, seconds_max=20), core)
    assert killer in told.splitlines()[0] and f"# ids: {killer}" in told
    assert len(told.splitlines()) < 100
    assert retell(told, core) == told
    assert retell(told) != told


def test_ranges_are_read_back() -> None:
    terms = [(3, 1), (4, 1), (5, 2), (7, 2)]
    assert ranges(terms) == "3..4@1,5@2,7@2"
    assert list(pairs("3..4@1,5@2,7@2")) == terms
    assert (ranges([]), list(pairs("-"))) == ("-", [])
