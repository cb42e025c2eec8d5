"""Planted bugs: what shows that the simulator would notice if the core were wrong."""
