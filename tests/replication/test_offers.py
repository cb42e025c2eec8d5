"""What replaces files is where they were before they go (DURABILITY 8): offered, taken, or let go of again."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import cbor2
import pytest
import trio
import trio.testing

from arc.catalog.commands import AssignLease, DescribeNode, ReplaceFiles, SetNodeState
from arc.catalog.values import COMPACTOR
from arc.errors import InvalidRequest, NotFound, Unavailable
from arc.ids import NodeId
from arc.replication import awaiting, offers, taking
from arc.replication.bandwidth import Bandwidth
from arc.replication.drafts import OFFERED_DRAFTS
from arc.replication.fetch import FileServer
from arc.replication.offers import OFFER_FILES_MAX, Offers, Spreading, needed, pack, unpack
from arc.replication.taking import Taker
from arc.storage.config import StorageConfig
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA, FileKeeper
from arc.telemetry import Log, RingSink
from tests.catalog.facts import file, ready
from tests.fakes import InlineWorkers, MemoryDisk
from tests.replication.cluster import TrioClock

NAMES = ("n1", "n2", "n3")
BODY = bytes(range(256)) * 9000
SMALL = b"small"


class Cluster:
    """Three nodes; n1 has the compactor lease and offers, the others take."""

    def __init__(self, *, has_store: bool = False) -> None:
        self.machine = ready()
        for name in NAMES:
            self.do(DescribeNode(name=NodeId(name), incarnation=1, address=f"{name}:1"))
            self.do(SetNodeState(name=NodeId(name), incarnation=1, state="healthy"))
        self.epoch = self.grant("n1")
        self.log, self.clock, workers = Log([RingSink(50)], lambda: 0), TrioClock(), InlineWorkers()
        self.disks = {name: MemoryDisk() for name in NAMES}
        self.keepers = {
            name: FileKeeper(disk, workers, self.clock, StorageConfig()) for name, disk in self.disks.items()
        }
        self.down: set[str] = set()
        self.offers = Offers()
        self.server = FileServer(
            self.disks["n1"],
            workers,
            lambda: self.machine.catalog,
            is_here=self.keepers["n1"].is_here,
            offered=self.offers.get,
        )
        self.takers = {
            name: Taker(
                ask=self.ask,
                catalog=lambda: self.machine.catalog,
                files=self.keepers[name],
                disk=self.disks[name],
                workers=workers,
                clock=self.clock,
                bandwidth=Bandwidth(0),
                log=self.log,
            )
            for name in ("n2", "n3")
        }
        self.spreading = Spreading(
            me=NodeId("n1"),
            offers=self.offers,
            catalog=lambda: self.machine.catalog,
            reachable=lambda: [name for name in ("n2", "n3") if name not in self.down],
            ask=self.ask,
            factor=2,
            has_store=has_store,
            clock=self.clock,
            log=self.log,
        )

    def do(self, command: AssignLease | DescribeNode | ReplaceFiles | SetNodeState) -> int:
        index = self.machine.catalog.index + 1
        assert self.machine.apply(index, command).result.ok, command
        return index

    def grant(self, name: str) -> int:
        epoch = self.machine.catalog.lease_epoch(COMPACTOR)
        return self.do(AssignLease(lease=COMPACTOR, node=NodeId(name), expect_epoch=epoch))

    async def ask(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        await trio.lowlevel.checkpoint()
        if peer in self.down:
            raise Unavailable(f"{peer} cannot be reached now")
        if kind == offers.KIND:
            return await self.takers[peer].answer("n1", question)
        assert peer == "n1"
        answer = self.server.answer if kind == "file" else self.server.answer_several
        return await answer(question)

    def make(self, name: str, body: bytes = BODY) -> FileEntry:
        """A file that n1 has written and the manifest does not know."""
        entry = replace(
            file(name, sha256=hashlib.sha256(body).hexdigest()), size_bytes=len(body), origin="n1", epoch=self.epoch
        )
        self.disks["n1"].make_dirs(f"{DATA}/{entry.path}".rpartition("/")[0])
        self.disks["n1"].write_durable(f"{DATA}/{entry.path}", body)
        self.keepers["n1"].came(entry.path)
        return entry

    def register(self, entry: FileEntry) -> None:
        self.do(
            ReplaceFiles(
                remove=(), add=(replace(entry, first_sequence=0, last_sequence=0),), lease=COMPACTOR, epoch=self.epoch
            )
        )

    def has(self, name: str, entry: FileEntry, body: bytes) -> bool:
        path = f"{DATA}/{entry.path}"
        return self.keepers[name].is_here(entry.path) and self.disks[name].read(path) == body

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            for taker in self.takers.values():
                await nursery.start(taker.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("bodies", [(SMALL,), (BODY,), (SMALL, BODY, b"other")], ids=["small", "large", "several"])
async def test_every_node_that_answers_queries_has_what_is_offered_before_the_manifest_does(
    bodies: Sequence[bytes], autojump_clock: trio.testing.MockClock
) -> None:
    cluster = Cluster()
    entries = [cluster.make(f"f{n}", body) for n, body in enumerate(bodies)]
    async with cluster.taking():
        assert await cluster.spreading.spread(entries) == NAMES
    for entry, body in zip(entries, bodies, strict=True):
        assert cluster.has("n2", entry, body) and cluster.has("n3", entry, body)
        assert cluster.keepers["n2"].is_in_use(entry.path), "a look at the disk would take it for a leftover"
    assert cluster.offers.get(entries[0].path) is None, "nobody may ask for it any more"


async def test_a_node_that_cannot_be_reached_is_not_waited_for_while_enough_others_have_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster = Cluster()
    entry = cluster.make("f")
    cluster.down = {"n3"}
    async with cluster.taking():
        assert await cluster.spreading.spread([entry]) == ("n1", "n2")
        cluster.down = {"n2", "n3"}
        began = trio.current_time()
        with pytest.raises(Unavailable, match="1 of the nodes that should have the files do, 2 must"):
            await cluster.spreading.spread([cluster.make("g")])
    assert trio.current_time() - began < 1


async def test_a_node_that_is_reached_and_does_not_take_is_left_behind_after_a_while(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster = Cluster()
    entry = cluster.make("f")
    cluster.disks["n3"].free = 10
    async with cluster.taking():
        began = trio.current_time()
        assert await cluster.spreading.spread([entry]) == ("n1", "n2")
    assert trio.current_time() - began == pytest.approx(awaiting.PATIENCE_SECONDS, abs=5)
    assert not cluster.disks["n3"].walk(OFFERED_DRAFTS)


async def test_with_a_store_that_all_share_no_node_has_to_take(autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster(has_store=True)
    cluster.down = {"n2", "n3"}
    assert await cluster.spreading.spread([cluster.make("f")]) == ("n1",)


async def test_only_the_holder_of_a_lease_is_believed(autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster()
    entry = cluster.make("f")
    cluster.grant("n2")
    async with cluster.taking():
        with pytest.raises(Unavailable, match="holds no lease"):
            await cluster.takers["n3"].answer("n1", pack([entry]))
    assert not cluster.keepers["n3"].is_here(entry.path)


@pytest.mark.parametrize("path", ["../../etc/passwd", "metrics/cpu/../../../x.parquet", "x.parquet"])
async def test_no_offer_leads_out_of_the_data(path: str) -> None:
    cluster = Cluster()
    with pytest.raises(InvalidRequest, match="no path of a data file"):
        await cluster.takers["n2"].answer("n1", pack([replace(cluster.make("f"), path=path)]))


@pytest.mark.parametrize("question", [b"", b"\xff", cbor2.dumps(1), cbor2.dumps([[1, 2]]), cbor2.dumps([[]] * 65)])
def test_what_is_no_offer_is_refused(question: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not an offer"):
        unpack(question)


def test_an_offer_of_as_many_files_as_one_question_names_comes_back_whole() -> None:
    entries = [file(f"f{n}") for n in range(OFFER_FILES_MAX)]
    assert unpack(pack(entries)) == entries


@pytest.mark.parametrize(
    ("targets", "factor", "has_store", "expected"),
    [("abc", 2, False, 2), ("a", 2, False, 1), ("abc", 5, False, 3), ("abc", 2, True, 0), ("", 2, False, 0)],
)
def test_as_many_must_have_it_as_any_file(targets: str, factor: int, has_store: bool, expected: int) -> None:
    assert needed(targets, factor, has_store=has_store) == expected


async def test_what_the_manifest_has_is_a_file_like_any_other_from_then_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    cluster = Cluster()
    entry = cluster.make("f")
    async with cluster.taking():
        await cluster.spreading.spread([entry])
        cluster.register(entry)
        await trio.sleep(2 * taking.LOOK_SECONDS)
        assert not cluster.keepers["n2"].is_in_use(entry.path)
        assert cluster.has("n2", entry, BODY)
        await trio.sleep(2 * taking.KEPT_SECONDS)
        assert cluster.has("n2", entry, BODY)


@pytest.mark.parametrize("why", ["nobody asked for long", "the epoch is over"])
async def test_what_never_comes_into_the_manifest_is_let_go(why: str, autojump_clock: trio.testing.MockClock) -> None:
    cluster = Cluster()
    entry = cluster.make("f")
    async with cluster.taking():
        await cluster.spreading.spread([entry])
        if why == "the epoch is over":
            cluster.grant("n2")
            await trio.sleep(2 * taking.LOOK_SECONDS)
        else:
            await trio.sleep(taking.KEPT_SECONDS / 2)
            await cluster.spreading.spread([entry])
            await trio.sleep(taking.KEPT_SECONDS / 2 + 3 * taking.LOOK_SECONDS)
            assert cluster.keepers["n2"].is_here(entry.path), "it was asked for again meanwhile"
            await trio.sleep(taking.KEPT_SECONDS)
        keeper = cluster.keepers["n2"]
        assert not keeper.is_here(entry.path)
        assert keeper.is_anything_leaving, "the sweeper removes it"
        assert cluster.takers["n2"].statistics().dropped_files_total == 1


async def test_a_file_that_is_offered_no_more_is_given_to_nobody() -> None:
    cluster = Cluster()
    entry = cluster.make("f")
    question = cbor2.dumps([entry.path, entry.sha256, 0, 10])
    with pytest.raises(NotFound):
        await cluster.server.answer(question)
    with cluster.offers.open([entry]):
        assert await cluster.server.answer(question) == BODY[:10]
    with pytest.raises(NotFound):
        await cluster.server.answer(question)
