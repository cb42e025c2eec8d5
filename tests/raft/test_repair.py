"""The offline tools: what is in a folder, and the last resort of making its node the sole voter."""

from __future__ import annotations

import pytest

from arc.errors import Corrupt, InvalidRequest, NotFound, Overloaded
from arc.ports import BLOCK_BYTES
from arc.raft import effects, events
from arc.raft.config import Config
from arc.raft.core import RaftCore
from arc.raft.repair import examine, force_alone
from arc.raft.types import Configuration, Entry, EntryKind, HardState, Peer, Role, Stored
from tests.fakes import MemoryDisk, SeededRng
from tests.raft.test_storage import ALONE, FOUNDERS, A, B, C, entry, filled, indexes, opened, segments, write


def used() -> MemoryDisk:
    """Thirteen entries, a snapshot of ten, a configuration in entry eleven."""
    disk = filled(10)
    storage = opened(disk)
    storage.save_snapshot(10, 3, FOUNDERS, 0, [b"state"])
    write(storage, Entry(11, 4, EntryKind.MEMBERSHIP, Configuration(voters=(A, B))), hard=HardState(4, B))
    write(storage, *(entry(index, 4) for index in (12, 13)))
    return disk


def leads_alone(stored: Stored) -> list[Entry]:
    """What a core that starts from there commits when its time comes."""
    core, committed, now, written = RaftCore(A, Config(), stored, SeededRng(), 0.0), list[Entry](), 0.0, 0
    queue: list[events.Event] = []
    while core.status().role is not Role.LEADER or queue:
        now += 0.05
        assert now < 60
        for effect in core.step(queue.pop(0) if queue else events.Tick(), now):
            assert not isinstance(effect, effects.Send), effect
            if isinstance(effect, effects.Write):
                written = effect.write_id
                queue.append(events.Persisted(written))
            if isinstance(effect, effects.Apply):
                committed += effect.entries
                queue.append(events.Applied(effect.entries[-1].index))
    return committed


def test_examination_tells_what_is_there_and_changes_nothing() -> None:
    disk = used()
    before = {path: disk.read(path) for path in disk.walk("")}
    found = examine(disk, "raft")
    assert found.hard_state == HardState(4, B)
    assert found.snapshot is not None and found.snapshot.index == 10
    assert (found.first_index, found.last_index, found.last_term) == (1, 13, 4)
    assert (found.configuration, found.configuration_index) == (Configuration(voters=(A, B)), 11)
    assert (found.problems, found.is_marked) == ((), False)
    assert {path: disk.read(path) for path in disk.walk("")} == before


def test_examination_names_every_damage_and_changes_nothing() -> None:
    disk = used()
    disk.flip(segments(disk)[1], BLOCK_BYTES + 50)
    disk.flip("raft/snapshots/snapshot-00000000000000000010.cbor", 9)
    for offset in (20, 2048 + 20):
        disk.flip("raft/hard-state.log", offset)
    before = {path: disk.read(path) for path in disk.walk("")}
    found = examine(disk, "raft")
    assert found.hard_state is None and found.snapshot is None and len(found.problems) == 3
    assert {path: disk.read(path) for path in disk.walk("")} == before


def test_there_must_be_something_to_look_at() -> None:
    with pytest.raises(NotFound):
        examine(MemoryDisk(), "raft")
    with pytest.raises(NotFound):
        force_alone(MemoryDisk(), "raft", A)


def test_a_survivor_leads_alone_with_all_it_held() -> None:
    disk = used()
    done = force_alone(disk, "raft", A)
    assert (done.entry_index, done.term, done.agreed_index, done.held_index, done.held_term) == (14, 5, 10, 13, 4)
    assert done.former == Configuration(voters=(A, B))
    stored = opened(disk).stored
    assert stored.hard_state == HardState(5, A) and indexes(opened(disk))[-1] == 14
    committed = leads_alone(stored)
    assert [each.index for each in committed] == [11, 12, 13, 14, 15]
    assert committed[-2] == Entry(14, 5, EntryKind.MEMBERSHIP, ALONE)


def test_a_survivor_that_is_damaged_leads_with_what_is_proven() -> None:
    """Nobody is left to repair it."""
    disk = filled(20)
    disk.flip(segments(disk)[2], 2 * BLOCK_BYTES + 50)
    assert opened(disk).stored.is_damaged
    done = force_alone(disk, "raft", A)
    assert (done.held_index, done.entry_index) == (7, 8) and done.findings
    assert not opened(disk).stored.is_damaged and not examine(disk, "raft").problems


def test_a_sole_voter_with_damage_may_be_forced_too() -> None:
    disk = filled(20, founders=ALONE)
    disk.flip(segments(disk)[2], 2 * BLOCK_BYTES + 50)
    with pytest.raises(Corrupt):
        opened(disk, ALONE)
    assert force_alone(disk, "raft", A).held_index == 7
    assert indexes(opened(disk, ALONE)) == list(range(1, 9))


def test_a_stranger_is_refused_and_so_is_a_full_disk() -> None:
    disk = used()
    before = disk.walk("")
    with pytest.raises(InvalidRequest, match="no member"):
        force_alone(disk, "raft", C._replace(incarnation=7))
    assert disk.walk("") == before
    storage = opened(disk)
    index = 14
    disk.free = 0
    while write(storage, entry(index, 4, bytes(3000))) is None:
        index += 1
    with pytest.raises(Overloaded):
        force_alone(disk, "raft", A)


def test_the_power_may_go_while_a_node_is_forced() -> None:
    """Doing it again is all there is to do."""
    from tests.raft.steps import StepDisk

    plain, disk, steps = used(), StepDisk(), list[MemoryDisk]()
    disk._files, disk._folders = plain._files, plain._folders
    disk.watch = lambda what, copy: steps.append(copy)
    force_alone(disk, "raft", A)
    for copy in steps:
        if Peer("a") in examine(copy, "raft").configuration.voters:
            done = force_alone(copy, "raft", A)
            assert done.held_index in (13, 14)
            assert opened(copy).stored.entries[-1].payload == ALONE
    assert len(steps) > 3
