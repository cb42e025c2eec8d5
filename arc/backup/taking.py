"""Taking a backup: flush, hold one version of the catalog still, copy what the vault lacks, write the document last.

The version is a value, so nothing that happens meanwhile changes what the backup is; its files are pinned in the same
step and stay on this disk however compaction, retention and deletes go on. A file that left the manifest before it
could be brought here makes the whole attempt void: then a newer version is taken, for which most of the work is
already done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from arc.backup import document
from arc.backup.parallel import for_each
from arc.backup.ports import Fetch, Files, Flush
from arc.backup.progress import Progress
from arc.backup.vault import Blob, Vault, pieces
from arc.catalog.facts import Catalog
from arc.errors import Corrupt, NotFound, Unavailable
from arc.ports import Ports
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.telemetry import Log

VERSIONS_MAX = 3
"""Attempts that files were missing for, each with a newer version."""

GROUP_FILES_MAX = 256
GROUP_BYTES_MAX = 64 << 20
"""Copied in one go, on one worker, beside others: few syncs for small files, and never much that holds up a cancel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a backup is to hold. With ``checks_reused``, what the vault has already is read and proven, and replaced
    where it is rotten.
    """

    backup_id: str
    with_policies: bool = True
    with_tokens: bool = False
    checks_reused: bool = False


class Taker:
    """Takes backups into one vault."""

    def __init__(
        self,
        *,
        vault: Vault,
        ports: Ports,
        files: Files,
        fetch: Fetch,
        flush: Flush,
        catalog: Callable[[], Catalog],
        version: str,
        log: Log,
    ) -> None:
        self._vault = vault
        self._disk, self._workers, self._clock = ports.disk, ports.workers, ports.clock
        self._files = files
        self._fetch = fetch
        self._flush = flush
        self._catalog = catalog
        self._version = version
        self._log = log

    async def take(self, wish: Wish, progress: Progress) -> document.Summary:
        """Raises Unavailable, Corrupt (a file here is not what the manifest says), OSError."""
        progress.phase = "flushing"
        await self._flush.flush_all()
        await self._workers.run(self._vault.clear)
        for _ in range(VERSIONS_MAX - 1):
            catalog = self._catalog()
            try:
                return await self._take(catalog, wish, progress)
            except (Unavailable, NotFound) as error:
                if all(self._catalog().file(entry.path) is not None for entry in catalog.all_files()):
                    raise  # Nothing left the manifest, so a newer version would fail like this one.
                self._log.info("backup_taken_anew", reason=error.message)
        return await self._take(self._catalog(), wish, progress)

    async def _take(self, catalog: Catalog, wish: Wish, progress: Progress) -> document.Summary:
        entries = list(catalog.all_files())
        pinned = [entry.path for entry in entries]
        self._files.pin(pinned)  # In one step with taking the version: no await lies between.
        try:
            progress.phase = "copying"
            progress.total_files = len(entries)
            progress.total_bytes = sum(entry.size_bytes for entry in entries)
            progress.rows = sum(entry.rows for entry in entries)
            progress.processed_files = progress.processed_bytes = progress.reused_files = progress.reused_bytes = 0
            there = await self._workers.run(self._vault.sizes, document.OBJECTS)

            async def copy(group: Sequence[FileEntry]) -> None:
                await self._copy(group, there, wish, progress)

            await for_each(groups(entries), copy)
        finally:
            self._files.unpin(pinned)
        progress.phase = "writing the document"
        made = document.compose(
            catalog,
            backup_id=wish.backup_id,
            created_us=self._clock.wall_us(),
            version=self._version,
            reused=bool(progress.reused_files),
            with_policies=wish.with_policies,
            with_tokens=wish.with_tokens,
        )
        await self._workers.run(self._write, made)
        return made.summary

    async def _copy(self, group: Sequence[FileEntry], there: Mapping[str, int], wish: Wish, progress: Progress) -> None:
        lacking = {entry.sha256 for entry in group if there.get(document.object_key(entry.sha256)) != entry.size_bytes}
        if wish.checks_reused:
            known = [entry.sha256 for entry in group if entry.sha256 not in lacking]
            lacking |= await self._workers.run(self._rotten, known)
        reused = [entry for entry in group if entry.sha256 not in lacking]
        progress.done(files=len(reused), size_bytes=sum(entry.size_bytes for entry in reused), reused=True)
        wanted = [entry for entry in group if entry.sha256 in lacking]
        if absent := [entry for entry in wanted if not self._files.is_here(entry.path)]:
            await self._fetch.fetch(absent)
        await self._workers.run(self._put, wanted)
        progress.done(files=len(wanted), size_bytes=sum(entry.size_bytes for entry in wanted))

    # ------------------------------------------------------------------------------------------------ all of it blocks

    def _rotten(self, hashes: Sequence[str]) -> set[str]:
        return {each for each in hashes if not is_proven(self._vault, each)}

    def _put(self, entries: Sequence[FileEntry]) -> None:
        blobs: dict[str, Blob] = {}
        for entry in entries:
            try:
                data = self._disk.map(f"{DATA}/{entry.path}")
            except FileNotFoundError as error:
                raise Unavailable(f"{entry.path} is not on this node any more", code="files_missing") from error
            if len(data) != entry.size_bytes:
                raise Corrupt(f"it has {len(data)} of its {entry.size_bytes} bytes", path=entry.path, offset=len(data))
            key = document.object_key(entry.sha256)
            blobs[key] = Blob(key=key, data=data, sha256=entry.sha256, name=entry.path)
        if blobs:
            self._vault.put(list(blobs.values()))

    def _write(self, made: document.Document) -> None:
        data = document.encode(made)
        key = document.document_key(made.summary.backup_id)
        self._vault.put([Blob(key=key, data=data, sha256=document.hash_of([data]), name=key)])


def groups(entries: Sequence[FileEntry]) -> list[list[FileEntry]]:
    """In order, bounded by count and, unless one alone is larger, by bytes."""
    found: list[list[FileEntry]] = []
    room = 0
    for entry in entries:
        if not found or len(found[-1]) == GROUP_FILES_MAX or entry.size_bytes > room:
            found.append([])
            room = GROUP_BYTES_MAX
        found[-1].append(entry)
        room -= entry.size_bytes
    return found


def is_proven(vault: Vault, sha256: str) -> bool:
    """Whether the vault has this file whole, every byte of it read. Raises NotFound when it is gone."""
    return document.hash_of(pieces(vault, document.object_key(sha256))) == sha256
