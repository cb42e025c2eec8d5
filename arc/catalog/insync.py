"""The in-sync set: nodes whose logs hold every acknowledged record of the writer's reign (DURABILITY 1, 3, 4).

Only a member may be given the writer lease, so a hand-over never loses what a client was told is stored. Every change
is a compare-and-set under the epoch of the reign: whoever asks knows what he replaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from arc.catalog.commands import SetInSync
from arc.catalog.events import InSyncChanged
from arc.catalog.leases import Leases, require_epoch
from arc.catalog.nodes import Nodes
from arc.catalog.results import Refusal, Step
from arc.catalog.roles import NodeRole
from arc.catalog.values import WRITER
from arc.ids import Epoch, NodeId


@dataclass(frozen=True, slots=True)
class InSync:
    """The set in one reign. ``members`` are sorted; the holder of the writer lease, if any, is one of them."""

    epoch: Epoch
    members: tuple[NodeId, ...]


def apply(state: InSync | None, command: SetInSync, leases: Leases, nodes: Nodes) -> Step[InSync | None]:
    """Replace the set. Raises Refusal for an old epoch, another set than expected, or a member that cannot be one."""
    require_epoch(leases, WRITER, command.epoch)
    assert state is not None and state.epoch == command.epoch, "the set begins with the reign"
    if tuple(sorted(command.expect_members)) != state.members:
        raise Refusal(
            "stale_members", f"the in-sync set is {_spoken(state.members)}, not {_spoken(command.expect_members)}"
        )
    members = tuple(sorted(set(command.members)))
    holder = leases[WRITER].holder
    if holder not in members:
        raise Refusal("invalid", f"{holder} holds the writer lease, so it is a member of the in-sync set")
    for name in members:
        known = nodes.get(name)
        if name != holder and (known is None or not NodeRole(known.role).capabilities.can_ingest):
            what = "no node of this cluster" if known is None else f"a {known.role}, which never takes over writes"
            raise Refusal("invalid", f"{name} cannot be in the in-sync set: it is {what}")
    if members == state.members:
        return Step(state=state)
    after = InSync(state.epoch, members)
    return Step(state=after, events=(InSyncChanged(after.epoch, members),))


def begin(state: InSync | None, epoch: Epoch, holder: NodeId, previous: NodeId | None, *, is_clean: bool) -> InSync:
    """The set at the start of a reign: the old one without the old holder, who has to catch up with the new one.

    After an unclean promotion nobody but the new holder is known to hold what it holds.
    """
    old = state.members if state is not None and is_clean else ()
    kept = (name for name in old if name != previous or name == holder)
    return InSync(epoch, tuple(sorted({*kept, holder})))


def without(state: InSync, name: NodeId) -> InSync:
    """The set without a node that left the cluster."""
    return InSync(state.epoch, tuple(member for member in state.members if member != name))


def _spoken(members: Iterable[str]) -> str:
    return ", ".join(sorted(members)) or "empty"
