"""How far this node is with the files that others have and it lacks, for whoever asks the coordinator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

from arc.replication.puller import PullerStatistics


class Copies:
    """See `cluster.coordinator.Replication`. ``behind`` says why this node may not know yet which files there are."""

    def __init__(self, files: Callable[[], PullerStatistics], behind: Callable[[], str | None]) -> None:
        self._files = files
        self._behind = behind
        self._had_all = False

    def __repr__(self) -> str:
        return f"<Copies missing={self._files().missing_files} had_all={self._had_all}>"

    def is_ready(self) -> bool:
        """Whether it has been seen with every file that it should hold. Files that were added since are brought as they
        come, and make it no less ready: queries do not rely on this, but on each file.
        """
        self._had_all = self._had_all or (self._behind() is None and self._files().missing_files == 0)
        return self._had_all

    def catch_up_status(self) -> Mapping[str, object]:
        """The counts that status pages show."""
        found = self._files()
        return {
            "pulled": found.pulled_files_total,
            "failed": found.failed_attempts_total,
            "missing": found.missing_files,
            "inflight_count": found.under_way,
            "poisoned": list(found.poisoned),
        }

    def stats(self) -> Mapping[str, object]:
        """Everything that is counted."""
        return {"enabled": True, "is_ready": self.is_ready(), **asdict(self._files())}
