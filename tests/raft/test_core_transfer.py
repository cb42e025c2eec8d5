"""Leadership handed over on demand: to whom, for how long, and what ends it."""

from __future__ import annotations

import pytest

from arc.raft.effects import Committed, Transferred
from arc.raft.events import Receive
from arc.raft.messages import TimeoutNow, VoteReply
from arc.raft.types import Role
from tests.raft.resting import N1, N2, N3, N4, cluster


def test_a_target_does_not_campaign_before_its_log_is_on_disk() -> None:
    """L-08, K-92: it was told too early, or the order overtook its disk."""
    talk = cluster()
    talk.do("propose n1 a", "deliver n1->n2")
    talk.step("n2", Receive(TimeoutNow(N2, N1, 1)))
    assert talk.core("n2").state.role is Role.FOLLOWER and talk.traced("campaign_waits_for_disk")
    talk.do("persist n2")
    assert talk.core("n2").state.role is Role.CANDIDATE


def test_the_best_target_is_a_live_voter_that_holds_most() -> None:
    """L-07: never a learner."""
    talk = cluster()
    talk.do("join n4", "change n1 ~n4", "settle", "crash n2", "propose n1 a", "settle n2", "transfer n1")
    assert talk.core("n1").status().transfer_to == N3


@pytest.mark.parametrize("target", ["n1", "n4", "n9"])
def test_a_transfer_to_oneself_a_learner_or_a_stranger_is_refused(target: str) -> None:
    """L-03, L-07."""
    talk = cluster()
    talk.do("join n4", "change n1 ~n4", "settle", f"transfer n1 {target}")
    assert talk.answers["transfer2"].code == "invalid"


def test_a_transfer_ends_within_one_election_timeout_and_proposals_flow_again() -> None:
    """L-04, L-08, I-33, K-91: heartbeats do not keep it alive."""
    talk = cluster()
    talk.do("transfer n1 n3")
    for _ in range(11):
        talk.do("drop n1->n3", "time 0.1", "tick n1", "deliver n1->n2", "deliver n2->n1")
    assert talk.answers["transfer1"].code == "transferring"
    talk.do("propose n1 a", "settle")
    assert isinstance(talk.answers["a"], Committed)


def test_another_target_replaces_and_the_same_one_gains_no_time() -> None:
    """L-06."""
    talk = cluster()
    talk.do("transfer n1 n3", "time 0.5", "transfer n1 n3")
    assert talk.core("n1").state.leading.handover.deadline == 1.0  # type: ignore[union-attr]
    talk.do("transfer n1 n2")
    assert {talk.answers[f"transfer{number}"].code for number in (1, 2)} == {"transferring"}
    talk.do("settle")
    assert talk.core("n2").is_leader and talk.answers["transfer3"] == Transferred(N2)


@pytest.mark.parametrize("change", ["-n2", "~n2"])
def test_a_transfer_ends_when_its_target_may_not_lead_any_more(change: str) -> None:
    """L-05: and while one is under way no membership change begins."""
    talk = cluster()
    talk.do("propose n1 a", f"change n1 {change} now", "transfer n1 n2")
    assert talk.answers["transfer2"].code == "invalid"
    talk = cluster()
    talk.do("propose n1 a", "transfer n1 n2", f"change n1 {change} now")
    assert talk.answers["change2"].code == "conflict"


def test_a_higher_term_ends_a_transfer() -> None:
    """L-05, L-08, K-91."""
    talk = cluster()
    talk.do("propose n1 a", "transfer n1 n2")
    talk.step("n1", Receive(VoteReply(N1, N3, 9, False)))
    assert talk.answers["transfer1"].code == "transferring" and talk.traced("handover_ended")


def test_who_is_no_voter_does_not_campaign_on_demand() -> None:
    """L-03, E-20, M-03."""
    talk = cluster()
    talk.do("join n4", "change n1 ~n4", "settle")
    talk.step("n4", Receive(TimeoutNow(N4, N1, 1)))
    talk.do("timeout n4")
    assert talk.core("n4").state.role is Role.FOLLOWER and talk.core("n4").deadline is None


def test_every_node_can_lead_in_turn() -> None:
    """E-09, L-06."""
    talk = cluster()
    for name in ("n2", "n3", "n1", "n3"):
        leader = next(each for each in talk.nodes if talk.core(each).is_leader)
        talk.do(f"transfer {leader} {name}", "settle")
        assert talk.core(name).is_leader
