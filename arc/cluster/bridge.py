"""The door for what compaction made: outputs in, sources out, one entry of the log for one manifest of a job.

Everything goes under the token of the compactor lease, which the catalog checks (P-22): what a compactor made that was
replaced meanwhile is refused, and changes nothing. A swap happens whole or not at all, so a query never sees a row
twice or not at all (DURABILITY 8). Deleting bytes is somebody else's matter, and comes later.

A job that could not be told its outcome asks again with the same files: what stands is answered as done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from arc.catalog.commands import COMPACTOR, ReplaceFiles
from arc.catalog.facts import Catalog
from arc.catalog.values import DeleteSource
from arc.cluster.registrar import Propose
from arc.errors import ArcError, Conflict, NotCoordinator
from arc.ids import Epoch, NodeId
from arc.storage.files import FileEntry
from arc.telemetry import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeStatistics:
    """Calls, what they came to, and files moved. ``not_leader_total`` will be asked again by the job."""

    register_calls_total: int
    delete_calls_total: int
    batch_calls_total: int
    entries_total: int
    standing_total: int
    not_leader_total: int
    errors_total: int


class CompactionBridge:
    """Swaps files under one grant of the compactor lease, for the node that holds it."""

    def __init__(
        self, propose: Propose, catalog: Callable[[], Catalog], epoch: Epoch, *, node: NodeId, log: Log
    ) -> None:
        self._propose = propose
        self._catalog = catalog
        self._epoch = epoch
        self._node = node
        self._log = log.bind(component="compaction_bridge")
        self._registers = self._deletes = self._batches = 0
        self._entries = self._standing = self._not_leader = self._errors = 0

    def __repr__(self) -> str:
        return f"<CompactionBridge of {self._node} epoch={self._epoch} entries={self._entries}>"

    async def register_compacted_file(self, file: FileEntry) -> None:
        """Add an output. Raises as `batch_file_ops`."""
        self._registers += 1
        await self._swap((file,), ())

    async def delete_compacted_source(self, path: str, reason: str) -> None:
        """Take a source out; one that is gone already is fine. Raises as `batch_file_ops`."""
        self._deletes += 1
        if self._catalog().file(path) is not None:
            await self._swap((), (DeleteSource(path=path, reason=reason),))

    async def batch_file_ops(
        self, registers: Sequence[FileEntry], deletes: Sequence[DeleteSource], holders: Sequence[NodeId] = ()
    ) -> None:
        """Outputs in and sources out, in one entry; nothing asked for is no entry. ``holders`` have all outputs.

        Raises NotCoordinator (nobody leads, or who does cannot be reached: nothing happened, ask later), Unavailable,
        Overloaded, OutcomeUnknown (ask again with the same: what stands is done), Conflict (the lease has another
        epoch, or a source is gone that is not replaced by these outputs: the job is void).
        """
        self._batches += 1
        await self._swap(registers, deletes, holders)

    def statistics(self) -> BridgeStatistics:
        """Numbers for status and metrics."""
        return BridgeStatistics(
            register_calls_total=self._registers,
            delete_calls_total=self._deletes,
            batch_calls_total=self._batches,
            entries_total=self._entries,
            standing_total=self._standing,
            not_leader_total=self._not_leader,
            errors_total=self._errors,
        )

    async def _swap(
        self, registers: Sequence[FileEntry], deletes: Sequence[DeleteSource], holders: Sequence[NodeId] = ()
    ) -> None:
        if not registers and not deletes:
            return
        outputs = tuple(replace(file, origin=self._node) for file in registers)
        if stands(self._catalog(), outputs, deletes):
            self._standing += 1
            return
        try:
            command = ReplaceFiles(
                remove=sources(self._catalog(), deletes),
                add=outputs,
                lease=COMPACTOR,
                epoch=self._epoch,
                holders=tuple(holders),
            )
            (await self._propose.propose(command)).unwrap()
        except NotCoordinator:
            self._not_leader += 1
            raise
        except Conflict:
            if stands(self._catalog(), outputs, deletes):  # An attempt whose answer was lost went before this one.
                self._standing += 1
                return
            self._errors += 1
            raise
        except ArcError:
            self._errors += 1
            raise
        self._entries += 1
        reasons = list(dict.fromkeys(each.reason for each in deletes))
        self._log.info("files_replaced", added=len(outputs), removed=len(deletes), reasons=reasons)


def stands(catalog: Catalog, outputs: Sequence[FileEntry], deletes: Sequence[DeleteSource]) -> bool:
    """Whether the catalog is already as asked for: every output there, with its content, and every source gone."""
    found = [catalog.file(file.path) for file in outputs]
    is_in = all(entry is not None and entry.sha256 == file.sha256 for entry, file in zip(found, outputs, strict=True))
    return is_in and all(catalog.file(each.path) is None for each in deletes)


def sources(catalog: Catalog, deletes: Sequence[DeleteSource]) -> tuple[tuple[str, str], ...]:
    """The sources by path and hash.

    Raises Conflict for one that is gone: somebody else removed it, and outputs made of it would bring its rows back.
    """
    found: list[tuple[str, str]] = []
    for each in deletes:
        entry = catalog.file(each.path)
        if entry is None:
            raise Conflict(f"{each.path} is not in the manifest any more", code="file_gone")
        found.append((entry.path, entry.sha256))
    return tuple(found)
