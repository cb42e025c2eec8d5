"""What the dissertation adds to the paper, and what we add to both: one fact a test, in the language of `talk`."""

from __future__ import annotations

import zlib

import pytest

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import Committed, NotLeader, Readable, ReadEntries, Refused, Send, Transferred, Unknown
from arc.raft.events import (
    Applied,
    Change,
    ChangeKind,
    ChangeMembers,
    EntriesRead,
    Persisted,
    Propose,
    Read,
    Receive,
    Tick,
)
from arc.raft.messages import (
    Append,
    AppendReply,
    AppendStatus,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    Removed,
    SnapshotWanted,
    TimeoutNow,
    Vote,
    VoteReply,
)
from arc.raft.types import TERM_MAX, Configuration, Entry, HardState, Peer, Role, SnapshotMeta, bootstrap
from tests.raft.talk import FixedRng, Talk

N1, N2, N3, N4 = (Peer(f"n{number}") for number in range(1, 5))


def cluster(size: int = 3, **options: object) -> Talk:
    """With n1 leading and all at rest."""
    talk = Talk(size, **options)
    talk.elect("n1")
    talk.lines.clear()
    talk.traces.clear()
    return talk


def beat(talk: Talk, name: str = "n1", seconds: float = 0.11, *silent: str) -> None:
    talk.do(f"time {seconds}", f"tick {name}", f"settle {' '.join(silent)}".strip())


# ---------------------------------------- pre-vote, shield, CheckQuorum


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


def test_a_leader_whose_disk_stalls_steps_down() -> None:
    """Issue 3, 2: it could answer heartbeats for ever and commit nothing of its own."""
    talk = cluster(disk_stall_seconds=2.0)
    talk.do("propose n1 a", "deliver n1->n2")
    for _ in range(30):
        talk.do("time 0.1", "tick n1", "deliver n1->*", "deliver *->n1")
        if not talk.core("n1").is_leader:
            break
    assert talk.traced("leader_disk_stalled") and isinstance(talk.answers["a"], Unknown)


# ---------------------------------------- replication, limits


def test_figure_seven_needs_few_rounds() -> None:
    """R-05: skipping by term on both sides; never more rounds than runs of terms in either log."""
    ours = "1," * 10 + "3," * 10 + "5," * 10 + "7"
    theirs = "1," * 10 + "2," * 15 + "4," * 15
    talk = Talk(3, is_pre_vote=False, is_sticky=False)
    talk.do(f"found n1 terms={ours}", f"found n2 terms={theirs}", f"found n3 terms={ours}", "timeout n1")
    talk.do("persist n1", "deliver n1->n3", "persist n3", "deliver n3->n1", "persist n1")
    rounds = 0
    talk.do("deliver n1->n2")
    while talk.core("n1").status().followers[0].match == 0:
        rounds += 1
        talk.do("persist n2", "deliver n2->n1", "persist n1", "deliver n1->n2")
        assert rounds <= 6
    assert rounds <= 4


def test_the_window_closes_by_messages_and_bytes_and_a_heartbeat_answer_lets_one_through() -> None:
    """F-01, F-02, F-07, K-41."""
    talk = cluster(2, window_messages_max=2, append_entries_max=1)
    talk.do("propose n1 a b c d")
    assert len(talk.flying(Append)) == 2
    talk.do("drop n1->n2", "time 0.11", "tick n1", "deliver n1->n2", "deliver n2->n1")
    assert len(talk.flying(Append)) == 1 and talk.traced("window_full")
    talk.do("settle")
    beat(talk)
    assert talk.core("n2").status().last_index == 5
    talk = cluster(2, window_bytes_max=40, append_entries_max=1)
    talk.do("propose n1 aaaaaaaaaaaaaaaa b c")
    assert len(talk.flying(Append)) == 1


def test_messages_and_machine_are_fed_within_their_limits() -> None:
    """F-05, F-06, D-05: at least one entry always moves."""
    talk = cluster(2, append_bytes_max=1, apply_bytes_max=1)
    talk.do("propose n1 a b c")
    assert [len(message.entries) for message in talk.flying(Append)] == [1, 1, 1]  # type: ignore[union-attr]
    talk.do("settle")
    assert [entry.payload for entry in talk.nodes["n2"].applied] == [b"", b"a", b"b", b"c"]


