"""Replication beyond the paper: skipping by term, windows, limits, and what the leader tells its followers."""

from __future__ import annotations

from arc.raft.effects import Committed, Refused, Send, Unknown
from arc.raft.events import Propose
from arc.raft.messages import Append
from tests.raft.resting import beat, cluster
from tests.raft.talk import Talk


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
