"""What a node finds in its folder when it starts, and what it makes of it: see `storage` for what lies there.

In order: the hard state, the newest snapshot that is whole, the log. Where the log or a snapshot has lost something
that the leader can give back, the rest is put aside and the node is marked (`damage`); where nobody can, it is Corrupt.
Every step may be the last before a power cut, and the next start takes it up from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from arc.errors import Corrupt
from arc.journal import Journal, salvage
from arc.journal.inspection import Walk, walk
from arc.ports import Disk
from arc.raft.damage import Mark, beyond_repair, read_mark, write_mark
from arc.raft.hardstate import NAME as HARD_STATE
from arc.raft.hardstate import HardStateFile
from arc.raft.owner import NOBODY, claim
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
    """Open or begin everything in the folder. Raises Corrupt, InvalidRequest (another's), Overloaded, OSError."""
    if me != NOBODY:
        claim(disk, folder, me)
    path, findings = f"{folder}/log", list[str]()
    has_log = any(name.endswith(".log") for name in disk.list_dir(path))
    hard = HardStateFile.open(disk, folder)
    snapshots = SnapshotStore(disk, f"{folder}/snapshots", founders=founders)
    if hard is None and not has_log and not snapshots.indexes():
        hard = HardStateFile.create(disk, folder, HardState())
    newest, broken = snapshots.survey()
    meta = newest.meta if newest is not None else SnapshotMeta(0, 0, founders) if founders.voters else None
    base = meta.index if meta is not None else 0
    log = _Log(disk, folder, segment_bytes, base)
    problem = log.find_hole(may_be_new=hard is None or hard.state.term == 0)
    if problem is not None:
        known = log.contents.configurations or [(base, meta.configuration if meta is not None else founders)]
        is_alone = known[-1][1].voters == (me,) and not known[-1][1].outgoing
        if is_alone and log.mark is None:
            raise beyond_repair(broken[0] if broken else problem)
        log.save_the_rest(problem)
        findings.append(f"{problem.message}; entries from {log.mark.keep_below if log.mark else 0} on are not trusted")
    journal = log.open()
    if hard is None:
        hard = _take_over(disk, folder, log.contents, base)
    for each in broken:
        findings.append(f"a damaged snapshot was put aside: {each.message}")
    snapshots.settle(newest)
    if hard.finding:
        findings.append(hard.finding)
    if journal.dropped_tail is not None:
        reason = journal.dropped_tail.reason
        findings.append(f"the end of the log was in flight at the last crash and is left out: {reason}")
    if meta is not None and base and not _follows(journal, log.contents, meta):
        # The power went between an installed snapshot and the cut of the log (Raft paper, 7).
        findings.append(f"the log up to {journal.next_index - 1} is superseded by the snapshot of {base}")
        log.restart(journal)
    if log.mark is not None:
        findings.append(f"entries that were acknowledged are lost ({log.mark.reason}); the leader has to repair them")
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
        runs=_clipped(log.contents.runs, journal.first_index, first_held),
        configurations=tuple(each for each in log.contents.configurations if each[0] < first_held),
        is_damaged=log.mark is not None,
    )
    return Opened(journal, hard, snapshots, stored, tuple(findings))


class _Log:
    """The log on its way from what lies there to what can be trusted. ``base`` is what snapshots cover."""

    def __init__(self, disk: Disk, folder: str, segment_bytes: int, base: int) -> None:
        self._disk = disk
        self._folder = folder
        self._path = f"{folder}/log"
        self._segment_bytes = segment_bytes
        self._base = base
        self._remains: salvage.Remains | None = None
        self._found: Walk | None = None
        self.mark = read_mark(disk, folder)
        self.contents = LogContents(self._path)

    def find_hole(self, *, may_be_new: bool) -> Corrupt | None:
        """What is missing between the snapshot and the end of the log; changes nothing."""
        found = self._found = walk(self._disk, self._path, self.contents.add)
        if found.hole is not None:
            self._remains = salvage.survey(self._disk, self._path)
            return found.hole
        if not found.segments:
            is_lost = not may_be_new and (self.mark is None or self.mark.keep_below is None)
            return Corrupt("all segments of the log are missing", path=self._path, offset=0) if is_lost else None
        if found.index.first_index > self._base + 1:
            last = found.index.first_index - 1
            reason = f"entries {self._base + 1}..{last} are in no whole snapshot and no longer in the log"
            return Corrupt(reason, path=self._path, offset=0)
        return None

    def save_the_rest(self, problem: Corrupt) -> None:
        """Mark the node as damaged; put aside what cannot be trusted."""
        keep_below = 0 if self._remains is None else self._remains.keep_below
        if self.mark is not None and self.mark.keep_below is not None:
            keep_below = min(keep_below, self.mark.keep_below)
        if keep_below <= self._base + 1:
            keep_below = 0  # What is left is in the snapshot.
        self.mark = Mark(problem.message, keep_below)
        write_mark(self._disk, self._folder, self.mark)
        if self._remains is not None and keep_below:
            salvage.put_aside(self._disk, self._remains)

    def open(self) -> Journal:
        """The log as it can be trusted."""
        keep_below = self.mark.keep_below if self.mark is not None else None
        if keep_below == 0:
            salvage.put_all_aside(self._disk, self._path)
        if keep_below is not None or self._found is None:
            self.contents = LogContents(self._path)
            self._found = walk(self._disk, self._path, self.contents.add)
        journal = Journal.open(
            self._disk, self._path, segment_bytes=self._segment_bytes, has_reserve=True, found=self._found
        )
        if self.mark is not None and keep_below is not None:
            if keep_below < journal.next_index and keep_below:
                journal.cut(keep_below)
                self.contents.cut(keep_below)
            self.mark = Mark(self.mark.reason)
            write_mark(self._disk, self._folder, self.mark)
        return journal

    def restart(self, journal: Journal) -> None:
        """Nothing of the log counts any more beside the snapshot."""
        journal.restart(self._base + 1)
        journal.release(0)
        self.contents = LogContents(self._path)


def _take_over(disk: Disk, folder: str, contents: LogContents, base: int) -> HardStateFile:
    """A folder of the time when a cluster of one voted for nobody: its log tells the term. Raises Corrupt."""
    segments = walk(disk, f"{folder}/log").segments
    if not segments or any(each.previous is not None for each in segments):
        reason = "term and vote are missing beside a log, and this node must not forget whom it voted for"
        raise Corrupt(reason, path=f"{folder}/{HARD_STATE}", offset=0)
    term = contents.runs[-1][1] if contents.runs else 1 if base else 0
    return HardStateFile.create(disk, folder, HardState(term))


def _follows(journal: Journal, contents: LogContents, meta: SnapshotMeta) -> bool:
    """Whether the log goes on from the snapshot, or leads to it."""
    return journal.next_index > meta.index and contents.term(meta.index) in (None, meta.term)


def _clipped(runs: Sequence[tuple[int, int]], first: int, limit: int) -> tuple[tuple[int, int], ...]:
    """The runs of the entries first <= i < limit."""
    found = [(max(start, first), term) for start, term in runs if start < limit]
    before = sum(start <= first for start, _ in runs if start < limit)
    return tuple(found[max(before - 1, 0) :]) if first < limit else ()
