"""What a core asks its driver to do: everything that comes out of ``step``.

Order between effects is only what ``after`` says, so a driver may write, send and apply at the same time:

- `Write`s are done in the order of their ids; ``Persisted(w)`` reports that all up to w survive.
- A `Send` with ``after`` leaves only when that write survives, the others at once. A held message of a term below the
  core's own, by the time it might leave, is better dropped: nobody needs it.
- `Apply`, `Restore` and the answers that wait for them go through one ordered lane.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from arc.raft.events import Request
from arc.raft.messages import Message
from arc.raft.types import Entry, HardState, Peer, SnapshotMeta


class Write(NamedTuple):
    """Make durable, in this order: the staged snapshot, the hard state, the cut of the log, the entries.

    ``snapshot``: the one stored piece by piece is now the newest; if ``truncate_from`` is at or below its index the
    whole log goes and the next entry is snapshot.index + 1. ``truncate_from``: entries from there on go.
    """

    write_id: int
    hard_state: HardState | None = None
    truncate_from: int | None = None
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None


class Send(NamedTuple):
    """Give this to the network, once write ``after`` survives. Losing it is allowed."""

    message: Message
    after: int | None = None


class Apply(NamedTuple):
    """Feed these committed entries, which follow what was applied before, to the state machine; answer `Applied`."""

    entries: tuple[Entry, ...]


class Restore(NamedTuple):
    """Replace the state machine by this snapshot, which is on disk; answer `Applied` with its index."""

    meta: SnapshotMeta


class ReadEntries(NamedTuple):
    """Read entries first..last (at least the first) from the disk; answer `EntriesRead` with the token."""

    first: int
    last: int
    bytes_max: int
    token: int


class Compact(NamedTuple):
    """Entries below ``first`` are not needed any more. Doing less, or later, is allowed."""

    first: int


class SnapshotRead(NamedTuple):
    """Read a piece of an own snapshot; answer `SnapshotChunk`."""

    peer: Peer
    meta: SnapshotMeta
    offset: int
    bytes_max: int


class SnapshotStore(NamedTuple):
    """Stage a piece of a foreign snapshot (offset 0 drops what was staged before); answer `SnapshotStored`.

    The last piece also checks meta.digest, so a snapshot reported stored to its end is whole. It counts for nothing
    before a `Write` says so.
    """

    meta: SnapshotMeta
    offset: int
    data: bytes
    checksum: int
    is_last: bool


class Committed(NamedTuple):
    """The proposal is agreed on, as entry ``index`` of ``term``. Its result comes out of the state machine."""

    index: int  # type: ignore[assignment]
    term: int


class Readable(NamedTuple):
    """The local state machine now holds at least everything that was committed when the read was asked for."""

    index: int  # type: ignore[assignment]


class Transferred(NamedTuple):
    """The target was told to campaign and has done so."""

    target: Peer


class NotLeader(NamedTuple):
    """Nothing happened; ``leader`` is who leads as far as this node knows."""

    leader: Peer | None


class Refused(NamedTuple):
    """Nothing happened and nothing will. ``code`` is one of overloaded, too_large, transferring, no_space, conflict,
    invalid, unavailable."""

    code: str
    message: str


class Unknown(NamedTuple):
    """Leadership ended before the proposal was agreed on; it may still happen, as entry ``index`` of ``term``."""

    index: int  # type: ignore[assignment]
    term: int


Result: TypeAlias = Committed | Readable | Transferred | NotLeader | Refused | Unknown


class Answer(NamedTuple):
    """The one answer to a request."""

    request: Request
    result: Result


class Trace(NamedTuple):
    """Something worth telling happened; ``name`` is stable (see `arc.raft.state.TRACES`)."""

    name: str
    detail: tuple[object, ...] = ()


Effect: TypeAlias = (
    Write | Send | Apply | Restore | ReadEntries | Compact | SnapshotRead | SnapshotStore | Answer | Trace
)
Effects: TypeAlias = list[Effect]
