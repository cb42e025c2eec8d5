"""Who joined, left, fell ill or got well: in order, or in one piece for who is slow; never less than the truth."""

from __future__ import annotations

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from arc.catalog.roles import NodeState
from arc.cluster.node_events import NodeEvents, Notice, Seen, Sight, difference
from arc.ids import NodeId

S = NodeState


def sight(**states: NodeState) -> Sight:
    return {NodeId(name): Seen(1, state) for name, state in states.items()}


def told(notice: Notice | None) -> list[str]:
    assert notice is not None
    return [f"{event.name} {event.kind}" for event in notice.events]


def test_a_subscriber_hears_every_step() -> None:
    events = NodeEvents()
    with events.subscribe() as notices:
        events.publish(sight(n1=S.HEALTHY, n2=S.JOINING))
        events.publish(sight(n1=S.UNHEALTHY, n2=S.HEALTHY))
        events.publish(sight(n1=S.UNHEALTHY, n2=S.HEALTHY))
        events.publish(sight(n1=S.DEAD))
        assert told(notices.receive_nowait()) == ["n1 joined", "n1 healthy", "n2 joined"]
        assert told(notices.receive_nowait()) == ["n1 unhealthy", "n2 healthy"]
        assert told(notices.receive_nowait()) == ["n1 dead", "n2 left"]
        assert notices.receive_nowait() is None
    assert events.events_total == 7


def test_another_incarnation_is_another_node() -> None:
    before, after = sight(n1=S.HEALTHY), {NodeId("n1"): Seen(2, S.HEALTHY)}
    kinds = [(event.kind.value, event.incarnation) for event in difference(before, after)]
    assert kinds == [("left", 1), ("joined", 2), ("healthy", 2)]


def test_a_slow_subscriber_learns_what_is_true_in_one_piece() -> None:
    events = NodeEvents(sight(n1=S.HEALTHY))
    with events.subscribe(queue_notices_max=2) as notices:
        for state in (S.UNHEALTHY, S.DEAD, S.HEALTHY, S.UNHEALTHY):
            events.publish(sight(n1=state))
        notice = notices.receive_nowait()
        assert notice is not None
        assert (told(notice), notice.is_folded) == (["n1 unhealthy"], True)
        assert notices.receive_nowait() is None
        events.publish(sight(n1=S.HEALTHY))
        assert told(notices.receive_nowait()) == ["n1 healthy"]
    assert events.folds_total == 1


def test_what_came_and_went_meanwhile_is_no_news() -> None:
    events = NodeEvents(sight(n1=S.HEALTHY))
    with events.subscribe(queue_notices_max=1) as notices:
        for state in (S.UNHEALTHY, S.DEAD, S.HEALTHY):
            events.publish(sight(n1=state))
        assert notices.receive_nowait() is None
        assert notices.receive_nowait() is None


async def test_a_waiting_subscriber_is_woken_and_a_cancelled_one_misses_nothing() -> None:
    events = NodeEvents()
    got: list[str] = []

    async def listen() -> None:
        with events.subscribe() as notices:
            async for notice in notices:
                got.extend(told(notice))
                return

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        events.publish(sight(n1=S.HEALTHY))
    assert got == ["n1 joined", "n1 healthy"]
    with events.subscribe() as notices:
        with trio.CancelScope() as scope:
            scope.cancel()
            events.publish(sight())
            await notices.receive()
        assert told(await notices.receive()) == ["n1 left"]


SIGHTS = st.dictionaries(
    st.sampled_from(["n1", "n2", "n3"]), st.tuples(st.integers(1, 2), st.sampled_from(list(NodeState)))
)


@given(st.lists(st.tuples(SIGHTS, st.booleans()), max_size=20), st.integers(1, 3))
def test_whoever_follows_the_events_knows_what_is_true(
    steps: list[tuple[dict[str, tuple[int, NodeState]], bool]], queue: int
) -> None:
    events, known = NodeEvents(), dict[str, tuple[int, NodeState]]()
    with events.subscribe(queue_notices_max=queue) as notices:
        for seen, is_taking in steps:
            events.publish({NodeId(name): Seen(*each) for name, each in seen.items()})
            while is_taking and (notice := notices.receive_nowait()) is not None:
                follow(known, notice)
        while (notice := notices.receive_nowait()) is not None:
            follow(known, notice)
    last = steps[-1][0] if steps else {}
    assert {name: inc for name, (inc, _) in known.items()} == {name: inc for name, (inc, _) in last.items()}
    for name, (_, state) in last.items():
        assert state not in (S.HEALTHY, S.UNHEALTHY, S.DEAD) or known[name][1] is state


def follow(known: dict[str, tuple[int, NodeState]], notice: Notice) -> None:
    for event in notice.events:
        if event.kind == "left":
            assert known.pop(event.name)[0] == event.incarnation
        else:
            assert (event.kind == "joined") == (event.name not in known)
            known[event.name] = (event.incarnation, event.state)
