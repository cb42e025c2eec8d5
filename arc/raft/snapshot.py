"""Snapshots: taking them, cutting the log behind them, and sending one to a follower that needs what was cut (5).

A snapshot travels in checksummed pieces, one at a time, each answered with how far the receiver is. A transfer resumes
wherever that is, even under another leader, if it is the same snapshot to the byte (its identity includes the digest);
pieces of different ones never mix (K-70). The bytes are the driver's business; they pass through here unread.

However fast others are taken meanwhile, one that is on its way stays (`being_sent`), and so does the log behind it. A
transfer that takes longer than the next snapshots take to come would else begin anew for ever (world seed 670054).

The second half is repair: a node whose disk lost entries it had acknowledged asks its leader to forget these
acknowledgements, and takes part in elections again once it holds all that the leader held at that moment.
"""

from __future__ import annotations

from arc.raft.effects import Restore, SnapshotRead, SnapshotStore
from arc.raft.events import SnapshotChunk, SnapshotStored, SnapshotTaken
from arc.raft.heartbeat import acknowledged, begin_round
from arc.raft.leading import Leading
from arc.raft.messages import InstallSnapshot, InstallSnapshotReply, SnapshotPromised, SnapshotWanted
from arc.raft.progress import Pace, Progress
from arc.raft.state import Incoming, State
from arc.raft.types import Peer, SnapshotMeta

STALLED_RETRIES = 10
"""A follower that took nothing of a snapshot, or of the log behind it, for so many retries holds up nothing."""

# ------------------------------------------------------------------------------------------------ own snapshots, log


def on_taken(state: State, event: SnapshotTaken) -> None:
    """The state machine wrote a snapshot; the log before it may go, but for what followers still need."""
    meta = event.meta
    assert meta.index <= state.applied, (meta, state)
    assert meta.configuration.voters, (meta, state)  # A newcomer learns of the founders no sooner than of a change.
    if state.snapshot is not None and meta.index <= state.snapshot.index:
        return
    assert state.log.matches(meta.index, meta.term), (meta, state)  # S-10, K-67: the term of its index
    state.snapshot = meta
    trim(state)


def trim(state: State) -> None:
    """Compact the log behind the newest snapshot, keeping a tail for those who are a little behind (5.1.3; V-06).

    A live follower that needs more keeps its entries up to a budget; one that is beyond it gets the snapshot. There is
    no budget while it takes that: the log behind it is what makes it worth its while.
    """
    if state.snapshot is None:
        return
    config, newest = state.config, state.snapshot.index
    limit = newest - config.trailing_entries
    state.is_holding = False
    if state.leading is not None:
        for progress in state.leading.progress.values():
            if is_alive(state, progress):
                held = progress.match if progress.transfer is None else progress.transfer.meta.index
                least = newest - config.trailing_entries_max
                if held < least and _is_being_rebuilt(state, progress):
                    least, state.is_holding = held, True
                limit = min(limit, max(held, least))
    limit = min(limit, state.applied, state.writes.durable_index)
    if limit > state.log.boundary_index:
        state.compact(limit)


def let_go(state: State) -> None:
    """What of the log was kept beyond the budget goes, when nobody is being rebuilt any more (V-06)."""
    followers = state.leading.progress.values() if state.leading is not None else ()
    if not any(is_alive(state, each) and _is_being_rebuilt(state, each) for each in followers):
        trim(state)


def is_alive(state: State, progress: Progress) -> bool:
    """Whether the follower was heard within an election timeout."""
    return state.now < progress.contact_at + state.config.election_timeout_seconds


def being_sent(state: State) -> frozenset[int]:
    """Indexes of the snapshots that are on their way to somebody."""
    if state.leading is None:
        return frozenset()
    transfers = (progress.transfer for progress in state.leading.progress.values())
    return frozenset(transfer.meta.index for transfer in transfers if transfer is not None)


def _is_being_rebuilt(state: State, progress: Progress) -> bool:
    since = progress.rebuilt_at
    return since is not None and state.now < since + STALLED_RETRIES * state.config.snapshot_retry_seconds


# ----------------------------------------------------------------------------------------------------------- sending


