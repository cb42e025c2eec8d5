"""Why no writes are taken: a disk that stands still, which nobody but the time tells of."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from trio.testing import MockClock

from arc.duties.doors import STALL_LOOK_SECONDS, Doors
from arc.ports import Ports
from arc.storage.config import StorageConfig, WalConfig
from arc.telemetry import Log


class Door:
    """An intake."""

    closed_because: str | None = None

    def close(self, reason: str) -> None:
        self.closed_because = reason

    def open(self) -> None:
        self.closed_because = None


async def test_writes_are_refused_while_the_disk_stands_still_and_taken_again_behind_it(
    autojump_clock: MockClock,
) -> None:
    limit = WalConfig().stall_seconds
    told: list[str] = []

    class Telling(Log):
        def error(self, event: str, **fields: object) -> None:
            told.append(event)

    doors, door = Doors(WalConfig(), StorageConfig(), cast(Ports, None), Telling([], lambda: 0)), Door()
    doors.begin(door)
    since: list[float] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(doors.watch_disk, lambda: trio.current_time() - since[0] if since else 0.0)
        await trio.sleep(60.0)
        assert (door.closed_because, doors.stalled_seconds) == (None, 0.0)
        since.append(trio.current_time())
        await trio.sleep(limit - 0.1)
        assert (door.closed_because, doors.stalled_seconds) == (None, 0.0), "slow is not still"
        await trio.sleep(2 * STALL_LOOK_SECONDS)
        assert door.closed_because is not None and "wal.stall_seconds" in door.closed_because
        assert doors.stalled_seconds == pytest.approx(limit, abs=2 * STALL_LOOK_SECONDS)
        await trio.sleep(30.0)
        assert doors.stalled_seconds > limit + 29.0
        assert told == ["disk_stands_still"], "once, however long"
        since.clear()
        await trio.sleep(2 * STALL_LOOK_SECONDS)
        assert (door.closed_because, doors.stalled_seconds) == (None, 0.0)
        nursery.cancel_scope.cancel()