def test_what_waits_for_agreement_is_limited_and_the_budget_comes_back() -> None:
    """F-04, K-43, I-31: bytes and count, with a clear answer; empty commands pass; a new leadership begins at zero."""
    talk = cluster(uncommitted_bytes_max=10, uncommitted_entries_max=3)
    talk.step("n1", Propose((("a", b"12345678"), ("b", b"123"), ("c", b""))))
    assert isinstance(talk.answers["b"], Refused) and talk.answers["b"].code == "overloaded"
    assert talk.core("n1").status().uncommitted == 2
    talk.step("n1", Propose((("d", b""), ("e", b""))))
    assert talk.answers["e"].code == "overloaded"
    talk.do("settle")
    assert talk.core("n1").status().uncommitted_bytes == 0
    talk.step("n1", Propose((("f", b"12345678"),)))
    talk.do("drop *->*", "time 2", "tick n1")
    assert isinstance(talk.answers["f"], Unknown)
    talk.do("time 3", "timeout n1", "settle")
    assert talk.core("n1").status().uncommitted_bytes == 0


def test_one_proposal_may_be_larger_than_the_budget_but_not_than_an_entry() -> None:
    """F-04, F-05."""
    talk = cluster(uncommitted_bytes_max=4, entry_bytes_max=8)
    talk.step("n1", Propose((("a", b"123456"), ("b", b"123456789"))))
    talk.do("settle")
    assert talk.answers["a"] == Committed(2, 1) and talk.answers["b"].code == "too_large"


def test_old_entries_come_from_the_disk_for_followers_and_for_the_machine() -> None:
    """R-14, Z-09: memory is bounded; a late read is ignored."""
    talk = cluster(memory_bytes_max=64)
    talk.do("crash n3", *(f"propose n1 {number}" for number in range(9)), "settle n3")
    assert talk.core("n1").entry(2) is None
    talk.do("restart n3")
    beat(talk)
    beat(talk)
    assert talk.core("n3").status().commit == 10 and any("ReadEntries" in line for line in talk.lines) is False
    talk.step("n1", EntriesRead((), 12345))
    assert talk.traced("stale_completion")


def test_a_batch_of_proposals_is_one_write_and_one_message_each() -> None:
    """1.2, leader batching; F-05."""
    talk = cluster()
    effects = talk.step("n1", Propose(tuple((number, b"x") for number in range(50))))
    assert sum(isinstance(effect, Send) for effect in effects) == 2
    assert len(effects) == 3


def test_a_restarted_follower_learns_what_is_committed_without_a_new_proposal() -> None:
    """C-07: it accepted nothing in this term yet, and says so in its heartbeat answer."""
    talk = cluster()
    talk.do("restart n2")
    assert talk.core("n2").status().commit == 0
    beat(talk)
    assert talk.core("n2").status().commit == 1


def test_the_next_message_tells_the_commit() -> None:
    """C-01, C-07: followers apply without waiting for a heartbeat."""
    talk = cluster()
    talk.do("propose n1 a", "settle")
    assert [talk.core(name).status().commit for name in ("n1", "n2", "n3")] == [2, 2, 2]


def test_an_unreachable_follower_is_probed_until_it_answers() -> None:
    """R-10: and streams again although there is nothing new."""
    talk = cluster()
    talk.do("unreachable n1 n2")
    assert talk.core("n1").status().followers[0].pace == "probe"
    beat(talk)
    assert talk.core("n1").status().followers[0].pace == "replicate"


def test_terms_end_with_a_refusal_and_not_with_an_overflow() -> None:
    """1.1, K-25: neither an own campaign nor a message gets past the largest term."""
    talk = Talk(3, is_pre_vote=False)
    talk.do(f"found n1 term={TERM_MAX - 1}", "timeout n1")
    assert talk.core("n1").term == TERM_MAX - 1 and talk.traced("term_overflow")
    talk.step("n1", Receive(Heartbeat(N1, N2, TERM_MAX + 1, 0, 1)))
    assert talk.core("n1").term == TERM_MAX - 1


# ---------------------------------------- reads


