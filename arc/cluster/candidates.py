"""Who could take a lease, best first, and for everybody the reason why or why not.

The writer's lease goes only to a member of the in-sync set: whoever is not in it may lack rows that a client was told
are stored (DURABILITY 4). Among members the one whose log is longest comes first: the less of the unacknowledged end
is lost, too. Names decide between equals, so every leader comes to the same answer (P-20).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arc.catalog.facts import Catalog
from arc.catalog.leases import may_hold
from arc.catalog.nodes import NodeRecord
from arc.catalog.roles import NodeRole, NodeState
from arc.catalog.values import COMPACTOR, WRITER
from arc.cluster.views import NodeView
from arc.ids import NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One node. ``reason`` reads after its name ("is in sync…", "is a reader…"); ``code`` is empty for who can."""

    name: NodeId
    code: str
    reason: str
    is_dedicated: bool = False
    healthy_seconds: float = 0.0

    @property
    def is_eligible(self) -> bool:
        """Whether it can take the lease."""
        return not self.code


def rank(catalog: Catalog, views: Sequence[NodeView], lease: str) -> tuple[Candidate, ...]:
    """Every member, those who can take the lease first. The order of ``views`` does not matter."""
    by_name = {view.name: view for view in views}
    able: list[tuple[tuple[int, int, str], Candidate]] = []
    unable: list[Candidate] = []
    for _, record in sorted(catalog.nodes.items()):
        view = by_name.get(record.name)
        code, why_not = _objection(catalog, record, view, lease)
        if view is None or code:
            unable.append(Candidate(name=record.name, code=code, reason=why_not))
            continue
        able.append((_key(catalog, view, lease), _able(catalog, view, lease)))
    able.sort(key=lambda pair: pair[0])
    return (*(candidate for _, candidate in able), *unable)


def _objection(catalog: Catalog, record: NodeRecord, view: NodeView | None, lease: str) -> tuple[str, str]:
    """Code and reason; both empty when there is none."""
    held = catalog.leases.get(lease)
    if not may_hold(lease, NodeRole(record.role)):
        return "cannot_hold", f"is a {record.role}, which never holds the {lease} lease"
    if held is not None and held.holder == record.name:
        return "already_holds", "holds it already"
    if record.state == NodeState.LEAVING:
        return "not_healthy", "is leaving"
    if view is None or view.state is NodeState.UNKNOWN:
        return "not_healthy", "was not heard of yet"
    if view.state is not NodeState.HEALTHY or record.state != NodeState.HEALTHY:
        return "not_healthy", f"is {view.state if view.state is not NodeState.HEALTHY else record.state}"
    if view.is_stalled:
        return "not_healthy", "has a disk that stands still"
    if lease == WRITER and catalog.in_sync is not None and record.name not in catalog.in_sync.members:
        return "not_in_sync", "is not in sync, so it may lack acknowledged rows"
    return "", ""


def _key(catalog: Catalog, view: NodeView, lease: str) -> tuple[int, int, str]:
    if lease == WRITER:
        return (0, -view.stats.durable_sequence, view.name)
    return (view.role is not NodeRole.COMPACTOR, _writes(catalog, view), view.name)


def _able(catalog: Catalog, view: NodeView, lease: str) -> Candidate:
    is_dedicated = lease == COMPACTOR and view.role is NodeRole.COMPACTOR
    if lease == WRITER:
        known = "in sync and healthy" if catalog.in_sync is not None else "healthy"
        reason = f"is {known}, and durable up to {view.stats.durable_sequence}"
    elif is_dedicated:
        reason = "is a healthy compactor"
    else:
        reason = "is healthy and stands in for a compactor" + (", though it writes" * _writes(catalog, view))
    return Candidate(
        name=view.name, code="", reason=reason, is_dedicated=is_dedicated, healthy_seconds=view.state_seconds
    )


def _writes(catalog: Catalog, view: NodeView) -> bool:
    """Whoever takes the writes has enough to do."""
    held = catalog.leases.get(WRITER)
    return held is not None and held.holder == view.name
