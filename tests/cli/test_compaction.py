"""`arc compaction` against a node that answers as the API does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.api.fakes import World
from tests.cli.conftest import Run, document
from tests.cli.fake_node import Answer, Asked, FakeNode, refusal

BASE = "/api/v1/compaction"


async def _answers() -> Mapping[str, Any]:
    """What the API makes of a compactor that has done one job and does another."""
    found = {}
    async with World().client() as client:
        for path in ("/status", "/jobs", "/stats", "/candidates", "/history"):
            found[path] = (await client.get(BASE + path)).json()
        for path in ("/trigger", "/pause", "/resume", "/cancel"):
            found[path] = (await client.post(BASE + path)).json()
    return found


def ask(run: Run, node: FakeNode, answers: Mapping[str, Any], *arguments: str) -> Any:
    def answer(asked: Asked) -> Answer:
        return Answer(document=answers[asked.path.removeprefix(BASE)])

    node.answer = answer
    return run("compaction", *arguments, "--endpoint", node.endpoint)


async def test_status_shows_who_compacts_what_and_how_far(run: Run, node: FakeNode) -> None:
    answers = await _answers()
    found = ask(run, node, answers, "status")
    assert found.exit_code == 0, found.stderr
    assert "n2 compacts" in found.stdout
    assert "now: daily db/cpu/2026/05/28, 6 files, merging, 25 %" in found.stdout
    assert "hourly\t1\t4\t0.003" in found.stdout
    assert document(ask(run, node, answers, "status", "--json"))["jobs"][0]["job"] == 8


async def test_lists_are_tables_or_the_document(run: Run, node: FakeNode) -> None:
    answers = await _answers()
    found = ask(run, node, answers, "history", "--limit", "3")
    assert "db/cpu/2026/05/28/17\t4\t40\t4000\t1000" in found.stdout
    assert node.asked[-1].query == {"limit": "3"}
    assert document(ask(run, node, answers, "candidates", "--json")) == {"count": 0, "candidates": []}


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (("trigger", "--tier", "hourly", "-d", "db"), "cycle 3"),
        (("pause",), "paused"),
        (("resume",), "goes on"),
        (("cancel",), "given up"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
async def test_an_order_is_posted_and_its_outcome_told(
    order: tuple[str, ...], told: str, run: Run, node: FakeNode
) -> None:
    found = ask(run, node, await _answers(), *order)
    assert found.exit_code == 0 and told in found.stdout
    assert (node.asked[-1].method, node.asked[-1].path) == ("POST", f"{BASE}/{order[0]}")
    if order[0] == "trigger":
        assert node.asked[-1].query == {"tier": "hourly", "database": "db"}


def test_a_refusal_is_told_with_its_reason(run: Run, node: FakeNode) -> None:
    node.script(refusal(503, "n1 does not compact; nobody does just now", "not_compactor"))
    found = run("compaction", "status", "--endpoint", node.endpoint)
    assert found.exit_code != 0 and "nobody does just now" in found.stderr
