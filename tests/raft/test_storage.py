"""The folder of consensus: what it keeps, what it refuses, what it makes of damage and of a full disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.errors import Corrupt, DiskFailed, InvalidRequest, Overloaded
from arc.ports import BLOCK_BYTES
from arc.raft import opening
from arc.raft import storage as storage_module
from arc.raft.effects import Write
from arc.raft.hardstate import COPY_BYTES
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, HardState, Peer, SnapshotMeta
from arc.system import SystemDisk
from tests.fakes import MemoryDisk

A, B, C = Peer("a"), Peer("b"), Peer("c")
FOUNDERS = Configuration(voters=(A, B, C))
ALONE = Configuration(voters=(A,))
SEGMENT_BYTES = 4 * BLOCK_BYTES
HARD_STATE = "raft/hard-state.log"


def opened(disk: MemoryDisk, founders: Configuration = FOUNDERS) -> RaftStorage:
    return RaftStorage.open(disk, "raft", me=A, founders=founders, segment_bytes=SEGMENT_BYTES)


def entry(index: int, term: int = 1, payload: bytes = b"x") -> Entry:
    return Entry(index, term, EntryKind.COMMAND, payload)


def entries(first: int, last: int, term: int = 1) -> tuple[Entry, ...]:
    return tuple(entry(index, term, b"%d" % index) for index in range(first, last + 1))


def write(storage: RaftStorage, *some: Entry, cut: int | None = None, hard: HardState | None = None) -> int | None:
    return storage.write([Write(1, hard, cut, some)])


def filled(last: int, disk: MemoryDisk | None = None, founders: Configuration = FOUNDERS) -> MemoryDisk:
    """A log of one entry a group, in term 3, over several segments."""
    disk = disk if disk is not None else MemoryDisk()
    storage = opened(disk, founders)
    write(storage, hard=HardState(3, A))
    for index in range(1, last + 1):
        write(storage, entry(index, 3))
    return disk


def indexes(storage: RaftStorage) -> list[int]:
    return [each.index for each in storage.stored.entries]


def segments(disk: MemoryDisk) -> list[str]:
    return [path for path in disk.walk("raft/log") if path.endswith(".log")]


# ----------------------------------------------------------------------------------------------------------- contract


def test_a_new_folder_is_that_of_a_founder_or_of_one_who_waits() -> None:
    """D-06: nothing is there, and the configuration before the first entry is the founders'."""
    stored = opened(MemoryDisk()).stored
    assert stored.snapshot == SnapshotMeta(0, 0, FOUNDERS)
    assert (stored.hard_state, stored.entries, stored.applied, stored.is_damaged) == (HardState(), (), 0, False)
    assert opened(MemoryDisk(), Configuration()).stored.snapshot is None


def test_entries_of_every_kind_come_back_after_a_power_cut() -> None:
    """D-06"""
    disk = MemoryDisk()
    written = (
        entry(1),
        Entry(2, 3, EntryKind.NOTHING),
        Entry(3, 3, EntryKind.MEMBERSHIP, Configuration((A, Peer("d", 9)), (A, B), (C,), (B,), False)),
        entry(4, 3, b"y" * 9000),
    )
    write(opened(disk), *written)
    again = opened(disk.copy())
    assert again.stored.entries == written
    assert again.read_entries(1, 4, 1 << 20) == written


def test_reads_are_bounded_by_index_and_bytes_and_know_what_is_gone() -> None:
    """D-06: at least the first entry, whatever its size; nothing below the log and nothing above."""
    storage = opened(MemoryDisk())
    write(storage, *entries(1, 9))
    assert [each.index for each in storage.read_entries(3, 5, 1 << 20)] == [3, 4, 5]
    assert [each.index for each in storage.read_entries(3, 9, 70)] == [3, 4]
    assert [each.index for each in storage.read_entries(3, 9, 1)] == [3]
    assert storage.read_entries(10, 12, 1) == () == storage.read_entries(0, 12, 1)


def test_appends_overlap_as_the_core_says() -> None:
    """D-06, S-07: a cut before, inside and after what is there; entries replace what was cut."""
    for cut in range(1, 7):
        disk = MemoryDisk()
        storage = opened(disk)
        write(storage, *entries(1, 3))
        write(storage, *entries(4, 5))
        write(storage, *entries(cut, cut + 1, 2), cut=cut)
        expected = entries(1, cut - 1) + entries(cut, cut + 1, 2)
        assert storage.read_entries(1, 99, 1 << 20) == expected == opened(disk.copy()).stored.entries


