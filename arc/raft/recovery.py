"""From what is on disk to a log and its configurations, once, when a node starts (T-03, D-07)."""

from __future__ import annotations

from arc.raft.log import Log
from arc.raft.membership import History
from arc.raft.types import Configuration, EntryKind, Stored


def recover(log: Log, history: History, stored: Stored) -> None:
    """Put what was found on disk after the snapshot into the log.

    If the crash came between the snapshot and the cut of the log, the log may end before the snapshot or disagree with
    it; then it is of no use (Raft paper, 7).
    """
    base = log.boundary_index
    entries = stored.entries
    first_held = stored.runs[0][0] if stored.runs else entries[0].index if entries else base + 1
    last_held = entries[-1].index if entries else _last_of_runs(stored)
    if last_held <= base:
        return
    assert first_held <= base + 1, (first_held, base)
    at_base = next((entry.term for entry in entries if entry.index == base), None)
    if at_base is None:
        at_base = next((term for first, term in reversed(stored.runs) if first <= base), log.boundary_term)
    if base and first_held <= base and at_base != log.boundary_term:
        return
    on_disk_last = (entries[0].index if entries else last_held + 1) - 1
    if on_disk_last > base:
        runs = [(max(first, base + 1), term) for first, term in stored.runs if first <= on_disk_last]
        started = [place for place, (first, _) in enumerate(runs) if first == base + 1]
        log.extend_on_disk(runs[started[-1] :], on_disk_last)
    for index, configuration in stored.configurations:
        if history.index < index <= on_disk_last and index > base:
            history.push(index, configuration)
    for entry in entries:
        if entry.index > base:
            log.append(entry)
            if entry.kind is EntryKind.MEMBERSHIP:
                assert isinstance(entry.payload, Configuration), entry
                history.push(entry.index, entry.payload)


def _last_of_runs(stored: Stored) -> int:
    """Without entries nothing says where the last run ends: the driver gives at least the last entry."""
    assert not stored.runs, "runs without the last entry"
    return stored.snapshot.index if stored.snapshot else 0
