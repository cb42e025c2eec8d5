"""A whole node. READ FIRST: `life` (from birth to orderly end), then `house` (every part, handed its neighbours)."""

from arc.node.house import NodeStatistics
from arc.node.life import Started, run_node

__all__ = ["NodeStatistics", "Started", "run_node"]
