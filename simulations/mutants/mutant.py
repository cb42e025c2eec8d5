"""What a planted bug is: its row of the reference (section 4), what it does, where, and what must notice it when.

Tiers are the reference's: the *median* of seeds until the first kill, over disjoint ranges of seeds, must not be above
20 (A), 200 (B) or 2,000 (C). A hunt in one range gives up after a few times that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from simulations.mutants.plant import Edit

TIERS = {"A": 20, "B": 200, "C": 2000}
"""Largest median of seeds that the tier allows (reference, section 4, "Tiers")."""

SEEDS_MAX = {"A": 100, "B": 600, "C": 2000}
"""When a hunt in one range of seeds gives up."""

CORE, DRIVER, DISK, MACHINE, CLIENT = "core", "driver", "disk", "machine", "client"
"""Layers that the simulator of bare cores runs: the core itself, and what stands for the rest around it."""

STORAGE, CODEC = "storage", "codec"
"""Layers that only the real code has: their bugs are planted there and meet that code's own tests."""


class Hunt(NamedTuple):
    """Runs of whole nodes that must notice a bug: a named story, and what its plan has other than the story says.

    ``seeds`` is after how many, at most; ``more`` are fields of `WorldPlan`.
    """

    scenario: str
    seeds: int
    more: Mapping[str, Any]


class Mutant(NamedTuple):
    """One planted bug.

    ``black_box`` is the tier within which client-visible checkers alone must notice it, empty where the reference does
    not ask. ``tests`` is what pytest is asked to run against a private copy of the project instead of a simulation;
    ``hunt`` are whole nodes to be run there. Edits of these two name files below the project's folder.
    """

    id: str
    what: str
    tier: str
    edits: tuple[Edit, ...]
    layer: str = CORE
    black_box: str = ""
    tests: tuple[str, ...] = ()
    hunt: Hunt | None = None


class Kill(NamedTuple):
    """How a hunt in one range ended. ``seeds`` is how many were run, the killing one included; no killer: alive."""

    killer: str
    seeds: int
    seconds: float


def one(id: str, tier: str, what: str, module: str, old: str, new: str, *, black_box: str = "") -> Mutant:
    """A bug of the core that is one replacement."""
    return Mutant(id, what, tier, (Edit(module, old, new),), black_box=black_box)
