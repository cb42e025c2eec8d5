"""Whatever happens to files behind the node's back is found, told of, and mended as far as others can help."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
import trio
import trio.lowlevel
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.commands import FlushMark, RegisterFiles, ReplaceFiles
from arc.cluster.feed import Feed
from arc.replication.antientropy import AntiEntropy
from arc.replication.config import ReplicationConfig
from arc.replication.scrubbing import (
    CORE_SHARE,
    DAY_US,
    READ_BYTES,
    REST_SECONDS_MAX,
    VOUCHED_SECONDS,
    Scrubber,
    Share,
    due,
)
from arc.replication.sweeper import Sweeper
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DAMAGED, DATA, QUARANTINE, FileKeeper
from arc.storage.paths import file_path
from arc.telemetry import Log, RingSink
from tests.catalog.facts import file, ready
from tests.fakes import InlineWorkers, ManualClock, MemoryDisk

BODY = bytes(range(256)) * 20


T = TypeVar("T")


class TrioClock(ManualClock):
    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return round(trio.current_time() * 1e6)


def entry_of(name: str, *, sequence: int, body: bytes = BODY) -> FileEntry:
    made = file(name, first=sequence, last=sequence, sha256=hashlib.sha256(body).hexdigest())
    return replace(made, size_bytes=len(body))


class Place:
    """A node's files, and what looks after them. ``others`` says whether somebody else could have a copy."""

    def __init__(
        self, *, others: bool = True, config: ReplicationConfig | None = None, workers: InlineWorkers | None = None
    ) -> None:
        self.machine = ready()
        self.feed = Feed(self.machine.catalog)
        self.disk, self.clock, self.ring = MemoryDisk(), TrioClock(), RingSink(50)
        log = Log([self.ring], self.clock.wall_us)
        workers = workers or InlineWorkers()
        self.keeper = FileKeeper(self.disk, workers, self.clock, StorageConfig())
        config, share = config or ReplicationConfig(), Share(self.clock)
        self.scrubber = Scrubber(
            me="n1",
            config=config,
            catalog=lambda: self.machine.catalog,
            can_be_brought=lambda: others,
            files=self.keeper,
            disk=self.disk,
            workers=workers,
            clock=self.clock,
            share=share,
            log=log,
        )
        self.slow = AntiEntropy(
            config=config,
            catalog=lambda: self.machine.catalog,
            reigns=lambda: [1],
            can_be_brought=lambda: others,
            stray_seconds=1000.0,
            files=self.keeper,
            scrubber=self.scrubber,
            clock=self.clock,
            share=share,
            log=log,
        )
        self.sweeper = Sweeper(lambda: self.machine.catalog, self.keeper, log)

    def store(self, path: str, body: bytes = BODY) -> None:
        self.disk.make_dirs(f"{DATA}/{path}".rpartition("/")[0])
        self.disk.write_durable(f"{DATA}/{path}", body)

    async def with_files(self, *names: str) -> list[FileEntry]:
        entries = [entry_of(name, sequence=number) for number, name in enumerate(names, 1)]
        for entry in entries:
            self.store(entry.path)
        self.register(*entries)
        await self.keeper.look(self.machine.catalog.all_files())
        return entries

    def register(self, *entries: FileEntry) -> None:
        mark = FlushMark("metrics", "cpu", max(entry.last_sequence for entry in entries))
        self.do(RegisterFiles(files=entries, flushed=(mark,), epoch=1))

    def remove(self, entry: FileEntry) -> None:
        self.do(ReplaceFiles(remove=((entry.path, entry.sha256),), lease="writer", epoch=1))

    def do(self, command: RegisterFiles | ReplaceFiles) -> None:
        applied = self.machine.apply(self.machine.catalog.index + 1, command)
        assert applied.result.ok, applied.result
        self.feed.publish(self.machine.catalog, applied.events)

    def told(self) -> list[str]:
        return [event.message for event in self.ring.select(limit=50)]


# ---------------------------------------------------------------------------------------------------- whose turn it is


