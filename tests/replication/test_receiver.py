"""A receiver listens to one holder, in one epoch and one session, and to nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import trio
from trio.testing import MockClock

from arc.catalog.fsm import ClusterFSM
from arc.ids import Epoch, Position
from arc.replication.copies import Kept
from arc.replication.log import MemoryOnly, ReplicaLog
from arc.replication.messages import Hello, Message, Records, Resume, decode
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


class Followed:
    """A receiver, and what it says to whom."""

    def __init__(self, log: Log) -> None:
        self.rows = Rows()
        self.said: list[tuple[str, Message]] = []
        self.replica = ReplicaLog(MemoryOnly(), History(), tail_bytes_max=1)
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


async def test_what_another_node_another_epoch_or_another_session_sends_is_refused(
    log: Log, autojump_clock: MockClock
) -> None:
    followed = Followed(log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(followed.receiver.run)
        await trio.sleep(0.01)
        (to, hello) = followed.said[0]
        assert to == "n1" and isinstance(hello, Hello)
        good = records(hello.session, 1, 2)
        strange = [
            ("n3", good),
            ("n1", replace(good, epoch=EPOCH - 1)),
            ("n1", replace(good, epoch=EPOCH + 1)),
            ("n1", replace(good, session=hello.session + 1)),
        ]
        followed.receiver.receive("n1", Resume(epoch=EPOCH, session=hello.session, next=1, high=0, inherited=0))
        for peer, message in strange:
            followed.receiver.receive(peer, message)
        await trio.sleep(0.01)
        assert followed.rows.sequences == [] and followed.receiver.statistics().refused_total == len(strange)
        followed.receiver.receive("n1", good)
        await trio.sleep(0.01)
        assert followed.rows.sequences == [1, 2] and followed.replica.next_sequence == 3
        nursery.cancel_scope.cancel()
