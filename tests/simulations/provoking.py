"""Seeds until one provokes a planted bug: which does is decided anew by every change of timing.

A library that takes one step more, or another version of Python, is such a change. One fixed seed would make a test
that is red on some machines with nothing broken; that none of many provokes it is what must not be.
"""

from __future__ import annotations

from collections.abc import Callable

from simulations.outcome import Outcome
from simulations.runner import FAILED
from simulations.world import run_world
from simulations.world_plan import WorldPlan

TRIES = 10


def provoke(plan: Callable[[int], WorldPlan], first: int) -> Outcome:
    """The first of ten worlds that fails, else the last. ``first`` is the seed of the one that is known to fail."""
    for seed in range(first, first + TRIES):
        outcome = run_world(plan(seed))
        if outcome.verdict == FAILED:
            break
    return outcome
