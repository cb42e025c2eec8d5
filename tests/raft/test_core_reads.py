"""Reads without an entry in the log: confirmed by a round of heartbeats, or under a lease."""

from __future__ import annotations

import pytest

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import Readable, Refused
from arc.raft.events import Applied, Persisted, Read, Receive, Tick
from arc.raft.messages import ReadIndexReply, Vote
from arc.raft.types import bootstrap
from tests.raft.resting import N1, N2, N3, beat, cluster
from tests.raft.talk import FixedRng


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


def test_a_lease_outlives_a_change_of_configuration_and_ends_in_time() -> None:
    """X-02, I-20 (4.1, 6.4.1): nobody is elected without the leader until others took the change from it."""
    talk = cluster(1, is_lease_read=True, clock_drift_max=0.1)
    beat(talk)
    until = talk.core("n1").status().lease_until
    talk.do("change n1 +n2 +n3 now", "read n1 r1")
    assert talk.core("n1").status().configuration.outgoing and talk.answers["r1"] == Readable(1)
    assert talk.core("n1").status().lease_until == until
    talk.do("time 0.92", "tick n1", "read n1 r2")
    assert "r2" not in talk.answers, "1/1.1 of a second, and neither n2 nor n3 was heard"


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
