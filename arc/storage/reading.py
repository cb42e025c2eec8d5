"""A file of the manifest, read to be written again: it is mapped, proven, and only then opened as Parquet.

Flipped bits mostly go unnoticed by who decodes them: they are other numbers. A file that is merged or that rows are
deleted from is therefore hashed first, or what rotted on this disk would get a fresh hash. All of it blocks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq

from arc.errors import Corrupt, NotFound
from arc.ports import Disk
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA

HASH_BYTES = 8 << 20
"""Hashed in one go: some 10 ms."""

UNDECODABLE = (pa.ArrowException, OSError, ValueError)
"""What Arrow raises of bytes that are no Parquet; names that are no UTF-8 are no exception of its own."""


def map_file(disk: Disk, entry: FileEntry) -> memoryview:
    """Its bytes. Raises NotFound (not on this disk), Corrupt (cannot be read)."""
    try:
        return disk.map(f"{DATA}/{entry.path}")
    except FileNotFoundError as error:
        raise NotFound(f"{entry.path} is not on this disk", code="source_missing") from error
    except OSError as error:
        raise Corrupt(f"cannot be read: {error}", path=entry.path, offset=0) from error


def verify(view: memoryview, entry: FileEntry, pause: Callable[[], None] = lambda: None) -> None:
    """Raises Corrupt unless these are the bytes that the manifest means; ``pause`` is called between pieces."""
    found = hashlib.sha256()
    for start in range(0, len(view), HASH_BYTES):
        pause()
        found.update(view[start : start + HASH_BYTES])
    if len(view) != entry.size_bytes or found.hexdigest() != entry.sha256:
        raise Corrupt("is not the file that the manifest has under this name", path=entry.path, offset=0)


def open_parquet(view: memoryview, entry: FileEntry) -> pq.ParquetFile:
    """Its footer. Raises Corrupt."""
    try:
        return pq.ParquetFile(pa.BufferReader(pa.py_buffer(view)), pre_buffer=False)
    except UNDECODABLE as error:
        raise Corrupt(f"is no Parquet file: {error}", path=entry.path, offset=0) from error
