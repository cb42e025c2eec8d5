"""The algebra of configurations, and which one is in force (dissertation, chapter 4).

A configuration takes effect when it is *appended*, not when it is committed (4.1); so a node keeps every configuration
of its log with its index, newest in force, and drops the newest when their entries are cut off (K-77).

Any change can be made. One that moves at most one voter is made in one step, for majorities before and after then
always overlap (4.1). Every other goes through a joint configuration that needs both majorities (4.3). Who decides when
a change may be proposed is `change`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TypeVar

from arc.errors import Conflict, InvalidRequest
from arc.quorum import majority
from arc.raft.events import Change, ChangeKind
from arc.raft.types import Configuration, Peer

V = TypeVar("V", int, float)

MEMBERS_MAX = 64
"""Far beyond what one log serves well; a bound for messages and snapshots."""


class Tally(IntEnum):
    """What the votes so far say."""

    PENDING = 0
    WON = 1
    LOST = 2


def halves(configuration: Configuration) -> tuple[tuple[Peer, ...], ...]:
    """The groups of voters each of which must agree: one, or two while joint (4.3; K-76)."""
    if configuration.outgoing:
        return (configuration.voters, configuration.outgoing)
    return (configuration.voters,)


def is_voter(configuration: Configuration, peer: Peer) -> bool:
    """Whether the peer votes in either half."""
    return peer in configuration.voters or peer in configuration.outgoing


def members(configuration: Configuration) -> tuple[Peer, ...]:
    """Everybody who gets the log, sorted."""
    return tuple(sorted({*configuration.voters, *configuration.outgoing, *configuration.learners}))


def quorum_value(groups: Sequence[Sequence[Peer]], value: Mapping[Peer, V]) -> V:
    """The highest value that a quorum has reached; a voter without one counts as 0 (C-09).

    Without any voter there is no quorum and the answer is 0; one empty half does not limit the other.
    """
    return min((_reached([value.get(peer, 0) for peer in group]) for group in groups if group), default=0)


def _reached(values: list[V]) -> V:
    values.sort(reverse=True)
    return values[majority(len(values)) - 1]


def tally(groups: Sequence[Sequence[Peer]], votes: Mapping[Peer, bool]) -> Tally:
    """Count votes. Won needs every half, lost needs one; only voters of the configuration count (C-10, K-08, K-14)."""
    if not groups or not all(groups):
        return Tally.LOST
    is_won = True
    for group in groups:
        granted = sum(votes.get(peer) is True for peer in group)
        refused = sum(votes.get(peer) is False for peer in group)
        needed = majority(len(group))
        if refused > len(group) - needed:
            return Tally.LOST
        is_won = is_won and granted >= needed
    return Tally.WON if is_won else Tally.PENDING


def is_one_step(old: Configuration, new: Configuration) -> bool:
    """Whether majorities of both always overlap because at most one voter differs (4.1)."""
    return len({*old.voters}.symmetric_difference(new.voters)) <= 1


def target(old: Configuration, changes: Sequence[Change]) -> Configuration:
    """The plain configuration that the changes lead to.

    Raises InvalidRequest for changes that contradict each other or leave nobody to vote, Conflict while joint.
    """
    if old.is_joint:
        raise Conflict("the cluster is between two configurations; one change at a time")
    if len({change.peer for change in changes}) != len(changes):
        raise InvalidRequest("a member is changed twice at once")
    voters, learners = set(old.voters), set(old.learners)
    for change in changes:
        if not change.peer.name:
            raise InvalidRequest("a member needs a name")
        voters.discard(change.peer)
        learners.discard(change.peer)
        if change.kind is ChangeKind.VOTER:
            voters.add(change.peer)
        elif change.kind is ChangeKind.LEARNER:
            learners.add(change.peer)
    for group in (voters, learners):  # A learner may be the next incarnation of a voter that it will replace.
        if len({peer.name for peer in group}) != len(group):
            raise InvalidRequest("two incarnations of one node; remove the old one with the same change")
    if not voters:
        raise InvalidRequest("nobody would be left to vote")
    if len(voters) + len(learners) > MEMBERS_MAX:
        raise InvalidRequest(f"more than {MEMBERS_MAX} members")
    return Configuration(voters=tuple(sorted(voters)), learners=tuple(sorted(learners)))


def enter(old: Configuration, changes: Sequence[Change], *, is_auto_leave: bool = True) -> Configuration:
    """The next configuration towards the target of the changes: the target itself if one step is safe, else joint.

    Asking for an explicit leave always goes through the joint one. Raises as `target` does.
    """
    new = target(old, changes)
    if is_one_step(old, new) and is_auto_leave:
        return new
    # A voter of C_old keeps its vote until the joint configuration is left, so it cannot be a learner yet (M-12).
    waiting = tuple(peer for peer in new.learners if peer in old.voters)
    return Configuration(
        voters=new.voters,
        outgoing=old.voters,
        learners=tuple(peer for peer in new.learners if peer not in waiting),
        learners_next=waiting,
        auto_leave=is_auto_leave,
    )


def leave(joint: Configuration) -> Configuration:
    """C_new alone. Raises Conflict when there is nothing to leave."""
    if not joint.is_joint:
        raise Conflict("the configuration is not joint")
    return Configuration(voters=joint.voters, learners=tuple(sorted({*joint.learners, *joint.learners_next})))


class History:
    """The configurations of one log with the index of each; the newest is in force."""

    __slots__ = ("_configurations", "_indexes")

    def __init__(self, index: int = 0, configuration: Configuration | None = None) -> None:
        self._indexes: list[int] = [index]
        self._configurations: list[Configuration] = [configuration or Configuration()]

    def __repr__(self) -> str:
        pairs = zip(self._indexes, self._configurations, strict=True)
        return f"<History {', '.join(f'{index}:{configuration!r}' for index, configuration in pairs)}>"

    @property
    def current(self) -> Configuration:
        """The one in force."""
        return self._configurations[-1]

    @property
    def index(self) -> int:
        """Where the one in force stands in the log."""
        return self._indexes[-1]

    def at(self, index: int) -> tuple[int, Configuration]:
        """The configuration in force after the entry ``index``, and where it stands."""
        place = bisect_right(self._indexes, index) - 1
        assert place >= 0, (index, self._indexes)
        return self._indexes[place], self._configurations[place]

    def push(self, index: int, configuration: Configuration) -> None:
        """A membership entry was appended."""
        assert index > self._indexes[-1], (index, self._indexes)
        self._indexes.append(index)
        self._configurations.append(configuration)

    def cut(self, from_index: int) -> bool:
        """Entries from there on were cut off. Says whether the configuration in force changed (K-77)."""
        count = len(self._indexes)
        while len(self._indexes) > 1 and self._indexes[-1] >= from_index:
            self._indexes.pop()
            self._configurations.pop()
        return len(self._indexes) != count

    def forget(self, below: int) -> None:
        """The log now begins after ``below``: keep what was in force there and later."""
        place = bisect_right(self._indexes, below) - 1
        if place > 0:
            del self._indexes[:place]
            del self._configurations[:place]

    def reset(self, index: int, configuration: Configuration) -> None:
        """A snapshot replaced the log."""
        self._indexes = [index]
        self._configurations = [configuration]
