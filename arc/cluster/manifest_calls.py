"""The manifest by the names under which Arc offers it: look at files, register, replace, delete; each call one entry.

Files never change: an update is a swap of the old file for a new one of another name, and one under the same name is
refused. Whoever changes the manifest holds a lease, and the catalog checks its epoch: flushes come under the writer's,
everything else under whichever of the two this node holds. Flushes and merges have doors of their own (`registrar`,
`bridge`), which know how to wait; these calls are for operators, imports and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest

from arc.catalog.commands import COMPACTOR, WRITER, RegisterFiles, ReplaceFiles
from arc.catalog.facts import Catalog
from arc.catalog.manifest import NO_FILES
from arc.catalog.values import DeleteSource
from arc.cluster.bridge import sources
from arc.cluster.registrar import Propose
from arc.errors import CompactionNotAllowed, Conflict, IngestNotAllowed, InvalidRequest
from arc.ids import NodeId
from arc.storage.files import FileEntry

PAGE_FILES = 1_000
PAGE_FILES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterFile:
    """A file to add, in a batch."""

    file: FileEntry


FileOp = RegisterFile | DeleteSource
"""One operation of a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Files by path. ``next_cursor`` is empty behind the last one."""

    files: tuple[FileEntry, ...]
    next_cursor: str
    total: int


class ManifestCalls:
    """Looks at the local catalog; changes it for the node that holds a lease."""

    def __init__(self, propose: Propose, catalog: Callable[[], Catalog], node: NodeId) -> None:
        self._propose = propose
        self._catalog = catalog
        self._node = node

    # --------------------------------------------------------------------------------------------------------- looking

    def file_manifest(self) -> tuple[FileEntry, ...]:
        """Every file, in the same order on every node."""
        return tuple(self._catalog().all_files())

    def file_manifest_by_database(self, database: str) -> tuple[FileEntry, ...]:
        """The files of one database; none when there is no such database."""
        held = self._catalog().manifest.get(database, NO_FILES)
        return tuple(file for _, record in sorted(held.measurements.items()) for file in record.all())

    def file_manifest_paginated(self, cursor: str = "", limit: int = PAGE_FILES, *, database: str = "") -> Page:
        """Up to ``limit`` files whose path comes after ``cursor``. Raises InvalidRequest."""
        if not 1 <= limit <= PAGE_FILES_MAX:
            raise InvalidRequest(f"limit must be 1 to {PAGE_FILES_MAX}, not {limit}", code="invalid_limit")
        return page(self.file_manifest_by_database(database) if database else self.file_manifest(), cursor, limit)

    def file_entry(self, path: str) -> FileEntry | None:
        """The file of this path."""
        return self._catalog().file(path)

    # -------------------------------------------------------------------------------------------------------- changing

    async def register_file(self, file: FileEntry) -> None:
        """Add a file that came from nowhere in the WAL. One that is there already, the same, is fine.

        Raises IngestNotAllowed (this node holds no lease), Conflict, InvalidRequest, Unavailable, OutcomeUnknown.
        """
        known = self.file_entry(file.path)
        if known is not None and known.sha256 == file.sha256:
            return
        lease, epoch = self._token()
        if lease == WRITER:
            (await self._propose.propose(RegisterFiles(files=(file,), epoch=epoch))).unwrap()
        else:
            await self._replace(ReplaceFiles(remove=(), add=(file,), lease=lease, epoch=epoch))

    async def update_file(self, old_path: str, file: FileEntry) -> None:
        """Swap a file for its rewritten self, which has another name. Raises as `register_file`."""
        if file.path == old_path:
            raise Conflict(
                f"files never change: the rewritten {old_path} needs a name of its own, so that no copy of the old "
                "bytes is taken for it",
                code="immutable_file",
            )
        await self.batch_file_ops([RegisterFile(file=file), DeleteSource(path=old_path, reason="rewritten")])

    async def delete_file(self, path: str, reason: str) -> None:
        """Take a file out; one that is not there is fine. Raises as `register_file`."""
        if self.file_entry(path) is not None:
            await self.batch_file_ops([DeleteSource(path=path, reason=reason)])

    async def batch_file_ops(self, ops: Sequence[FileOp]) -> None:
        """All of it in one entry, seen at once or not at all; nothing is no entry. Raises as `register_file`."""
        if not ops:
            return
        add = tuple(op.file for op in ops if isinstance(op, RegisterFile))
        remove = sources(self._catalog(), [op for op in ops if isinstance(op, DeleteSource)])
        lease, epoch = self._token()
        await self._replace(ReplaceFiles(remove=remove, add=add, lease=lease, epoch=epoch))

    async def _replace(self, command: ReplaceFiles) -> None:
        (await self._propose.propose(command)).unwrap()

    def _token(self) -> tuple[str, int]:
        """The lease that this node holds, and its epoch. Raises IngestNotAllowed, CompactionNotAllowed."""
        leases = self._catalog().leases
        for lease in (WRITER, COMPACTOR):
            held = leases.get(lease)
            if held is not None and held.holder == self._node:
                return lease, held.epoch
        holder = leases.get(WRITER)
        if holder is None:
            raise IngestNotAllowed("nobody holds the writer lease, so nobody may change the manifest")
        raise CompactionNotAllowed(
            f"{self._node} holds no lease, so it may not change the manifest; {holder.holder} holds the writer lease"
        )


def page(files: Iterable[FileEntry], cursor: str, limit: int) -> Page:
    """The first ``limit`` files by path behind the cursor."""
    known = tuple(files)
    found = nsmallest(limit + 1, (file for file in known if file.path > cursor), key=lambda file: file.path)
    has_more = len(found) > limit
    return Page(files=tuple(found[:limit]), next_cursor=found[limit - 1].path if has_more else "", total=len(known))
