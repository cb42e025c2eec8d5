"""A whole node. READ FIRST: `life` (from birth to orderly end), then `house` (every part, handed its
neighbours, with `rows` and `neighbourhood` below it)."""

from arc.node.life import Started, run_node
from arc.node.statistics import NodeStatistics

__all__ = ["NodeStatistics", "Started", "run_node"]
