"""What a leader knows of itself and of its followers: I-02, I-13, I-14, I-31, I-33."""

from __future__ import annotations

from typing import TYPE_CHECKING

from arc.raft.effects import Write
from arc.raft.messages import AppendReply, InstallSnapshotReply
from arc.raft.types import Role
from simulations.checkers.violation import Violation

PROBE, REPLICATE = 1, 2
"""`arc.raft.progress.Pace`, by number: a copy of the core with a planted bug has a copy of it."""

if TYPE_CHECKING:
    from simulations.host import Host


def i02_append_only(host: Host, write: Write) -> None:
    """I-02 Leader Append-Only (Raft paper, 5.3): a leader never cuts its log."""
    memory, state = host.memory, host.state
    is_same = memory.role is Role.LEADER and state.leading is not None and memory.term == state.term
    if is_same and write.truncate_from is not None:
        raise Violation("I-02", "a leader cuts its log", host, write.truncate_from)


def i13_match(host: Host, message: AppendReply | InstallSnapshotReply) -> None:
    """I-13, I-14 (figure 2: matchIndex): what the leader believes replicated is on that disk, and never less again."""
    peer, state = message.sender, host.state
    progress = state.leading.progress.get(peer)
    other = host.world.hosts.get(peer)
    if progress is None or other is None:
        return
    match, log, synced = progress.match, host.disk.issued, other.disk.synced
    known, before, trusted = host.memory.matches.get(peer, (None, 0, 0))
    # Another object: it was removed and came back. Another round: the follower itself, with a damaged disk, took back
    # what it had acknowledged.
    is_taken_back = other.disk.damages and progress.trust_round > trusted
    if known is progress and match < before and not is_taken_back:
        raise Violation("I-14", "match falls within a leadership", host, progress)
    if message.term != state.term and match > before:
        raise Violation("I-13", "an answer from another term moves match", host, progress, message)
    host.memory.matches[peer] = (progress, match, progress.trust_round)
    if match == state.log.last_index:
        if progress.pace == REPLICATE and progress.in_flight:
            raise Violation("I-31", "a window is in use although all is acknowledged", host, progress)
        is_believed = message.round >= progress.trust_round  # Not if the follower has taken its word back since.
        if type(message) is AppendReply and is_believed and message.match == match and progress.pace == PROBE:
            raise Violation("I-14", "a follower that has everything is still probed", host, progress)
    if match > log.last:
        raise Violation("I-14", "match beyond the own log", host, progress)
    term = max(synced.hard.term, other.state.term if other.core is not None else 0)
    if match and term <= host.state.term and not other.disk.holds(match, log.chain(match)):
        raise Violation("I-13", "match is not on the follower's disk", host, progress, synced.last)


def i31_limits(host: Host) -> None:
    """I-31, I-14: what the configuration bounds is bounded."""
    state, config = host.state, host.config
    leading = state.leading
    if len(leading.proposals) > config.uncommitted_entries_max:
        raise Violation("I-31", "more uncommitted proposals than allowed", len(leading.proposals), state)
    if leading.uncommitted_bytes > config.uncommitted_bytes_max + config.entry_bytes_max:
        raise Violation("I-31", "more uncommitted bytes than allowed", leading.uncommitted_bytes, state)
    for progress in leading.progress.values():
        if progress.in_flight > config.window_messages_max or progress.match >= progress.next:
            raise Violation("I-14", "progress out of bounds", progress)


def i33_transfer_ends(host: Host) -> None:
    """I-33 (3.10): a transfer lasts one election timeout at most."""
    handover = host.state.leading.handover
    if handover is not None and host.state.now >= handover.deadline:
        raise Violation("I-33", "a transfer does not end", host, handover.target)
