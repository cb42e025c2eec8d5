"""The duties of a node: to hold the writer lease or to follow who holds it, and to compact while it is asked to. READ
FIRST: `writer`.
"""

from arc.duties.compactor import CompactorDuty
from arc.duties.standing import ReplicationStatistics
from arc.duties.writer import WriterDuty

__all__ = ["CompactorDuty", "ReplicationStatistics", "WriterDuty"]
