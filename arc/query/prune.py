"""Which range of time a query can possibly need of each of its tables (placeholder: no bound)."""

from __future__ import annotations

from arc.query.tree import Tree

Range = tuple[int | None, int | None]


def ranges(node: Tree, now_us: int) -> dict[int, Range]:
    """No table is bounded yet."""
    return {}
