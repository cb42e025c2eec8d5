"""Files find their replicas: proven bytes only, every holder asked, what fails is asked for again (DURABILITY 7)."""

from __future__ import annotations

import errno
import hashlib
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import cbor2
import pytest
import trio
import trio.testing

from arc.catalog.commands import FlushMark, RegisterFiles, ReplaceFiles
from arc.cluster.feed import Feed
from arc.errors import InvalidRequest, NotFound, OutcomeUnknown, Unavailable
from arc.replication.backlog import BATCH_FILES_MAX
from arc.replication.bandwidth import Bandwidth
from arc.replication.drafts import DRAFTS, open_hashed
from arc.replication.fetch import FileServer, Spoilt, fetch
from arc.replication.lines import PIECE_BYTES, PIECE_BYTES_MIN, WINDOW_PIECES, Line
from arc.replication.puller import PULLS_MAX, Puller, holders
from arc.replication.suspicion import SUSPECT_SECONDS
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA, FileKeeper
from arc.telemetry import Log, RingSink
from tests.catalog.facts import file, ready
from tests.fakes import InlineWorkers, ManualClock, MemoryDisk, SeededRng

BODY = bytes(range(256)) * 36000
"""Ten pieces."""


def entry_of(name: str, body: bytes = BODY, *, hour: int = 0, first: int = 1, last: int = 1) -> FileEntry:
    sized = file(name, hour=hour, first=first, last=last, sha256=hashlib.sha256(body).hexdigest())
    return replace(sized, size_bytes=len(body))


