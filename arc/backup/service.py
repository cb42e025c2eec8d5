"""Backups of one node: one operation at a time, how far it is, and the list of what there is.

Whoever asks for an operation is answered at once and looks at `status` from then on; so a client that went away changes
nothing. An operation that fails says so in its status and in the log; the node goes on, since nothing that it answers
queries with depends on a backup.
"""

from __future__ import annotations

import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import trio

from arc.backup import document
from arc.backup.document import HEADER_BYTES_MAX, Document, Summary
from arc.backup.ports import Fetch, Files, Flush
from arc.backup.progress import COMPLETED, FAILED, Progress
from arc.backup.restoring import Order, Restorer
from arc.backup.taking import Taker, Wish, is_proven
from arc.backup.vault import PIECE_BYTES, Vault, read
from arc.catalog.facts import Catalog
from arc.errors import AlreadyRunning, ArcError, Corrupt, NotFound, Unavailable
from arc.ports import Ports, Rng
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.telemetry import Log

Answer = TypeVar("Answer")

Work = Callable[[Progress], Awaitable[str]]
"""Carries an operation out; the status that it ends with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupStatistics:
    """Operations on this node since its start. ``running`` is 1 while one is."""

    operations_total: int
    failed_total: int
    files_copied_total: int
    bytes_copied_total: int
    running: int


class BackupService:
    """Keeps the backups of one vault."""

    def __init__(
        self,
        *,
        vault: Vault,
        taker: Taker,
        restorer: Restorer,
        ports: Ports,
        files: Files,
        fetch: Fetch,
        flush: Flush,
        catalog: Callable[[], Catalog],
        log: Log,
    ) -> None:
        self._vault = vault
        self._taker = taker
        self._restorer = restorer
        self._disk, self._workers, self._clock = ports.disk, ports.workers, ports.clock
        self._rng: Rng = ports.rng
        self._files = files
        self._fetch = fetch
        self._flush = flush
        self._catalog = catalog
        self._log = log.bind(component="backup")
        self._work: Work | None = None
        self._progress: Progress | None = None
        self._asked = trio.Event()
        self._is_deleting = False
        self._operations = self._failed = self._copied = self._bytes = 0

    def __repr__(self) -> str:
        return f"<BackupService {self._vault.name} {self.running.operation if self.running else 'idle'}>"

    async def run(self) -> None:
        """Carry out what is asked for, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            work, progress = self._work, self._progress
            assert work is not None and progress is not None
            await self._carry_out(work, progress)
            self._work = None

    # --------------------------------------------------------------------------------------------------- what is asked

    @property
    def running(self) -> Progress | None:
        """The operation under way."""
        return self._progress if self._work is not None else None

    @property
    def last(self) -> Progress | None:
        """The operation under way, or the last one since the start."""
        return self._progress

    @property
    def place(self) -> str:
        """Where the backups lie, for people."""
        return self._vault.name

    def create(self, wish: Wish) -> str:
        """Begin a backup; its id. An empty one in ``wish`` is made up. Raises AlreadyRunning."""
        now_us = self._clock.wall_us()
        wish = replace(wish, backup_id=wish.backup_id or document.new_id(now_us, self._rng.bytes(4)))

        async def work(progress: Progress) -> str:
            await self._taker.take(wish, progress)
            return COMPLETED

        self._begin("backup", wish.backup_id, work)
        return wish.backup_id

    def restore(self, order: Order) -> None:
        """Begin a restore, or go on with one that did not end. Raises AlreadyRunning."""

        async def work(progress: Progress) -> str:
            return await self._restorer.restore(order, progress)

        self._begin("restore", order.backup_id, work)

    def verify(self, backup_id: str) -> None:
        """Begin to read a backup whole. Raises AlreadyRunning."""

        async def work(progress: Progress) -> str:
            await self._verify(await self.get(backup_id), progress)
            return COMPLETED

        self._begin("verify", backup_id, work)

    async def all(self) -> list[Summary | Corrupt]:
        """All backups, newest first; those whose document cannot be read as what is wrong. Raises Unavailable."""
        return await self._blocking(self._list)

    async def get(self, backup_id: str) -> Document:
        """A backup. Raises NotFound, Corrupt, Unavailable."""
        return await self._blocking(self._get, backup_id)

    async def delete(self, backup_id: str) -> int:
        """Forget a backup, and remove the files that no other one needs; how many these were.

        Raises NotFound, AlreadyRunning, Unavailable, Corrupt (another document cannot be read, so nobody knows which
        files it needs; the backup that was asked for is gone all the same).
        """
        self._require_idle()
        self._is_deleting = True
        try:
            return await self._blocking(self._delete, backup_id)
        finally:
            self._is_deleting = False

    # -------------------------------------------------------------------------------------- files for those who ask

    async def point(self) -> Document:
        """A version of the catalog now, with every acknowledged row in its files, as a document that nobody keeps."""
        await self._flush.flush_all()
        return document.compose(
            self._catalog(),
            backup_id="",
            created_us=self._clock.wall_us(),
            version="",
            reused=False,
            with_policies=False,
        )

    async def open_file(self, path: str, sha256: str) -> tuple[FileEntry, AsyncGenerator[bytes, None]]:
        """A file of the manifest in pieces; it stays on the disk while they are taken. Raises NotFound, Unavailable."""
        entry = self._catalog().file(path)
        if entry is None or entry.sha256 != sha256:
            raise NotFound(f"{path} with this hash is not in the manifest any more", code="file_gone")
        if not self._files.is_here(path):
            await self._fetch.fetch([entry])
        return entry, self._pieces(entry)

    async def _pieces(self, entry: FileEntry) -> AsyncGenerator[bytes, None]:
        self._files.pin([entry.path])
        try:
            for at in range(0, entry.size_bytes, PIECE_BYTES):
                yield await self._workers.run(self._disk.read_at, f"{DATA}/{entry.path}", at, PIECE_BYTES)
        finally:
            self._files.unpin([entry.path])

    # ---------------------------------------------------------------------------------------------------------- inside

    def _require_idle(self) -> None:
        if (now := self.running) is not None:
            raise AlreadyRunning(f"a {now.operation} of {now.backup_id} is running; one at a time")
        if self._is_deleting:
            raise AlreadyRunning("a backup is being deleted; one operation at a time")

    def _begin(self, operation: str, backup_id: str, work: Work) -> None:
        self._require_idle()
        self._progress = Progress(operation=operation, backup_id=backup_id, started_us=self._clock.wall_us())
        self._work = work
        self._asked.set()

    async def _carry_out(self, work: Work, progress: Progress) -> None:
        self._log.info(f"{progress.operation}_begins", backup=progress.backup_id, place=self._vault.name)
        self._operations += 1
        try:
            status = await work(progress)
        except ArcError as error:
            self._fail(progress, str(error), error.code)
        except OSError as error:
            self._fail(progress, f"{self._vault.name} or this node's disk: {error}", "disk")
        except Exception as error:  # A mistake of ours: told like any failure, and no reason to stop serving.
            frames = [
                f"{each.filename}:{each.lineno} {each.name}" for each in traceback.extract_tb(error.__traceback__)
            ]
            self._log.error("backup_mistake", reason=repr(error), frames=frames[-8:])
            self._fail(progress, f"a mistake in Arc: {error!r}; the log of the node has the details", "internal")
        else:
            progress.end(self._clock.wall_us(), status)
            self._log.info(
                f"{progress.operation}_{status}",
                backup=progress.backup_id,
                files=progress.processed_files,
                reused=progress.reused_files,
                bytes=progress.processed_bytes,
                damaged=progress.damaged_files,
            )
        self._copied += progress.processed_files - progress.reused_files
        self._bytes += progress.processed_bytes - progress.reused_bytes

    def _fail(self, progress: Progress, error: str, code: str) -> None:
        self._failed += 1
        progress.end(self._clock.wall_us(), FAILED, error=error, code=code)
        self._log.error(f"{progress.operation}_failed", backup=progress.backup_id, reason=error)

    async def _verify(self, found: Document, progress: Progress) -> None:
        """Raises Corrupt, with all that are damaged named in the progress."""
        progress.phase = "reading"
        progress.total_files = len(found.files)
        progress.total_bytes = sum(file.size_bytes for file in found.files)
        progress.rows = sum(file.rows for file in found.files)
        for file in found.files:
            try:
                is_good = await self._workers.run(is_proven, self._vault, file.sha256)
            except NotFound:
                is_good = False
            if not is_good:
                progress.is_damaged(file.path)
            progress.done(files=1, size_bytes=file.size_bytes)
        if progress.damaged_files:
            raise Corrupt(
                f"{progress.damaged_files} files of {found.summary.backup_id} are missing or damaged",
                path=progress.damaged[0],
                offset=0,
            )

    async def _blocking(self, fn: Callable[..., Answer], *args: object) -> Answer:
        try:
            return await self._workers.run(fn, *args)
        except OSError as error:
            raise Unavailable(f"{self._vault.name} cannot be read: {error}") from error

    # ------------------------------------------------------------------------------------------------ all of it blocks

    def _list(self) -> list[Summary | Corrupt]:
        found: list[Summary | Corrupt] = []
        for key in reversed(self._documents()):
            try:
                found.append(document.read_summary(self._vault.read_at(key, 0, HEADER_BYTES_MAX), key))
            except Corrupt as problem:
                found.append(problem)
        return found

    def _get(self, backup_id: str) -> Document:
        key = document.document_key(backup_id)
        try:
            return document.decode(read(self._vault, key), key)
        except NotFound as error:
            raise NotFound(f"there is no backup {backup_id}") from error

    def _delete(self, backup_id: str) -> int:
        key = document.document_key(backup_id)
        if key not in self._documents():
            raise NotFound(f"there is no backup {backup_id}")
        # The document first: a backup without files must not look like one.
        self._vault.remove([key])
        needed = document.hashes(self._get(name) for name in map(document.id_of, self._documents()) if name)
        kept = {document.object_key(each) for each in needed}
        needless = [each for each in self._vault.sizes(document.OBJECTS) if each not in kept]
        self._vault.remove(needless)
        return len(needless)

    def _documents(self) -> Sequence[str]:
        """Their keys, oldest first."""
        return [key for key in self._vault.sizes(document.DOCUMENTS) if document.id_of(key) is not None]

    def statistics(self) -> BackupStatistics:
        """Numbers for status and metrics."""
        return BackupStatistics(
            operations_total=self._operations,
            failed_total=self._failed,
            files_copied_total=self._copied,
            bytes_copied_total=self._bytes,
            running=int(self._work is not None),
        )
