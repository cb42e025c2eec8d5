"""Planted bugs of whole nodes: rows from their 204 through failovers, flushes and lost disks to the last query.

Each is an exact replacement in files of ``arc/``, planted into a private copy of the project (`tested`). Most must be
noticed by a story of whole nodes that provokes it, within a few seeds, by the property that names it; where a story is
a poor instrument, because it would need a rare meeting of events, the tests of that code must fail.
"""

from __future__ import annotations

from simulations.mutants.lifecycle import COMPACTION
from simulations.mutants.rows_files import FILES, FLUSHING, KEYS
from simulations.mutants.rows_life import ACCESS, AGEING, BACKUP, CONTINUOUS, DELETION, ROT, TITLES
from simulations.mutants.rows_stream import ACKNOWLEDGING, CALLS, IN_SYNC, LEASES, STREAM

ROWS = (
    *(*ACKNOWLEDGING, *IN_SYNC, *STREAM, *LEASES, *FLUSHING, *FILES, *KEYS),
    *(*COMPACTION, *AGEING, *DELETION, *CONTINUOUS, *BACKUP, *ACCESS, *ROT, *TITLES, *CALLS),
)

EXPLAINED: dict[str, str] = {
    "R-09": "lived at first: the intake is closed, too, when a lease runs out, so no test saw that what is inside is "
    "not acknowledged either. It has one now.",
    "R-12": "lived at first: a random test of the watermark met the case too seldom. It has one of its own now.",
    "R-18": "a story is no instrument: the number of a session, drawn anew each time, guards the same. A receiver has "
    "a test of its own now that is sent each of node, epoch and session wrong.",
    "R-24": "needs all of its edits: the longest log is chosen first and is in sync, the choice leaves out who is not, "
    "and the catalog refuses him. R-25 and R-26 are single layers, seen by their tests.",
    "R-28": "needs both: without the look at the copy alone it lived, since who is in sync has all that was answered.",
    "R-31": "needs both edits: the catalog refuses files below a flush mark. So does R-32, whose files come first.",
    "R-34": "needs all of it: a query asks for itself whether it can read a file, and is refused rather than short.",
    "R-49": "had no test of its own: a path that leaves the manifest and comes back is rare: names are given once.",
    "R-85": "lived at first: the bad copies of its test had another length, which is looked at before the hash. One is "
    "of the same length now, and can be read.",
    "R-88": "is one layer: the catalog lets only one of two executions of a window count, whoever began them (R-87).",
    "R-89": "lived at first: results replace each other, so no row is doubled; only the history shows the work that "
    "was done twice. It has a test now.",
}
"""What was learnt from rows that lived at first, or that only several edits together make a bug."""

__all__ = ["EXPLAINED", "ROWS"]
