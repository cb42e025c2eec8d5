"""How long the disk has had what was given to it, which is all that one sees of a disk that hangs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from arc.errors import DiskFailed
from arc.ids import Epoch, Position
from arc.replication.log import SLOW_BYTES_PER_SECOND, MemoryOnly, ReplicaLog
from arc.storage.wal import record
from arc.storage.wal.history import History


class Hanging(MemoryOnly):
    """Does what it should, or fails, when it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = trio.Event()
        self.fails = False

    async def append(self, records: Sequence[bytes]) -> None:
        await self.go_on.wait()
        if self.fails:
            raise DiskFailed("EIO")
        await super().append(records)


def of(size_bytes: int) -> bytes:
    """A record."""
    header = record.RecordHeader(
        position=Position(Epoch(1), 1), database="d", measurement="m", rows=1, parts_left=0, moment_us=0, key=""
    )
    bare = record.encode(header, b"")
    return record.encode(header, bytes(size_bytes - len(bare)))


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("size_bytes", [1_000, 3 * SLOW_BYTES_PER_SECOND], ids=["small", "three seconds' worth"])
async def test_a_group_is_overdue_once_a_slow_disk_would_be_done_with_it(
    autojump_clock: MockClock, fails: bool, size_bytes: int
) -> None:
    storage = Hanging()
    storage.fails = fails
    log = ReplicaLog(storage, History(), tail_bytes_max=1)
    assert log.overdue_seconds == 0.0
    async with trio.open_nursery() as nursery:

        async def append() -> None:
            if not fails:
                await log.append([of(size_bytes)])
                return
            with pytest.raises(DiskFailed):
                await log.append([of(size_bytes)])

        nursery.start_soon(append)
        await trio.sleep(size_bytes / SLOW_BYTES_PER_SECOND)
        assert log.overdue_seconds == pytest.approx(0.0, abs=1e-6)
        await trio.sleep(7.0)
        assert log.overdue_seconds == pytest.approx(7.0, abs=1e-3)
        storage.go_on.set()
    await trio.sleep(7.0)
    assert log.overdue_seconds == 0.0
