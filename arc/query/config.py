"""What an operator may set about answering queries."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryConfig:
    """Section ``[query]``: how many queries run at once, how long, and with how much memory."""

    timeout_seconds: float = 300.0
    """A query that runs longer is interrupted; a caller may ask for less, never for more."""
    max_concurrent: int = 4
    """Queries that run at the same time; DuckDB shares its threads among them."""
    queue_max: int = 64
    """Queries that may wait for a place; one more answers 503 at once."""
    queue_seconds: float = 30.0
    """Longest wait for a place, then 503."""
    memory_limit_bytes: int = 1024 * MIB
    """Memory of the engine for all queries together; beyond it a query fails alone with 503."""
    threads: int = 0
    """Threads of the engine. 0: one per core."""
    sql_bytes_max: int = 256 * 1024
    """Longest statement. A statement is parsed, walked and planned before it can be interrupted, so its size is
    bounded."""
    history: int = 200
    """Finished queries that are remembered for the list of recent queries."""
    materialised_bytes_max: int = 512 * MIB
    """Largest result in a format that must be held whole before its first byte (MessagePack columns); beyond it 413."""
