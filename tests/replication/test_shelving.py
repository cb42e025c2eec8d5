"""The shared store follows the manifest: only what was seen counts, nothing of the manifest is ever removed, and one
node alone changes anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
import trio.testing

from arc.catalog.commands import WRITER, Command, DescribeNode, FlushMark, RegisterFiles, ReplaceFiles
from arc.cluster.feed import Feed
from arc.errors import Unavailable
from arc.ids import NodeId
from arc.replication import shelving
from arc.replication.bandwidth import Bandwidth
from arc.replication.copies import FRESH_US, NOTHING, Kept, Tally
from arc.replication.puller import Puller
from arc.replication.shared import STORE_PIECE_BYTES, StoreOrNodes
from arc.replication.shelving import REMOVE_FILES_MAX, Shelving, due, orphans
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA, FileKeeper
from arc.storage.objects import StoredObject, file_of, key_of
from arc.storage.shelf import Shelf
from arc.telemetry import Log, RingSink
from tests.catalog.facts import file, ready
from tests.fakes import InlineWorkers, ManualClock, MemoryDisk, SeededRng
from tests.storage.memory_objects import MemoryObjects

CLUSTER = "c1"
GRACE = StorageConfig(delete_grace_seconds=60, orphan_grace_seconds=1000)
BODY = bytes(range(256)) * 10_000
"""Several pieces between nodes, and more than one from a store."""


class TrioClock(ManualClock):
    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return round(trio.current_time() * 1e6)


def entry_of(name: str, body: bytes = BODY, *, first: int = 1, epoch: int = 1) -> FileEntry:
    made = file(f"{epoch:010d}-{first:014d}-{name}", first=first, last=first, sha256=hashlib.sha256(body).hexdigest())
    return replace(made, size_bytes=len(body), epoch=epoch)


class World:
    """One node with a shared store; ``n1`` has the writer lease in epoch 1."""

    def __init__(self, me: str = "n1") -> None:
        self.machine = ready()
        self.feed = Feed(self.machine.catalog)
        self.objects = MemoryObjects()
        self.shelf = Shelf(self.objects, lambda: CLUSTER)
        self.disk, self.clock, self.workers = MemoryDisk(), TrioClock(), InlineWorkers()
        self.keeper = FileKeeper(self.disk, self.workers, self.clock, GRACE)
        self.ring = RingSink(50)
        self.log = Log([self.ring], lambda: 0)
        self.confirmed = 0
        self.heard: Callable[[], None] = lambda: None
        """What becomes known when it is asked for."""
        self.shelving = Shelving(
            shelf=self.shelf,
            config=GRACE,
            walk_seconds=3600.0,
            catalog=lambda: self.machine.catalog,
            is_here=self.keeper.is_here,
            holds=lambda: self.machine.catalog.leases[WRITER].holder == me,
            confirm=self.confirm,
            disk=self.disk,
            workers=self.workers,
            clock=self.clock,
            log=self.log,
        )
        self.nodes: list[str] = []
        """Who was asked instead of the store."""

    async def confirm(self) -> None:
        await trio.lowlevel.checkpoint()
        self.confirmed += 1
        self.heard()

    def do(self, command: Command) -> None:
        applied = self.machine.apply(self.machine.catalog.index + 1, command)
        assert applied.result.ok, applied.result
        self.feed.publish(self.machine.catalog, applied.events)

    def register(self, *entries: FileEntry, epoch: int = 1) -> None:
        mark = max(entry.last_sequence for entry in entries)
        self.do(RegisterFiles(files=entries, flushed=(FlushMark("metrics", "cpu", mark),), epoch=epoch))

    def drop(self, entry: FileEntry) -> None:
        self.do(ReplaceFiles(remove=((entry.path, entry.sha256),), add=(), lease=WRITER, epoch=1))

    def put(self, entry: FileEntry, body: bytes = BODY) -> None:
        """In the store, whoever did it."""
        self.objects.wall_us = self.clock.wall_us()
        self.objects.put(key_of(CLUSTER, entry.path, entry.sha256), body, entry.sha256)

    def store(self, entry: FileEntry, body: bytes = BODY) -> None:
        """On the disk here."""
        self.disk.make_dirs(f"{DATA}/{entry.path}".rpartition("/")[0])
        self.disk.write_durable(f"{DATA}/{entry.path}", body)
        self.keeper.came(entry.path)

    def is_put(self, entry: FileEntry) -> bool:
        return key_of(CLUSTER, entry.path, entry.sha256) in self.objects.bodies

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        with self.feed.subscribe() as changes:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.shelving.run, changes)
                yield
                nursery.cancel_scope.cancel()

    async def ask(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        await trio.lowlevel.checkpoint()
        self.nodes.append(peer)
        raise Unavailable("no node is there")

    @asynccontextmanager
    async def pulling(self) -> AsyncIterator[Puller]:
        puller = Puller(
            me="n2",
            ask=StoreOrNodes(self.shelf, self.ask, lambda: self.machine.catalog, self.workers),
            others=lambda: ["n1"],
            catalog=lambda: self.machine.catalog,
            files=self.keeper,
            disk=self.disk,
            workers=self.workers,
            clock=self.clock,
            rng=SeededRng(),
            bandwidth=Bandwidth(0),
            log=self.log,
            store=self.shelf.name,
        )
        with self.feed.subscribe() as changes:
            async with trio.open_nursery() as nursery:
                await nursery.start(puller.run, changes)
                yield puller
                nursery.cancel_scope.cancel()


# ---- what counts as safe


async def test_a_file_counts_when_it_was_seen_in_the_store_and_not_before(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, old, new = World("n2"), entry_of("a"), entry_of("b", first=2)
    world.put(old)
    world.register(old)
    async with world.running():
        await trio.sleep(1.5)
        assert world.shelf.has(old.path)
        world.register(new)
        await trio.sleep(5)
        assert not world.shelf.has(new.path)
        assert [entry.path for entry in world.shelving.unproven()] == [new.path]
        world.put(new)
        await trio.sleep(60)
        assert world.shelf.has(new.path)
    assert not world.shelving.unproven()


async def test_an_object_of_another_size_is_not_the_file(autojump_clock: trio.testing.MockClock) -> None:
    world, entry = World("n2"), entry_of("a")
    world.put(entry, BODY[:-1])
    world.register(entry)
    async with world.running():
        await trio.sleep(100)
    assert not world.shelf.has(entry.path)


def test_a_follower_needs_no_log_for_what_is_in_the_store_and_status_counts_it_as_copied() -> None:
    world, entry = World(), entry_of("a")
    for name in ("n1", "n2", "n3"):
        world.do(DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:1", role="writer"))
    world.register(entry)
    kept = Kept(
        me="n2",
        catalog=lambda: world.machine.catalog,
        is_here=world.keeper.is_here,
        factor=2,
        shelf=world.shelf,
    )
    unproven = {entry.path: entry}
    tally = Tally(lambda: world.machine.catalog, 2, lambda: unproven.values())
    late = entry.created_us + FRESH_US
    assert (kept.first(1), tally.under_replicated({"n1", "n2", "n3"}, late)) == (1, 1)
    assert tally.under_replicated({"n1", "n2", "n3"}, late - 1) == 0, "it has a minute"
    world.shelf.note(entry.path)
    unproven.clear()
    assert (kept.first(1), kept.nowhere()) == (NOTHING, [])
    assert tally.under_replicated(set(), late) == 0


# ---- files come from there


@pytest.mark.parametrize("body", [BODY, BODY[:500]], ids=["large", "small"])
async def test_files_are_fetched_from_the_store_and_no_node_is_asked(
    body: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    world, entry = World("n2"), entry_of("a", body)
    world.put(entry, body)
    world.register(entry)
    async with world.pulling():
        await trio.sleep(1)
    assert world.keeper.is_here(entry.path) and world.disk.read(f"{DATA}/{entry.path}") == body
    assert not world.nodes
    assert max(size for _, _, size in world.objects.reads) <= STORE_PIECE_BYTES


async def test_wrong_bytes_of_the_store_are_not_installed_and_nodes_are_asked_then(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, entry = World("n2"), entry_of("a")
    world.put(entry, b"x" + BODY[1:])
    world.register(entry)
    async with world.pulling() as puller:
        await trio.sleep(1)
        assert puller.statistics().spoilt_total == 1
    assert not world.keeper.is_here(entry.path)
    assert world.nodes


async def test_a_store_that_is_away_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    world, entry, small = World("n2"), entry_of("a"), entry_of("b", b"small", first=2)
    world.put(entry)
    world.put(small, b"small")
    world.register(entry, small)
    world.objects.is_down = True
    async with world.pulling():
        await trio.sleep(3)
        assert world.nodes and not world.keeper.is_here(entry.path)
        world.objects.is_down = False
        await trio.sleep(10)
    assert world.keeper.is_here(entry.path) and world.keeper.is_here(small.path)


# ---- what is put there


async def test_the_writer_puts_what_it_has_and_the_store_has_not(autojump_clock: trio.testing.MockClock) -> None:
    """Files from before there was a store, or written again from the log. The first answer is lost."""
    world, here, away = World(), entry_of("a"), entry_of("b", first=2)
    world.store(here)
    world.register(here, away)
    world.objects.lose_answers = 1
    async with world.running():
        await trio.sleep(100)
    assert world.is_put(here) and world.shelf.has(here.path)
    assert not world.is_put(away) and [entry.path for entry in world.shelving.unproven()] == [away.path]


async def test_others_put_nothing(autojump_clock: trio.testing.MockClock) -> None:
    world, entry = World("n2"), entry_of("a")
    world.store(entry)
    world.register(entry)
    async with world.running():
        await trio.sleep(100)
    assert not world.is_put(entry)


async def test_a_bad_copy_is_never_put(autojump_clock: trio.testing.MockClock) -> None:
    world, entry, good = World(), entry_of("a"), entry_of("b", first=2)
    world.store(entry, b"rotten")
    world.store(good)
    world.register(entry, good)
    async with world.running():
        await trio.sleep(100)
    assert not world.is_put(entry) and not world.shelf.has(entry.path)
    assert world.is_put(good), "and it stands in nobody's way"


async def test_a_file_that_somebody_took_away_there_is_noticed_and_put_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, entry = World(), entry_of("a")
    world.store(entry)
    world.put(entry)
    world.register(entry)
    async with world.running():
        await trio.sleep(2)
        world.objects.bodies.clear()
        await trio.sleep(3700)
    assert world.is_put(entry)
    assert world.shelving.statistics().lost_total == 1
    assert "shared_file_lost" in [event.message for event in world.ring.select(limit=50)]


# ---- what is removed


async def test_what_left_the_manifest_is_removed_after_its_grace_by_the_writer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, stays, goes = World(), entry_of("a"), entry_of("b", first=2)
    for entry in (stays, goes):
        world.put(entry)
    world.register(stays, goes)
    async with world.running():
        await trio.sleep(5)
        world.drop(goes)
        await trio.sleep(50)
        assert world.is_put(goes)
        await trio.sleep(15)
        assert not world.is_put(goes)
    assert world.is_put(stays)


async def test_others_remove_nothing_and_forget_it(autojump_clock: trio.testing.MockClock) -> None:
    world, entry, old = World("n2"), entry_of("a"), entry_of("old", epoch=0)
    world.put(entry)
    world.put(old)
    world.register(entry)
    async with world.running():
        world.drop(entry)
        await trio.sleep(8000)
    assert world.is_put(entry) and world.is_put(old)
    assert world.shelving.statistics().leaving_files == 0


async def test_what_never_came_into_the_manifest_is_removed_when_its_reign_is_over_and_it_is_old(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, known = World(), entry_of("a")
    orphan, waits, future = entry_of("b", epoch=0), entry_of("c", epoch=1), entry_of("d", epoch=99)
    for entry in (known, orphan, waits, future):
        world.put(entry)
    world.objects.put(f"{CLUSTER}/readme.txt", b"somebody's", "")
    world.objects.put(key_of("another", orphan.path, orphan.sha256), BODY, "")
    world.register(known)
    async with world.running():
        await trio.sleep(900)
        assert world.is_put(orphan), "not before its grace is over"
        await trio.sleep(3600)
        assert not world.is_put(orphan)
    assert world.confirmed == 1
    assert all(world.is_put(entry) for entry in (known, waits, future))
    assert len(world.objects.bodies) == 5


async def test_whoever_wakes_from_a_long_sleep_removes_nothing_that_others_registered_meanwhile(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It believes that nobody knows the file; asked for what was agreed on, it hears otherwise."""
    world, entry = World(), entry_of("a", epoch=0)
    world.put(entry)
    world.heard = lambda: world.register(entry)
    async with world.running():
        await trio.sleep(8000)
    assert world.confirmed > 0 and world.is_put(entry)


