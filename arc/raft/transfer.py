"""Leadership transfer (dissertation, 3.10): stop taking proposals, let the target catch up, tell it to campaign.

It ends within one election timeout, whatever happens; then proposals flow again. All ways out lead through
`State.end_handover` or `succeeded`.
"""

from __future__ import annotations

from arc.raft.effects import NotLeader, Refused, Transferred
from arc.raft.events import TransferLeadership
from arc.raft.leading import Handover, Leading
from arc.raft.membership import is_voter
from arc.raft.messages import TimeoutNow
from arc.raft.snapshot import is_alive
from arc.raft.state import State
from arc.raft.types import Peer


def on_transfer(state: State, event: TransferLeadership) -> None:
    """Begin handing over. Another target replaces the one before; the same one does not gain time (L-06)."""
    leading = state.leading
    if leading is None:
        state.answer(event.request, NotLeader(state.leader))
        return
    target = event.target or best_target(state, leading)
    if target is None:
        state.answer(event.request, Refused("unavailable", "no other voter is alive"))
        return
    if target == state.me or target not in leading.progress or not is_voter(state.history.current, target):
        state.answer(event.request, Refused("invalid", f"{target} is not another voter"))  # L-03
        return
    if leading.handover is not None and leading.handover.target == target:
        leading.handover.requests.append(event.request)
        return
    if leading.handover is not None:
        state.end_handover(leading, "replaced")
    leading.handover = Handover(target, [event.request], state.now + state.config.election_timeout_seconds)


def best_target(state: State, leading: Leading) -> Peer | None:
    """The live voter that holds most; the first by name among equals (L-07)."""
    current = state.history.current
    able = [
        progress
        for progress in leading.progress.values()
        if is_voter(current, progress.peer) and is_alive(state, progress)
    ]
    return min(able, key=lambda progress: (-progress.match, progress.peer)).peer if able else None


def advance(state: State, leading: Leading) -> None:
    """Tell the target once it holds everything; give up when time is over or the target may not lead (L-02, L-05)."""
    handover = leading.handover
    assert handover is not None
    progress = leading.progress.get(handover.target)
    if progress is None or not is_voter(state.history.current, handover.target):
        state.end_handover(leading, "target_removed")
    elif state.now >= handover.deadline:
        state.end_handover(leading, "timeout")
    elif not handover.is_sent and progress.match == state.log.last_index:
        handover.is_sent = True
        leading.is_lease_void = True  # For the whole term: nobody knows when the order arrives (K-89).
        state.send(TimeoutNow(handover.target, state.me, state.term))


def send_again(leading: Leading) -> None:
    """With each heartbeat, in case the order was lost."""
    if leading.handover is not None:
        leading.handover.is_sent = False


def succeeded(state: State, leading: Leading, candidate: Peer) -> None:
    """The target campaigns, in a higher term; this leadership ends with it."""
    handover = leading.handover
    if handover is not None and handover.target == candidate:
        leading.handover = None
        state.trace("handover_ended", candidate, "sent")
        for request in handover.requests:
            state.answer(request, Transferred(candidate))
