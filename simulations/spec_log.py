"""The logs and configurations of the specification: a snapshot and a tuple, sets of voters, nothing clever.

Written without the core's own arithmetic of logs and quorums, so that a mistake there does not excuse itself here.
"""

from __future__ import annotations

from typing import NamedTuple

from arc.raft.types import Configuration, Entry, Peer


class Log(NamedTuple):
    """A log whose prefix up to ``base`` is a snapshot: entry number base + 1 is entries[0]."""

    base: int
    base_term: int
    base_configuration: Configuration
    entries: tuple[Entry, ...] = ()

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.base + len(self.entries)

    def term(self, index: int) -> int | None:
        """Term at an index, None where nothing is known."""
        if index == self.base:
            return self.base_term
        return self.entries[index - self.base - 1].term if self.base < index <= self.last else None

    def up_to(self, index: int) -> Log:
        """The log without what follows ``index``."""
        return self._replace(entries=self.entries[: max(index - self.base, 0)])

    def after(self, index: int) -> tuple[Entry, ...]:
        """The entries that follow ``index``."""
        return self.entries[max(index - self.base, 0) :]

    def configuration(self, index: int) -> tuple[int, Configuration]:
        """(place, configuration) in force at an index: the newest in the log up to there, committed or not (4.1)."""
        for entry in reversed(self.up_to(index).entries):
            if isinstance(entry.payload, Configuration):
                return entry.index, entry.payload
        return 0, self.base_configuration

    def compacted(self, index: int) -> Log:
        """The same log with a longer snapshot."""
        return Log(index, self.term(index) or 0, self.configuration(index)[1], self.after(index))

    def shared(self, other: Log) -> int:
        """Up to which index both are the same; 0 if that cannot be seen."""
        index = max(self.base, other.base)
        if self.term(index) is None or self.term(index) != other.term(index):
            return 0
        for mine, theirs in zip(self.after(index), other.after(index), strict=False):
            if mine != theirs:
                break
            index += 1
        return index


def halves(configuration: Configuration) -> list[frozenset[Peer]]:
    """Each of these must agree: one set of voters, or two while joint (4.3)."""
    return [frozenset(half) for half in (configuration.voters, configuration.outgoing) if half]


def members(configuration: Configuration) -> frozenset[Peer]:
    """Everybody the log is sent to."""
    return frozenset((*configuration.voters, *configuration.outgoing, *configuration.learners))


def is_quorum(configuration: Configuration, peers: frozenset[Peer]) -> bool:
    """More than half of every half."""
    return bool(halves(configuration)) and all(2 * len(half & peers) > len(half) for half in halves(configuration))


def may_follow(old: Configuration, new: Configuration) -> bool:
    """Whether ``new`` may be the next configuration: majorities of the two must always meet (4.1, 4.3)."""
    if not new.voters or frozenset(new.learners) & frozenset((*new.voters, *new.outgoing)):
        return False
    if old.is_joint:
        left = frozenset((*old.learners, *old.learners_next))
        return not new.is_joint and new.voters == old.voters and frozenset(new.learners) == left
    if new.is_joint:
        return new.outgoing == old.voters
    return len(frozenset(old.voters) ^ frozenset(new.voters)) <= 1