def test_compaction_keeps_what_the_older_snapshot_needs() -> None:
    """D-06, S-09: whole segments go, below what is asked for and below the older snapshot."""
    disk = filled(30)
    storage = opened(disk)
    storage.compact(29)
    assert storage.statistics().first_index == 1, "there is nothing to fall back on yet"
    for index in (10, 20):
        assert storage.save_snapshot(index, 3, FOUNDERS, 0, [b"s"]) is not None
    storage.compact(29)
    first = storage.statistics().first_index
    assert 5 < first <= 11
    assert storage.read_entries(first - 1, 20, 1) == ()
    stored = opened(disk.copy()).stored
    assert stored.snapshot is not None and (stored.snapshot.index, stored.applied) == (20, 20)
    assert stored.entries[0].index == first and stored.entries[-1].index == 30


def test_only_the_tail_is_handed_over_and_the_rest_told_as_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """D-06, D-10: terms and configurations of what stays on the disk."""
    monkeypatch.setattr(opening, "TAIL_BYTES", 2 * BLOCK_BYTES)
    disk = MemoryDisk()
    storage = opened(disk)
    voters = Configuration(voters=(A, B))
    for index, term in enumerate((1, 1, 2, 2, 2, 5, 5, 5), 1):
        write(storage, Entry(index, term, EntryKind.MEMBERSHIP, voters) if index == 4 else entry(index, term))
    stored = opened(disk.copy()).stored
    assert [each.index for each in stored.entries] == [7, 8]
    assert stored.runs == ((1, 1), (3, 2), (6, 5))
    assert stored.configurations == ((4, voters),)


def test_a_configuration_that_was_cut_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """K-77: neither from the tail nor from what stays on the disk."""
    monkeypatch.setattr(opening, "TAIL_BYTES", BLOCK_BYTES)
    disk = MemoryDisk()
    storage = opened(disk)
    kept, lost = Configuration(voters=(A,)), Configuration(voters=(A, B))
    write(storage, Entry(1, 1, EntryKind.MEMBERSHIP, kept))
    write(storage, Entry(2, 1, EntryKind.MEMBERSHIP, lost))
    for index in (2, 3, 4):
        write(storage, entry(index, 2), cut=2 if index == 2 else None)
    stored = opened(disk.copy()).stored
    assert [each.index for each in stored.entries] == [4]
    assert (stored.configurations, stored.runs) == (((1, kept),), ((1, 1), (2, 2)))


def test_neighbouring_writes_share_one_group_and_one_hard_state() -> None:
    """One durable write for many proposals."""
    disk = MemoryDisk()
    storage = opened(disk)
    before = disk.writes
    storage.write([Write(n, HardState(n, None), None, entries(n, n, n)) for n in range(1, 65)])
    assert disk.writes == before + 2
    statistics = storage.statistics()
    assert (statistics.groups_total, statistics.fsyncs_total, statistics.entries_total) == (1, 2, 64)
    assert opened(disk.copy()).stored.hard_state == HardState(64)


def test_entries_that_a_later_write_of_the_same_batch_cuts_are_never_stored() -> None:
    disk = MemoryDisk()
    storage = opened(disk)
    writes = [Write(1, None, None, entries(1, 4)), Write(2, None, 3, entries(3, 3, 2)), Write(3, None, 2, ())]
    assert storage.write(writes) is None
    assert opened(disk.copy()).stored.entries == entries(1, 1)


def test_what_was_just_written_is_read_back_from_a_real_disk(tmp_path: Path) -> None:
    """D-10: writes go past the page cache, reads through it; cuts and group sizes of all kinds in between."""
    disk = SystemDisk(tmp_path)
    storage = RaftStorage.open(disk, "raft", me=A, founders=FOUNDERS, segment_bytes=SEGMENT_BYTES)
    truth: tuple[Entry, ...] = ()
    for turn in range(25):
        first = max(1, len(truth) + 1 - turn % 4)
        new = tuple(entry(first + n, turn + 1, b"%d" % turn * (turn * 37 % 900)) for n in range(1 + turn % 5))
        write(storage, *new, cut=first if first <= len(truth) else None, hard=HardState(turn + 1, B))
        truth = truth[: first - 1] + new
        assert storage.read_entries(1, 999, 1 << 30) == truth
    storage.close()
    again = RaftStorage.open(disk, "raft", me=A, founders=FOUNDERS, segment_bytes=SEGMENT_BYTES)
    assert again.stored.entries == truth and again.stored.hard_state == HardState(25, B)
    again.close()


