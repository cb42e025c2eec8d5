"""A receiver listens to one holder, in one epoch and one session, and to nobody else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pyarrow as pa
import trio
from trio.testing import MockClock

from arc.catalog.fsm import ClusterFSM
from arc.ids import Epoch, Position
from arc.replication.copies import Kept
from arc.replication.crossing import Replication
from arc.replication.log import MemoryOnly, ReplicaLog
from arc.replication.messages import PIECE_BYTES, Ack, Hello, Message, Records, Resume, decode, encode, pieces
from arc.replication.receiver import Receiver
from arc.storage.wal import record
from arc.storage.wal.history import History
from arc.storage.wal.keys import StoredKey
from arc.telemetry import Log
from tests.fakes import InlineWorkers, SeededRng

EPOCH = 5


class Rows:
    """What of the stream became rows."""

    visible = 0

    def __init__(self) -> None:
        self.sequences: list[int] = []

    def add(self, records: Sequence[record.Logged]) -> None:
        self.sequences += [each.header.position.sequence for each in records]

    def show(self, through: int) -> None:
        self.visible = max(self.visible, through)

    def cut(self, first: int) -> None:
        raise AssertionError("nothing is to be cut")

    def restart(self, first: int, keys: Sequence[StoredKey]) -> None:
        raise AssertionError("nothing is to be given up")


class SlowDisk(MemoryOnly):
    """Takes its time for every group."""

    seconds = 0.0

    async def append(self, records: Sequence[bytes]) -> None:
        await trio.sleep(self.seconds)
        await super().append(records)


class Followed:
    """A receiver, and what it says to whom."""

    def __init__(self, log: Log) -> None:
        self.disk = SlowDisk()
        self.rows = Rows()
        self.said: list[tuple[str, Message]] = []
        self.replica = ReplicaLog(self.disk, History(), tail_bytes_max=1)
        machine = ClusterFSM()
        self.receiver = Receiver(
            holder="n1",
            epoch=EPOCH,
            log=self.replica,
            rows=self.rows,
            kept=Kept(me="n2", catalog=lambda: machine.catalog, is_here=lambda path: True, factor=2),
            post=self.post,
            wait_index=self.wait_index,
            workers=InlineWorkers(),
            rng=SeededRng(1),
            is_memory=False,
            tell=log,
        )

    def post(self, name: str, payload: bytes, *, is_bulk: bool) -> bool:
        self.said.append((name, decode(payload)))
        return True

    async def wait_index(self, index: int) -> None:
        await trio.lowlevel.checkpoint()


def records(session: int, first: int, count: int) -> Records:
    """Records as the holder sends them."""
    columns = record.encode_columns(pa.record_batch({"id": [1]}))
    made = []
    for sequence in range(first, first + count):
        header = record.RecordHeader(
            position=Position(Epoch(EPOCH), sequence),
            database="db",
            measurement="cpu",
            rows=1,
            parts_left=0,
            moment_us=0,
            key="",
        )
        made.append(record.encode(header, columns))
    return Records(epoch=EPOCH, session=session, first=first, high=0, catalog_index=0, records=tuple(made))


@asynccontextmanager
async def following(log: Log) -> AsyncIterator[tuple[Followed, Replication, Hello]]:
    """A receiver that has said hello, where what peers send crosses over to it, and the hello."""
    followed, crossing = Followed(log), Replication()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.receiver.run)
        with crossing.at(followed.receiver):
            await trio.sleep(0.01)
            (to, hello) = followed.said[0]
            assert to == "n1" and isinstance(hello, Hello)
            yield followed, crossing, hello
        nursery.cancel_scope.cancel()


def begin(hello: Hello) -> Resume:
    """Both logs are empty."""
    return Resume(epoch=EPOCH, session=hello.session, next=1, high=0, inherited=0)


async def test_what_another_node_another_epoch_or_another_session_sends_is_refused(
    log: Log, autojump_clock: MockClock
) -> None:
    async with following(log) as (followed, _, hello):
        good = records(hello.session, 1, 2)
        strange = [
            ("n3", good),
            ("n1", replace(good, epoch=EPOCH - 1)),
            ("n1", replace(good, epoch=EPOCH + 1)),
            ("n1", replace(good, session=hello.session + 1)),
        ]
        followed.receiver.receive("n1", begin(hello))
        for peer, message in strange:
            followed.receiver.receive(peer, message)
        await trio.sleep(0.01)
        assert followed.rows.sequences == [] and followed.receiver.statistics().refused_total == len(strange)
        followed.receiver.receive("n1", good)
        await trio.sleep(0.01)
        assert followed.rows.sequences == [1, 2] and followed.replica.next_sequence == 3


def in_pieces(session: int) -> list[bytes]:
    """A message of the holder that takes a slow line half a minute."""
    count = 1 + 9 * PIECE_BYTES // len(records(session, 1, 1).records[0])
    found = list(pieces(encode(records(session, 1, count))))
    assert len(found) >= 10
    return found


async def test_a_message_that_takes_half_a_minute_is_waited_for_and_the_holder_hears_that_it_comes(
    log: Log, autojump_clock: MockClock
) -> None:
    """Two lines of 4 Mbit/s and a write of 10 MB: every session was given up after five seconds and sent all of it
    again, for ever; nothing was stored any more until the line was wider. And who says nothing meanwhile is left out.
    """
    async with following(log) as (followed, crossing, hello):
        crossing.receive("n1", encode(begin(hello)))
        await trio.sleep(0.01)
        *begun, last = in_pieces(hello.session)
        for piece in begun:
            said = len(followed.said)
            await trio.sleep(4.0)
            crossing.receive("n1", piece)
            await trio.sleep(0.01)
            assert followed.said[said:] == [("n1", Ack(epoch=EPOCH, session=hello.session, durable=0))]
        crossing.receive("n1", last)
        await trio.sleep(0.01)
        statistics = followed.receiver.statistics()
        assert (statistics.sessions_total, statistics.broken_total) == (1, 0)
        assert followed.rows.sequences == list(range(1, followed.replica.next_sequence)) != []


async def test_who_begins_anew_waits_for_its_answer_behind_what_is_on_its_way_and_confirms_nothing_before(
    log: Log, autojump_clock: MockClock
) -> None:
    """What was sent for the session before comes first. What the log here has is not known to be the holder's yet."""
    async with following(log) as (followed, crossing, hello):
        for piece in in_pieces(hello.session + 1):
            crossing.receive("n1", piece)
            await trio.sleep(4.0)
        assert [type(message) for _, message in followed.said] == [Hello]
        crossing.receive("n1", encode(begin(hello)))
        await trio.sleep(0.01)
        assert [type(message) for _, message in followed.said] == [Hello, Ack]


