"""What an operator may set about deleting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteConfig:
    """Section ``[delete]``: who may remove rows is a matter of permissions (admin), whether anybody may is this one's.

    The settings of the node that holds the writer lease count, and ``enabled`` also on the node that is asked.
    """

    enabled: bool = False
    """Whether rows can be deleted, and databases and measurements dropped, at all."""
    confirmation_threshold: int = 10_000
    """A delete of more rows than this, or of all, is refused unless it is confirmed."""
    max_rows_per_delete: int = 1_000_000
    """A delete of more rows than this is refused, confirmed or not: narrow it, or drop the measurement. 0: no limit."""

    def __post_init__(self) -> None:
        for name in ("confirmation_threshold", "max_rows_per_delete"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 or more")
