"""The disk of a simulated node: what was asked of it, what survives, and how long that takes.

Two images of one log: *issued*, with all writes asked for, and *synced*, with those that survive a power cut. Between
them are the pending writes. A crash keeps, loses or tears each of them; as records are chained by checksum, recovery
reads up to the first that is not whole. Syncs take their time, share it (group commit) or not, stall, fail, and find
the disk full. What rots, and what a start finds of it, is `damage`.
"""

from __future__ import annotations

from typing import NamedTuple

from arc.raft.effects import Write
from arc.raft.types import Configuration, Entry, EntryKind, HardState, Peer, SnapshotMeta, Stored, entry_bytes
from simulations.chance import Stream
from simulations.checkers.ghost import Ghost
from simulations.checkers.violation import Violation


class DiskShape(NamedTuple):
    """How disks behave in one run."""

    sync_seconds: float = 0.002
    report_seconds: float = 0.0
    """From the end of a sync until the node hears of it."""
    is_grouped: bool = True
    keep: float = 0.5
    """Chance that a crash keeps a pending write."""
    tear: float = 0.2
    """Chance that it keeps a part of it."""
    grain_bytes: int = 0
    """Size of what a crash keeps or loses as a whole, in any order: a byte, a sector, a page. 0: by `keep` and `tear`,
    in the order of the writes."""
    head_seconds: float = 0.0
    """From the rename of a snapshot's head until its directory is synced, too."""
    read_errors: float = 0.0
    """Chance that a read fails, comes short, or brings what is elsewhere."""
    is_tail_guessed: bool = False
    """An experiment: a start takes a rotten last entry for a torn one that nobody was promised."""
    is_lying: bool = False
    """An experiment: syncs report what is in a cache that a crash empties."""