async def test_nothing_is_removed_while_nobody_can_say_what_was_agreed_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    world, orphan = World(), entry_of("b", epoch=0)
    world.put(orphan)

    def heard() -> None:
        raise Unavailable("no leader")

    world.heard = heard
    async with world.running():
        await trio.sleep(8000)
    assert world.is_put(orphan)
    assert world.shelving.statistics().last_error == "no leader"


async def test_a_listing_of_many_pages_is_walked_to_its_end(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelving, "PAGE_OBJECTS", 3)
    world = World("n2")
    entries = [entry_of(f"f{number}", b"%d" % number, first=number) for number in range(1, 11)]
    for number, entry in enumerate(entries, 1):
        world.put(entry, b"%d" % number)
    world.register(*entries)
    await world.shelving.walk()
    assert all(world.shelf.has(entry.path) for entry in entries)


def test_due_gives_the_oldest_first_and_never_too_many() -> None:
    leaving = {(f"{number}", "5"): float(number) for number in range(REMOVE_FILES_MAX + 100)}
    assert due(leaving, 62.5, 60.0) == [("0", "5"), ("1", "5"), ("2", "5")]
    assert len(due(leaving, 1e9, 60.0)) == REMOVE_FILES_MAX


def test_what_is_about_to_go_anyway_is_no_orphan() -> None:
    entry = entry_of("a", epoch=0)
    key = key_of(CLUSTER, entry.path, entry.sha256)
    page = [(StoredObject(key=key, size_bytes=1, modified_us=0), file_of(CLUSTER, key))]

    def found(leaving: set[tuple[str, str]]) -> list[str]:
        return orphans(
            page,
            lambda path, half: False,
            reigns=[1],
            leaving=leaving,
            now_us=2_000_000_000,
            grace_seconds=1000,
        )

    assert found({(entry.path, entry.sha256)}) == []
    assert found(set()) == [key]
