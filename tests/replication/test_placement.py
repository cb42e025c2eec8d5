"""Where files should be: everywhere where queries are answered, on a few others where that is too few."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.nodes import NodeRecord
from arc.ids import NodeId
from arc.replication.placement import Placement, targets
from tests.catalog.facts import file

FILES = [file(f"f{n}", hour=n) for n in range(200)]
"""All written by n1."""


def nodes(**roles: str) -> dict[str, NodeRecord]:
    """``n1="writer"``; a role with an exclamation mark is one of a node that leaves."""
    return {
        name: NodeRecord(
            NodeId(name), 1, f"{name}:1", role.removesuffix("!"), state="leaving" if role.endswith("!") else "healthy"
        )
        for name, role in roles.items()
    }


@pytest.mark.parametrize(
    ("roles", "factor", "expected"),
    [
        ({"n1": "writer", "n2": "writer", "r": "reader"}, 2, ("n1", "n2", "r")),
        ({"n1": "writer", "n2": "writer", "c": "compactor"}, 2, ("n1", "n2")),
        ({"n1": "writer", "c": "compactor"}, 2, ("n1", "c")),
        ({"n1": "writer", "c": "compactor"}, 1, ("n1",)),
        ({"n1": "standalone"}, 2, ("n1",)),
        ({"n1": "writer!", "n2": "writer", "c": "compactor"}, 2, ("n2", "c")),
        ({"n1": "writer!"}, 2, ()),
        ({}, 2, ()),
    ],
)
def test_nodes_that_answer_queries_and_no_more_than_needed_beside_them(
    roles: dict[str, str], factor: int, expected: tuple[str, ...]
) -> None:
    assert targets(FILES[0], nodes(**roles), factor) == expected


def test_who_wrote_a_file_is_the_first_of_the_others_to_keep_it() -> None:
    merged = file("m", holders=("c1",))
    spare = nodes(w="writer", n1="compactor", c2="compactor", c3="compactor")
    assert targets(merged, spare, 2) == ("w", "n1")


def test_only_copies_on_targets_count() -> None:
    placement = Placement(nodes(n1="writer", n2="writer", c="compactor"), 2)
    assert placement.copies(file("a", holders=("c", "n1"))) == 1
    assert placement.copies(file("a", holders=("c", "n1", "n2"))) == 2
    assert placement.copies(file("a", holders=("n1", "n2")), without="n2") == 1


names = st.lists(st.sampled_from([f"c{n}" for n in range(12)]), min_size=4, max_size=10, unique=True)


def compactors(found: Sequence[str]) -> dict[str, NodeRecord]:
    return nodes(w="writer", **dict.fromkeys(found, "compactor"))


@given(names, st.integers(2, 4), st.randoms())
def test_the_order_of_nodes_means_nothing_and_enough_are_found(
    found: list[str], factor: int, random: st.DrawFn
) -> None:
    turned = [*found]
    random.shuffle(turned)  # type: ignore[attr-defined]
    for entry in FILES[:20]:
        chosen = targets(entry, compactors(found), factor)
        assert chosen == targets(entry, compactors(turned), factor)
        assert len({*chosen}) == factor


@given(names, st.integers(2, 3))
def test_a_node_that_comes_takes_its_share_and_moves_nothing_between_the_others(found: list[str], factor: int) -> None:
    *old, new = found
    before, after = Placement(compactors(old), factor), Placement(compactors(found), factor)
    taken = 0
    for entry in FILES:
        was, now = {*before.targets(entry)}, {*after.targets(entry)}
        assert now == was or (now - was == {new} and len(was - now) == 1)
        taken += now != was
    share = len(FILES) * (factor - 1) / len(found)
    assert share / 3 < taken < share * 3, "and not all of them"
