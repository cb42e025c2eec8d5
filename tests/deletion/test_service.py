"""Orders find the node that writes, and what they came to finds its way back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from arc.catalog.commands import WRITER, AssignLease
from arc.catalog.fsm import ClusterFSM
from arc.deletion.config import DeleteConfig
from arc.deletion.deleter import DeleteStatistics
from arc.deletion.orders import DeleteOrder, DropOrder, Order, Outcome
from arc.deletion.service import Deletions
from arc.errors import Conflict, DiskFailed, Forbidden, InvalidRequest, OutcomeUnknown, Unavailable
from arc.ids import NodeId

DELETE = DeleteOrder(database="db", measurement="cpu", where="1=1")
DROP = DropOrder(database="db")
DONE = Outcome(rows=3, files=2, rewritten=1, paths=("a", "b"), milliseconds=1.5, index=9)


class Hands:
    """Carries orders out as it is told."""

    def __init__(self, act: Callable[[], Awaitable[Outcome]] | None = None) -> None:
        self.orders: list[Order] = []
        self._act = act

    async def delete(self, order: Order) -> Outcome:
        self.orders.append(order)
        return DONE if self._act is None else await self._act()

    drop = delete

    def statistics(self) -> object:
        return DeleteStatistics(
            orders_total=0, failures_total=0, rows_total=0, files_removed_total=0, files_rewritten_total=0
        )


def node(name: str, hands: Hands, *, holder: str | None = "n1", ask: object = None, enabled: bool = True) -> Deletions:
    fsm = ClusterFSM()
    if holder is not None:
        assert fsm.apply(1, AssignLease(lease=WRITER, node=NodeId(holder), expect_epoch=0)).result.ok

    async def wait_index(index: int) -> object:
        await trio.lowlevel.checkpoint()
        SEEN.append(index)
        return None

    return Deletions(
        DeleteConfig(enabled=enabled),
        hands,  # type: ignore[arg-type]
        hands,  # type: ignore[arg-type]
        lambda: fsm.catalog,
        node=NodeId(name),
        ask=ask,  # type: ignore[arg-type]
        wait_index=wait_index,
    )


SEEN: list[int] = []


@pytest.mark.parametrize("order", [DELETE, DROP])
async def test_an_order_is_carried_out_where_the_lease_is_and_seen_where_it_was_given(order: Order) -> None:
    hands, idle = Hands(), Hands()
    holder = node("n1", hands)
    SEEN.clear()

    async def ask(peer: str, kind: str, question: bytes, *, timeout_seconds: float) -> bytes:
        assert (peer, kind) == ("n1", "delete")
        return await holder.answer(None, question)

    other = node("n2", idle, ask=ask)
    async with trio.open_nursery() as nursery:
        await nursery.start(holder.run)
        await nursery.start(other.run)
        assert await other.execute(order) == DONE
        assert await holder.execute(order) == DONE
        nursery.cancel_scope.cancel()
    assert (hands.orders, idle.orders, SEEN) == ([order, order], [], [9])
    assert (other.statistics().passed_on_total, holder.statistics().passed_on_total) == (1, 0)


async def test_nothing_is_deleted_where_that_is_not_enabled() -> None:
    hands = Hands()
    off = node("n1", hands, enabled=False)
    with pytest.raises(Forbidden) as caught:
        await off.execute(DELETE)
    assert caught.value.code == "delete_disabled"
    with pytest.raises(Forbidden):
        await off.answer(None, b"")
    assert hands.orders == []


async def test_without_a_holder_or_before_the_start_nothing_happens() -> None:
    for deletions in (node("n1", Hands(), holder=None), node("n1", Hands())):
        with pytest.raises(Unavailable):
            await deletions.execute(DELETE)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InvalidRequest("where?"), InvalidRequest),
        (Conflict("late", code="stale_epoch"), Unavailable),
        (Conflict("twice", code="exists"), Conflict),
    ],
)
async def test_what_it_failed_of_is_told(error: Exception, told: type[Exception]) -> None:
    async def fail() -> Outcome:
        await trio.lowlevel.checkpoint()
        raise error

    deletions = node("n1", Hands(fail))
    async with trio.open_nursery() as nursery:
        await nursery.start(deletions.run)
        with pytest.raises(told):
            await deletions.execute(DROP)
        assert deletions.statistics().running == 0
        nursery.cancel_scope.cancel()


async def test_a_failed_disk_stops_the_node() -> None:
    async def fail() -> Outcome:
        await trio.lowlevel.checkpoint()
        raise DiskFailed("EIO")

    deletions = node("n1", Hands(fail))
    with pytest.RaisesGroup(DiskFailed, OutcomeUnknown, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await nursery.start(deletions.run)
            nursery.start_soon(deletions.execute, DELETE)


@pytest.mark.parametrize(("order", "goes_on"), [(DELETE, False), (DROP, True)])
async def test_a_client_that_hangs_up_ends_a_delete_and_not_a_drop(order: Order, goes_on: bool) -> None:
    """A drop that has begun keeps rows out until it is known what became of it."""
    begun, go_on, ended = trio.Event(), trio.Event(), list[str]()

    async def act() -> Outcome:
        begun.set()
        try:
            await go_on.wait()
        except trio.Cancelled:
            ended.append("cancelled")
            raise
        ended.append("done")
        return DONE

    deletions = node("n1", Hands(act))
    async with trio.open_nursery() as nursery:
        await nursery.start(deletions.run)
        with trio.CancelScope() as client:
            async with trio.open_nursery() as waiting:
                waiting.start_soon(deletions.execute, order)
                await begun.wait()
                client.cancel()
        go_on.set()
        await trio.testing.wait_all_tasks_blocked()
        assert ended == ["done" if goes_on else "cancelled"]
        nursery.cancel_scope.cancel()
