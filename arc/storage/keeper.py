"""The Parquet files on this node's disk against the manifest: what is here, what is missing, what nobody knows, what
may go.

The manifest is right and the disk follows it. A file the manifest does not know is left over from a crash before its
registration, or from one before its removal; it is moved to quarantine, not deleted, and goes for good after a grace. A
file of which this node has heard that it left the manifest is unlinked after a grace, and after the last query that
reads it. A copy that is not what the manifest says is set aside and kept until a proven one has come. A file of the
manifest is never removed here, whatever the disk looks like.

`drift` and `leftover` are the pure comparisons; `FileKeeper` acts on them, counts the queries that use a file, and
tells others when a file came or went.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import trio

from arc.ports import Clock, Disk, Workers
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.paths import epoch_of

DATA = "data"
"""Folder of the Parquet files; paths of the manifest are relative to it."""

QUARANTINE = "quarantine"
"""Folder of what the manifest does not know, below a folder named by the second it was moved."""

DAMAGED = f"{QUARANTINE}/damaged"
"""Folder of bad copies. They stay until a good one has come: before that they are the best there is."""

REMOVE_FILES_MAX = 100
"""Unlinked in one go: each costs a sync of its folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """The difference between manifest and disk. ``missing`` are files whose rows cannot be read on this node."""

    missing: tuple[str, ...]
    wrong_size: tuple[str, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperStatistics:
    """What is here, what was found at the last look, and what became of it.

    ``leaving_files`` left the manifest and wait to be unlinked. ``lost_files`` were here and are not, though the
    manifest has them. ``damaged`` are files of which the copy here is known to be bad and has not been replaced.
    """

    here_files: int
    missing_files: int
    lost_files: int
    lost_total: int
    damaged: tuple[str, ...]
    damaged_files: int
    damaged_total: int
    quarantined_total: int
    removed_total: int
    leaving_files: int
    unlinked_total: int
    pinned_files: int


def drift(manifest: Iterable[FileEntry], on_disk: dict[str, int]) -> Drift:
    """Compare; ``on_disk`` maps paths relative to the data folder to sizes."""
    known = {entry.path: entry for entry in manifest}
    return Drift(
        missing=tuple(sorted(path for path in known if path not in on_disk)),
        wrong_size=tuple(sorted(p for p, e in known.items() if p in on_disk and on_disk[p] != e.size_bytes)),
        unknown=tuple(sorted(path for path in on_disk if path not in known)),
    )


def leftover(paths: Iterable[str], is_known: Callable[[str], bool], reigns: Collection[int]) -> list[str]:
    """Those of these files that are left over from something that is over. ``reigns`` are the epochs of the leases that
    are held now, here or elsewhere: what is written under them is on disks before the manifest knows it.
    """
    found = []
    for path in paths:
        name = path.rpartition("/")[2]
        is_being_written = name.startswith(".") and name.endswith(".tmp")
        if not (is_being_written or epoch_of(path) in reigns or is_known(path)):
            found.append(path)
    return found


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
        self._missing: set[str] = set()
        self._lost: dict[str, None] = {}
        self._damaged: dict[str, None] = {}
        self._leaving: dict[str, float] = {}
        """Since when nobody has reason to read them: when they left the manifest, or the last query ended."""
        self._changes = 0
        self._changed = trio.Event()
        self._quarantined = self._removed = self._unlinked = self._lost_total = self._damaged_total = 0

    def __repr__(self) -> str:
        return f"<FileKeeper here={len(self._here)} lost={len(self._lost)} leaving={len(self._leaving)}>"

    # ------------------------------------------------------------------------------------------------ what is here now

    @property
    def missing(self) -> tuple[str, ...]:
        """Files of the manifest that were absent or damaged in length at the last look, and have not come since."""
        return tuple(sorted(self._missing))

    @property
    def lost(self) -> tuple[str, ...]:
        """Files that were here, and went although nobody took them away; those that came again are not among them."""
        return tuple(self._lost)

    @property
    def damaged(self) -> Collection[str]:
        """Files of which the copy here is known to be bad, and which have not come again."""
        return self._damaged.keys()

    @property
    def changes(self) -> int:
        """Grows whenever a file came, went, or left; see `wait_changed`."""
        return self._changes

    def is_here(self, path: str) -> bool:
        """Whether the whole file is on this disk, as far as was looked and told."""
        return path in self._here

    def came(self, path: str) -> None:
        """A file was written whole: by a flush of this node, or brought from another."""
        if path in self._leaving:
            return  # It left the manifest while it came, and goes with the others.
        self._here.add(path)
        self._missing.discard(path)
        self._lost.pop(path, None)
        self._damaged.pop(path, None)
        self._tell()

    def went(self, path: str) -> None:
        """A file of the manifest cannot be read here any more: it is gone, or its copy is bad."""
        if path in self._here:
            self._here.discard(path)
            self._lost[path] = None
            self._lost_total += 1
            self._tell()

    def left(self, paths: Iterable[str]) -> None:
        """Files are no longer part of the manifest: they are to go, see `due_to_go`."""
        now = self._clock.now()
        for path in paths:
            self._here.discard(path)
            self._missing.discard(path)
            self._lost.pop(path, None)
            self._damaged.pop(path, None)
            self._leaving.setdefault(path, now)
        self._tell()

    async def wait_changed(self, seen: int) -> int:
        """Return `changes` once it is another than ``seen``."""
        await trio.lowlevel.checkpoint()
        while self._changes == seen:
            await self._changed.wait()
        return self._changes

    def _tell(self) -> None:
        self._changes += 1
        self._changed.set()
        self._changed = trio.Event()

    # ------------------------------------------------------------------------------------------------- who reads a file

    def pin(self, paths: Sequence[str]) -> None:
        """Keep files on disk while a query reads them."""
        self._pins.update(paths)

    def unpin(self, paths: Sequence[str]) -> None:
        """End one `pin`."""
        self._pins.subtract(paths)
        for path in paths:
            if self._pins[path] <= 0:
                del self._pins[path]
                if path in self._leaving:
                    self._leaving[path] = self._clock.now()

    def is_in_use(self, path: str) -> bool:
        """Whether a file that the manifest does not have is left alone: a query reads it, or it goes by itself."""
        return path in self._pins or path in self._leaving

    # --------------------------------------------------------------------------------------------------- what is to go

    @property
    def is_anything_leaving(self) -> bool:
        """Whether files wait to be unlinked."""
        return bool(self._leaving)

    def due_to_go(self, is_agreed: Callable[[str], bool]) -> list[str]:
        """Files to `unlink` now, at most `REMOVE_FILES_MAX`: they left long enough ago, and nobody reads them. One that
        the manifest has (again) is forgotten here.
        """
        limit = self._clock.now() - self._config.delete_grace_seconds
        due: list[str] = []
        for path, since in list(self._leaving.items()):
            if is_agreed(path):
                del self._leaving[path]
                self._lost[path] = None
                self._tell()
            elif since <= limit and path not in self._pins:
                due.append(path)
            if len(due) == REMOVE_FILES_MAX:
                break
        return due

    async def unlink(self, paths: Sequence[str]) -> None:
        """Remove files that `due_to_go` gave. Raises OSError: those that are still there stay due."""
        for path in paths:
            assert path not in self._here and path not in self._pins, path
        gone: list[str] = []
        try:
            await self._workers.run(self._unlink, paths, gone)
        finally:
            for path in gone:
                self._leaving.pop(path, None)
            self._unlinked += len(gone)

    def _unlink(self, paths: Sequence[str], gone: list[str]) -> None:
        for path in paths:
            self._disk.remove(f"{DATA}/{path}")
            gone.append(path)

    # --------------------------------------------------------------------------------------------- manifest and disk

    async def look(self, manifest: Iterable[FileEntry], reigns: Collection[int] = ()) -> Drift:
        """Compare manifest and disk as a whole, quarantine what is unknown. Only while nothing is being flushed: a file
        is on disk before it is in the manifest.

        ``reigns`` are epochs that are not over: what was written under them, here or elsewhere, may be about to come
        into the manifest, and whoever asks for that relies on it being on this disk. It is not quarantined, nor is it
        here until somebody says so.
        """
        known = list(manifest)
        found = await self._workers.run(self._measure)
        difference = drift(known, found)
        unknown = tuple(path for path in difference.unknown if epoch_of(path) not in reigns)
        self._missing = {*difference.missing, *difference.wrong_size}
        self._here = found.keys() - {*difference.wrong_size, *difference.unknown}
        self._tell()
        await self.quarantine(unknown)
        agreed = {entry.path for entry in known}
        await self.tidy(agreed.__contains__)
        return replace(difference, unknown=unknown)

    async def check(self, entries: Sequence[FileEntry]) -> list[str]:
        """Paths of those files whose copy here is absent or of another length."""
        return await self._workers.run(self._absent, entries)

    async def quarantine(self, unknown: Sequence[str]) -> None:
        """Set files aside that the manifest does not know."""
        for path in unknown:
            assert path not in self._pins, path
            self._here.discard(path)
        await self._workers.run(self._quarantine, unknown)

    async def condemn(self, path: str) -> None:
        """The copy of a file is bad: it is set aside until a good one has come, and no query reads it any more.

        Raises OSError when it could not be set aside. In this order: a good copy comes as soon as the bad one is told
        to be gone, and would be what is set aside.
        """
        try:
            await self._workers.run(self._disk.rename, f"{DATA}/{path}", f"{DAMAGED}/{path}")
        finally:
            self.went(path)
            self.tell_damaged(path)

    def tell_damaged(self, path: str) -> None:
        """The copy of a file is bad, and the best there is: it stays where it is."""
        self._damaged_total += path not in self._damaged
        self._damaged[path] = None

    async def tidy(self, is_agreed: Callable[[str], bool]) -> None:
        """Remove what has been in quarantine long enough, and bad copies of files that are here again or left the
        manifest.
        """
        kept = await self._workers.run(self._walk_damaged)
        needless = [path for path in kept if self.is_here(path) or not is_agreed(path)]
        self._damaged.update(dict.fromkeys(path for path in kept if path not in needless))
        await self._workers.run(self._tidy, needless)

    async def step(self, folders: Sequence[str], files_max: int) -> tuple[list[str], list[str]]:
        """Take some folders from the end of ``folders`` and list them: (files, folders that are left to list).

        Paths are relative to the data folder, folders end in a slash; begin with ``[""]``.
        """
        return await self._workers.run(self._step, folders, files_max)

    # ------------------------------------------------------------------------------------------------ all of it blocks

    def _measure(self) -> dict[str, int]:
        skip = len(DATA) + 1
        return {path[skip:]: self._disk.size(path) for path in self._disk.walk(DATA)}

    def _absent(self, entries: Sequence[FileEntry]) -> list[str]:
        found = []
        for entry in entries:
            try:
                if self._disk.size(f"{DATA}/{entry.path}") != entry.size_bytes:
                    found.append(entry.path)
            except FileNotFoundError:
                found.append(entry.path)
        return found

    def _step(self, folders: Sequence[str], files_max: int) -> tuple[list[str], list[str]]:
        left, files = list(folders), list[str]()
        listed = 0
        while left and listed < files_max:
            folder = left.pop()
            names = self._disk.list_dir(f"{DATA}/{folder}".rstrip("/"))
            listed += 1 + len(names)
            left.extend(f"{folder}{name}" for name in reversed(names) if name.endswith("/"))
            files.extend(f"{folder}{name}" for name in names if not name.endswith("/"))
        return files, left

    def _quarantine(self, unknown: Sequence[str]) -> None:
        second = self._clock.wall_us() // 1_000_000
        for path in unknown:
            self._disk.rename(f"{DATA}/{path}", f"{QUARANTINE}/{second}/{path}")
            self._quarantined += 1

    def _walk_damaged(self) -> list[str]:
        return [path[len(DAMAGED) + 1 :] for path in self._disk.walk(DAMAGED)]

    def _tidy(self, needless: Sequence[str]) -> None:
        for path in needless:
            self._disk.remove(f"{DAMAGED}/{path}")
        now_us = self._clock.wall_us()
        for folder in expired(self._disk.list_dir(QUARANTINE), now_us, self._config.orphan_grace_seconds):
            for path in self._disk.walk(f"{QUARANTINE}/{folder.rstrip('/')}"):
                self._disk.remove(path)
                self._removed += 1

    def statistics(self) -> KeeperStatistics:
        """Numbers for status and metrics."""
        return KeeperStatistics(
            here_files=len(self._here),
            missing_files=len(self._missing),
            lost_files=len(self._lost),
            lost_total=self._lost_total,
            damaged=tuple(sorted(self._damaged)),
            damaged_files=len(self._damaged),
            damaged_total=self._damaged_total,
            quarantined_total=self._quarantined,
            removed_total=self._removed,
            leaving_files=len(self._leaving),
            unlinked_total=self._unlinked,
            pinned_files=len(self._pins),
        )
