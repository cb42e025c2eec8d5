"""What nodes say to each other, one tuple per kind; request and reply stand next to each other.

Every message begins with ``to``, ``sender`` and ``term``; ``term`` is the sender's current one, and the sender has it
on disk before the message leaves (I-28). Tuples instead of dataclasses: a step spends most of its time building them.

``round`` numbers the leader's heartbeat rounds within its term. Whatever a follower answers carries the round of the
request, so the leader knows a moment on its own clock *before* the request was sent: leases, reads and CheckQuorum
count from there and never from the arrival of an answer (dissertation, 6.4.1; K-88).
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple, TypeAlias

from arc.raft.types import Entry, Peer, SnapshotMeta


class PreVote(NamedTuple):
    """Would you vote for me in ``next_term``? Changes nothing anywhere (dissertation, 9.6)."""

    to: Peer
    sender: Peer
    term: int
    next_term: int
    round: int
    last_index: int
    last_term: int


class PreVoteReply(NamedTuple):
    """Repeats ``next_term`` and ``round`` of the question, so that a stale answer cannot count."""

    to: Peer
    sender: Peer
    term: int
    next_term: int
    round: int
    is_granted: bool


class Vote(NamedTuple):
    """RequestVote (Raft paper, figure 2). ``is_transfer``: the leader itself asked for this election (3.10)."""

    to: Peer
    sender: Peer
    term: int
    last_index: int
    last_term: int
    is_transfer: bool = False


class VoteReply(NamedTuple):
    """A grant leaves only after the vote is on disk."""

    to: Peer
    sender: Peer
    term: int
    is_granted: bool


class Append(NamedTuple):
    """AppendEntries (Raft paper, figure 2). Empty ``entries`` probe or tell the commit index."""

    to: Peer
    sender: Peer
    term: int
    prev_index: int
    prev_term: int
    entries: tuple[Entry, ...]
    commit: int
    round: int


class AppendStatus(IntEnum):
    """How an append ended."""

    ACCEPTED = 1
    MISMATCH = 2
    NO_SPACE = 3


class AppendReply(NamedTuple):
    """Answer to the append that began after ``prev_index``.

    ACCEPTED: everything up to ``match`` is on the follower's disk and equal to the leader's log. MISMATCH: ``match`` is
    the last index at or before ``prev_index`` whose term is not above the leader's ``prev_term`` there, ``hint_term``
    its term; whatever the logs share ends at or before it.
    """

    to: Peer
    sender: Peer
    term: int
    prev_index: int
    status: AppendStatus
    match: int
    hint_term: int
    round: int


class Heartbeat(NamedTuple):
    """I lead. Needs no disk and overtakes appends; ``commit`` never passes what this follower is known to hold."""

    to: Peer
    sender: Peer
    term: int
    commit: int
    round: int


class HeartbeatReply(NamedTuple):
    """``accepted``: last index this follower took over from the leader of this term, 0 for none (it restarted)."""

    to: Peer
    sender: Peer
    term: int
    accepted: int
    round: int


class Commit(NamedTuple):
    """Entries up to ``commit`` are committed. Without answer; the next heartbeat says it again."""

    to: Peer
    sender: Peer
    term: int
    commit: int


class TimeoutNow(NamedTuple):
    """Campaign at once (dissertation, 3.10)."""

    to: Peer
    sender: Peer
    term: int


class InstallSnapshot(NamedTuple):
    """A piece of a snapshot (dissertation, 5.3). Whoever stores it checks ``checksum``, and at the end meta.digest."""

    to: Peer
    sender: Peer
    term: int
    meta: SnapshotMeta
    offset: int
    data: bytes
    checksum: int
    is_last: bool
    round: int


class InstallSnapshotReply(NamedTuple):
    """The snapshot ``index`` of ``snapshot_term`` is stored up to ``offset``; ``is_done`` when it is installed."""

    to: Peer
    sender: Peer
    term: int
    index: int  # type: ignore[assignment]
    snapshot_term: int
    offset: int
    is_done: bool
    round: int


class ReadIndex(NamedTuple):
    """A follower asks up to where it must have applied to answer a read (dissertation, 6.4)."""

    to: Peer
    sender: Peer
    term: int
    token: int


class ReadIndexReply(NamedTuple):
    """``index`` was the commit index at some moment after the question, confirmed by a quorum."""

    to: Peer
    sender: Peer
    term: int
    token: int
    index: int  # type: ignore[assignment]


class SnapshotWanted(NamedTuple):
    """A follower with a damaged log asks for a whole state; it takes back whatever it acknowledged above ``above``."""

    to: Peer
    sender: Peer
    term: int
    above: int


class SnapshotPromised(NamedTuple):
    """Answer: holding everything up to ``until`` makes the follower whole again in this term."""

    to: Peer
    sender: Peer
    term: int
    until: int


class Removed(NamedTuple):
    """You are not a member of the configuration committed at ``index`` (dissertation, 4.2.3)."""

    to: Peer
    sender: Peer
    term: int
    index: int  # type: ignore[assignment]


Message: TypeAlias = (
    PreVote
    | PreVoteReply
    | Vote
    | VoteReply
    | Append
    | AppendReply
    | Heartbeat
    | HeartbeatReply
    | Commit
    | TimeoutNow
    | InstallSnapshot
    | InstallSnapshotReply
    | ReadIndex
    | ReadIndexReply
    | SnapshotWanted
    | SnapshotPromised
    | Removed
)

LEADER_SAYS: frozenset[type] = frozenset({Append, Heartbeat, Commit, InstallSnapshot, TimeoutNow, SnapshotPromised})
"""Only the leader of its term sends these: whoever gets one knows the leader (T-05)."""
