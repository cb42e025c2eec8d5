"""An append-only log of numbered records on preallocated files: what the WAL and the Raft log are both made of.

One format, one rule for torn tails, one place that can be wrong. `frames` is the pure format, `segments` puts it on a
disk.
"""

from arc.journal.frames import Damage
from arc.journal.segments import Inspection, Journal, SegmentInfo, inspect, look, verify

__all__ = ["Damage", "Inspection", "Journal", "SegmentInfo", "inspect", "look", "verify"]