async def test_a_holder_that_says_nothing_loses_the_session_whoever_else_talks(
    log: Log, autojump_clock: MockClock
) -> None:
    async with following(log) as (followed, crossing, hello):
        crossing.receive("n1", encode(begin(hello)))
        for piece in in_pieces(hello.session)[:6]:
            crossing.receive("n3", piece)
            await trio.sleep(1.0)
        assert followed.receiver.statistics().broken_total == 1


async def test_a_follower_whose_disk_is_slow_says_that_it_is_there_and_one_whose_disk_hangs_does_not(
    log: Log, autojump_clock: MockClock
) -> None:
    """Two slow disks put both followers out of the set, as two slow lines did."""
    async with following(log) as (followed, _, hello):
        followed.receiver.receive("n1", begin(hello))
        await trio.sleep(0.01)
        followed.disk.seconds = 60.0
        followed.receiver.receive("n1", records(hello.session, 1, 2))
        said = len(followed.said)
        for _ in range(40):
            await trio.sleep(0.5)
            followed.receiver.receive("n1", replace(records(hello.session, 3, 1), records=()))
        late = [message for _, message in followed.said[said:]]
        assert late == [Ack(epoch=EPOCH, session=hello.session, durable=0)] * 9
        await trio.sleep(60.0)
        assert ("n1", Ack(epoch=EPOCH, session=hello.session, durable=2)) in followed.said