def test_a_lease_answers_at_once_and_only_while_it_lasts() -> None:
    """X-02, K-88, I-20: counted from when the confirmed round began, shortened by the clocks' bound."""
    talk = cluster(is_lease_read=True, clock_drift_max=0.1)
    beat(talk)
    talk.do("read n1 r1")
    assert talk.answers["r1"] == Readable(1) and not talk.flying()
    talk.do("time 0.82", "read n1 r2")
    assert "r2" not in talk.answers, "0.9/1.1 of a second"
    assert talk.core("n1").status().lease_until is None


def test_a_late_answer_gives_what_is_left_of_the_lease() -> None:
    """X-02, K-88 (6.4.1): from the start of its round, not from its arrival."""
    talk = cluster(is_lease_read=True, clock_drift_max=0.0)
    talk.do("time 0.5", "tick n1", "deliver n1->n2", "time 0.4", "deliver n2->n1")
    assert talk.core("n1").status().lease_until == pytest.approx(1.5)


def test_a_transfer_voids_the_lease_for_the_term() -> None:
    """X-02, K-89: the order to campaign may arrive any time later."""
    talk = cluster(is_lease_read=True)
    beat(talk)
    talk.do("transfer n1 n2", "drop n1->n2", "read n1 r1")
    assert "r1" not in talk.answers
    for _ in range(11):
        talk.do("time 0.1", "tick n1", "drop n1->n2 TimeoutNow", "settle")
    assert talk.core("n1").status().transfer_to is None
    assert talk.core("n1").status().lease_until is None


def test_a_clock_that_goes_back_voids_the_lease_and_stops_no_timer() -> None:
    """1.3, X-02: time goes on from where it was."""
    talk = cluster(is_lease_read=True)
    beat(talk)
    assert talk.core("n1").status().lease_until is not None
    left = (talk.core("n2").deadline or 0) - talk.now
    talk.do("time -5", "tick n1", "tick n2")
    assert talk.core("n1").status().lease_until is None and talk.traced("clock_went_back")
    assert (talk.core("n2").deadline or 0) - talk.now == pytest.approx(left)


def test_with_lease_reads_a_start_shields_whoever_may_have_led() -> None:
    """X-02, I-20: a restarted voter forgot that it had just heard a leader."""
    talk = cluster(is_lease_read=True)
    talk.do("restart n2")
    talk.step("n2", Receive(Vote(N2, N3, 2, 9, 9)))
    assert talk.core("n2").status().vote != N3 and talk.core("n2").term == 1


def test_reads_of_a_deposed_leader_chase_the_next_one() -> None:
    """X-01, X-06, K-86: nothing confirmed before counts."""
    talk = cluster()
    talk.do("read n1 r1", "drop n1->*", "time 3", "timeout n2", "settle")
    assert talk.core("n2").is_leader and talk.answers["r1"] == Readable(2)


def test_reads_without_a_quorum_are_not_answered_and_end() -> None:
    """X-06, V-09, X-05: they time out with a definite answer, and nothing of them stays."""
    talk = cluster(read_timeout_seconds=3.0)
    talk.do("read n1 r1", "drop *->*", "time 1.1", "tick n1", "time 0.5", "tick n1")
    assert "r1" not in talk.answers
    talk.do("time 3", "tick n1")
    assert isinstance(talk.answers["r1"], Refused) and talk.core("n1").status().reads == 0


def test_an_answer_to_another_life_of_this_process_does_not_fit() -> None:
    """X-07: tokens begin at random; an unknown one is dropped."""
    first, second = (RaftCore(N1, Config(), bootstrap(N1), _Bytes(number), 0.0).state.token for number in (1, 2))
    assert first != second
    talk = cluster()
    talk.step("n2", Receive(ReadIndexReply(N2, N1, 1, 999, 1)))
    assert talk.core("n2").status().reads == 0


class _Bytes(FixedRng):
    def bytes(self, count: int) -> bytes:
        return bytes([self._number]) * count


def test_a_read_waits_for_the_state_machine() -> None:
    """X-01, I-22: confirmed is not yet applied."""
    core = RaftCore(N1, Config(), bootstrap(N1), FixedRng(1), 0.0)
    core.step(Tick(), 5.0)
    core.step(Persisted(1), 5.0)
    core.step(Persisted(2), 5.0)
    assert core.step(Read("r"), 5.0)[-1][0] != "r"
    assert core.step(Applied(1), 5.0) == [("r", Readable(1))]


