"""Members come and go: one change at a time, in force from its append, joint where it takes two majorities."""

from __future__ import annotations

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import Committed, NotLeader
from arc.raft.events import Change, ChangeKind, ChangeMembers, Persisted, Receive, Tick
from arc.raft.messages import Append, Removed, Vote
from arc.raft.types import Peer, bootstrap
from tests.raft.resting import N1, N2, N3, N4, beat, cluster
from tests.raft.talk import FixedRng, Talk


def test_no_change_before_an_entry_of_the_own_term_is_committed() -> None:
    """M-01, K-74 (the gap found in 2015)."""
    talk = Talk(2, is_pre_vote=False)
    talk.do("timeout n1", "persist n1", "deliver n1->n2", "persist n2", "deliver n2->n1", "change n1 -n2 now")
    assert talk.core("n1").is_leader and talk.answers["change1"].code == "conflict"


def test_a_committed_change_binds_although_it_is_not_applied() -> None:
    """M-05: configurations count from their append, so there is no gap between commit and apply to guard."""
    core = RaftCore(N1, Config(is_pre_vote=False), bootstrap(N1), FixedRng(1), 0.0)
    core.step(Tick(), 5.0)
    core.step(Persisted(1), 5.0)
    core.step(Persisted(2), 5.0)
    core.step(ChangeMembers("c", (Change(ChangeKind.LEARNER, N2),)), 5.0)
    core.step(Persisted(3), 5.0)
    status = core.status()
    assert (status.commit, status.applied, status.configuration.learners) == (2, 0, (N2,))


def test_one_change_at_a_time() -> None:
    """M-01: the second is refused; with an expected index it is compared first (M-15)."""
    talk = cluster()
    talk.do("change n1 -n3 now", "change n1 -n2 now")
    assert talk.answers["change2"].code == "conflict"
    talk.do("settle")
    assert talk.answers["change1"] == Committed(2, 1)
    change = ChangeMembers("c", (Change(ChangeKind.REMOVE, N2),), expect_index=0)
    talk.step("n1", change)
    assert talk.answers["c"].code == "conflict"


def test_adding_a_member_again_is_harmless_and_followers_refuse() -> None:
    """M-06, M-02."""
    talk = cluster()
    talk.do("change n1 +n2", "change n2 -n3")
    assert talk.answers["change1"] == Committed(0, 0) and talk.answers["change2"] == NotLeader(N1)


def test_shrinking_the_cluster_commits_what_waited() -> None:
    """C-08: under the old quorum it could not."""
    talk = cluster(2)
    talk.do("crash n2", "propose n1 a", "settle n2")
    assert "a" not in talk.answers
    talk.do("change n1 -n2 now", "settle n2")
    assert isinstance(talk.answers["a"], Committed) and isinstance(talk.answers["change1"], Committed)


def test_a_configuration_is_in_force_from_its_append_until_it_is_cut_off() -> None:
    """M-01, I-18, K-77 (4.1): who counts and who may campaign go back with it."""
    talk = cluster(is_pre_vote=False, is_sticky=False)
    talk.do("change n1 -n3 now")
    assert talk.core("n1").status().configuration.voters == (N1, N2)
    talk.do("drop n1->*", "timeout n2", "settle")
    assert talk.core("n1").status().configuration.voters == (N1, N2, N3)
    assert talk.core("n1").state.groups == ((N1, N2, N3),) and talk.traced("membership_reverted")


def test_a_joint_configuration_needs_both_majorities() -> None:
    """M-08, C-09, K-76: new members alone commit nothing."""
    talk = cluster(3)
    talk.do("join n4", "join n5", "join n6", "change n1 +n4 +n5 +n6 -n2 -n3 now", "settle n2 n3")
    assert talk.core("n1").status().configuration.is_joint and talk.core("n1").status().commit == 1
    beat(talk)
    assert talk.core("n1").status().configuration.voters == (N1, N4, Peer("n5"), Peer("n6"))


def test_a_new_leader_leaves_the_joint_configuration_of_its_predecessor() -> None:
    """M-06, V-04, K-83: also after a restart of everybody."""
    talk = cluster(3)
    talk.do("join n4", "join n5", "change n1 +n4 +n5 now", "deliver n1->*", "persist n2", "persist n3", "persist n1")
    talk.do("drop *->*", "restart n1", "restart n2", "restart n3", "time 5", "timeout n2", "settle")
    beat(talk, "n2")
    status = talk.core("n2").status()
    assert talk.core("n2").is_leader and not status.configuration.is_joint and len(status.configuration.voters) == 5


