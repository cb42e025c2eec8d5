"""A snapshot is there whole and proven, or it is not there."""

from __future__ import annotations

import pytest

from arc.errors import Corrupt
from arc.raft.snapshots import SnapshotStore
from tests.fakes import MemoryDisk

CHUNKS = [bytes([number]) * 700 for number in range(10)]


def store(disk: MemoryDisk) -> SnapshotStore:
    return SnapshotStore(disk, "snaps", part_bytes=2000)


def saved(*indexes: int) -> MemoryDisk:
    disk = MemoryDisk()
    for index in indexes:
        store(disk).save(index, 1, CHUNKS)
    return disk


def test_chunks_come_back_from_many_parts() -> None:
    disk = saved(7)
    found = store(disk.copy()).load()
    assert found is not None
    assert (found.index, found.term, len(found.parts)) == (7, 1, 4)
    assert list(store(disk).chunks(found)) == CHUNKS


def test_nothing_is_found_where_nothing_was_saved() -> None:
    assert store(MemoryDisk()).load() is None


def test_the_last_two_are_kept_and_all_else_is_removed() -> None:
    disk = saved(1, 2, 3)
    assert store(disk).indexes() == [2, 3]
    assert not [path for path in disk.walk("snaps") if "snapshot-00000000000000000001" in path]


def test_a_power_cut_at_any_write_leaves_the_old_or_the_new_snapshot() -> None:
    disk = saved(1)
    states: list[MemoryDisk] = []
    disk.on_write = lambda path: states.append(disk.copy())
    store(disk).save(2, 1, CHUNKS)
    indexes = []
    for state in states:
        found = store(state).load()
        assert found is not None
        assert list(store(state).chunks(found)) == CHUNKS
        indexes.append(found.index)
    assert indexes == [1, 1, 1, 1, 2]


def test_remains_of_an_unfinished_snapshot_are_swept_away() -> None:
    disk = saved(1)
    disk.fail_next_write(after=2)
    with pytest.raises(OSError):
        store(disk).save(2, 1, CHUNKS)
    assert len(disk.walk("snaps")) == 7
    assert store(disk).load() is not None
    assert len(disk.walk("snaps")) == 5


def test_every_damaged_byte_of_the_only_snapshot_is_noticed() -> None:
    disk = saved(1)
    for path in disk.walk("snaps"):
        for offset in range(0, disk.size(path), 97):
            rotten = disk.copy()
            rotten.flip(path, offset)
            with pytest.raises(Corrupt) as damage:
                store(rotten).load()
            assert path in str(damage.value) or "digest" in str(damage.value)


@pytest.mark.parametrize("size", [None, 0, 100])
def test_missing_and_shortened_parts_are_noticed(size: int | None) -> None:
    disk = saved(1)
    path = disk.walk("snaps")[0]
    if size is None:
        disk.remove(path)
    else:
        disk.truncate(path, size)
    with pytest.raises(Corrupt, match=path):
        store(disk).load()


def test_the_one_before_serves_when_the_newest_is_damaged_and_the_damage_is_told() -> None:
    disk = saved(1, 2)
    disk.flip([path for path in disk.walk("snaps") if path.endswith(".part")][-1], 30)
    snapshots = store(disk)
    found = snapshots.load()
    assert found is not None
    assert found.index == 1
    assert len(snapshots.damaged) == 1
    assert snapshots.indexes() == [1], "the damaged one must not count as kept"
