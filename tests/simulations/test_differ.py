"""Two runs of one seed that part are caught, and told apart at the event where it began (I-36)."""

from __future__ import annotations

from simulations import swarm
from simulations.differ import canonical, first_difference

ORDER_BY_HASH = [
    (
        "election",
        "return tuple(peer for peer in state.others if is_voter(current, peer))",
        "return tuple({peer for peer in state.others if is_voter(current, peer)})",
    )
]
"""Planted: whom a candidate asks first is settled by the order of a set, hence by the hash seed of the process."""


def test_a_run_is_the_same_twice() -> None:
    assert first_difference(swarm.draw(3)) is None


def test_an_order_settled_by_hashes_is_found_where_it_begins() -> None:
    found = first_difference(swarm.draw(3), ORDER_BY_HASH)
    assert found is not None
    assert found.before[-1].endswith("Tick()"), "a timeout made a node ask the others"
    lines = "\n".join(found.lines())
    assert "state of n" in lines and "PRE_CANDIDATE" in lines


def test_canonical_text_is_equal_for_equal_values() -> None:
    assert canonical({"b", "a"}) == canonical({"a", "b"}) == "{'a', 'b'}"
    assert canonical({"b": 1, "a": 2}) != canonical({"a": 2, "b": 1})
    assert " at 0x" not in canonical([object(), {1: (2.5, None)}])