# --------------------------------------------------------------------------------------------------------- hard state


@given(st.integers(1, 2**63 - 1), st.none() | st.builds(Peer, st.text(max_size=40), st.integers(0, 2**60)))
def test_hard_state_comes_back(term: int, vote: Peer | None) -> None:
    vote = Peer(vote.name.encode(errors="ignore").decode(), vote.incarnation) if vote is not None else None
    disk = MemoryDisk()
    write(opened(disk), hard=HardState(term, vote))
    assert opened(disk.copy()).stored.hard_state == HardState(term, vote)


def test_hard_state_never_goes_back_and_a_vote_is_given_once() -> None:
    """E-04"""
    storage = opened(MemoryDisk())
    write(storage, hard=HardState(5, A))
    for worse in (HardState(4, None), HardState(5, B), HardState(5, None)):
        with pytest.raises(AssertionError):
            write(storage, hard=worse)
    write(storage, hard=HardState(6, B))


def test_a_torn_hard_state_leaves_the_old_or_the_new_one() -> None:
    """D-11: at every byte."""
    for at_byte in range(0, BLOCK_BYTES + 1, 7):
        disk = MemoryDisk()
        storage = opened(disk)
        write(storage, hard=HardState(5, A))
        disk.tear_next_write(at_byte)
        with pytest.raises(DiskFailed):
            write(storage, hard=HardState(6, B))
        assert opened(disk).stored.hard_state in (HardState(5, A), HardState(6, B))


def test_one_rotten_copy_of_the_hard_state_is_told_and_does_no_harm() -> None:
    for slot in range(2):
        for copy in range(2):
            disk = MemoryDisk()
            storage = opened(disk)
            write(storage, hard=HardState(5, A))
            write(storage, hard=HardState(6, B))
            disk.flip(HARD_STATE, slot * BLOCK_BYTES + copy * COPY_BYTES + 20)
            again = opened(disk)
            assert again.stored.hard_state == HardState(6, B)
            assert any("term and vote" in finding for finding in again.findings)


def test_a_vote_that_may_be_forgotten_stops_the_node() -> None:
    """E-04, D-11: both copies of a slot are gone: that was no torn write, and the newest vote may have been there."""
    for slot in range(2):
        disk = MemoryDisk()
        storage = opened(disk)
        write(storage, hard=HardState(5, A))
        for copy in range(2):
            disk.flip(HARD_STATE, slot * BLOCK_BYTES + copy * COPY_BYTES + 20)
        with pytest.raises(Corrupt, match="whom it voted for"):
            opened(disk)


def test_a_hard_state_that_is_missing_beside_a_log_stops_the_node() -> None:
    disk = filled(3)
    disk.remove(HARD_STATE)
    with pytest.raises(Corrupt, match="term and vote are missing"):
        opened(disk)


def test_a_lost_write_of_the_hard_state_is_noticed() -> None:
    disk = MemoryDisk()
    storage = opened(disk)
    for term in (5, 6, 7):
        write(storage, hard=HardState(term, A))
    old = bytes(disk.read(HARD_STATE))
    write(storage, hard=HardState(8, A))
    write(storage, hard=HardState(9, A))
    handle = disk.open_log(HARD_STATE)
    slot = 0 if old[8] == disk.read(HARD_STATE)[8] else 1  # any of the two
    handle.write_durable(slot * BLOCK_BYTES, [old[slot * BLOCK_BYTES :][:BLOCK_BYTES]])
    with pytest.raises(Corrupt, match="neighbours"):
        opened(disk)


# ---------------------------------------------------------------------------------------------------- failing and full


def test_a_failed_write_is_never_tried_again() -> None:
    """D-11, K-55: the kernel may have thrown the pages away, and a second fsync would lie."""
    for step in range(2):
        disk = MemoryDisk()
        storage = opened(disk)
        disk.fail_next_write(after=step)
        for _ in range(2):
            with pytest.raises(DiskFailed):
                write(storage, entry(1), hard=HardState(1, A))
        with pytest.raises(DiskFailed):
            storage.has_room()
        written = disk.writes
        storage.close()
        assert disk.writes == written
        assert opened(disk).stored.hard_state in (HardState(), HardState(1, A))


