"""What nodes agree on, seen from outside: who led, who promised what, what is durable where, what was applied.

A `Ghost` is told by `world_spy` and believes nothing but what it sees: a disk write that returned, a message that was
sent, an entry that was applied. Ids are those of the bare cores' invariants.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from arc.catalog import codec, fsm, snapshot
from arc.catalog.facts import Catalog
from arc.quorum import has_majority, majority
from arc.raft.core import RaftCore
from arc.raft.effects import Write
from arc.raft.messages import AppendReply, AppendStatus, Message, Vote, VoteReply
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, HardState, Role
from simulations.checkers.violation import Violation

LOOK_EVERY = 16
"""Catalogs are compared at indexes that this divides, and whenever a snapshot was taken over."""


class Durable:
    """What a machine's disk holds for certain: hard state, and the term of every entry."""

    def __init__(self) -> None:
        self.hard = HardState()
        self.terms: dict[int, int] = {}
        self.snapshot = 0
        self.last = 0
        self.floor = 0
        """What is there even if the write under way is never finished."""

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry survives a crash of this machine now."""
        return index <= self.snapshot or (index <= self.last and self.terms.get(index) == term)


class Ghost:
    """The memory that no node has. Every method raises Violation."""

    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        self.terms: dict[str, int] = {}
        self.cores: dict[str, RaftCore] = {}
        self.catalogs: dict[str, Catalog] = {}
        self.applied_to = self.committed_to = 0
        self.disks: dict[str, Durable] = {}
        self._terms: dict[str, int] = {}
        self._leading: set[str] = set()
        """Lives of nodes that led after their last step."""
        self._in_force: dict[str, Configuration] = {}
        """By the life of a node, the configuration after its last step."""
        self._votes: dict[tuple[str, int], str] = {}
        self._entries: dict[int, bytes] = {}
        self._states: dict[int, bytes] = {}
        self._lost: dict[str, Durable] = {}
        """What disks held that are gone: it counted when it was agreed on."""

    # ---- told by the world

    def wiped(self, machine: str) -> None:
        """Its disk is empty now: whoever starts there is another node with the same name."""
        if machine in self.disks:
            self._lost[machine] = self.disks.pop(machine)
        for memory in (self.cores, self.catalogs, self.terms):
            memory.pop(machine, None)
        self._votes = {key: candidate for key, candidate in self._votes.items() if key[0] != machine}

    # ---- told by the spy

    def stepped(self, who: str, core: RaftCore) -> None:
        """I-01: a term has one leader, and a node that was started again never leads the same term. I-10. I-06: what a
        leader commits is on a quorum's disks. One that is no voter any more commits and steps down at once (world seed
        730131).
        """
        state = core.state
        machine = _machine(who)
        # Within a life: a term that was not durable yet may be forgotten by a crash, for nobody heard of it (I-28).
        if state.term < self._terms.get(who, 0):
            raise Violation("I-10", "the term of a node went back", who, self._terms[who], state.term)
        self._terms[who] = self.terms[machine] = state.term
        self.cores[machine] = core
        if state.role is Role.LEADER and self.leaders.setdefault(state.term, who) != who:
            raise Violation("I-01", "two leaders in one term", state.term, self.leaders[state.term], who)
        has_led = who in self._leading
        self._leading.discard(who)
        if state.role is Role.LEADER:
            self._leading.add(who)
        if (has_led or state.role is Role.LEADER) and state.commit > self.committed_to:
            self.committed_to = state.commit
            self._require_quorum(who, core)
        self._in_force[who] = state.history.current

    def applied(self, who: str, entry: Entry, catalog: Catalog) -> None:
        """I-05: an index is the same entry everywhere. I-06: a leader had committed it before anybody applied it."""
        machine = _machine(who)
        digest = _digest(entry)
        if self._entries.setdefault(entry.index, digest) != digest:
            raise Violation("I-05", "an index was applied as two entries", who, entry.index)
        if entry.index > self.applied_to:
            self.applied_to = entry.index
        if entry.index > self.committed_to:
            raise Violation("I-06", "applied and committed by no leader", who, entry.index, self.committed_to)
        before = self.catalogs.get(who)
        if before is not None and catalog.index != before.index + 1:
            raise Violation("I-05", "entries were not applied in order", who, before.index, catalog.index)
        self.catalogs[who] = catalog
        self.catalogs[machine] = catalog
        if catalog.index % LOOK_EVERY == 0:
            self._compare(who, catalog)

    def restored(self, who: str, catalog: Catalog) -> None:
        """I-24: a snapshot is what everybody has at its index."""
        self.catalogs[who] = self.catalogs[_machine(who)] = catalog
        self._compare(who, catalog)

    def opened(self, who: str, storage: RaftStorage) -> None:
        """I-07, I-10: what was durable is there after a restart."""
        stored = storage.stored
        disk = self.disks.setdefault(_machine(who), Durable())
        hard = stored.hard_state
        if hard.term < disk.hard.term or (hard.term == disk.hard.term and disk.hard.vote not in (None, hard.vote)):
            raise Violation("I-10", "a durable term or vote is forgotten", who, disk.hard, hard)
        newest = stored.snapshot.index if stored.snapshot is not None else 0
        last = max(newest, stored.entries[-1].index if stored.entries else 0)
        if last < disk.floor:
            raise Violation("I-07", "durable entries are gone", who, disk.floor, last)
        disk.hard, disk.snapshot, disk.last, disk.floor = hard, newest, last, last
        disk.terms = {entry.index: entry.term for entry in stored.entries}
        ends = [*(first for first, _ in stored.runs[1:]), stored.entries[0].index if stored.entries else last + 1]
        for (first, term), end in zip(stored.runs, ends, strict=False):
            disk.terms.update(dict.fromkeys(range(first, end), term))

    def writing(self, who: str, writes: Sequence[Write]) -> None:
        """From here on nobody knows what a crash would leave of the log's end."""
        disk = self.disks[_machine(who)]
        for write in writes:
            if write.truncate_from is not None:
                disk.floor = min(disk.floor, write.truncate_from - 1)
            if write.snapshot is not None:
                disk.floor = min(disk.floor, write.snapshot.index)

    def wrote(self, who: str, writes: Sequence[Write], refused: int | None) -> None:
        """The disk has it."""
        disk = self.disks[_machine(who)]
        for write in writes:
            if write.hard_state is not None:
                disk.hard = write.hard_state
            cut = write.truncate_from
            if write.snapshot is not None:
                disk.snapshot = max(disk.snapshot, write.snapshot.index)
                disk.last = max(disk.last, disk.snapshot)
                if cut is not None and cut <= write.snapshot.index:
                    disk.last, cut = write.snapshot.index, None
            if cut is not None:
                disk.last = min(disk.last, cut - 1)
            if write.entries and (refused is None or write.write_id < refused):
                disk.terms.update((entry.index, entry.term) for entry in write.entries)
                disk.last = write.entries[-1].index
        disk.floor = disk.last

    def sent(self, who: str, message: Message) -> None:
        """I-12, I-28: what is promised is on the disk first. I-11: one vote in a term, whatever happened between."""
        machine = _machine(who)
        disk = self.disks[machine]
        hard = disk.hard
        if message.term > hard.term:
            raise Violation("I-28", "a message left before its term was durable", who, hard, message)
        match message:
            case VoteReply(to=to, term=term, is_granted=True):
                if hard.term == term and hard.vote != to:
                    raise Violation("I-12", "a vote left before it was durable", who, hard, message)
                self._vote(machine, term, to.name)
            case Vote(sender=sender, term=term):
                if hard.term == term and hard.vote != sender:
                    raise Violation("I-12", "a candidate asked before its own vote was durable", who, hard, message)
                self._vote(machine, term, sender.name)
            case AppendReply(status=AppendStatus.ACCEPTED, match=match) if match > disk.last:
                raise Violation("I-12", "an append was accepted before it was durable", who, disk.last, match)

    # ---- asked by the world

    def is_level(self, machines: Sequence[str]) -> bool:
        """Whether every node has applied as much as every other."""
        return len({self.catalogs[name].index if name in self.catalogs else 0 for name in machines}) == 1

    def check_equal(self, machines: Sequence[str]) -> None:
        """V-03: at rest every node has applied everything, and the same."""
        found = {name: self.catalogs[name] for name in machines}
        if len({catalog.index for catalog in found.values()}) > 1:
            raise Violation("V-03", "nodes stay behind", {name: catalog.index for name, catalog in found.items()})
        if len({_bytes(catalog) for catalog in found.values()}) > 1:
            raise Violation("I-24", "equal indexes, different catalogs", *found)

    def leads(self, machine: str) -> bool:
        """Whether this machine believes that it leads."""
        core = self.cores.get(machine)
        return core is not None and core.state.role is Role.LEADER

    def can_lose(self, machine: str) -> bool:
        """Whether the others are a majority of those who vote, by the newest configuration that anybody knows."""
        history = max((core.state.history for core in self.cores.values()), key=lambda each: each.index)
        halves = [{peer.name for peer in half} for half in (history.current.voters, history.current.outgoing) if half]
        return all(has_majority(half - {machine}, half) for half in halves)

    def is_only_in_sync(self, machine: str, catalog: Catalog) -> bool:
        """Whether no other machine is known to have every acknowledged row, or would be by what may yet be agreed on: a
        holder that lost sight of the others asks to go on alone, and dies before it hears (world seed 655050).
        """
        return any(not {*members} - {machine} for members in self._in_sync_sets(catalog))

    def _in_sync_sets(self, catalog: Catalog) -> Iterator[tuple[str, ...]]:
        """The one that is agreed on, and those that follow when what some log holds besides is agreed on, too."""
        yield _in_sync(catalog)
        for log in (core.state.log for core in self.cores.values()):
            after = catalog
            for index in range(max(catalog.index, log.boundary_index) + 1, log.last_index + 1):
                entry = log.entry(index)
                if entry is None:
                    yield ()  # On disk only: nobody can tell.
                    break
                if entry.kind is EntryKind.COMMAND:
                    assert isinstance(entry.payload, bytes)
                    after, _ = fsm.apply(after, index, codec.decode(entry.payload))
                    yield _in_sync(after)

    # ---- rules

    def _vote(self, voter: str, term: int, candidate: str) -> None:
        if self._votes.setdefault((voter, term), candidate) != candidate:
            raise Violation("I-11", "two votes in one term", voter, term, self._votes[voter, term], candidate)

    def _require_quorum(self, who: str, core: RaftCore) -> None:
        """A step may commit and append the next configuration, or the other way round: either may have counted. What a
        follower has in force is no matter: the next configuration may not have come to it yet (world seed 700291).
        """
        index, history = core.state.commit, core.state.history
        counted = (history.current, self._in_force.get(who, history.current))
        if not any(self._is_on_quorum(index, core.state.log.term(index), each) for each in counted):
            raise Violation("I-06", "committed and not on a quorum's disks", who, index, *counted)

    def _is_on_quorum(self, index: int, term: int | None, configuration: Configuration) -> bool:
        assert term is not None, index
        return all(
            sum(self._holds(peer.name, index, term) for peer in half) >= majority(len(half))
            for half in (configuration.voters, configuration.outgoing)
            if half
        )

    def _holds(self, machine: str, index: int, term: int) -> bool:
        disks = (self.disks.get(machine), self._lost.get(machine))
        return any(disk is not None and disk.holds(index, term) for disk in disks)

    def _compare(self, who: str, catalog: Catalog) -> None:
        digest = _bytes(catalog)
        if self._states.setdefault(catalog.index, digest) != digest:
            raise Violation("I-24", "equal indexes, different catalogs", who, catalog.index)


def _in_sync(catalog: Catalog) -> tuple[str, ...]:
    return catalog.in_sync.members if catalog.in_sync is not None else ()


def _machine(who: str) -> str:
    return who.partition(".")[0]


def _bytes(catalog: Catalog) -> bytes:
    return hashlib.blake2b(b"".join(snapshot.encode(catalog)), digest_size=16).digest()


def _digest(entry: Entry) -> bytes:
    payload = entry.payload if entry.kind is EntryKind.COMMAND else repr(entry.payload).encode()
    assert isinstance(payload, bytes)
    return hashlib.blake2b(b"%d %d " % (entry.term, int(entry.kind)) + payload, digest_size=16).digest()
