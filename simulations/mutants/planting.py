"""How rows of the tables of whole nodes are spelled: a bug, and the story or the tests that must notice it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from simulations.mutants.mutant import TIERS, Hunt, Mutant
from simulations.mutants.plant import Edit

SEEDS = TIERS["A"]
"""A story that was chosen for a bug shows it within so many seeds, unless its row says otherwise."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


def by_story(
    id: str,
    layer: str,
    what: str,
    scenario: str,
    *edits: Edit,
    seeds: int = SEEDS,
    more: Mapping[str, Any] = NOTHING,
) -> Mutant:
    """A bug that a story of whole nodes must show; ``more`` changes its plan."""
    return Mutant(id, what, "A", edits, layer=layer, hunt=Hunt(scenario, seeds, more))


def by_tests(id: str, layer: str, what: str, tests: tuple[str, ...], *edits: Edit) -> Mutant:
    """A bug for which a story is a poor instrument; these tests must fail."""
    return Mutant(id, what, "A", edits, layer=layer, tests=tests)


__all__ = ["SEEDS", "Edit", "by_story", "by_tests"]
