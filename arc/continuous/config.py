"""What an operator may set about carrying out continuous queries."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
CONCURRENT_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuousConfig:
    """Section ``[continuous]``: how continuous queries are carried out. The queries themselves are the cluster's."""

    enabled: bool = True
    """Whether this node executes them by itself while it holds the writer lease. An order works either way."""
    delay_seconds: float = 2.0
    """So long after its end a window is executed first: rows are still on their way."""
    late_check_seconds: float = 60.0
    """How often windows that are still open for late rows are counted again."""
    timeout_seconds: float = 300.0
    """One window may take so long, and no longer than ``query.timeout_seconds``."""
    result_bytes_max: int = 64 * MIB
    """What the result of one window may come to in memory; a larger one fails."""
    concurrent: int = 2
    """Continuous queries that this node executes at the same time."""

    def __post_init__(self) -> None:
        if self.late_check_seconds <= 0:
            raise ValueError("late_check_seconds must be above 0")
        if self.timeout_seconds <= 0:
            raise ValueError("timeout_seconds must be above 0")
        if self.result_bytes_max < MIB:
            raise ValueError("result_bytes_max must be at least 1MiB")
        if not 1 <= self.concurrent <= CONCURRENT_MAX:
            raise ValueError(f"concurrent must be 1 to {CONCURRENT_MAX}")