class Cluster:
    """Holders n1 and n3 with disks; n2 pulls from them."""

    def __init__(self, *, bandwidth: int = 0) -> None:
        self.machine = ready()
        self.feed = Feed(self.machine.catalog)
        self.disks = {name: MemoryDisk() for name in ("n1", "n2", "n3")}
        workers = InlineWorkers()
        self.servers = {
            name: FileServer(disk, workers, lambda: self.machine.catalog, is_here=lambda path: True)
            for name, disk in self.disks.items()
        }
        self.keeper = FileKeeper(self.disks["n2"], workers, ManualClock(), StorageConfig())
        self.asked: list[str] = []
        self.down: set[str] = set()
        self.rate, self.free_at, self.sent = math.inf, 0.0, 0
        self.answered: Callable[[str, bytes], bytes] = lambda holder, piece: piece
        self.puller = Puller(
            me="n2",
            ask=self.ask,
            others=lambda: [name for name in ("n1", "n2", "n3") if name not in self.down],
            catalog=lambda: self.machine.catalog,
            files=self.keeper,
            disk=self.disks["n2"],
            workers=workers,
            clock=TrioClock(),
            rng=SeededRng(),
            bandwidth=Bandwidth(bandwidth),
            log=Log([RingSink(50)], lambda: 0),
        )

    async def ask(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append(peer)
        if peer in self.down:
            raise Unavailable("down")
        if kind == "files":
            return await self.come(await self.servers[peer].answer_several(question), timeout_seconds)
        assert kind == "file"
        return await self.come(self.answered(peer, await self.servers[peer].answer(question)), timeout_seconds)

    async def come(self, answer: bytes, timeout_seconds: float) -> bytes:
        """Over the line, one after the other, also those that nobody waits for any more."""
        self.sent += len(answer)
        self.free_at = max(self.free_at, trio.current_time()) + len(answer) / self.rate
        with trio.move_on_after(timeout_seconds):
            await trio.sleep_until(self.free_at)
            return answer
        raise OutcomeUnknown("no answer in time")

    def store(self, name: str, entry: FileEntry, body: bytes = BODY) -> None:
        self.disks[name].make_dirs(f"{DATA}/{entry.path}".rpartition("/")[0])
        self.disks[name].write_durable(f"{DATA}/{entry.path}", body)

    def register(self, *entries: FileEntry) -> None:
        mark = max(entry.last_sequence for entry in entries)
        self.do(RegisterFiles(files=entries, flushed=(FlushMark("metrics", "cpu", mark),), epoch=1))

    def do(self, command: RegisterFiles | ReplaceFiles) -> None:
        applied = self.machine.apply(self.machine.catalog.index + 1, command)
        assert applied.result.ok, applied.result
        self.feed.publish(self.machine.catalog, applied.events)

    def body(self, entry: FileEntry) -> bytes:
        return self.disks["n2"].read(f"{DATA}/{entry.path}")

    @asynccontextmanager
    async def pulling(self) -> AsyncIterator[None]:
        with self.feed.subscribe() as changes:
            async with trio.open_nursery() as nursery:
                await nursery.start(self.puller.run, changes)
                yield
                nursery.cancel_scope.cancel()

    async def until_here(self, *entries: FileEntry, seconds: float = 60.0) -> None:
        with trio.fail_after(seconds):
            while not all(self.keeper.is_here(entry.path) for entry in entries):
                await trio.testing.wait_all_tasks_blocked()
                await trio.sleep(0.05)


class TrioClock(ManualClock):
    def now(self) -> float:
        return trio.current_time()


async def at_once(peer: str, size_bytes: int) -> None:
    """No limit."""


async def test_what_stands_in_the_manifest_and_what_comes_later_is_brought(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster, old, new = Cluster(), entry_of("a"), entry_of("b", first=2, last=2)
    cluster.store("n1", old)
    cluster.register(old)
    async with cluster.pulling():
        await cluster.until_here(old)
        cluster.store("n1", new)
        cluster.register(new)
        await cluster.until_here(old, new)
    assert cluster.body(old) == cluster.body(new) == BODY
    found = cluster.puller.statistics()
    assert (found.pulled_files_total, found.missing_files, found.failed_attempts_total) == (2, 0, 0)


async def test_the_writer_is_asked_first_and_every_other_holder_after_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n3", entry)
    cluster.register(entry)
    async with cluster.pulling():
        await cluster.until_here(entry)
    assert list(dict.fromkeys(cluster.asked)) == ["n1", "n3"]
    assert cluster.asked.count("n1") == 4, "as many pieces were in flight, and no more were asked of who has none"


async def test_bytes_that_are_not_the_file_are_never_installed(autojump_clock: trio.testing.MockClock) -> None:
    """P-13: a copy is believed by its hash, not by its name and size."""
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry, BODY[:-1] + b"?")
    cluster.store("n3", entry)
    cluster.register(entry)
    async with cluster.pulling():
        await cluster.until_here(entry)
    assert cluster.body(entry) == BODY
    assert cluster.puller.statistics().spoilt_total == 1


async def test_what_nobody_can_give_stays_wanted_until_somebody_can(autojump_clock: trio.testing.MockClock) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)
    cluster.down = {"n1"}
    async with cluster.pulling():
        await trio.sleep(60)
        assert cluster.puller.statistics().missing_files == 1
        assert 10 < cluster.puller.statistics().failed_attempts_total < 60, "with pauses that grow to some seconds"
        cluster.down = set()
        await cluster.until_here(entry)
    assert cluster.puller.statistics().missing_files == 0


async def test_a_file_that_left_the_manifest_is_wanted_no_more(autojump_clock: trio.testing.MockClock) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.register(entry)
    async with cluster.pulling():
        await trio.sleep(1)
        cluster.do(ReplaceFiles(remove=((entry.path, entry.sha256),), lease="writer", epoch=1))
        await trio.sleep(0.1)
        assert cluster.puller.statistics().missing_files == 0


async def test_a_full_disk_postpones_a_file(autojump_clock: trio.testing.MockClock) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)
    cluster.disks["n2"].fail_next_write(OSError(errno.ENOSPC, "full"))
    async with cluster.pulling():
        await cluster.until_here(entry)
    assert cluster.body(entry) == BODY
    assert cluster.puller.statistics().failed_attempts_total == 1


