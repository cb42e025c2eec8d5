"""Databases and measurements forgotten: nothing of them comes back, and nothing written behind it is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.lowlevel
import trio.testing

from arc.catalog.commands import Command, DropDatabase, DropMeasurement, Once
from arc.deletion import dropper
from arc.deletion.orders import DropOrder
from arc.errors import Conflict, NotFound, OutcomeUnknown, Unavailable
from tests.deletion.world import World, open_world

MEASUREMENT = DropOrder(database="db", measurement="cpu")
DATABASE = DropOrder(database="db")


def drops(world: World) -> list[Once]:
    """What was proposed, each as often as it was asked for."""
    return [
        command
        for command in world.path.proposer.proposed
        if isinstance(command, Once) and isinstance(command.action, DropDatabase | DropMeasurement)
    ]


@pytest.mark.parametrize("order", [MEASUREMENT, DATABASE])
async def test_rows_of_files_and_buffer_are_gone_and_a_restart_brings_none_back(
    tmp_path: Path, order: DropOrder
) -> None:
    async with open_world(tmp_path) as world:
        await world.write((0, "a", 1.0), (1, "b", 2.0))
        await world.flush()
        await world.write((2, "c", 3.0))
        await world.write((3, "c", 3.0), measurement="disk")
        outcome = await world.dropper.drop(order)
        assert outcome.rows == (3 if order.measurement else 4)
        assert outcome.index == world.path.fsm.catalog.index
        assert world.rows() == [] and world.path.fsm.catalog.schema("db", "cpu") is None
        assert world.rows("disk") == ([(3, "c", 3.0)] if order.measurement else [])
        fsm = world.path.fsm
    async with open_world(tmp_path, fsm=fsm) as again:
        await again.write((9, "z", 9.0))
        assert again.rows() == [(9, "z", 9.0)]
        await again.flush()
        assert again.rows() == [(9, "z", 9.0)]
        assert again.rows("disk") == ([(3, "c", 3.0)] if order.measurement else [])


async def test_what_does_not_exist_is_not_found_and_nothing_is_held(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write((0, "a", 1.0))
        for order in (DropOrder(database="none"), DropOrder(database="db", measurement="none")):
            with pytest.raises(NotFound):
                await world.dropper.drop(order)
        await world.write((1, "a", 1.0))
        assert len(world.rows()) == 2


async def test_a_write_that_races_is_before_the_drop_or_behind_it(tmp_path: Path) -> None:
    """Rows are acknowledged all the time; each write has 2 rows, and half of one is never seen."""
    async with open_world(tmp_path) as world:
        await world.write((0, "a", 1.0))
        written: list[int] = []

        async def write_on() -> None:
            for n in range(1, 200):
                await world.write((2 * n, "a", 1.0), (2 * n + 1, "a", 1.0))
                written.append(n)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write_on)
            while len(written) < 20:
                await trio.lowlevel.checkpoint()
            await world.dropper.drop(DATABASE)
            before = len(written)
        left = [time for time, _, _ in world.rows()]
        assert len(left) % 2 == 0
        assert sorted(left) == list(range(min(left), 400)), "one border, and whole writes on both sides"
        assert min(left) // 2 in (before, before + 1, before + 2)
        await world.flush()
        assert sorted(time for time, _, _ in world.rows()) == sorted(left)


async def test_an_answer_that_was_lost_is_asked_for_under_the_same_number_and_rows_wait_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dropper, "AGAIN_SECONDS", 0.01)
    async with open_world(tmp_path) as world:
        await world.write((0, "a", 1.0))
        lost: list[Command] = []
        is_heard = trio.Event()

        def after(command: Command) -> None:
            if isinstance(command, Once) and not is_heard.is_set():
                lost.append(command)
                raise OutcomeUnknown("the leader is gone")

        world.path.proposer.after = after
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.dropper.drop, MEASUREMENT)
            while len(lost) < 3:  # noqa: ASYNC110 - the attempts are what is waited for
                await trio.sleep(0.001)
            nursery.start_soon(world.write, (7, "z", 7.0))
            await trio.testing.wait_all_tasks_blocked(0.005)
            assert world.rows() == []
            is_heard.set()
        asked = drops(world)
        assert len({(each.client, each.sequence) for each in asked}) == 1
        assert [each.is_retry for each in asked] == [False, *[True] * (len(asked) - 1)]
        assert world.rows() == [(7, "z", 7.0)], "and no late copy took it along"
        assert world.dropper.statistics().unknown_total == len(lost)
        await world.dropper.drop(MEASUREMENT)
        assert drops(world)[-1].sequence == asked[0].sequence + 1


async def test_once_nobody_knows_a_refusal_to_be_asked_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first copy may still be on its way: rows that were let in before it arrives would be gone half."""
    monkeypatch.setattr(dropper, "AGAIN_SECONDS", 0.001)
    async with open_world(tmp_path) as world:
        await world.write((0, "a", 1.0))
        answers: list[Exception] = [OutcomeUnknown("lost"), Unavailable("nobody leads"), OutcomeUnknown("lost again")]

        def before(command: Command) -> None:
            if isinstance(command, Once) and answers:
                raise answers.pop(0)

        world.path.proposer.before = before
        await world.dropper.drop(DATABASE)
        assert answers == [] and world.rows() == []


@pytest.mark.parametrize("order", [MEASUREMENT, DATABASE])
async def test_who_may_have_been_replaced_does_not_say_that_there_is_nothing_to_drop(
    tmp_path: Path, order: DropOrder
) -> None:
    """The next holder may have made it."""
    async with open_world(tmp_path) as world:

        def replaced() -> None:
            raise Unavailable("this node does not hold the writer lease any more")

        world.before_confirmed = replaced
        with pytest.raises(Unavailable, match="any more"):
            await world.dropper.drop(order)
        assert drops(world) == []


async def test_a_drop_that_did_not_happen_changes_nothing_and_rows_come_in_again(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write((0, "a", 1.0))

        def before(command: Command) -> None:
            if isinstance(command, Once):
                raise Unavailable("nobody leads")

        world.path.proposer.before = before
        with pytest.raises(Unavailable, match="nobody leads"):
            await world.dropper.drop(DATABASE)
        await world.write((1, "a", 1.0))
        assert len(world.rows()) == 2


async def test_a_drop_of_a_reign_that_is_over_is_refused(tmp_path: Path) -> None:
    """Its holder knows nothing of rows that came in under the next one."""
    async with open_world(tmp_path) as world:
        await world.write((0, "a", 1.0))

        def before(command: Command) -> None:
            if isinstance(command, Once):
                world.move_lease()

        world.path.proposer.before = before
        with pytest.raises(Conflict) as caught:
            await world.dropper.drop(DATABASE)
        assert caught.value.code == "stale_epoch"
        assert world.rows() == [(0, "a", 1.0)]