def test_reads_are_limited() -> None:
    """I-31: with a clear answer."""
    talk = cluster(reads_max=2)
    talk.do("read n2 a", "read n2 b", "read n2 c")
    assert isinstance(talk.answers["c"], Refused)


# ---------------------------------------- transfer


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


# ---------------------------------------- membership


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


# ---------------------------------------- snapshots and disks


def snapshotted(**options: object) -> Talk:
    """n3 missed what n1 has compacted."""
    talk = cluster(trailing_entries=0, trailing_entries_max=0, snapshot_chunk_bytes=4, **options)
    talk.do("crash n3", "propose n1 aaa bbb ccc", "settle n3", "snapshot n1", "drop *->n3")
    return talk


def test_a_snapshot_and_the_entries_after_it_bring_a_follower_up() -> None:
    """S-01, S-03, S-08, M-14: with its configuration, in pieces."""
    talk = snapshotted()
    talk.do("propose n1 ddd", "settle n3", "restart n3")
    beat(talk)
    status = talk.core("n3").status()
    assert (status.commit, status.snapshot_index, status.first_index) == (5, 4, 5)
    assert talk.traced("snapshot_begun") and talk.traced("snapshot_installed")
    assert status.configuration == talk.core("n1").status().configuration


def test_a_snapshot_brings_the_whole_configuration() -> None:
    """S-01, M-08, K-83: both halves, learners, and those that will be."""
    whole = Configuration((N1, N2), (N1, N2, N3), (N4,), (N3,), False)
    talk = cluster()
    meta = SnapshotMeta(9, 1, whole, 8, 4, f"{zlib.crc32(b'1234'):08x}")
    talk.step("n2", Receive(InstallSnapshot(N2, N1, 1, meta, 0, b"1234", zlib.crc32(b"1234"), True, 1)))
    status = talk.core("n2").status()
    assert (status.configuration, status.configuration_index, status.commit) == (whole, 8, 9)
    assert talk.core("n2").state.groups == ((N1, N2), (N1, N2, N3))


def test_a_snapshot_with_a_wrong_checksum_or_digest_is_not_installed() -> None:
    """S-04, K-70: the piece is asked for again, after a wrong digest all of them."""
    talk = cluster()
    meta = SnapshotMeta(9, 1, Configuration((N1, N2, N3)), 0, 4, "wrong")
    for checksum in (7, zlib.crc32(b"1234")):
        talk.step("n2", Receive(InstallSnapshot(N2, N1, 1, meta, 0, b"1234", checksum, True, 1)))
        assert talk.core("n2").status().snapshot_index == 0
    assert talk.traced("snapshot_refused")


def test_a_lost_piece_is_sent_again_and_a_transfer_resumes_where_it_was() -> None:
    """S-04, 1.3: also under another leader with the same snapshot."""
    talk = snapshotted(snapshot_retry_seconds=0.3)
    talk.do("restart n3", "time 0.11", "tick n1", "deliver n1->n3", "deliver n3->n1", "deliver n1->n3")
    talk.do("deliver n3->n1", "deliver n1->n3", "deliver n3->n1", "deliver n1->n3", "deliver n3->n1")
    offsets = [message.offset for message in talk.flying(InstallSnapshot)]  # type: ignore[union-attr]
    assert offsets and offsets[0] > 0
    talk.do("drop n1->n3")
    for _ in range(5):
        beat(talk)
    assert talk.core("n3").status().snapshot_index == 4


def test_pieces_of_another_snapshot_begin_anew() -> None:
    """K-70, S-04: never mixed."""
    talk = cluster()
    pieces = [SnapshotMeta(9, 1, Configuration(voters=(N1, N2, N3)), 0, 8, digest) for digest in ("a", "b")]
    talk.step("n2", Receive(InstallSnapshot(N2, N1, 1, pieces[0], 0, b"1234", 0, False, 1)))
    state = talk.core("n2").state
    talk.step("n2", Receive(InstallSnapshot(N2, N1, 1, pieces[1], 4, b"5678", 0, True, 1)))
    assert state.incoming is not None and (state.incoming.meta, state.incoming.offset) == (pieces[1], 0)
    assert state.snapshot is not None and state.snapshot.index == 0


