"""Elections: pre-vote, vote, and how a leader begins (Raft paper, 5.2 and 5.4.1; dissertation, 9.6 and 4.2.3).

A pre-vote asks whether a campaign could win and changes nothing anywhere; so a node that was cut off does not come back
with a term that deposes a working leader. A vote is given once a term, and an answer leaves, and the own vote counts,
only when it is on disk.
"""

from __future__ import annotations

from arc.raft.heartbeat import begin_round
from arc.raft.leading import Leading
from arc.raft.membership import Tally, is_voter, tally
from arc.raft.messages import PreVote, PreVoteReply, Removed, TimeoutNow, Vote, VoteReply
from arc.raft.state import State
from arc.raft.types import TERM_MAX, Entry, EntryKind, Peer, Role

# ----------------------------------------------------------------------------------------------------------- asking


def campaign(state: State) -> None:
    """The election timeout passed: try to become leader (5.2; E-02, E-19, E-20)."""
    if state.role is Role.LEADER or not state.is_promotable:
        return
    if state.config.is_pre_vote:
        _ask_beforehand(state)
    else:
        start_election(state, is_transfer=False)


def _ask_beforehand(state: State) -> None:
    """Become pre-candidate: term and vote stay as they are (9.6; E-11)."""
    state.change_role(Role.PRE_CANDIDATE)
    state.leader = None
    state.timer_from = state.now
    state.draw_timeout()
    state.trace("role", state.role, state.term, None)
    state.pre_round += 1
    state.votes[state.me] = True
    for peer in _voters(state):
        state.send(
            PreVote(
                peer,
                state.me,
                state.term,
                state.term + 1,
                state.pre_round,
                state.log.last_index,
                state.log.last_term,
            )
        )
    _count(state)


def start_election(state: State, *, is_transfer: bool) -> None:
    """Become candidate: next term, vote for myself, ask everybody (5.2; E-02)."""
    assert state.role is not Role.LEADER and state.is_promotable, state
    if state.term + 1 >= TERM_MAX:  # Refused, not wrapped: a cluster that gets here is under attack (K-25).
        state.trace("term_overflow", state.term)
        state.timer_from = state.now
        state.draw_timeout()
        return
    state.change_role(Role.CANDIDATE)
    state.leader = None
    state.set_hard_state(state.term + 1, state.me)
    state.timer_from = state.now
    state.draw_timeout()
    state.trace("role", state.role, state.term, None)
    state.self_vote_after = state.writes.next_id  # Counts when it is on disk (K-05, E-13).
    for peer in _voters(state):
        state.send(
            Vote(peer, state.me, state.term, state.log.last_index, state.log.last_term, is_transfer)  # C-04
        )


def _voters(state: State) -> tuple[Peer, ...]:
    current = state.history.current
    return tuple(peer for peer in state.others if is_voter(current, peer))


def on_persisted(state: State) -> None:
    """The disk got further: the own vote may count now, a campaign that waited for the log may start (E-15, K-92)."""
    done = state.writes.persisted_id
    if 0 < state.late_vote_after <= done:
        state.late_vote_after = 0
        if state.role is not Role.LEADER:
            state.trace("self_vote_late")
    if state.role is Role.CANDIDATE and 0 < state.self_vote_after <= done:
        state.self_vote_after = 0
        state.votes[state.me] = True
        _count(state)
    elif 0 < state.campaign_after <= done:
        state.campaign_after = state.writes.covering(state.log.last_index)
        if not state.campaign_after and state.is_promotable:
            start_election(state, is_transfer=True)


def on_timeout_now(state: State, message: TimeoutNow) -> None:
    """The leader wants this node to lead: no pre-vote, no shield, but only with a durable log (3.10; L-03, L-08)."""
    state.heard_leader(message.sender)
    if not state.is_promotable:
        return
    waits_for = state.writes.covering(state.log.last_index)
    if waits_for:
        state.trace("campaign_waits_for_disk", waits_for)
        state.campaign_after = waits_for
    else:
        start_election(state, is_transfer=True)


# ---------------------------------------------------------------------------------------------------------- answering


def on_pre_vote(state: State, message: PreVote) -> None:
    """Say whether a vote would be given now. Changes neither term nor vote nor timer (9.6; P-01, P-04, E-14)."""
    reason = _objection(state, message.sender, message.last_index, message.last_term)
    if message.next_term <= state.term:
        reason = "old term"
    if reason:
        state.trace("pre_vote_refused", message.sender, reason)
        tell_if_removed(state, message.sender)
    else:
        state.trace("pre_vote_granted", message.sender)
    state.send(PreVoteReply(message.sender, state.me, state.term, message.next_term, message.round, not reason))


