"""The power goes before, and in the middle of, every disk step of any life of a `RaftStorage`: nothing that was
acknowledged is lost, nothing that was cut comes back, and what is found is what a core can start from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from arc.ports import BLOCK_BYTES
from arc.raft import opening, storage
from arc.raft.effects import Write
from arc.raft.log import Log
from arc.raft.membership import History
from arc.raft.recovery import recover
from arc.raft.snapshots import SnapshotStore
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, HardState, Peer, SnapshotMeta
from tests.fakes import MemoryDisk
from tests.raft.steps import StepDisk

A, B, C = Peer("a"), Peer("b"), Peer("c", 3)
FOUNDERS = Configuration(voters=(A, B, C))
SEGMENT_BYTES = 6 * BLOCK_BYTES


def opened(disk: MemoryDisk) -> RaftStorage:
    return RaftStorage.open(disk, "raft", me=A, founders=FOUNDERS, segment_bytes=SEGMENT_BYTES)


@dataclass(frozen=True)
class Model:
    """What must be there: hard state, snapshot, and the entries after it."""

    hard: HardState = HardState()  # noqa: RUF009
    snapshot: SnapshotMeta = SnapshotMeta(0, 0, FOUNDERS)  # noqa: RUF009
    entries: tuple[Entry, ...] = ()

    @property
    def last(self) -> int:
        return self.entries[-1].index if self.entries else self.snapshot.index

    def term(self, index: int) -> int:
        return (
            self.snapshot.term if index == self.snapshot.index else self.entries[index - self.snapshot.index - 1].term
        )

    def above(self, index: int) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.index > index)

    def do(self, write: Write) -> Model:
        new = self
        if write.snapshot is not None:
            new = replace(new, snapshot=write.snapshot, entries=())
        elif write.truncate_from is not None:
            new = replace(new, entries=tuple(each for each in self.entries if each.index < (write.truncate_from or 0)))
        return replace(new, hard=write.hard_state or new.hard, entries=new.entries + write.entries)

    def saved(self, meta: SnapshotMeta) -> Model:
        return replace(self, snapshot=meta, entries=self.above(meta.index))


def found(disk: MemoryDisk) -> tuple[Model, RaftStorage]:
    """What a start makes of this disk, seen through the core's own recovery."""
    stored_by = opened(disk)
    stored = stored_by.stored
    assert not stored.is_damaged, stored_by.findings
    assert stored.snapshot is not None
    log, history = Log(stored.snapshot.index, stored.snapshot.term), History(0, stored.snapshot.configuration)
    recover(log, history, stored)
    assert max(log.last_term, stored.snapshot.term) <= stored.hard_state.term  # I-09
    entries: tuple[Entry, ...] = ()
    while len(entries) < log.last_index - stored.snapshot.index:
        piece = stored_by.read_entries(stored.snapshot.index + 1 + len(entries), log.last_index, 3000)
        assert piece
        entries += piece
    told = tuple(entry for entry in stored.entries if entry.index > stored.snapshot.index)
    assert entries[len(entries) - len(told) :] == told
    assert [entry.term for entry in entries] == [log.term(entry.index) for entry in entries]
    places = [(entry.index, entry.payload) for entry in entries if entry.kind is EntryKind.MEMBERSHIP]
    for index in range(stored.snapshot.index, log.last_index + 1):
        before = [place for place in places if place[0] <= index]
        assert history.at(index) == (before[-1] if before else (0, stored.snapshot.configuration))
    assert stored_by.statistics().next_index == max(log.last_index, stored.snapshot.index) + 1
    return Model(stored.hard_state, stored.snapshot, entries), stored_by


