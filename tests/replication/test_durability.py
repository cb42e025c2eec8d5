"""When a write may be acknowledged and a record be seen: who waits is told whatever it is that moved."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
import trio.testing

from arc.replication.durability import Durability
from arc.replication.log import Pulse
from arc.replication.watermark import Watermark


class Written:
    """The holder's log with one record."""

    def __init__(self) -> None:
        self.next_sequence = 2
        self.pulse = Pulse()


def left_out(durability: Durability) -> None:
    durability.agree(["n1"])


def caught_up(durability: Durability) -> None:
    durability.wrote("n2", 1)


def settled(durability: Durability) -> None:
    durability.propose(["n1"])
    durability.agree(["n1"])
    durability.settle()


@pytest.mark.parametrize("moved", [left_out, caught_up, settled])
async def test_records_are_seen_once_the_watermark_moves_though_too_few_are_in_sync_to_acknowledge(
    moved: Callable[[Durability], None],
) -> None:
    """The last one of three, the others gone for good: it shows what it has, and nothing else is written that would
    make anybody look.
    """
    written = Written()
    watermark = Watermark("n1", ["n1", "n2"], high=0)
    durability = Durability(watermark, "n1", written, level="replicated", min_insync=lambda: 3)
    seen: list[int] = []

    async def wait() -> None:
        seen.append(await durability.wait_high(0))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not seen
            moved(durability)
    assert seen == [1]


async def test_who_waits_for_a_node_to_be_in_sync_is_told_although_no_record_moves() -> None:
    written = Written()
    durability = Durability(Watermark("n1", ["n1"], high=1), "n1", written, level="replicated", min_insync=lambda: 1)

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(written.pulse.wait)
            await trio.testing.wait_all_tasks_blocked()
            durability.agree(["n1", "n2"])
