"""The rules of figure 2 that one message can break, seen from outside: what it may change, and what it must.

T-01 a higher term is followed (Raft paper, 5.1); T-02 a lower one changes nothing (5.1); E-02 a follower's election
timer starts anew when its leader speaks or it gives a vote, and only then (5.2); E-04 a vote is given again to who has
it (figure 2); E-22 nobody is shielded from its own leader (dissertation, 4.2.3). Ids are of the reference, section 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from arc.raft.effects import Effects, Send, Trace
from arc.raft.events import Event, Receive
from arc.raft.messages import LEADER_SAYS, Message, PreVote, PreVoteReply, Vote, VoteReply
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
    elif message.term == state.term and kind in LEADER_SAYS:
        host.memory.leader_heard = message.sender
    granted = _votes(host, effects, message)
    if was.role is Role.FOLLOWER and state.role is Role.FOLLOWER:
        is_due = granted or (kind in LEADER_SAYS and message.term == state.term)
        if granted and state.timer_from != state.now:
            raise Violation("E-02", "a vote is given and no time with it", host, message)
        if not is_due and state.timer_from != was.timer_from:
            raise Violation("E-02", "the election timer starts anew for no reason", host, message)
    if kind is VoteReply and state.role is Role.CANDIDATE:
        e03_votes_on_the_wire(host)


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
            if not is_granted and message.term == effect.message.term:
                e04_same_answer(host, effect.message)
    return is_granted


def e22_not_from_its_leader(host: Host, message: Message) -> None:
    """E-22, P-06: the leader itself, perhaps after a restart, need not wait until it is forgotten (K-23)."""
    if host.memory.leader_heard == message.sender and host.state.role is not Role.LEADER:
        raise Violation("E-22", "shielded from its own leader", host, message)


def e04_same_answer(host: Host, reply: VoteReply) -> None:
    """E-04 (figure 2): "votedFor is null or candidateId": who has the vote gets it again, if its log still suffices."""
    state, issued = host.state, host.disk.issued
    if state.vote != reply.to or state.term != reply.term or host.world.config.is_lease_read or state.is_damaged:
        return
    asked = host.world.ghost.candidacies.get((reply.to, reply.term))
    if asked is not None and asked >= (issued.term(issued.last) or 0, issued.last):
        raise Violation("E-04", "a vote is not given again to who has it", host, reply)


def e03_votes_on_the_wire(host: Host) -> None:
    """E-03 (5.2): what a candidate counts was given to it, in this term, by that node, on the wire (K-07, K-08)."""
    state, votes = host.state, host.world.ghost.votes
    for peer, is_granted in state.votes.items():
        if is_granted and peer != host.peer and votes.get((peer, state.term)) != host.peer:
            raise Violation("E-03", "counts a vote that nobody gave", host, peer)
