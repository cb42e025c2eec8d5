"""Which copies may still be lost: no fault takes more than the others can make good (TigerBeetle's atlas).

A damaged node votes again when the leader has made it whole; a wiped one never does, for it comes back as another
incarnation. Until then every configuration that is, or may come, in force keeps a majority of whole voters in each
half. That is the budget of storage faults; what happens beyond it is the scenario ``over_budget``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from arc.errors import Conflict, InvalidRequest
from arc.quorum import majority
from arc.raft.membership import halves, target
from arc.raft.types import Configuration, Peer
from simulations.damage import is_doubtful

if TYPE_CHECKING:
    from simulations.cores import Cores


def allows_loss(world: Cores, lost: Peer) -> bool:
    """Whether the cluster can do without what this node holds."""
    return world.plan.is_over_budget or all(is_safe(world, each, lost) for each in in_force(world))


def is_safe(world: Cores, configuration: Configuration, lost: Peer | None = None) -> bool:
    """Whether each half keeps a majority of whole voters."""
    return all(
        lost not in half or sum(peer != lost and is_whole(world, peer) for peer in half) >= majority(len(half))
        for half in halves(configuration)
        if half
    )


def is_quorate(world: Cores, voters: Sequence[Peer]) -> bool:
    """Whether these could go on alone."""
    return sum(is_whole(world, peer) for peer in voters) >= majority(len(voters))


def is_whole(world: Cores, peer: Peer) -> bool:
    """Whether the node holds all that it ever promised, and may say so."""
    host = world.hosts.get(peer)
    return host is not None and not host.is_gone and host.mounted is host.disk and not is_doubtful(host.disk)


def in_force(world: Cores) -> Iterator[Configuration]:
    """Every configuration that counts now or may without further ado."""
    ghost = world.ghost
    yield ghost.configurations[-1][1]
    for host in world.hosts.values():
        if host.is_gone:
            continue
        for index, configuration in host.disk.issued.configurations:
            if index > ghost.commit:
                yield configuration
        if host.core is None:
            continue
        for request, changes in world.changes_asked.items():
            if request in host.outstanding:  # Perhaps not even taken in: the process stands still.
                try:
                    yield target(host.state.history.current, changes)
                except (Conflict, InvalidRequest):
                    continue
        leading = host.state.leading
        if leading is not None and leading.change_goal is not None:
            yield leading.change_goal
