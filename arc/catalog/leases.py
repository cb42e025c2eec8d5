"""Leases: who is the writer, who the compactor, and in which reign.

An epoch is the index of the command that granted it (P-16).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from arc.catalog.commands import AssignLease
from arc.catalog.events import LeaseAssigned, LeaseVacated
from arc.catalog.nodes import Nodes
from arc.catalog.persistent import frozen, with_item
from arc.catalog.results import Refusal, Step
from arc.catalog.roles import NodeRole
from arc.catalog.values import LEASES, WRITER
from arc.ids import Epoch, NodeId

NODE_ID_CHARS_MAX = 128


@dataclass(frozen=True, slots=True)
class Lease:
    """An agreed assignment. It stands until another command gives the lease a newer epoch.

    ``granted_us`` is the proposer's wall clock, for people; nothing is decided by it.
    """

    name: str
    holder: NodeId
    epoch: Epoch
    granted_us: int = 0
    reason: str = ""


Leases = Mapping[str, Lease]


@dataclass(frozen=True, slots=True)
class LeaseChange:
    """One grant, as the history keeps it. ``is_clean``: nothing acknowledged can have been lost by it."""

    lease: str
    epoch: Epoch
    holder: NodeId
    previous: NodeId | None
    at_us: int
    reason: str
    is_clean: bool


History = tuple[LeaseChange, ...]
"""Grants, oldest first; the last `HISTORY_MAX` of them. Cooldowns are reckoned from it, on whichever node leads
(P-21).
"""

HISTORY_MAX = 64
REASON_CHARS_MAX = 512


def apply(state: Leases, index: int, command: AssignLease, nodes: Nodes) -> Step[Leases]:
    """Grant the lease by compare-and-set (P-19). Raises Refusal."""
    if command.lease not in LEASES:
        raise Refusal("invalid", f"lease {command.lease!r} is none of {', '.join(LEASES)}")
    if not 1 <= len(command.node) <= NODE_ID_CHARS_MAX or not command.node.isprintable():
        raise Refusal("invalid", f"node id {command.node!r} must be 1 to {NODE_ID_CHARS_MAX} printable characters")
    current = epoch_of(state, command.lease)
    if command.expect_epoch != current:
        raise Refusal("stale_epoch", f"the {command.lease} lease is in epoch {current}, not {command.expect_epoch}")
    if len(command.reason) > REASON_CHARS_MAX:
        raise Refusal("invalid", f"a reason has at most {REASON_CHARS_MAX} characters")
    _require_able(command, nodes)
    previous = state[command.lease].holder if command.lease in state else None
    granted = Lease(command.lease, command.node, Epoch(index), command.at_us, command.reason)
    told = LeaseAssigned(command.lease, command.node, granted.epoch, previous)
    return Step(state=with_item(state, command.lease, granted), value=index, events=(told,))


def vacate(state: Leases, node: NodeId) -> Step[Leases]:
    """Take from a node what it holds: it is no member any more."""
    held = [lease for _, lease in sorted(state.items()) if lease.holder == node]
    if not held:
        return Step(state=state)
    rest = frozen({name: lease for name, lease in state.items() if lease.holder != node})
    return Step(state=rest, events=tuple(LeaseVacated(lease.name, node) for lease in held))


def remember(history: History, change: LeaseChange) -> History:
    """The history with one more grant."""
    return (*history, change)[-HISTORY_MAX:]


def may_hold(lease: str, role: NodeRole) -> bool:
    """Whether a node of this role may be given the lease: the compactor's may fall to a writer."""
    able = role.capabilities
    return able.can_ingest if lease == WRITER else able.can_compact or able.can_ingest


def _require_able(command: AssignLease, nodes: Nodes) -> None:
    if not nodes:
        return  # Of a version that described no nodes.
    known = nodes.get(command.node)
    if known is None:
        raise Refusal("not_found", f"there is no node {command.node!r} that could hold the {command.lease} lease")
    if not may_hold(command.lease, NodeRole(known.role)):
        raise Refusal("conflict", f"{command.node} is a {known.role} and cannot hold the {command.lease} lease")


def epoch_of(state: Leases, lease: str) -> int:
    """The current epoch of a lease, 0 when it was never granted."""
    held = state.get(lease)
    return 0 if held is None else held.epoch


def require_epoch(state: Leases, lease: str, epoch: int) -> None:
    """Raise Refusal unless ``epoch`` is the lease's current one; a lease that was never granted has none."""
    current = epoch_of(state, lease)
    if current == 0:
        raise Refusal("stale_epoch", f"nobody was ever granted the {lease} lease, so epoch {epoch} is not valid")
    if epoch != current:
        raise Refusal("stale_epoch", f"the {lease} lease is in epoch {current}, not {epoch}")