def on_vote(state: State, message: Vote) -> None:
    """RequestVote, receiver's side (figure 2; E-04, E-14). A learner or an outsider votes like anybody (4.1; M-04)."""
    reason = ""
    if state.vote not in (None, message.sender) or (state.vote is None and state.leader is not None):
        reason = "already voted"
    elif state.role is not Role.FOLLOWER:
        reason = "candidate itself"
    else:
        is_shielded = not message.is_transfer and state.is_shielding(message.sender)
        reason = "leader is alive" if is_shielded else _doubt(state, message.last_index, message.last_term)
    if reason:
        state.trace("vote_refused", message.sender, reason)
        tell_if_removed(state, message.sender)
    else:
        state.trace("vote_granted", message.sender)
        if state.vote is None:
            state.set_hard_state(state.term, message.sender)
        state.restart_timer(state.now)  # §5.2 K-20: whoever gives its vote also gives time.
    state.send(VoteReply(message.sender, state.me, state.term, not reason))  # Held until the vote is durable (K-04).


def _objection(state: State, candidate: Peer, last_index: int, last_term: int) -> str:
    if state.role is Role.LEADER or state.is_shielding(candidate):
        return "leader is alive"
    return _doubt(state, last_index, last_term)


def _doubt(state: State, last_index: int, last_term: int) -> str:
    if state.is_damaged:
        return "own log is damaged"  # I-30, K-53
    if not state.log.is_up_to_date(last_index, last_term):  # §5.4.1 C-04
        return "log is behind"
    return ""


def tell_if_removed(state: State, candidate: Peer) -> None:
    """A candidate that the committed configuration does not know may not know it either (4.2.3; M-17)."""
    index, configuration = state.history.at(state.commit)
    if index and candidate not in (*configuration.voters, *configuration.outgoing, *configuration.learners):
        state.send(Removed(candidate, state.me, state.term, index))


def on_removed(state: State, message: Removed) -> None:
    """The cluster went on without this node. An own newer configuration that has it in it knows better."""
    if message.index >= state.history.index and message.index > state.removed_at:
        if is_voter(state.history.current, state.me) and message.index == state.history.index:
            return
        state.removed_at = message.index
        state.trace("removed", message.index)
        if state.role in (Role.PRE_CANDIDATE, Role.CANDIDATE):
            state.become_follower(state.term, None)
        state.restart_timer(state.timer_from)


# ----------------------------------------------------------------------------------------------------------- counting


def on_pre_vote_reply(state: State, message: PreVoteReply) -> None:
    """Counts only for the very round it answers (P-06, E-16)."""
    if state.role is not Role.PRE_CANDIDATE:
        return
    if message.next_term != state.term + 1 or message.round != state.pre_round:
        return
    state.votes.setdefault(message.sender, message.is_granted)
    _count(state)


def on_vote_reply(state: State, message: VoteReply) -> None:
    """Of this term (older ones never get here, K-07), and once for each voter (K-08)."""
    if state.role is Role.CANDIDATE:
        state.votes.setdefault(message.sender, message.is_granted)
        _count(state)


def _count(state: State) -> None:
    """Won: lead, or ask in earnest. Lost: wait as a follower (5.2; E-03, C-10)."""
    outcome = tally(state.groups, state.votes)
    if outcome is Tally.LOST:
        state.become_follower(state.term, None)
    elif outcome is Tally.WON and state.role is Role.PRE_CANDIDATE:
        start_election(state, is_transfer=False)
    elif outcome is Tally.WON:
        _lead(state)


def _lead(state: State) -> None:
    """Begin the term: an empty entry, so that what came before can be committed (5.4.2, 8; C-03), and a heartbeat."""
    state.change_role(Role.LEADER)
    state.leader = state.contact_from = state.me
    state.contact_at = state.now
    state.election_at = None
    leading = state.leading = Leading(state.log.last_index + 1, state.now)
    state.follow_progress(leading.term_start)  # K-38: nothing is known of anybody.
    state.trace("role", state.role, state.term, state.me)
    state.append(Entry(leading.term_start, state.term, EntryKind.NOTHING))
    begin_round(state, leading)
