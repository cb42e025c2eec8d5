"""Why the holder of the writer lease takes no writes just now: reasons come and go, and the intake is open while there
is none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from arc.ports import Ports
from arc.storage.config import StorageConfig, WalConfig
from arc.telemetry import Log

STALL_LOOK_SECONDS = 0.25
"""How often is looked whether the disk stands still: as often as other nodes are told."""


class Intake(Protocol):
    """`ingest.intake.Intake`."""

    def close(self, reason: str) -> None:
        """Refuse new writes from now on."""
        ...

    def open(self) -> None:
        """Take writes again."""
        ...


class Acknowledging(Protocol):
    """`replication.durability.Durability`."""

    def pause(self, reason: str) -> None:
        """Acknowledge nothing."""
        ...

    def go_on(self) -> None:
        """Acknowledge again."""
        ...


class Doors:
    """The reasons by kind. ``intake`` is that of the current reign, None while there is none."""

    def __init__(self, wal: WalConfig, storage: StorageConfig, ports: Ports, log: Log) -> None:
        self._lease_seconds = wal.lease_seconds
        self._stall_seconds = wal.stall_seconds
        self._reserve_bytes = storage.reserve_bytes
        self._ports = ports
        self._log = log
        self._reasons: dict[str, str] = {}
        self._intake: Intake | None = None
        self.free_bytes = 0
        """On the disk, at the last look; 0 before the first."""
        self.stalled_seconds = 0.0
        """For how long a write of the log has been under way, once the disk stands still; else 0."""

    def __repr__(self) -> str:
        return f"<Doors {self._reasons or 'open'}>"

    def begin(self, intake: Intake) -> None:
        """A reign has begun."""
        self._intake = intake
        self._apply()

    def end(self) -> None:
        """It is over, and so is what was only its own."""
        self._intake = None
        for kind in ("lease", "hand-over"):
            self._reasons.pop(kind, None)

    def close(self, kind: str, reason: str) -> None:
        """Take no writes for this reason."""
        self._reasons[kind] = reason
        self._apply()

    def open(self, kind: str) -> None:
        """The reason is gone."""
        self._reasons.pop(kind, None)
        self._apply()

    def _apply(self) -> None:
        if self._intake is None:
            return
        if self._reasons:
            self._intake.close(next(iter(self._reasons.values())))
        else:
            self._intake.open()

    async def look_at_space(self) -> int:
        """Bytes that are free on the disk."""
        self.free_bytes = await self._ports.workers.run(self._ports.disk.free_bytes)
        return self.free_bytes

    async def watch_space(self) -> None:
        """Close while the disk is nearly full: flush and the catalog's log need the rest to make room."""
        reserve, free = self._reserve_bytes, await self.look_at_space()
        if free < reserve and "space" not in self._reasons:
            reason = f"the disk has {free} bytes free and {reserve} are kept in reserve (storage.reserve_bytes)"
            self.close("space", reason)
            self._log.error("disk_nearly_full", free_bytes=free, effect="writes answer 503", next_step="free space")
        elif free >= reserve and "space" in self._reasons:
            self.open("space")
            self._log.info("disk_has_room", free_bytes=free)

    async def watch_disk(self, overdue_seconds: Callable[[], float]) -> None:
        """Close while the disk stands still, until cancelled: who is let in then could only wait. A disk that hangs
        tells nobody, so time says it (`ReplicaLog.overdue_seconds`); nothing here asks the disk.
        """
        while True:
            seconds = overdue_seconds()
            is_stalled = seconds >= self._stall_seconds
            self.stalled_seconds = seconds if is_stalled else 0.0
            if is_stalled and "disk" not in self._reasons:
                limit = f"{self._stall_seconds:g}"
                self.close("disk", f"a write of the log is under way for more than {limit} s (wal.stall_seconds)")
                self._log.error(
                    "disk_stands_still",
                    overdue_seconds=round(seconds, 3),
                    effect="this node can store nothing: in a cluster, as the writer it is replaced, and as a follower "
                    "left out of the in-sync set",
                    next_step="look at the disk and what the kernel says of it; this node goes on by itself",
                )
            elif not is_stalled and "disk" in self._reasons:
                self.open("disk")
                self._log.info("disk_goes_on")
            await trio.sleep(STALL_LOOK_SECONDS)

    @property
    def is_lease_over(self) -> bool:
        """Whether the leader of the cluster was not heard for too long."""
        return "lease" in self._reasons

    def watch_lease(self, silent_seconds: float, acknowledging: Acknowledging) -> None:
        """Acknowledge nothing while the cluster may have given the lease to another node without our knowing.

        No row depends on it: who took over was in sync, and we need him for every record. But a client is told sooner
        that he has to go elsewhere.
        """
        limit = self._lease_seconds
        if silent_seconds > limit and "lease" not in self._reasons:
            reason = (
                f"the leader of the cluster was not heard for {silent_seconds:.1f} s (wal.lease_seconds = {limit:g})"
            )
            acknowledging.pause(reason)
            self.close("lease", reason)
            self._log.warning("lease_expired", silent_seconds=round(silent_seconds, 3))
        elif silent_seconds <= limit and "lease" in self._reasons:
            acknowledging.go_on()
            self.open("lease")
            self._log.info("lease_renewed")