async def test_a_holder_that_gives_less_than_it_was_asked_for_is_not_believed() -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)
    cluster.answered = lambda holder, piece: piece[:-1]
    draft = await open_hashed(MemoryDisk(), InlineWorkers(), entry)
    with pytest.raises(Spoilt, match="where"):
        await fetch(cluster.ask, at_once, ManualClock(), "n1", draft, Line())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"path": "metrics/cpu/../../node.json"}, NotFound),
        ({"path": "node.json"}, NotFound),
        ({"path": 7}, InvalidRequest),
        ({"sha256": "0" * 64}, NotFound),
        ({"offset": -1}, InvalidRequest),
        ({"offset": len(BODY)}, InvalidRequest),
        ({"size": 0}, InvalidRequest),
        ({"size": PIECE_BYTES + 1}, InvalidRequest),
        ({"offset": len(BODY) - 1, "size": 2}, InvalidRequest),
    ],
)
async def test_only_pieces_of_files_in_the_manifest_are_given(
    change: dict[str, object], error: type[Exception]
) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)
    asked = {"path": entry.path, "sha256": entry.sha256, "offset": 0, "size": 10, **change}
    with pytest.raises(error):
        await cluster.servers["n1"].answer(cbor2.dumps(list(asked.values())))
    assert cluster.servers["n1"].refused_total == 1


