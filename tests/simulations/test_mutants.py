"""The simulator notices bugs: planted ones die, by the property that names them; and table, code and page fit."""

from __future__ import annotations

import ast
import json
from dataclasses import replace

import pytest

from simulations.cores import Cores
from simulations.mutants import generic, publish, tested
from simulations.mutants.matrix import EVERYTHING, Verdict, campaign_plan, chase, chosen, hunt, seeing, unseeing
from simulations.mutants.mutant import CODEC, SEEDS_MAX, STORAGE, Hunt, Kill, Mutant
from simulations.mutants.plant import CORE, SHARED, Edit, NotPlantable, core_of, patched, plant
from simulations.mutants.rows import EXPLAINED, ROWS
from simulations.mutants.survey import chase_change
from simulations.mutants.table import BLACK_BOX, EQUIVALENT, TABLE, TIERS
from simulations.plan import Plan
from simulations.runner import FAILED, run
from simulations.scenarios import BY_NAME
from simulations.scenarios.worlds import NAMED
from simulations.shrink import smallest
from simulations.world_plan import WorldPlan

LISTED = (
    *(1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 16, 17, 19, 20, 22, 23, 25, 26),
    *(28, 29, 31, 32, 34, 35, 37, 38, 40, 41, 43, 44, 46),
    *(47, 49, 50, 52, 53, 55, 56, 58, 59, 61, 62, 64),
    *(65, 67, 68, 70, 71, 73),
    *(74, 76, 77, 79, 80, 82, 83),
    *(85, 86, 88, 89, 91, 92, 94, 95, 97, 98),
)
"""The rows of the reference, section 4; gaps in the numbering are meant."""

QUICK = {
    "K-01": "I-16",
    "K-02": "I-12",
    "K-04": "I-28",
    "K-19": "E-02",
    "K-20": "E-02",
    "K-22": "Q-01",
    "K-26": "T-01",
    "K-28": "I-07",
    "K-29": "I-03",
    "K-31": "I-15",
    "K-34": "I-14",
    "K-37": "I-13",
    "K-41": "I-31",
    "K-43": "V-10",
    "K-46": "I-25",
    "K-47": "I-12",
    "K-50": "I-12",
    "K-61": "I-05",
    "K-67": "I-23",
    "K-85": "I-39",
    "K-86": "I-21",
    "K-94": "I-24",
    "K-95": "I-24",
}
"""Those that the first seeds kill, with the property that should."""


QUICK_ROWS = {"R-05": {"D-03"}, "R-33": {"W-02"}}
"""Bugs of whole nodes that their story kills at its first seed, with the properties that may say so."""


def of(id: str) -> Mutant:
    return chosen([id])[0]


def test_every_row_of_the_reference_is_planted() -> None:
    assert {mutant.id for mutant in TABLE} >= {f"K-{number:02}" for number in LISTED}
    assert len(LISTED) == len(set(LISTED)) == 66
    assert len({mutant.id for mutant in TABLE}) == len(TABLE)
    assert {*BLACK_BOX, *EQUIVALENT} <= {mutant.id for mutant in TABLE}


@pytest.mark.parametrize("mutant", TABLE, ids=lambda mutant: mutant.id)
def test_every_planted_bug_has_its_place_in_the_code(mutant: Mutant) -> None:
    assert mutant.tier in TIERS and mutant.tier in SEEDS_MAX
    assert bool(mutant.tests) == (mutant.layer in (STORAGE, CODEC) or mutant.id in EQUIVALENT)
    if mutant.tests:
        tested.check(mutant.edits)
        return
    for module, text in patched(mutant.edits).items():
        compile(text, module, "exec")


def test_the_page_has_the_rows_of_the_table() -> None:
    assert publish.ids(publish.PAGE.read_text(encoding="utf-8")) == [mutant.id for mutant in EVERYTHING]


def test_what_was_hunted_alone_joins_the_page_and_rows_that_say_something_else_are_asked_for() -> None:
    page = publish.PAGE.read_text(encoding="utf-8")
    before = publish.standing(page)
    mutant, other = ROWS[0], ROWS[1]
    kills = (Kill("D-99", 3, 7.0), Kill("", 20, 9.0), Kill("", 20, 9.0))
    verdict = Verdict(mutant.id, False, "D-99", 20, 9.0, "A", mutant.what, mutant.layer, kills)
    told = publish.with_nodes(page, [verdict.document()], "one core")
    after = publish.standing(told)
    assert "| **1 of 3** | 20 | 9 | D-99 |" in after.pop(mutant.id)
    assert after == {id: row for id, row in before.items() if id != mutant.id}
    assert f"**{len(ROWS) - 1} of {len(ROWS)} killed.**" in told and "Ranges of seeds: 3;" in told
    assert told.partition("## Bugs of whole nodes")[0] == page.partition("## Bugs of whole nodes")[0]
    with pytest.raises(ValueError, match=f"of {other.id}$"):
        publish.with_nodes(page.replace(other.what, "what it once did"), [verdict.document()], "one core")


