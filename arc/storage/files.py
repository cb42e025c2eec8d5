"""A Parquet file as the catalog knows it: a value, never an open handle."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One immutable file of the manifest; its identity is ``path`` plus ``sha256``.

    ``min_time_us`` and ``max_time_us`` are inclusive bounds of the rows' time (microseconds since 1970 UTC).
    ``first_sequence`` and ``last_sequence`` bound the WAL records whose rows are in the file. ``columns`` names the
    columns really present in the file. ``holders`` are the nodes that said they have it, sorted; the catalog fills this
    in, whoever proposes a file leaves it empty.
    """

    path: str
    database: str
    measurement: str
    sha256: str
    size_bytes: int
    rows: int
    min_time_us: int
    max_time_us: int
    origin: str
    epoch: int
    first_sequence: int
    last_sequence: int
    created_us: int
    columns: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()


_SLOTS = {field.name: getattr(FileEntry, field.name) for field in fields(FileEntry)}
_OTHER = tuple((slot.__get__, slot.__set__) for name, slot in _SLOTS.items() if name != "holders")
_set_holders = _SLOTS["holders"].__set__


def held_by(file: FileEntry, holders: tuple[str, ...]) -> FileEntry:
    """The file with other holders. Thrice as fast as `dataclasses.replace`: a node that goes may hold 100,000."""
    held = FileEntry.__new__(FileEntry)
    for read, write in _OTHER:
        write(held, read(file))
    _set_holders(held, holders)
    return held
