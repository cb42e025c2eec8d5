"""Nodes: one incarnation a name, addresses that can be reached, and snapshots from before there were any."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog import snapshot
from arc.catalog.commands import DescribeNode, ForgetNode, SetNodeState
from arc.catalog.difference import difference
from arc.catalog.events import NodeDescribed, NodeForgotten
from arc.catalog.fsm import ClusterFSM
from arc.catalog.nodes import NAME_CHARS_MAX, NODES_MAX, NodeRecord
from arc.ids import NodeId
from tests.catalog.facts import ask, do, ready, refused

N1 = NodeId("n1")


def describe(name: str = "n1", incarnation: int = 1, address: str = "h1:9000") -> DescribeNode:
    return DescribeNode(name=NodeId(name), incarnation=incarnation, address=address)


def set_state(state: str, name: str = "n1", incarnation: int = 1) -> SetNodeState:
    return SetNodeState(name=NodeId(name), incarnation=incarnation, state=state)


def forget(name: str = "n1", incarnation: int = 1) -> ForgetNode:
    return ForgetNode(name=NodeId(name), incarnation=incarnation)


def test_a_described_node_is_found_by_name_and_told() -> None:
    machine = ClusterFSM()
    before = machine.catalog
    applied = machine.apply(3, describe())
    assert not machine.catalog.same_facts(before)
    assert applied.events == (NodeDescribed(N1, 1, "h1:9000"),)
    assert machine.catalog.nodes == {"n1": NodeRecord(N1, 1, "h1:9000")}


def test_a_node_may_move() -> None:
    machine = ClusterFSM()
    do(machine, describe())
    applied = machine.apply(9, describe(address="h2:9000"))
    assert applied.events == (NodeDescribed(N1, 1, "h2:9000"),)
    assert machine.catalog.nodes["n1"].address == "h2:9000"


def test_saying_the_same_again_changes_nothing_and_tells_nobody() -> None:
    machine = ClusterFSM()
    do(machine, describe())
    before = machine.catalog
    applied = machine.apply(9, describe())
    assert applied.result.ok
    assert applied.events == ()
    assert machine.catalog.same_facts(before)


@pytest.mark.parametrize("incarnation", [1, 3])
def test_another_incarnation_must_wait_until_the_one_before_is_removed(incarnation: int) -> None:
    machine = ClusterFSM()
    do(machine, describe(incarnation=2))
    no = refused(machine, describe(incarnation=incarnation))
    assert no.code == "conflict"
    assert "remove it first" in no.message
    do(machine, forget(incarnation=2))
    do(machine, describe(incarnation=incarnation))


def test_only_the_incarnation_that_is_meant_is_forgotten() -> None:
    machine = ClusterFSM()
    assert refused(machine, forget()).code == "not_found"
    do(machine, describe(incarnation=2))
    assert refused(machine, forget(incarnation=1)).code == "conflict"
    applied = machine.apply(9, forget(incarnation=2))
    assert applied.events == (NodeForgotten(N1, 2),)
    assert machine.catalog.nodes == {}


@pytest.mark.parametrize("name", ["", " n1", "n1 ", "n#1", "a/b", "n\n1", "n" * (NAME_CHARS_MAX + 1)])
def test_names_that_mean_something_else_elsewhere_are_refused(name: str) -> None:
    assert refused(ClusterFSM(), describe(name)).code == "invalid"


@pytest.mark.parametrize("address", ["h:1", "10.0.0.1:65535", "[::1]:9000", "a.b.example:80", "arc-0.arc:9000"])
def test_addresses(address: str) -> None:
    do(ClusterFSM(), describe(address=address))


@pytest.mark.parametrize(
    "address",
    ["h", "h:", ":1", "h:0", "h:65536", "h:-1", "h:1a", "h h:1", "http://h:1", "h:1/", "h\0:1", "h" * 300 + ":1",
     "h:٣", "h:000001"],
)  # fmt: skip
def test_what_is_no_address_is_refused(address: str) -> None:
    assert refused(ClusterFSM(), describe(address=address)).code == "invalid"


@pytest.mark.parametrize("incarnation", [0, -1, 1 << 63])
def test_what_is_no_incarnation_is_refused(incarnation: int) -> None:
    assert refused(ClusterFSM(), describe(incarnation=incarnation)).code == "invalid"


def test_there_is_a_limit_and_moving_is_possible_at_it() -> None:
    machine = ClusterFSM()
    for number in range(NODES_MAX):
        do(machine, describe(f"n{number}"))
    assert refused(machine, describe("one more")).code == "too_many"
    do(machine, describe("n0", address="elsewhere:1"))


@given(st.text(max_size=20), st.integers(-3, 3), st.text(max_size=30))
def test_whatever_is_asked_is_answered(name: str, incarnation: int, address: str) -> None:
    machine = ClusterFSM()
    result = ask(machine, describe(name, incarnation, address))
    assert result.ok == (name in machine.catalog.nodes)


def test_another_incarnation_in_a_snapshot_is_told_as_one_that_went_and_one_that_came() -> None:
    before = ClusterFSM()
    do(before, describe())
    do(before, describe("n2"))
    after = ClusterFSM()
    do(after, describe(incarnation=7))
    do(after, describe("n3"))
    assert difference(before.catalog, after.catalog) == (
        NodeForgotten(N1, 1),
        NodeForgotten(NodeId("n2"), 1),
        NodeDescribed(N1, 7, "h1:9000"),
        NodeDescribed(NodeId("n3"), 1, "h1:9000"),
    )


def test_a_snapshot_without_nodes_is_what_it_was_before_there_were_any() -> None:
    """An older version reads it, and this one reads what an older one wrote."""
    machine = ready()
    chunks = list(snapshot.encode(machine.catalog))
    assert [cbor2.loads(chunk)[0] for chunk in chunks] == [
        snapshot.FORMAT,
        "databases",
        "measurements",
        "leases",
        "in_sync",
        "history",
        "end",
    ]
    assert snapshot.decode(chunks).nodes == {}
    do(machine, describe())
    assert snapshot.decode(list(snapshot.encode(machine.catalog))).nodes == machine.catalog.nodes


def test_a_node_that_listens_for_nobody_has_no_address() -> None:
    do(ClusterFSM(), describe(address=""))


@pytest.mark.parametrize("role", ["", "Writer", "wirter", "leader"])
def test_a_role_that_is_none_is_refused_and_never_a_default(role: str) -> None:
    """P-45."""
    no = refused(ClusterFSM(), DescribeNode(name=N1, incarnation=1, address="h:1", role=role))
    assert no.code in ("invalid", "invalid_role")
    assert "standalone, writer, reader, compactor" in no.message


def test_states_follow_the_table_and_survive_a_new_description() -> None:
    machine = ClusterFSM()
    do(machine, describe())
    assert machine.catalog.nodes["n1"].state == "joining"
    do(machine, set_state("healthy"))
    do(machine, describe(address="elsewhere:1"))
    assert machine.catalog.nodes["n1"].state == "healthy"
    do(machine, set_state("leaving"))
    assert refused(machine, set_state("dead")).code == "invalid"
    assert refused(machine, set_state("healthy", incarnation=2)).code == "conflict"
    assert refused(machine, set_state("healthy", "n9")).code == "not_found"
    do(machine, set_state("healthy"))
    before = machine.catalog
    do(machine, set_state("healthy"))
    assert machine.catalog.same_facts(before)


def test_the_time_of_joining_is_that_of_the_first_description() -> None:
    machine = ClusterFSM()
    do(machine, DescribeNode(name=N1, incarnation=1, address="h:1", at_us=5))
    do(machine, DescribeNode(name=N1, incarnation=1, address="h:2", at_us=9))
    assert machine.catalog.nodes["n1"].joined_us == 5