def test_a_snapshot_of_what_the_log_holds_changes_nothing_but_the_commit() -> None:
    """S-02, K-65, K-68: the log and all that follows in it stay."""
    talk = cluster()
    talk.do("propose n1 a b", "deliver n1->n2", "persist n2")
    meta = SnapshotMeta(2, 1, Configuration(voters=(N1, N2, N3)), 0, 4, "x")
    for _ in range(2):
        talk.step("n2", Receive(InstallSnapshot(N2, N1, 1, meta, 0, b"1234", 0, True, 1)))
    status = talk.core("n2").status()
    assert (status.commit, status.last_index, status.snapshot_index) == (2, 3, 0)


def test_an_accepted_append_ends_a_snapshot_whose_report_was_lost() -> None:
    """S-05: nothing else would."""
    talk = snapshotted()
    talk.do("restart n3", "time 0.11", "tick n1", "deliver n1->n3", "deliver n3->n1")
    assert talk.core("n1").status().followers[1].pace == "snapshot" or talk.flying(Append)
    talk.do("deliver n1->n3", "deliver n3->n1")
    assert talk.core("n1").status().followers[1].pace == "snapshot"
    talk.step("n1", Receive(AppendReply(N1, N3, 1, 3, AppendStatus.ACCEPTED, 4, 0, 1)))
    assert talk.core("n1").status().followers[1].pace == "replicate"


def test_the_log_keeps_a_tail_and_what_a_live_follower_needs() -> None:
    """S-06, 1.3, K-71: up to a budget; whoever is silent gets the snapshot."""
    talk = cluster(trailing_entries=1, trailing_entries_max=100)
    talk.do("propose n1 a b c d", "persist n1", "deliver n1->n2", "persist n2", "deliver n2->n1", "snapshot n1")
    assert talk.core("n1").status().first_index == 2, "n3 is alive and holds one entry"
    talk.do("drop *->*", "propose n1 e", "settle n3", "time 0.9", "tick n1", "settle n3", "time 0.2", "tick n1")
    talk.do("settle n3", "snapshot n1")
    assert talk.core("n1").status().first_index == 6


def test_a_snapshot_has_the_term_of_its_index() -> None:
    """S-10, K-67."""
    talk = cluster()
    meta = SnapshotMeta(1, 7, Configuration(voters=(N1, N2, N3)))
    from arc.raft.events import SnapshotTaken

    with pytest.raises(AssertionError):
        talk.step("n1", SnapshotTaken(meta))


def test_a_restart_in_a_joint_configuration_from_a_snapshot_keeps_it() -> None:
    """M-08, S-01, K-83: both halves and the way out travel in the snapshot."""
    talk = cluster()
    talk.do("join n4", "change n1 +n4 -n3 now explicit", "settle", "snapshot n1", "restart n1")
    configuration = talk.core("n1").status().configuration
    assert configuration.outgoing == (N1, N2, N3) and not configuration.auto_leave


def test_a_damaged_node_neither_votes_nor_campaigns_until_it_is_whole() -> None:
    """1.3, I-30, V-08, K-53: it takes back what it acknowledged and asks its leader."""
    talk = cluster()
    talk.do("propose n1 a b c", "settle")
    node = talk.nodes["n3"]
    del node.disk.log[2:]
    talk.nodes["n3"].core = RaftCore(
        N3, talk.config, node.disk.stored()._replace(is_damaged=True), FixedRng(3), talk.now
    )
    talk.step("n3", Receive(Vote(N3, N2, 7, 99, 99)))
    assert talk.core("n3").status().vote is None and talk.core("n3").deadline is None
    beat(talk)  # n1 learns the term that n3 was pushed into.
    talk.do("time 5", "timeout n2", "settle", "time 5", "timeout n2", "settle")
    beat(talk, "n2")
    beat(talk, "n2")
    status = talk.core("n3").status()
    assert not status.is_damaged and talk.traced("repaired") and status.commit == talk.core("n2").status().commit


