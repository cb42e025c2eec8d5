"""Rows move from the buffer to files once, whatever happens in between."""

from __future__ import annotations

import errno
import hashlib
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import trio

from arc.catalog.commands import Command, RegisterFiles
from arc.catalog.fsm import ClusterFSM
from arc.errors import DiskFailed, OutcomeUnknown, Unavailable
from arc.ingest.buffer import Key, LaneFacts
from arc.ingest.config import IngestConfig
from arc.ingest.flush import due
from arc.ports import Buffer as Bytes
from arc.storage.objects import key_of
from arc.storage.paths import HOUR_US
from arc.storage.shelf import Shelf
from arc.storage.wal.log import WalLog
from arc.system import SystemDisk
from tests.ingest.writepath import CONFIG, open_write_path, values, write
from tests.storage.memory_objects import MemoryObjects


def lane(name: str, **facts: object) -> LaneFacts:
    defaults: dict[str, object] = dict(rows=10, size_bytes=100, opened_at=0.0, first=1, is_flushing=False)
    return LaneFacts(key=Key("db", name), **(defaults | facts))  # type: ignore[arg-type]


LIMITS = IngestConfig(flush_rows=1000, flush_bytes=10_000, flush_age_seconds=60)


@pytest.mark.parametrize(
    ("lanes", "now", "full", "expected"),
    [
        ([lane("a")], 59.9, False, []),
        ([lane("a")], 60.0, False, ["a"]),
        ([lane("a", rows=1000)], 0.0, False, ["a"]),
        ([lane("a", size_bytes=10_000)], 0.0, False, ["a"]),
        ([lane("a", rows=5000, is_flushing=True)], 99.0, True, []),
        ([lane("a", rows=0)], 99.0, True, []),
        ([lane("a", first=9), lane("b", first=3)], 0.0, True, ["b"]),
        ([lane("a", first=9, rows=2000), lane("b", first=3)], 0.0, True, ["b", "a"]),
        ([], 0.0, True, []),
    ],
)
def test_due(lanes: list[LaneFacts], now: float, full: bool, expected: list[str]) -> None:
    found = due(lanes, LIMITS, now=now, wal_is_full=full)
    assert [key.measurement for key in found] == expected


async def test_flush_moves_rows_to_one_file_per_hour_and_counts_each_once(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(100, start=HOUR_US - 50_000)))
        await path.flusher.flush_all()
        files = list(path.fsm.catalog.files("db", "cpu"))
        assert [file.rows for file in files] == [50, 50]
        assert path.rows() == 100
        assert path.buffer.size_bytes == 0
        assert files[0].path.startswith("db/cpu/1970/01/01/00/")
        stored = (tmp_path / "data" / files[0].path).read_bytes()
        assert hashlib.sha256(stored).hexdigest() == files[0].sha256
        assert len(stored) == files[0].size_bytes
        metadata = pq.read_schema(tmp_path / "data" / files[0].path).metadata
        assert (
            metadata[b"arc.tags"] == b"host" and metadata[b"arc.writer"] == b"n1" and metadata[b"arc.wal_last"] == b"1"
        )


async def test_rows_written_during_a_flush_stay_for_the_next_one(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(10)))
        seen = []

        class Watching(SystemDisk):
            def write_durable(self, name: str, data: Bytes) -> None:
                trio.from_thread.run(path.intake.write, write(values(5, start=10**7)))
                seen.append(path.rows())
                super().write_durable(name, data)

        path.flusher._disk = Watching(tmp_path)
        await path.flusher.flush_all()
        assert seen == [15]
        assert path.rows() == 15
        assert sum(file.rows for file in path.fsm.catalog.files("db", "cpu")) == 10


async def test_crash_after_the_files_and_before_their_registration_neither_loses_nor_doubles(tmp_path: Path) -> None:
    fsm = ClusterFSM()

    def crash(command: Command) -> None:
        if isinstance(command, RegisterFiles):
            raise KeyboardInterrupt

    with pytest.raises(BaseExceptionGroup):
        async with open_write_path(tmp_path, fsm=fsm) as path:
            await path.intake.write(write(values(100)))
            path.proposer.before = crash
            await path.flusher.flush_all()
    assert list((tmp_path / "data").rglob("*.parquet"))
    async with open_write_path(tmp_path, fsm=fsm) as path:
        assert path.rows() == 100
        await path.flusher.flush_all()
        assert path.rows() == 100


async def test_caller_that_hangs_up_does_not_leave_a_flush_half_done(tmp_path: Path) -> None:
    """Cancelled between the commit of its registration and the release of its rows, a flush would begin again."""
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(100)))
        with trio.CancelScope() as caller:
            path.proposer.after = lambda command: caller.cancel()
            await path.flusher.flush_all()
        assert caller.cancelled_caught
        await path.intake.write(write(values(5, start=10**9)))
        await path.flusher.flush_all()
        assert path.rows() == 105
        assert sum(file.rows for file in path.fsm.catalog.files("db", "cpu")) == 105


async def test_where_a_reign_ends_before_it_was_its_turn_a_measurement_does_not_stay_sealed(tmp_path: Path) -> None:
    """The next reign of this node has the same buffer: what is sealed there it would never flush (seed 700471)."""
    with trio.CancelScope() as reign:
        async with open_write_path(tmp_path, config=replace(CONFIG, flush_workers=1)) as path:
            await path.intake.write(write(values(10), values(10, measurement="mem")))
            path.proposer.before = lambda command: reign.cancel() if isinstance(command, RegisterFiles) else None
            await path.flusher.flush_all()
    assert reign.cancelled_caught
    (left,) = path.buffer.lanes()  # The other one was on its way, and its registration committed.
    assert (left.rows, left.is_flushing) == (10, False)


