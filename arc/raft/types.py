"""The values of consensus: who takes part, what the log holds, what survives a crash.

A voter is a name *and* an incarnation. A node that lost its disk comes back as another incarnation, hence as a stranger
to everybody: it can neither vote twice in a term nor be counted for entries it forgot, and no rule has to say so.

Everything here is immutable and compares by value. Tuples are sorted wherever order has no meaning, so that two nodes
never differ by the order in which a set was walked. Not here: the algebra of configurations (`membership`).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, TypeAlias

TERM_MAX = (1 << 63) - 1
"""Largest term that the fixed 8 bytes on disk and wire may hold with a sign; refused beyond, never wrapped (K-25)."""

ENTRY_OVERHEAD_BYTES = 32
"""What an entry counts in every byte budget besides its payload, so that a million empty ones are not free."""


class Peer(NamedTuple):
    """One incarnation of one node. Incarnations are chosen when a data directory is created and never reused."""

    name: str
    incarnation: int = 1

    def __str__(self) -> str:
        return self.name if self.incarnation == 1 else f"{self.name}#{self.incarnation}"

    def __repr__(self) -> str:
        return str(self)

    @classmethod
    def parse(cls, text: str) -> Peer:
        """Read the form that ``str`` writes. Raises ValueError."""
        name, _, incarnation = text.partition("#")
        return cls(name, int(incarnation) if incarnation else 1)


class Role(IntEnum):
    """What a node does in its term (Raft paper, figure 4; pre-candidates from the dissertation, 9.6)."""

    FOLLOWER = 1
    PRE_CANDIDATE = 2
    CANDIDATE = 3
    LEADER = 4


class EntryKind(IntEnum):
    """What the payload of an entry is. Numbers are on disk and the same as in `arc.raft.storage`."""

    COMMAND = 1
    NOTHING = 2
    MEMBERSHIP = 3


class Configuration(NamedTuple):
    """Who votes and who only listens.

    ``outgoing`` is C_old while the cluster is joint (dissertation, 4.3), else empty; ``voters`` is then C_new.
    ``learners_next`` are voters of C_old that become learners when the joint configuration is left. ``auto_leave``
    says that the leader leaves it by itself.
    """

    voters: tuple[Peer, ...] = ()
    outgoing: tuple[Peer, ...] = ()
    learners: tuple[Peer, ...] = ()
    learners_next: tuple[Peer, ...] = ()
    auto_leave: bool = True

    @property
    def is_joint(self) -> bool:
        """Whether both halves must agree."""
        return bool(self.outgoing)

    def __repr__(self) -> str:
        parts = ["+".join(map(str, self.voters)) or "nobody"]
        if self.outgoing:
            parts.append(f"from {'+'.join(map(str, self.outgoing))}")
        if self.learners:
            parts.append(f"learners {'+'.join(map(str, self.learners))}")
        if self.learners_next:
            parts.append(f"next {'+'.join(map(str, self.learners_next))}")
        return f"<{' '.join(parts)}{'' if self.auto_leave else ' explicit'}>"


Payload: TypeAlias = bytes | Configuration


class Entry(NamedTuple):
    """One place in the log. The payload is opaque bytes, but for MEMBERSHIP it is the configuration itself."""

    index: int  # type: ignore[assignment]
    term: int
    kind: EntryKind = EntryKind.COMMAND
    payload: Payload = b""

    def __repr__(self) -> str:
        what = "" if self.kind is EntryKind.NOTHING else f" {self.payload!r}"
        return f"{self.index}@{self.term}{what}"


def entry_bytes(entry: Entry) -> int:
    """What an entry counts in byte budgets (a configuration counts by its fields, which is next to nothing)."""
    return ENTRY_OVERHEAD_BYTES + len(entry[3])


class HardState(NamedTuple):
    """The term this node is in and whom it voted for in it (Raft paper, figure 2: persistent state)."""

    term: int = 0
    vote: Peer | None = None


class SnapshotMeta(NamedTuple):
    """A snapshot of the state after entry ``index`` of ``term``, with the configuration in force there.

    The digest covers all bytes: two snapshots that are equal in this tuple are equal in every byte, which is why an
    interrupted transfer may be resumed from another leader.
    """

    index: int  # type: ignore[assignment]
    term: int
    configuration: Configuration
    configuration_index: int = 0
    size_bytes: int = 0
    digest: str = ""

    def __repr__(self) -> str:
        return f"<snapshot {self.index}@{self.term} {self.size_bytes}B>"


class Stored(NamedTuple):
    """What a node finds on its disk when it starts.

    ``entries`` are contiguous and end with the last one that is durable; they may begin before the snapshot's end and
    are cut there. Only the tail has to be given: then ``runs`` tells the terms of the part that stays on disk, as
    (first index, term) pairs in order, and ``configurations`` the membership entries in that part. ``applied`` is what
    the state machine holds, at least the snapshot's index. ``is_damaged`` says that entries are missing which this
    node may have acknowledged: it neither votes nor leads until repaired.
    """

    hard_state: HardState = HardState()
    snapshot: SnapshotMeta | None = None
    entries: Sequence[Entry] = ()
    applied: int = 0
    runs: tuple[tuple[int, int], ...] = ()
    configurations: tuple[tuple[int, Configuration], ...] = ()
    is_damaged: bool = False


def bootstrap(*voters: Peer) -> Stored:
    """The disk of a founding member: empty, with the founders as the configuration before the first entry.

    Every founder must be given the same voters; a node that joins later starts from a plain ``Stored()``.
    """
    return Stored(snapshot=SnapshotMeta(0, 0, Configuration(voters=tuple(sorted(voters)))))
