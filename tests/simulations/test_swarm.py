"""A few hundred seeds of bare cores: none shows anything, and all of them together have seen enough."""

from __future__ import annotations

from collections import Counter

import pytest

from simulations import swarm
from simulations.cores import Cores

SEEDS = 160
BLOCKS = 8


@pytest.mark.parametrize("block", range(BLOCKS))
def test_drawn_lives_stay_safe_and_recover(block: int) -> None:
    """I-01 to I-39, V-01 to V-10 as far as cores show them; the seed in the message repeats it alone."""
    seen: Counter[str] = Counter()
    for seed in range(block, SEEDS, BLOCKS):
        world = Cores(swarm.draw(seed))
        try:
            world.run()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        seen.update(world.fault_counts)
        assert world.elections and world.ghost.commit and world.completed, f"seed {seed} tested nothing"
    assert seen["restart"] and seen["partition"]
