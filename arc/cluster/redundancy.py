"""Warnings about a cluster that works and would not survive much: who is missing, said once a minute at the most.

Each function is pure: it is given what it said before and returns what it will have said now. A configuration that is
right again resets the clocks, so that the next thing that goes wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeRole
from arc.catalog.values import COMPACTOR
from arc.cluster.views import NodeView

WARNING_SECONDS = 60.0
"""From one warning of a kind to the next."""

WRITERS_WANTED = 3
"""Readers are never promoted and vote only when writers are too few: two writers cannot lose one and go on."""

WRITERS_HOLD_SECONDS = 120.0
"""So long must writers be too few before it is told: a start and a rolling upgrade pass through it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompactorMemory:
    """When each of the two was told last (`Clock.now`). Two clocks: neither silences the other."""

    none_told: float | None = None
    many_told: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterMemory:
    """Since when writers have been too few, and when that was told last."""

    since: float | None = None
    told: float | None = None


def compactor_warning(
    views: Sequence[NodeView], catalog: Catalog, now: float, memory: CompactorMemory
) -> tuple[str | None, CompactorMemory]:
    """Whether nobody compacts, or more than one node is set up to."""
    dedicated = sorted(view.name for view in views if view.role is NodeRole.COMPACTOR and view.is_healthy)
    if len(dedicated) == 1 or (not dedicated and COMPACTOR in catalog.leases):
        return None, CompactorMemory()
    if not dedicated:
        if not _is_due(memory.none_told, now):
            return None, memory
        text = "nobody merges files: no healthy node of role compactor and nobody holds the compactor lease"
        return text, replace(memory, none_told=now)
    if not _is_due(memory.many_told, now):
        return None, memory
    text = f"{len(dedicated)} nodes are of role compactor, one at a time works: {', '.join(dedicated)}"
    return text, replace(memory, many_told=now)


def writer_warning(
    views: Sequence[NodeView], now: float, memory: WriterMemory, *, is_replaced: bool
) -> tuple[str | None, WriterMemory]:
    """Whether too few nodes could take over writes. Counts by what nodes are for, not how they are.

    ``is_replaced``: a writer that is lost is replaced by itself. A node alone is not warned.
    """
    able = [view for view in views if view.capabilities.can_ingest]
    if len(views) <= 1 or len(able) >= WRITERS_WANTED:
        return None, WriterMemory()
    memory = memory if memory.since is not None else WriterMemory(since=now)
    assert memory.since is not None
    if now - memory.since < WRITERS_HOLD_SECONDS or not _is_due(memory.told, now):
        return None, memory
    voters = sum(view.is_voter for view in views)
    consequence = (
        "after the loss of one, acknowledged rows would have no second copy"
        if is_replaced
        else "and failover is off: after the loss of the one that writes, somebody has to move the lease by hand"
    )
    quorum = f"; and of {voters} voters none may fail" if voters < 3 else ""
    text = f"{len(able)} of the {WRITERS_WANTED} writers that are wanted: {consequence}{quorum}"
    return text, replace(memory, told=now)


def _is_due(told: float | None, now: float) -> bool:
    return told is None or now - told >= WARNING_SECONDS
