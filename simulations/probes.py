"""Rare situations, counted when they are reached: a campaign that never was there has not tested them (reference, 5.4).

A core's traces are probes by their names. Here are those that need more than a name: the disks of others, what was
pending, what the trace was about. The quotas are in `quotas`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from arc.quorum import majority
from arc.raft.effects import Trace
from arc.raft.types import Role

if TYPE_CHECKING:
    from simulations.cores import Cores
    from simulations.host import Host


def told(world: Cores, host: Host, trace: Trace) -> None:
    """A core tells something: count it, and what is special about it."""
    world.probes[trace.name] += 1
    special = _SPECIAL.get(trace.name)
    if special is not None:
        special(world, host, trace.detail)


def paused(host: Host) -> None:
    """A node is about to stand still: will its lease end meanwhile?"""
    if host.core is not None and host.state.leading is not None:
        until = host.core.status().lease_until
        world = host.world
        if until is not None and host.local(world.now) < until < host.local(host.paused_until):
            world.probes["lease_expired_while_paused"] += 1


def hunt(host: Host) -> None:
    """Crash a leader in the moment of figure 8 (c): an entry of an older term is on a majority of disks, and not
    committed, for nothing of its own term is. Whoever counted it would be wrong if somebody else is elected now."""
    world, leading, issued = host.world, host.state.leading, host.disk.issued
    old = leading.term_start - 1
    if host.state.commit >= old:
        return
    chain, voters = issued.chain(old), host.state.history.current.voters
    holders = sum(peer in world.hosts and world.hosts[peer].disk.synced.chain(old) == chain for peer in voters)
    if holders >= majority(len(voters)):
        world.probes["figure_8"] += 1
        world.is_hunting = False
        world.at(world.now, world.strike, host, None)


def _cut(world: Cores, host: Host, detail: tuple[Any, ...]) -> None:
    """Conflicting entries are dropped. The synced image still has them."""
    first, last, last_term = detail
    world.probes["cut_of_several"] += last > first
    synced = host.disk.synced
    if synced.base < first <= synced.last and synced.term(first) != last_term:
        world.probes["cut_of_several_terms"] += 1
    world.probes["cut_of_pending_write"] += any(
        write.entries and write.entries[-1].index >= first
        for write in host.disk.pending[:-1]  # The last one is the cut.
    )
    chain = synced.chain(first) if synced.base < first else None
    if chain is not None:
        voters = host.state.history.current.voters
        holders = sum(peer in world.hosts and world.hosts[peer].disk.synced.chain(first) == chain for peer in voters)
        # One that lost its first configuration by this knows no voters any more (seed 615233).
        world.probes["majority_overwritten"] += bool(voters) and holders >= majority(len(voters))


def _role(world: Cores, host: Host, detail: tuple[Any, ...]) -> None:
    if detail[0] is Role.LEADER and host.state.history.current.is_joint:
        world.probes["elected_while_joint"] += 1


def _snapshot_installed(world: Cores, host: Host, detail: tuple[Any, ...]) -> None:
    synced, ghost = host.disk.synced, world.ghost
    last = min(synced.last, ghost.commit)
    if synced.last > ghost.commit or synced.chain(last) != ghost.committed[last]:
        world.probes["snapshot_over_divergent_log"] += 1


def _window_full(world: Cores, host: Host, detail: tuple[Any, ...]) -> None:
    by = "messages" if detail[1] >= host.config.window_messages_max else "bytes"
    world.probes[f"window_full_by_{by}"] += 1


def _by_detail(name: str, place: int) -> Callable[[Cores, Host, tuple[Any, ...]], None]:
    def count(world: Cores, host: Host, detail: tuple[Any, ...]) -> None:
        world.probes[f"{name}_{str(detail[place]).replace(' ', '_')}"] += 1

    return count


_SPECIAL: dict[str, Callable[[Cores, Host, tuple[Any, ...]], None]] = {
    "catch_up_aborted": _by_detail("catch_up_aborted", 1),
    "cut": _cut,
    "handover_ended": _by_detail("handover", 1),
    "overloaded": _by_detail("overloaded", 0),
    "pre_vote_refused": _by_detail("pre_vote_refused", 1),
    "repaired": lambda world, host, detail: host.repaired(),
    "role": _role,
    "snapshot_installed": _snapshot_installed,
    "vote_refused": _by_detail("vote_refused", 1),
    "window_full": _window_full,
}
