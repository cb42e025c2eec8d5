"""What an operator may set about merging small files into few, and about removing old ones."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
MEMORY_BYTES_MIN = 32 * MIB
TARGET_FILE_BYTES_MIN = MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactionConfig:
    """Section ``[compaction]``: when files are merged, and how much memory that may take.

    A rewrite never pays for less than it brings: files are merged only when none of them is larger than all the others
    together (times ``size_ratio``), so a row is written again about log2(day / flush) times, however late data comes.
    """

    enabled: bool = True
    """Whether this node merges files by itself while it holds the compactor lease. A trigger works either way."""
    hourly_min_age_seconds: float = 1800.0
    """So long after the end of an hour, and after a file was written, it may be merged: rows still come late."""
    hourly_min_files: int = 4
    """So many files of one hour are worth a merge."""
    daily_min_age_seconds: float = 3600.0
    """So long after the end of a UTC day its hours are merged into files of ``target_file_bytes``."""
    daily_min_files: int = 6
    """So many files of a day that was not merged yet are worth it."""
    late_min_files: int = 4
    """So many files that came after their day was merged are worth another merge."""
    late_quiet_seconds: float = 86_400.0
    """When no file of a past day is younger than this, two are worth a merge: nothing small stays for ever."""
    size_ratio: float = 1.0
    """A file is left alone when it is larger than this times what would be merged with it. More merges more."""
    target_file_bytes: int = 256 * MIB
    """A merged file that is larger is continued in another, which goes on where it ended in (tags, time) order."""
    memory_bytes: int = 512 * MIB
    """A merge takes about so much memory, however large the files are."""
    deduplicate: bool = False
    """Of rows with the same tags and time keep the one that was written last. Only rows that are merged are compared,
    so a query may still see older ones until then."""
    poll_seconds: float = 60.0
    """How often is looked for files to merge."""

    def __post_init__(self) -> None:
        for name in ("hourly_min_files", "daily_min_files", "late_min_files"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2: one file has nothing to be merged with")
        if not 0.1 <= self.size_ratio <= 10:
            raise ValueError("size_ratio must be 0.1 to 10: it bounds how often a row is written again")
        if self.target_file_bytes < TARGET_FILE_BYTES_MIN:
            raise ValueError("target_file_bytes must be at least 1MiB: merging is there to make few files")
        if self.memory_bytes < MEMORY_BYTES_MIN:
            raise ValueError("memory_bytes must be at least 32MiB: one row group has to fit")
        if self.poll_seconds <= 0:
            raise ValueError("poll_seconds must be above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """Section ``[retention]``: when policies are carried out. The policies themselves are the cluster's."""

    every_seconds: float = 3600.0
    """How long after its last execution an active policy is executed again, by the node that writes. 0: only when
    somebody orders it.
    """

    def __post_init__(self) -> None:
        if not self.every_seconds >= 0:
            raise ValueError("every_seconds must be 0 or more")