def test_a_slow_newcomer_stays_a_learner() -> None:
    """M-17, V-05 (4.2.1): rounds that last too long end the attempt; others' changes are not held up."""
    talk = cluster(catch_up_rounds_max=3)
    talk.do("join n4", "change n1 +n4")
    others = ("deliver n1->n2", "deliver n1->n3", "persist n2", "persist n3", "deliver n2->n1", "deliver n3->n1")
    for number in range(4):
        for _ in range(6):
            talk.do("time 0.2", "tick n1", "persist n1", *others)
        # When its answer comes, there is more already.
        talk.do("deliver n1->n4", "persist n4", f"propose n1 {number}", "deliver n4->n1")
    assert talk.core("n1").is_leader
    assert talk.answers["change1"].code == "unavailable"
    assert talk.core("n1").status().configuration.learners == (N4,)


def test_a_silent_newcomer_never_blocks() -> None:
    """M-17: neither commits, nor other changes, and in the end it is given up."""
    talk = cluster(catch_up_timeout_seconds=3.0)
    talk.do("change n1 +n4", "settle", "propose n1 a", "change n1 -n3", "settle")
    assert isinstance(talk.answers["a"], Committed) and isinstance(talk.answers["change2"], Committed)
    for _ in range(32):
        beat(talk)
    assert talk.answers["change1"].code == "unavailable"


def test_a_learner_gets_everything_and_counts_for_nothing() -> None:
    """M-03, C-11, I-19, K-14: promotion lets it campaign."""
    talk = cluster()
    talk.do("join n4", "change n1 ~n4", "settle", "propose n1 a", "settle n2 n3")
    assert "a" not in talk.answers and talk.core("n4").status().last_index == 3
    beat(talk)
    talk.do("change n1 +n4", "settle", "time 3", "timeout n4", "settle")
    assert talk.core("n4").is_leader


def test_a_learner_gives_its_vote_to_whoever_asks() -> None:
    """M-04, Q-04, K-79: it may be a voter without knowing."""
    talk = cluster()
    talk.do("join n4", "change n1 ~n4", "settle", "time 3")
    talk.step("n4", Receive(Vote(N4, N2, 5, 9, 9)))
    assert talk.core("n4").status().vote == N2


def test_a_leader_that_removes_itself_serves_until_it_is_committed() -> None:
    """M-09, K-80 (4.2.2): not counting itself; then a successor is prompted."""
    talk = cluster()
    talk.do("change n1 -n1 now", "persist n1", "deliver n1->n2", "persist n2", "deliver n2->n1")
    assert talk.core("n1").is_leader and talk.core("n1").status().commit == 1, "n2 is not a majority of n2 and n3"
    talk.do("settle")
    assert not talk.core("n1").is_leader and talk.traced("leader_removed")
    assert talk.core("n2").is_leader or talk.core("n3").is_leader
    assert talk.core("n1").deadline is None


def test_a_voter_that_appended_its_own_removal_may_finish_it() -> None:
    """E-20 (4.2.2), found by the small cluster: it alone holds the longest log, so nobody else could be elected."""
    talk = cluster(2)
    talk.do("change n1 -n1 now", "drop *->*", "persist n1", "restart n1", "restart n2", "time 3")
    talk.do("timeout n2", "settle")
    assert not talk.core("n2").is_leader
    talk.do("time 3", "timeout n1", "settle")
    assert talk.core("n2").is_leader and talk.core("n2").status().configuration.voters == (N2,)


def test_a_removed_node_that_is_told_so_stops_until_it_is_added_again() -> None:
    """M-17, M-14, E-22: an old notice does not keep it out."""
    talk = cluster()
    talk.do("change n1 -n3 now", "settle n3", "time 3", "timeout n3", "deliver n3->n1", "deliver n1->n3")
    assert talk.core("n3").deadline is None
    talk.do("change n1 +n3 now", "settle")
    beat(talk)
    assert talk.core("n3").deadline is not None
    talk.step("n3", Receive(Removed(N3, N2, 1, 2)))
    assert talk.core("n3").deadline is not None


def test_messages_for_another_incarnation_are_dropped() -> None:
    """M-17, I-40: the node that forgot is another one."""
    talk = cluster()
    talk.step("n2", Receive(Vote(Peer("n2", 2), N3, 9, 9, 9, True)))
    assert talk.core("n2").term == 1 and talk.traced("misaddressed")


def test_what_a_smaller_configuration_already_holds_is_committed_with_it() -> None:
    """M-09, C-01, 4.1: at once, and not with whatever happens next (swarm seed 629591)."""
    talk = cluster(4)
    talk.do("change n1 -n3 -n4", "drop n1->n4", "deliver n1->n3", "propose n1 x", "persist n1")
    joint = talk.core("n1").state.history.index
    talk.do("deliver n1->n2", "deliver n1->n2", "persist n2", "persist n3", "deliver n2->n1", "deliver n2->n1")
    assert talk.core("n1").state.commit < joint
    talk.do("deliver n3->n1")
    assert not talk.core("n1").state.history.current.is_joint
    told = [each.commit for each in talk.flying() if isinstance(each, Append) and each.to == N2]
    assert told == [joint + 1], "the first word of it"
