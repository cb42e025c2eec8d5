"""The log and the hard state survive what they promised to survive, and refuse what was damaged."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.errors import Corrupt, DiskFailed
from arc.raft import Entry, EntryKind, HardState, RaftLog
from tests.fakes import MemoryDisk


def entry(index: int, term: int = 1, payload: bytes = b"x") -> Entry:
    return Entry(index=index, term=term, payload=payload)


def reopened(disk: MemoryDisk, **options: int) -> RaftLog:
    return RaftLog.open(disk, "raft", segment_bytes=16384, **options)


def test_entries_are_there_after_a_power_cut() -> None:
    disk = MemoryDisk()
    log = reopened(disk)
    written = [entry(1), Entry(index=2, term=3, kind=EntryKind.NOTHING), entry(3, 3, b"y" * 9000)]
    log.append(written[:1])
    log.append(written[1:])
    again = reopened(disk.copy())
    assert list(again.read(1)) == written
    assert list(again.read(3)) == written[2:]
    assert (again.first_index, again.next_index) == (1, 4)


def test_compaction_keeps_every_entry_from_the_index_on() -> None:
    disk = MemoryDisk()
    log = reopened(disk)
    for index in range(1, 40):
        log.append([entry(index)])
    log.compact(20)
    assert 1 < log.first_index <= 20
    again = reopened(disk.copy(), first_index=20)
    assert [e.index for e in again.read(20)] == list(range(20, 40))
    with pytest.raises(ValueError):
        next(iter(again.read(1)))


def test_a_log_that_ends_before_its_snapshot_is_refused() -> None:
    disk = MemoryDisk()
    reopened(disk).append([entry(1)])
    with pytest.raises(Corrupt):
        reopened(disk, first_index=10)


def test_a_failed_append_is_never_tried_again() -> None:
    disk = MemoryDisk()
    log = reopened(disk)
    disk.fail_next_write()
    for _ in range(2):
        with pytest.raises(DiskFailed):
            log.append([entry(1)])


def test_a_torn_append_is_dropped_and_told() -> None:
    disk = MemoryDisk()
    log = reopened(disk)
    log.append([entry(1)])
    disk.tear_next_write(50)
    with pytest.raises(DiskFailed):
        log.append([entry(2, payload=b"z" * 100)])
    again = reopened(disk)
    assert again.next_index == 2
    assert again.dropped_tail is not None
    again.append([entry(2)])
    assert [e.index for e in reopened(disk).read(1)] == [1, 2]


@given(st.integers(0, 2**63), st.none() | st.text(max_size=40))
def test_hard_state_comes_back(term: int, vote: str | None) -> None:
    vote = vote.encode(errors="ignore").decode() if vote is not None else None
    disk = MemoryDisk()
    reopened(disk).save_hard_state(HardState(term, vote))
    assert reopened(disk.copy()).hard_state == HardState(term, vote)


def test_hard_state_never_goes_back_and_a_vote_is_given_once() -> None:
    log = reopened(MemoryDisk())
    log.save_hard_state(HardState(5, "n1"))
    for worse in (HardState(4, None), HardState(5, "n2"), HardState(5, None)):
        with pytest.raises(AssertionError):
            log.save_hard_state(worse)
    log.save_hard_state(HardState(6, "n2"))


def test_a_failed_write_of_the_hard_state_leaves_the_old_one() -> None:
    disk = MemoryDisk()
    log = reopened(disk)
    log.save_hard_state(HardState(5, "n1"))
    disk.fail_next_write()
    with pytest.raises(DiskFailed):
        log.save_hard_state(HardState(6, None))
    assert log.hard_state == HardState(5, "n1") == reopened(disk).hard_state


def test_every_damaged_byte_of_the_hard_state_is_noticed() -> None:
    disk = MemoryDisk()
    reopened(disk).save_hard_state(HardState(7, "node-1"))
    for offset in range(disk.size("raft/hard-state")):
        rotten = disk.copy()
        rotten.flip("raft/hard-state", offset)
        with pytest.raises(Corrupt):
            reopened(rotten)
