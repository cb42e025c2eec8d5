"""The in-sync set: who may take over writes, and how that changes (DURABILITY 3 and 4)."""

from __future__ import annotations

import pytest

from arc.catalog.commands import WRITER, AssignLease, DescribeNode, ForgetNode, SetInSync
from arc.catalog.events import InSyncChanged, LeaseVacated, NodeForgotten
from arc.catalog.fsm import ClusterFSM
from arc.catalog.insync import InSync
from arc.catalog.leases import HISTORY_MAX
from arc.ids import Epoch, NodeId
from tests.catalog.facts import do, refused

ROLES = {"n1": "writer", "n2": "writer", "n3": "standalone", "r1": "reader", "c1": "compactor"}


def cluster() -> ClusterFSM:
    """Five nodes; n1 writes since entry 6."""
    machine = ClusterFSM()
    for name, role in ROLES.items():
        do(machine, DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:1", role=role))
    do(machine, assign("n1", 0))
    return machine


def assign(node: str, expect: int, *, lossy: bool = False, reason: str = "", lease: str = WRITER) -> AssignLease:
    return AssignLease(
        lease=lease, node=NodeId(node), expect_epoch=expect, reason=reason, at_us=1, accepts_data_loss=lossy
    )


def members(*names: str, expect: tuple[str, ...] = ("n1",), epoch: int = 6) -> SetInSync:
    return SetInSync(epoch=epoch, expect_members=tuple(map(NodeId, expect)), members=tuple(map(NodeId, names)))


def in_sync(machine: ClusterFSM) -> tuple[int, tuple[str, ...]]:
    assert machine.catalog.in_sync is not None
    return machine.catalog.in_sync.epoch, machine.catalog.in_sync.members


def test_a_reign_begins_with_its_holder_alone() -> None:
    assert cluster().catalog.in_sync == InSync(Epoch(6), (NodeId("n1"),))


def test_the_set_changes_by_compare_and_set() -> None:
    machine = cluster()
    do(machine, members("n2", "n1"))
    assert in_sync(machine) == (6, ("n1", "n2"))
    assert refused(machine, members("n1", "n3")).code == "stale_members"
    do(machine, members("n1", "n3", expect=("n2", "n1")))
    assert in_sync(machine) == (6, ("n1", "n3"))


@pytest.mark.parametrize("epoch", [0, 5, 7])
def test_another_reign_may_not_change_it(epoch: int) -> None:
    """P-16."""
    assert refused(cluster(), members("n1", "n2", epoch=epoch)).code == "stale_epoch"


@pytest.mark.parametrize(
    ("names", "why"),
    [(("n2",), "holds the writer lease"), (("n1", "r1"), "is a reader"), (("n1", "c1"), "is a compactor"),
     (("n1", "n9"), "no node of this cluster"), ((), "holds the writer lease")],
)  # fmt: skip
def test_only_nodes_that_could_take_over_belong_to_it(names: tuple[str, ...], why: str) -> None:
    no = refused(cluster(), members(*names))
    assert no.code == "invalid"
    assert why in no.message


def test_only_a_member_takes_over_and_the_old_holder_leaves_the_set() -> None:
    machine = cluster()
    assert refused(machine, assign("n2", 6)).code == "not_in_sync"
    do(machine, members("n1", "n2", "n3"))
    granted = do(machine, assign("n2", 6))
    assert in_sync(machine) == (granted.value, ("n2", "n3"))
    assert refused(machine, assign("n1", int(granted.index))).code == "not_in_sync"


def test_the_same_holder_keeps_the_set_in_a_new_reign() -> None:
    machine = cluster()
    do(machine, members("n1", "n2"))
    granted = do(machine, assign("n1", 6))
    assert in_sync(machine) == (granted.value, ("n1", "n2"))


def test_an_operator_may_accept_a_loss_and_the_history_says_so() -> None:
    machine = cluster()
    granted = do(machine, assign("n2", 6, lossy=True, reason="n1 burnt"))
    assert in_sync(machine) == (granted.value, ("n2",))
    last = machine.catalog.history[-1]
    assert (last.holder, last.previous, last.reason, last.is_clean) == ("n2", "n1", "n1 burnt", False)
    assert machine.catalog.history[0].is_clean


@pytest.mark.parametrize(("node", "lease", "code"), [("r1", WRITER, "conflict"), ("c1", WRITER, "conflict"),
    ("r1", "compactor", "conflict"), ("n9", WRITER, "not_found")])  # fmt: skip
def test_a_lease_goes_only_to_nodes_that_may_hold_it(node: str, lease: str, code: str) -> None:
    machine = cluster()
    epoch = machine.catalog.lease_epoch(lease)
    assert refused(machine, assign(node, epoch, lossy=True, lease=lease)).code == code


def test_a_forgotten_node_leaves_the_set() -> None:
    machine = cluster()
    do(machine, members("n1", "n2"))
    do(machine, ForgetNode(name=NodeId("n2"), incarnation=1))
    assert in_sync(machine) == (6, ("n1",))


def test_whoever_comes_back_under_the_name_of_a_forgotten_holder_holds_nothing_and_has_nothing() -> None:
    """A lease is a node's and not a name's: an emptied writer that was removed and added again would write over rows
    that only its disk had.
    """
    machine = cluster()
    do(machine, assign("n1", 0, lease="compactor"))
    applied = machine.apply(machine.catalog.index + 1, ForgetNode(name=NodeId("n1"), incarnation=1))
    n1 = NodeId("n1")
    assert applied.events == (
        LeaseVacated("compactor", n1), LeaseVacated(WRITER, n1), NodeForgotten(n1, 1), InSyncChanged(Epoch(6), ()),
    )  # fmt: skip
    do(machine, DescribeNode(name=NodeId("n1"), incarnation=2, address="n1:1", role="writer"))
    assert machine.catalog.leases == {}
    assert refused(machine, assign("n1", 0)).code == "not_in_sync"
    assert refused(machine, assign("n2", 0)).code == "not_in_sync"
    granted = do(machine, assign("n2", 0, lossy=True))
    assert in_sync(machine) == (granted.value, ("n2",))


def test_the_rest_of_the_set_takes_over_from_a_forgotten_holder() -> None:
    machine = cluster()
    do(machine, members("n1", "n2"))
    do(machine, ForgetNode(name=NodeId("n1"), incarnation=1))
    do(machine, assign("n2", 0))
    assert machine.catalog.history[-1].is_clean


def test_the_history_has_an_end() -> None:
    machine = cluster()
    for _ in range(HISTORY_MAX + 3):
        do(machine, assign("n1", machine.catalog.lease_epoch(WRITER)))
    assert len(machine.catalog.history) == HISTORY_MAX
    assert machine.catalog.history[-1].epoch == machine.catalog.lease_epoch(WRITER)
