"""Terms, votes and who leads: I-01, I-04, I-10, I-12 (own vote), I-19, I-20."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from arc.quorum import majority
from arc.raft.effects import Write
from arc.raft.events import Receive
from arc.raft.messages import Vote
from arc.raft.types import Peer, Role
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host


def moved(host: Host, before: Role, before_term: int) -> None:
    """Role or term changed."""
    state = host.state
    if state.term < before_term:
        raise Violation("I-10", "the term falls", before_term, state)
    if state.role is Role.LEADER:
        i01_one_leader(host)
        i04_has_all_committed(host)
        i12_own_vote(host)
        i13_knows_nothing_yet(host)
        i01_was_elected(host)
        i20_no_other_lease(host)
        host.world.elected(host)
        if state.term < max(host.world.ghost.leaders):
            host.world.probes["elected_in_an_old_term"] += 1
    elif before is Role.LEADER and state.asked:
        host.world.probes["read_crossed_leader_change"] += 1
    elif state.role is not Role.FOLLOWER:
        i19_may_campaign(host)


def i01_one_leader(host: Host) -> None:
    """I-01 Election Safety (Raft paper, 5.2): one leader a term, and never again after a restart."""
    leaders, term = host.world.ghost.leaders, host.state.term
    mine = (host.peer, host.life)
    if leaders.setdefault(term, mine) != mine:
        raise Violation("I-01", "two leaders in one term", term, leaders[term], mine)


def i01_was_elected(host: Host) -> None:
    """I-01 (5.2; 4.3): a leader got votes of its term, seen on the wire, from a majority of every half."""
    votes, term, me = host.world.ghost.votes, host.state.term, host.peer
    configuration = host.disk.issued.configurations[-1][1]
    for half in (configuration.voters, configuration.outgoing):
        if half and sum(votes.get((peer, term)) == me for peer in half) < majority(len(half)):
            raise Violation("I-01", "leads without a majority of votes", host, half)


def v07_shield(host: Host, before: Role, event: Receive) -> None:
    """V-07 (4.2.3, 6.4.1): nobody who just asks for votes deposes a leader, unless leaders are not shielded."""
    message = event.message
    if type(message) is not Vote or message.is_transfer or not host.config.is_sticky:
        return
    if before is Role.LEADER and host.state.role is not Role.LEADER:
        raise Violation("V-07", "a leader is deposed by a request for votes", host, message)


def i04_has_all_committed(host: Host) -> None:
    """I-04 Leader Completeness (5.4.3): a leader holds every entry that was committed in an earlier term.

    Not what later terms committed: who was elected while it stood still leads a term that is over, for a while.
    """
    ghost, log = host.world.ghost, host.disk.issued
    # The empty entry of the new term is in the core but not issued yet or just was; the committed part is below it.
    index = bisect_left(ghost.committed_in, host.state.term) - 1
    if log.chain(index) != ghost.committed[index]:
        raise Violation("I-04", "a leader lacks what is committed", host, ghost.entries[index])


def i10_term_of_write(host: Host, write: Write) -> None:
    """I-10 (figure 2): what goes to disk never falls behind what went there before."""
    hard = write.hard_state
    issued = host.disk.issued.hard
    if hard is not None and hard.term < issued.term:
        raise Violation("I-10", "the term on disk falls", issued, hard)
    term = hard.term if hard is not None else issued.term
    if write.entries and write.entries[-1].term > term:
        raise Violation("I-28", "entries of a term that is not on disk", write.entries[-1], term)


def i12_own_vote(host: Host) -> None:
    """I-12 (figure 2): the own vote counts when it is durable (K-05)."""
    hard = host.disk.synced.hard
    if hard != (host.state.term, host.peer):
        raise Violation("I-12", "leads, but its own vote is not durable", host, hard)
    host.world.ghost.votes.setdefault((host.peer, host.state.term), host.peer)


def i13_knows_nothing_yet(host: Host) -> None:
    """I-13 (figure 2: reinitialized after election): a term begins without knowledge of any follower's log (K-38)."""
    for peer, progress in sorted(host.state.leading.progress.items()):
        if progress.match:
            raise Violation("I-13", "begins a term with a match index", host, peer, progress)


def i19_may_campaign(host: Host) -> None:
    """I-19 (dissertation, 4.2.2): who is no voter, neither in its log nor in what it knows committed, keeps quiet."""
    peer: Peer = host.peer
    known = [each for at, each in host.disk.issued.configurations if at >= host.state.history.at(host.state.commit)[0]]
    if not any(peer in each.voters or peer in each.outgoing for each in known):
        raise Violation("I-19", "campaigns without being a voter", host, known)


def i20_no_other_lease(host: Host) -> None:
    """I-20 (6.4.1): while clocks keep their bound, nobody is elected while another node's lease is valid."""
    world = host.world
    if not world.config.is_lease_read:
        return
    for other in world.hosts.values():
        if other is not host and other.core is not None and other.state.leading is not None:
            until = other.core.status().lease_until
            if until is not None and other.state.term < host.state.term and other.local(world.now) < until:
                raise Violation("I-20", "elected while another lease is valid", host, other, until)
