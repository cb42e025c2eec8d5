"""What an operator may set about queries."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryConfig:
    """Section ``[query]``: how long, how many at once, and with how much memory."""

    timeout_seconds: float = 300.0
    """A query that takes longer is interrupted and answers 504."""
    max_concurrent: int = 4
    """Queries running at once; more wait in the queue."""
    queue_max: int = 64
    """Queries waiting; more answer 503 with Retry-After."""
    memory_bytes: int = 1024 * MIB
    """What the SQL engine may hold in memory, all queries together."""
    threads: int = 2
    """Threads of the SQL engine, all queries together."""
