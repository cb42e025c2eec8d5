"""Flushed files on a disk in memory, for tests of merging."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import pyarrow as pa
import pyarrow.parquet as pq

from arc.compaction.tiers import Chain, Job
from arc.ingest.writing import write_files
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.storage.paths import file_path
from tests.fakes import MemoryDisk

UTC = pa.timestamp("us", tz="UTC")
Row = tuple[int, str | None, str | None, int]
"""time, two tags, a value."""


def batch_of(rows: Sequence[Row], tags: Sequence[str] = ("a", "b")) -> pa.RecordBatch:
    columns = {
        "time": pa.array([row[0] for row in rows], pa.int64()).cast(UTC),
        "a": pa.array([row[1] for row in rows], pa.utf8()).dictionary_encode(),
        "b": pa.array([row[2] for row in rows], pa.utf8()).dictionary_encode(),
        "v": pa.array([row[3] for row in rows], pa.int64()),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in ("time", *tags, "v")], names=["time", *tags, "v"])


def flush(
    disk: MemoryDisk,
    rows: Sequence[Row] | pa.RecordBatch,
    sequence: int,
    *,
    tags: Sequence[str] = ("a", "b"),
    epoch: int = 3,
) -> list[FileEntry]:
    batch = batch_of(rows, tags) if not isinstance(rows, pa.RecordBatch) else rows
    names = count()
    return list(
        write_files(
            (batch,),
            lambda file: file_path(
                "metrics", "cpu", file.hour, node="n1", epoch=epoch, sequence=sequence + next(names) * 0
            ),
            database="metrics",
            measurement="cpu",
            first=sequence,
            last=sequence,
            node="n1",
            epoch=epoch,
            now_us=0,
            disk=disk,
        )
    )


def job_of(*chains: FileEntry | Chain) -> Job:
    made = tuple(each if isinstance(each, tuple) else (each,) for each in chains)
    return Job(tier="daily", database="metrics", measurement="cpu", day=0, hour=None, chains=made)


def read(disk: MemoryDisk, path: str) -> pa.Table:
    return pq.read_table(pa.BufferReader(disk.read(path)))


def rows_of(disk: MemoryDisk, paths: Sequence[str]) -> list[Row]:
    found: list[Row] = []
    for path in paths:
        table = read(disk, path)
        columns = [table.column("time").cast(pa.int64())]
        columns += [
            table.column(name) if name in table.column_names else pa.nulls(len(table)) for name in ("a", "b", "v")
        ]
        found += zip(*(column.to_pylist() for column in columns), strict=True)
    return found


def data_paths(entries: Sequence[FileEntry]) -> list[str]:
    return [f"{DATA}/{entry.path}" for entry in entries]
