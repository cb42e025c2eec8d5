"""Who is a member: I-18 (dissertation, 4.1 to 4.3)."""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

from arc.quorum import majority
from arc.raft.types import Configuration, Peer
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host


def i18_newest_in_log(host: Host) -> None:
    """I-18: in force is the newest configuration of the log; at most one is uncommitted; neighbours share a quorum."""
    state, configurations = host.state, host.disk.issued.configurations
    index, newest = configurations[-1]
    if state.history.current != newest:
        raise Violation("I-18", "another configuration in force than the newest of the log", state.history, newest)
    if len(configurations) < 2:
        return
    if configurations[-2][0] > host.world.ghost.commit:
        raise Violation("I-18", "two uncommitted configurations", configurations)
    i18_own_commit_first(host, index)
    before = configurations[-2][1]
    if before.voters and not overlap(before, newest):  # A newcomer knows nothing of what was before.
        raise Violation("I-18", "quorums of consecutive configurations need not meet", configurations[-2:])


def i18_own_commit_first(host: Host, index: int) -> None:
    """I-18 (4.1, and Ongaro's correction of 2015): a leader changes nothing before it committed in its own term."""
    state, issued = host.state, host.disk.issued
    is_own = state.leading is not None and index == state.log.last_index and issued.term(index) == state.term
    if is_own and issued.term(state.commit) != state.term:
        raise Violation("I-18", "a change before the first commit of the term", host, issued.configurations[-1])


@lru_cache(4096)
def overlap(old: Configuration, new: Configuration) -> bool:
    """Whether every quorum of the one meets every quorum of the other, by enumeration."""
    return all(set(a) & set(b) for a in quorums(old) for b in quorums(new))


def quorums(configuration: Configuration) -> list[frozenset[Peer]]:
    """All smallest quorums: a majority of each half."""
    halves = [half for half in (configuration.voters, configuration.outgoing) if half]
    found: list[frozenset[Peer]] = [frozenset()]
    for half in halves:
        found = [done | frozenset(chosen) for done in found for chosen in combinations(half, majority(len(half)))]
    return found