def begin(state: State, leading: Leading, progress: Progress) -> None:
    """What the follower needs is cut off: send it the newest snapshot, if it is alive and few others get one (S-03)."""
    busy = sum(each.pace is Pace.SNAPSHOT for each in leading.progress.values())
    if state.snapshot is None or busy >= state.config.snapshot_sends_max or not is_alive(state, progress):
        return
    assert state.snapshot.index >= state.log.boundary_index, state  # I-09: what is cut is in the snapshot
    progress.snapshot(state.snapshot, state.now)
    state.trace("snapshot_begun", progress.peer, state.snapshot)
    _read(state, progress)


def _read(state: State, progress: Progress) -> None:
    transfer = progress.transfer
    assert transfer is not None, progress
    transfer.is_reading = True
    state.effects.append(SnapshotRead(progress.peer, transfer.meta, transfer.offset, state.config.snapshot_chunk_bytes))


def on_chunk(state: State, leading: Leading, event: SnapshotChunk) -> None:
    """A piece was read: send it. One that is gone (superseded) starts the newest from the beginning."""
    progress = leading.progress.get(event.peer)
    transfer = progress.transfer if progress is not None else None
    if progress is None or transfer is None or not transfer.is_reading:
        state.trace("stale_completion", "snapshot chunk")
        return
    if (transfer.meta, transfer.offset) != (event.meta, event.offset):
        state.trace("stale_completion", "snapshot chunk")
        return
    transfer.is_reading = False
    if event.data is None:
        progress.transfer = None
        progress.probe()
        return
    transfer.sent_at = state.now
    state.send(
        InstallSnapshot(
            progress.peer,
            state.me,
            state.term,
            event.meta,
            event.offset,
            event.data,
            event.checksum,
            event.is_last,
            leading.round,
        )
    )


def on_reply(state: State, leading: Leading, message: InstallSnapshotReply) -> None:
    """The follower says how far it is; go on from there, back to appends when it is done (S-04)."""
    progress = leading.progress.get(message.sender)
    if progress is None:
        state.trace("stranger", message.sender)
        return
    acknowledged(state, leading, progress, message.round)
    transfer = progress.transfer
    if message.round < progress.trust_round:
        return
    if transfer is None or (transfer.meta.index, transfer.meta.term) != (message.index, message.snapshot_term):
        return
    if message.is_done:
        leading.is_settled = not progress.accept(message.index) and leading.is_settled
        progress.replicate()
        progress.took(state.now, state.snapshot)
        return
    if message.offset == transfer.offset or transfer.is_reading:
        return  # Asked for what is on its way; if that is lost, `retry` sends it again.
    if message.offset != transfer.offset + state.config.snapshot_chunk_bytes:
        state.trace("snapshot_resumed", progress.peer, message.offset)
    transfer.offset = message.offset
    if message.offset > transfer.reached:
        transfer.reached = message.offset
        progress.took(state.now, state.snapshot)
    _read(state, progress)


def retry(state: State, leading: Leading) -> None:
    """Send again what was not answered for a while, if there is anybody to answer; forget transfers to the silent."""
    for progress in leading.progress.values():
        transfer = progress.transfer
        if transfer is None or state.now < transfer.sent_at + state.config.snapshot_retry_seconds:
            continue
        if not is_alive(state, progress):
            progress.transfer = None
            progress.probe()  # Frees its place among the few; begins anew when it is back.
        elif not transfer.is_reading:
            transfer.sent_at = state.now
            _read(state, progress)


# --------------------------------------------------------------------------------------------------------- receiving


def on_install(state: State, message: InstallSnapshot) -> None:
    """A piece arrived. Store it if it is the next one; answer how far we are otherwise."""
    state.heard_leader(message.sender)
    meta, incoming = message.meta, state.incoming
    if meta.index <= state.commit or state.log.matches(meta.index, meta.term):
        # The log already holds all that the snapshot stands for: it stays, with whatever follows (S-02, K-65, K-68).
        if meta.index > state.commit:
            state.commit_to(meta.index)
        _reply(state, message.sender, meta, meta.size_bytes, message.round, is_done=True)
        return
    if incoming is None or incoming.meta != meta:
        incoming = state.incoming = Incoming(meta, message.sender)
    incoming.sender, incoming.round = message.sender, message.round
    if incoming.is_storing:
        return
    if message.offset != incoming.offset:
        _reply(state, message.sender, meta, incoming.offset, message.round)
        return
    incoming.is_storing = True
    incoming.size, incoming.is_last = len(message.data), message.is_last
    state.effects.append(SnapshotStore(meta, message.offset, message.data, message.checksum, message.is_last))