class Image:
    """A log on a disk, with its chain at every index."""

    __slots__ = ("base", "base_chain", "chains", "configurations", "entries", "ghost", "hard", "is_lossy", "snapshot")

    def __init__(self, ghost: Ghost, stored: Stored) -> None:
        self.ghost = ghost
        self.hard = stored.hard_state
        self.is_lossy = False
        """Whether entries were asked for that the disk had no room for: then it may drop what others committed."""
        self.snapshot = stored.snapshot
        self.base = stored.snapshot.index if stored.snapshot else 0
        self.base_chain = 0
        self.entries: list[Entry] = []
        self.chains: list[int] = []
        first = stored.snapshot.configuration if stored.snapshot else Configuration()
        self.configurations: list[tuple[int, Configuration]] = [(0, first)]

    def copy(self) -> Image:
        """An equal one that may change."""
        new = Image.__new__(Image)
        new.is_lossy = False
        new.ghost, new.hard, new.snapshot = self.ghost, self.hard, self.snapshot
        new.base, new.base_chain = self.base, self.base_chain
        new.entries, new.chains = self.entries.copy(), self.chains.copy()
        new.configurations = self.configurations.copy()
        return new

    @property
    def last(self) -> int:
        """Index of the last entry."""
        return self.base + len(self.entries)

    def chain(self, index: int) -> int | None:
        """The chain at an index; None beyond the end. What was compacted away was committed."""
        base = self.base
        if index > base:
            place = index - base - 1
            return self.chains[place] if place < len(self.chains) else None
        if index == base:
            return self.base_chain
        return self.ghost.committed[index] if index >= 0 else None

    def term(self, index: int) -> int | None:
        """The term at an index, as far as it is known."""
        if self.base < index <= self.last:
            return self.entries[index - self.base - 1].term
        if index == self.base and self.snapshot is not None and self.snapshot.index == index:
            return self.snapshot.term
        return self.ghost.entries[index].term if index <= min(self.base, self.ghost.commit) else None

    def do(self, write: Write, parts: int = 1 << 60, *, with_entries: bool = True, is_asked_for: bool = False) -> None:
        """Take over a write: its parts in their order, the first ``parts`` of them, perhaps without the entries.

        Whether it may drop what it drops is judged when it ``is_asked_for``. What is asked for then may be committed
        elsewhere before a slow disk gets to it: nobody counted on this disk any more (seed 769639).
        """
        cut, snapshot = write.truncate_from, write.snapshot
        if snapshot is not None:
            if parts <= 0:
                return
            self.snapshot = snapshot
            parts -= 1
        if write.hard_state is not None:
            if parts <= 0:
                return
            self._remember(write.hard_state)
            parts -= 1
        if cut is not None:
            if parts <= 0:
                return
            if snapshot is not None and cut <= snapshot.index:
                self.reset(snapshot, is_asked_for=is_asked_for)
            else:
                self.truncate(cut, is_asked_for=is_asked_for)
            parts -= 1
        if with_entries:
            for entry in write.entries[: max(parts, 0)]:
                self.append(entry)

    def _remember(self, hard: HardState) -> None:
        if hard.term < self.hard.term:
            raise Violation("I-10", "the term on disk falls", self.hard, hard)
        if hard.term == self.hard.term and self.hard.vote not in (None, hard.vote):
            raise Violation("I-11", "the vote on disk changes within a term", self.hard, hard)
        self.hard = hard

    def append(self, entry: Entry) -> None:
        """One more entry (I-09: without a gap)."""
        if entry.index != self.last + 1:
            raise Violation("I-09", "a gap in the log", entry, self.last)
        before = self.chains[-1] if self.chains else self.base_chain
        self.entries.append(entry)
        self.chains.append(self.ghost.link(before, entry))
        if entry.kind is EntryKind.MEMBERSHIP:
            assert isinstance(entry.payload, Configuration), entry
            self.configurations.append((entry.index, entry.payload))

    def truncate(self, from_index: int, *, is_asked_for: bool) -> None:
        """Drop the entries from there on. I-07: nobody asks for a committed entry to be dropped."""
        if is_asked_for and from_index <= self.last:
            self._check_cut(from_index)
        del self.entries[max(from_index - self.base - 1, 0) :]
        del self.chains[max(from_index - self.base - 1, 0) :]
        while len(self.configurations) > 1 and self.configurations[-1][0] >= from_index:
            self.configurations.pop()

    def drop(self, from_index: int) -> None:
        """The entries from there on are lost."""
        del self.entries[from_index - self.base - 1 :]
        del self.chains[from_index - self.base - 1 :]
        while len(self.configurations) > 1 and self.configurations[-1][0] >= from_index:
            self.configurations.pop()

    def reset(self, snapshot: SnapshotMeta, *, is_asked_for: bool = True) -> None:
        """Hold nothing but the snapshot."""
        if is_asked_for and snapshot.index < self.last:
            self._check_cut(snapshot.index + 1)
        if snapshot.index > self.ghost.commit:
            raise Violation("I-23", "a snapshot of what was never committed", snapshot)
        self.base, self.base_chain = snapshot.index, self.ghost.committed[snapshot.index]
        self.entries, self.chains = [], []
        self.configurations = [(snapshot.configuration_index, snapshot.configuration)]

    def _check_cut(self, from_index: int) -> None:
        committed = self.ghost.committed
        if not self.is_lossy and from_index < len(committed) and self.chain(from_index) == committed[from_index]:
            raise Violation("I-07", "a committed entry is dropped", from_index, self.last)

    def compact(self, first: int) -> None:
        """Let go of entries below ``first``, which the newest snapshot stands for."""
        count = min(first - 1 - self.base, len(self.entries))
        if self.snapshot is None or count <= 0 or self.base + count > self.snapshot.index:
            return
        self.base_chain = self.chains[count - 1]
        self.base += count
        del self.entries[:count]
        del self.chains[:count]
        while len(self.configurations) > 1 and self.configurations[1][0] <= self.base:
            self.configurations.pop(0)

    def tidy(self) -> None:
        """What a start does: if the crash came between a snapshot and the cut of the log, finish the cut."""
        snapshot = self.snapshot
        if snapshot is not None and self.base < snapshot.index and self.term(snapshot.index) != snapshot.term:
            self.reset(snapshot)

    def stored(self, *, is_damaged: bool = False, tail_bytes: int = 1 << 60) -> Stored:
        """What a core is started from: the tail of the log, at least its last entry, and what is told of the rest."""
        place, size = len(self.entries), 0
        while place and (size == 0 or size < tail_bytes):
            place -= 1
            size += entry_bytes(self.entries[place])
        runs: list[tuple[int, int]] = []
        for entry in self.entries[:place]:
            if not runs or runs[-1][1] != entry.term:
                runs.append((entry.index, entry.term))
        told = tuple(each for each in self.configurations if self.base < each[0] <= self.base + place)
        return Stored(
            hard_state=self.hard,
            snapshot=self.snapshot,
            entries=tuple(self.entries[place:]),
            runs=tuple(runs),
            configurations=told if runs else (),
            is_damaged=is_damaged,
        )


