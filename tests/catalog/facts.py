"""Short ways to say what catalog tests are about."""

from __future__ import annotations

from arc.catalog.cells import HOUR_US
from arc.catalog.commands import (
    WRITER,
    AssignLease,
    ColumnSchema,
    Command,
    DeclareColumns,
    FlushMark,
    RegisterFiles,
)
from arc.catalog.fsm import Catalog, ClusterFSM
from arc.catalog.results import Result
from arc.ids import NodeId
from arc.storage.files import FileEntry
from arc.storage.paths import hour_folder

CPU = ("metrics", "cpu")
V = ColumnSchema("v", "float")


def column(name: str, kind: str = "float") -> ColumnSchema:
    return ColumnSchema(name, kind)


def declare(*columns: ColumnSchema, database: str = "metrics", measurement: str = "cpu") -> DeclareColumns:
    return DeclareColumns(database=database, measurement=measurement, columns=columns or (V,), created_us=1)


def file(
    name: str,
    *,
    hour: int = 0,
    first: int = 0,
    last: int = 0,
    database: str = "metrics",
    measurement: str = "cpu",
    sha256: str = "5" * 64,
    span_us: tuple[int, int] | None = None,
    path: str | None = None,
    rows: int = 10,
    holders: tuple[str, ...] = (),
) -> FileEntry:
    """A file whose rows fill its hour unless ``span_us`` says otherwise; not from the WAL unless ``last`` is given.

    ``holders`` is for comparing it with what the manifest made of it.
    """
    low, high = span_us if span_us is not None else (hour * HOUR_US, hour * HOUR_US + HOUR_US - 1)
    return FileEntry(
        path=path if path is not None else f"{hour_folder(database, measurement, hour)}/{name}.parquet",
        database=database,
        measurement=measurement,
        sha256=sha256,
        size_bytes=100,
        rows=rows,
        min_time_us=low,
        max_time_us=high,
        origin="n1",
        epoch=1,
        first_sequence=first,
        last_sequence=last,
        created_us=5,
        columns=("v",),
        holders=holders,
    )


def register(*files: FileEntry, mark: int | None = None, epoch: int = 1, measurement: str = "cpu") -> RegisterFiles:
    marks = () if mark is None else (FlushMark("metrics", measurement, mark),)
    return RegisterFiles(files=files, flushed=marks, epoch=epoch)


def ready() -> ClusterFSM:
    """Epoch 1 of the writer lease is n1's, and ``metrics.cpu`` has the field ``v``."""
    machine = ClusterFSM()
    do(machine, AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=0))
    do(machine, declare())
    return machine


def ask(machine: ClusterFSM, command: Command) -> Result:
    """Apply at the next index."""
    return machine.apply(machine.catalog.index + 1, command).result


def do(machine: ClusterFSM, command: Command) -> Result:
    """Apply what must be accepted."""
    result = ask(machine, command)
    assert result.ok, result
    return result


def refused(machine: ClusterFSM, command: Command) -> Result:
    """Apply what must be refused: facts and events stay away."""
    before = machine.catalog
    applied = machine.apply(before.index + 1, command)
    assert not applied.result.ok, applied
    assert applied.events == ()
    assert machine.catalog.same_facts(before)
    return applied.result


def paths(catalog: Catalog) -> list[str]:
    return [entry.path for entry in catalog.all_files()]
