"""What the checkers hold a leader to when its configuration changes: a lease goes on, and ends in time (I-20, I-21)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from arc.raft.config import Config
from arc.raft.effects import Readable
from arc.raft.events import Read, Receive, Tick
from arc.raft.messages import Heartbeat, HeartbeatReply
from arc.raft.types import Configuration, Peer
from simulations.checkers import contact
from simulations.checkers.violation import Violation
from tests.raft.resting import N1, N2, N3

TERM = 1
SOLE = Configuration(voters=(N1,))
JOINT = Configuration(voters=(N1, N2, N3), outgoing=(N1,))


class Leader:
    """A leader as the checkers see one: its clock, its configurations, what it sends and takes in."""

    def __init__(self, configuration: Configuration, *, is_lease_read: bool) -> None:
        self.host: Any = SimpleNamespace(
            peer=N1,
            config=Config(is_lease_read=is_lease_read),
            state=SimpleNamespace(term=TERM, now=0.0, leading=object()),
            disk=SimpleNamespace(issued=SimpleNamespace(configurations=[(1, configuration)])),
            memory=SimpleNamespace(contact=None, leader_heard=None),
        )
        self.tick(0.0)

    def tick(self, now: float) -> None:
        self.host.state.now = now
        contact.stepped(self.host, Tick())

    def append(self, configuration: Configuration) -> None:
        self.host.disk.issued.configurations.append((2, configuration))
        self.tick(self.host.state.now)

    def beat(self, number: int, *to: Peer) -> None:
        for peer in to:
            contact.sending(self.host, Heartbeat(peer, N1, TERM, 0, number))

    def answered(self, number: int, *by: Peer) -> None:
        for peer in by:
            contact.stepped(self.host, Receive(HeartbeatReply(N1, peer, TERM, 0, number)))

    def reads_by_lease(self) -> None:
        contact.i20_lease_from_the_round(self.host)


def test_a_lease_of_a_sole_voter_goes_on_when_others_are_added_and_ends_in_time() -> None:
    """I-20: until the others are appended it needs nobody; from then on a lease, and no longer (swarm seed 503129)."""
    leader = Leader(SOLE, is_lease_read=True)
    leader.tick(5.0)
    leader.reads_by_lease()
    leader.append(JOINT)
    lease = leader.host.config.lease_seconds
    leader.tick(5.0 + 0.9 * lease)
    leader.reads_by_lease()
    leader.tick(5.0 + lease)
    with pytest.raises(Violation, match="I-20"):
        leader.reads_by_lease()


def test_a_leader_that_was_a_quorum_by_itself_is_held_to_its_rounds_afterwards() -> None:
    """I-20, K-88: a lease counts from the start of the round that the new quorum answered."""
    leader = Leader(SOLE, is_lease_read=True)
    leader.reads_by_lease()
    leader.append(JOINT)
    lease = leader.host.config.lease_seconds
    leader.tick(0.5)
    leader.beat(1, N2, N3)
    leader.tick(0.9)
    leader.answered(1, N2)
    leader.tick(0.5 + 0.9 * lease)
    leader.reads_by_lease()
    leader.tick(0.5 + lease)
    with pytest.raises(Violation, match="I-20"):
        leader.reads_by_lease()


def test_a_read_of_a_sole_voter_is_confirmed_and_one_after_others_were_added_needs_a_round() -> None:
    """I-21: the first may be answered when the state machine has come that far; the second was confirmed by nobody."""
    leader = Leader(SOLE, is_lease_read=False)
    contact.stepped(leader.host, Read("before"))
    leader.append(JOINT)
    leader.tick(0.1)
    contact.i21_confirmed_since(leader.host, "before", Readable(1))
    contact.stepped(leader.host, Read("after"))
    leader.tick(0.2)
    with pytest.raises(Violation, match="I-21"):
        contact.i21_confirmed_since(leader.host, "after", Readable(1))
