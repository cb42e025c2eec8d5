"""An append-only log of numbered records on preallocated files: what the WAL and the Raft log are both made of.

One format, one rule for torn tails, one place that can be wrong. `frames` is the pure format, `segments` puts it on a
disk, `inspection` looks at what is there.
"""

from arc.journal.frames import Damage
from arc.journal.inspection import Inspection, SegmentInfo, inspect, look, verify
from arc.journal.segments import Journal

__all__ = ["Damage", "Inspection", "Journal", "SegmentInfo", "inspect", "look", "verify"]
