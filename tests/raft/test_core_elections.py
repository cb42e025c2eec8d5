"""Elections beyond the paper: pre-votes, the shield of whoever heard its leader, CheckQuorum."""

from __future__ import annotations

from arc.raft.events import Receive, Tick
from arc.raft.messages import Heartbeat, HeartbeatReply, PreVote, PreVoteReply, Vote
from arc.raft.types import HardState, Role
from tests.raft.resting import N1, N2, N3, N4, beat, cluster
from tests.raft.talk import Talk


def test_a_stale_pre_vote_answer_does_not_count() -> None:
    """P-06, E-16: of another round or for another term."""
    talk = Talk(3)
    talk.do("timeout n1", "timeout n1")
    number = talk.core("n1").state.pre_round
    for next_term, round_ in ((1, number - 1), (2, number)):
        talk.step("n1", Receive(PreVoteReply(N1, N2, 0, next_term, round_, True)))
    assert talk.core("n1").state.role is Role.PRE_CANDIDATE
    talk.step("n1", Receive(PreVoteReply(N1, N2, 0, 1, number, True)))
    assert talk.core("n1").state.role is Role.CANDIDATE
    talk.do("persist n1")
    talk.step("n1", Receive(PreVoteReply(N1, N3, 0, 1, number, True)))
    assert talk.core("n1").state.role is Role.CANDIDATE, "a pre-vote is no vote"


def test_a_late_own_vote_does_not_revive_a_lost_election() -> None:
    """E-15: its disk is done after the candidate yielded."""
    talk = Talk(3, is_pre_vote=False)
    talk.do("timeout n1")
    talk.step("n1", Receive(Heartbeat(N1, N2, 1, 0, 1)))
    talk.do("persist n1")
    assert talk.core("n1").state.role is Role.FOLLOWER and talk.traced("self_vote_late")


def test_a_leader_asked_to_campaign_does_nothing() -> None:
    """E-19, T-04."""
    talk = cluster()
    assert talk.step("n1", Tick()) == [] or talk.core("n1").is_leader
    talk.do("timeout n1")
    assert talk.core("n1").is_leader and talk.core("n1").term == 1


def test_a_follower_that_heard_its_leader_refuses_votes_until_its_own_window_ends() -> None:
    """Q-02, E-22, Q-06: without taking over the term; then superseding succeeds."""
    talk = cluster()
    talk.step("n2", Receive(Vote(N2, N3, 7, 9, 9)))
    assert talk.core("n2").term == 1 and talk.traced("vote_shielded")
    talk.do("time 1.01")
    talk.step("n2", Receive(Vote(N2, N3, 7, 9, 9)))
    assert talk.core("n2").status().vote == N3


def test_the_shield_outlives_a_change_of_term() -> None:
    """Q-02, I-20: it counts from the contact; a lease lasts whatever term we were pushed into."""
    talk = cluster()
    talk.step("n2", Receive(HeartbeatReply(N2, N4, 5, 0, 0)))
    assert (talk.core("n2").term, talk.core("n2").leader) == (5, None)
    talk.step("n2", Receive(Vote(N2, N3, 5, 9, 9)))
    assert talk.core("n2").status().vote is None


def test_the_leaders_own_pre_vote_is_not_refused_to_shield_it() -> None:
    """P-06, K-23: it restarted and knows it is gone."""
    talk = cluster()
    talk.do("restart n1", "timeout n1", "deliver n1->n2")
    assert talk.traced("pre_vote_granted") and talk.lines[-1].endswith("is_granted=True")


def test_a_vote_for_a_transfer_passes_the_shield() -> None:
    """L-01, E-22, K-23."""
    talk = cluster()
    talk.step("n2", Receive(Vote(N2, N3, 2, 9, 9, True)))
    assert talk.core("n2").status().vote == N3


def test_a_stuck_node_of_a_higher_term_is_freed() -> None:
    """Q-03, P-05, E-18: its answer raises the leader's term, and the next election takes it along."""
    talk = cluster()
    node = talk.nodes["n3"]
    node.disk.hard = HardState(9, None)
    talk.do("restart n3")
    beat(talk)
    assert talk.core("n1").term == 9 and not talk.core("n1").is_leader
    talk.do("time 3", "timeout n2", "settle")
    assert talk.core("n2").term == 9, "its pre-vote showed it the term"
    talk.do("time 3", "timeout n2", "settle")
    assert talk.core("n2").is_leader and {core.term for core in map(talk.core, ("n1", "n2", "n3"))} == {10}


def test_pre_votes_are_compared_for_a_term_nobody_is_in_yet() -> None:
    """P-05: a grant may come from a node of a lower term and counts."""
    talk = Talk(3)
    talk.do("found n1 term=5", "timeout n1", "deliver n1->n2", "deliver n2->n1")
    assert talk.core("n1").state.role is Role.CANDIDATE and talk.core("n2").term == 0


def test_forgetting_the_leader_lowers_the_shield_and_keeps_term_and_timer() -> None:
    """Q-07: a no-op at a leader, refused with lease reads, and a stale log stays stale."""
    for is_lease in (False, True):
        talk = cluster(is_lease_read=is_lease)
        deadline = talk.core("n2").deadline
        talk.do("forget n2", "forget n1")
        assert talk.core("n1").is_leader and talk.core("n2").deadline == deadline
        talk.step("n2", Receive(PreVote(N2, N3, 1, 2, 7, 1, 1)))
        assert talk.traced("pre_vote_granted") is not is_lease
        talk.step("n2", Receive(PreVote(N2, N3, 1, 2, 8, 0, 0)))
        assert talk.traced("pre_vote_refused")


def test_a_new_silent_voter_is_given_one_window() -> None:
    """Q-05: then its silence counts."""
    talk = cluster(1)
    talk.do("join n2", "time 5", "tick n1", "change n1 +n2 now", "drop n1->n2", "time 0.9", "tick n1")
    assert talk.core("n1").is_leader
    talk.do("time 0.2", "tick n1")
    assert not talk.core("n1").is_leader


def test_a_leader_is_held_to_the_quorum_of_a_configuration_from_its_append_on() -> None:
    """Q-01, 4.1, 6.2: even if it stood still until then, it does not go on by the quorum of the one before."""
    talk = cluster(1)
    talk.do("join n2", "time 5", "tick n1", "change n1 +n2 now", "drop n1->n2", "time 1.1", "tick n1")
    assert not talk.core("n1").is_leader and not talk.flying()


def test_a_silent_voter_that_was_let_go_is_not_counted_any_more() -> None:
    """Q-01, M-09: the leader heard everybody who counts, so it stays."""
    talk = cluster(2)
    beat(talk)
    talk.do("time 0.9", "change n1 -n2")
    assert talk.core("n1").state.history.current.voters == (N1,)
    talk.do("drop n1->n2", "time 0.2", "tick n1")
    assert talk.core("n1").is_leader
