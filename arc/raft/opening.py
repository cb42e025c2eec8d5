"""What a node finds in its folder when it starts, and what it makes of it: see `storage` for what lies there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from arc.errors import Corrupt
from arc.journal import Journal
from arc.ports import Disk
from arc.raft.hardstate import HardStateFile
from arc.raft.records import LogContents, decode_entry
from arc.raft.snapshots import SnapshotStore
from arc.raft.types import Configuration, HardState, Peer, SnapshotMeta, Stored

TAIL_BYTES = 4 << 20
"""How much of the end of the log is handed to the core at the start; it reads the rest when it needs it."""


class Opened(NamedTuple):
    """All that `RaftStorage` is made of."""

    journal: Journal
    hard: HardStateFile
    snapshots: SnapshotStore
    stored: Stored
    findings: tuple[str, ...]


def open_folder(disk: Disk, folder: str, me: Peer, founders: Configuration, segment_bytes: int) -> Opened:
    """Open or begin everything in the folder. Raises Corrupt, Overloaded, OSError."""
    findings: list[str] = []
    snapshots = SnapshotStore(disk, f"{folder}/snapshots", founders=founders)
    newest = snapshots.load()
    snapshots.sweep()
    findings.extend(f"a damaged snapshot was put aside: {damage.message}" for damage in snapshots.damaged)
    meta = newest.meta if newest is not None else SnapshotMeta(0, 0, founders) if founders.voters else None
    base = meta.index if meta is not None else 0
    hard = HardStateFile.open(disk, folder) or HardStateFile.create(disk, folder, HardState())
    if hard.finding:
        findings.append(hard.finding)
    path = f"{folder}/log"
    contents = LogContents(path)
    journal = Journal.open(disk, path, segment_bytes=segment_bytes, has_reserve=True, visit=contents.add)
    if journal.dropped_tail is not None:
        reason = journal.dropped_tail.reason
        findings.append(f"the end of the log was in flight at the last crash and is left out: {reason}")
    if journal.first_index > base + 1:
        reason = f"entries {base + 1}..{journal.first_index - 1} are in no snapshot and no longer in the log"
        raise Corrupt(reason, path=path, offset=0)
    if meta is not None and base and (journal.next_index <= base or contents.term(base) not in (None, meta.term)):
        # The power went between an installed snapshot and the cut of the log (Raft paper, 7).
        findings.append(f"the log up to {journal.next_index - 1} is superseded by the snapshot of {base}")
        journal.restart(base + 1)
        journal.release(0)
        contents = LogContents(path)
    if not journal.ensure_room():
        findings.append("the disk has no room for a spare segment of the log: it counts as full")
    tail = journal.read(journal.start_of_tail(TAIL_BYTES))
    entries = tuple(decode_entry(index, record, path) for index, record in tail)
    first_held = entries[0].index if entries else journal.next_index
    stored = Stored(
        hard_state=hard.state,
        snapshot=meta,
        entries=entries,
        applied=base,
        runs=_clipped(contents.runs, journal.first_index, first_held),
        configurations=tuple(each for each in contents.configurations if each[0] < first_held),
    )
    return Opened(journal, hard, snapshots, stored, tuple(findings))


def _clipped(runs: Sequence[tuple[int, int]], first: int, limit: int) -> tuple[tuple[int, int], ...]:
    """The runs of the entries first <= i < limit."""
    found = [(max(start, first), term) for start, term in runs if start < limit]
    last_before = max((place for place, (start, _) in enumerate(found) if start <= first), default=0)
    return tuple(found[last_before:]) if first < limit else ()
