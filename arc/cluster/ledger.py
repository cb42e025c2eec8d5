"""The catalog on the disk of a cluster of one: a snapshot, and the log of the commands accepted since.

Every function blocks and runs on a worker; none may run beside another, but for `save_snapshot`, which touches only its
own files. A command that would be refused, or would change nothing, is answered and not logged (P-31): it is judged
here against the version that all commands before it lead to, which is the same judgement as when it is applied, for
applying is deterministic.

Consensus will replace this file: what is judged and logged here will be proposed to it.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass, replace

from arc.catalog import codec, fsm, snapshot
from arc.catalog.commands import Command, RegisterFiles, ReplaceFiles
from arc.catalog.facts import Catalog
from arc.catalog.results import Result
from arc.errors import Corrupt, DiskFailed
from arc.ports import Disk
from arc.raft import Entry, EntryKind, RaftLog, SnapshotStore
from arc.telemetry import Log

TERM = 1
"""Nobody else ever asks for votes here. The first election of a real cluster will find a log of term 1."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one command: its result, and whether it is in the log and must now be applied."""

    command: Command
    result: Result
    logged: bool


class Ledger:
    """Opened by `open_ledger`; ``entries_since_snapshot`` says how long a restart would replay."""

    def __init__(self, log: RaftLog, snapshots: SnapshotStore, snapshot_index: int, telemetry: Log) -> None:
        self._log = log
        self._snapshots = snapshots
        self._telemetry = telemetry
        self.snapshot_index = snapshot_index

    def __repr__(self) -> str:
        return f"<Ledger {self._log!r} snapshot={self.snapshot_index}>"

    @property
    def first_index(self) -> int:
        """Oldest entry of the log."""
        return self._log.first_index

    @property
    def next_index(self) -> int:
        """Index of the next entry."""
        return self._log.next_index

    @property
    def entries_since_snapshot(self) -> int:
        """Entries that the newest snapshot does not cover."""
        return self.next_index - 1 - self.snapshot_index

    def commit(self, catalog: Catalog, commands: Sequence[Command]) -> list[Decision]:
        """Judge the commands one after another and make the accepted ones durable, all in one write.

        Raises DiskFailed (nobody knows what is stored) or Overloaded (the disk is full, nothing is stored).
        """
        assert catalog.index + 1 == self.next_index, (catalog.index, self.next_index)
        decisions: list[Decision] = []
        entries: list[Entry] = []
        version = catalog
        for command in commands:
            after, applied = fsm.apply(version, version.index + 1, command)
            if applied.result.ok and not after.same_facts(version):
                entry = Entry(index=after.index, term=TERM, kind=EntryKind.COMMAND, payload=codec.encode(command))
                entries.append(entry)
                version = after
                decisions.append(Decision(command, applied.result, logged=True))
            else:
                decisions.append(Decision(command, _unlogged(applied.result, version.index), logged=False))
        if entries:
            self._log.append(entries)
        return decisions

    def save_snapshot(self, catalog: Catalog) -> bool:
        """Write a snapshot of this version.

        False when the disk is full: the log goes on. Raises DiskFailed otherwise.
        """
        try:
            saved = self._snapshots.save(catalog.index, TERM, snapshot.encode(catalog))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFailed(f"writing a snapshot of the catalog failed: {error}") from error
            self._telemetry.warning("catalog_snapshot_postponed", index=catalog.index, reason=str(error))
            return False
        self.snapshot_index = catalog.index
        self._telemetry.info("catalog_snapshot_saved", index=catalog.index, size_bytes=saved.size_bytes)
        return True

    def compact(self) -> None:
        """Give up entries that both kept snapshots cover, so that the older one still leads to now.

        Raises DiskFailed.
        """
        kept = self._snapshots.indexes()
        if len(kept) > 1:
            self._log.compact(kept[0] + 1)

    def leave(self, catalog: Catalog) -> None:
        """End in order: a snapshot if anything is new, so that the next start need not replay. Raises DiskFailed."""
        if self.entries_since_snapshot and self.save_snapshot(catalog):
            self.compact()
        self._log.close()


def open_ledger(disk: Disk, folder: str, segment_bytes: int, telemetry: Log) -> tuple[Ledger, Catalog]:
    """Read the newest snapshot and apply what the log has after it.

    Raises Corrupt where stored bytes are damaged or missing, DiskFailed when the disk refuses, Overloaded when it is
    full.
    """
    snapshots = SnapshotStore(disk, f"{folder}/snapshots")
    try:
        disk.make_dirs(f"{folder}/snapshots")
        machine = fsm.ClusterFSM(_restore(snapshots, folder))
        snapshots.tidy()
        base = machine.catalog.index
        log = RaftLog.open(disk, folder, first_index=base + 1, segment_bytes=segment_bytes)
        if log.first_index > base + 1:
            reason = f"entries {base + 1}..{log.first_index - 1} are in no snapshot and no longer in the log"
            raise Corrupt(reason, path=f"{folder}/log", offset=0)
        for entry in log.read(base + 1):
            _replay(machine, entry, folder)
    except OSError as error:
        raise DiskFailed(f"opening the catalog in {folder} failed: {error}") from error
    for damage in snapshots.damaged:
        telemetry.error("catalog_snapshot_damaged", reason=damage.message, used_instead=base)
    if log.dropped_tail is not None:
        telemetry.warning("catalog_log_tail_dropped", reason=log.dropped_tail)
    telemetry.info("catalog_opened", index=machine.catalog.index, snapshot=base, replayed=machine.catalog.index - base)
    return Ledger(log, snapshots, base, telemetry), machine.catalog


def weight(command: Command) -> int:
    """Roughly what a command costs, in files: batches are bounded by it."""
    match command:
        case RegisterFiles():
            return 1 + len(command.files)
        case ReplaceFiles():
            return 1 + len(command.add) + len(command.remove)
    return 1


def _restore(snapshots: SnapshotStore, folder: str) -> Catalog:
    found = snapshots.load()
    if found is None:
        return Catalog()
    try:
        catalog = snapshot.decode(snapshots.chunks(found))
    except ValueError as error:
        raise Corrupt(str(error), path=f"{folder}/snapshots/{found.parts[0].name}", offset=0) from error
    assert catalog.index == found.index, (catalog.index, found.index)
    return catalog


def _replay(machine: fsm.ClusterFSM, entry: Entry, folder: str) -> None:
    if entry.kind is not EntryKind.COMMAND:
        machine.skip(entry.index)
        return
    try:
        command = codec.decode(entry.payload)
    except ValueError as error:
        raise Corrupt(f"entry {entry.index}: {error}", path=f"{folder}/log", offset=0) from error
    machine.apply(entry.index, command)


def _unlogged(result: Result, index: int) -> Result:
    """A refusal has no place in the log; what stands already is true since the version it was judged against."""
    if not result.ok:
        return replace(result, index=0)
    return result if result.index <= index else replace(result, index=index)
