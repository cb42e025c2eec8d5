"""Limits and times of one core, checked once, so that no rule has to wonder whether they make sense."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Times are seconds of the caller's clock. Raises ValueError for what could never work.

    Switching a protection off is for tests and for the simulator: each protection hides bugs of the others.
    """

    election_timeout_seconds: float = 1.0
    """T: a follower campaigns after a silence drawn from [T, 2T) (dissertation, 9.3)."""
    heartbeat_seconds: float = 0.1
    is_pre_vote: bool = True
    is_check_quorum: bool = True
    is_sticky: bool = True
    """Shield a leader that was heard within T from votes (dissertation, 4.2.3 and 6.4.1)."""
    is_lease_read: bool = False
    clock_drift_max: float = 0.01
    """Bound of every node's clock rate against true time, as a fraction; only lease reads depend on it."""

    append_bytes_max: int = 1 << 20
    append_entries_max: int = 1024
    window_messages_max: int = 64
    """Appends in flight to one follower."""
    window_bytes_max: int = 16 << 20
    entry_bytes_max: int = 8 << 20
    uncommitted_bytes_max: int = 64 << 20
    uncommitted_entries_max: int = 100_000
    apply_bytes_max: int = 4 << 20
    """Bytes handed to the state machine and not yet reported applied."""
    memory_bytes_max: int = 64 << 20
    """Entries kept in memory; older ones that are durable and applied are read from disk when a follower asks."""

    reads_max: int = 10_000
    read_timeout_seconds: float = 5.0

    snapshot_chunk_bytes: int = 1 << 20
    snapshot_sends_max: int = 2
    snapshot_retry_seconds: float = 1.0
    trailing_entries: int = 10_000
    """Entries kept before a snapshot, for followers that are a little behind."""
    trailing_entries_max: int = 100_000
    """Entries kept for a follower that is alive and needs them; beyond, it gets the snapshot."""

    catch_up_rounds_max: int = 10
    """Dissertation, 4.2.1."""
    catch_up_timeout_seconds: float = 60.0
    disk_stall_seconds: float = 10.0
    """A leader whose own write takes longer steps down."""

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_seconds < self.election_timeout_seconds:
            raise ValueError("heartbeats must come more often than the election timeout")
        if self.is_lease_read and not (self.is_check_quorum and self.is_sticky):
            raise ValueError("lease reads need CheckQuorum and the shield of stickiness")
        if not 0 <= self.clock_drift_max < 1:
            raise ValueError("the clock drift bound is a fraction of one")
        for name in self.__slots__:
            value = getattr(self, name)
            least = 0 if name in ("trailing_entries", "trailing_entries_max", "clock_drift_max") else 1
            if type(value) is int and value < least:
                raise ValueError(f"{name} must be at least {least}")
            if type(value) is float and value < 0:
                raise ValueError(f"{name} must not be negative")

    @property
    def lease_seconds(self) -> float:
        """How long after the start of a confirmed round nobody else can have been elected, by the leader's clock.

        A voter's shield lasts T on its own clock, which may be fast by the bound while ours is slow by it (6.4.1).
        """
        return self.election_timeout_seconds * (1 - self.clock_drift_max) / (1 + self.clock_drift_max)
