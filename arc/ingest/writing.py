"""Rows of one measurement into Parquet files on this disk: encode, store, describe. Blocking, for a worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pyarrow as pa

from arc.ports import Disk
from arc.storage import parquet
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.storage.shelf import Shelf


def write_files(
    batches: tuple[pa.RecordBatch, ...],
    path_of: Callable[[parquet.EncodedFile], str | None],
    *,
    database: str,
    measurement: str,
    first: int,
    last: int,
    node: str,
    epoch: int,
    now_us: int,
    disk: Disk,
    shelf: Shelf | None = None,
) -> Iterator[FileEntry]:
    """Encode and store the rows of the WAL records ``first`` … ``last``, one file per UTC hour that has a path.

    Every file and its folder is durable before it is told, also on ``shelf``, if there is one that all nodes share: it
    is put there first, so one that does not answer leaves nothing on this disk. Raises OSError, Unavailable.
    """
    metadata = {
        "arc.tags": ",".join(_tags(batches)),
        "arc.writer": node,
        "arc.epoch": str(epoch),
        "arc.wal_first": str(first),
        "arc.wal_last": str(last),
    }
    for file in parquet.encode_hours(batches, metadata):
        path = path_of(file)
        if path is None:
            continue
        if shelf is not None:
            shelf.put(path, memoryview(file.data), file.sha256)
        disk.make_dirs(f"{DATA}/{path.rsplit('/', 1)[0]}")
        disk.write_durable(f"{DATA}/{path}", memoryview(file.data))
        yield FileEntry(
            path=path,
            database=database,
            measurement=measurement,
            sha256=file.sha256,
            size_bytes=file.data.size,
            rows=file.rows,
            min_time_us=file.min_time_us,
            max_time_us=file.max_time_us,
            origin=node,
            epoch=epoch,
            first_sequence=first,
            last_sequence=last,
            created_us=now_us,
            columns=file.columns,
        )


def _tags(batches: tuple[pa.RecordBatch, ...]) -> list[str]:
    return sorted({field.name for batch in batches for field in batch.schema if pa.types.is_dictionary(field.type)})
