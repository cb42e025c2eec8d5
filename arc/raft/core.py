"""The core: one event in, effects out. READ FIRST.

A `RaftCore` is all of consensus for one node and knows nothing of sockets, files, clocks or threads. Its driver loops:

    effects = core.step(event, now)      # pure: same events, same times, same rng -> same effects
    ... write, send, apply, answer; report completions as further events; Tick at ``core.deadline``

``now`` is taken after the event was received and never before. One step: terms first (5.1), then the handler of the
event, then, for a leader, whatever became possible; then all that is dirty goes to disk as one write, and what is
committed to the state machine.

This file only dispatches. The rules are in the topic files, in the order of the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from arc.ports import Rng
from arc.raft import append, change, election, heartbeat, invariants, lanes, messages, reads, snapshot, transfer
from arc.raft.config import Config
from arc.raft.effects import Effects
from arc.raft.events import (
    Applied,
    Campaign,
    ChangeMembers,
    EntriesRead,
    Event,
    ForgetLeader,
    Persisted,
    Propose,
    Read,
    Receive,
    SnapshotChunk,
    SnapshotStored,
    SnapshotTaken,
    SpaceAgain,
    Tick,
    TransferLeadership,
    Unreachable,
    WriteRefused,
)
from arc.raft.messages import Message
from arc.raft.progress import Pace
from arc.raft.state import State
from arc.raft.status import Status, look
from arc.raft.types import TERM_MAX, Entry, Peer, Role, Stored


class RaftCore:
    """Consensus of one node: ``me`` is its incarnation, ``stored`` what was on its disk, ``rng`` its own stream.

    Refuses to run without assertions: they are part of the safety argument.
    """

    def __init__(self, me: Peer, config: Config, stored: Stored, rng: Rng, now: float) -> None:
        if not __debug__:
            raise RuntimeError("consensus does not run with assertions off (python -O)")
        self._clock = now
        self._offset = 0.0
        self._state = State(me, config, stored, rng, now)
        self._before = invariants.remember(self._state)

    def __repr__(self) -> str:
        return repr(self._state)

    # ------------------------------------------------------------------------------------------------------- public

    def step(self, event: Event, now: float) -> Effects:
        """Take in one event at time ``now`` (seconds); returns what to do. An AssertionError means: stop the node."""
        state = self._state
        state.effects = []
        if now < self._clock:
            self._clock_went_back(now)
        self._clock = now
        state.now = now + self._offset
        _HANDLERS[type(event)](state, event)
        _finish(state)
        invariants.check(state, self._before)
        self._before = invariants.remember(state)
        return state.effects

    @property
    def deadline(self) -> float | None:
        """When to call with `Tick` at the latest; None: only when something happens."""
        state = self._state
        due: list[float] = []
        if state.leading is not None:
            leading = state.leading
            due.append(leading.heartbeat_at)
            if state.config.is_check_quorum:
                due.append(leading.quorum_at + state.config.election_timeout_seconds)
            if leading.handover is not None:
                due.append(leading.handover.deadline)
            if leading.catch_up is not None:
                due.append(leading.catch_up.deadline)
        elif state.election_at is not None:
            due.append(state.election_at)
        if state.asked:
            due.append(state.ask_again_at)
        return min(due) - self._offset if due else None

    @property
    def is_leader(self) -> bool:
        """Whether this node leads as far as it knows."""
        return self._state.leading is not None

    @property
    def term(self) -> int:
        """The current term; a held message of a lower one is better dropped."""
        return self._state.term

    @property
    def leader(self) -> Peer | None:
        """Who leads the current term, if known."""
        return self._state.leader

    @property
    def state(self) -> State:
        """Everything, for checkers and tests: look, do not touch."""
        return self._state

    def entry(self, index: int) -> Entry | None:
        """The entry at an index, if it is in memory."""
        return self._state.log.entry(index)

    def term_at(self, index: int) -> int | None:
        """Term of an entry, None outside the log."""
        return self._state.log.term(index)

    def status(self) -> Status:
        """A snapshot of what matters; cheap, but not for every step."""
        return look(self._state, self._offset)

    def _clock_went_back(self, now: float) -> None:
        """Go on counting from where we were; a lease counted on such a clock is worth nothing (1.3: lease reads)."""
        state = self._state
        back = self._clock - now
        self._offset += back
        state.trace("clock_went_back", back)
        if state.leading is not None:
            state.leading.is_lease_void = True


# ----------------------------------------------------------------------------------------------------------- finishing


def _finish(state: State) -> None:
    """Do what became possible. Order: commit, consequences of it, sends, then disk and state machine."""
    leading = state.leading
    if leading is not None:
        is_news = append.advance_commit(state, leading)
        if leading.handover is not None:
            transfer.advance(state, leading)
        if is_news or leading.catch_up is not None or leading.change_request is not None:
            change.advance(state, leading)
            leading = state.leading
            if leading is not None:  # What the configuration that was just appended needs, is there perhaps (4.1).
                append.advance_commit(state, leading)
    if leading is not None:
        if leading.reads or leading.reads_early or state.asked:
            reads.advance(state, leading)
        append.pump(state, leading)
    elif state.asked:
        reads.ask_leader(state)
    if state.is_damaged:
        snapshot.finish_repair(state)
    if state.is_holding:
        snapshot.let_go(state)
    lanes.emit_write(state)
    lanes.emit_apply(state)
    lanes.evict(state)
    if state.readable:
        reads.answer_readable(state)


# --------------------------------------------------------------------------------------------------------------- events


def _on_receive(state: State, event: Receive) -> None:
    """Terms first (Raft paper, 5.1), then the handler of the message."""
    message = event.message
    kind, term = type(message), message.term
    if message.to != state.me:
        state.trace("misaddressed", message.to)  # I-40: for another incarnation of this node, or not for us at all.
        return
    if term > TERM_MAX:
        state.trace("term_overflow", term)
        return
    if term > state.term and kind is not messages.PreVote:
        if not _on_higher_term(state, message):
            return
    elif term < state.term and not _passes_below_term(state, message):
        return
    leader_handler = _OF_LEADER.get(kind)
    if leader_handler is None:
        _MESSAGES[kind](state, message)
    elif state.leading is not None:
        leader_handler(state, state.leading, message)


def _on_higher_term(state: State, message: Message) -> bool:
    """Whoever sees a higher term follows in it (5.1; T-01) — but a shielded leader is spared (4.2.3; E-22, Q-02)."""
    if type(message) is messages.Vote:
        if message.is_transfer:
            if state.leading is not None:
                transfer.succeeded(state, state.leading, message.sender)
        elif state.is_shielding(message.sender):
            state.trace("vote_shielded", message.sender)
            election.tell_if_removed(state, message.sender)
            return False
    leader = message.sender if type(message) in messages.LEADER_SAYS else None
    state.become_follower(message.term, leader)
    return True


def _passes_below_term(state: State, message: Message) -> bool:
    """Old requests are told the new term, everything else of an old term is dropped (5.1; T-02, K-07, K-35).

    Pre-votes are about a term that does not exist yet, so both their directions are judged by their own rules.
    """
    match message:
        case messages.PreVote() | messages.PreVoteReply():
            return True
        case messages.Vote():
            state.send(messages.VoteReply(message.sender, state.me, state.term, False))
        case messages.Append() | messages.Heartbeat() | messages.InstallSnapshot():
            # An old leader learns that it is one, and a candidate stuck in a higher term is freed (Q-03, K-26).
            state.send(messages.HeartbeatReply(message.sender, state.me, state.term, 0, 0))
        case _:
            pass
    return False


def _on_heartbeat(state: State, message: messages.Heartbeat) -> None:
    heartbeat.on_heartbeat(state, message)
    if state.is_damaged:
        snapshot.ask_repair(state)


def _on_tick(state: State, _: Tick) -> None:
    leading = state.leading
    if leading is None:
        if state.election_at is not None and state.now >= state.election_at:
            election.campaign(state)
        return
    if heartbeat.has_lost_quorum(state, leading):  # §6.2 Q-01
        state.trace("leader_lost_quorum", leading.quorum_at)
        state.become_follower(state.term, None)
    elif _is_disk_stalled(state):
        state.trace("leader_disk_stalled", state.writes.oldest_issued_at)
        state.become_follower(state.term, None)
    elif state.now >= leading.heartbeat_at:  # E-01
        transfer.send_again(leading)
        snapshot.retry(state, leading)
        heartbeat.begin_round(state, leading)


def _is_disk_stalled(state: State) -> bool:
    since = state.writes.oldest_issued_at
    return since is not None and state.now >= since + state.config.disk_stall_seconds


def _on_persisted(state: State, event: Persisted) -> None:
    if event.write_id <= state.writes.persisted_id:
        state.trace("stale_completion", "write", event.write_id)
        return
    state.writes.persisted(event.write_id)
    if state.leading is not None:
        state.leading.is_settled = False  # §10.2.1 K-05: only now does the leader count itself.
    snapshot.restore_when_durable(state)
    election.on_persisted(state)


def _on_write_refused(state: State, event: WriteRefused) -> None:
    """The disk is full: go on as after a crash that lost what was not written, without the crash (1.3; D-11, K-56)."""
    state.has_space = False
    lost = state.writes.refuse(event.write_id, state.log.boundary_index)
    state.trace("no_space", lost)
    if state.leading is not None:
        successor = transfer.best_target(state, state.leading)
        if successor is not None:
            state.send(messages.TimeoutNow(successor, state.me, state.term))
    if state.role is not Role.FOLLOWER:
        state.become_follower(state.term, None)
    if lost is not None and lost <= state.log.last_index:
        state.lives += 1
        state.commit = min(state.commit, lost - 1)
        state.cut(lost)
    state.restart_timer(state.now)


def _on_space_again(state: State, _: SpaceAgain) -> None:
    state.has_space = True
    state.restart_timer(state.now)


def _on_applied(state: State, event: Applied) -> None:
    assert event.index <= state.applying, (event, state)  # I-05
    if state.restoring is not None and event.index == state.restoring.index and not state.restore_after:
        state.restoring = None
    while state.applying_bytes and state.applying_bytes[0][0] <= event.index:
        state.applying_bytes.popleft()
    state.applied = max(state.applied, event.index)


def _on_campaign(state: State, _: Campaign) -> None:
    election.campaign(state)


def _on_forget_leader(state: State, _: ForgetLeader) -> None:
    """Lower the shield; term, vote and timer stay (Q-07). Refused with lease reads, which live behind it."""
    if state.role is Role.FOLLOWER and not state.config.is_lease_read:
        state.leader = state.contact_from = None
        state.contact_at = float("-inf")


def _on_unreachable(state: State, event: Unreachable) -> None:
    """What was in flight is probably lost: ask where the follower is (R-10)."""
    progress = state.leading.progress.get(event.peer) if state.leading is not None else None
    if progress is not None and progress.pace is Pace.REPLICATE:
        progress.probe()
        progress.is_probe_sent = True  # Not before it is back, which a heartbeat answer will tell.


def _on_snapshot_chunk(state: State, event: SnapshotChunk) -> None:
    if state.leading is not None:
        snapshot.on_chunk(state, state.leading, event)


_Handler = Callable[[State, Any], None]

_HANDLERS: dict[type, _Handler] = {
    Receive: _on_receive,
    Tick: _on_tick,
    Persisted: _on_persisted,
    WriteRefused: _on_write_refused,
    SpaceAgain: _on_space_again,
    Applied: _on_applied,
    Propose: append.propose,
    Read: reads.on_read,
    ChangeMembers: change.on_change,
    TransferLeadership: transfer.on_transfer,
    Campaign: _on_campaign,
    ForgetLeader: _on_forget_leader,
    Unreachable: _on_unreachable,
    EntriesRead: append.on_entries_read,
    SnapshotTaken: snapshot.on_taken,
    SnapshotChunk: _on_snapshot_chunk,
    SnapshotStored: snapshot.on_stored,
}

_MESSAGES: dict[type, _Handler] = {
    messages.PreVote: election.on_pre_vote,
    messages.PreVoteReply: election.on_pre_vote_reply,
    messages.Vote: election.on_vote,
    messages.VoteReply: election.on_vote_reply,
    messages.Append: append.on_append,
    messages.Heartbeat: _on_heartbeat,
    messages.Commit: heartbeat.on_commit,
    messages.TimeoutNow: election.on_timeout_now,
    messages.InstallSnapshot: snapshot.on_install,
    messages.ReadIndexReply: reads.on_read_index_reply,
    messages.SnapshotPromised: snapshot.on_promised,
    messages.Removed: election.on_removed,
}

_OF_LEADER: dict[type, Callable[[State, Any, Any], None]] = {
    messages.AppendReply: append.on_append_reply,
    messages.HeartbeatReply: heartbeat.on_heartbeat_reply,
    messages.InstallSnapshotReply: snapshot.on_reply,
    messages.ReadIndex: reads.on_read_index,
    messages.SnapshotWanted: snapshot.on_wanted,
}
"""Only a leader has use for these; anybody else drops them."""