async def test_lost_answer_to_a_registration_that_committed_counts_as_done(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(100)))
        lost = []

        def lose(command: Command) -> None:
            if isinstance(command, RegisterFiles) and not lost:
                lost.append(command)
                raise OutcomeUnknown("the answer was lost")

        path.proposer.after = lose
        await path.flusher.flush_all()
        assert lost and path.rows() == 100 and path.buffer.size_bytes == 0


async def test_full_disk_keeps_rows_readable_and_the_next_flush_succeeds(tmp_path: Path) -> None:
    class Full(SystemDisk):
        full = True

        def write_durable(self, path: str, data: Bytes) -> None:
            if self.full:
                raise OSError(errno.ENOSPC, "no space left on device")
            super().write_durable(path, data)

    async with open_write_path(tmp_path) as path:
        path.flusher._disk = disk = Full(tmp_path)
        await path.intake.write(write(values(100)))
        with pytest.raises(Unavailable, match="no space"):
            await path.flusher.flush_all()
        assert path.rows() == 100 and path.flusher.statistics().failures_total == 1
        disk.full = False
        await path.flusher.flush_all()
        assert path.rows() == 100 and path.buffer.size_bytes == 0


async def test_failing_disk_stops_the_flusher(tmp_path: Path) -> None:
    class Failing(SystemDisk):
        def write_durable(self, path: str, data: Bytes) -> None:
            raise OSError(errno.EIO, "input/output error")

    with pytest.RaisesGroup(pytest.RaisesGroup(DiskFailed)):
        async with open_write_path(tmp_path) as path:
            path.flusher._disk = Failing(tmp_path)
            await path.intake.write(write(values(100)))
            with pytest.raises(Unavailable):
                await path.flusher.flush_all()


@pytest.mark.parametrize(("problem", "is_fatal"), [(errno.ENOSPC, False), (errno.EIO, True)])
async def test_a_log_that_cannot_be_released_takes_no_flush_back(
    tmp_path: Path, problem: int, is_fatal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the simulated world: the seal of rows that were in files already was taken back, and the node died of a
    KeyError; a full disk was enough.
    """

    async def release(self: WalLog, below: int, keys: object) -> int:
        raise OSError(problem, "cannot write the checkpoint of keys")

    monkeypatch.setattr(WalLog, "release", release)

    async def story() -> None:
        async with open_write_path(tmp_path) as path:
            await path.intake.write(write(values(100)))
            await path.flusher.flush_all()
            assert path.rows() == 100 and path.buffer.size_bytes == 0
            assert path.flusher.statistics().failures_total == 0

    if is_fatal:
        with pytest.RaisesGroup(pytest.RaisesGroup(DiskFailed)):
            await story()
    else:
        await story()


async def test_wal_shrinks_only_below_what_is_in_files(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(3, measurement="slow")))
        for n in range(40):
            await path.intake.write(write(values(2000, start=n)))
        path.flusher._asked.add(Key("db", "cpu"))
        path.flusher._asked_came.set()
        while path.flusher.statistics().flushes_total == 0:
            await path.flusher._finished_one.wait()
        assert path.wal.segments()[0].first_index == 1, "the slow measurement's record must stay"
        fsm = path.fsm
    async with open_write_path(tmp_path, fsm=fsm) as path:
        assert (path.rows("slow"), path.rows("cpu")) == (3, 80_000)
        await path.flusher.flush_all()
        assert path.wal.segments()[0].first_index > 1


# ---- with a store that all nodes share


async def test_a_file_is_in_the_shared_store_before_it_is_registered_and_on_the_disk_too(tmp_path: Path) -> None:
    objects = MemoryObjects()
    shelf = Shelf(objects, lambda: "c1")
    async with open_write_path(tmp_path, shelf=shelf) as path:
        seen: list[list[str]] = []
        path.proposer.before = lambda command: seen.append(sorted(objects.bodies))
        await path.intake.write(write(values(100)))
        await path.flusher.flush_all()
        (entry,) = path.fsm.catalog.files("db", "cpu")
        assert seen[-1] == [key_of("c1", entry.path, entry.sha256)]
        assert shelf.has(entry.path)
        assert objects.bodies[seen[-1][0]] == path.disk.read(f"data/{entry.path}")


async def test_while_the_shared_store_is_away_nothing_is_dropped_and_nothing_is_left_on_the_disk(
    tmp_path: Path,
) -> None:
    objects = MemoryObjects()
    objects.is_down = True
    async with open_write_path(tmp_path, shelf=Shelf(objects, lambda: "c1")) as path:
        await path.intake.write(write(values(100)))
        with pytest.raises(Unavailable, match="nobody answers"):
            await path.flusher.flush_all()
        assert path.rows() == 100
        assert not list(path.fsm.catalog.all_files()) and path.disk.walk("data") == []
        objects.is_down = False
        await path.flusher.flush_all()
        assert (path.rows(), path.buffer.size_bytes, len(objects.bodies)) == (100, 0, 1)


async def test_a_put_whose_answer_was_lost_is_put_again_as_the_same_object(tmp_path: Path) -> None:
    """More rows come in between: the next flush has another name, and the first object is left over."""
    objects = MemoryObjects()
    async with open_write_path(tmp_path, shelf=Shelf(objects, lambda: "c1")) as path:
        await path.intake.write(write(values(100)))
        for expected in (1, 2):
            objects.lose_answers = 1
            with pytest.raises(Unavailable, match="lost"):
                await path.flusher.flush_all()
            assert len(objects.bodies) == expected
            if expected == 1:
                await path.intake.write(write(values(10, start=1_000_000)))
        await path.flusher.flush_all()
        assert (path.rows(), path.buffer.size_bytes, len(objects.bodies)) == (110, 0, 2)
