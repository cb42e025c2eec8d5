"""The write-ahead log takes records back durably, and is read in whole requests."""

from __future__ import annotations

import struct
from dataclasses import replace

import google_crc32c
import pyarrow as pa
import pytest

from arc.ids import Position
from arc.ports import BLOCK_BYTES
from arc.storage.config import WalConfig
from arc.storage.wal import record
from arc.storage.wal.keys import CHECKPOINT, StoredKey, load_keys, save_keys
from arc.storage.wal.log import WalLog
from tests.fakes import InlineWorkers, ManualClock, MemoryDisk

CONFIG = WalConfig(segment_bytes=4 * BLOCK_BYTES)


def rows(sequence: int, *, epoch: int = 1, parts_left: int = 0, count: int = 3) -> bytes:
    batch = pa.RecordBatch.from_pydict({"time": list(range(count))})
    header = record.RecordHeader(
        position=Position(epoch, sequence),
        database="db",
        measurement="cpu",
        rows=count,
        parts_left=parts_left,
        moment_us=0,
        key="",
    )
    return record.encode(header, record.encode_columns(batch))


def test_a_record_of_before_fingerprints_is_read_as_it_was_written() -> None:
    columns = record.encode_columns(pa.RecordBatch.from_pydict({"time": [1]}))
    names = b"db" + b"cpu" + b"key"
    head = struct.pack("<BBHIQQqHHH", 1, 0, 2, 1, 5, 6, 7, 2, 3, 3) + names
    found = record.decode(head + bytes(-len(head) % 8) + bytes(columns))
    assert found.header == record.RecordHeader(
        position=Position(5, 6), database="db", measurement="cpu", rows=1, parts_left=2, moment_us=7, key="key"
    )
    assert found.batch.num_rows == 1
    header = replace(found.header, fingerprint=0xFFFF_FFFF)
    assert record.decode(record.encode(header, columns)).header == header
    with pytest.raises(ValueError, match="version 3 was written by a newer Arc"):
        record.decode(b"\3" + head[1:])


def test_a_checkpoint_of_before_fingerprints_is_read() -> None:
    disk = MemoryDisk()
    body = b'[["db", "old", 1, 2, 3, 4], ["db", "new", 1, 3, 3, 5, 6]]'
    disk.make_dirs("wal")
    disk.write_durable(CHECKPOINT, b"%08x\n" % google_crc32c.value(body) + body)
    old = StoredKey(database="db", key="old", epoch=1, sequence=2, rows=3, moment_us=4)
    new = StoredKey(database="db", key="new", epoch=1, sequence=3, rows=3, moment_us=5, fingerprint=6)
    assert load_keys(disk) == [old, new]
    save_keys(disk, [new, old])
    assert load_keys(disk) == [new, old]


def open_log(disk: MemoryDisk, first_sequence: int = 1) -> WalLog:
    return WalLog.open(disk, InlineWorkers(), ManualClock(), CONFIG, first_sequence=first_sequence)


async def test_what_was_cut_is_gone_after_a_restart_and_its_numbers_are_given_again() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    for sequence in range(1, 11):
        await log.append([rows(sequence)])
    await log.cut(4)
    await log.append([rows(4, epoch=2)])
    log = open_log(disk.copy())
    found = await log.read(1, 1 << 20)
    assert [record.epoch_of(each) for each in found] == [1, 1, 1, 2]


async def test_a_restarted_log_begins_where_it_was_told_and_gives_its_segments_back() -> None:
    disk = MemoryDisk()
    log = open_log(disk)
    for sequence in range(1, 30):
        await log.append([rows(sequence)])
    await log.restart(100)
    assert (log.first_sequence, log.next_sequence, len(log.segments())) == (100, 100, 1)
    await log.append([rows(100)])
    log = open_log(disk.copy(), first_sequence=500)
    assert (log.first_sequence, log.next_sequence) == (100, 101), "only an empty folder begins elsewhere"


async def test_the_time_of_every_durable_write_is_told_whole() -> None:
    """What writers wait for: from asking a worker until it is on disk; alarms look at the share above 10 ms."""
    clock, disk = ManualClock(), MemoryDisk()
    log = WalLog.open(disk, InlineWorkers(), clock, CONFIG, first_sequence=1)
    for sequence, seconds in enumerate((0.0004, 0.02, 9.0), 1):
        disk.on_write = lambda path, seconds=seconds: clock.advance(seconds)  # type: ignore[misc]
        await log.append([rows(sequence)])
    found = log.statistics().fsync_duration_seconds
    assert found.count == 3 and found.sum == pytest.approx(9.0204)
    assert [bound for bound, count in zip(found.bounds, found.counts, strict=False) if count] == [0.0005, 0.025]
    assert found.counts[-1] == 1


async def test_reading_never_ends_inside_a_request() -> None:
    log = open_log(MemoryDisk())
    await log.append([rows(1), rows(2, parts_left=2), rows(3, parts_left=1), rows(4)])
    await log.append([rows(5)])
    size = len(rows(1))
    assert len(await log.read(1, size)) == 1
    assert len(await log.read(1, 2 * size)) == 1
    assert len(await log.read(2, 1)) == 3
    assert len(await log.read(1, 1 << 20)) == 5
    assert await log.read(6, 1) == [] and await log.read(0, 1) == []


async def test_sizes_and_tails_are_reckoned_in_segments() -> None:
    log = open_log(MemoryDisk())
    for sequence in range(1, 30):
        await log.append([rows(sequence)])
    segments = log.segments()
    assert len(segments) > 3
    assert log.size_from(segments[-1].first_index) == segments[-1].used_bytes
    assert log.tail_first(1) == segments[-1].first_index
    assert log.tail_first(segments[-1].used_bytes + 1) == segments[-2].first_index
    assert log.tail_first(1 << 30) == 1
