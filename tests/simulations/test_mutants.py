"""The simulator notices bugs: planted ones die, by the property that names them; and the table fits the code."""

from __future__ import annotations

import pytest

from simulations.mutants.matrix import hunt
from simulations.mutants.plant import Edit, NotPlantable, patched, plant
from simulations.mutants.table import TABLE, TIERS
from simulations.plan import Plan
from simulations.runner import FAILED, run
from simulations.scenarios import BY_NAME
from simulations.shrink import smallest

QUICK = {
    "K-01": "I-16",
    "K-02": "I-12",
    "K-13": "I-01",
    "K-16": "I-01",
    "K-28": "I-07",
    "K-29": "I-03",
    "K-31": "I-15",
    "K-34": "I-14",
    "K-37": "I-13",
    "K-46": "I-25",
    "K-47": "I-12",
    "K-77": "I-18",
    "K-85": "I-39",
}


def of(id: str) -> list[Edit]:
    return [edit for mutant in TABLE if mutant.id == id for edit in mutant.edits]


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.id)
def test_every_planted_bug_has_its_place_in_the_code(mutant: object) -> None:
    assert plant(mutant.id, mutant.edits).__name__ == "RaftCore"  # type: ignore[attr-defined]
    assert mutant.tier in TIERS  # type: ignore[attr-defined]


@pytest.mark.parametrize("id", QUICK)
def test_quick_ones_are_killed_by_their_property(id: str) -> None:
    verdict = hunt(next(mutant for mutant in TABLE if mutant.id == id), seeds_max=60)
    assert (verdict.killed, verdict.killer) == (True, QUICK[id])


def test_a_snippet_that_does_not_occur_once_is_refused() -> None:
    with pytest.raises(NotPlantable):
        patched([Edit("append", "no such text", "x")])
    with pytest.raises(NotPlantable):
        patched([Edit("append", "state", "x")])


def test_a_copy_without_edits_behaves_like_the_original() -> None:
    plan = BY_NAME["crash_leader"].plan(5)
    assert run(plan, plant("nothing", [])).document() == run(plan).document()


def test_a_failing_plan_shrinks_to_one_that_fails_alike() -> None:
    core = plant("K-47", of("K-47"))
    plan = BY_NAME["power_cut"].plan(1)
    small = smallest(plan, core)
    assert run(small, core).killer == run(plan, core).killer == "I-12"
    assert len(small.faults) == 0 and isinstance(small, Plan)
    assert run(small).verdict != FAILED
