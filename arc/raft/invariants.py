"""What must be true after every step, cheap enough to stay on for ever (LogCabin's idea; reference, 5.2).

One fact per line. A failure is a bug of this package or a disk that lied; the node stops, for going on could only
spread it. What needs more than one node to see is the simulator's business.
"""

from __future__ import annotations

from typing import NamedTuple

from arc.raft.state import State
from arc.raft.types import Role

EFFECTS_MAX = 100_000
"""I-34: far above what limits and batch sizes allow for one step."""


class Before(NamedTuple):
    """What of the previous step the next one is compared with."""

    term: int
    vote: object
    commit: int
    applied: int
    role: Role
    last_index: int
    last_term: int
    lives: int


def remember(state: State) -> Before:
    """Take down what must not go back."""
    log = state.log
    return Before(
        state.term, state.vote, state.commit, state.applied, state.role, log.last_index, log.last_term, state.lives
    )


def check(state: State, before: Before) -> None:
    """Raises AssertionError naming what broke."""
    log, writes, leading = state.log, state.writes, state.leading
    assert state.term >= before[0], ("I-10 term fell", before, state)
    assert state.term > before[0] or before[1] is None or state.vote == before[1], ("I-11 second vote", before, state)
    assert state.commit >= before[2] or state.lives > before[7], ("I-08 commit fell", before, state)
    assert state.applied >= before[3], ("I-08 applied fell", before, state)
    assert log.last_term <= state.term, ("I-09 entry from the future", state)
    assert log.boundary_index <= state.commit <= log.last_index, ("I-09 order", state)
    assert state.applied <= state.applying <= state.commit, ("I-09 applied more than committed", state)
    assert state.applying <= writes.durable_index or state.restoring, ("D-05 applied, not durable", state)
    assert writes.durable_index < state.unwritten <= log.last_index + 1, ("durable, never written", writes, state)
    assert writes.persisted_id < writes.next_id, ("I-38 unknown write", writes, state)
    assert (state.role is Role.LEADER) == (leading is not None), ("leadership half left", state)
    assert len(state.effects) <= EFFECTS_MAX, ("I-34 storm", len(state.effects), state)
    if leading is not None:
        assert state.vote == state.leader == state.me, ("leads without its own vote", state)
        assert leading.term_start <= log.last_index and log.last_term == state.term, ("no entry of the term", state)
        if before[4] is Role.LEADER and before[0] == state.term:
            assert log.last_index >= before[5], ("I-02 leader cut its log", before, state)
        assert (not leading.proposals) == (leading.uncommitted_bytes == 0) or leading.uncommitted_bytes >= 0, state
        assert not leading.proposals or leading.proposals[0][0] > state.commit, ("unanswered commit", state)
        assert leading.confirmed_round <= leading.round, ("confirmed what never began", state)
        for progress in leading.progress.values():
            assert progress.match < progress.next, ("I-14", progress, state)
            assert progress.next <= log.last_index + 1, ("I-14", progress, state)
            assert progress.in_flight <= state.config.window_messages_max, ("I-14 window", progress)
    else:
        assert state.election_at is None or state.is_promotable, ("I-19 who may not campaign has a timer", state)
