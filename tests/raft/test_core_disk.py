"""Disks that are slow, full or damaged, and entries that only the disk holds any more."""

from __future__ import annotations

import zlib

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.effects import ReadEntries, Unknown
from arc.raft.events import EntriesRead, Persisted, Receive, Tick
from arc.raft.messages import Append, AppendReply, AppendStatus, InstallSnapshot, SnapshotWanted, Vote
from arc.raft.types import Configuration, Entry, SnapshotMeta, bootstrap
from tests.raft.resting import N1, N2, N3, beat, cluster
from tests.raft.talk import FixedRng


def test_a_leader_whose_disk_stalls_steps_down() -> None:
    """Issue 3, 2: it could answer heartbeats for ever and commit nothing of its own."""
    talk = cluster(disk_stall_seconds=2.0)
    talk.do("propose n1 a", "deliver n1->n2")
    for _ in range(30):
        talk.do("time 0.1", "tick n1", "deliver n1->*", "deliver *->n1")
        if not talk.core("n1").is_leader:
            break
    assert talk.traced("leader_disk_stalled") and isinstance(talk.answers["a"], Unknown)


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


def test_a_damaged_node_neither_votes_nor_campaigns_until_it_is_whole() -> None:
    """1.3, Z-09, I-30, V-08, K-53: it takes back what it acknowledged and asks its leader."""
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


def test_reading_from_disk_is_asked_once() -> None:
    """D-05: while a read is under way no second one is asked for."""
    core = RaftCore(N1, Config(memory_bytes_max=1, apply_bytes_max=1), bootstrap(N1), FixedRng(1), 0.0)
    core.step(Tick(), 5.0)
    core.step(Persisted(1), 5.0)
    effects = core.step(Persisted(2), 5.0)
    assert not any(isinstance(effect, ReadEntries) for effect in effects)
