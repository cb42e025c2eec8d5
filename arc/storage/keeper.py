"""The Parquet files on this node's disk against the manifest: what is missing, what nobody knows, what may go.

The manifest is right and the disk follows it. A file the manifest does not know is left over from a crash before its
registration; its rows are in the WAL. It is moved to quarantine, not deleted, and goes for good after a grace. A file
of the manifest is never removed here, whatever the disk looks like.

`drift` is the pure comparison; `FileKeeper` acts on it and counts the queries that use a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from arc.ports import Clock, Disk, Workers
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry

DATA = "data"
"""Folder of the Parquet files; paths of the manifest are relative to it."""

QUARANTINE = "quarantine"
"""Folder of what the manifest does not know, below a folder named by the second it was moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The difference between manifest and disk. ``missing`` are files whose rows cannot be read on this node."""

    missing: tuple[str, ...]
    wrong_size: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperStatistics:
    """What was found at the last look, and what became of it."""

    missing_files: int
    quarantined_total: int
    removed_total: int
    pinned_files: int


def drift(manifest: Iterable[FileEntry], on_disk: dict[str, int]) -> Drift:
    """Compare; ``on_disk`` maps paths relative to the data folder to sizes."""
    known = {entry.path: entry for entry in manifest}
    return Drift(
        missing=tuple(sorted(path for path in known if path not in on_disk)),
        wrong_size=tuple(sorted(p for p, e in known.items() if p in on_disk and on_disk[p] != e.size_bytes)),
        unknown=tuple(sorted(path for path in on_disk if path not in known)),
    )


def expired(folders: Sequence[str], now_us: int, grace_seconds: float) -> list[str]:
    """Quarantine folders whose grace is over. A folder that is not named by a number is somebody's, and stays."""
    limit = now_us // 1_000_000 - grace_seconds
    return [name for name in folders if name.rstrip("/").isdigit() and int(name.rstrip("/")) < limit]


class FileKeeper:
    """Looks after the data folder of one node."""

    def __init__(self, disk: Disk, workers: Workers, clock: Clock, config: StorageConfig) -> None:
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._config = config
        self._pins: Counter[str] = Counter()
        self._here: set[str] = set()
        self._missing: tuple[str, ...] = ()
        self._quarantined = self._removed = 0

    @property
    def missing(self) -> tuple[str, ...]:
        """Files of the manifest that were absent or damaged in length at the last look."""
        return self._missing

    def is_here(self, path: str) -> bool:
        """Whether the whole file is on this disk, as far as was looked and told."""
        return path in self._here

    def came(self, path: str) -> None:
        """A file was written whole: by a flush of this node, or brought from another."""
        self._here.add(path)

    def pin(self, paths: Sequence[str]) -> None:
        """Keep files on disk while a query reads them."""
        self._pins.update(paths)

    def unpin(self, paths: Sequence[str]) -> None:
        """End one `pin`."""
        self._pins.subtract(paths)
        for path in paths:
            if self._pins[path] <= 0:
                del self._pins[path]

    async def look(self, manifest: Iterable[FileEntry]) -> Drift:
        """Compare manifest and disk, quarantine what is unknown. Only while nothing is being flushed: a file is on disk
        before it is in the manifest."""
        found = await self._workers.run(self._measure)
        difference = drift(manifest, found)
        self._missing = tuple(sorted((*difference.missing, *difference.wrong_size)))
        self._here = found.keys() - {*difference.wrong_size, *difference.unknown}
        await self._workers.run(self._quarantine, difference.unknown)
        return difference

    def _measure(self) -> dict[str, int]:
        skip = len(DATA) + 1
        return {path[skip:]: self._disk.size(path) for path in self._disk.walk(DATA)}

    def _quarantine(self, unknown: Sequence[str]) -> None:
        now_us = self._clock.wall_us()
        for path in unknown:
            self._disk.rename(f"{DATA}/{path}", f"{QUARANTINE}/{now_us // 1_000_000}/{path}")
            self._quarantined += 1
        for folder in expired(self._disk.list_dir(QUARANTINE), now_us, self._config.orphan_grace_seconds):
            for path in self._disk.walk(f"{QUARANTINE}/{folder.rstrip('/')}"):
                self._disk.remove(path)
                self._removed += 1

    def statistics(self) -> KeeperStatistics:
        """Numbers for status and metrics."""
        return KeeperStatistics(
            missing_files=len(self._missing),
            quarantined_total=self._quarantined,
            removed_total=self._removed,
            pinned_files=len(self._pins),
        )