@given(
    st.lists(st.integers(0, (1 << 32) - 1), min_size=1, max_size=30, unique=True),
    st.lists(st.integers(1, 40), min_size=1, max_size=60),
    st.integers(0, 10**15),
)
def test_every_file_has_one_turn_in_every_period_whatever_the_steps(
    places: list[int], steps: list[int], start: int
) -> None:
    period = 1_000_000
    entries = [replace(file(f"{place:08x}"), sha256=f"{place:08x}".ljust(64, "0")) for place in places]
    turns: Counter[str] = Counter()
    at = start
    for step in steps:
        until = min(at + step * period // 40, start + period)
        found = due(entries, "n1", since_us=at, until_us=until, period_us=period)
        assert all(at <= moment < until for moment, _ in found)
        assert found == sorted(found, key=lambda each: each[0])
        turns.update(entry.path for _, entry in found)
        at = until
    turns.update(e.path for _, e in due(entries, "n1", since_us=at, until_us=start + period, period_us=period))
    assert turns == {entry.path: 1 for entry in entries}


def test_nodes_do_not_read_the_same_file_at_the_same_time() -> None:
    entries = [file("a")]
    (one,), (other,) = (
        due(entries, node, since_us=0, until_us=30 * DAY_US, period_us=30 * DAY_US) for node in ("n1", "n2")
    )
    assert abs(one[0] - other[0]) > DAY_US / 24


async def test_all_files_are_read_within_the_period_and_evenly(autojump_clock: trio.testing.MockClock) -> None:
    place = Place(config=ReplicationConfig(scrub_days=1, look_seconds=3600))
    bodies = [b"%d" % number * 50 for number in range(60)]
    entries = [entry_of(f"f{n}", sequence=n + 1, body=body) for n, body in enumerate(bodies)]
    for entry, body in zip(entries, bodies, strict=True):
        place.store(entry.path, body)
    place.register(*entries)
    await place.keeper.look(place.machine.catalog.all_files())
    with trio.move_on_after(12 * 3600):
        await place.slow.run()
    half = place.slow.statistics().read_files_total
    assert 15 < half < 45
    with trio.move_on_after(24 * 3600):
        await place.slow.run()
    found = place.slow.statistics()
    assert found.read_files_total == half + 60 and found.bad_total == 0
    assert found.looks_total >= 34


async def test_a_step_is_followed_by_a_pause_that_is_so_much_longer(autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    body = bytes(3 * READ_BYTES)
    entry = entry_of("a", sequence=1, body=body)
    place.store(entry.path, body)
    place.register(entry)
    await place.keeper.look([entry])

    class Slow(InlineWorkers):
        async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
            await trio.sleep(0.1)
            return fn(*args)

    place.scrubber._workers = Slow()
    began = trio.current_time()
    await place.scrubber.read(entry)
    took = trio.current_time() - began
    busy = place.slow.statistics().busy_seconds_total
    assert busy == pytest.approx(0.4) and took == pytest.approx(busy / CORE_SHARE)


async def test_who_cannot_keep_up_reads_every_file_in_its_turn_and_looks_all_the_same(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """What came due while others were read was left out, perhaps for ever (world seed 625860)."""
    period, each = 10.0, 2.0
    place = Place(config=ReplicationConfig(look_seconds=1.0, scrub_days=period / 86_400))
    made = [entry_of(f"f{number}", sequence=number + 1) for number in range(30)]
    # The turn of a file follows from its hash.
    entries = [replace(entry, sha256=hashlib.sha256(entry.path.encode()).hexdigest()) for entry in made]
    for entry in entries:
        place.store(entry.path)
    place.register(*entries)
    await place.keeper.look(entries)
    read: list[str] = []

    async def slowly(entry: FileEntry) -> None:
        await trio.sleep(each)
        read.append(entry.path)

    place.scrubber.read = slowly  # type: ignore[method-assign]
    with trio.move_on_after(4 * each * len(entries)):
        await place.slow.run()
    counts = Counter(read)
    assert set(counts) == {entry.path for entry in entries}
    assert max(counts.values()) - min(counts.values()) <= 1
    assert place.slow.statistics().looks_total >= len(entries)


@pytest.mark.parametrize(
    ("reached", "now", "since"),
    [(100, 100, 100), (100, 101, 100), (100, 130, 100), (100, 190, 180), (100, 95, 100), (100, 80, 80)],
)
def test_turns_are_reckoned_without_a_gap(reached: int, now: int, since: int) -> None:
    """Seconds; a period of 40, looks every 10."""
    scrubber = Place(config=ReplicationConfig(look_seconds=10.0, scrub_days=40 / 86_400)).scrubber
    assert scrubber.next_us(reached * 1_000_000, now * 1_000_000) == since * 1_000_000


# ------------------------------------------------------------------------------------------------------------ bad bytes


@pytest.mark.parametrize("how", ["flip", "short", "long"])
async def test_a_bad_copy_is_set_aside_and_told_of(how: str, autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    bad, good = await place.with_files("a", "b")
    if how == "flip":
        place.disk.flip(f"{DATA}/{bad.path}", 700)
    elif how == "short":
        place.disk.truncate(f"{DATA}/{bad.path}", 700)
    else:
        place.store(bad.path, BODY + b"x")
    for entry in (bad, good):
        await place.scrubber.read(entry)
    assert [place.keeper.is_here(entry.path) for entry in (bad, good)] == [False, True]
    assert place.keeper.lost == (bad.path,)
    assert place.disk.walk(DAMAGED) == [f"{DAMAGED}/{bad.path}"]
    assert "file_damaged" in place.told() and place.slow.statistics().bad_total == 1


async def test_a_bad_copy_that_nobody_else_has_stays_and_is_told_of_every_time_until_it_is_replaced(
    autojump_clock: trio.testing.MockClock,
) -> None:
    place = Place(others=False)
    (bad,) = await place.with_files("a")
    place.disk.flip(f"{DATA}/{bad.path}", 700)
    await place.scrubber.read(bad)
    await place.scrubber.read(bad)
    assert place.keeper.is_here(bad.path) and place.disk.exists(f"{DATA}/{bad.path}")
    assert place.told().count("file_damaged") == 2
    assert place.keeper.statistics().damaged == (bad.path,)
    place.store(bad.path)
    await place.scrubber.read(bad)
    assert place.keeper.statistics().damaged == ()


async def test_a_file_that_cannot_be_read_is_bad(autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    (bad,) = await place.with_files("a")

    def read_at(path: str, offset: int, size: int) -> bytes:
        raise OSError("input/output error")

    place.disk.read_at = read_at  # type: ignore[method-assign]
    await place.scrubber.read(bad)
    assert not place.keeper.is_here(bad.path)


async def test_a_good_copy_that_comes_at_once_is_not_what_is_set_aside(autojump_clock: trio.testing.MockClock) -> None:
    """Three real nodes on one machine: it was fetched before the bad one was moved, and nobody had it then."""

    class Busy(InlineWorkers):
        async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
            await trio.sleep(0.001)
            return fn(*args)

    place = Place(workers=Busy())
    (bad,) = await place.with_files("a")
    place.disk.flip(f"{DATA}/{bad.path}", 700)

    async def bring() -> None:
        while place.keeper.is_here(bad.path):
            await place.keeper.wait_changed(place.keeper.changes)
        place.store(bad.path)
        place.keeper.came(bad.path)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring)
        await place.scrubber.read(bad)
    assert place.disk.read(f"{DATA}/{bad.path}") == BODY
    assert place.disk.read(f"{DAMAGED}/{bad.path}") != BODY


async def test_files_that_a_query_failed_on_are_read_out_of_turn(autojump_clock: trio.testing.MockClock) -> None:
    place = Place(config=ReplicationConfig(scrub_days=0))
    bad, good = await place.with_files("a", "b")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.slow.run)
        await trio.sleep(100)
        assert place.slow.statistics().read_files_total == 0
        place.disk.flip(f"{DATA}/{bad.path}", 700)
        place.scrubber.suspect([bad, good])
        await trio.lowlevel.checkpoint()
        place.scrubber.suspect([bad])
        await trio.sleep(1)
        assert [place.keeper.is_here(entry.path) for entry in (bad, good)] == [False, True]
        assert place.told().count("files_suspected") == 1 and place.slow.statistics().read_files_total == 2
        # What was good a moment ago is not what queries fail on; later it may be.
        place.scrubber.suspect([good])
        await trio.sleep(1)
        assert place.slow.statistics().read_files_total == 2
        await trio.sleep(VOUCHED_SECONDS)
        place.scrubber.suspect([good])
        await trio.sleep(1)
        assert place.slow.statistics().read_files_total == 3
        nursery.cancel_scope.cancel()


async def test_a_disk_that_stood_still_does_not_stop_the_reading_for_long(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """World seed 700057: after 7 s without an answer of the disk the next step would have come 12 minutes later."""
    place = Place()
    (entry,) = await place.with_files("a")

    class Stalled(InlineWorkers):
        async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
            await trio.sleep(7.0)
            return fn(*args)

    place.scrubber._workers = Stalled()
    began = trio.current_time()
    await place.scrubber.read(entry)
    assert trio.current_time() - began == pytest.approx(7.0 + REST_SECONDS_MAX)


async def test_one_that_left_meanwhile_is_not_bad(autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    (entry,) = await place.with_files("a")
    place.disk.flip(f"{DATA}/{entry.path}", 700)
    read_at = place.disk.read_at

    def leaving(path: str, offset: int, size: int) -> bytes:
        place.remove(entry)
        return read_at(path, offset, size)

    place.disk.read_at = leaving  # type: ignore[method-assign]
    await place.scrubber.read(entry)
    assert place.slow.statistics().bad_total == 0 and place.disk.exists(f"{DATA}/{entry.path}")


# --------------------------------------------------------------------------------------------------- manifest and disk


async def test_a_lost_file_and_a_leftover_are_found(autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    lost, there = await place.with_files("a", "b")
    place.disk.remove(f"{DATA}/{lost.path}")
    place.store("metrics/cpu/1970/01/01/00/left over.parquet")
    await place.slow.look()
    assert place.keeper.lost == (lost.path,) and place.keeper.is_here(there.path)
    assert place.disk.walk(DATA) == [f"{DATA}/{there.path}"] and len(place.disk.walk(QUARANTINE)) == 1
    assert {"file_lost", "orphans_quarantined"} <= set(place.told())


async def test_what_left_the_manifest_while_the_node_was_down_does_not_stay_until_a_lease_moves(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Its epoch is not over, so at first it may be a file that is about to come in."""
    place = Place()
    merged = file_path("metrics", "cpu", 0, node="n1", epoch=1, sequence=9)
    place.store(merged)
    await place.slow.look()
    await trio.sleep(999.0)
    await place.slow.look()
    assert place.disk.walk(DATA) == [f"{DATA}/{merged}"]
    other = file_path("metrics", "cpu", 0, node="n1", epoch=1, sequence=10)
    place.store(other)
    await trio.sleep(1.0)
    await place.slow.look()
    assert place.disk.walk(DATA) == [f"{DATA}/{other}"] and len(place.disk.walk(QUARANTINE)) == 1
    # One that came into the manifest meanwhile, or whose time begins anew, is not counted from before.
    place.disk.remove(f"{DATA}/{other}")
    await place.slow.look()
    place.store(other)
    await trio.sleep(1000.0)
    await place.slow.look()
    assert place.disk.walk(DATA) == [f"{DATA}/{other}"]


async def test_a_flush_in_progress_is_left_alone_and_so_is_what_a_query_reads(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A file is on the disk before it is in the manifest."""
    place = Place()
    (old,) = await place.with_files("a")
    flushed = file_path("metrics", "cpu", 0, node="n1", epoch=1, sequence=9)
    place.store(flushed)
    place.store(f"{flushed.rpartition('/')[0]}/.0000000001-00000000000010-n1.parquet.tmp")
    place.keeper.pin([old.path])
    place.remove(old)
    await place.slow.look()
    assert len(place.disk.walk(DATA)) == 3 and place.slow.statistics().leftovers_total == 0
    place.keeper.unpin([old.path])
    await place.slow.look()
    assert len(place.disk.walk(DATA)) == 2, "nobody had told that it left: a lost unlink"


async def test_one_that_is_registered_while_we_look_is_known(autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    await place.with_files("a")
    new = entry_of("new", sequence=5)
    place.store(new.path)
    list_dir = place.disk.list_dir

    def registering(path: str) -> list[str]:
        if place.machine.catalog.file(new.path) is None:
            place.register(new)
        return list_dir(path)

    place.disk.list_dir = registering  # type: ignore[method-assign]
    await place.slow.look()
    assert place.slow.statistics().leftovers_total == 0


async def test_one_that_comes_while_we_look_is_not_lost(autojump_clock: trio.testing.MockClock) -> None:
    """World seed 23, with looks every two seconds: absent when the disk was asked, here when the answer was read."""
    place = Place()
    await place.with_files("a")
    new = entry_of("new", sequence=5)
    place.register(new)
    check = place.keeper.check

    async def coming(entries: Sequence[FileEntry]) -> list[str]:
        absent = await check(entries)
        place.store(new.path)
        place.keeper.came(new.path)
        return absent

    place.keeper.check = coming  # type: ignore[method-assign]
    await place.slow.look()
    assert place.keeper.is_here(new.path) and not place.keeper.lost


async def test_a_file_that_the_operator_put_in_place_is_proven_and_taken(
    autojump_clock: trio.testing.MockClock,
) -> None:
    place = Place(others=False)
    entry, other = await place.with_files("a", "b")
    for each in (entry, other):
        place.disk.remove(f"{DATA}/{each.path}")
    await place.slow.look()
    assert not place.keeper.is_here(entry.path)
    place.store(entry.path)
    place.store(other.path, bytes(len(BODY)))
    await place.slow.look()
    assert place.keeper.is_here(entry.path) and not place.keeper.is_here(other.path)


async def test_what_leaves_the_manifest_is_unlinked_after_the_grace(autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    gone, there = await place.with_files("a", "b")
    async with trio.open_nursery() as nursery:
        with place.feed.subscribe() as changes:
            await nursery.start(place.sweeper.run, changes)
            await trio.sleep(100)
            place.remove(gone)
            await trio.sleep(59)
            assert place.disk.exists(f"{DATA}/{gone.path}") and not place.keeper.is_here(gone.path)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
    assert place.disk.walk("") == [f"{DATA}/{there.path}"]
    assert "files_unlinked" in place.told()


async def test_what_the_manifest_has_again_is_not_unlinked(autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    back, _ = await place.with_files("a", "b")
    async with trio.open_nursery() as nursery:
        with place.feed.subscribe() as changes:
            await nursery.start(place.sweeper.run, changes)
            place.remove(back)
            await trio.sleep(10)
            place.register(replace(back, first_sequence=3, last_sequence=3))
            await trio.sleep(200)
            nursery.cancel_scope.cancel()
    assert place.disk.exists(f"{DATA}/{back.path}")


async def test_an_unlink_that_failed_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    place = Place()
    (gone,) = await place.with_files("a")
    remove, tries = place.disk.remove, list[float]()

    def failing(path: str) -> None:
        tries.append(trio.current_time())
        if len(tries) == 1:
            raise OSError("busy")
        remove(path)

    place.disk.remove = failing  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        with place.feed.subscribe() as changes:
            await nursery.start(place.sweeper.run, changes)
            place.remove(gone)
            await trio.sleep(300)
            nursery.cancel_scope.cancel()
    assert place.disk.walk("") == [] and len(tries) == 2 and tries[1] - tries[0] >= 60
