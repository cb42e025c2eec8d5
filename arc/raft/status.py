"""One look at a core: what operators, tests and checkers want to know, as values that nobody can change."""

from __future__ import annotations

from typing import NamedTuple

from arc.raft import heartbeat, reads, snapshot
from arc.raft.state import State
from arc.raft.types import Configuration, Peer, Role


class FollowerStatus(NamedTuple):
    """What the leader knows of one member."""

    peer: Peer
    pace: str
    match: int
    next: int
    in_flight: int
    in_flight_bytes: int
    is_active: bool
    """Heard within an election timeout, or not silent for as long as this node leads."""

    has_answered: bool
    """Heard at all by this leader."""


class Status(NamedTuple):
    """One look at a core, for operators, tests and checkers."""

    me: Peer
    role: Role
    term: int
    vote: Peer | None
    leader: Peer | None
    commit: int
    applied: int
    first_index: int
    last_index: int
    last_term: int
    durable_index: int
    persisted_write: int
    snapshot_index: int
    configuration: Configuration
    configuration_index: int
    is_damaged: bool
    has_space: bool
    lives: int
    lease_until: float | None
    transfer_to: Peer | None
    catching_up: tuple[Peer, ...]
    uncommitted: int
    uncommitted_bytes: int
    reads: int
    followers: tuple[FollowerStatus, ...]


def look(state: State, offset: float) -> Status:
    """Describe the state; ``offset`` is what the core's time is ahead of the caller's."""
    leading = state.leading
    has_lease = leading is not None and heartbeat.has_lease(state, leading)
    return Status(
        me=state.me,
        role=state.role,
        term=state.term,
        vote=state.vote,
        leader=state.leader,
        commit=state.commit,
        applied=state.applied,
        first_index=state.log.boundary_index + 1,
        last_index=state.log.last_index,
        last_term=state.log.last_term,
        durable_index=state.writes.durable_index,
        persisted_write=state.writes.persisted_id,
        snapshot_index=state.snapshot.index if state.snapshot is not None else 0,
        configuration=state.history.current,
        configuration_index=state.history.index,
        is_damaged=state.is_damaged,
        has_space=state.has_space,
        lives=state.lives,
        lease_until=leading.confirmed_at + state.config.lease_seconds - offset
        if leading is not None and has_lease
        else None,
        transfer_to=leading.handover.target if leading is not None and leading.handover is not None else None,
        catching_up=leading.catch_up.peers if leading is not None and leading.catch_up is not None else (),
        uncommitted=len(leading.proposals) if leading is not None else 0,
        uncommitted_bytes=leading.uncommitted_bytes if leading is not None else 0,
        reads=reads.outstanding(state),
        followers=_followers(state),
    )


def _followers(state: State) -> tuple[FollowerStatus, ...]:
    if state.leading is None:
        return ()
    return tuple(
        FollowerStatus(
            each.peer,
            each.pace.name.lower(),
            each.match,
            each.next,
            each.in_flight,
            each.in_flight_bytes,
            snapshot.is_alive(state, each),
            each.round_acked > 0,
        )
        for each in state.leading.progress.values()
    )