def test_a_torn_append_is_dropped_and_told() -> None:
    """D-11"""
    disk = MemoryDisk()
    storage = opened(disk)
    write(storage, entry(1))
    disk.tear_next_write(60)
    with pytest.raises(DiskFailed):
        write(storage, entry(2, payload=b"z" * 100))
    again = opened(disk)
    assert indexes(again) == [1] and not again.stored.is_damaged
    assert any("in flight" in finding for finding in again.findings)
    write(again, entry(2))
    assert indexes(opened(disk)) == [1, 2]


def full(storage: RaftStorage, disk: MemoryDisk, first: int = 1) -> int:
    """Write until there is no room; the first index that was refused."""
    disk.free = 0
    index = first
    while write(storage, entry(index, 3, b"f" * 3000)) is None:
        index += 1
    return index


def test_a_full_disk_refuses_entries_and_does_all_else() -> None:
    """D-11, K-56: hard states, cuts, accepting a snapshot and the restart of the log need no room."""
    disk = MemoryDisk()
    storage = opened(disk)
    leader = opened(MemoryDisk())
    write(leader, *entries(1, 50))
    meta = leader.save_snapshot(50, 1, FOUNDERS, 0, [b"state"])
    assert meta is not None
    data, checksum, is_last = leader.read_chunk(meta, 0, 1 << 20) or (b"", 0, False)
    assert storage.stage_chunk(meta, 0, data, checksum, is_last)
    refused = full(storage, disk)
    assert not storage.has_room()
    writes = [
        Write(7, HardState(9, B), None, ()),
        Write(8, None, None, entries(refused, refused + 3, 9)),
        Write(9, HardState(10, B), 2, ()),
        Write(10, None, None, entries(2, 3, 10)),
    ]
    assert storage.write(writes) == 10, "what write 8 wanted to store is cut again by write 9"
    stored = opened(disk.copy()).stored
    assert stored.hard_state == HardState(10, B) and [each.index for each in stored.entries] == [1]
    for term in range(11, 200):
        assert write(storage, hard=HardState(term, C)) is None
    assert storage.write([Write(11, None, 1, (), meta)]) is None
    stored = opened(disk.copy()).stored
    assert (stored.snapshot, stored.entries) == (meta, ())
    assert storage.has_room(), "the segments before the snapshot are room again"
    assert write(storage, *entries(51, 52, 300)) is None
    assert opened(disk.copy()).stored.entries == entries(51, 52, 300)


def test_cuts_on_a_full_disk_fill_the_reserve_and_then_stop_the_node() -> None:
    """A reserve is one segment, a cut one block: a thousand cuts in production, three here."""
    disk = MemoryDisk()
    write(opened(disk), *entries(1, 99))
    storage = opened(disk)
    full(storage, disk, 100)
    cuts = 0
    with pytest.raises(DiskFailed, match="reserve"):
        for index in range(99, 0, -1):
            write(storage, cut=index)
            cuts += 1
            assert len(opened(disk.copy()).stored.entries) == index - 1
    assert cuts >= 3
    assert len(opened(disk.copy()).stored.entries) == 99 - cuts, "what was promised stays, what was not is not there"


def test_the_disk_fills_at_any_size_and_nothing_acknowledged_is_lost() -> None:
    """D-11, K-56: a write of several, of which only the first find room, says so."""
    for free in range(0, 12 * BLOCK_BYTES, BLOCK_BYTES):
        disk = MemoryDisk()
        storage = opened(disk)
        disk.free = free
        kept = 0
        for index in range(1, 40, 3):
            writes = [Write(n, HardState(n, A), None, (entry(n, 1, b"f" * 3000),)) for n in range(index, index + 3)]
            refused = storage.write(writes)
            kept = index + 2 if refused is None else refused - 1
            if refused is not None:
                break
        assert refused is not None
        stored = opened(disk.copy()).stored
        assert [each.index for each in stored.entries] == list(range(1, kept + 1))
        assert stored.hard_state.term == index + 2


