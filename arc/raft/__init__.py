"""Consensus: a pure core (`core`: read it first), and what it keeps on disk (`storage`, `snapshots`)."""

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.oldlog import Entry, EntryKind, HardState, RaftLog
from arc.raft.snapshots import Snapshot, SnapshotStore

__all__ = ["Config", "Entry", "EntryKind", "HardState", "RaftCore", "RaftLog", "Snapshot", "SnapshotStore"]
