"""Who is asked, in which order, and how evenly: tables over views of nodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from arc.catalog.roles import NodeRole, NodeState, WriterState
from arc.cluster.allowance import Bucket, Budget
from arc.cluster.router import (
    Forward,
    LoadBalanceStrategy,
    Local,
    NoReaderAvailable,
    NoWriterAvailable,
    Router,
    RouterConfig,
    Wish,
)
from arc.cluster.views import NodeStats, NodeView
from arc.ids import NodeId, Position
from tests.fakes import ManualClock, SeededRng

W, R, C, S = NodeRole.WRITER, NodeRole.READER, NodeRole.COMPACTOR, NodeRole.STANDALONE


def node(name: str, role: NodeRole = R, **changes: object) -> NodeView:
    stats = {key: changes.pop(key) for key in list(changes) if key in NodeStats.__dataclass_fields__}
    view = NodeView(
        name=NodeId(name), incarnation=1, role=role, state=NodeState.HEALTHY, address=f"{name}:9100",
        api_address=f"{name}:8000", version="0", cores=1, joined_us=0, stats=NodeStats(**stats),  # type: ignore[arg-type]
    )  # fmt: skip
    return replace(view, **changes)  # type: ignore[arg-type]


def holder(name: str = "w1", **changes: object) -> NodeView:
    return node(name, W, writer_state=WriterState.PRIMARY, **changes)


def standby(name: str, **changes: object) -> NodeView:
    return node(name, W, writer_state=WriterState.STANDBY, **changes)


def router(*nodes: NodeView, clock: ManualClock | None = None, **options: object) -> Router:
    """A router on the first of these nodes."""
    config = RouterConfig(**{key: options.pop(key) for key in ("strategy", "retries") if key in options})  # type: ignore[arg-type]
    local = replace(nodes[0], is_local=True)
    seen = sorted([local, *nodes[1:]], key=lambda view: view.name)
    return Router(
        config, lambda: seen, lambda: local, rng=SeededRng(7), clock=clock or ManualClock(), **options  # type: ignore[arg-type]
    )  # fmt: skip


def names(plan: Local | Forward) -> list[str]:
    return ["here"] if isinstance(plan, Local) else [candidate.node for candidate in plan.candidates]


# ---- writes


@pytest.mark.parametrize(
    ("here", "others", "expected"),
    [
        (holder(), [standby("w2"), node("r1")], ["here"]),
        (node("r1"), [holder(), standby("w2")], ["w1"]),
        (node("c1", C), [holder()], ["w1"]),
        (standby("w2"), [holder()], ["w1"]),
        (standby("w2"), [holder(state=NodeState.UNHEALTHY)], ["w1"]),
        (standby("w2"), [holder(state=NodeState.LEAVING)], ["w1"]),
        (node("s2", S), [node("s1", S, writer_state=WriterState.PRIMARY)], ["s1"]),
    ],
)
def test_a_write_goes_to_the_lease_holder_and_a_standby_never_takes_it(
    here: NodeView, others: list[NodeView], expected: list[str]
) -> None:
    """P-43."""
    assert names(router(here, *others).plan_write()) == expected


@pytest.mark.parametrize(
    "others",
    [
        [],
        [standby("w2"), node("r2")],
        [holder(state=NodeState.DEAD)],
        [holder(api_address="")],
    ],
)
def test_without_a_holder_that_can_be_reached_there_is_no_writer(others: list[NodeView]) -> None:
    with pytest.raises(NoWriterAvailable) as failure:
        router(node("r1"), *others).plan_write()
    assert failure.value.code == "no_writer_available"
    assert failure.value.status == 503
    assert "8000" not in failure.value.message


def test_a_holder_that_was_just_tried_is_left_out() -> None:
    chooser = router(node("r1"), holder())
    with pytest.raises(NoWriterAvailable):
        chooser.plan_write(tried=[NodeId("w1")])


def test_a_holder_that_cannot_take_writes_just_now_says_so() -> None:
    plan = router(holder(refuses_writes="the log is being replayed")).plan_write()
    assert plan == Local(refuses="the log is being replayed")


# ---- queries


@pytest.mark.parametrize(
    ("here", "others", "expected"),
    [
        (node("r1"), [holder(), node("r2")], ["here"]),
        (standby("w2"), [holder(), node("r2")], ["here"]),
        (node("r1", refuses_queries="catching up"), [node("r2"), holder()], ["r2", "w1"]),
        (node("c1", C), [standby("w2"), holder(), node("r1")], ["r1", "w1", "w2"]),
        (node("c1", C), [node("r1", state=NodeState.UNHEALTHY), holder()], ["w1"]),
        (node("c1", C), [node("r1", refuses_queries="catching up"), holder()], ["w1"]),
        (node("c1", C), [node("c2", C), node("r1", api_address=""), holder()], ["w1"]),
    ],
)
def test_a_query_stays_or_goes_to_readers_then_the_holder_then_other_writers(
    here: NodeView, others: list[NodeView], expected: list[str]
) -> None:
    assert names(router(here, *others).plan_query()) == expected


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(), ["r1", "r2", "w1"]),
        (Wish(index=50), ["r2", "w1", "r1"]),
        (Wish(position=Position(3, 900)), ["r1", "w1", "r2"]),
        (Wish(index=50, position=Position(3, 900)), ["w1", "r1", "r2"]),
        (Wish(index=99), ["r1", "r2", "w1"]),
    ],
)
def test_nodes_that_have_seen_what_the_caller_has_seen_come_first(wish: Wish, expected: list[str]) -> None:
    """P-43: the target is chosen by what it has applied and admitted."""
    chooser = router(
        node("c1", C),
        holder(applied_index=60),
        node("r1", applied_index=40, admitted_sequence=900),
        node("r2", applied_index=60, admitted_sequence=899),
    )
    assert names(chooser.plan_query(wish)) == expected


def test_a_strong_query_is_for_the_holder_alone() -> None:
    strong = Wish(is_strong=True)
    assert names(router(node("r1"), holder(), node("r2")).plan_query(strong)) == ["w1"]
    assert names(router(holder(), node("r2")).plan_query(strong)) == ["here"]
    with pytest.raises(NoReaderAvailable):
        router(node("r1"), standby("w2")).plan_query(strong)


def test_while_files_are_not_shared_a_query_follows_the_writer_unless_it_can_be_answered_here() -> None:
    nodes = (node("r1"), holder(), node("r2"))
    lacks = router(*nodes, queries_follow_writer=True, cannot_answer=lambda: "the rows are on w1")
    has = router(*nodes, queries_follow_writer=True, cannot_answer=lambda: None)
    assert names(lacks.plan_query()) == ["w1"]
    assert names(has.plan_query()) == ["here"]
    with pytest.raises(NoReaderAvailable, match="the rows are on w1; nobody holds"):
        router(nodes[0], nodes[2], queries_follow_writer=True, cannot_answer=lambda: "the rows are on w1").plan_query()


def test_without_any_node_for_it_a_query_is_refused_under_a_code_of_its_own() -> None:
    with pytest.raises(NoReaderAvailable) as failure:
        router(node("c1", C), node("c2", C)).plan_query()
    assert (failure.value.code, failure.value.status) == ("no_reader_available", 503)


def test_what_can_be_done_here_is_told() -> None:
    assert router(holder()).can_route_locally(True)
    assert not router(standby("w2"), holder()).can_route_locally(True)
    assert not router(holder(refuses_writes="replay")).can_route_locally(True)
    assert router(node("r1")).can_route_locally(False)
    assert not router(node("c1", C)).can_route_locally(False)


@pytest.mark.parametrize(
    ("seen", "is_write", "expected"),
    [
        (holder("x"), True, False),
        (standby("x"), True, True),
        (standby("x"), False, False),
        (holder("x", state=NodeState.DEAD), False, True),
        (node("y"), False, True),
    ],
)
def test_a_node_is_given_up_when_it_is_dead_or_gone_or_holds_no_lease_any_more(
    seen: NodeView, is_write: bool, expected: bool
) -> None:
    assert (router(node("r1"), seen).given_up(NodeId("x"), is_write=is_write) is not None) is expected


# ---- strategies


READERS = (node("c1", C), node("r1"), node("r2"), node("r3"))


@pytest.mark.parametrize("strategy", list(LoadBalanceStrategy))
def test_every_strategy_is_fair_in_the_long_run(strategy: LoadBalanceStrategy) -> None:
    chooser = router(*READERS, strategy=strategy.value)
    chosen = Counter(names(chooser.plan_query())[0] for _ in range(900))
    if strategy is LoadBalanceStrategy.RANDOM:
        assert all(250 < chosen[name] < 350 for name in ("r1", "r2", "r3"))
    else:
        assert chosen == {"r1": 300, "r2": 300, "r3": 300}


def test_turns_of_readers_and_writers_are_counted_apart() -> None:
    """Arc's own test of round robin: nine selections over three nodes are three each, also when interleaved."""
    chooser = router(*READERS, holder(), standby("w2"), standby("w3"))
    plans = [names(chooser.plan_query()) for _ in range(9)]
    assert Counter(plan[0] for plan in plans) == {"r1": 3, "r2": 3, "r3": 3}
    assert {plan[3] for plan in plans} == {"w1"}
    assert Counter(plan[4] for plan in plans) == {"w2": 5, "w3": 4}


