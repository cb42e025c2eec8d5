"""Rounds of heartbeats: they keep followers quiet, tell the commit index, and prove that the leader still leads.

A round has a number and a start on the leader's own clock. Every answer carries the round of what it answers, so a
quorum that answered round r confirms the leadership at the start of r: that one fact carries CheckQuorum (6.2), leases
(6.4.1) and reads (6.4). Heartbeats need neither disk nor the log, so a slow disk causes no election.
"""

from __future__ import annotations

from arc.raft.leading import Leading
from arc.raft.membership import quorum_value
from arc.raft.messages import Commit, Heartbeat, HeartbeatReply
from arc.raft.progress import Pace, Progress
from arc.raft.state import State

ROUNDS_MAX = 256
"""Answers to older rounds no longer count as contact; at 100 ms that is far beyond any election timeout."""


def begin_round(state: State, leading: Leading) -> None:
    """Send a heartbeat to every other member (5.2; E-01)."""
    leading.round += 1
    leading.rounds.append((leading.round, state.now))
    if len(leading.rounds) > ROUNDS_MAX:
        leading.rounds.popleft()
    leading.heartbeat_at = state.now + state.config.heartbeat_seconds
    for progress in leading.progress.values():
        # Never beyond what this follower is known to hold: its log may still differ after that (C-06, K-32).
        commit = min(state.commit, progress.match)
        progress.commit_told = commit
        state.send(Heartbeat(progress.peer, state.me, state.term, commit, leading.round))
    confirm(state, leading)


def on_heartbeat(state: State, message: Heartbeat) -> None:
    """The leader leads: be quiet, learn what is committed."""
    state.heard_leader(message.sender)
    follow_commit(state, message.commit)
    accepted = state.accepted_index if state.accepted_term == state.term else 0
    state.send(HeartbeatReply(message.sender, state.me, state.term, accepted, message.round))


def on_commit(state: State, message: Commit) -> None:
    """The leader committed something."""
    state.heard_leader(message.sender)
    follow_commit(state, message.commit)


def follow_commit(state: State, commit: int) -> None:
    """Believe a commit notice as far as the log is known to be the leader's (I-15).

    Entries after the last one accepted in *this* term may be leftovers of an older one and conflict with what the
    leader committed at their index; so neither notice nor heartbeat reaches past it (K-31, K-44, K-98).
    """
    if state.accepted_term == state.term:
        reach = min(commit, state.accepted_index)
        if reach > state.commit:
            state.commit_to(reach)


def on_heartbeat_reply(state: State, leading: Leading, message: HeartbeatReply) -> None:
    """The follower is there; whatever it misses may be sent again (R-08, R-10, R-11)."""
    progress = leading.progress.get(message.sender)
    if progress is None:
        state.trace("stranger", message.sender)
        return
    acknowledged(state, leading, progress, message.round)
    if progress.pace is Pace.SNAPSHOT or message.round <= progress.round_sent:
        return  # The last append left after this heartbeat: its own answer may still come.
    progress.is_probe_sent = False
    if progress.pace is Pace.REPLICATE and not progress.is_open(
        state.config.window_messages_max, state.config.window_bytes_max
    ):
        state.trace("window_full", progress.peer, progress.in_flight)
        progress.free_first()  # What it waits for may be lost (F-01, F-02).
    is_behind = progress.match < state.log.last_index
    # One that restarted accepted nothing yet in this term and would believe no commit notice (C-07).
    if is_behind or progress.pace is Pace.PROBE or message.accepted < progress.match:
        progress.must_send = True


def acknowledged(state: State, leading: Leading, progress: Progress, number: int) -> None:
    """A follower answered something that was sent during round ``number``."""
    if number <= progress.round_acked or number > leading.round:
        return
    progress.round_acked = number
    place = number - leading.rounds[0][0]
    if place >= 0:
        progress.contact_at = max(progress.contact_at, leading.rounds[place][1])
    confirm(state, leading)


def confirm(state: State, leading: Leading) -> None:
    """Work out which round a quorum has answered, and since when none was heard (K-88)."""
    rounds = {progress.peer: progress.round_acked for progress in leading.progress.values()}
    rounds[state.me] = leading.round
    number = quorum_value(state.groups, rounds)
    if number > leading.confirmed_round:
        leading.confirmed_round = number
        place = number - leading.rounds[0][0]
        if place >= 0:
            leading.confirmed_at = leading.rounds[place][1]
    state.follow_contact(leading)


def has_lost_quorum(state: State, leading: Leading) -> bool:
    """Whether no quorum was heard for a whole window, counted from when the answered was *sent* (6.2; Q-01, K-22)."""
    return state.config.is_check_quorum and state.now >= leading.quorum_at + state.config.election_timeout_seconds


def has_lease(state: State, leading: Leading) -> bool:
    """Whether nobody else can have been elected yet, if all clocks keep their bound (6.4.1; I-20, K-88, K-89).

    A quorum shields this leader for T from the moment it heard it, which is after the round began. A transfer lifts
    the shield; and once the target was told, nobody knows when the order arrives, so the lease is gone for the term.
    """
    return (
        state.config.is_lease_read
        and not leading.is_lease_void
        and leading.handover is None
        and state.now < leading.confirmed_at + state.config.lease_seconds
    )
