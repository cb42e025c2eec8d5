"""What the compactor tells: of the job that runs, of those that ended, of those to come, and numbers."""

from __future__ import annotations

from dataclasses import dataclass

from arc.compaction.tiers import Job


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningJob:
    """The job that runs. ``phase``: merging, installing, spreading, swapping."""

    job: int
    tier: str
    database: str
    measurement: str
    partition_path: str
    phase: str
    files: int
    bytes_before: int
    rows_done: int
    rows_total: int
    started_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedJob:
    """One line of the history. ``outcome``: done, void (lease or a source is gone), cancelled, failed, skipped."""

    job: int
    tier: str
    database: str
    measurement: str
    partition_path: str
    files_compacted: int
    files_written: int
    bytes_before: int
    bytes_after: int
    rows_before: int
    rows_after: int
    outcome: str
    error: str
    started_us: int
    duration_seconds: float

    @property
    def success(self) -> bool:
        """Whether the swap stands."""
        return self.outcome == "done"

    @property
    def compression_ratio(self) -> float | None:
        """Bytes before for each byte after; None when nothing was written."""
        return self.bytes_before / self.bytes_after if self.bytes_after else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A job that may run now; ``waits_seconds`` above 0: it failed, and is tried again then."""

    tier: str
    database: str
    measurement: str
    partition_path: str
    file_count: int
    size_bytes: int
    waits_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TierStatistics:
    """Totals of one tier since the lease began."""

    tier: str
    compactions_total: int
    files_compacted_total: int
    bytes_saved_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionStatistics:
    """Since the lease began. ``bytes_saved_total`` may be below 0: small files compress each by itself."""

    is_enabled: bool
    is_paused: bool
    is_running: bool
    cycle_running: bool
    cycle_id: int
    jobs_done_total: int
    jobs_failed_total: int
    jobs_void_total: int
    jobs_cancelled_total: int
    jobs_skipped_total: int
    files_compacted_total: int
    files_written_total: int
    bytes_read_total: int
    bytes_written_total: int
    bytes_saved_total: int
    rows_merged_total: int
    rows_deduplicated_total: int
    receipts_resumed_total: int
    receipts_discarded_total: int
    waiting_partitions: int
    last_error: str
    tiers: tuple[TierStatistics, ...]


def candidate(job: Job, waits_seconds: float) -> Candidate:
    """A job as a candidate."""
    return Candidate(
        tier=job.tier,
        database=job.database,
        measurement=job.measurement,
        partition_path=job.partition_path,
        file_count=len(job.sources),
        size_bytes=job.size_bytes,
        waits_seconds=waits_seconds,
    )
