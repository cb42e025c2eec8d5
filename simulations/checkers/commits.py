"""What is committed and applied: I-05 to I-09, I-15, I-16."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc.quorum import majority
from arc.raft.types import Configuration, Entry
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host


def moved(host: Host, before: int) -> None:
    """A node's commit index changed."""
    state, ghost, log = host.state, host.world.ghost, host.disk.issued
    commit = state.commit
    if commit < before:
        if not host.disk.refused_from:
            raise Violation("I-08", "the commit index falls", before, state)
        return  # A full disk counts as a restart.
    if commit > ghost.commit:
        if not host.memory.has_led:
            raise Violation("I-15", "a follower commits what no leader has", host, ghost.commit)
        i06_on_durable_quorum(host, commit)
        i16_own_term(host, commit)
        while ghost.commit < commit:
            index = ghost.commit + 1
            chain = log.chain(index)
            if chain is None or index <= log.base:
                raise Violation("I-09", "commits what its log does not hold", host, index)
            ghost.extend(log.entries[index - log.base - 1], chain, state.term)
        host.world.committed(host)
    elif log.chain(commit) != ghost.committed[commit]:
        raise Violation("I-15", "commits another log than the committed one", host, ghost.entries[commit])
    elif host.memory.has_led and state.leading is not None:
        i16_own_term(host, commit)


def i05_same_everywhere(host: Host, entry: Entry) -> None:
    """I-05 State Machine Safety (Raft paper, 5.4.3): at each index everybody applies the committed entry, once."""
    ghost = host.world.ghost
    if entry.index != host.applied + 1 or entry.index != host.machine.applied + 1:
        raise Violation("I-05", "applied out of order", host.applied, entry)
    if entry.index > ghost.commit or ghost.entries[entry.index] != entry:
        raise Violation("I-05", "applied what is not committed", host, entry)


def i06_on_durable_quorum(host: Host, index: int) -> None:
    """I-06 (5.3; 4.3 for both halves): what a leader commits is on the disks of a quorum of every half.

    A damaged node counts with what it held: it gives no vote before it is whole again (the budget of storage faults).
    A step may commit and append the next configuration, or the other way round: either may be the one that counted.
    """
    newest, before = host.disk.issued.configurations[-1][1], host.memory.configuration
    counted = newest if is_on_quorum(host, index, newest) else before
    if counted is None or (counted is not newest and not is_on_quorum(host, index, counted)):
        disks = [other.disk.synced.last for other in host.world.hosts.values()]
        raise Violation("I-06", "committed without a durable quorum", host, index, newest, disks)
    ghost = host.world.ghost
    if ghost.counted_by[-1][1] == counted:
        ghost.counted_by.pop()
    ghost.counted_by.append((index, counted))


def is_on_quorum(host: Host, index: int, configuration: Configuration) -> bool:
    """Whether a majority of each half has the host's log up to ``index`` on disk."""
    return _is_held(host, index, host.disk.issued.chain(index), configuration)


def _is_held(host: Host, index: int, chain: int | None, configuration: Configuration, *, without: bool = False) -> bool:
    """The same for a chain; ``without`` the host's own disk if that is asked for."""
    hosts = {peer: each for peer, each in host.world.hosts.items() if not (without and each is host)}
    return all(
        sum(peer in hosts and hosts[peer].disk.holds(index, chain) for peer in half) >= majority(len(half))
        for half in (configuration.voters, configuration.outgoing)
        if half
    )


def i07_still_held(host: Host) -> None:
    """I-07: a crash takes back nothing that was synced; also checked where it is asked for, in `Image.truncate`."""
    index = host.memory.commit
    if host.disk.synced.last < index <= host.world.ghost.commit:
        _require_held(host, index)


def i07_cut(host: Host, first: int) -> None:
    """I-07: what a cut is about to take from this disk, asked for before it was committed, is not counted here."""
    if first <= host.world.ghost.commit and host.disk.synced.chain(first) == host.world.ghost.committed[first]:
        _require_held(host, first, without=True)


def _require_held(host: Host, index: int, *, without: bool = False) -> None:
    """A committed entry is on the disks of a quorum, perhaps ``without`` this one.

    The quorum is that of its own configuration, of any that is committed since, or of one that its leader had appended
    and counted by, whether or not that one survived (seeds 767638, 787079): any two that follow each other share a node
    in every two of their quorums, so whoever is elected by the former has the entry.
    """
    ghost = host.world.ghost
    at, configuration = ghost.configuration_at(index)
    chain = ghost.committed[index]
    if at != ghost.configurations[-1][0] or _is_held(host, index, chain, configuration, without=without):
        return
    counted = [each for until, each in ghost.counted_by if until >= index]
    if not any(_is_held(host, index, chain, each, without=without) for each in counted):
        disks = [other.disk.synced.last for other in host.world.hosts.values()]
        raise Violation("I-07", "a committed entry is on too few disks", index, configuration, disks)


def i09_log_is_what_was_written(host: Host) -> None:
    """I-09: after its write was issued, the core's log is the issued one, and nothing in it is from the future."""
    state, issued = host.state, host.disk.issued
    if state.log.last_index != issued.last:
        raise Violation("I-09", "the log differs from what was asked to be written", state, issued.last)
    if issued.entries and issued.entries[-1].term > state.term:
        raise Violation("I-09", "an entry from a later term", state, issued.entries[-1])


def i12_believes_its_disk(host: Host) -> None:
    """I-12, I-38: what a core takes for durable is on its disk, entry by entry and not by index (K-49, K-50)."""
    index, synced, issued = host.state.writes.durable_index, host.disk.synced, host.disk.issued
    if index > synced.last or synced.chain(index) != issued.chain(index):
        raise Violation("I-12", "takes for durable what is not on its disk", host, index, synced.last)


def i16_own_term(host: Host, commit: int) -> None:
    """I-16 (5.4.2, figure 8): a leader commits by counting only an entry of its own term."""
    term = host.disk.issued.term(commit)
    if term != host.memory.term:
        raise Violation("I-16", "a leader counted an entry of another term", host, commit, term)
