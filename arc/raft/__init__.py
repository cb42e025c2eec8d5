"""Consensus: a pure core (`core`: read it first), and what it keeps on disk (`storage`, `snapshots`)."""

from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.storage import RaftStorage

__all__ = ["Config", "RaftCore", "RaftStorage"]
