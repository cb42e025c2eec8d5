"""Arc: a time-series database that keeps its word, on one node or on many.

Read `arc.node` first: it builds every part and hands each its neighbours. `ARCHITECTURE.md` has the map.
"""

__version__ = "0.1.0"
"""Version of the program, the one place it is written; packaging reads it from here."""

__all__ = ["__version__"]
