"""The rules of figure 2 that one message can break, seen from outside: what it may change, and what it must.

T-01 a higher term is followed (Raft paper, 5.1); T-02 a lower one changes nothing (5.1); E-02 a follower's election
timer starts anew when its leader speaks or it gives a vote, and only then (5.2); E-04, P-01 whoever may have a vote, or
a pre-vote, gets it, and gets it again (figure 2; dissertation, 9.6); E-22 nobody is shielded from its own leader
(4.2.3). Ids are of the reference, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from arc.raft.effects import Effects, Send, Trace
from arc.raft.events import Event, Receive
from arc.raft.messages import (
    LEADER_SAYS,
    Append,
    AppendReply,
    AppendStatus,
    Commit,
    Heartbeat,
    Message,
    PreVote,
    PreVoteReply,
    Vote,
    VoteReply,
)
from arc.raft.types import Peer, Role
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host


class Before(NamedTuple):
    """A node as the message found it."""

    term: int
    role: Role
    vote: Peer | None
    leader: Peer | None
    commit: int
    last_index: int
    timer_from: float
    votes: int


def before(host: Host, event: Event) -> Before | None:
    """Take down what a message may be compared with; None for other events."""
    if type(event) is not Receive:
        return None
    state = host.state
    last = 0 if state.leading is not None else state.log.last_index  # A leader may append whenever it is woken.
    return Before(
        state.term, state.role, state.vote, state.leader, state.commit, last, state.timer_from, len(state.votes)
    )


def after(host: Host, event: Event, effects: Effects, was: Before | None) -> None:
    """Look at what the message did. Raises Violation."""
    if was is None or type(event) is not Receive:
        return
    message, state = event.message, host.state
    if message.to != host.peer:
        return
    kind = type(message)
    if message.term < was.term:
        if kind is not PreVote and kind is not PreVoteReply and before(host, event) != was:
            raise Violation("T-02", "a message of an old term changes something", host, message, was)
    elif message.term > was.term and kind is not PreVote and kind is not Vote and state.term < message.term:
        raise Violation("T-01", "a higher term is not followed", host, message)
    elif kind in LEADER_SAYS:  # Perhaps in a newer term by now: an order to campaign is obeyed at once.
        host.memory.leader_heard = message.sender
        i15_as_far_as_covered(host, message, effects, was)
    granted = _votes(host, effects, message)
    if was.role is Role.FOLLOWER and state.role is Role.FOLLOWER:
        is_due = granted or (kind in LEADER_SAYS and message.term == state.term)
        if granted and state.timer_from != state.now:
            raise Violation("E-02", "a vote is given and no time with it", host, message)
        if not is_due and state.timer_from != was.timer_from:
            raise Violation("E-02", "the election timer starts anew for no reason", host, message)
    if kind is VoteReply and state.role is Role.CANDIDATE:
        e03_votes_on_the_wire(host)


def i15_as_far_as_covered(host: Host, message: Message, effects: Effects, was: Before) -> None:
    """I-13, I-15 (5.3): what lies behind the entries that this leader sent may be left over from an older one.

    So it is neither acknowledged (K-37) nor committed (K-31, K-44), whatever the commit index that is told.
    """
    memory, state = host.memory, host.state
    if memory.covered[0] != message.term:
        memory.covered = (message.term, 0)
    if type(message) is Append:
        covered = max(message.prev_index + len(message.entries), was.commit)
        for effect in effects:
            if type(effect) is Send and type(effect.message) is AppendReply:
                if effect.message.status is not AppendStatus.ACCEPTED:
                    continue
                if effect.message.match > covered:
                    raise Violation("I-13", "acknowledges more than was sent", host, message, effect.message)
                memory.covered = (message.term, max(memory.covered[1], covered))
    elif type(message) is not Heartbeat and type(message) is not Commit:
        return
    if state.commit > was.commit and state.commit > memory.covered[1]:
        raise Violation("I-15", "commits what its leader did not send", host, message, memory.covered)


def _votes(host: Host, effects: Effects, message: Message) -> bool:
    """Whether a vote was given; E-04 and E-22 on the way."""
    kind = type(message)
    if kind is not Vote and kind is not PreVote:
        return False
    is_granted = False
    for effect in effects:
        if type(effect) is Trace and (effect.name == "vote_shielded" or "leader is alive" in effect.detail):
            e22_not_from_its_leader(host, message)
        elif type(effect) is Send and type(effect.message) is VoteReply:
            is_granted = effect.message.is_granted
            if not is_granted and type(message) is Vote and message.term == host.state.term:
                e04_refused(host, message)
        elif type(effect) is Send and type(effect.message) is PreVoteReply and type(message) is PreVote:
            p01_refused(host, message, is_refused=not effect.message.is_granted)
    return is_granted


def e22_not_from_its_leader(host: Host, message: Message) -> None:
    """E-22, P-06: the leader itself, perhaps after a restart, need not wait until it is forgotten (K-23)."""
    if host.memory.leader_heard == message.sender and host.state.role is not Role.LEADER:
        raise Violation("E-22", "shielded from its own leader", host, message)


def e04_refused(host: Host, message: Vote) -> None:
    """E-04, E-14, M-04 (figure 2; 4.1): a follower gives its vote, and gives it again, to whoever may have it.

    Whether it is a voter in its own configuration is no matter: that may be old.
    """
    state = host.state
    is_taken = state.vote != message.sender and (state.vote is not None or state.leader is not None)
    if state.role is not Role.FOLLOWER or is_taken or (_is_shielded(host, message.sender) and not message.is_transfer):
        return
    if not state.is_damaged and (message.last_term, message.last_index) >= _own(host):
        raise Violation("E-04", "a vote is refused for no reason", host, message)


def p01_refused(host: Host, message: PreVote, *, is_refused: bool) -> None:
    """P-01 (9.6): the same for a pre-vote, whatever the role of who is asked, unless it leads."""
    state = host.state
    if (
        not is_refused
        or state.role is Role.LEADER
        or message.next_term <= state.term
        or _is_shielded(host, message.sender)
    ):
        return
    if not state.is_damaged and (message.last_term, message.last_index) >= _own(host):
        raise Violation("P-01", "a pre-vote is refused for no reason", host, message)


def _own(host: Host) -> tuple[int, int]:
    issued = host.disk.issued
    return (issued.term(issued.last) or 0, issued.last)


def _is_shielded(host: Host, candidate: Peer) -> bool:
    """Whether a leader may have been heard too recently; generous, and by the node's own word for when that was."""
    state, config = host.state, host.config
    return config.is_sticky and state.now < state.contact_at + config.election_timeout_seconds


def e03_votes_on_the_wire(host: Host) -> None:
    """E-03 (5.2): what a candidate counts was given to it, in this term, by that node, on the wire (K-07, K-08)."""
    state, votes = host.state, host.world.ghost.votes
    for peer, is_granted in state.votes.items():
        if is_granted and peer != host.peer and votes.get((peer, state.term)) != host.peer:
            raise Violation("E-03", "counts a vote that nobody gave", host, peer)
