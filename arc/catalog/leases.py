"""Leases: who is the writer, who the compactor, and in which reign.

An epoch is the index of the command that granted it (P-16).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from arc.catalog.commands import AssignLease
from arc.catalog.events import LeaseAssigned
from arc.catalog.persistent import with_item
from arc.catalog.results import Refusal, Step
from arc.catalog.values import LEASES
from arc.ids import Epoch, NodeId

NODE_ID_CHARS_MAX = 128


@dataclass(frozen=True, slots=True)
class Lease:
    """An agreed assignment. It stands until another command gives the lease a newer epoch."""

    name: str
    holder: NodeId
    epoch: Epoch


Leases = Mapping[str, Lease]


def apply(state: Leases, index: int, command: AssignLease) -> Step[Leases]:
    """Grant the lease by compare-and-set (P-19). Raises Refusal."""
    if command.lease not in LEASES:
        raise Refusal("invalid", f"lease {command.lease!r} is none of {', '.join(LEASES)}")
    if not 1 <= len(command.node) <= NODE_ID_CHARS_MAX or not command.node.isprintable():
        raise Refusal("invalid", f"node id {command.node!r} must be 1 to {NODE_ID_CHARS_MAX} printable characters")
    current = epoch_of(state, command.lease)
    if command.expect_epoch != current:
        raise Refusal("stale_epoch", f"the {command.lease} lease is in epoch {current}, not {command.expect_epoch}")
    previous = state[command.lease].holder if command.lease in state else None
    granted = Lease(command.lease, command.node, Epoch(index))
    told = LeaseAssigned(command.lease, command.node, granted.epoch, previous)
    return Step(state=with_item(state, command.lease, granted), value=index, events=(told,))


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
