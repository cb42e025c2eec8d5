"""The duties of a node: to hold the writer lease or to follow who holds it. READ FIRST: `writer`."""

from arc.duties.standing import ReplicationStatistics
from arc.duties.writer import WriterDuty

__all__ = ["ReplicationStatistics", "WriterDuty"]
