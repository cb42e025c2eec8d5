"""The read side that queries rely on, with the real state machine in place of the tests' own catalog."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from arc.catalog.commands import AssignLease, Command, DeclareColumns, RegisterFiles
from arc.catalog.fsm import ClusterFSM
from arc.catalog.values import ColumnSchema, FlushMark
from arc.ids import NodeId
from arc.query.engine import Engine
from arc.query.snapshot import SnapshotTaker
from tests.query.conftest import Store, make_service, rows

HOUR = 3_600_000_000


def apply(fsm: ClusterFSM, *commands: Command) -> None:
    for command in commands:
        fsm.apply(fsm.catalog.index + 1, command).result.unwrap()


async def test_a_row_is_seen_once_before_and_after_its_flush_commits(store: Store, engine: Engine) -> None:
    fsm = ClusterFSM()
    columns = (ColumnSchema("host", "tag"), ColumnSchema("n", "integer"))
    declare = DeclareColumns(database="prod", measurement="cpu", columns=columns, created_us=0)
    apply(fsm, AssignLease(lease="writer", node=NodeId("n1"), expect_epoch=0), declare)
    epoch = fsm.catalog.leases["writer"].epoch

    store.measurement("prod", "cpu", host="tag", n="integer")
    records = {
        1: store.batch("prod", "cpu", [0], host=["a"], n=[1]),
        2: store.batch("prod", "cpu", [HOUR], host=["b"], n=[2]),
    }

    def buffered(database: str, measurement: str, after: int) -> tuple[pa.RecordBatch, ...]:
        return tuple(batch for sequence, batch in records.items() if sequence > after)

    store.take = SnapshotTaker(lambda: fsm.catalog, buffered, store.pins)  # type: ignore[method-assign]
    service = make_service(store, engine)
    everything = "SELECT host, n FROM prod.cpu ORDER BY n"
    assert await rows(service, everything) == [("a", 1), ("b", 2)]

    entry = replace(store.file_of("prod", "cpu", records[1]), sha256="0" * 64, epoch=epoch)
    flushed = RegisterFiles(files=(entry,), flushed=(FlushMark("prod", "cpu", 1),), epoch=epoch)
    apply(fsm, flushed)
    # The buffer still holds both: the mark alone decides which of them are asked for.
    assert await rows(service, everything) == [("a", 1), ("b", 2)]
    assert await rows(service, "SELECT count(*) FROM cpu", "prod") == [(2,)]
    assert await rows(service, "SELECT n FROM prod.cpu WHERE time >= '1970-01-01T00:30:00Z'") == [(2,)]
    assert [row[:4] for row in await rows(service, "SHOW TABLES FROM prod")] == [("prod", "cpu", "prod/cpu", 1)]
    assert [row[0] for row in await rows(service, "DESCRIBE prod.cpu")] == ["time", "host", "n"]
    assert store.pins.held == {}
