"""Snapshots between nodes, and what of the log stays beside them."""

from __future__ import annotations

import zlib

import pytest

from arc.raft.events import Receive, SnapshotTaken
from arc.raft.messages import Append, AppendReply, AppendStatus, Heartbeat, InstallSnapshot
from arc.raft.snapshot import being_sent
from arc.raft.types import Configuration, SnapshotMeta
from tests.raft.resting import N1, N2, N3, N4, beat, cluster
from tests.raft.talk import Talk


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


def midway(**options: object) -> Talk:
    """n3 has some pieces of the snapshot at 4, and the rest of what n1 sent is lost."""
    talk = snapshotted(**options)
    talk.do("restart n3", "time 0.11", "tick n1")
    for _ in range(3):
        talk.do("deliver n1->n3", "deliver n3->n1")
    assert talk.core("n1").status().followers[1].pace == "snapshot"
    assert being_sent(talk.core("n1").state) == {4}
    talk.do("drop *->*")
    return talk


def go_on(talk: Talk, payload: str) -> None:
    """One more entry, and a snapshot after it; n3 hears nothing but that it is led."""
    talk.do(f"propose n1 {payload}", "settle n3", "snapshot n1", "drop *->n3")


def test_a_transfer_that_takes_longer_than_many_snapshots_is_worth_its_while() -> None:
    """S-03, S-06: it stays, and so does the log behind it, or it would begin anew for ever (world seed 670054)."""
    talk = midway(snapshot_retry_seconds=0.3)
    for payload in ("d", "e", "f"):
        go_on(talk, payload)
    assert talk.core("n1").status().snapshot_index == 7
    assert talk.core("n1").status().first_index == 5, "behind the one that is on its way"
    for _ in range(8):
        beat(talk)
    assert sum(trace.name == "snapshot_begun" for trace in talk.traces) == 1
    assert talk.core("n3").status().commit == 7
    assert being_sent(talk.core("n1").state) == frozenset()
    assert talk.core("n1").status().first_index == 8, "it needs no snapshot any more, and counts as any other"


def test_a_transfer_that_does_not_move_holds_up_no_log() -> None:
    """S-06: a follower that lives and has no room for it; the leader's disk is not to be full for that."""
    talk = midway(snapshot_retry_seconds=0.3, election_timeout_seconds=60.0)
    go_on(talk, "d")
    talk.do("time 2.5", "tick n1", "settle n3", "drop *->*")
    go_on(talk, "e")
    assert talk.core("n1").status().first_index == 5
    talk.do("time 0.6", "tick n1", "settle n3", "drop *->*")
    assert talk.core("n1").status().first_index == 7


def test_who_leads_no_more_holds_up_nothing() -> None:
    """S-06, V-06: the next leader sends a snapshot of its own."""
    talk = midway(snapshot_retry_seconds=0.3)
    go_on(talk, "d")
    assert talk.core("n1").status().first_index == 5
    talk.step("n1", Receive(Heartbeat(N1, N2, 9, 0, 1)))
    assert talk.core("n1").status().first_index == 6


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
    with pytest.raises(AssertionError):
        talk.step("n1", SnapshotTaken(meta))


def test_a_restart_in_a_joint_configuration_from_a_snapshot_keeps_it() -> None:
    """M-08, S-01, K-83: both halves and the way out travel in the snapshot."""
    talk = cluster()
    talk.do("join n4", "change n1 +n4 -n3 now explicit", "settle", "snapshot n1", "restart n1")
    configuration = talk.core("n1").status().configuration
    assert configuration.outgoing == (N1, N2, N3) and not configuration.auto_leave
