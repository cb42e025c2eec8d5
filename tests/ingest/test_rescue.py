"""Files that nobody has any more are written again, from exactly the rows they had, or not at all."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio
from trio.testing import MockClock

from arc.catalog.commands import Command, ReplaceFiles
from arc.catalog.results import Result
from arc.errors import Unavailable
from arc.ids import Epoch, NodeId, Position
from arc.ingest.rescue import AGAIN, GRACE_SECONDS, LOOK_SECONDS, Rescuer, groups, is_flushed
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.storage.paths import HOUR_US, file_path, hour_of
from arc.storage.wal import record
from arc.telemetry import Log, RingSink
from tests.fakes import InlineWorkers, MemoryDisk


def flushed(times: list[int], *, first: int = 1, last: int = 3, node: str = "n1", epoch: int = 4) -> FileEntry:
    """The file that a flush made of rows at these times of one hour."""
    return FileEntry(
        path=file_path("db", "cpu", hour_of(times[0]), node=node, epoch=epoch, sequence=last),
        database="db",
        measurement="cpu",
        sha256=hashlib.sha256(repr(times).encode()).hexdigest(),
        size_bytes=9,
        rows=len(times),
        min_time_us=min(times),
        max_time_us=max(times),
        origin=node,
        epoch=epoch,
        first_sequence=first,
        last_sequence=last,
        created_us=1,
        columns=("time", "v"),
    )


class TrioClock:
    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return 77


class World:
    """A node whose log has records of two measurements from ``log_first`` on: cpu in 1 and 3, mem in 2."""

    def __init__(self, *lost: FileEntry, node: str = "n2", epoch: int = 9, log_first: int = 1) -> None:
        self.lost = list(lost)
        self.first_sequence = log_first
        self.disk = MemoryDisk()
        self.stored: list[str] = []
        self.asked: list[ReplaceFiles] = []
        self.fails = 0
        payloads = [logged(1, "cpu", [0, HOUR_US]), logged(2, "mem", [5]), logged(3, "cpu", [7])]
        self.records = dict(enumerate(payloads, 1))
        self.rescuer = Rescuer(
            node=NodeId(node),
            epoch=Epoch(epoch),
            lost=lambda: self.lost,
            wal=self,
            propose=self,
            stored=self.stored.append,
            clock=TrioClock(),
            disk=self.disk,
            workers=InlineWorkers(),
            log=Log([RingSink(50)], lambda: 0),
        )

    async def read(self, start: int, bytes_max: int) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return [self.records[start]] if start in self.records else []

    async def propose(self, command: Command) -> Result:
        assert isinstance(command, ReplaceFiles)
        await trio.lowlevel.checkpoint()
        self.asked.append(command)
        if self.fails:
            self.fails -= 1
            raise Unavailable("nobody leads")
        self.lost = [entry for entry in self.lost if (entry.path, entry.sha256) not in command.remove]
        return Result(ok=True)

    async def live(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.rescuer.run()

    def rows(self, entry: FileEntry) -> list[int]:
        table = pq.read_table(pa.BufferReader(self.disk.read(f"{DATA}/{entry.path}")))
        found: list[int] = table.column("time").cast(pa.int64()).to_pylist()
        return found


def logged(sequence: int, measurement: str, times: list[int]) -> bytes:
    batch = pa.record_batch(
        {"time": pa.array(times, pa.timestamp("us", tz="UTC")), "v": pa.array([float(t) for t in times])}
    )
    header = record.RecordHeader(
        position=Position(4, sequence), database="db", measurement=measurement, rows=len(times), parts_left=0,
        moment_us=1, key="",
    )  # fmt: skip
    return record.encode(header, record.encode_columns(batch))


FIRST, SECOND = flushed([0, 7]), flushed([HOUR_US])


async def test_the_files_of_a_flush_are_made_again_and_swapped_in_one_entry(autojump_clock: MockClock) -> None:
    world = World(FIRST, SECOND)
    await world.live(GRACE_SECONDS - 1)
    assert world.asked == []
    await world.live(GRACE_SECONDS + 3 * LOOK_SECONDS)
    (command,) = world.asked
    assert command.remove == ((FIRST.path, FIRST.sha256), (SECOND.path, SECOND.sha256))
    assert (command.lease, command.epoch) == ("writer", 9)
    assert [world.rows(entry) for entry in command.add] == [[0, 7], [HOUR_US]]
    for new, old in zip(command.add, (FIRST, SECOND), strict=True):
        assert (new.rows, new.first_sequence, new.last_sequence) == (old.rows, 1, 3)
        assert (new.origin, new.epoch, new.path != old.path) == ("n2", 9, True)
        data = world.disk.read(f"{DATA}/{new.path}")
        assert (new.sha256, new.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
        assert is_flushed(new), "and could be lost and made again"
    assert world.stored == [entry.path for entry in command.add]
    assert world.rescuer.statistics().rescued_total == 2


async def test_only_the_files_that_are_lost_are_made(autojump_clock: MockClock) -> None:
    world = World(SECOND)
    await world.live(GRACE_SECONDS + 3 * LOOK_SECONDS)
    (command,) = world.asked
    assert [world.rows(entry) for entry in command.add] == [[HOUR_US]]


async def test_a_file_of_this_very_reign_gets_another_name(autojump_clock: MockClock) -> None:
    own = flushed([0, 7], node="n2", epoch=9)
    world = World(own)
    await world.live(GRACE_SECONDS + 3 * LOOK_SECONDS)
    (command,) = world.asked
    assert command.add[0].path == own.path.replace(".parquet", f"{AGAIN}.parquet")
    assert is_flushed(command.add[0])


@pytest.mark.parametrize(
    "entry",
    [replace(FIRST, rows=1), replace(FIRST, max_time_us=6), flushed([2 * HOUR_US])],
    ids=["rows deleted", "other times", "no such hour"],
)
async def test_records_that_do_not_give_the_rows_of_the_file_are_not_taken(
    entry: FileEntry, autojump_clock: MockClock
) -> None:
    world = World(entry)
    await world.live(10 * GRACE_SECONDS)
    assert world.asked == [] and world.stored == []
    found = world.rescuer.statistics()
    assert (found.lost_files, found.failed_total) == (1, 1), "told once"


async def test_what_was_not_agreed_on_is_tried_again_and_who_comes_back_is_left_alone(
    autojump_clock: MockClock,
) -> None:
    world = World(FIRST)
    world.fails = 2
    await world.live(GRACE_SECONDS + 5 * LOOK_SECONDS)
    assert len(world.asked) == 3 and world.lost == []
    away = World(FIRST)
    await away.live(GRACE_SECONDS - LOOK_SECONDS)
    away.lost = []
    await away.live(2 * LOOK_SECONDS)
    away.lost = [FIRST]
    await away.live(GRACE_SECONDS - LOOK_SECONDS)
    assert away.asked == []


def test_merged_files_and_those_whose_records_left_the_log_are_no_matter_of_a_rescue() -> None:
    merged = replace(FIRST, path=FIRST.path.replace(".parquet", "-c.parquet"))
    assert not is_flushed(merged)
    assert groups([merged, FIRST, SECOND], 1) == {("db", "cpu", 1, 3): [FIRST, SECOND]}
    assert groups([FIRST, SECOND], 2) == {}
