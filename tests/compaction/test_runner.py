"""A job changes the manifest as a whole or leaves it as it is, whatever fails and wherever the power goes."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from arc.catalog.facts import Catalog
from arc.catalog.values import DeleteSource
from arc.compaction.config import CompactionConfig
from arc.compaction.receipt import FOLDER, RECEIPTS
from arc.compaction.runner import Compactor
from arc.errors import AlreadyRunning, Conflict, DiskFailed, InvalidRequest, OutcomeUnknown, Unavailable
from arc.ids import Epoch, NodeId
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.telemetry import Log
from tests.compaction.catalogs import catalog_of
from tests.compaction.rows import Row, data_paths, flush, rows_of
from tests.fakes import InlineWorkers, ManualClock, MemoryDisk, make_ports
from tests.raft.steps import StepDisk

CONFIG = CompactionConfig(memory_bytes=32 << 20, poll_seconds=1e6)


@dataclass
class World:
    """The catalog, the files and the other nodes."""

    files: list[FileEntry]
    disk: MemoryDisk
    here: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    pins: int = 0
    refusals: list[Exception] = field(default_factory=list)
    spread_fails: list[Exception] = field(default_factory=list)
    doubted: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    epoch: int = 5
    spread_waits: bool = False

    def catalog(self) -> Catalog:
        return catalog_of(self.files, epoch=self.epoch)

    async def batch_file_ops(
        self, registers: Sequence[FileEntry], deletes: Sequence[DeleteSource], holders: Sequence[NodeId] = ()
    ) -> None:
        await trio.lowlevel.checkpoint()
        if self.refusals:
            raise self.refusals.pop(0)
        self.events.append("swap")
        gone = {each.path for each in deletes}
        kept = [entry for entry in self.files if entry.path not in gone]
        assert len(kept) + len(gone) == len(self.files)
        self.files = [*kept, *registers]

    async def spread(self, entries: Sequence[FileEntry]) -> Sequence[NodeId]:
        await trio.lowlevel.checkpoint()
        self.events.append("spread")
        if isinstance(self.disk, StepDisk):
            self.disk.step("before spreading")
        assert all(entry.path in self.here for entry in entries)
        if self.spread_waits:
            await trio.sleep_forever()
        if self.spread_fails:
            raise self.spread_fails.pop(0)
        return ()

    async def fetch(self, entries: Sequence[FileEntry]) -> None:
        raise Unavailable("nobody has it")

    async def doubt(self, entry: FileEntry, reason: str) -> None:
        self.doubted.append(entry.path)

    def is_here(self, path: str) -> bool:
        return path in self.here

    def pin(self, paths: Sequence[str]) -> None:
        self.pins += len(paths)

    def unpin(self, paths: Sequence[str]) -> None:
        self.pins -= len(paths)

    def came(self, path: str) -> None:
        self.here.add(path)

    def left(self, paths: Sequence[str]) -> None:
        self.gone.update(paths)


ROWS: list[Row] = [(n, "x", f"{n % 3}", n) for n in range(40)]


def world_of(disk: MemoryDisk) -> World:
    files = [entry for n in range(4) for entry in flush(disk, ROWS[n * 10 : n * 10 + 10], n + 1)]
    return World(files, disk, here={entry.path for entry in files})


def compactor(world: World, config: CompactionConfig = CONFIG, workers: InlineWorkers | None = None) -> Compactor:
    ports = make_ports(disk=world.disk, workers=workers, clock=ManualClock())
    return Compactor(
        config=config,
        node=NodeId("n1"),
        epoch=Epoch(5),
        ports=ports,
        catalog=world.catalog,
        swap=world,
        copies=world,
        fetch=world,
        files=world,
        doubt=world.doubt,
        reserve_bytes=0,
        log=Log([], lambda: 0),
    )


@asynccontextmanager
async def running(made: Compactor) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await wait_all_tasks_blocked()
        yield
        nursery.cancel_scope.cancel()


def require_all_rows(world: World) -> None:
    assert sorted(rows_of(world.disk, data_paths(world.files)), key=str) == sorted(ROWS, key=str)
    known = {*data_paths(world.files)}
    unknown = {path for path in world.disk.walk(DATA) if path not in known}
    assert world.disk.walk(FOLDER) == [] and world.pins == 0
    world.unknown = {path[len(DATA) + 1 :] for path in unknown}  # type: ignore[attr-defined]


async def test_files_are_merged_spread_and_swapped_in_that_order() -> None:
    world = world_of(MemoryDisk())
    made = compactor(world)
    async with running(made):
        (entry,) = world.files
        require_all_rows(world)
    assert world.events == ["spread", "swap"]
    assert (entry.first_sequence, entry.last_sequence, entry.epoch, entry.rows) == (1, 4, 5, 40)
    assert entry.columns == ("time", "a", "b", "v") and "@daily.0000" in entry.path
    (line,) = made.history()
    assert line.success and line.files_compacted == 4 and (line.compression_ratio or 0) > 1
    told = made.statistics()
    assert (told.jobs_done_total, told.files_compacted_total, told.rows_merged_total) == (1, 4, 40)
    assert told.tiers[1].compactions_total == 1 and await made.candidates() == () and made.running() == ()


@pytest.mark.parametrize(
    ("refusals", "outcome"),
    [
        ([Conflict("stale")], "void"),
        ([Unavailable("nobody leads"), OutcomeUnknown("lost"), Conflict("gone")], "void"),
        ([Unavailable("nobody leads"), OutcomeUnknown("lost")], "done"),
    ],
)
async def test_a_refused_swap_voids_the_job_and_an_unknown_one_is_asked_again(
    refusals: list[Exception], outcome: str, autojump_clock: object
) -> None:
    world = world_of(MemoryDisk())
    world.refusals = refusals
    made = compactor(world)
    async with running(made):
        await trio.sleep(10)
        assert [line.outcome for line in made.history()] == [outcome]
        require_all_rows(world)
    is_void = outcome == "void"
    assert bool(world.gone) is is_void and world.unknown <= {*world.gone, *(p for p in world.here)}  # type: ignore[attr-defined]
    assert made.statistics().jobs_void_total == is_void
    assert [each.waits_seconds > 0 for each in await made.candidates()] == [True] * is_void


async def test_a_bad_copy_is_doubted_a_missing_file_and_a_full_disk_only_put_it_off() -> None:
    for spoil, outcome in (
        ("rot", "failed"),
        ("lack", "skipped"),
        ("full", "failed"),
        ("small", "skipped"),
        ("spread", "failed"),
    ):
        world = world_of(MemoryDisk())
        match spoil:
            case "rot":
                world.disk.flip(data_paths(world.files)[2], 40)
            case "lack":
                world.here.discard(world.files[0].path)
            case "full":
                world.disk.fail_next_write(OSError(errno.ENOSPC, "full"))
            case "small":
                world.disk.free = 100
            case "spread":
                world.spread_fails = [Unavailable("too few nodes")]
        made = compactor(world)
        async with running(made):
            assert [line.outcome for line in made.history()] == [outcome], spoil
            assert len(world.files) == 4 and "swap" not in world.events
            assert world.doubted == ([world.files[2].path] if spoil == "rot" else [])
            assert world.disk.walk(FOLDER) == [] and world.pins == 0
            assert made.statistics().waiting_partitions == 1
            made.trigger()
            await wait_all_tasks_blocked()
            assert made.history()[0].success is (spoil in ("full", "spread")), spoil


async def test_a_disk_that_fails_stops_the_node() -> None:
    world = world_of(MemoryDisk())
    world.disk.fail_next_write()
    with pytest.RaisesGroup(DiskFailed):
        async with running(compactor(world)):
            await trio.sleep_forever()


async def test_nothing_is_begun_while_paused_or_disabled_but_a_trigger_runs() -> None:
    world = world_of(MemoryDisk())
    made = compactor(world, replace(CONFIG, enabled=False))
    async with running(made):
        assert made.history() == () and len(await made.candidates()) == 1
        with pytest.raises(InvalidRequest, match="no tier"):
            made.trigger(["weekly"])
        with pytest.raises(InvalidRequest, match="no database"):
            made.trigger(database="nope")
        assert made.trigger(["hourly"]) == 1
        with pytest.raises(AlreadyRunning):
            made.trigger()
        await wait_all_tasks_blocked()
        assert made.history() == ()
        assert made.trigger(["daily"]) == 2
        await wait_all_tasks_blocked()
        assert len(made.history()) == 1 and len(world.files) == 1
    world = world_of(MemoryDisk())
    made = compactor(world)
    made.pause()
    async with running(made):
        assert len(world.files) == 4
        made.resume()
        await wait_all_tasks_blocked()
        assert len(world.files) == 1


async def test_a_job_is_cancelled_while_it_merges_and_while_it_waits_for_copies() -> None:
    for phase in ("merging", "spreading"):
        world = world_of(MemoryDisk())
        world.spread_waits = phase == "spreading"
        made = compactor(world)
        assert not made.cancel()
        if phase == "merging":
            world.disk.on_write = lambda path, made=made: made.cancel() and None  # type: ignore[misc]
        async with running(made):
            if phase == "spreading":
                (now,) = made.running()
                assert now.phase == phase and now.rows_done == now.rows_total == 40
                assert made.cancel()
                await wait_all_tasks_blocked()
            assert [line.outcome for line in made.history()] == ["cancelled"]
            assert len(world.files) == 4 and world.disk.walk(FOLDER) == [] and world.pins == 0
            assert bool(world.gone) is (phase == "spreading")


async def test_power_cut_at_any_step_leaves_every_row_once_and_no_output_that_nobody_knows() -> None:
    disk = StepDisk()
    world = world_of(disk)
    before = list(world.files)
    moments: list[tuple[str, MemoryDisk, list[FileEntry]]] = []
    disk.watch = lambda step, copy: moments.append((step, copy, list(world.files)))
    async with running(compactor(world)):
        pass
    disk.watch = None
    moments.append(("after all", disk.copy(), list(world.files)))
    steps = " ".join(step for step, *_ in moments)
    assert len(moments) > 8 and RECEIPTS in steps and "installing" in steps
    settled = set()
    for epoch in (5, 6):
        for step, copy, files in moments:
            twin = World(list(files), copy.copy(), here={entry.path for entry in files}, epoch=epoch)
            made = compactor(twin, replace(CONFIG, enabled=False))
            async with running(made):
                require_all_rows(twin)
                left = {path for path in twin.unknown if path not in {entry.path for entry in before}}  # type: ignore[attr-defined]
                assert left <= twin.gone, (step, epoch, left)
                assert len(twin.files) in (1, 4)
                settled.add((epoch, len(files), len(twin.files)))
    assert settled == {(5, 4, 4), (5, 4, 1), (5, 1, 1), (6, 4, 4), (6, 1, 1)}
