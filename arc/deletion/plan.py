"""Which files may have rows to delete, and in which pieces they are replaced. Pure."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from arc.catalog.facts import Catalog
from arc.storage.files import FileEntry

FILES_PER_ENTRY = 32
BYTES_PER_ENTRY = 1 << 30
"""Of sources. An entry of the log for each so many: what is done stays done, and no more than this is there twice."""


def covered(
    catalog: Catalog,
    database: str,
    measurement: str,
    *,
    through: int,
    low_us: int | None,
    high_us: int | None,
    clean: Container[str],
) -> list[FileEntry]:
    """Files with rows of records up to ``through``, within the closed range of time, that are not known to be clean;
    oldest first. A file that reaches beyond ``through`` (merged meanwhile) counts with all its rows.
    """
    found = [
        file
        for file in catalog.files_between(database, measurement, low_us, high_us)
        if file.first_sequence <= through and file.path not in clean
    ]
    return sorted(found, key=lambda file: (file.min_time_us, file.path))


def pieces(files: Iterable[FileEntry]) -> Iterator[list[FileEntry]]:
    """The files in their order, in pieces for one entry each; at least one file each."""
    piece: list[FileEntry] = []
    size = 0
    for file in files:
        if piece and (len(piece) >= FILES_PER_ENTRY or size + file.size_bytes > BYTES_PER_ENTRY):
            yield piece
            piece, size = [], 0
        piece.append(file)
        size += file.size_bytes
    if piece:
        yield piece
