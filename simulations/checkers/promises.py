"""What a message promises, at the moment it leaves: I-11, I-12, I-17, I-28, I-30, I-39, I-40."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc.raft.messages import (
    AppendReply,
    AppendStatus,
    Heartbeat,
    InstallSnapshotReply,
    Message,
    PreVote,
    PreVoteReply,
    ReadIndexReply,
    TimeoutNow,
    Vote,
    VoteReply,
)
from arc.raft.types import Peer
from simulations.checkers import contact
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host


def made(host: Host, message: Message) -> None:
    """The core decided to say this; it may still be held for the disk."""
    if isinstance(message, VoteReply) and message.is_granted:
        i30_no_vote(host, message)
        i17_log_is_up_to_date(host, message)
    elif isinstance(message, Vote):
        issued = host.disk.issued
        asked = (issued.term(issued.last) or 0, issued.last)
        if asked != (message.last_term, message.last_index):
            raise Violation("I-17", "asks for votes with another log than its own", message, asked)
        host.world.ghost.candidacies[(host.peer, message.term)] = asked
    elif isinstance(message, TimeoutNow):
        host.world.ghost.handed.add((host.peer, message.term))
    elif isinstance(message, PreVoteReply) and message.is_granted:
        i30_no_vote(host, message)
        i17_pre_vote(host, message)
    elif isinstance(message, PreVote):
        host.world.ghost.candidacies[(host.peer, -message.round)] = (message.last_term, message.last_index)
    elif isinstance(message, Heartbeat):
        contact.sending(host, message)
        i15_heartbeat_commit(host, message)


def leaving(host: Host, message: Message) -> None:
    """The message leaves now: all that it promises is on the synced image."""
    synced = host.disk.synced
    if message.sender != host.peer:
        raise Violation("I-40", "speaks in another's name", message)
    if message.term > synced.hard.term:
        raise Violation("I-28", "speaks of a term that is not on disk", message, synced.hard)
    if isinstance(message, AppendReply) and message.status is AppendStatus.ACCEPTED:
        i12_accepted(host, message)
    elif isinstance(message, VoteReply) and message.is_granted:
        i12_vote(host, message)
        i11_one_vote(host, message.term, message.to)
    elif isinstance(message, Vote):
        i11_one_vote(host, message.term, host.peer)
    elif isinstance(message, InstallSnapshotReply) and message.is_done:
        held = max(synced.last, synced.snapshot.index if synced.snapshot is not None else 0)
        if held < message.index:
            raise Violation("I-12", "reports a snapshot that is not on disk", message, held)
    elif isinstance(message, ReadIndexReply):
        i39_after_own_commit(host, message)
        contact.i21_reply(host, message)


def i12_accepted(host: Host, message: AppendReply) -> None:
    """I-12 (Raft paper, figure 2; dissertation, 3.8): what is acknowledged is on disk."""
    match, synced = message.match, host.disk.synced
    if synced.last < match or synced.chain(match) != host.disk.issued.chain(match):
        raise Violation("I-12", "acknowledges what is not on disk", message, synced.last)


def i12_vote(host: Host, message: VoteReply) -> None:
    """I-12: a vote is on disk before it is given, unless a newer term is already."""
    hard = host.disk.synced.hard
    if hard.term == message.term and hard.vote != message.to:
        raise Violation("I-12", "gives a vote that is not on disk", message, hard)


def i11_one_vote(host: Host, term: int, candidate: Peer) -> None:
    """I-11 (5.2): one vote a term, as seen on the wire, across crashes; who asks for votes has given itself its own."""
    first = host.world.ghost.votes.setdefault((host.peer, term), candidate)
    if first != candidate:
        raise Violation("I-11", "votes twice in one term", host.peer, term, first, candidate)


def i30_no_vote(host: Host, message: Message) -> None:
    """I-30 (dissertation, 3.8: what was acknowledged must not be forgotten): a damaged node gives no vote."""
    if host.disk.promised:
        raise Violation("I-30", "votes although its log lacks what it acknowledged", message, host)


def i17_log_is_up_to_date(host: Host, message: VoteReply) -> None:
    """I-17 (5.4.1): a vote only for a candidate whose log is at least as good."""
    issued = host.disk.issued
    own = (issued.term(issued.last) or 0, issued.last)
    asked = host.world.ghost.candidacies.get((message.to, message.term))
    if asked is not None and asked < own:
        raise Violation("I-17", "votes for a log that is behind", message, asked, own)


def i17_pre_vote(host: Host, message: PreVoteReply) -> None:
    """I-17 (9.6): the same for a pre-vote, which would be given in vain otherwise."""
    issued = host.disk.issued
    own = (issued.term(issued.last) or 0, issued.last)
    asked = host.world.ghost.candidacies.get((message.to, -message.round))
    if asked is not None and asked < own:
        raise Violation("I-17", "pre-votes for a log that is behind", message, asked, own)


def i15_heartbeat_commit(host: Host, message: Heartbeat) -> None:
    """I-15: a heartbeat tells no commit index beyond what the leader knows its receiver to hold."""
    leading = host.state.leading
    progress = leading.progress.get(message.to) if leading is not None else None
    if progress is not None and message.commit > progress.match:
        raise Violation("I-15", "a heartbeat commits what its receiver may not hold", message, progress)


def i20_no_lease_after_transfer(host: Host) -> None:
    """I-20 (6.4.1; 3.10): who told another to campaign reads by lease no more in that term (K-89)."""
    if (host.peer, host.state.term) in host.world.ghost.handed:
        raise Violation("I-20", "a lease read after the order to campaign was given", host)


def i39_after_own_commit(host: Host, message: ReadIndexReply) -> None:
    """I-39 (6.4): no read index before the leader committed an entry of its own term."""
    leading = host.state.leading
    if leading is not None and host.state.term == message.term and message.index < leading.term_start:
        raise Violation("I-39", "a read index from before the own first commit", message, host)
