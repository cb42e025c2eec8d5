"""What compaction has done since the lease began, in numbers."""

from __future__ import annotations

from collections import Counter

from arc.compaction.reports import CompactionStatistics, FinishedJob, TierStatistics
from arc.compaction.tiers import TIERS


class Tally:
    """Adds up the history, which itself is bounded."""

    def __init__(self) -> None:
        self.last_error = ""
        self.receipts_resumed = self.receipts_discarded = 0
        self._outcomes: Counter[str] = Counter()
        self._done: Counter[str] = Counter()
        self._tiers: dict[str, Counter[str]] = {tier: Counter() for tier in TIERS}

    def add(self, job: FinishedJob) -> None:
        """One more job has ended."""
        self._outcomes[job.outcome] += 1
        if not job.success:
            self.last_error = job.error
            return
        numbers = {
            "jobs": 1,
            "files": job.files_compacted,
            "written": job.files_written,
            "read_bytes": job.bytes_before,
            "written_bytes": job.bytes_after,
            "rows": job.rows_before,
            "gone_rows": job.rows_before - job.rows_after,
        }
        self._done.update(numbers)
        self._tiers[job.tier].update(numbers)

    def statistics(self) -> CompactionStatistics:
        """The totals; what only the compactor knows is 0 and false."""
        done, outcomes = self._done, self._outcomes
        return CompactionStatistics(
            is_enabled=False,
            is_paused=False,
            is_running=False,
            cycle_running=False,
            cycle_id=0,
            jobs_done_total=outcomes["done"],
            jobs_failed_total=outcomes["failed"],
            jobs_void_total=outcomes["void"],
            jobs_cancelled_total=outcomes["cancelled"],
            jobs_skipped_total=outcomes["skipped"],
            files_compacted_total=done["files"],
            files_written_total=done["written"],
            bytes_read_total=done["read_bytes"],
            bytes_written_total=done["written_bytes"],
            bytes_saved_total=done["read_bytes"] - done["written_bytes"],
            rows_merged_total=done["rows"],
            rows_deduplicated_total=done["gone_rows"],
            receipts_resumed_total=self.receipts_resumed,
            receipts_discarded_total=self.receipts_discarded,
            waiting_partitions=0,
            last_error=self.last_error,
            tiers=tuple(
                TierStatistics(
                    tier=tier,
                    compactions_total=count["jobs"],
                    files_compacted_total=count["files"],
                    bytes_saved_total=count["read_bytes"] - count["written_bytes"],
                )
                for tier, count in self._tiers.items()
            ),
        )