def test_bugs_of_whole_nodes_are_many_and_most_stories_are_theirs() -> None:
    assert len({mutant.id for mutant in EVERYTHING}) == len(EVERYTHING)
    assert len(ROWS) >= 25 and sum(mutant.hunt is not None for mutant in ROWS) >= 15
    assert {*EXPLAINED, *QUICK_ROWS} <= {mutant.id for mutant in ROWS}


@pytest.mark.parametrize("mutant", ROWS, ids=lambda mutant: mutant.id)
def test_every_bug_of_whole_nodes_has_its_place_in_the_code_and_something_to_notice_it(mutant: Mutant) -> None:
    tested.check(mutant.edits)
    for path in {edit.module for edit in mutant.edits}:
        text = (tested.ROOT / path).read_text(encoding="utf-8")
        for edit in mutant.edits:
            text = text.replace(edit.old, edit.new) if edit.module == path else text
        ast.parse(text)
    assert bool(mutant.tests) != bool(mutant.hunt)
    for name in mutant.tests:
        assert not name.startswith("tests/") or (tested.ROOT / name).exists()
    if mutant.hunt is not None:
        plan = replace(NAMED[mutant.hunt.scenario](1), **mutant.hunt.more)
        assert WorldPlan.read(json.loads(json.dumps(plan.document()))) == plan


@pytest.mark.parametrize("id", QUICK_ROWS)
def test_quick_ones_of_whole_nodes_are_killed_by_their_property(id: str) -> None:
    assert tested.chase(of(id), 1, 1).killer in QUICK_ROWS[id]


def test_a_bug_that_no_story_shows_is_killed_by_the_tests_of_its_code() -> None:
    assert tested.run(of("R-15")).killer == "test_insync.py::test_another_reign_may_not_change_it"


def test_whole_nodes_of_a_copy_without_edits_are_sound() -> None:
    clean = Mutant("nothing", "", "A", (), hunt=Hunt("world_writer_loss", 1, {}))
    assert tested.chase(clean, 1)[:2] == ("", 1)


@pytest.mark.parametrize("id", QUICK)
def test_quick_ones_are_killed_by_their_property(id: str) -> None:
    verdict = hunt(of(id), seeds_max=20)
    assert (verdict.killed, verdict.killer) == (True, QUICK[id])


def test_bugs_that_clients_can_see_are_seen_by_what_clients_see_alone() -> None:
    kill = chase(unseeing(of("K-85")), 0, 8)
    assert kill.killer == "LIN"


def test_nothing_is_wrong_with_a_copy_without_edits() -> None:
    clean = Mutant("nothing", "", "A", ())
    assert chase(seeing(clean), 0, 2).killer == ""
    assert chase(unseeing(clean), 0, 2).killer == ""


def test_small_changes_are_the_same_for_a_seed() -> None:
    assert generic.drawn(40, 1) == generic.drawn(40, 1) != generic.drawn(40, 2)


def test_a_small_change_is_hunted_like_a_row() -> None:
    change = next(it for it in generic.changes("log", patched(())["log"]) if it.old.startswith("(last_term, last_in"))
    assert chase_change(change, "small", 8).killer in ("E-04", "P-01", "V-01")


@pytest.mark.parametrize("module", generic.MODULES)
def test_every_small_change_is_a_program(module: str) -> None:
    text = patched(())[module]
    for change in generic.changes(module, text):
        assert text[change.start : change.end] == change.old != change.new
        compile(text[: change.start] + change.new + text[change.end :], module, "exec")


def test_a_snippet_that_does_not_occur_once_is_refused() -> None:
    with pytest.raises(NotPlantable):
        patched([Edit("append", "no such text", "x")])
    with pytest.raises(NotPlantable):
        patched([Edit("append", "state", "x")])
    with pytest.raises(NotPlantable):
        tested.check([Edit("arc/raft/codec.py", "no such text", "x")])


def test_a_copy_has_its_own_of_everything_that_decides() -> None:
    core = core_of("own", patched(()))
    assert core.__module__.startswith("arc_raft_own")
    assert not {*CORE} & {*SHARED}
    assert not [name for name in vars(core) if getattr(getattr(core, name), "__module__", "").startswith("arc.raft.")]


def test_a_copy_without_edits_behaves_like_the_original() -> None:
    plan = BY_NAME["crash_leader"].plan(5)
    assert run(plan, plant("nothing", [])).document() == run(plan).document()


def test_the_campaign_is_settled_by_its_number() -> None:
    assert [campaign_plan(number) for number in range(12)] == [campaign_plan(number) for number in range(12)]
    Cores(campaign_plan(3)).run()


def test_a_failing_plan_shrinks_to_one_that_fails_alike() -> None:
    core = plant("K-47", of("K-47").edits)
    plan = BY_NAME["power_cut"].plan(1)
    small = smallest(plan, core)
    assert run(small, core).killer == run(plan, core).killer == "I-12"
    assert len(small.faults) == 0 and isinstance(small, Plan)
    assert run(small).verdict != FAILED
