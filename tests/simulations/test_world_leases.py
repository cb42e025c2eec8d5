"""The checker of leases fires: each of its rules is shown one history that breaks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from arc.catalog import codec
from arc.catalog.commands import WRITER, AssignLease, Command, DescribeNode
from arc.catalog.facts import Catalog
from arc.catalog.fsm import ClusterFSM
from arc.catalog.persistent import frozen
from arc.ids import Epoch, NodeId
from arc.raft.types import Entry, EntryKind
from simulations.checkers.violation import Violation
from simulations.checkers.world_leases import Leases
from tests.catalog.facts import declare, file, register


class History:
    """A catalog that goes on by commands, or by force, under the eyes of the checker."""

    def __init__(self) -> None:
        self.machine = ClusterFSM()
        self.leases = Leases()
        for name in ("n1", "n2"):
            self.do(DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:1", role="writer"))
        self.do(AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=0))

    @property
    def catalog(self) -> Catalog:
        return self.machine.catalog

    @property
    def epoch(self) -> int:
        return self.catalog.lease_epoch(WRITER)

    def do(self, command: Command) -> None:
        assert self.machine.apply(self.catalog.index + 1, command).result.ok
        self.tell(self.catalog, command)

    def tell(self, catalog: Catalog, command: Command) -> None:
        entry = Entry(catalog.index, 1, EntryKind.COMMAND, codec.encode(command))
        self.leases.applied("n1.1", entry, catalog)


async def test_a_write_is_confirmed_by_the_holder_of_its_epoch_alone() -> None:
    history = History()
    history.leases.acknowledged("n1.2", history.epoch, 5)
    with pytest.raises(Violation, match="L-01"):
        history.leases.acknowledged("n2.1", history.epoch, 6)


async def test_an_epoch_is_granted_once_and_never_goes_back() -> None:
    history = History()
    command = AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=history.epoch)
    held = history.catalog.leases[WRITER]
    back = frozen({WRITER: replace(held, epoch=Epoch(held.epoch - 1))})
    with pytest.raises(Violation, match="L-02"):
        history.tell(replace(history.catalog, index=history.catalog.index + 1, leases=back), command)


async def test_the_lease_goes_to_a_node_in_sync_unless_the_history_says_that_it_did_not() -> None:
    history = History()
    command = AssignLease(lease=WRITER, node=NodeId("n2"), expect_epoch=history.epoch)
    index = history.catalog.index + 1
    held = replace(history.catalog.leases[WRITER], holder=NodeId("n2"), epoch=Epoch(index))
    moved = replace(history.catalog, index=index, leases=frozen({WRITER: held}))
    with pytest.raises(Violation, match="L-03"):
        history.tell(moved, command)
    other = History()
    other.do(replace(command, accepts_data_loss=True))


async def test_files_come_in_under_the_current_epoch_alone() -> None:
    history = History()
    history.do(declare())
    old = register(file("a", first=1, last=5), mark=5, epoch=history.epoch - 1)
    forced = ClusterFSM(history.catalog)
    assert forced.apply(history.catalog.index + 1, replace(old, epoch=history.epoch)).result.ok
    with pytest.raises(Violation, match="L-04"):
        history.tell(forced.catalog, old)


async def test_a_flush_mark_never_goes_back() -> None:
    history = History()
    history.do(declare())
    before = history.catalog.manifest
    history.do(register(file("a", first=1, last=5), mark=5, epoch=history.epoch))
    command = register(epoch=history.epoch)
    with pytest.raises(Violation, match="L-05"):
        history.tell(replace(history.catalog, index=history.catalog.index + 1, manifest=before), command)


async def test_a_lost_writer_needs_a_successor_in_time() -> None:
    history = History()
    history.leases.lost("n2")
    history.leases.check_takeovers(1.0)
    history.leases.lost("n1")
    with pytest.raises(Violation, match="T-01"):
        history.leases.check_takeovers(1.0)
    history.do(AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=history.epoch))
    history.leases.check_takeovers(1.0)
