"""``arc sim``: what a person and a program see of it."""

from __future__ import annotations

import json
from pathlib import Path

from arc.cli.exits import OK, USAGE
from tests.cli.conftest import Run, document


def test_run_tells_the_same_digest_each_time(run: Run) -> None:
    first, second = (document(run("sim", "run", "partition", "--seed", "3", "--json")) for _ in range(2))
    assert first == second
    assert (first["scenario"], first["seed"], first["verdict"]) == ("partition", 3, "passed")
    assert first["simulated_seconds"] > 10 and first["events"] > 1000 and first["faults"]["partition"] == 5
    assert first["probes"]["vote_granted"] > 0


def test_a_saved_plan_replays_and_a_page_is_written(run: Run, tmp_path: Path) -> None:
    saved = run("sim", "run", "transfer", "--json", "--save", "plan.json", "--html", "page.html")
    again = run("sim", "replay", "plan.json", "--json")
    assert document(saved) == document(again)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") == 2 and "leader term" in page and "http" not in page


def test_list_names_scenarios_and_swarm_sums_seeds(run: Run) -> None:
    names = [each["scenario"] for each in document(run("sim", "list", "--json"))["scenarios"]]
    assert {"partition", "figure_8", "swarm"} <= set(names)
    swarm = document(run("sim", "swarm", "--seeds", "3", "--json"))
    assert (swarm["seeds"], swarm["failed"], swarm["failures"]) == (3, 0, [])


def test_mutants_names_the_killer(run: Run) -> None:
    result = run("sim", "mutants", "--only", "K-01", "--json")
    assert result.exit_code == OK
    (only,) = json.loads(result.stdout)["mutants"]
    assert (only["id"], only["killed"], only["killer"]) == ("K-01", True, "I-16")
    assert only["seeds"] >= 1 and only["seconds"] >= 0


def test_unknown_names_are_wrong_usage(run: Run) -> None:
    for arguments in (
        ("run", "nope"),
        ("swarm", "--scenario", "nope"),
        ("mutants", "--only", "K-00"),
        ("replay", "no"),
    ):
        assert run("sim", *arguments).exit_code == USAGE, arguments
