"""Carrying out a restore: files from the vault into this node's folder, batch by batch into the manifest.

Runs where the writer lease is, under its epoch. A file is proven while it is written and only then given its place, so
one that is damaged leaves nothing behind. Other nodes fetch what is registered, as they fetch what a flush made; so it
does not matter how many there are, or were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import trio

from arc.backup import access, document, plan
from arc.backup.document import Document
from arc.backup.parallel import AT_ONCE, for_each
from arc.backup.plan import Ledger
from arc.backup.ports import Files, Propose
from arc.backup.progress import COMPLETED, INCOMPLETE, Progress
from arc.backup.vault import Vault, pieces, read
from arc.catalog.commands import WRITER
from arc.catalog.facts import Catalog
from arc.errors import Conflict, Corrupt, InvalidRequest, NotFound, Unavailable
from arc.ids import NodeId
from arc.ports import Ports
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.storage.shelf import Shelf
from arc.telemetry import Log

DRAFTS = "restore"
"""Folder of what is being written, below the node's data directory; empty but for the time of a restore."""

ACCESS_STEPS_MAX = 1_000_000
"""More than a catalog has room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to restore. No ``databases``: all. With ``skips_damaged``, files that are missing or damaged in the vault
    are left out and named, instead of ending the restore at the batch before them. Without ``with_data`` no database is
    made and no file brought.
    """

    backup_id: str
    databases: tuple[str, ...] = ()
    with_data: bool = True
    with_policies: bool = True
    with_tokens: bool = False
    skips_damaged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A file of the backup, where it is written, and what it becomes."""

    draft: str
    file: FileEntry
    entry: FileEntry


class Restorer:
    """Restores out of one vault into the cluster of this node. ``shelf`` is the store that all nodes share."""

    def __init__(
        self,
        *,
        vault: Vault,
        ports: Ports,
        files: Files,
        propose: Propose,
        catalog: Callable[[], Catalog],
        shelf: Shelf | None,
        node: NodeId,
        reserve_bytes: int,
        log: Log,
    ) -> None:
        self._vault = vault
        self._disk, self._workers, self._clock = ports.disk, ports.workers, ports.clock
        self._files = files
        self._propose = propose
        self._catalog = catalog
        self._shelf = shelf
        self._node = node
        self._reserve_bytes = reserve_bytes
        self._log = log

    async def restore(self, order: Order, progress: Progress) -> str:
        """`COMPLETED`, or `INCOMPLETE` when damaged files were left out.

        Raises NotFound, Conflict (a database exists, or the lease moved: then the same order goes on elsewhere),
        Corrupt, InvalidRequest (no room), Unavailable, OutcomeUnknown, OSError. What was registered before stays.
        """
        progress.phase = "reading the document"
        epoch = self._require_lease()
        key = document.document_key(order.backup_id)
        found = plan.chosen(document.decode(await self._workers.run(read, self._vault, key), key), order.databases)
        if not order.with_data:
            await self._set_rest(found, order, progress, self._clock.wall_us())
            return COMPLETED
        batches = plan.batches(found)
        progress.total_files = len(found.files)
        progress.total_bytes = sum(file.size_bytes for file in found.files)
        progress.rows = sum(file.rows for file in found.files)
        ledger = plan.begin(self._catalog(), found, self._clock.wall_us())
        progress.phase = "looking at the files"
        await self._require_whole(batches, order, progress)
        progress.phase = "making room"
        await self._require_room(progress.total_bytes)
        ledger = await self._note(ledger)
        for command in plan.schemas(found):
            (await self._propose.propose(command)).unwrap()
        progress.phase = "copying"
        for number, batch in enumerate(batches):
            ledger = await self._bring(ledger, number, batch, epoch, order, progress)
        progress.phase = "setting policies"
        await self._set_rest(found, order, progress, ledger.begun_us)
        await self._note(replace(ledger, status=plan.OVER, batches_done=len(batches)))
        return INCOMPLETE if progress.damaged_files else COMPLETED

    def _require_lease(self) -> int:
        lease = self._catalog().leases.get(WRITER)
        if lease is None or lease.holder != self._node:
            who = "nobody holds it" if lease is None else f"{lease.holder} does"
            raise Unavailable(f"a restore runs where the writer lease is, and {who}")
        return lease.epoch

    async def _require_whole(self, batches: Sequence[Sequence[FileEntry]], order: Order, progress: Progress) -> None:
        """Every file is there with its length, before anything is changed. Raises Corrupt with all that are not."""
        there = await self._workers.run(self._vault.sizes, document.OBJECTS)
        short = [
            file.path
            for batch in batches
            for file in batch
            if there.get(document.object_key(file.sha256)) != file.size_bytes
        ]
        if short and not order.skips_damaged:
            for path in short:
                progress.is_damaged(path)
            raise Corrupt(
                f"{len(short)} files of the backup are missing or have another length; nothing was changed",
                path=short[0],
                offset=0,
            )

    async def _require_room(self, size_bytes: int) -> None:
        await self._workers.run(self._clear)
        free = await self._workers.run(self._disk.free_bytes)
        if free < size_bytes + self._reserve_bytes:
            raise InvalidRequest(
                f"the backup needs {size_bytes} bytes and {self._reserve_bytes} must stay free, but {free} are",
                code="no_space",
            )

    async def _note(self, ledger: Ledger) -> Ledger:
        command = ledger.command(self._clock.wall_us())
        (await self._propose.propose(command)).unwrap()
        return ledger.set_as(command)

    async def _bring(
        self, ledger: Ledger, number: int, batch: Sequence[FileEntry], epoch: int, order: Order, progress: Progress
    ) -> Ledger:
        """One batch, unless it has happened already."""
        size_bytes = sum(file.size_bytes for file in batch)
        index = self._catalog().index
        if plan.has_happened(self._catalog(), ledger, number, batch):
            progress.done(files=len(batch), size_bytes=size_bytes, reused=True)
            return (
                ledger if number < ledger.batches_done else await self._note(replace(ledger, batches_done=number + 1))
            )
        now_us = self._clock.wall_us()
        drafts = [
            _Draft(
                draft=f"{DRAFTS}/{nth}",
                file=file,
                entry=plan.placed(file, ledger, node=self._node, epoch=epoch, now_us=now_us),
            )
            for nth, file in enumerate(batch)
        ]
        entries, damaged = await self._install(drafts, order)
        for each in damaged:
            progress.is_damaged(each.path)
            self._log.error("backup_file_damaged", backup=order.backup_id, path=each.path, reason=each.message)
        if damaged and not order.skips_damaged:
            raise damaged[0]
        for entry in entries:
            self._files.came(entry.path)
            if self._shelf is not None:
                self._shelf.note(entry.path)
        if entries:
            command = plan.registration(ledger, number, entries, epoch=epoch, index=index)
            try:
                (await self._propose.propose(command)).unwrap()
            except Conflict as error:
                if self._catalog().lease_epoch(WRITER) == epoch:
                    raise
                raise Unavailable(
                    f"the writer lease moved: ask for the same restore again, it goes on there ({error.message})"
                ) from error
        progress.done(files=len(batch), size_bytes=size_bytes)
        return await self._note(replace(ledger, batches_done=number + 1))

    async def _set_rest(self, found: Document, order: Order, progress: Progress, mark_us: int) -> None:
        """Last, so that no policy removes rows while others still come."""
        wanted = plan.lacking_policies(self._catalog(), found, self._clock.wall_us()) if order.with_policies else []
        progress.policies_kept = len(found.policies) - len(wanted) if order.with_policies else 0
        for command in wanted:
            try:
                (await self._propose.propose(command)).unwrap()
            except Conflict:  # Somebody set it meanwhile: that stands.
                progress.policies_kept += 1
        tokens = found.tokens if order.with_tokens else ()
        for _ in range(ACCESS_STEPS_MAX):
            step = access.next_step(
                self._catalog(), found.organizations, tokens, makes_teams=order.with_policies, mark_us=mark_us
            )
            if step is None:
                break
            (await self._propose.propose(step)).unwrap()
        progress.tokens_kept = sum(not access.is_restored(self._catalog(), each, mark_us=mark_us) for each in tokens)

    async def _install(self, drafts: Sequence[_Draft], order: Order) -> tuple[list[FileEntry], list[Corrupt]]:
        """The entries of those that are on the disk now: none if any is damaged and not skipped; and the damage."""
        damaged: list[Corrupt] = []

        async def write(part: Sequence[_Draft]) -> None:
            await self._workers.run(self._write_all, part, damaged)

        async def place(part: Sequence[_Draft]) -> None:
            await self._workers.run(self._place, part)

        await self._workers.run(self._disk.make_dirs, DRAFTS)
        try:
            await for_each(_parts(drafts), write)
            damaged.sort(key=lambda problem: problem.path)
            bad = {problem.path for problem in damaged}
            good = [each for each in drafts if each.file.path not in bad] if not damaged or order.skips_damaged else []
            await for_each(_parts(good), place)
        finally:
            with trio.CancelScope(shield=True), suppress(OSError):
                await self._workers.run(self._clear)
        return [each.entry for each in good], damaged

    # ------------------------------------------------------------------------------------------------ all of it blocks

    def _clear(self) -> None:
        for path in self._disk.walk(DRAFTS):
            self._disk.remove(path)

    def _write_all(self, drafts: Sequence[_Draft], damaged: list[Corrupt]) -> None:
        """Each from the vault. Those that are damaged are not there afterwards."""
        for each in drafts:
            try:
                self._write(each.draft, each.file)
            except Corrupt as problem:
                damaged.append(problem)
                self._disk.remove(each.draft)

    def _place(self, drafts: Sequence[_Draft]) -> None:
        """To the store, where there is one, and then to their places."""
        if self._shelf is not None:
            for each in drafts:
                self._shelf.put(each.entry.path, self._disk.map(each.draft), each.entry.sha256)
        self._disk.install([(each.draft, f"{DATA}/{each.entry.path}") for each in drafts])

    def _write(self, draft: str, file: FileEntry) -> None:
        """Raises Corrupt, by the name that the file had when the backup was taken."""
        self._disk.remove(draft)
        digest = hashlib.sha256()
        target = self._disk.open_draft(draft)
        try:
            for piece in pieces(self._vault, document.object_key(file.sha256)):
                digest.update(piece)
                target.append([piece])
            size = target.size
        except NotFound as error:
            raise Corrupt("it is missing in the backup", path=file.path, offset=0) from error
        finally:
            target.close()
        if size != file.size_bytes:
            raise Corrupt(f"it has {size} of its {file.size_bytes} bytes in the backup", path=file.path, offset=size)
        if digest.hexdigest() != file.sha256:
            raise Corrupt("its bytes in the backup are not those that were put there", path=file.path, offset=0)


def _parts(drafts: Sequence[_Draft]) -> list[Sequence[_Draft]]:
    """For as many workers as there are at once."""
    return [part for nth in range(AT_ONCE) if (part := drafts[nth::AT_ONCE])]
