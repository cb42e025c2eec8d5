"""Settings of how files find their replicas and stay whole."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationConfig:
    """Section ``[replication]``: files on their way between nodes, and the slow look at those that are there."""

    bandwidth_bytes_per_second: int = 0
    """Of files that this node fetches from one other node, at most. 0: as fast as the line and the disks are."""

    scrub_days: float = 30.0
    """Every file on this node is read and compared with its checksum once in so many days. 0: never."""

    look_seconds: float = 3600.0
    """How often the manifest is compared with what is on the disk, for files that got lost or should have gone."""

    def __post_init__(self) -> None:
        if self.bandwidth_bytes_per_second < 0 or self.scrub_days < 0:
            raise ValueError("bandwidth_bytes_per_second and scrub_days must not be below 0")
        if self.look_seconds <= 0:
            raise ValueError("look_seconds must be above 0")