@dataclass
class Life:
    """A storage, what it should hold, and a power cut at every step of what it does."""

    disk: StepDisk = field(default_factory=StepDisk)
    model: Model = Model()
    write_id: int = 0
    cuts: int = 0

    def __post_init__(self) -> None:
        self.disk.watch = self.power_cut
        self.allowed = [self.model]
        self.storage = opened(self.disk)

    def power_cut(self, step: str, disk: MemoryDisk) -> None:
        self.cuts += 1
        model, again = found(disk)
        hards = {each.hard for each in self.allowed}
        assert model.hard in hards, (step, model.hard, hards)
        assert (model.snapshot, model.entries) in [(each.snapshot, each.entries) for each in self.allowed], (
            step,
            model,
        )
        if self.cuts % 7 == 0:  # What is left is whole enough to go on with, and to find again.
            index, term = max(model.snapshot.index + 1, model.last - 1), model.hard.term + 1
            entry = Entry(index, term, EntryKind.COMMAND, b"after")
            again.write([Write(1, HardState(term), index if index <= model.last else None, (entry,))])
            kept = tuple(each for each in model.entries if each.index < index)
            assert found(disk.copy())[0].entries == (*kept, entry)

    def doing(self, *stages: Model) -> Iterator[None]:
        self.allowed = [self.model, *stages]
        yield
        self.model = stages[-1]
        self.allowed = [self.model]
        assert found(self.disk.copy())[0] == self.model
        first = self.model.snapshot.index + 1
        assert self.storage.read_entries(first, self.model.last, 1 << 30) == self.model.entries, "the index in memory"

    def entries(self, first: int, term: int, sizes: list[int]) -> tuple[Entry, ...]:
        made = []
        for index, size in enumerate(sizes, first):
            if size % 5 == 4:
                voters = (A, B, C, Peer("d", self.write_id + 1))
                made.append(Entry(index, term, EntryKind.MEMBERSHIP, Configuration(voters=voters)))
            else:
                made.append(Entry(index, term, EntryKind.COMMAND, b"%d.%d." % (self.write_id, index) + bytes(size)))
        return tuple(made)

    def next_write(self, model: Model, draw: tuple[int, int, list[int]]) -> Write:
        """A write as a core would ask for it: (how much to cut, whether a new term or vote, sizes of entries)."""
        back, hard, sizes = draw
        self.write_id += 1
        term = max(model.hard.term, 1)
        if back or hard == 1 or term > model.hard.term:
            term += 1
        state = HardState(term, (None, A, B, C)[self.write_id % 4]) if term > model.hard.term else None
        cut = max(model.last + 1 - back, model.snapshot.index + 1) if back else None
        first = model.last + 1 if cut is None else cut
        return Write(self.write_id, state, cut, self.entries(first, term, sizes))

    def write(self, draws: list[tuple[int, int, list[int]]]) -> None:
        writes, stages = [], []
        model = self.model
        for draw in draws:
            writes.append(self.next_write(model, draw))
            model = model.do(writes[-1])
            stages.append(model)
        for _ in self.doing(*stages):
            assert self.storage.write(writes) is None

    def install(self, ahead: int, sizes: list[int]) -> None:
        self.write_id += 1
        term = self.model.hard.term + 1
        index = max(self.model.snapshot.index + 1, self.model.last + ahead - 3)
        leader = SnapshotStore(MemoryDisk(), "s", part_bytes=5000)
        voters = Configuration(voters=(A, B))
        meta = leader.save(index, term, [b"%d" % self.write_id * 900] * ahead, voters, index - 1).meta
        offset, is_last = 0, False
        while not is_last:
            piece = leader.read_piece(meta, offset, 1777)
            assert piece is not None
            data, checksum, is_last = piece
            assert self.storage.stage_chunk(meta, offset, data, checksum, is_last)
            offset += len(data)
        entries = self.entries(index + 1, term, sizes)
        write = Write(self.write_id, HardState(term, None), self.model.snapshot.index + 1, entries, meta)
        after = self.model.do(write)
        for _ in self.doing(replace(after, entries=()), after):
            assert self.storage.write([write]) is None
        assert b"".join(self.storage.load_snapshot(meta)) == b"%d" % self.write_id * 900 * ahead

    def save(self, back: int) -> None:
        index = max(self.model.last - back, self.model.snapshot.index)
        if index == self.model.snapshot.index:
            return
        entry = self.model.entries[index - self.model.snapshot.index - 1]
        twin, _ = found(self.disk.copy())
        chunks = [b"%d" % index * 800] * 3
        meta = opened(self.disk.copy()).save_snapshot(index, entry.term, FOUNDERS, 0, chunks)
        assert meta is not None and twin == self.model
        for _ in self.doing(self.model.saved(meta)):
            assert self.storage.save_snapshot(index, entry.term, FOUNDERS, 0, chunks) == meta
        for _ in self.doing(self.model):
            self.storage.compact(index - 1)

    def restart(self, orderly: bool) -> None:
        for _ in self.doing(self.model):
            if orderly:
                self.storage.close()
            self.storage = opened(self.disk)


SIZES = st.lists(st.integers(0, 60) | st.integers(4000, 5000), max_size=4)
OPERATIONS = st.one_of(
    st.tuples(
        st.just("write"), st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), SIZES), min_size=1, max_size=3)
    ),
    st.tuples(st.just("write"), st.lists(st.tuples(st.just(0), st.integers(0, 2), SIZES), min_size=1, max_size=4)),
    st.tuples(st.just("install"), st.integers(1, 6), SIZES),
    st.tuples(st.just("save"), st.integers(0, 3)),
    st.tuples(st.just("restart"), st.booleans()),
)


@settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(operations=st.lists(OPERATIONS, min_size=4, max_size=14), small_groups=st.booleans(), tail=st.booleans())
def test_power_cut_at_any_step_of_any_life_leaves_what_was_acknowledged(
    operations: list[tuple[str, ...]], small_groups: bool, tail: bool
) -> None:
    """D-06, D-10, D-11, K-62: a write is there whole or not at all, in order; what was cut never returns."""
    with pytest.MonkeyPatch.context() as patch:
        if small_groups:
            patch.setattr(storage, "GROUP_BYTES_MAX", 100)
        if tail:
            patch.setattr(opening, "TAIL_BYTES", 2 * BLOCK_BYTES)
        life = Life()
        for name, *arguments in operations:
            getattr(life, name)(*arguments)
