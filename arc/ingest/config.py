"""What an operator may set about taking rows in and turning them into files."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestConfig:
    """Section ``[ingest]``: when a measurement's buffer becomes files, and how much memory rows on their way may take.

    Whichever of rows, bytes and age comes first flushes. A small age makes many small files, which every later query
    and compaction pays for; rows are durable in the WAL and visible to queries before they are flushed, so waiting
    costs little.
    """

    flush_rows: int = 1_000_000
    """Rows in one measurement's buffer that make it due."""
    flush_bytes: int = 64 * MIB
    """Bytes in one measurement's buffer that make it due."""
    flush_age_seconds: float = 60.0
    """Age of the oldest buffered row that makes a buffer due, however small."""
    memory_bytes: int = 512 * MIB
    """Bytes in buffers and in requests being decoded; above it writes answer 503 with Retry-After."""
    flush_workers: int = 1
    """Buffers being written at the same time."""
    decode_threads: int = 2
    """Requests being decoded at the same time."""