class Disk:
    """One node's disk. Time is the world's business: `begin` says how long a sync takes, `finish` ends it."""

    def __init__(self, ghost: Ghost, owner: Peer, stored: Stored, shape: DiskShape, chance: Stream) -> None:
        self.owner = owner
        self.shape = shape
        self.chance = chance
        self.synced = Image(ghost, stored)
        self.truth = self.synced.copy()
        """Of a lying disk: what a crash leaves."""
        self.issued = self.synced.copy()
        self.pending: list[Write] = []
        self.images: dict[SnapshotMeta, bytes] = {}
        if stored.snapshot is not None:
            self.images[stored.snapshot] = b""
        self.slow = 1.0
        self.stalled_until = 0.0
        self.is_failing = self.is_dropping = False
        self.is_full = False
        self.is_syncing = False
        self.done = 0
        """Id of the last write whose sync is over (I-38)."""
        self.first = stored.snapshot
        """The founders' configuration, which is no part of the log."""
        self.renamed: list[SnapshotMeta] = []
        """Snapshots whose heads have their name, in a directory that is not synced yet."""
        self.rotten: list[int] = []
        """Indexes of entries that can not be read any more; nobody knows."""
        self.is_snapshot_rotten = False
        self.is_damaged = False
        """The mark on the disk: entries are missing that may have been acknowledged."""
        self.damages = 0
        self.promised: list[Image] = []
        """What the disk held before it was damaged: all that this node ever promised and is not whole of again."""
        self.refused_from = 0
        self.refused_to = 0
        """Writes of these ids lose their entries: from the first that found no room to the last that did not know."""

    def holds(self, index: int, chain: int | None) -> bool:
        """Whether that log is on the disk up to the index, or was before the damage that still keeps it from voting."""
        if self.synced.chain(index) == chain:
            return True
        return bool(self.promised) and any(each.chain(index) == chain for each in self.promised)

    def take(self, write: Write) -> None:
        """A write was asked for."""
        self.issued.do(write, is_asked_for=True)
        self.pending.append(write)

    def begin(self, now: float) -> tuple[float, int]:
        """Start a sync: (seconds it takes, id of the last write it covers)."""
        self.is_syncing = True
        covered = self.pending[-1 if self.shape.is_grouped else 0].write_id
        seconds = self.chance.uniform(0.3, 1.7) * self.shape.sync_seconds * self.slow
        if self.chance.random() < 0.02:
            seconds = min(seconds * 10, 5.0)
        return max(self.stalled_until - now, 0.0) + seconds, covered

    def finish(self, covered: int) -> int:
        """The sync is over: what it covers survives. Returns the id of the first write that found no room, or 0."""
        self.is_syncing = False
        self.done = covered
        refused = 0
        while self.pending and self.pending[0].write_id <= covered:
            write = self.pending.pop(0)
            if self.is_full and write.entries and not self.refused_from:
                refused = self.refused_from = write.write_id
                self.refused_to = 1 << 60
            self.synced.do(write, with_entries=not self.is_refused(write))
        if self.shape.is_lying and self.chance.random() < 0.2:
            self.truth = self.synced.copy()
        if self.rotten:  # What was cut, or written anew, is as good as new.
            self.rotten = [index for index in self.rotten if self.synced.base < index <= self.synced.last]
        return refused

    def told_full(self, last_id: int) -> None:
        """The node learns that there is no room; writes after ``last_id`` know of it."""
        self.refused_to = last_id
        self.issued.is_lossy = True

    def space_again(self) -> None:
        """There is room."""
        self.is_full = False

    def is_refused(self, write: Write) -> bool:
        """Whether there was no room for its entries."""
        return bool(self.refused_from) and self.refused_from <= write.write_id <= self.refused_to

    def crash(self) -> str:
        """The power goes: decide what of the pending writes got through. Says what happened to the last of it."""
        shape, fate = self.shape, "clean"
        if shape.is_lying:
            self.synced = self.truth.copy()
            self.pending.clear()
        if shape.grain_bytes and self.pending:
            fate = self._crash_in_grains(shape.grain_bytes)
        for write in self.pending if not shape.grain_bytes else ():
            draw = self.chance.random()
            if draw < shape.keep:
                self.synced.do(write, with_entries=not self.is_refused(write))
                continue
            if draw < shape.keep + shape.tear:
                parts = self.chance.randint(0, 3 + len(write.entries))
                self.synced.do(write, parts, with_entries=not self.is_refused(write))
                fate = "torn"
            else:
                fate = "lost"
            break
        self.forget_pending()
        for meta in self.renamed:  # The directory was not synced: the new name is there, or the old one.
            if self.chance.random() < 0.5 and (self.synced.snapshot is None or self.synced.snapshot.index < meta.index):
                self.synced.snapshot = meta
            else:
                fate = "head_lost"
        self.renamed.clear()
        self.synced.tidy()
        self.issued = self.synced.copy()
        return fate

    def backup(self) -> Disk:
        """A copy of all its files."""
        copy = Disk(self.synced.ghost, self.owner, Stored(), self.shape, self.chance)
        copy.synced, copy.issued, copy.first = self.synced.copy(), self.synced.copy(), self.first
        copy.images, copy.is_damaged = dict(self.images), self.is_damaged
        return copy

    def forget_pending(self) -> None:
        """A life ended, and with it all that was not synced."""
        self.pending.clear()
        self.done = 0
        self.is_syncing = self.is_failing = self.is_dropping = False
        self.refused_from = self.refused_to = 0

    def _crash_in_grains(self, grain: int) -> str:
        """Each grain of the pending bytes is kept or lost by itself; records chained by checksum end at the first lost.

        A single cut of bytes when the grain is one byte: more could not be told from it.
        """
        sizes = [part_bytes(write) for write in self.pending]
        total = sum(map(sum, sizes))
        count = -(-total // grain)
        kept = [self.chance.random() < self.shape.keep for _ in range(count)] if grain > 1 else []
        cut = self.chance.randint(0, total) if grain == 1 else grain * [*kept, False].index(False)
        at = 0
        for write, parts in zip(self.pending, sizes, strict=True):
            whole = 0
            for size in parts:
                at += size
                whole += at <= cut
            self.synced.do(write, whole, with_entries=not self.is_refused(write))
            if at > cut:
                is_debris = any(kept[cut // grain + 1 :]) if kept else False
                return "debris" if is_debris else "torn" if cut else "lost"
        return "clean"


def part_bytes(write: Write) -> list[int]:
    """Bytes of each part of a write on the disk, in the order in which `Image.do` takes them."""
    heads = [write.snapshot is not None, write.hard_state is not None, write.truncate_from is not None]
    return [40] * sum(heads) + [32 + len(entry.payload) for entry in write.entries]
