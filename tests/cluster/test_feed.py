"""The feed: every subscriber learns what is true, in order; a slow one in one piece."""

from __future__ import annotations

import trio
import trio.testing

from arc.catalog.commands import Command, CreateDatabase, DropDatabase
from arc.catalog.events import DatabaseCreated
from arc.catalog.fsm import ClusterFSM
from arc.cluster.feed import Change, Feed


def tell(machine: ClusterFSM, feed: Feed, command: Command) -> None:
    applied = machine.apply(machine.catalog.index + 1, command)
    feed.publish(machine.catalog, applied.events)


def create(name: str) -> Command:
    return CreateDatabase(name=name, created_us=1)


async def test_changes_come_in_order_with_their_versions() -> None:
    machine, feed = ClusterFSM(), Feed()
    with feed.subscribe() as changes:
        tell(machine, feed, create("a"))
        tell(machine, feed, create("b"))
        first, second = await changes.receive(), await changes.receive()
    assert (first.events, first.index, "b" in first.catalog.databases) == ((DatabaseCreated("a"),), 1, False)
    assert (second.events, second.index) == ((DatabaseCreated("b"),), 2)


async def test_a_slow_subscriber_gets_one_difference_instead_of_a_loss() -> None:
    machine, feed = ClusterFSM(), Feed()
    with feed.subscribe(queue_changes_max=2) as changes:
        for name in ("a", "b", "c", "d"):
            tell(machine, feed, create(name))
        tell(machine, feed, DropDatabase(name="a"))
        change = changes.receive_nowait()
        assert change is not None
        assert change.folded
        assert change.events == (DatabaseCreated("b"), DatabaseCreated("c"), DatabaseCreated("d"))
        assert change.catalog is machine.catalog
        assert changes.receive_nowait() is None
        tell(machine, feed, create("e"))
        assert (await changes.receive()).events == (DatabaseCreated("e"),)
    assert feed.statistics().folds == 1


async def test_a_restart_tells_the_difference() -> None:
    machine, feed = ClusterFSM(), Feed()
    machine.apply(1, create("a"))
    with feed.subscribe() as changes:
        feed.restart(machine.catalog)
        assert await changes.receive() == Change(machine.catalog, (DatabaseCreated("a"),), folded=True)


async def test_a_waiting_subscriber_is_woken() -> None:
    machine, feed = ClusterFSM(), Feed()
    got: list[Change] = []

    async def listen() -> None:
        with feed.subscribe() as changes:
            async for change in changes:
                got.append(change)
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        tell(machine, feed, create("a"))
    assert got[0].index == 1
    assert feed.statistics().subscribers == 0


async def test_a_cancelled_subscriber_misses_nothing() -> None:
    machine, feed = ClusterFSM(), Feed()
    with feed.subscribe() as changes:
        with trio.CancelScope() as scope:
            scope.cancel()
            tell(machine, feed, create("a"))
            await changes.receive()
        assert scope.cancelled_caught
        assert (await changes.receive()).events == (DatabaseCreated("a"),)


async def test_wait_index_returns_once_the_index_is_reached() -> None:
    machine, feed = ClusterFSM(), Feed()
    reached: list[int] = []

    async def wait(index: int) -> None:
        reached.append((await feed.wait_index(index)).index)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, 2)
        await trio.testing.wait_all_tasks_blocked()
        tell(machine, feed, create("a"))
        await trio.testing.wait_all_tasks_blocked()
        assert reached == []
        tell(machine, feed, create("b"))
        await trio.testing.wait_all_tasks_blocked()
        assert reached == [2]
        await wait(1)
    assert reached == [2, 2]


async def test_giving_up_on_an_index_leaves_nothing_behind() -> None:
    """Clients choose the index they wait for; what they ask must not stay in memory."""
    feed = Feed()
    async with trio.open_nursery() as nursery:
        for index in (10**9, 10**9, 10**12):
            nursery.start_soon(feed.wait_index, index)
        await trio.testing.wait_all_tasks_blocked()
        assert feed.statistics().waiting == 3
        nursery.cancel_scope.cancel()
    assert feed._waiting == {}
