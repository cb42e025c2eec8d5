"""Brings every file of the manifest that this node should hold and does not have: at the start, and whenever one is
added.

What to do follows from a difference (manifest against what is here), not from a queue of events, so nothing can be
dropped from it: whatever fails stays in the difference and is tried again. Every holder is asked in turn, the one that
wrote the file first. A file is installed whole, after its hash was proven, in one step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.events import Event, FilesAdded, FilesRemoved
from arc.catalog.facts import Catalog
from arc.errors import ArcError
from arc.ports import Clock, Disk, Rng, Workers
from arc.replication.fetch import Ask, Spoilt, fetch
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.telemetry import Log

PULLS_MAX = 4
"""Files under way at once."""

MEMORY_BYTES_MAX = 256 << 20
"""Of all files under way; a larger file comes alone."""

AGAIN_SECONDS = (0.2, 5.0)
"""First and longest pause after a file that nobody could give."""


class Files(Protocol):
    """What is on this node's disk; `storage.keeper.FileKeeper`."""

    def is_here(self, path: str) -> bool:
        """Whether the whole file is on this disk."""
        ...

    def came(self, path: str) -> None:
        """It is, from now on."""
        ...


class Change(Protocol):
    """A step of the catalog; `cluster.feed.Change`."""

    @property
    def events(self) -> tuple[Event, ...]:
        """What changed."""
        ...


