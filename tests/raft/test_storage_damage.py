"""Damage that a leader can repair is marked and put aside; damage that nobody can stops the node; nothing is hidden."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.errors import Corrupt
from arc.journal import Journal
from arc.ports import BLOCK_BYTES
from arc.raft.damage import NAME as MARK
from arc.raft.effects import Write
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, HardState, SnapshotMeta
from tests.fakes import MemoryDisk
from tests.raft.steps import StepDisk
from tests.raft.test_storage import (
    ALONE,
    FOUNDERS,
    SEGMENT_BYTES,
    A,
    B,
    entry,
    filled,
    indexes,
    opened,
    segments,
    write,
)


def rotten(last: int = 20, founders: Configuration = FOUNDERS, nth: int = 2) -> MemoryDisk:
    """A log of one entry a group; the second record of its third segment does not match its checksum."""
    disk = filled(last, founders=founders)
    disk.flip(segments(disk)[nth], 2 * BLOCK_BYTES + 50)
    return disk


def test_damage_in_the_middle_marks_the_node_and_keeps_what_is_proven() -> None:
    """I-30, K-53, Z-08: left of the hole stays; right of it is put aside, not destroyed."""
    disk = rotten()
    before = {path: disk.read(path) for path in segments(disk)}
    storage = opened(disk)
    assert storage.stored.is_damaged and storage.statistics().is_damaged
    assert indexes(storage) == list(range(1, 8))
    assert storage.stored.hard_state == HardState(3, A)
    assert any("does not match its checksum" in finding for finding in storage.findings)
    aside = [path for path in disk.walk("raft/log") if path.endswith(".damaged")]
    assert [disk.read(path) for path in aside] == [before[path] for path in list(before)[2:]]


def test_the_mark_survives_restarts_and_what_is_appended_meanwhile_stays() -> None:
    """I-30: a restart must not make a damaged node vote."""
    disk = rotten()
    storage = opened(disk)
    write(storage, entry(8, 4), entry(9, 4), hard=HardState(4, None))
    for _ in range(2):
        storage = opened(disk)
        assert storage.stored.is_damaged and indexes(storage) == list(range(1, 10))
    storage.repaired()
    assert not storage.statistics().is_damaged
    assert not opened(disk).stored.is_damaged and indexes(opened(disk)) == list(range(1, 10))


def test_a_mark_that_cannot_be_read_still_marks_and_nothing_is_trusted() -> None:
    disk = rotten()
    opened(disk)
    disk.flip(f"raft/{MARK}", 12)
    storage = opened(disk)
    assert storage.stored.is_damaged and indexes(storage) == []


@pytest.mark.parametrize("nth", [0, 1, 3, -2])
def test_a_missing_segment_is_damage(nth: int) -> None:
    """Z-08"""
    disk = filled(20)
    disk.remove(segments(disk)[nth])
    storage = opened(disk)
    assert storage.stored.is_damaged
    assert indexes(storage) == list(range(1, 1 + 3 * (nth % len(segments(filled(20))))))


def test_a_log_that_is_gone_is_damage_and_no_new_beginning() -> None:
    """Z-10, K-64: the hard state tells that there was one."""
    disk = filled(20)
    for path in segments(disk):
        disk.remove(path)
    for _ in range(2):
        storage = opened(disk)
        assert storage.stored.is_damaged and storage.stored.hard_state == HardState(3, A)
        assert storage.stored.snapshot == SnapshotMeta(0, 0, FOUNDERS)


def test_an_unreadable_segment_header_is_damage() -> None:
    for nth in range(7):
        disk = filled(20)
        disk.flip(segments(disk)[nth], 20)
        storage = opened(disk)
        assert storage.stored.is_damaged
        assert indexes(storage) == (list(range(1, 1 + 3 * nth)) if nth < 6 else list(range(1, 19)))


def test_a_sole_voter_stops_at_damage_and_says_what_to_do() -> None:
    """D-11: there is nobody to repair it; nothing is touched."""
    disk = rotten(founders=ALONE)
    before = disk.walk("raft")
    with pytest.raises(Corrupt, match="restore the data directory") as caught:
        opened(disk, ALONE)
    assert caught.value.path == segments(disk)[2] and caught.value.offset == 2 * BLOCK_BYTES
    assert disk.walk("raft") == before


def test_whether_a_node_is_alone_is_read_from_the_log_too() -> None:
    disk = MemoryDisk()
    storage = opened(disk, ALONE)
    write(storage, Entry(1, 1, EntryKind.MEMBERSHIP, FOUNDERS), hard=HardState(1, A))
    for index in range(2, 20):
        write(storage, entry(index))
    disk.flip(segments(disk)[3], 2 * BLOCK_BYTES + 50)
    assert opened(disk, ALONE).stored.is_damaged


def test_a_damaged_snapshot_does_no_harm_while_the_log_reaches_back() -> None:
    """S-09"""
    disk = filled(20)
    storage = opened(disk)
    for index in (5, 10):
        storage.save_snapshot(index, 3, FOUNDERS, 0, [b"state %d" % index])
    storage.compact(11)
    disk.flip("raft/snapshots/snapshot-00000000000000000010.00000.part", 10)
    storage = opened(disk)
    assert not storage.stored.is_damaged
    assert storage.stored.snapshot is not None and storage.stored.snapshot.index == 5
    assert indexes(storage)[-1] == 20 and indexes(storage)[0] <= 6
    assert any("snapshot" in finding for finding in storage.findings)
    assert [path for path in disk.walk("raft/snapshots") if "10." in path and path.endswith(".damaged")]


def installed(founders: Configuration = FOUNDERS) -> MemoryDisk:
    """A log that was restarted behind a snapshot from the leader."""
    leader = opened(MemoryDisk(), founders)
    meta = leader.save_snapshot(50, 3, founders, 0, [b"state"])
    assert meta is not None
    data, checksum, is_last = leader.read_chunk(meta, 0, 1 << 20) or (b"", 0, False)
    disk = filled(8, founders=founders)
    storage = opened(disk, founders)
    assert storage.stage_chunk(meta, 0, data, checksum, is_last)
    storage.write([Write(1, None, 1, (entry(51, 3),), meta)])
    return disk


@pytest.mark.parametrize("name", ["staged-00000000000000000050.00000.part", "snapshot-00000000000000000050.cbor"])
def test_a_damaged_snapshot_that_the_log_does_not_reach_back_behind_is_damage(name: str) -> None:
    """Z-08: the state below the log is gone."""
    disk = installed()
    disk.flip(f"raft/snapshots/{name}", 9)
    storage = opened(disk)
    assert storage.stored.is_damaged
    assert (storage.stored.snapshot, storage.stored.entries) == (SnapshotMeta(0, 0, FOUNDERS), ())
    write(storage, entry(1, 3))
    assert indexes(opened(disk)) == [1]
    alone = installed(ALONE)
    alone.flip(f"raft/snapshots/{name}", 9)
    with pytest.raises(Corrupt, match=name):
        opened(alone, ALONE)


def test_the_power_may_go_at_any_step_of_saving_the_rest() -> None:
    """I-30: whatever is left, the node stays marked and holds nothing but what it held at the end."""
    disk = StepDisk()
    filled(20, disk)
    storage = opened(disk)
    write(storage, entry(15, 4), cut=15, hard=HardState(4, B))
    truth = opened(disk.copy()).stored.entries
    disk.flip(segments(disk)[4], 3 * BLOCK_BYTES + 50)
    steps: list[tuple[str, MemoryDisk]] = []
    disk.watch = lambda what, copy: steps.append((what, copy))
    storage = opened(disk)
    assert indexes(storage) == list(range(1, 14 + 1))
    steps.append(("after", disk.copy()))
    for what, copy in steps:
        again = opened(copy)
        assert again.stored.is_damaged, what
        assert again.stored.entries == truth[: len(again.stored.entries)], what
        assert opened(copy).stored.is_damaged, what
    assert len(steps) > 10


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    lives=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4)), min_size=4, max_size=14),
    places=st.lists(st.integers(0, 1 << 20), min_size=1, max_size=2),
)
def test_rot_anywhere_in_the_log_is_repaired_refused_or_harmless(
    lives: list[tuple[int, int]], places: list[int]
) -> None:
    """I-30, K-52, K-53, D-11: no node that lost more than its last group takes part as if it had not, and no damaged
    one claims an entry that was cut.
    """
    disk = MemoryDisk()
    storage = opened(disk)
    truth: tuple[Entry, ...] = ()
    before = truth
    for term, (back, count) in enumerate(lives, 1):
        first = max(1, len(truth) + 1 - back)
        new = tuple(entry(index, term, b"%d" % term * 700) for index in range(first, first + count))
        write(storage, *new, cut=first if first <= len(truth) else None, hard=HardState(term, A))
        before, truth = truth, truth[: first - 1] + new
    for place in places:
        path = segments(disk)[place % len(segments(disk))]
        disk.flip(path, place % disk.size(path), 0x40)
    found = opened(disk)
    if found.stored.is_damaged:
        assert found.stored.entries == truth[: len(found.stored.entries)]
    else:
        assert found.stored.entries in (truth, before)


# ---------------------------------------------------------------------------------------------------------- migration


def former(state: bytes | None) -> MemoryDisk:
    """A folder as the log of a cluster of one left it: segments of the first format, no configuration anywhere."""
    import google_crc32c

    from arc.journal import frames

    disk = MemoryDisk()
    disk.make_dirs("raft")
    journal = Journal.open(disk, "raft/log", segment_bytes=SEGMENT_BYTES)
    for index in range(1, 8):
        journal.append([(1).to_bytes(8, "little") + b"\x01" + b"%d" % index], index)
    for segment in journal.segments():
        body = frames._SEGMENT_1.pack(frames.SEGMENT_MAGIC_1, segment.number, segment.first_index, SEGMENT_BYTES, 0)[
            :-4
        ]
        block = body + google_crc32c.value(body).to_bytes(4, "little")
        disk.open_log(segment.path).write_durable(0, [block])
    if state is not None:
        disk.write_durable("raft/hard-state", state + google_crc32c.value(state).to_bytes(4, "little"))
    return disk


def test_a_folder_of_a_cluster_of_one_is_taken_over() -> None:
    """It never saved a hard state: its log tells the term."""
    disk = former(None)
    storage = RaftStorage.open(disk, "raft", me=A, founders=ALONE, segment_bytes=SEGMENT_BYTES)
    assert storage.stored.hard_state == HardState(1, None)
    assert [each.payload for each in storage.stored.entries] == [b"%d" % index for index in range(1, 8)]
    write(storage, entry(8, 2), hard=HardState(2, A))
    assert indexes(opened(disk, ALONE)) == list(range(1, 9))


def test_the_former_hard_state_is_read_once() -> None:
    """At any step of the taking over the vote is there."""
    state = b"ARCHARD1" + (7).to_bytes(8, "little") + (4).to_bytes(4, "little") + b"vb#2"
    plain = former(state)
    disk = StepDisk()
    disk._files, disk._folders = plain._files, plain._folders
    steps: list[MemoryDisk] = []
    disk.watch = lambda what, copy: steps.append(copy)
    opened(disk)
    for copy in (*steps, disk.copy()):
        stored = opened(copy).stored
        assert stored.hard_state == HardState(7, B._replace(incarnation=2))
        assert not copy.exists("raft/hard-state")
    assert len(steps) > 5


def test_a_damaged_former_hard_state_is_noticed_at_every_byte() -> None:
    state = b"ARCHARD1" + (7).to_bytes(8, "little") + (2).to_bytes(4, "little") + b"vb"
    for offset in range(len(state) + 4):
        disk = former(state)
        disk.flip("raft/hard-state", offset)
        with pytest.raises(Corrupt):
            opened(disk)
