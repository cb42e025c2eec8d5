"""The exhaustive search finds nothing in the core within its bounds, and planted bugs by the property they break."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import pytest

from arc.raft.core import RaftCore
from arc.raft.messages import Heartbeat, HeartbeatReply
from arc.raft.types import Peer
from simulations.exhaustive import CI, Bounds, Search, search
from simulations.exhaustive_node import campaign, clone, digest, found, persist
from simulations.mutants.plant import plant
from simulations.specmatrix import PLANTED

SMALL = Bounds(nodes=2, terms=1, entries=1, crashes=1)


@pytest.mark.parametrize("bounds", CI, ids=str)
def test_no_reachable_state_breaks_a_property(bounds: Bounds) -> None:
    result = search(bounds)
    assert result.violation is None, "\n".join(result.lines())
    assert result.is_exhausted or result.states >= bounds.states_max
    assert result.probes["commit of entry 1"] or bounds.nodes == 3


def test_a_search_says_the_same_twice_and_states_its_bounds() -> None:
    first, second = search(SMALL), search(SMALL, has_spec=False)
    assert first.is_exhausted
    assert (first.states, first.transitions, first.depth) == (second.states, second.transitions, second.depth)
    assert first.document()["bounds"]["crashes"] == 1
    assert "1 crashes" in first.lines()[0] and "every state" in first.lines()[1]


def test_a_search_that_is_cut_short_says_so() -> None:
    result = search(SMALL._replace(states_max=100))
    assert not result.is_exhausted
    assert "not all states" in result.lines()[1]


QUICK = {"P-1": "I-12", "P-2": "I-06", "P-3": "I-06", "P-4": "I-29", "K-02": "I-12", "K-04": "I-28", "K-13": "I-06"}


@pytest.mark.parametrize("planted", [each for each in PLANTED if each.id in QUICK], ids=lambda each: each.id)
def test_planted_bugs_break_a_property_by_the_shortest_way(planted: object) -> None:
    core = plant(planted.id, planted.edits)  # type: ignore[attr-defined]
    result = search(planted.bounds, core, has_spec=False)  # type: ignore[attr-defined]
    assert result.violation is not None
    assert result.violation.killer == QUICK[planted.id]  # type: ignore[attr-defined]
    assert 0 < len(result.violation.path) <= 9 and result.violation.path[0].startswith("n1 ")


def test_messages_of_two_kinds_are_two_messages_though_their_tuples_are_equal() -> None:
    n1, n2 = Peer("n1"), Peer("n2")
    one, other = Heartbeat(n1, n2, 1, 0, 1), HeartbeatReply(n1, n2, 1, 0, 1)
    assert one == other  # type: ignore[comparison-overlap]
    held = Search(SMALL)._messages
    assert held.number((type(one), one)) != held.number((type(other), other))


def test_a_step_changes_a_copy_and_never_the_node_itself() -> None:
    peers = (Peer("n1"), Peer("n2"))
    node = found(RaftCore, peers[0], peers)
    before = copy.deepcopy(node.core)
    moved = campaign(node, 2, True)
    assert moved is not None and moved.local.key != node.key
    done = persist(moved.local, True)
    assert done is not None and len(done.left) == 1
    for core in (node.core, clone(node.core), before):
        assert digest(core.state, node.disk, (), (), node.seen) == node.key


def test_the_command_prints_bounds_and_figures() -> None:
    command = "-m arc sim exhaustive --nodes 2 --terms 1 --entries 1 --crashes 0 --json"
    answer = subprocess.run([sys.executable, *command.split()], capture_output=True, text=True, check=True)
    document = json.loads(answer.stdout)
    assert document["is_exhausted"] and document["states"] == 389 and document["bounds"]["terms"] == 1
