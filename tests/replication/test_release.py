"""A follower's log is given back as the holder's is; a disk without room for that is no reason to stop."""

from __future__ import annotations

import errno
from collections.abc import Sequence

import pytest

from arc.catalog.facts import Catalog
from arc.duties.reign import release_followed
from arc.errors import DiskFailed
from arc.ingest.buffer import Buffer
from arc.ingest.keys import IdempotencyKeys
from arc.replication.copies import Kept
from arc.storage.config import WalConfig
from arc.storage.wal.keys import StoredKey


class Log:
    """A log whose release fails in one way."""

    def __init__(self, number: int | None) -> None:
        self.number = number
        self.released = 0
        self.first_sequence = 1

    def may_release(self, below: int) -> bool:
        return True

    def tail_first(self, bytes_max: int) -> int:
        return 1

    async def release(self, below: int, keys: Sequence[StoredKey]) -> int:
        if self.number is not None:
            raise OSError(self.number, "wal/keys.json")
        self.released += 1
        return 1


async def release(log: Log) -> str | None:
    return await release_followed(
        log,  # type: ignore[arg-type]
        WalConfig(),
        Buffer(),
        IdempotencyKeys(1_000_000, 10, lambda: 0.0),
        able=["n1", "n2"],
        kept=Kept(me="n2", catalog=Catalog, is_here=lambda path: False, factor=2),
        visible=10,
    )


async def test_a_full_disk_keeps_the_log_until_there_is_room() -> None:
    """Found by world seed 17: the checkpoint of keys found no room, and the follower gave up its life for it."""
    log = Log(errno.ENOSPC)
    told = await release(log)
    assert told is not None and "wal/keys.json" in told
    log.number = None
    assert await release(log) is None
    assert log.released == 1


async def test_a_broken_disk_stops_the_node() -> None:
    with pytest.raises(DiskFailed):
        await release(Log(errno.EIO))