class Changes(Protocol):
    """Steps in order, from a moment on; `cluster.feed.Subscription`."""

    async def receive(self) -> Change:
        """The next one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PullerStatistics:
    """Files and bytes brought here; what is still missing, now, and why the last attempt failed."""

    pulled_files_total: int
    pulled_bytes_total: int
    failed_attempts_total: int
    spoilt_total: int
    missing_files: int
    under_way: int
    last_error: str


def missing(manifest: Iterable[FileEntry], is_here: Callable[[str], bool]) -> dict[str, FileEntry]:
    """Files of the manifest that are not here, by path."""
    return {entry.path: entry for entry in manifest if not is_here(entry.path)}


def after(wanted: dict[str, FileEntry], events: Iterable[Event], is_here: Callable[[str], bool]) -> None:
    """Bring what is missing up to date with a change of the catalog."""
    for event in events:
        match event:
            case FilesAdded(files=files):
                wanted.update(missing(files, is_here))
            case FilesRemoved(files=files):
                for entry in files:
                    wanted.pop(entry.path, None)


def in_turn(wanted: Iterable[FileEntry]) -> list[FileEntry]:
    """The newest data first: that is what is asked for most."""
    return sorted(wanted, key=lambda entry: (-entry.max_time_us, entry.path))


def holders(entry: FileEntry, me: str, others: Sequence[str]) -> list[str]:
    """Whom to ask, in order: the nodes that said they hold it, the one that wrote it first, then the rest by name."""

    def rank(name: str) -> tuple[bool, bool, str]:
        return name not in entry.holders, name != entry.origin, name

    return [name for name in sorted(others, key=rank) if name != me]


class Puller:
    """Runs on every node that answers queries or may write. ``others`` are the nodes that can be reached now."""

    def __init__(
        self,
        *,
        me: str,
        ask: Ask,
        others: Callable[[], Sequence[str]],
        catalog: Callable[[], Catalog],
        files: Files,
        disk: Disk,
        workers: Workers,
        clock: Clock,
        rng: Rng,
        log: Log,
    ) -> None:
        self._me = me
        self._ask = ask
        self._others = others
        self._catalog = catalog
        self._files = files
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._rng = rng
        self._log = log.bind(component="puller")
        self._under_way: set[str] = set()
        self._bytes_under_way = 0
        self._not_before: dict[str, float] = {}
        self._pauses: dict[str, float] = {}
        self._wake = trio.Event()
        self._wanted: dict[str, FileEntry] = {}
        self._pulled = self._bytes = self._failed = self._spoilt = 0
        self._last_error = ""

    def __repr__(self) -> str:
        return f"<Puller missing={len(self._wanted)} under_way={len(self._under_way)} pulled={self._pulled}>"

    async def run(self, changes: Changes, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Pull until cancelled. ``changes`` began before this call."""
        self._wanted = missing(self._catalog().all_files(), self._files.is_here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, changes)
            task_status.started()
            while True:
                self._wake = trio.Event()
                for entry in self._startable():
                    self._under_way.add(entry.path)
                    self._bytes_under_way += entry.size_bytes
                    nursery.start_soon(self._pull, entry)
                with trio.move_on_after(AGAIN_SECONDS[0] if self._wanted else math.inf):
                    await self._wake.wait()

    async def _listen(self, changes: Changes) -> None:
        while True:
            change = await changes.receive()
            if any(isinstance(event, FilesAdded | FilesRemoved) for event in change.events):
                after(self._wanted, change.events, self._files.is_here)
                self._wake.set()

    def _startable(self) -> list[FileEntry]:
        now = self._clock.now()
        found: list[FileEntry] = []
        size = self._bytes_under_way
        for entry in in_turn(self._wanted.values()):
            busy = len(self._under_way) + len(found)
            if busy >= PULLS_MAX or (busy and size + entry.size_bytes > MEMORY_BYTES_MAX):
                break
            if entry.path not in self._under_way and now >= self._not_before.get(entry.path, now):
                found.append(entry)
                size += entry.size_bytes
        return found

    async def _pull(self, entry: FileEntry) -> None:
        try:
            is_done = await self._from_anybody(entry)
        finally:
            self._under_way.discard(entry.path)
            self._bytes_under_way -= entry.size_bytes
            self._wake.set()
        if is_done:
            self._wanted.pop(entry.path, None)
            self._not_before.pop(entry.path, None)
            self._pauses.pop(entry.path, None)
        else:
            self._failed += 1
            pause = self._pauses.get(entry.path, AGAIN_SECONDS[0])
            self._pauses[entry.path] = min(2 * pause, AGAIN_SECONDS[1])
            self._not_before[entry.path] = self._clock.now() + self._rng.uniform(pause / 2, pause)

    async def _from_anybody(self, entry: FileEntry) -> bool:
        for holder in holders(entry, self._me, self._others()):
            try:
                body = await fetch(self._ask, holder, entry, self._workers)
            except Spoilt as error:
                self._spoilt += 1
                self._last_error = str(error)
                self._log.error(
                    "file_spoilt",
                    path=entry.path,
                    holder=holder,
                    reason=str(error),
                    next_step="another holder is asked",
                )
            except ArcError as error:
                self._last_error = f"{entry.path} from {holder}: {error.message}"
                self._log.debug("pull_failed", path=entry.path, holder=holder, reason=error.message)
            else:
                return await self._install(entry, body)
        return False

    async def _install(self, entry: FileEntry, body: bytes) -> bool:
        known = self._catalog().file(entry.path)
        if known is None or known.sha256 != entry.sha256:
            return True  # It left the manifest meanwhile.
        try:
            with trio.CancelScope(shield=True):
                await self._workers.run(self._write, f"{DATA}/{entry.path}", body)
        except OSError as error:
            self._last_error = f"{entry.path} could not be installed: {error}"
            self._log.error("pull_not_installed", path=entry.path, reason=str(error), effect="it is tried again")
            return False
        self._files.came(entry.path)
        self._pulled += 1
        self._bytes += entry.size_bytes
        return True

    def _write(self, path: str, body: bytes) -> None:
        self._disk.make_dirs(path.rpartition("/")[0])
        self._disk.write_durable(path, body)

    def statistics(self) -> PullerStatistics:
        """Numbers for status and metrics."""
        return PullerStatistics(
            pulled_files_total=self._pulled,
            pulled_bytes_total=self._bytes,
            failed_attempts_total=self._failed,
            spoilt_total=self._spoilt,
            missing_files=len(self._wanted),
            under_way=len(self._under_way),
            last_error=self._last_error,
        )
