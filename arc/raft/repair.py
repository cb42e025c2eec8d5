"""Looking at a stopped node's folder, and the last resort: making it the only voter of its cluster.

Consensus cannot go on when a majority of its voters is gone for good. Whoever says so by `force_alone` gives up its
promise: what was agreed on by others alone is lost, and what this node holds counts from now on, whether it was agreed
on or not. The record of it is an entry in the log, in a term of its own, so no earlier leader's can pass for it.

Everything blocks, and never runs while a node holds the folder: who calls this holds its lock.
"""

from __future__ import annotations

from dataclasses import dataclass

from arc.errors import Corrupt, InvalidRequest, NotFound, Overloaded
from arc.journal.inspection import walk
from arc.ports import Disk
from arc.raft import hardstate
from arc.raft.damage import read_mark
from arc.raft.effects import Write
from arc.raft.owner import NOBODY, claim
from arc.raft.records import LogContents
from arc.raft.snapshots import SnapshotStore
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, HardState, Peer, SnapshotMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a folder holds: entries ``first_index`` <= i <= ``last_index`` (none if that is empty), the newest whole
    snapshot, the configuration in force and where it stands. The one of founders is on no disk: then it is empty.

    ``problems`` are sentences about what is damaged; ``is_marked`` says that a start has noticed and waits for repair.
    """

    hard_state: HardState | None
    snapshot: SnapshotMeta | None
    first_index: int
    last_index: int
    last_term: int
    configuration: Configuration
    configuration_index: int
    problems: tuple[str, ...]
    is_marked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedRecovery:
    """What was done: ``entry_index`` of ``term`` makes ``me`` the sole voter.

    Agreed on for certain was only what is in the snapshot, up to ``agreed_index``. Entries above it up to
    ``held_index`` count from now on; agreed ones above that, if there were any, are lost.
    """

    me: Peer
    entry_index: int
    term: int
    agreed_index: int
    held_index: int
    held_term: int
    former: Configuration
    findings: tuple[str, ...]


def examine(disk: Disk, folder: str) -> Examination:
    """Read everything in the folder and change nothing. Raises NotFound when it never was one, OSError."""
    problems: list[str] = []
    contents, state = LogContents(f"{folder}/log"), None
    try:
        state = _read_hard_state(disk, folder)
    except Corrupt as corrupt:
        problems.append(corrupt.message)
    newest, broken = SnapshotStore(disk, f"{folder}/snapshots").survey()
    problems.extend(each.message for each in broken)
    found = walk(disk, f"{folder}/log", contents.add)
    if state is None and not problems and not found.segments and newest is None:
        raise NotFound(f"there is no state of consensus in {folder}")
    if found.hole is not None:
        problems.append(found.hole.message)
    mark = read_mark(disk, folder)
    if mark is not None:
        problems.append(f"waits for repair: {mark.reason}")
    meta = newest.meta if newest is not None else None
    base = meta.index if meta is not None else 0
    if found.segments and found.index.first_index > base + 1:
        problems.append(
            f"entries {base + 1}..{found.index.first_index - 1} are in no snapshot and no longer in the log"
        )
    where = [(meta.configuration_index, meta.configuration)] if meta is not None else [(0, Configuration())]
    where += [each for each in contents.configurations if each[0] > where[0][0]]
    last = max(found.index.next_index - 1, base)
    last_term = contents.term(last) or (meta.term if meta is not None else 0)
    return Examination(
        hard_state=state,
        snapshot=meta,
        first_index=found.index.first_index,
        last_index=last,
        last_term=last_term,
        configuration=where[-1][1],
        configuration_index=where[-1][0],
        problems=tuple(problems),
        is_marked=mark is not None,
    )


def force_alone(disk: Disk, folder: str, me: Peer) -> ForcedRecovery:
    """Make ``me``, whose folder this is, the sole voter after the last entry it holds; to be done on one node only.

    Damage is put aside as at a start, and what is left counts. Raises NotFound, InvalidRequest when ``me`` is no member
    of the configuration, Corrupt when term and vote cannot be read, Overloaded when the disk is full, DiskFailed.
    """
    before = examine(disk, folder)
    former = before.configuration
    members = {*former.voters, *former.outgoing, *former.learners, *former.learners_next}
    if members and me not in members:
        raise InvalidRequest(f"{me} is no member: in {folder} the configuration is {former!r}")
    claim(disk, folder, me)
    storage = RaftStorage.open(disk, folder, me=NOBODY, founders=Configuration())
    stored, held = storage.stored, storage.statistics().next_index - 1
    base = stored.snapshot
    held_term = stored.entries[-1].term if stored.entries else base.term if base is not None else 0
    term = max(stored.hard_state.term, held_term) + 1
    entry = Entry(held + 1, term, EntryKind.MEMBERSHIP, Configuration(voters=(me,)))
    refused = storage.write([Write(1, HardState(term, me), None, (entry,))])
    if refused is not None:
        raise Overloaded("the disk has no room for the entry that makes this node the sole voter", code="disk_full")
    storage.repaired()
    storage.close()
    return ForcedRecovery(
        me=me,
        entry_index=entry.index,
        term=term,
        agreed_index=base.index if base is not None else 0,
        held_index=held,
        held_term=held_term,
        former=former,
        findings=(*before.problems, *storage.findings),
    )


def _read_hard_state(disk: Disk, folder: str) -> HardState | None:
    path, former = f"{folder}/{hardstate.NAME}", f"{folder}/{hardstate.FORMER}"
    if disk.exists(path):
        return hardstate.decode(disk.read(path), path)[1]
    return hardstate.read_former(disk, former) if disk.exists(former) else None
