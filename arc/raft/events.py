"""What may happen to a core: everything that goes into ``step``. None of these can come from the network but Receive.

``request`` is the caller's own token (any hashable value); it comes back in exactly one `effects.Answer`.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum
from typing import NamedTuple, TypeAlias

from arc.raft.messages import Message
from arc.raft.types import Entry, Peer, SnapshotMeta

Request: TypeAlias = Hashable


class Receive(NamedTuple):
    """A message arrived, whole and with a right checksum; it may be late, doubled or out of order."""

    message: Message


class Tick(NamedTuple):
    """Time passed. Due at ``core.deadline``; harmless earlier."""


class Persisted(NamedTuple):
    """All writes up to this id survive a power cut."""

    write_id: int


class WriteRefused(NamedTuple):
    """The disk is full: the entries of this write and of all later ones were not stored; the rest of them is done.

    Hard states, cuts and a staged snapshot that begins to count need next to no room; for these the driver keeps a
    reserve, and goes on to report the writes as persisted. What it holds back for one of them it forgets and never
    sends: an acknowledgement among it would be a lie (K-56).
    """

    write_id: int


class SpaceAgain(NamedTuple):
    """The disk has room again."""


class Applied(NamedTuple):
    """The state machine holds everything up to ``index``."""

    index: int  # type: ignore[assignment]


class Propose(NamedTuple):
    """Commands to agree on, as (request, payload) pairs; one batch is one write and one message per follower."""

    commands: tuple[tuple[Request, bytes], ...]


class Read(NamedTuple):
    """A linearizable read: answered `Readable` when the local state machine may be looked at."""

    request: Request


class ChangeKind(IntEnum):
    """What to do with a member. VOTER promotes a learner, LEARNER demotes a voter."""

    VOTER = 1
    LEARNER = 2
    REMOVE = 3


class Change(NamedTuple):
    """One member's part of a membership change."""

    kind: ChangeKind
    peer: Peer


class ChangeMembers(NamedTuple):
    """Change who takes part.

    With ``expect_index`` the change is refused unless the current configuration stands at that index. Voters that are
    new first catch up as learners (dissertation, 4.2.1), unless ``is_catch_up`` is off. An empty ``changes`` leaves a
    joint configuration that does not leave by itself.
    """

    request: Request
    changes: tuple[Change, ...]
    expect_index: int | None = None
    is_catch_up: bool = True
    is_auto_leave: bool = True


class TransferLeadership(NamedTuple):
    """Hand leadership to ``target``, or to whoever is most caught up."""

    request: Request
    target: Peer | None = None


class Campaign(NamedTuple):
    """Behave as if the election timeout had passed."""


class ForgetLeader(NamedTuple):
    """Somebody knows the leader is dead: stop shielding it from elections."""


class Unreachable(NamedTuple):
    """The connection to a peer broke; what was in flight is probably lost."""

    peer: Peer


class EntriesRead(NamedTuple):
    """Answer to `effects.ReadEntries`."""

    entries: tuple[Entry, ...]
    token: int


class SnapshotTaken(NamedTuple):
    """The state machine's state after meta.index is safe on this node's disk; the log before it may go."""

    meta: SnapshotMeta


class SnapshotChunk(NamedTuple):
    """Answer to `effects.SnapshotRead`; ``data`` is None when that snapshot is not there any more."""

    peer: Peer
    meta: SnapshotMeta
    offset: int
    data: bytes | None
    checksum: int
    is_last: bool


class SnapshotStored(NamedTuple):
    """Answer to `effects.SnapshotStore`: ``is_ok`` unless a checksum or, at the end, the digest did not match."""

    meta: SnapshotMeta
    offset: int
    is_ok: bool


Event: TypeAlias = (
    Receive
    | Tick
    | Persisted
    | WriteRefused
    | SpaceAgain
    | Applied
    | Propose
    | Read
    | ChangeMembers
    | TransferLeadership
    | Campaign
    | ForgetLeader
    | Unreachable
    | EntriesRead
    | SnapshotTaken
    | SnapshotChunk
    | SnapshotStored
)
