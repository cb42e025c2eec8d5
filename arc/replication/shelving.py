"""Keeps the shared store in step with the manifest: what is there is known, what is missing is put there, what left the
manifest or never came into it is removed.

A flush puts its files there itself, before they are registered. This is the rest, on every node: looking whether files
of others are there, so that they may be relied on, and a walk through everything from time to time. Only the holder of
the writer lease changes anything: it puts there what it has and the store has not (files from before there was a store,
or written again from the log), and removes.

Nothing that is or may still become part of the manifest is removed. What left it does not come back, since names are
never given twice. What is not in it was put under an epoch: under one that is held now it may be about to be
registered; under one that is over it cannot be any more, once this node has heard of everything that was agreed on
before it looked. So it asks for that (``confirm``) between looking and deciding, however long it was asleep.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import trio

from arc.catalog.events import FilesAdded, FilesRemoved
from arc.catalog.facts import Catalog
from arc.errors import Unavailable
from arc.ports import Clock, Disk, Workers
from arc.replication.ports import Changes
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.storage.objects import HASH_CHARS, StoredObject
from arc.storage.paths import epoch_of
from arc.storage.shelf import Shelf
from arc.telemetry import Log

STEP_SECONDS = 1.0
"""Between two looks at what is to do."""

AGAIN_SECONDS = 30.0
"""Pause after the store could not be asked, and before a file that is not there is looked for again."""

FIND_FILES_MAX = 32
"""Asked for in one step, a request each. Where more is unknown, a listing tells of a thousand with one."""

UPLOAD_FILES_MAX = 4
REMOVE_FILES_MAX = 500
PAGE_OBJECTS = 1000
"""What a store lists with one request."""

Named = tuple[str, str]
"""Path and hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelvingStatistics:
    """What is in the shared store. ``unproven_files`` are in the manifest and not known to be there: their copies on
    nodes count as without a store. ``lost_total`` were there and are not. ``orphans_total`` were never in the manifest.
    """

    proven_files: int
    unproven_files: int
    leaving_files: int
    uploaded_total: int
    removed_total: int
    orphans_total: int
    lost_total: int
    walks_total: int
    failures_total: int
    last_error: str


def due(leaving: Mapping[Named, float], now: float, grace_seconds: float) -> list[Named]:
    """Files to remove now, at most `REMOVE_FILES_MAX`, those first that left the manifest first."""
    found = [named for named, since in leaving.items() if now - since >= grace_seconds]
    return found[:REMOVE_FILES_MAX]


def orphans(
    page: Iterable[tuple[StoredObject, Named | None]],
    is_known: Callable[[str, str], bool],
    *,
    reigns: Collection[int],
    leaving: Collection[Named],
    now_us: int,
    grace_seconds: float,
) -> list[str]:
    """Keys of objects that nobody can want any more. Each comes with its path and the first half of its hash, None when
    it has no name of ours: that is somebody's, and stays.

    ``reigns`` are the epochs of all leases: what is above the highest is from a future that is not known here yet.
    """
    going = {(path, sha256[:HASH_CHARS]) for path, sha256 in leaving}
    limit_us = now_us - round(grace_seconds * 1e6)
    found = []
    for stored, named in page:
        epoch = epoch_of(named[0]) if named is not None else None
        if named is None or epoch is None or epoch in reigns or epoch > max(reigns, default=0):
            continue
        if stored.modified_us < limit_us and named not in going and not is_known(*named):
            found.append(stored.key)
    return found


