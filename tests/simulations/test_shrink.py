"""A failing plan becomes small and goes on to fail alike, with what it takes: faults, operations, messages, nodes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from simulations import corpus
from simulations.chance import stream
from simulations.cores import Cores
from simulations.deviations import Deviation, Recording
from simulations.failures import keep
from simulations.mutants.plant import Edit, plant
from simulations.plan import Fault, Plan
from simulations.runner import FAILED, run
from simulations.scenarios import BY_NAME
from simulations.shrink import measure, smallest

TOO_EARLY = [Edit("append", "covers = match if status is AppendStatus.ACCEPTED else 0", "covers = 0")]


def test_a_recorded_network_plays_again() -> None:
    """Chance replaced by the list of what it did: the same elections, commits and operations."""
    plan = BY_NAME["crash_leader"].plan(3)
    world = Cores(plan)
    fabric = world.fabric = Recording(plan.network, stream(plan.seed, "network"))
    world.run()
    told = replace(plan, deviations=tuple(fabric.deviations))
    again = Cores(Plan.read(json.loads(json.dumps(told.document()))))
    again.run()
    for name in ("elections", "completed"):
        assert getattr(again, name) == getattr(world, name), name
    assert again.ghost.commit == world.ghost.commit


def test_messages_do_what_the_list_says_and_nothing_else() -> None:
    calm = Plan(scenario="told", seed=1, seconds=5.0, deviations=())
    lost = tuple(Deviation(one, other, "Append", 1) for one in ("n1", "n2", "n3") for other in ("n1", "n2", "n3"))
    assert run(calm).verdict == run(replace(calm, deviations=lost)).verdict == "passed"
    assert run(calm).digest != run(replace(calm, deviations=lost)).digest
    assert str(lost[1]) == "n1->n2 Append 1 is lost"


def test_only_the_operations_that_are_named_are_asked() -> None:
    plan = Plan(scenario="told", seed=1, seconds=5.0, asked=((1, 1), (2, 3)))
    world = Cores(plan)
    world.run()
    assert sorted((each.client, each.serial) for each in world.history if each.client < 1000) == [(1, 1), (2, 3)]


def test_a_failure_is_kept_as_a_plan_a_transcript_and_a_page(tmp_path: Path) -> None:
    core = plant("kept", TOO_EARLY)
    plan = BY_NAME["power_cut"].plan(1)
    outcome = run(plan, core)
    kept = keep(outcome, plan, tmp_path, seconds_max=10, core_class=core)
    small = Plan.read(json.loads(Path(kept.files["plan"]).read_text()))
    assert run(small, core).killer == outcome.killer and run(small).verdict != FAILED
    assert outcome.killer in Path(kept.files["transcript"]).read_text()
    assert "<svg" in Path(kept.files["page"]).read_text()
    assert kept.lines[-1].strip() == f"python -m arc sim replay {kept.files['plan']}"


def test_a_plan_that_does_not_fail_stays_as_it_is() -> None:
    told: list[str] = []
    plan = BY_NAME["calm"].plan(1)
    assert smallest(plan, tell=told.append) is plan
    assert "nothing to shrink" in told[0]
    assert measure(Plan(faults=(Fault(1.0, "heal"),))) == "1 faults, 3 nodes, 15 s"


@pytest.mark.parametrize("case", corpus.read(), ids=lambda case: case.found)
def test_a_plan_of_the_corpus_breaks_nothing_any_more(case: corpus.Case) -> None:
    """And where its bug is known as an edit, it still finds it: the case has not lost its teeth."""
    assert run(case.plan).verdict != FAILED, case.story
    if case.edits:
        assert run(case.plan, plant("corpus", [Edit(*edit) for edit in case.edits])).killer == case.killer, case.story


def test_a_case_is_written_and_read_back(tmp_path: Path) -> None:
    case = corpus.Case("1@abc#swarm", "I-01", "def", "two leaders", BY_NAME["partition"].plan(1), (("core", "a", "b"),))
    corpus.add(case, tmp_path / "corpus.jsonl")
    corpus.add(case, tmp_path / "corpus.jsonl")
    assert corpus.read(tmp_path / "corpus.jsonl") == [case, case]
