"""Settings of how a node agrees on commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProposalsConfig:
    """Where the catalog is kept and how much may wait."""

    folder: str = "raft"
    """Below the data folder."""

    segment_bytes: int = 4 << 20
    """Size of a log segment, the unit in which the log is given back."""

    snapshot_entries: int = 10_000
    """A snapshot after this many entries: a restart replays no more than these, some seconds at the worst."""

    waiting_max: int = 10_000
    """Proposals that may wait; the next one is refused as overloaded."""

    batch_commands_max: int = 1_000
    """Commands in one durable write."""

    batch_weight_max: int = 10_000
    """Files named in one durable write (some 3 MB). A single larger command is a write of its own."""