@pytest.mark.parametrize("question", [b"", b"\xff", cbor2.dumps([1]), cbor2.dumps("text")])
async def test_nonsense_is_refused(question: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await Cluster().servers["n1"].answer(question)


def test_whom_to_ask() -> None:
    assert holders(entry_of("a"), "n2", ["n0", "n1", "n2", "n3"]) == ["n1", "n0", "n3"]
    assert holders(entry_of("a"), "n1", ["n0", "n1"]) == ["n0"]


# ---------------------------------------------------------------------------------- drafts, poison, losses, many files


async def test_a_transfer_that_broke_is_gone_on_with_from_another_holder(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.store("n3", entry)
    cluster.register(entry)
    given: list[str] = []

    def answered(holder: str, piece: bytes) -> bytes:
        given.append(holder)
        if holder == "n1" and given.count("n1") > 5:
            raise Unavailable("the session broke")
        return piece

    cluster.answered = answered
    async with cluster.pulling():
        await cluster.until_here(entry)
    assert cluster.body(entry) == BODY
    assert given.count("n3") <= 8, "what had come without a gap was not asked for again"
    assert cluster.puller.statistics().failed_attempts_total == 0


async def test_the_next_try_goes_on_where_the_last_one_stopped(autojump_clock: trio.testing.MockClock) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)
    offsets: list[int] = []

    async def ask(peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        if peer == "n3":
            raise Unavailable("down")
        offsets.append(cbor2.loads(question)[2])
        if 5 < len(offsets) < 9:
            raise Unavailable("the session broke")
        return await cluster.ask(peer, kind, question, timeout_seconds=timeout_seconds)

    cluster.puller._transfers._ask = ask
    async with cluster.pulling():
        await cluster.until_here(entry)
    assert cluster.puller.statistics().failed_attempts_total >= 1
    assert offsets.count(0) == 1, "the first piece was here"


async def test_who_gave_wrong_bytes_is_not_asked_again_while_others_are(autojump_clock: trio.testing.MockClock) -> None:
    cluster, entry = Cluster(), entry_of("a", b"small")
    cluster.store("n1", entry, b"wrong")
    cluster.register(entry)

    async def ask(peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        if peer == "n3":
            raise Unavailable("n3 is busy")
        return await cluster.ask(peer, kind, question, timeout_seconds=timeout_seconds)

    cluster.puller._transfers._ask = ask
    async with cluster.pulling():
        await trio.sleep(SUSPECT_SECONDS - 10)
        assert cluster.asked == ["n1"]
        assert cluster.puller.statistics().failed_attempts_total > 20, "n3 may have it, so it is no poison"
        await trio.sleep(20)
        assert cluster.asked == ["n1", "n1"]


async def test_a_restart_goes_on_with_what_is_in_drafts_and_removes_those_that_nobody_wants(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster, entry, gone = Cluster(), entry_of("a"), entry_of("b", BODY[::-1])
    cluster.store("n1", entry)
    cluster.register(entry)
    for wanted in (entry, gone):
        draft = await open_hashed(cluster.disks["n2"], InlineWorkers(), wanted)
        await draft.append([BODY[: 3 * PIECE_BYTES]], "n1")
        await draft.close()
    async with cluster.pulling():
        await cluster.until_here(entry)
    assert cluster.body(entry) == BODY
    assert cluster.puller.statistics().resumed_bytes_total == 3 * PIECE_BYTES
    assert cluster.disks["n2"].walk(DRAFTS) == []


async def test_a_draft_that_a_power_cut_spoilt_is_begun_again_and_blamed_on_nobody(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)
    draft = await open_hashed(cluster.disks["n2"], InlineWorkers(), entry)
    await draft.append([bytes(1000)], "n1")
    await draft.close()
    async with cluster.pulling():
        await cluster.until_here(entry)
    assert cluster.body(entry) == BODY
    assert cluster.puller.statistics().spoilt_total == 0


async def test_who_gave_wrong_bytes_is_left_alone_and_a_file_that_all_give_wrong_is_told_of(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster, entry, other = Cluster(), entry_of("a"), entry_of("b", BODY[::-1], first=2, last=2)
    for name in ("n1", "n3"):
        cluster.store(name, entry, BODY[:-1] + b"?")
        cluster.store(name, other, BODY[::-1])
    cluster.register(entry, other)
    async with cluster.pulling():
        await cluster.until_here(other)
        await trio.sleep(100)
        asked = len(cluster.asked)
        found = cluster.puller.statistics()
        assert found.poisoned == (entry.path,)
        assert (found.spoilt_total, found.failed_attempts_total) == (2, 1), "each gave it once"
        await trio.sleep(40)
        assert len(cluster.asked) == asked, "it is tried rarely"
        for name in ("n1", "n3"):
            cluster.store(name, entry)
        await trio.sleep(2 * SUSPECT_SECONDS)
        await cluster.until_here(entry)
    assert cluster.puller.statistics().poisoned == ()


async def test_whoever_comes_is_asked_for_a_poisoned_file_at_once(autojump_clock: trio.testing.MockClock) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.down = {"n3"}
    cluster.store("n1", entry, BODY[:-1] + b"?")
    cluster.store("n3", entry)
    cluster.register(entry)
    async with cluster.pulling():
        await trio.sleep(1)
        assert cluster.puller.statistics().poisoned == (entry.path,)
        cluster.down = set()
        with trio.fail_after(10):
            await cluster.until_here(entry)


async def test_what_got_lost_is_brought_again(autojump_clock: trio.testing.MockClock) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)
    async with cluster.pulling():
        await cluster.until_here(entry)
        cluster.disks["n2"].remove(f"{DATA}/{entry.path}")
        cluster.keeper.went(entry.path)
        assert not cluster.keeper.is_here(entry.path)
        await cluster.until_here(entry)
    assert cluster.body(entry) == BODY
    assert cluster.puller.statistics().pulled_files_total == 2


async def test_small_files_come_by_the_hundred_and_each_is_believed_for_itself(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster = Cluster()
    bodies = {f"{number:03}": b"%d" % number * 50 for number in range(300)}
    entries = [entry_of(name, body, first=n, last=n) for n, (name, body) in enumerate(bodies.items(), 1)]
    for entry, body in zip(entries, bodies.values(), strict=True):
        cluster.store("n1", entry, b"rotten" if entry is entries[7] else body)
        if entry is not entries[9]:
            cluster.store("n3", entry, body)
    cluster.disks["n1"].remove(f"{DATA}/{entries[8].path}")
    cluster.register(*entries)
    async with cluster.pulling():
        await cluster.until_here(*entries)
    assert all(cluster.body(entry) == body for entry, body in zip(entries, bodies.values(), strict=True))
    found = cluster.puller.statistics()
    assert (found.spoilt_total, found.failed_attempts_total) == (1, 0), "n3 gave what n1 could not"
    assert len(cluster.asked) == 3, "two questions of n1, one of n3"


async def test_a_session_is_asked_for_no_more_than_it_may_carry(autojump_clock: trio.testing.MockClock) -> None:
    cluster, entry = Cluster(bandwidth=len(BODY) // 20), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)
    began = trio.current_time()
    async with cluster.pulling():
        await cluster.until_here(entry)
    assert 15 < trio.current_time() - began < 25


async def test_what_leaves_the_manifest_while_it_comes_is_not_installed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster, entry = Cluster(), entry_of("a")
    cluster.store("n1", entry)
    cluster.register(entry)

    def answered(holder: str, piece: bytes) -> bytes:
        if cluster.machine.catalog.file(entry.path) is not None and len(cluster.asked) > 8:
            cluster.do(ReplaceFiles(remove=((entry.path, entry.sha256),), lease="writer", epoch=1))
        return piece

    cluster.answered = answered
    async with cluster.pulling():
        await trio.sleep(30)
        assert cluster.puller.statistics().missing_files == 0
    assert cluster.disks["n2"].walk("") == []


@pytest.mark.parametrize(("large_files", "small_files"), [(4, 0), (3, 40), (0, 150)])
async def test_files_come_over_a_slow_line_as_fast_as_it_carries(
    autojump_clock: trio.testing.MockClock, large_files: int, small_files: int
) -> None:
    """Over 1 Mbit/s more was asked for than came in time: what came was too late, and nothing came any more."""
    cluster = Cluster()
    cluster.rate = 125_000.0
    large = [
        entry_of(f"large{each}", BODY[: 2_300_000 + each], first=each + 1, last=each + 1) for each in range(large_files)
    ]
    small = [
        entry_of(f"small{each}", BODY[: 100_000 + each], first=each + 9, last=each + 9) for each in range(small_files)
    ]
    for entry in (*large, *small):
        cluster.store("n1", entry, BODY[: entry.size_bytes])
    cluster.register(*large, *small)
    size = sum(entry.size_bytes for entry in (*large, *small))
    async with cluster.pulling():
        await cluster.until_here(*large, *small, seconds=3 * size / cluster.rate)
    unlearnt = PULLS_MAX * WINDOW_PIECES[0] * PIECE_BYTES
    assert size < cluster.sent < size + 1.2 * unlearnt, "what was asked for before anything was learnt, and little more"


@pytest.mark.parametrize(
    ("took", "window", "size", "then"),
    [
        (0.1, 4, PIECE_BYTES, (5, PIECE_BYTES)),
        (0.1, 8, PIECE_BYTES, (8, PIECE_BYTES)),
        (0.1, 1, 80_000, (1, 160_000)),
        (0.1, 1, PIECE_BYTES - 1, (1, PIECE_BYTES)),
        (0.5, 7, 80_000, (7, 80_000)),
        (2.0, 7, PIECE_BYTES, (3, PIECE_BYTES)),
        (2.0, 1, PIECE_BYTES, (1, PIECE_BYTES // 2)),
        (2.0, 1, 80_000, (1, PIECE_BYTES_MIN)),
        (2.0, 1, PIECE_BYTES_MIN, (1, PIECE_BYTES_MIN)),
    ],
)
def test_as_much_is_in_flight_as_pieces_come_quickly(
    took: float, window: int, size: int, then: tuple[int, int]
) -> None:
    line = Line()
    line.window, line.piece_bytes = window, size
    line.took(took)
    assert (line.window, line.piece_bytes) == then


@pytest.mark.parametrize(
    "question",
    [
        b"",
        cbor2.dumps("text"),
        cbor2.dumps([["path"]]),
        cbor2.dumps([[7, "5" * 64]]),
        cbor2.dumps([["a", "b"]] * (BATCH_FILES_MAX + 1)),
    ],
)
async def test_nonsense_about_several_files_is_refused(question: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await Cluster().servers["n1"].answer_several(question)


async def test_several_files_are_given_as_far_as_they_are_known_and_here_and_not_too_much_at_once() -> None:
    cluster, entry, absent = Cluster(), entry_of("a", b"abc"), entry_of("b", b"d", first=2, last=2)
    heavy = [entry_of(f"h{n}", first=n, last=n) for n in range(3, 5)]
    cluster.store("n1", entry, b"abc")
    cluster.register(entry, absent, *heavy)
    asked = [[each.path, each.sha256] for each in (entry, absent)]
    asked += [["node.json", entry.sha256], [entry.path, "0" * 64]]
    answer = await cluster.servers["n1"].answer_several(cbor2.dumps(asked))
    assert cbor2.loads(answer) == [b"abc", None, None, None]
    with pytest.raises(InvalidRequest):
        await cluster.servers["n1"].answer_several(cbor2.dumps([[each.path, each.sha256] for each in heavy]))
