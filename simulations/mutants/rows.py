"""Planted bugs of whole nodes: rows from their 204 through failovers, flushes and lost disks to the last query.

Each is an exact replacement in files of ``arc/``, planted into a private copy of the project (`tested`). Most must be
noticed by a story of whole nodes that provokes it, within a few seeds, by the property that names it; where a story is
a poor instrument, because it would need a rare meeting of events, the tests of that code must fail.
"""

from __future__ import annotations

from simulations.mutants.rows_files import FILES, FLUSHING, KEYS
from simulations.mutants.rows_stream import ACKNOWLEDGING, IN_SYNC, LEASES, STREAM

ROWS = (*ACKNOWLEDGING, *IN_SYNC, *STREAM, *LEASES, *FLUSHING, *FILES, *KEYS)

EXPLAINED: dict[str, str] = {}
"""What was learnt from rows that lived at first, or that only several edits together make a bug."""

__all__ = ["EXPLAINED", "ROWS"]