def test_nothing_is_stored_after_what_was_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """K-56: not even what would fit, for the core takes everything from there on as lost."""
    monkeypatch.setattr(storage_module, "GROUP_BYTES_MAX", 1)
    disk = MemoryDisk()
    storage = opened(disk)
    write(storage, entry(1, payload=b"f" * 3000))
    disk.free = 0
    writes = [
        Write(2, None, None, (entry(2, 1, bytes(9000)),)),
        Write(3, None, None, (entry(3),)),
        Write(4, None, 2, (entry(2, 2),)),
        Write(5, HardState(2, None), None, ()),
    ]
    assert storage.write(writes) == 2
    stored = opened(disk.copy()).stored
    assert (stored.hard_state, [each.index for each in stored.entries]) == (HardState(2), [1])


def test_a_failure_at_any_other_step_stops_all_writing_too() -> None:
    """K-55"""
    leader = opened(MemoryDisk())
    write(leader, *entries(1, 5))
    meta = leader.save_snapshot(5, 1, FOUNDERS, 0, [b"state"])
    assert meta is not None
    data, checksum, is_last = leader.read_chunk(meta, 0, 1 << 20) or (b"", 0, False)
    disk = MemoryDisk()
    storage = opened(disk)
    disk.fail_next_write()
    with pytest.raises(DiskFailed):
        storage.stage_chunk(meta, 0, data, checksum, is_last)
    with pytest.raises(DiskFailed):
        write(storage, entry(1))


def test_a_snapshot_that_finds_no_room_is_not_there_and_left_nothing_behind() -> None:
    """S-09"""
    disk = filled(5)
    storage = opened(disk)
    files = disk.walk("raft/snapshots")
    disk.free = 5000
    assert storage.save_snapshot(4, 3, FOUNDERS, 0, [bytes(3000)] * 4000) is None
    assert disk.walk("raft/snapshots") == files
    disk.free = 1 << 30
    assert storage.save_snapshot(4, 3, FOUNDERS, 0, [b"s"]) is not None


def test_a_new_folder_on_a_full_disk_is_refused_or_votes_only() -> None:
    """At any size: no half-made folder is left that a later start would stumble over."""
    outcomes = set()
    for free in range(0, 12 * BLOCK_BYTES, BLOCK_BYTES):
        disk = MemoryDisk(free=free)
        try:
            storage = opened(disk)
        except Overloaded as error:
            outcomes.add(error.code)
        else:
            refused = write(storage, entry(1), hard=HardState(1, A))
            outcomes.add("votes" if refused else "works")
            assert opened(disk.copy()).stored.hard_state == HardState(1, A)
        disk.free = 1 << 30
        assert write(opened(disk), entry(1) if indexes(opened(disk)) == [] else entry(2)) is None
    assert outcomes == {"disk_full", "votes", "works"}


def test_a_folder_of_another_incarnation_is_refused_and_left_as_it_is() -> None:
    """I-10, K-64: a copied folder, or one kept from before a wipe."""
    disk = MemoryDisk()
    founders = Configuration(voters=(Peer("n1"), Peer("n2")))
    RaftStorage.open(disk, "raft", me=Peer("n1"), founders=founders).close()
    before = {path: disk.read(path) for path in disk.walk("")}
    for stranger in (Peer("n2"), Peer("n1", 2)):
        with pytest.raises(InvalidRequest, match="was written by n1"):
            RaftStorage.open(disk, "raft", me=stranger, founders=founders)
    assert {path: disk.read(path) for path in disk.walk("")} == before
    RaftStorage.open(disk, "raft", me=Peer("n1"), founders=founders)


def test_a_folder_from_before_there_were_owners_is_taken_over_and_damage_of_the_name_is_noticed() -> None:
    """N-03: an upgrade in place."""
    disk = MemoryDisk()
    founders = Configuration(voters=(Peer("n1"), Peer("n2")))
    RaftStorage.open(disk, "raft", me=Peer("n1"), founders=founders).close()
    disk.remove("raft/owner.cbor")
    RaftStorage.open(disk, "raft", me=Peer("n1"), founders=founders).close()
    assert disk.exists("raft/owner.cbor")
    disk.flip("raft/owner.cbor", 3)
    with pytest.raises(Corrupt, match="owner"):
        RaftStorage.open(disk, "raft", me=Peer("n1"), founders=founders)
