"""Whom a leader has heard from, worked out from the messages alone: what leases, reads and CheckQuorum stand on.

I-20 a lease counts from when the confirmed round was sent (dissertation, 6.4.1); I-21 a read is answered only after a
round that began later was answered by a quorum (6.4); Q-01 a leader that hears no quorum stops leading (6.2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc.quorum import majority
from arc.raft.effects import Readable
from arc.raft.events import Event, Read, Receive, Tick
from arc.raft.messages import AppendReply, Heartbeat, HeartbeatReply, InstallSnapshotReply, ReadIndex, ReadIndexReply
from arc.raft.types import Configuration, Peer
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host

REPLIES = (AppendReply, HeartbeatReply, InstallSnapshotReply)
INFINITY = float("inf")
ALONE = 1 << 60
"""What a leader that is a quorum by itself has reached."""
UNASKED = -1
"""Instead of a round: the read needs none, for its leader was a quorum by itself after it came."""


class Contact:
    """One leadership, seen from outside. Times are the leader's own."""

    __slots__ = (
        "alone_at",
        "answered",
        "begun",
        "configuration",
        "confirmed",
        "heard_at",
        "reads",
        "round",
        "since",
        "term",
    )

    def __init__(self, term: int, now: float) -> None:
        self.term = term
        self.since = now
        self.round = 0
        """The newest round that began."""
        self.begun: dict[int, float] = {}
        self.answered: dict[Peer, int] = {}
        self.heard_at: dict[Peer, float] = {}
        self.confirmed = 0
        """The newest round that a quorum answered."""
        self.alone_at = -INFINITY
        """When the leader was last a quorum by itself, of those times that are over."""
        self.configuration: Configuration | None = None
        self.reads: dict[object, list[int]] = {}
        """Request, or (follower, token) -> the newest round that had begun when it came, for each copy of it."""


def stepped(host: Host, event: Event) -> None:
    """A leader took an event in."""
    state = host.state
    contact = of(host)
    host.memory.leader_heard = host.peer
    kind = type(event)
    if kind is Read:
        contact.reads[event.request] = [contact.round]  # type: ignore[union-attr]
    elif kind is Receive:
        message = event.message  # type: ignore[union-attr]
        if message.term != state.term:
            return
        if isinstance(message, REPLIES):
            _answered(host, contact, message.sender, message.round)
        elif type(message) is ReadIndex:
            contact.reads.setdefault((message.sender, message.token), []).append(contact.round)
    elif kind is Tick and host.config.is_check_quorum:
        q01_hears_a_quorum(host, contact)


def of(host: Host) -> Contact:
    """What is known of this leadership."""
    contact: Contact | None = host.memory.contact
    state = host.state
    if contact is None or contact.term != state.term:
        contact = host.memory.contact = Contact(state.term, state.now)
    newest = host.disk.issued.configurations[-1][1]
    if contact.configuration is not newest:  # Newcomers are given time, and this is no place to be exact about whom.
        if contact.configuration is not None and _is_alone(host, contact.configuration):
            contact.alone_at = state.now
            contact.reads = {read: [UNASKED] * len(copies) for read, copies in contact.reads.items()}
        contact.configuration, contact.since = newest, state.now
    return contact


def sending(host: Host, message: Heartbeat) -> None:
    """A round begins with its first heartbeat."""
    if host.state.leading is not None:
        contact = of(host)
        contact.begun.setdefault(message.round, host.state.now)
        contact.round = max(contact.round, message.round)


def _answered(host: Host, contact: Contact, peer: Peer, number: int) -> None:
    if number <= contact.answered.get(peer, 0):
        return
    contact.answered[peer] = number
    contact.heard_at[peer] = contact.begun.get(number, host.state.now)
    _recount(host, contact)


def _recount(host: Host, contact: Contact) -> None:
    assert contact.configuration is not None
    if not _is_alone(host, contact.configuration):
        contact.confirmed = max(contact.confirmed, int(_reached(host, contact.configuration, contact.answered)))


def _is_alone(host: Host, configuration: Configuration) -> bool:
    """Whether the leader is a quorum by itself: nobody is elected without it, now and without any round."""
    return _reached(host, configuration, {}) == ALONE


def _reached(host: Host, configuration: Configuration, values: dict[Peer, int] | dict[Peer, float]) -> float:
    """The highest value that a quorum has reached; the leader itself is always there."""
    reached = INFINITY
    for half in (configuration.voters, configuration.outgoing):
        if half:
            ordered = sorted((INFINITY if peer == host.peer else values.get(peer, 0) for peer in half), reverse=True)
            reached = min(reached, ordered[majority(len(half)) - 1])
    return reached if reached != INFINITY else ALONE


def i20_lease_from_the_round(host: Host) -> None:
    """I-20 (6.4.1): a lease read within the lease of the newest confirmation, from when its round was sent (K-88).

    A configuration takes no lease away. Whoever is elected in a later one has it in its log, and so is one of those
    that were reached after it was appended, or overlaps with them: a quorum that confirmed the leader before shields
    it in an adjacent configuration, and each further one is appended only after a quorum took in the one before, hence
    heard the leader later still. The same holds for a leader that was a quorum by itself until others were added.
    """
    contact, state = of(host), host.state
    assert contact.configuration is not None
    _recount(host, contact)
    if _is_alone(host, contact.configuration) or contact.since >= state.now:
        return
    began = max(contact.begun.get(contact.confirmed, -INFINITY), contact.alone_at)
    if state.now >= began + host.config.lease_seconds:
        raise Violation("I-20", "a lease read beyond the lease", host, contact.confirmed, began)


def i21_confirmed_since(host: Host, request: object, result: object) -> None:
    """I-21 (6.4): what confirms a read began after it came (K-86)."""
    if host.state.leading is None or host.config.is_lease_read or not isinstance(result, Readable):
        return
    _confirmed(host, request)


def i21_reply(host: Host, message: ReadIndexReply) -> None:
    """I-21 for the read of a follower."""
    if host.state.leading is not None and not host.config.is_lease_read:
        _confirmed(host, (message.to, message.token))


def _confirmed(host: Host, read: object) -> None:
    contact = of(host)
    _recount(host, contact)
    copies = contact.reads.get(read)
    if not copies:
        return
    came = copies.pop(0)
    assert contact.configuration is not None
    if _is_alone(host, contact.configuration):
        return
    if contact.confirmed <= came and contact.since < host.state.now:
        raise Violation("I-21", "a read that no later round confirmed", host, read, came, contact.confirmed)


def q01_hears_a_quorum(host: Host, contact: Contact) -> None:
    """Q-01 (6.2): who hears no quorum for an election timeout, and has half of one as grace here, leads no more."""
    configuration = contact.configuration
    assert configuration is not None
    heard = {peer: max(contact.heard_at.get(peer, 0.0), contact.since) for peer in contact.heard_at}
    for half in (configuration.voters, configuration.outgoing):
        for peer in half:
            heard.setdefault(peer, contact.since)
    limit = 1.5 * host.config.election_timeout_seconds
    if host.state.now >= _reached(host, configuration, heard) + limit:
        raise Violation("Q-01", "leads on and hears no quorum", host, heard)
