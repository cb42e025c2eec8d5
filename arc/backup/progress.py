"""How far the operation under way is, or how the last one ended."""

from __future__ import annotations

from dataclasses import dataclass, field

RUNNING, COMPLETED, INCOMPLETE, FAILED = "running", "completed", "incomplete", "failed"
"""``incomplete``: everything but files that are named as damaged."""

NAMED_MAX = 100
"""Damaged files that are named; all are counted."""


@dataclass(slots=True, kw_only=True)
class Progress:
    """Owned by the operation. Files and bytes count what was done with, in whatever way; ``reused`` of them were there
    already: in the vault (a backup), or in this cluster by an earlier attempt (a restore).
    """

    operation: str
    backup_id: str
    started_us: int
    status: str = RUNNING
    phase: str = "waiting"
    total_files: int = 0
    processed_files: int = 0
    reused_files: int = 0
    total_bytes: int = 0
    processed_bytes: int = 0
    reused_bytes: int = 0
    rows: int = 0
    policies_kept: int = 0
    tokens_kept: int = 0
    completed_us: int | None = None
    error: str | None = None
    code: str | None = None
    damaged_files: int = 0
    damaged: list[str] = field(default_factory=list)

    def done(self, *, files: int, size_bytes: int, reused: bool = False) -> None:
        """So much more."""
        self.processed_files += files
        self.processed_bytes += size_bytes
        if reused:
            self.reused_files += files
            self.reused_bytes += size_bytes

    def is_damaged(self, name: str) -> None:
        """A file that is not what it should be."""
        self.damaged_files += 1
        if len(self.damaged) < NAMED_MAX:
            self.damaged.append(name)

    def end(self, now_us: int, status: str, *, error: str | None = None, code: str | None = None) -> None:
        """The last word."""
        self.status, self.completed_us, self.error, self.code = status, now_us, error, code
        self.phase = "over"
