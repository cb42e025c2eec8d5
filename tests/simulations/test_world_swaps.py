"""What the checker of swaps asks of disks: as many copies as whoever asked for the swap could know of."""

from __future__ import annotations

import pytest
import trio

from arc.catalog.commands import (
    COMPACTOR,
    AssignLease,
    DescribeNode,
    FlushMark,
    RegisterFiles,
    ReplaceFiles,
    SetNodeState,
)
from arc.ids import NodeId
from simulations import clock
from simulations.checkers.violation import Violation
from simulations.checkers.world_compaction import SPREAD_SECONDS, Swaps
from tests.catalog.facts import do, file, ready


@pytest.mark.parametrize(
    ("seconds", "disks", "is_wrong"),
    [(0.1, 1, False), (0.1, 0, True), (SPREAD_SECONDS + 1, 1, True), (SPREAD_SECONDS + 1, 2, False)],
)
def test_who_is_just_back_from_an_orderly_stop_need_not_have_what_is_swapped_in(
    seconds: float, disks: int, is_wrong: bool
) -> None:
    """World seeds 620870 and 625737: the node came back between the spreading of a file and its swap."""
    machine = ready()
    for name in ("n1", "n2"):
        do(machine, DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:1", role="standalone"))
    do(machine, AssignLease(lease=COMPACTOR, node=NodeId("n1"), expect_epoch=0))
    epoch = machine.catalog.lease_epoch(COMPACTOR)
    source, merged = file("a", first=1, last=1), file("b")
    do(machine, RegisterFiles(files=(source,), flushed=(FlushMark("metrics", "cpu", 1),), epoch=1))

    async def main(tasks: clock.Tasks) -> None:
        swaps = Swaps(lambda entry: disks, lambda: 0, lambda what: None, has_store=False)
        for state in ("leaving", "joining"):
            do(machine, SetNodeState(name=NodeId("n2"), incarnation=1, state=state))
            swaps.saw(machine.catalog)
        await trio.sleep(seconds)
        before = machine.catalog
        swap = ReplaceFiles(remove=((source.path, source.sha256),), add=(merged,), lease=COMPACTOR, epoch=epoch)
        do(machine, swap)
        swaps.check(before, machine.catalog, swap)

    if is_wrong:
        with pytest.raises(Violation, match="C-02"):
            clock.run(1, main)
    else:
        clock.run(1, main)
