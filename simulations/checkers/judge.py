"""Looks at a node after each of its events, and calls the properties that may have changed by it.

What did not move is not looked at: that is what makes checking cheaper than stepping.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc.raft.effects import Effects, Write
from arc.raft.events import Event, Persisted, Receive
from arc.raft.messages import AppendReply, InstallSnapshotReply
from arc.raft.types import Configuration, Entry, Peer, Role
from simulations import probes
from simulations.checkers import commits, contact, elections, leaders, membership, recovery, snapshots
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host


class Memory:
    """What the judge remembers of one node between events."""

    __slots__ = (
        "commit",
        "configuration",
        "contact",
        "covered",
        "has_led",
        "leader_heard",
        "matches",
        "role",
        "snapshot_index",
        "term",
        "term_promised",
    )

    def __init__(self) -> None:
        self.role = Role.FOLLOWER
        self.term = 0
        self.commit = 0
        self.configuration: Configuration | None = None
        """In force before this event."""
        self.has_led = False
        """Whether it led before or after the event."""
        self.snapshot_index = 0
        self.matches: dict[Peer, tuple[object, int, int]] = {}
        self.term_promised = 0
        """The highest term that was ever on this node's disk."""
        self.leader_heard: Peer | None = None
        """Whose word as a leader this life heard last."""
        self.covered = (0, 0)
        """Term, and up to where the entries of its leader reach in this life."""
        self.contact: contact.Contact | None = None
        """Of the newest leadership."""


def started(host: Host) -> None:
    """A life began: I-29, the core knows exactly what its disk held; I-01, it leads nothing."""
    state, synced, memory = host.state, host.disk.synced, host.memory
    snapshot_index = synced.snapshot.index if synced.snapshot is not None else 0
    if state.role is not Role.FOLLOWER:
        raise Violation("I-01", "a node starts as something else than a follower", state)
    if synced.hard.term < memory.term_promised:
        raise Violation("I-10", "a node starts from an older disk than it had", state, memory.term_promised)
    recovery.i30_damage_is_known(host)
    if (state.term, state.vote) != tuple(synced.hard):
        raise Violation("I-29", "the core starts with another term or vote than its disk", state, synced.hard)
    if state.log.last_index != max(synced.last, snapshot_index):
        raise Violation("I-29", "the core starts with another log than its disk", state, synced.last)
    if state.commit < snapshot_index or state.commit > host.world.ghost.commit:
        raise Violation("I-08", "the commit index after a start", state, snapshot_index)
    memory.role, memory.term, memory.commit = Role.FOLLOWER, state.term, state.commit
    memory.has_led = False
    memory.leader_heard = memory.contact = None
    memory.covered = (0, 0)
    memory.matches.clear()
    memory.snapshot_index = snapshot_index
    membership.i18_newest_in_log(host)
    memory.configuration = synced.configurations[-1][1]


def crashed(host: Host) -> None:
    """A life ended: what was synced and committed is still there (I-07)."""
    host.memory.term_promised = max(host.memory.term_promised, host.disk.synced.hard.term)
    commits.i07_still_held(host)


def writing(host: Host, write: Write) -> None:
    """The core asks for a write, which is not in the images yet."""
    elections.i10_term_of_write(host, write)
    leaders.i02_append_only(host, write)
    if write.snapshot is not None:
        snapshots.i07_stands_for_what_is_missing(host, write.snapshot)
    if write.snapshot is not None:
        snapshots.i23_reference(host, write.snapshot)


def stepped(host: Host, event: Event, effects: Effects) -> None:
    """One event was taken in; its write, if any, is in the issued image."""
    state, memory = host.state, host.memory
    memory.has_led = memory.role is Role.LEADER or state.role is Role.LEADER
    if state.role is not memory.role or state.term != memory.term:
        elections.moved(host, memory.role, memory.term)
        if type(event) is Receive:
            elections.v07_shield(host, memory.role, event)
        memory.matches.clear()
        memory.role, memory.term = state.role, state.term
    if effects:
        if type(effects[0]) is Write:
            commits.i09_log_is_what_was_written(host)
        if len(effects) > 5_000:
            raise Violation("I-34", "too many effects for one event", len(effects), state)
    if host.disk.promised:
        recovery.i30_quiet_until_whole(host)
    if state.commit != memory.commit:
        commits.moved(host, memory.commit)
        memory.commit = state.commit
    if effects and type(effects[0]) is Write:
        membership.i18_newest_in_log(host)
        memory.configuration = host.disk.issued.configurations[-1][1]
    if type(event) is Persisted or (effects and type(effects[0]) is Write):
        commits.i12_believes_its_disk(host)
    if state.leading is not None:
        contact.stepped(host, event)
        leaders.i31_limits(host)
        leaders.i33_transfer_ends(host)
        if type(event) is Receive:
            message = event.message
            if isinstance(message, AppendReply | InstallSnapshotReply):
                leaders.i13_match(host, message)
                if host.world.is_hunting:
                    probes.hunt(host)


def applying(host: Host, entry: Entry) -> None:
    """The core hands an entry to the state machine."""
    commits.i05_same_everywhere(host, entry)
