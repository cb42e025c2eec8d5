"""Settings of what nodes keep for each other."""

from __future__ import annotations

from dataclasses import dataclass

FACTOR_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicationConfig:
    """Section ``[replication]``. It must be the same on every node."""

    factor: int = 2
    """On so many disks a file has to be before nodes that lack it may forget its rows. Every node that answers queries
    keeps every file anyway; where these are fewer than this, other nodes keep copies too. With 1, a file that was just
    written is lost with the disk of its writer.
    """

    def __post_init__(self) -> None:
        if not 1 <= self.factor <= FACTOR_MAX:
            raise ValueError(f"factor must be 1 to {FACTOR_MAX}, not {self.factor}")
