"""What a node of a cluster says to those who ask whether to send it anything."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from arc.catalog.roles import NodeRole
from arc.errors import Unavailable
from arc.node.readiness import Readiness


class Rows:
    def __init__(self, closed: str | None, behind: str | None) -> None:
        self.closed_because = closed
        self.behind = behind
        self.inherited_sequence = 0
        self.admitted = 0
        self.more = trio.Event()

    async def wait_admitted(self, sequence: int) -> None:
        while self.admitted < sequence:
            await self.more.wait()
            self.more = trio.Event()

    def show(self, through: int) -> None:
        self.admitted = through
        self.more.set()

    async def flush_all(self) -> None:
        raise NotImplementedError


async def wait_index(index: int, /) -> object:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("closed", "behind", "holds", "forwards", "expected"),
    [
        (None, None, True, True, None),
        (None, None, True, False, None),
        ("full", None, True, True, "full"),
        ("not mine", None, False, True, None),  # somebody else takes it
        (None, "has not heard", True, True, "has not heard"),  # writes and strong queries end here
        ("not mine", "has not heard", False, True, None),
        (None, "has not heard", True, False, "has not heard"),
    ],
)
def test_a_node_is_ready_unless_what_it_is_sent_ends_at_itself_and_fails(
    closed: str | None, behind: str | None, holds: bool, forwards: bool, expected: str | None
) -> None:
    state = Readiness(
        Rows(closed, behind),
        wait_index,
        role=NodeRole.WRITER,
        membership=lambda: None,
        holds=lambda: holds,
        forwards=forwards,
    )
    assert state.not_ready() == "the node is starting"
    state.starting = None
    assert state.not_ready() == expected


def test_a_reason_that_concerns_everything_comes_first() -> None:
    state = Readiness(
        Rows("full", None),
        wait_index,
        role=NodeRole.WRITER,
        membership=lambda: "it is not let in",
        holds=lambda: True,
        forwards=True,
    )
    state.starting = None
    assert state.not_ready() == "it is not let in"
    state.stopping = True
    assert state.not_ready() == "the node is stopping"


async def test_who_asks_strongly_waits_for_what_holders_before_may_have_acknowledged(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Rows that the last holder had acknowledged were missing on its successor for as long as the third node was lost
    and counted (world_two_lost).
    """

    async def at_once(index: int, /) -> object:
        return index

    rows = Rows(None, None)
    rows.inherited_sequence = 7
    rows.show(6)
    state = Readiness(rows, at_once, role=NodeRole.WRITER, membership=lambda: None, holds=lambda: True, forwards=True)
    await state.wait_seen(None, 3)
    with pytest.raises(Unavailable, match="all that was acknowledged before within 5 s"):
        await state.wait_seen(None, 3, is_strong=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: state.wait_seen(None, 3, is_strong=True))
        await trio.testing.wait_all_tasks_blocked()
        rows.show(7)
