"""Consensus. So far its storage: the log, the hard state and the snapshots, which a cluster of one uses as well."""

from arc.raft.snapshots import Snapshot, SnapshotStore
from arc.raft.storage import Entry, EntryKind, HardState, RaftLog

__all__ = ["Entry", "EntryKind", "HardState", "RaftLog", "Snapshot", "SnapshotStore"]
