"""Outputs between draft and catalog: with a receipt first, then in the store, then in their place on this disk; and the
way back.

What goes back is left to the keeper of files, since a query may read it: an output of a job that was swapped and
replaced again is in nobody's way.
"""

from __future__ import annotations

from itertools import chain

from arc.catalog.facts import Catalog
from arc.compaction.ports import Files
from arc.compaction.receipt import FOLDER, RECEIPTS, WORK, Receipt, read_receipts, receipt_path, write_receipt
from arc.errors import Unavailable
from arc.ports import Ports
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.storage.shelf import Shelf
from arc.telemetry import Log


class Yard:
    """``shelf`` is the store that all nodes share, None without. Everything raises OSError of this disk."""

    def __init__(self, ports: Ports, files: Files, shelf: Shelf | None, log: Log) -> None:
        self._disk = ports.disk
        self._workers = ports.workers
        self._files = files
        self._shelf = shelf
        self._log = log

    async def install(self, receipt: Receipt) -> None:
        """The outputs are durable under their paths on return. Raises Unavailable (the store)."""
        await self._workers.run(self._install, receipt)
        for entry in receipt.outputs:
            self._files.came(entry.path)
            if self._shelf is not None:
                self._shelf.note(entry.path)

    async def find(self) -> tuple[list[Receipt], list[str]]:
        """What is left of jobs that did not end: receipts, and what is wrong with others. Drafts are removed."""
        return await self._workers.run(self._find)

    def is_whole(self, entry: FileEntry) -> bool:
        """Whether an output was installed: then it is there to its last byte."""
        path = f"{DATA}/{entry.path}"
        return self._disk.exists(path) and self._disk.size(path) == entry.size_bytes

    async def discard(self, job: int, catalog: Catalog) -> None:
        """Outputs of a job that the catalog does not have, and will never: gone, once nobody reads them."""
        receipts, _ = await self._workers.run(read_receipts, self._disk)
        outputs = chain.from_iterable(receipt.outputs for receipt in receipts if receipt.job == job)
        gone = [entry for entry in outputs if catalog.file(entry.path) is None]
        if not gone:
            return
        self._files.left([entry.path for entry in gone])
        if self._shelf is None:
            return
        for entry in gone:
            self._shelf.forget(entry.path)
        try:
            await self._workers.run(self._shelf.remove, [(entry.path, entry.sha256) for entry in gone])
        except Unavailable as problem:
            self._log.warning("outputs_stay_in_the_store", reason=problem.message, next_step="collected as leftovers")

    async def clear(self, job: int) -> None:
        """Forget the job that ran: its drafts and its receipt."""
        await self._workers.run(self._clear, job)

    # ------------------------------------------------------------------------------------------------ all of it blocks

    def _install(self, receipt: Receipt) -> None:
        write_receipt(self._disk, receipt)
        for entry, draft in zip(receipt.outputs, receipt.drafts, strict=True):
            if self._shelf is not None:
                self._shelf.put(entry.path, self._disk.map(draft), entry.sha256)
        pairs = zip(receipt.drafts, receipt.outputs, strict=True)
        self._disk.install([(draft, f"{DATA}/{entry.path}") for draft, entry in pairs])

    def _find(self) -> tuple[list[Receipt], list[str]]:
        for path in self._disk.walk(FOLDER):
            if not path.startswith(f"{RECEIPTS}/"):
                self._disk.remove(path)
        return read_receipts(self._disk)

    def _clear(self, job: int) -> None:
        for path in (*self._disk.walk(WORK), receipt_path(job)):
            self._disk.remove(path)
