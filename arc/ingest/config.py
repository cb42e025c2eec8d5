"""What an operator may set about taking rows in and turning them into files."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """Section ``[ingest]``: when a measurement's buffer becomes files, and how much memory rows on their way may
    take.

    Whichever of rows, bytes and age comes first flushes. Rows are durable in the WAL and visible to queries before
    they are flushed, so waiting costs nothing; a small age, on the other hand, makes small files, which every later
    query and compaction pays for.
    """

    flush_rows: int = 1_000_000
    """Rows in one measurement's buffer that make it due: about one good Parquet file."""
    flush_bytes: int = 64 * MIB
    """Bytes in one measurement's buffer that make it due."""
    flush_age_seconds: float = 600.0
    """Age of the oldest buffered row that makes a buffer due, however small.

    A measurement that gets one row a second makes 6 files an hour with this, 144 a day; with 5 s it would be 17,280."""
    memory_bytes: int = 512 * MIB
    """Bytes in buffers and in requests being decoded; above it writes answer 503 with Retry-After."""
    flush_workers: int = 1
    """Buffers being written at the same time."""
    write_timeout_seconds: float = 30.0
    """A write that is not durable by then is answered 503 ``outcome_unknown``."""
