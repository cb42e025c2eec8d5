"""What a planted bug is: its row of the reference (section 4), what it does, and where."""

from __future__ import annotations

from typing import NamedTuple

from simulations.mutants.plant import Edit

TIERS = {"A": 200, "B": 600, "C": 2000}
"""Seeds after which a survivor is a failure: several times the median that the tier asks for (20, 200, 2000)."""


class Mutant(NamedTuple):
    """One planted bug."""

    id: str
    what: str
    tier: str
    edits: tuple[Edit, ...]


def one(id: str, tier: str, what: str, module: str, old: str, new: str) -> Mutant:
    """A bug that is one replacement."""
    return Mutant(id, what, tier, (Edit(module, old, new),))