def test_least_connections_asks_who_answers_fewest_until_the_end_of_the_answer() -> None:
    chooser = router(*READERS, strategy="least_connections")
    r1, r2, r3 = (NodeId(name) for name in ("r1", "r2", "r3"))
    with chooser.sending(r1), chooser.sending(r1), chooser.sending(r3):
        assert chooser.get_active_connections(r1) == 2
        assert names(chooser.plan_query()) == ["r2", "r3", "r1"]
        with chooser.sending(r2), chooser.sending(r2):
            assert names(chooser.plan_query())[0] == "r3"
    assert chooser.get_active_connections(r1) == 0
    assert chooser.statistics().active_connections == {}


def test_stats_have_arcs_keys() -> None:
    chooser = router(*READERS)
    with chooser.sending(NodeId("r1")):
        stats = chooser.stats()
    assert {"strategy", "timeout_ms", "retries", "reader_index", "writer_index"} <= stats.keys()
    assert stats["active_connections"] == {"r1": 1}
    assert "r1:8000" not in repr(chooser.plan_query())


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy": "roundrobin"},
        {"retries": -1},
        {"connect_timeout_seconds": 0},
        {"waiting_max": 0},
        {"held_bytes_max": 1},
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        RouterConfig(**wrong)  # type: ignore[arg-type]


# ---- allowances


def test_retries_are_a_share_of_requests_after_a_first_burst() -> None:
    budget = Budget(3.0)
    assert [budget.take() for _ in range(4)] == [True, True, True, False]
    for _ in range(5):
        budget.pay_in(0.25)
    assert [budget.take(), budget.take()] == [True, False]
    assert (budget.taken, budget.refused) == (4, 2)


def test_keys_are_added_at_a_bounded_rate() -> None:
    clock = ManualClock()
    bucket = Bucket(2.0, 3.0, clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.advance(1.0)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
