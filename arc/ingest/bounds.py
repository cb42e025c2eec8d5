"""How far a request may grow beyond its own size, whatever its format.

Ragged input is padded with nulls, which a hostile request can drive far beyond its size (every row a column of its
own), and every measurement costs something however few rows it has. Both are bounded before the padding is made.
"""

from __future__ import annotations

from arc.errors import TooLarge

CELLS_FREE = 4_000_000
"""Cells (rows times columns) that any request may have, beside one for each of its bytes.

Every cell that holds something takes bytes of the body, so only padding can pass this.
"""

MEASUREMENTS_MAX = 10_000
"""Measurements of one request; each costs about a kilobyte however few rows it has."""


def cells_max(body_bytes: int) -> int:
    """Cells that a body of this size may become."""
    return body_bytes + CELLS_FREE


def count_cells(rows: int, columns: int) -> int:
    """Cells of a batch; its time counts as a column."""
    return rows * (columns + 1)


def check_cells(cells: int, limit: int) -> None:
    """Raise TooLarge when rows times columns, over all measurements, pass the limit."""
    if cells > limit:
        raise TooLarge("too many different columns for its rows: padded with nulls, the request would grow many times")


def check_measurements(count: int) -> None:
    """Raise TooLarge when a request has too many measurements."""
    if count > MEASUREMENTS_MAX:
        raise TooLarge(f"a request has at most {MEASUREMENTS_MAX} measurements")