def test_a_leader_whose_disk_is_full_hands_over_and_follows() -> None:
    """1.3, D-11, K-56: as after a crash that lost the unwritten tail; proposals are refused meanwhile."""
    talk = cluster()
    talk.do("propose n1 a", "full n1")
    assert not talk.core("n1").is_leader and isinstance(talk.answers["a"], Unknown)
    assert talk.core("n1").status().last_index == 1 and talk.core("n1").deadline is None
    talk.do("settle", "space n1")
    beat(talk, "n2")
    beat(talk, "n2")
    assert talk.core("n2").is_leader and talk.core("n1").status().commit == talk.core("n2").status().commit


def test_a_damaged_nodes_old_acknowledgement_does_not_come_back() -> None:
    """I-13, I-30: it was under way when the node took it back."""
    talk = cluster()
    talk.do("propose n1 a b", "settle")
    old = AppendReply(N1, N3, 1, 1, AppendStatus.ACCEPTED, 3, 0, talk.core("n1").state.leading.round)  # type: ignore[union-attr]
    talk.step("n1", Receive(SnapshotWanted(N1, N3, 1, 1)))
    talk.step("n1", Receive(old))
    follower = talk.core("n1").status().followers[1]
    assert (follower.peer, follower.match) == (N3, 1)
    talk.do("settle")
    assert talk.core("n1").status().followers[1].match == 3


def test_a_full_disk_keeps_a_snapshot_that_was_staged() -> None:
    """D-11, S-01: only entries are lost; the snapshot's bytes were there already."""
    talk = cluster()
    meta = SnapshotMeta(9, 1, Configuration((N1, N2, N3)), 0, 4, f"{zlib.crc32(b'1234'):08x}")
    talk.step("n2", Receive(InstallSnapshot(N2, N1, 1, meta, 0, b"1234", zlib.crc32(b"1234"), True, 1)))
    talk.step("n2", Receive(Append(N2, N1, 1, 9, 1, (Entry(10, 1),), 9, 1)))
    talk.do("full n2", "persist n2")
    status = talk.core("n2").status()
    assert (status.last_index, status.durable_index, status.applied, status.has_space) == (9, 9, 9, False)


def test_messages_for_another_incarnation_are_dropped() -> None:
    """M-17, I-40: the node that forgot is another one."""
    talk = cluster()
    talk.step("n2", Receive(Vote(Peer("n2", 2), N3, 9, 9, 9, True)))
    assert talk.core("n2").term == 1 and talk.traced("misaddressed")


@pytest.mark.parametrize(
    "options",
    [
        {"heartbeat_seconds": 2.0}, {"heartbeat_seconds": 0.0}, {"is_lease_read": True, "is_check_quorum": False},
        {"clock_drift_max": 1.0}, {"window_messages_max": 0}, {"read_timeout_seconds": -1.0},
    ],
)  # fmt: skip
def test_a_configuration_that_cannot_work_is_refused(options: dict[str, float]) -> None:
    """N-03."""
    with pytest.raises(ValueError, match=r"\w"):
        Config(**options)  # type: ignore[arg-type]


def test_the_status_tells_what_an_operator_asks() -> None:
    """N-02: and the repr fits in one line."""
    talk = cluster()
    status = talk.core("n1").status()
    assert (status.role, status.leader, len(status.followers)) == (Role.LEADER, N1, 2)
    assert all(each.is_active and each.match == 1 for each in status.followers)
    assert repr(talk.core("n1")) == "<Raft n1 leader term=1 log=1..1 commit=1 applied=1>"


def test_same_events_same_effects() -> None:
    """I-35, I-36, N-02: two runs of one story print the same."""
    story = (
        "timeout n1",
        "settle",
        "propose n1 a b",
        "settle",
        "join n4",
        "change n1 +n4",
        "settle",
        "read n2 r",
        "settle",
    )
    assert Talk(3).do(*story) == Talk(3).do(*story)


def test_reading_from_disk_is_asked_once() -> None:
    """D-05: while a read is under way no second one is asked for."""
    core = RaftCore(N1, Config(memory_bytes_max=1, apply_bytes_max=1), bootstrap(N1), FixedRng(1), 0.0)
    core.step(Tick(), 5.0)
    core.step(Persisted(1), 5.0)
    effects = core.step(Persisted(2), 5.0)
    assert not any(isinstance(effect, ReadEntries) for effect in effects)