class Shelving:
    """``holds`` says whether this node has the writer lease; ``confirm`` returns when everything that was agreed on
    before is known here, and raises Unavailable when that cannot be told.
    """

    def __init__(
        self,
        *,
        shelf: Shelf,
        config: StorageConfig,
        walk_seconds: float,
        catalog: Callable[[], Catalog],
        is_here: Callable[[str], bool],
        holds: Callable[[], bool],
        confirm: Callable[[], Awaitable[object]],
        disk: Disk,
        workers: Workers,
        clock: Clock,
        log: Log,
    ) -> None:
        self._shelf = shelf
        self._config = config
        self._walk_seconds = walk_seconds
        self._catalog = catalog
        self._is_here = is_here
        self._holds = holds
        self._confirm = confirm
        self._disk = disk
        self._workers = workers
        self._clock = clock
        self._log = log.bind(component="shelving", store=shelf.name)
        self._unproven: dict[str, FileEntry] = {}
        self._absent: dict[str, float] = {}
        """Of those: which were looked for and not there, and until when they are not looked for again."""
        self._leaving: dict[Named, float] = {}
        self._uploaded = self._removed = self._orphans = self._lost = self._walks = self._failures = 0
        self._last_error = ""
        self._is_failing = False

    def __repr__(self) -> str:
        return f"<Shelving unproven={len(self._unproven)} leaving={len(self._leaving)} {self._shelf!r}>"

    def unproven(self) -> Collection[FileEntry]:
        """Files of the manifest that are not known to be in the store."""
        return self._unproven.values()

    async def run(self, changes: Changes, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. ``changes`` began before this call."""
        for entry in self._catalog().all_files():
            self._want(entry)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hear, changes)
            task_status.started()
            walk_at = self._clock.now()
            while True:
                pause = STEP_SECONDS
                try:
                    if self._clock.now() >= walk_at:
                        await self.walk()
                        walk_at = self._clock.now() + self._walk_seconds
                    await self.step()
                    self._tell_answers()
                except Unavailable as error:
                    self._tell_failure(error.message)
                    pause = AGAIN_SECONDS
                await trio.sleep(pause)

    async def _hear(self, changes: Changes) -> None:
        while True:
            change = await changes.receive()
            for event in change.events:
                match event:
                    case FilesAdded(files=files):
                        for entry in files:
                            self._want(entry)
                    case FilesRemoved(files=files):
                        for entry in files:
                            self._leave(entry)

    def _want(self, entry: FileEntry) -> None:
        if not self._shelf.has(entry.path):
            self._unproven[entry.path] = entry

    def _leave(self, entry: FileEntry) -> None:
        self._unproven.pop(entry.path, None)
        self._absent.pop(entry.path, None)
        self._shelf.forget(entry.path)
        self._leaving[entry.path, entry.sha256] = self._clock.now()

    # ------------------------------------------------------------------------------------------------------ in steps

    async def step(self) -> None:
        """Do a little of what is to do. Raises Unavailable."""
        await self._find()
        await self._remove_due()
        if self._holds():
            await self._upload()

    async def _find(self) -> None:
        now = self._clock.now()
        asked = [entry for entry in self._unproven.values() if self._absent.get(entry.path, 0.0) <= now]
        if len(asked) > PAGE_OBJECTS:
            await self.walk()
            return
        asked = asked[:FIND_FILES_MAX]
        if not asked:
            return
        found = await self._workers.run(self._shelf.find, asked, abandon_on_cancel=True)
        for entry, is_there in zip(asked, found, strict=True):
            if is_there:
                self._prove(entry)
            elif entry.path in self._unproven:
                self._absent[entry.path] = now + AGAIN_SECONDS

    def _prove(self, entry: FileEntry) -> None:
        known = self._catalog().file(entry.path)
        if known is not None and known.sha256 == entry.sha256:  # Else it left the manifest meanwhile.
            self._unproven.pop(entry.path, None)
            self._absent.pop(entry.path, None)
            self._shelf.note(entry.path)

    async def _upload(self) -> None:
        missing = [entry for path in self._absent if (entry := self._unproven.get(path)) and self._is_here(path)]
        for entry in missing[:UPLOAD_FILES_MAX]:
            if await self._workers.run(self._put, entry):
                self._uploaded += 1
                self._prove(entry)
            else:
                self._absent.pop(entry.path, None)
                self._absent[entry.path] = self._clock.now() + AGAIN_SECONDS  # Behind the others.

    def _put(self, entry: FileEntry) -> bool:
        """False: the copy here is gone or not what the manifest says, which is anti-entropy's matter."""
        try:
            body = self._disk.read(f"{DATA}/{entry.path}")
        except OSError:
            return False
        if hashlib.sha256(body).hexdigest() != entry.sha256:
            return False
        self._shelf.put(entry.path, body, entry.sha256)
        return True

    async def _remove_due(self) -> None:
        going = due(self._leaving, self._clock.now(), self._config.delete_grace_seconds)
        catalog = self._catalog()
        unwanted = [named for named in going if not _is_in(catalog, *named)]
        if unwanted and self._holds():
            await self._workers.run(self._shelf.remove, unwanted)
            self._removed += len(unwanted)
        for named in going:
            # Whoever has no lease leaves it to who has; what falls between two holders the walk finds.
            self._leaving.pop(named, None)

    # ---------------------------------------------------------------------------------------------------- a walk

    async def walk(self) -> None:
        """Look at everything that is there, once. Raises Unavailable."""
        before, seen, after = self._shelf.proven, set[str](), ""
        while page := await self._workers.run(self._shelf.page, after, PAGE_OBJECTS, abandon_on_cancel=True):
            after = page[-1].key
            named = [(stored, self._shelf.file_of(stored.key)) for stored in page]
            catalog = self._catalog()
            for stored, name in named:
                entry = catalog.file(name[0]) if name is not None else None
                if name is None or entry is None or not _is_in(catalog, *name):
                    continue
                if entry.size_bytes == stored.size_bytes:
                    seen.add(entry.path)
                    self._prove(entry)
            if self._holds():
                await self._remove_orphans(named)
        self._note_lost([path for path in before if path not in seen])
        self._walks += 1

    async def _remove_orphans(self, named: Sequence[tuple[StoredObject, Named | None]]) -> None:
        if not self._unknown(named):
            return
        await self._confirm()
        keys = self._unknown(named)
        if keys and self._holds():
            await self._workers.run(self._shelf.remove_keys, keys)
            self._orphans += len(keys)
            self._log.info("shared_orphans_removed", objects=len(keys), first=keys[0], reason="not in the manifest")

    def _unknown(self, named: Sequence[tuple[StoredObject, Named | None]]) -> list[str]:
        catalog = self._catalog()
        return orphans(
            named,
            lambda path, half: _is_in(catalog, path, half),
            reigns=[lease.epoch for lease in catalog.leases.values()],
            leaving=self._leaving,
            now_us=self._clock.wall_us(),
            grace_seconds=self._config.orphan_grace_seconds,
        )

    def _note_lost(self, paths: Sequence[str]) -> None:
        catalog = self._catalog()
        for path in paths:
            self._shelf.forget(path)
            if (entry := catalog.file(path)) is not None:
                self._unproven[path] = entry
                self._lost += 1
                self._log.error(
                    "shared_file_lost",
                    path=path,
                    effect="it is put there again from a copy",
                    next_step="who removed it?",
                )

    # ------------------------------------------------------------------------------------------------- how it goes

    def _tell_failure(self, reason: str) -> None:
        self._failures += 1
        self._last_error = reason
        if not self._is_failing:
            self._is_failing = True
            self._log.warning("shared_store_fails", reason=reason, next_step=f"again every {AGAIN_SECONDS:g} s")

    def _tell_answers(self) -> None:
        if self._is_failing:
            self._is_failing = False
            self._log.info("shared_store_answers")

    def statistics(self) -> ShelvingStatistics:
        """Numbers for status and metrics."""
        return ShelvingStatistics(
            proven_files=len(self._shelf.proven),
            unproven_files=len(self._unproven),
            leaving_files=len(self._leaving),
            uploaded_total=self._uploaded,
            removed_total=self._removed,
            orphans_total=self._orphans,
            lost_total=self._lost,
            walks_total=self._walks,
            failures_total=self._failures,
            last_error=self._last_error,
        )


def _is_in(catalog: Catalog, path: str, sha256: str) -> bool:
    """Whether the manifest has a file with a hash that begins so."""
    entry = catalog.file(path)
    return entry is not None and entry.sha256.startswith(sha256)
