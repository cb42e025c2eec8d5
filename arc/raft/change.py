"""The leader's side of membership changes (dissertation, chapter 4): when one may be proposed, and what follows it.

One change at a time: it must be committed before the next is appended, and the leader must have committed an entry of
its own term before the first (the gap in the single-server rule that was found in 2015; K-74). A joint configuration is
left as soon as it is committed. A leader that is no voter of the committed configuration hands over and stops (4.2.2).

New voters first follow as learners, in rounds (4.2.1): each round brings what was in the log when it began, and when
one takes less than an election timeout, the newcomer can vote without holding up commits.
"""

from __future__ import annotations

from arc.errors import Conflict, InvalidRequest
from arc.raft.effects import Committed, NotLeader, Refused
from arc.raft.events import Change, ChangeKind, ChangeMembers, Request
from arc.raft.leading import CatchUp, Leading
from arc.raft.membership import enter, is_voter, leave, target
from arc.raft.messages import Commit, TimeoutNow
from arc.raft.state import State
from arc.raft.transfer import best_target
from arc.raft.types import Configuration, Entry, EntryKind, Peer


def on_change(state: State, event: ChangeMembers) -> None:
    """Propose a change, or say why not (M-01, M-02, M-06, M-15)."""
    leading = state.leading
    if leading is None:
        state.answer(event.request, NotLeader(state.leader))
        return
    try:
        _check(state, leading, event.expect_index)
        current = state.history.current
        if not event.changes:
            _append(state, leading, leave(current), event.request)
            return
        goal = target(current, event.changes)
        if goal == current:  # Harmless repetition (M-06, M-12).
            state.answer(event.request, Committed(state.history.index, state.log.term(state.history.index) or 0))
            return
        newcomers = tuple(peer for peer in goal.voters if peer not in current.voters)
        if event.is_catch_up and newcomers:
            _begin_catch_up(state, leading, event, newcomers)
        else:
            _append(state, leading, enter(current, event.changes, is_auto_leave=event.is_auto_leave), event.request)
    except InvalidRequest as error:
        state.answer(event.request, Refused(error.code, error.message))


def _check(state: State, leading: Leading, expect_index: int | None) -> None:
    """Raises Conflict while a change may not be proposed."""
    if state.commit < leading.term_start:  # §4.1 K-74: no change before an entry of the own term is committed.
        raise Conflict("the leader has not committed an entry of its term yet; try again")
    if state.history.index > state.commit or leading.change_request is not None:
        raise Conflict("another change is not committed yet")
    if leading.handover is not None:
        raise Conflict("leadership is being handed over")
    if not state.has_space:
        raise Conflict("the leader's disk is full")
    if expect_index is not None and expect_index != state.history.index:
        raise Conflict(f"the configuration stands at {state.history.index}, not at {expect_index}")


def _append(state: State, leading: Leading, configuration: Configuration, request: Request | None = None) -> None:
    """Append a configuration; it is in force at once (4.1)."""
    assert state.history.index <= state.commit, (configuration, state)  # I-18
    if request is not None:
        leading.change_request = request
        stays = configuration.is_joint and not configuration.auto_leave
        leading.change_goal = leave(configuration) if configuration.is_joint and not stays else configuration
    state.append(Entry(state.log.last_index + 1, state.term, EntryKind.MEMBERSHIP, configuration))


def _begin_catch_up(state: State, leading: Leading, event: ChangeMembers, newcomers: tuple[Peer, ...]) -> None:
    if leading.catch_up is not None:
        raise Conflict("other new voters are still catching up")
    current = state.history.current
    missing = tuple(Change(ChangeKind.LEARNER, peer) for peer in newcomers if peer not in current.learners)
    catch_up = CatchUp(
        event.request,
        event.changes,
        newcomers,
        is_auto_leave=event.is_auto_leave,
        deadline=state.now + state.config.catch_up_timeout_seconds,
    )
    if missing:
        _append(state, leading, target(current, missing))
    leading.catch_up = catch_up
    _begin_round(state, catch_up)


def _begin_round(state: State, catch_up: CatchUp) -> None:
    catch_up.round += 1
    catch_up.round_end = state.log.last_index
    catch_up.round_started_at = state.now


def advance(state: State, leading: Leading) -> None:
    """Carry on with whatever a commit, an answer or time made possible. May end the leadership."""
    history = state.history
    if history.index <= state.commit and state.commit >= leading.term_start:
        current = history.current
        if leading.change_request is not None and current == leading.change_goal:
            state.answer(leading.change_request, Committed(history.index, state.log.term(history.index) or 0))
            leading.change_request = leading.change_goal = None
        if current.is_joint:
            if current.auto_leave:
                _append(state, leading, leave(current))  # §4.3 V-04
        elif not is_voter(current, state.me):
            _leave_office(state, leading)
            return
    if leading.catch_up is not None:
        _advance_catch_up(state, leading, leading.catch_up)


def _leave_office(state: State, leading: Leading) -> None:
    """The committed configuration goes on without this leader: tell it, prompt a successor, stop (4.2.2; M-09)."""
    state.trace("leader_removed", state.history.index)
    for progress in leading.progress.values():
        told = min(state.commit, progress.match)
        state.send(Commit(progress.peer, state.me, state.term, told))
    successor = best_target(state, leading)
    if successor is not None:
        state.send(TimeoutNow(successor, state.me, state.term))
    state.become_follower(state.term, None)


def _advance_catch_up(state: State, leading: Leading, catch_up: CatchUp) -> None:
    progress = [leading.progress.get(peer) for peer in catch_up.peers]
    matches = [each.match for each in progress if each is not None]
    if len(matches) < len(catch_up.peers):
        _abort_catch_up(state, leading, catch_up, "a newcomer was removed")
    elif min(matches) >= catch_up.round_end:
        if state.now - catch_up.round_started_at < state.config.election_timeout_seconds:
            _promote(state, leading, catch_up)
        elif catch_up.round >= state.config.catch_up_rounds_max:
            _abort_catch_up(state, leading, catch_up, "too slow")
        else:
            _begin_round(state, catch_up)
    elif state.now >= catch_up.deadline:
        _abort_catch_up(state, leading, catch_up, "timeout")


def _promote(state: State, leading: Leading, catch_up: CatchUp) -> None:
    """The newcomers are close enough: make the change that was asked for, unless another one is under way."""
    try:
        _check(state, leading, None)
    except Conflict:
        if state.now >= catch_up.deadline:
            _abort_catch_up(state, leading, catch_up, "timeout")
        return
    leading.catch_up = None
    try:
        configuration = enter(state.history.current, catch_up.changes, is_auto_leave=catch_up.is_auto_leave)
    except InvalidRequest as error:  # Another change came between and this one does not fit any more.
        state.answer(catch_up.request, Refused(error.code, error.message))
        return
    state.trace("catch_up_done", catch_up.peers, catch_up.round)
    _append(state, leading, configuration, catch_up.request)


def _abort_catch_up(state: State, leading: Leading, catch_up: CatchUp, reason: str) -> None:
    leading.catch_up = None
    state.trace("catch_up_aborted", catch_up.peers, reason)
    state.answer(
        catch_up.request, Refused("unavailable", f"the new voters stay learners, they did not catch up: {reason}")
    )
