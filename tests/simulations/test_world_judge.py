"""What the judge of a world takes for wrong: not a row that came between two questions, but a count that stays off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from arc.raft.membership import History
from arc.raft.types import Configuration, Peer
from simulations.checkers.world_agreement import Ghost
from simulations.runner import FAILED, PASSED
from simulations.world import run_world
from simulations.world_client import Client
from simulations.world_judge import LOOKS_MAX, Judge
from simulations.world_plan import WorldPlan

CALM = WorldPlan(seconds=3.0, clients=1)


def off_by_one(patch: pytest.MonkeyPatch, is_off: Callable[[int], bool]) -> None:
    """Count one row more than there are, in those of the answers that are chosen by their number."""
    count = Client.count
    asked = 0

    async def wrong(self: Client, measurement: str, *, server: str = "") -> int | None:
        nonlocal asked
        told = await count(self, measurement, server=server)
        asked += 1
        return told + 1 if told is not None and is_off(asked) else told

    patch.setattr(Client, "count", wrong)


def test_a_count_that_differs_from_rows_that_stay_the_same_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-11: even if it is right the next time, for nothing came meanwhile."""
    off_by_one(monkeypatch, lambda asked: asked == 1)
    outcome = run_world(CALM)
    assert (outcome.verdict, outcome.killer) == (FAILED, "W-11")


def test_rows_that_come_while_they_are_judged_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client wrote a row between the query and count(*), and gave up before it was told so (world seed 70116)."""
    look = Judge.look
    looks = 0

    async def late(self: Judge, server: str) -> object:
        nonlocal looks
        looks += 1
        rows, counts = await look(self, server)
        if looks == 1:
            await self.client.write()
            counts = (await look(self, server))[1]
        return rows, counts

    monkeypatch.setattr(Judge, "look", late)
    outcome = run_world(CALM)
    assert outcome.verdict == PASSED, outcome.violation
    assert outcome.probes["rows_came_while_judged"] == 1


def test_rows_that_never_stop_coming_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """W-11: nobody writes any more, and each request comes once."""
    off_by_one(monkeypatch, lambda asked: True)
    look = Judge.look
    looks = 0

    async def growing(self: Judge, server: str) -> object:
        nonlocal looks
        looks += 1
        await self.client.write()
        return await look(self, server)

    monkeypatch.setattr(Judge, "look", growing)
    outcome = run_world(CALM)
    assert (outcome.verdict, outcome.killer) == (FAILED, "W-11")
    assert looks == LOOKS_MAX + 1


def peers(names: Sequence[str]) -> tuple[Peer, ...]:
    return tuple(Peer(name) for name in names)


@pytest.mark.parametrize(
    ("voters", "outgoing", "may_go"),
    [
        ("abc", "", "abcdz"),
        ("ab", "", "cdz"),
        ("a", "", "bcdz"),
        ("abc", "ad", "bcz"),
        ("abcd", "", "abcdz"),
    ],
)
def test_who_may_lose_a_disk_is_read_from_the_newest_configuration(voters: str, outgoing: str, may_go: str) -> None:
    """Whoever left has taken a vote along: of the two that stayed one lost its disk (world seed 610133)."""
    newest = History(7, Configuration(voters=peers(voters), outgoing=peers(outgoing)))
    older = History(6, Configuration(voters=peers("abcde")))
    ghost, cores = Ghost(), {"a": newest, "b": older}
    ghost.cores = {name: _core(history) for name, history in cores.items()}
    assert [name for name in "abcdz" if ghost.can_lose(name)] == list(may_go)


def _core(history: History) -> Any:
    return SimpleNamespace(state=SimpleNamespace(history=history))