def on_stored(state: State, event: SnapshotStored) -> None:
    """A piece is stored, or did not have its checksum; with the last one the snapshot is whole and counts."""
    incoming = state.incoming
    if incoming is None or not incoming.is_storing or (incoming.meta, incoming.offset) != (event.meta, event.offset):
        state.trace("stale_completion", "snapshot piece")
        return
    incoming.is_storing = False
    if not event.is_ok:
        state.trace("snapshot_refused", event.meta, event.offset)
        if incoming.is_last:
            incoming.offset = 0  # The digest of the whole did not match: any piece may be wrong.
    else:
        incoming.offset += incoming.size
        if incoming.is_last:
            state.incoming = None
            install(state, incoming)
            return
    _reply(state, incoming.sender, incoming.meta, incoming.offset, incoming.round)


def install(state: State, incoming: Incoming) -> None:
    """Replace log and state by a whole snapshot, unless the log caught up meanwhile (7; S-01, S-02, M-14)."""
    meta = incoming.meta
    if meta.index > state.commit and not state.log.matches(meta.index, meta.term):
        # Whatever follows in the log conflicts with a committed entry, hence no one ever counted on it.
        state.writes.cut(state.commit + 1)
        state.truncate_from = min(state.commit + 1, state.truncate_from or state.commit + 1)
        state.log.reset(meta.index, meta.term)
        state.unwritten = meta.index + 1
        state.history.reset(meta.configuration_index, meta.configuration)
        state.commit = meta.index
        state.accepted_index = min(state.accepted_index, meta.index)
        state.snapshot = state.snapshot_to_write = meta
        state.restoring, state.restore_after = meta, state.writes.next_id
        state.applying = meta.index
        state.applying_bytes.clear()
        state.apply_read = 0
        state.trace("snapshot_installed", meta)
        state.trace("membership", meta.configuration_index, meta.configuration)
        state.follow_membership()
    elif meta.index > state.commit:
        state.commit_to(meta.index)
    _reply(state, incoming.sender, meta, meta.size_bytes, incoming.round, is_done=True)


def restore_when_durable(state: State) -> None:
    """The snapshot is on disk for good: now the state machine may forget what it had."""
    if state.restoring is not None and 0 < state.restore_after <= state.writes.persisted_id:
        state.restore_after = 0
        state.effects.append(Restore(state.restoring))


def _reply(state: State, to: Peer, meta: SnapshotMeta, offset: int, number: int, *, is_done: bool = False) -> None:
    reply = InstallSnapshotReply(to, state.me, state.term, meta.index, meta.term, offset, is_done, number)
    state.send(reply, covers=meta.index if is_done else 0)


# ------------------------------------------------------------------------------------------------------------ repair


def ask_repair(state: State) -> None:
    """A damaged node tells its leader what it still holds, once a term (1.3; I-30, V-08)."""
    if state.is_damaged and state.leader is not None and state.repair_term != state.term:
        state.trace("repair_begun", state.writes.durable_index)
        state.send(SnapshotWanted(state.leader, state.me, state.term, state.writes.durable_index))


def on_wanted(state: State, leading: Leading, message: SnapshotWanted) -> None:
    """Take back what the follower had acknowledged; appends, or a snapshot, make it whole."""
    progress = leading.progress.get(message.sender)
    if progress is None:
        state.trace("stranger", message.sender)
        return
    progress.forget(message.above, min(message.above, state.log.last_index) + 1, leading.round + 1)
    begin_round(state, leading)
    state.send(SnapshotPromised(message.sender, state.me, state.term, state.log.last_index))


def on_promised(state: State, message: SnapshotPromised) -> None:
    """Holding all that the leader held at one moment of its term includes all that was ever acknowledged here."""
    state.heard_leader(message.sender)
    if state.is_damaged:
        state.repair_term, state.repair_until = state.term, message.until


def finish_repair(state: State) -> None:
    """Vote and lead again once whole."""
    if (
        state.is_damaged
        and state.repair_term == state.term == state.accepted_term
        and min(state.accepted_index, state.writes.durable_index) >= state.repair_until
    ):
        state.is_damaged = False
        state.trace("repaired", state.repair_until)
        state.restart_timer(state.now)
