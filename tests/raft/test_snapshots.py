"""A snapshot is there whole and proven, or it is not there."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

import cbor2
import google_crc32c
import pytest

from arc.errors import Corrupt
from arc.raft.snapshots import SnapshotStore
from arc.raft.types import Configuration, Peer, SnapshotMeta
from arc.system import SystemDisk
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


def test_one_that_is_being_sent_stays_until_it_is_there() -> None:
    """World seed 670054: the next ones came sooner than a newcomer had the whole of any."""
    disk = MemoryDisk()
    snapshots = store(disk)
    first = snapshots.save(1, 1, CHUNKS).meta
    for index in (2, 3, 4):
        snapshots.save(index, 1, CHUNKS, keep={1})
    assert snapshots.indexes() == [1, 3, 4]
    piece = snapshots.read_piece(first, 0, first.size_bytes)
    assert piece is not None and piece[2]
    snapshots.save(5, 1, CHUNKS)
    assert snapshots.indexes() == [4, 5]
    assert snapshots.read_piece(first, 0, 1) is None
    assert len([path for path in disk.walk("snaps") if path.endswith(".cbor")]) == 2


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


def test_a_write_to_a_full_disk_or_one_that_a_power_cut_ended_leaves_no_draft(tmp_path: Path) -> None:
    """S-09: up to a part of bytes, on a disk where every byte counts."""
    disk = SystemDisk(tmp_path)
    store_ = SnapshotStore(disk, "snaps", part_bytes=2000)
    store_.save(1, 1, CHUNKS)
    files = disk.walk("snaps")
    disk.write_durable("snaps/.snapshot-00000000000000000002.00000.part.tmp", b"half")
    assert store_.load() is not None
    assert disk.walk("snaps") == files
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError):
            store_.save(2, 1, CHUNKS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert disk.walk("snaps") == files


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


# ----------------------------------------------------------------------------------------- contract, between the nodes

CONFIGURATION = Configuration(voters=(Peer("a"), Peer("b", 2)), learners=(Peer("c"),))


def pieces(source: SnapshotStore, meta: SnapshotMeta, size: int) -> Iterator[tuple[int, bytes, int, bool]]:
    offset, is_last = 0, False
    while not is_last:
        piece = source.read_piece(meta, offset, size)
        assert piece is not None
        data, checksum, is_last = piece
        yield offset, data, checksum, is_last
        offset += len(data)


def leader(index: int = 9, chunks: Sequence[bytes] = CHUNKS) -> tuple[SnapshotStore, SnapshotMeta]:
    source = store(MemoryDisk())
    return source, source.save(index, 4, chunks, CONFIGURATION, 5).meta


@pytest.mark.parametrize("size", [1, 7, 708, 1999, 2000, 1 << 20])
def test_a_snapshot_travels_in_pieces_of_any_size_and_is_the_same_there(size: int) -> None:
    """S-09: equal bytes have an equal meta, whoever stores them and however they are cut into parts."""
    chunks = CHUNKS[:2] if size < 10 else [*CHUNKS, b"", b"long" * 2000]
    source, meta = leader(chunks=chunks)
    disk = saved(1)
    target = store(disk)
    assert target.load() is not None
    for piece in pieces(source, meta, size):
        assert target.stage_piece(meta, *piece)
    assert target.indexes() == [1] and store(disk.copy()).load() is not None, "staged is not stored"
    assert target.find(meta) is None
    target.accept(meta)
    again = store(disk.copy())
    found = again.load()
    assert found is not None and found.meta == meta
    assert (found.meta.configuration, found.meta.configuration_index) == (CONFIGURATION, 5)
    assert list(again.chunks(found)) == list(chunks)
    assert list(pieces(again, meta, 500)) == list(pieces(source, meta, 500)), "and it can be sent on"
    assert again.save(9, 4, chunks, CONFIGURATION, 5).meta == meta


def test_pieces_out_of_place_wrong_or_of_another_snapshot_are_refused_and_the_right_one_still_fits() -> None:
    """S-09, K-70"""
    source, meta = leader()
    other, other_meta = leader(8)
    target = store(saved(1))
    first, second, *rest = pieces(source, meta, 1000)
    assert not target.stage_piece(meta, *second)
    assert target.stage_piece(meta, *first)
    offset, data, checksum, is_last = second
    assert not target.stage_piece(meta, offset, data[:-1] + b"?", checksum, is_last)
    assert not target.stage_piece(meta, offset + 1, data, checksum, is_last)
    assert not target.stage_piece(other_meta, offset, data, checksum, is_last)
    for piece in (second, *rest):
        assert target.stage_piece(meta, *piece)
    target.accept(meta)
    for piece in pieces(other, other_meta, 1000):
        assert target.stage_piece(other_meta, *piece)


def test_a_whole_that_does_not_have_its_digest_is_refused_and_begun_anew() -> None:
    """S-09"""
    source, meta = leader()
    target = store(saved(1))
    wrong = meta._replace(digest="0" * 64)
    *front, last = pieces(source, meta, 3000)
    for piece in front:
        assert target.stage_piece(wrong, *piece)
    assert not target.stage_piece(wrong, *last)
    with pytest.raises(AssertionError):
        target.accept(meta)
    for piece in pieces(source, meta, 3000):
        assert target.stage_piece(meta, *piece)
    target.accept(meta)


def test_a_full_disk_postpones_a_piece_and_accepting_needs_no_room() -> None:
    """S-09, D-11"""
    source, meta = leader()
    disk = saved(1)
    target = store(disk)
    assert target.load() is not None
    for offset, data, checksum, is_last in pieces(source, meta, 900):
        disk.free = 0
        if not target.stage_piece(meta, offset, data, checksum, is_last):
            disk.free = 1 << 20
            assert target.stage_piece(meta, offset, data, checksum, is_last)
    disk.free = 0
    target.accept(meta)
    found = store(disk.copy()).load()
    assert found is not None and found.meta == meta


def test_an_unfinished_transfer_is_swept_away_at_the_start() -> None:
    """S-09: cancelled leaves no trace."""
    source, meta = leader()
    disk = saved(1)
    files = disk.walk("snaps")
    target = store(disk)
    for piece in pieces(source, meta, 900):
        assert target.stage_piece(meta, *piece)
    assert len(disk.walk("snaps")) > len(files)
    assert store(disk).load() is not None
    assert disk.walk("snaps") == files


def test_a_snapshot_may_be_saved_while_another_comes_in() -> None:
    """S-09: own ones and those of others never touch each other's files, whatever is tidied meanwhile."""
    source, meta = leader()
    disk = saved(1, 2)
    target = store(disk)
    assert target.load() is not None
    for nth, piece in enumerate(pieces(source, meta, 900)):
        assert target.stage_piece(meta, *piece)
        if nth % 2:
            target.save(3 + nth // 2, 1, CHUNKS)
    target.accept(meta)
    assert target.indexes()[-1] == 9 and len(target.indexes()) == 2
    assert list(target.chunks(target.find(meta) or pytest.fail("gone"))) == CHUNKS


def test_what_was_superseded_is_gone_for_readers_too() -> None:
    """S-09: a transfer of it begins again with the newest."""
    disk = MemoryDisk()
    target = store(disk)
    first = target.save(1, 1, CHUNKS).meta
    assert target.read_piece(first, 0, 10) is not None
    assert target.read_piece(first._replace(digest=""), 0, 10) is None
    for index in (2, 3):
        target.save(index, 1, CHUNKS)
    assert target.read_piece(first, 0, 10) is None


def test_a_snapshot_of_the_former_format_is_read_with_the_configuration_of_the_founders() -> None:
    """N-03, an upgrade in place: its head had no configuration and a digest of the chunks alone."""
    disk = saved(7)
    found = store(disk).load()
    assert found is not None
    digest = hashlib.sha256(b"".join(CHUNKS)).hexdigest()
    parts = [[part.name, part.size_bytes] for part in found.parts]
    body = cbor2.dumps(["arc-snapshot-1", 7, 1, parts, digest])
    path = "snaps/snapshot-00000000000000000007.cbor"
    disk.write_durable(path, body + google_crc32c.value(body).to_bytes(4, "little"))
    former = SnapshotStore(disk, "snaps", founders=CONFIGURATION)
    again = former.load()
    assert again is not None
    assert again.meta == found.meta._replace(configuration=CONFIGURATION)
    assert list(former.chunks(again)) == CHUNKS
    assert former.read_piece(again.meta, 0, 1 << 20) is not None
    disk.flip(f"snaps/{again.parts[0].name}", 9)
    with pytest.raises(Corrupt):
        SnapshotStore(disk, "snaps", founders=CONFIGURATION).load()
