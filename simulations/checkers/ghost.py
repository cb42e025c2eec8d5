"""What happened, known to the simulator alone (reference, 5.1).

A chain is a number that stands for a whole prefix of a log: two logs are equal up to an index exactly if their chains
there are equal. Numbers are given in order of first appearance, so comparing logs costs one comparison of integers.
"""

from __future__ import annotations

from bisect import bisect_right

from arc.raft.types import Configuration, Entry, EntryKind, Peer, SnapshotMeta
from simulations.checkers.violation import Violation
from simulations.machine import Machine

Token = tuple[int, int, int]
"""(client, serial, attempt) of one proposal."""


def token_of(entry: Entry) -> Token:
    """Who proposed it."""
    assert isinstance(entry.payload, bytes), entry
    client, serial, attempt, _ = entry.payload.decode().split(" ", 3)
    return int(client), int(serial), int(attempt)


class Ghost:
    """The one truth that nodes are compared with."""

    def __init__(self, founders: Configuration, has_sessions: bool) -> None:
        self._numbers: dict[tuple[int, Entry], int] = {}
        self.chain_at: dict[tuple[int, int], int] = {}
        """(index, term) -> chain: Log Matching says there is only one."""
        self.committed: list[int] = [0]
        """Chain of the committed log at each index."""
        self.committed_in: list[int] = [0]
        """Term of the leader that committed each index."""
        self.entries: list[Entry] = [Entry(0, 0, EntryKind.NOTHING)]
        self.configurations: list[tuple[int, Configuration]] = [(0, founders)]
        """Committed configurations with their index."""
        self.counted_by: list[tuple[int, Configuration]] = [(0, founders)]
        """(index, configuration): up to which index leaders counted by it. It may never be committed itself."""
        self.leaders: dict[int, tuple[Peer, int]] = {}
        self.votes: dict[tuple[Peer, int], Peer] = {}
        """(voter, term) -> candidate, from messages on the wire."""
        self.candidacies: dict[tuple[Peer, int], tuple[int, int]] = {}
        """(candidate, term) -> (last term, last index) it asked with."""
        self.handed: set[tuple[Peer, int]] = set()
        """(leader, term) that told another node to campaign."""
        self.machine = Machine(has_sessions)
        self.answers: list[str] = [""]
        self.versions: dict[str, tuple[list[int], list[str]]] = {}
        """key -> (indexes, values): every value a register ever had."""
        self.first_at: dict[tuple[int, int], int] = {}
        """(client, serial) -> index of the entry that executed it."""
        self.seen: set[Token] = set()
        self.failed: set[Token] = set()
        self.images: dict[int, tuple[SnapshotMeta, bytes]] = {}
        self.floor = 0
        """Highest position of any completed operation: what starts now comes after it."""

    @property
    def commit(self) -> int:
        """The highest index any node ever committed."""
        return len(self.committed) - 1

    def link(self, before: int, entry: Entry) -> int:
        """The chain after ``entry`` follows ``before``. I-03: it is the only one at that (index, term)."""
        place = (before, entry)
        chain = self._numbers.get(place)
        if chain is None:
            chain = self._numbers[place] = len(self._numbers) + 1
        known = self.chain_at.setdefault((entry[0], entry[1]), chain)
        if known != chain:
            raise Violation("I-03", "two different logs hold the same (index, term)", entry)
        return chain

    def configuration_at(self, index: int) -> tuple[int, Configuration]:
        """The committed configuration in force at a committed index."""
        for at, configuration in reversed(self.configurations):
            if at <= index:
                return at, configuration
        raise AssertionError(index)

    def extend(self, entry: Entry, chain: int, term: int) -> None:
        """The next entry is committed in that term: execute it once, here, for everybody to be compared with."""
        index = entry.index
        assert index == len(self.committed), (index, len(self.committed))
        self.committed.append(chain)
        self.committed_in.append(max(term, self.committed_in[-1]))
        self.entries.append(entry)
        if entry.kind is EntryKind.MEMBERSHIP:
            assert isinstance(entry.payload, Configuration), entry
            self.configurations.append((index, entry.payload))
        if entry.kind is not EntryKind.COMMAND:
            self.machine.apply(entry)
            self.answers.append("")
            return
        token = token_of(entry)
        if token in self.seen:
            raise Violation("I-25", "one proposal is in the log twice", entry)
        if token in self.failed:
            raise Violation("I-27", "a proposal that definitely failed took effect", entry)
        self.seen.add(token)
        assert isinstance(entry.payload, bytes)
        key = entry.payload.decode().split(" ")[4]
        before = self.machine.registers.get(key, "-")
        self.answers.append(self.machine.apply(entry))
        after = self.machine.registers.get(key, "-")
        self.first_at.setdefault(token[:2], index)
        if after != before:
            indexes, values = self.versions.setdefault(key, ([], []))
            indexes.append(index)
            values.append(after)

    def value(self, key: str, index: int) -> str:
        """What the register held after the entry ``index``."""
        indexes, values = self.versions.get(key, ([], []))
        place = bisect_right(indexes, index)
        return values[place - 1] if place else "-"
