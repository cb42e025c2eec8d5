"""Settings of what nodes keep for each other: how many copies of a file, how they come and stay whole."""

from __future__ import annotations

from dataclasses import dataclass

FACTOR_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationConfig:
    """Section ``[replication]``: copies of files, their way between nodes, and the slow look at what is there."""

    factor: int = 2
    """On so many disks a file has to be before nodes that lack it may forget its rows; the same on every node. Every
    node that answers queries keeps every file anyway; where these are fewer than this, other nodes keep copies too.
    With 1, a file that was just written is lost with the disk of its writer.
    """

    bandwidth_bytes_per_second: int = 0
    """Of files that this node fetches from one other node, at most. 0: as fast as the line and the disks are."""

    scrub_days: float = 30.0
    """Every file on this node is read and compared with its checksum once in so many days. 0: never."""

    look_seconds: float = 3600.0
    """How often the manifest is compared with what is on the disk, for files that got lost or should have gone."""

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= FACTOR_MAX:
            raise ValueError(f"factor must be 1 to {FACTOR_MAX}, not {self.factor}")
        if self.bandwidth_bytes_per_second < 0 or self.scrub_days < 0:
            raise ValueError("bandwidth_bytes_per_second and scrub_days must not be below 0")
        if self.look_seconds <= 0:
            raise ValueError("look_seconds must be above 0")
