"""Brings every file of the manifest that this node should hold and does not have: at the start, whenever one is added,
and whenever one got lost.

What to do follows from a difference (manifest against what is here), not from a queue of events, so nothing can be
dropped from it: whatever fails stays in the difference and is tried again. Every holder is asked in turn, the one that
wrote the file first. A file is installed whole, after its hash was proven, in one step. One that all who have it give
wrong is poison: it is told of loudly, tried rarely, and stands in nobody's way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.events import Event, FilesAdded, FilesRemoved
from arc.catalog.facts import Catalog
from arc.ports import Clock, Disk, Rng, Workers
from arc.replication.backlog import Backlog
from arc.replication.bandwidth import Bandwidth
from arc.replication.drafts import draft_path, remove_drafts
from arc.replication.fetch import Ask
from arc.replication.lines import PIECE_BYTES
from arc.replication.ports import Changes
from arc.replication.shared import STORE_PIECE_BYTES
from arc.replication.transfers import Round, Transfers
from arc.storage.files import FileEntry
from arc.telemetry import Log

PULLS_MAX = 4
"""Transfers under way at once, each of one file or of a batch of small ones."""

AGAIN_SECONDS = (0.2, 5.0)
"""First and longest pause after a file that nobody could give."""

POISON_SECONDS = 300.0
"""Pause after a file that all who have it gave wrong. Whoever comes meanwhile is asked at once."""

POISON_LOOK_SECONDS = 5.0
"""How often it is looked whether somebody came."""

MANIFEST_STEP = 5000
"""Files of the manifest looked at without a pause: some 2 ms."""


class Files(Protocol):
    """What is on this node's disk; `storage.keeper.FileKeeper`."""

    @property
    def lost(self) -> Sequence[str]:
        """Files of the manifest that were here and are not."""
        ...

    @property
    def changes(self) -> int:
        """Grows with every file that comes or goes."""
        ...

    def is_here(self, path: str) -> bool:
        """Whether the whole file is on this disk."""
        ...

    def came(self, path: str) -> None:
        """It is, from now on."""
        ...

    async def wait_changed(self, seen: int) -> int:
        """Return ``changes`` once it is another."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PullerStatistics:
    """Files and bytes brought here; what is still missing, now, and why the last attempt failed.

    ``poisoned`` are files that all who have them give wrong. ``resumed_bytes_total`` were in drafts already.
    """

    pulled_files_total: int
    pulled_bytes_total: int
    resumed_bytes_total: int
    failed_attempts_total: int
    spoilt_total: int
    missing_files: int
    under_way: int
    poisoned: tuple[str, ...]
    poisoned_files: int
    last_error: str


def missing(manifest: Iterable[FileEntry], is_here: Callable[[str], bool]) -> list[FileEntry]:
    """Files of the manifest that are not here."""
    return [entry for entry in manifest if not is_here(entry.path)]


def after(wanted: Backlog, events: Iterable[Event], is_here: Callable[[str], bool]) -> None:
    """Bring what is missing up to date with a change of the catalog."""
    for event in events:
        match event:
            case FilesAdded(files=files):
                for entry in missing(files, is_here):
                    wanted.add(entry)
            case FilesRemoved(files=files):
                for entry in files:
                    wanted.drop(entry.path)


def holders(entry: FileEntry, me: str, others: Sequence[str], store: str = "") -> list[str]:
    """Whom to ask, in order: the shared store if there is one, the nodes that said they hold it, the one that wrote it
    first, then the rest by name.
    """

    def rank(name: str) -> tuple[bool, bool, str]:
        return name not in entry.holders, name != entry.origin, name

    nodes = [name for name in sorted(others, key=rank) if name != me]
    return [store, *nodes] if store else nodes


class Puller:
    """Runs on every node that answers queries or may write. ``others`` are the nodes that can be reached now; ``store``
    is the name of the shared store, empty where there is none: it counts as always within reach.
    """

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
        bandwidth: Bandwidth,
        log: Log,
        store: str = "",
    ) -> None:
        self._me = me
        self._store = store
        self._others = others
        self._catalog = catalog
        self._files = files
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._rng = rng
        self._log = log.bind(component="puller")
        self._transfers = Transfers(
            ask=ask,
            holders=lambda entry: holders(entry, me, others(), store),
            is_wanted=self._is_agreed,
            came=files.came,
            disk=disk,
            workers=workers,
            clock=clock,
            bandwidth=bandwidth,
            log=self._log,
            piece_bytes=lambda holder: STORE_PIECE_BYTES if holder == store else PIECE_BYTES,
        )
        self._wanted = Backlog()
        self._pulls = self._failed = 0
        self._pauses: dict[str, float] = {}
        self._poisoned: dict[str, set[str]] = {}
        """With whom was asked."""
        self._wake = trio.Event()

    def __repr__(self) -> str:
        return f"<Puller missing={len(self._wanted)} under_way={self._wanted.under_way} {self._transfers!r}>"

    async def run(self, changes: Changes, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Pull until cancelled. ``changes`` began before this call."""
        seen = self._files.changes
        for count, entry in enumerate(self._catalog().all_files(), 1):
            if not self._files.is_here(entry.path):
                self._wanted.add(entry)
            if count % MANIFEST_STEP == 0:
                await trio.lowlevel.checkpoint()
        try:
            await self._workers.run(remove_drafts, self._disk, {draft_path(entry) for entry in self._wanted})
        except OSError as error:
            self._log.warning("drafts_not_removed", reason=str(error), next_step="the next start tries again")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear_changes, changes)
            nursery.start_soon(self._hear_losses, seen)
            task_status.started()
            try:
                await self._pull_on(nursery)
            finally:
                with trio.CancelScope(shield=True):
                    await self._transfers.close()

    async def _pull_on(self, nursery: trio.Nursery) -> None:
        while True:
            self._wake = trio.Event()
            self._look_at_poisoned()
            others = self._others()

            def asked(entry: FileEntry, others: Sequence[str] = others) -> list[str]:
                return holders(entry, self._me, others, self._store)

            while self._pulls < PULLS_MAX:
                batch = self._wanted.take(self._clock.now(), asked)
                if not batch:
                    break
                self._pulls += 1
                nursery.start_soon(self._pull, batch)
            with trio.move_on_after(self._idle_seconds()):
                await self._wake.wait()

    def _idle_seconds(self) -> float:
        due = self._wanted.next_due() if self._pulls < PULLS_MAX else None
        idle = math.inf if due is None else max(0.0, due - self._clock.now())
        return min(idle, POISON_LOOK_SECONDS) if self._poisoned else idle

    async def _hear_changes(self, changes: Changes) -> None:
        while True:
            change = await changes.receive()
            if any(isinstance(event, FilesAdded | FilesRemoved) for event in change.events):
                after(self._wanted, change.events, self._files.is_here)
                for path in [path for path in self._poisoned if path not in self._wanted]:
                    del self._poisoned[path]
                self._wake.set()

    async def _hear_losses(self, seen: int) -> None:
        while True:
            for path in self._files.lost:
                entry = self._catalog().file(path)
                if entry is not None:
                    self._wanted.add(entry)
                    self._wake.set()
            seen = await self._files.wait_changed(seen)

    def _look_at_poisoned(self) -> None:
        others = set(self._others()) - {self._me} if self._poisoned else set()
        for path, asked in self._poisoned.items():
            if others - asked:
                self._wanted.hurry(path)

    async def _pull(self, batch: Sequence[FileEntry]) -> None:
        rounds = [Round(entry=entry, failed=1) for entry in batch]
        try:
            rounds = await self._transfers.bring(batch)
        finally:
            self._pulls -= 1
            self._wake.set()
            for each in rounds:
                self._settle(each)
        await self._transfers.forget(self._wanted.__contains__)

    def _settle(self, found: Round) -> None:
        """What becomes of a file after a round."""
        path, now = found.entry.path, self._clock.now()
        if found.is_done:
            self._pauses.pop(path, None)
            self._poisoned.pop(path, None)
            if self._files.is_here(path) or not self._is_agreed(found.entry):
                self._wanted.done(found.entry)
            else:
                self._wanted.give_back(found.entry, now)  # Lost again already.
            return
        self._failed += 1
        pause = self._pauses.get(path, AGAIN_SECONDS[0])
        self._pauses[path] = min(2 * pause, AGAIN_SECONDS[1])
        if found.is_poison:
            pause = POISON_SECONDS
            self._tell_poisoned(found)
            self._poisoned[path] = found.asked
        else:
            self._poisoned.pop(path, None)
        self._wanted.give_back(found.entry, now + self._rng.uniform(pause / 2, pause))

    def _is_agreed(self, entry: FileEntry) -> bool:
        """Whether it did not leave the manifest meanwhile."""
        known = self._catalog().file(entry.path)
        return known is not None and known.sha256 == entry.sha256

    def _tell_poisoned(self, found: Round) -> None:
        if found.entry.path not in self._poisoned:
            self._log.error(
                "file_poisoned",
                path=found.entry.path,
                asked=", ".join(sorted(found.asked)),
                effect="all who have the file gave it wrong; queries that need it are refused here",
                next_step="start a node that has a good copy, or put one from a backup in place on any node",
            )

    def statistics(self) -> PullerStatistics:
        """Numbers for status and metrics."""
        return PullerStatistics(
            pulled_files_total=self._transfers.files_total,
            pulled_bytes_total=self._transfers.bytes_total,
            resumed_bytes_total=self._transfers.resumed_bytes_total,
            failed_attempts_total=self._failed,
            spoilt_total=self._transfers.spoilt_total,
            missing_files=len(self._wanted),
            under_way=self._wanted.under_way,
            poisoned=tuple(sorted(self._poisoned)),
            poisoned_files=len(self._poisoned),
            last_error=self._transfers.last_error,
        )
