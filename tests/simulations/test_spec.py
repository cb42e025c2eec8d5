"""The specification allows what the core does and forbids what planted bugs do; its rules say no where they must."""

from __future__ import annotations

import pytest

from arc.raft import messages as m
from arc.raft.core import RaftCore
from arc.raft.events import Persisted, Propose, Receive, Tick
from arc.raft.types import Configuration, Entry, EntryKind, Peer, Role
from simulations import swarm
from simulations.cores import Cores
from simulations.costep import EVERY, sampled, watched
from simulations.mutants.plant import plant
from simulations.scenarios import BY_NAME
from simulations.spec import Disk, Log, Node, explain, is_quorum, may_follow, may_leave, may_say
from simulations.specmatrix import PLANTED, by_seeds

A, B, C, D = (Peer(name) for name in "abcd")
THREE = Configuration(voters=(A, B, C))


def log(*terms: int) -> Log:
    return Log(0, 0, THREE, tuple(Entry(index + 1, term, payload=b"x") for index, term in enumerate(terms)))


def node(term: int, role: Role, entries: Log, **fields: object) -> Node:
    return Node(A, term, A, role, entries, 0, 0)._replace(**fields)  # type: ignore[arg-type]


def disk_of(what: Node) -> Disk:
    return Disk(what.term, what.vote, what.log)


@pytest.mark.parametrize("scenario", ["crash_leader", "figure_8", "full_disk", "membership", "snapshots"])
def test_every_step_of_a_run_is_allowed(scenario: str) -> None:
    world = Cores(BY_NAME[scenario].plan(3), watched(RaftCore))
    world.run()
    assert world.ghost.commit > 10


def test_a_watched_run_is_the_same_run() -> None:
    plain, beside = (Cores(swarm.draw(1), core) for core in (RaftCore, watched(RaftCore)))
    plain.run()
    beside.run()
    assert plain.digest == beside.digest


def test_the_sample_is_of_the_projects_own_core() -> None:
    assert sampled(RaftCore, EVERY) is not RaftCore
    assert sampled(RaftCore, EVERY + 1) is RaftCore
    copy = plant("nothing", [])
    assert sampled(copy, EVERY) is copy


QUICK = ("P-1", "P-2", "P-4", "K-01", "K-02", "K-04", "K-05", "K-13", "K-29", "K-31", "K-46", "K-47")


@pytest.mark.parametrize("planted", [each for each in PLANTED if each.id in QUICK], ids=lambda each: each.id)
def test_planted_bugs_are_not_allowed(planted: object) -> None:
    core = plant(planted.id, planted.edits)  # type: ignore[attr-defined]
    assert by_seeds(core, 6).startswith("seed")


def test_nobody_leads_without_a_quorum() -> None:
    before = node(2, Role.CANDIDATE, log(1))
    grown = before.log._replace(entries=(*before.log.entries, Entry(2, 2, EntryKind.NOTHING)))
    after = node(2, Role.LEADER, grown, match=frozenset({(B, 0), (C, 0)}))
    grant = m.VoteReply(A, B, 2, True)
    assert explain(before, Receive(grant), after, disk_of(before)) is None
    voted = before._replace(votes=frozenset({A}))
    assert explain(voted, Receive(grant), after, disk_of(before)) is not None
    assert explain(voted, Receive(grant._replace(term=1)), after, disk_of(before)) is None


def test_an_entry_of_an_older_term_is_not_committed_by_counting() -> None:
    before = node(3, Role.LEADER, log(1, 3), match=frozenset({(B, 0), (C, 0)}))
    told = Receive(m.AppendReply(A, B, 3, 0, m.AppendStatus.ACCEPTED, 1, 0, 1))
    raised = before._replace(match=frozenset({(B, 1), (C, 0)}))
    assert explain(before, told, raised, disk_of(before)) is not None
    assert explain(before, told, raised._replace(commit=1), disk_of(before)) is None


def test_a_leaders_own_copy_counts_when_it_is_on_disk() -> None:
    before = node(1, Role.LEADER, log(1), match=frozenset({(B, 1), (C, 0)}))
    after = before._replace(commit=1)
    assert explain(before, Persisted(1), after, Disk(1, A, log())) is None
    assert explain(before, Persisted(1), after, disk_of(before)) is not None


def test_a_follower_keeps_what_an_old_append_does_not_contradict() -> None:
    before = node(1, Role.FOLLOWER, log(1, 1, 1), agreed=3)
    old = Receive(m.Append(A, B, 1, 0, 0, log(1).entries, 0, 1))
    assert explain(before, old, before, disk_of(before)) is not None
    assert explain(before, old, before._replace(log=log(1)), disk_of(before)) is None


def test_a_follower_cuts_what_conflicts_but_never_what_is_committed() -> None:
    before = node(2, Role.FOLLOWER, log(1, 1))
    fresh = log(1, 2).entries[1:]
    event = Receive(m.Append(A, B, 2, 1, 1, fresh, 0, 1))
    after = before._replace(log=log(1, 2), agreed=2)
    assert explain(before, event, after, disk_of(before)) is not None
    known = {"commit": 2}
    assert explain(before._replace(**known), event, after._replace(**known), disk_of(before)) is None


def test_only_leaders_append_and_only_what_was_asked() -> None:
    before = node(1, Role.LEADER, log(1), match=frozenset({(B, 0), (C, 0)}))
    after = before._replace(log=log(1, 1))
    assert explain(before, Propose(((1, b"x"),)), after, disk_of(before)) is not None
    assert explain(before, Propose(((1, b"y"),)), after, disk_of(before)) is None
    assert explain(before, Tick(), after, disk_of(before)) is None


@pytest.mark.parametrize(
    ("old", "new", "is_allowed"),
    [
        (THREE, Configuration(voters=(A, B, C, D)), True),
        (THREE, Configuration(voters=(A, D)), False),
        (THREE, Configuration(voters=(A, D), outgoing=(A, B, C)), True),
        (THREE, Configuration(voters=(A, D), outgoing=(A, B)), False),
        (Configuration(voters=(A, D), outgoing=(A, B, C)), Configuration(voters=(A, D)), True),
        (Configuration(voters=(A, D), outgoing=(A, B, C)), Configuration(voters=(A,)), False),
        (THREE, Configuration(), False),
    ],
)
def test_majorities_of_neighbouring_configurations_meet(
    old: Configuration, new: Configuration, is_allowed: bool
) -> None:
    assert may_follow(old, new) is is_allowed


def test_while_joint_both_halves_must_agree() -> None:
    joint = Configuration(voters=(A, D), outgoing=(A, B, C))
    assert not is_quorum(joint, frozenset({A, D}))
    assert not is_quorum(joint, frozenset({B, C}))
    assert is_quorum(joint, frozenset({A, D, B}))


def test_promises_wait_for_the_disk() -> None:
    said = node(2, Role.FOLLOWER, log(1, 2), agreed=2)._replace(vote=B)
    grant, held = m.VoteReply(B, A, 2, True), m.AppendReply(B, A, 2, 1, m.AppendStatus.ACCEPTED, 2, 0, 1)
    assert may_say(said, grant) and may_say(said, held)
    assert not may_say(said, grant._replace(to=C)) and not may_say(said, held._replace(match=3))
    assert not may_leave(said, Disk(1, None, log(1, 2)), grant)
    assert not may_leave(said, Disk(2, None, log(1, 2)), grant)
    assert not may_leave(said, Disk(2, B, log(1)), held)
    assert may_leave(said, disk_of(said), grant) and may_leave(said, disk_of(said), held)
