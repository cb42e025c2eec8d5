"""One moment of the data: which files and which buffered rows a query sees, and nothing that comes later.

The catalog version, its files and the buffered rows above its flush marks are taken in one synchronous step, so a row
is in exactly one of the two places (DURABILITY section 6): a flush that commits a moment later changes the catalog, not
the version held here. A file that cannot be read on this node yet is left out, and the buffered rows it covers are
taken instead; where these are gone, the query is refused, since it would be silently short.

Files of the snapshot are pinned until `Snapshot.release`, so that a compaction may drop them from the manifest but not
from the disk.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import pyarrow as pa

from arc.catalog.fsm import Catalog
from arc.catalog.schemas import MeasurementSchema
from arc.errors import Unavailable
from arc.storage.coverage import split
from arc.storage.files import FileEntry


class TableRange(NamedTuple):
    """A measurement a query reads, and the closed range of time (µs since 1970 UTC) outside of which it needs no
    row."""

    database: str
    measurement: str
    min_us: int | None = None
    max_us: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSnapshot:
    """One measurement at one moment. ``files`` may hold rows outside the range asked for; ``buffered`` are rows in no
    file.

    A batch has ``time`` (timestamp[us, UTC]) and any of the schema's columns, tags plain or dictionary-encoded.
    """

    schema: MeasurementSchema
    files: tuple[FileEntry, ...] = ()
    buffered: tuple[pa.RecordBatch, ...] = ()

    @property
    def rows(self) -> int:
        """Rows of the files and the buffer together."""
        buffered: int = sum(batch.num_rows for batch in self.buffered)
        return sum(entry.rows for entry in self.files) + buffered


class PinFiles(Protocol):
    """Whoever unlinks files: a pinned path stays on disk until it was unpinned as often as it was pinned."""

    def pin(self, paths: Sequence[str]) -> None:
        """Keep these files."""
        ...

    def unpin(self, paths: Sequence[str]) -> None:
        """One user less."""
        ...


class BufferedRows(Protocol):
    """The write buffer: `arc.ingest.buffer.Buffer.snapshot`."""

    def __call__(self, database: str, measurement: str, after: int) -> tuple[pa.RecordBatch, ...]:
        """Rows of WAL records above ``after``, in sequence order."""
        ...


class Coverage(Protocol):
    """What the write buffer holds: `arc.ingest.buffer.Buffer`."""

    @property
    def visible(self) -> int:
        """The last record whose rows may be seen."""
        ...

    def floor(self, database: str, measurement: str) -> int:
        """Every row of a record above this that was logged is there."""
        ...


@dataclass(slots=True, kw_only=True)
class Snapshot:
    """What a query reads. A table that the catalog does not know is absent from ``tables``. Release it exactly when
    done."""

    catalog: Catalog
    tables: Mapping[tuple[str, str], TableSnapshot] = field(default_factory=dict)
    _pins: PinFiles | None = None
    _pinned: tuple[str, ...] = ()

    def release(self) -> None:
        """Let the files go. A second call does nothing."""
        pinned, self._pinned = self._pinned, ()
        if pinned and self._pins is not None:
            self._pins.unpin(pinned)


class TakeSnapshot(Protocol):
    """Takes a snapshot in one synchronous step; nothing else may run on the node's thread in between."""

    def __call__(self, tables: Sequence[TableRange]) -> Snapshot:
        """The newest applied catalog, and what the tables hold in it. Without tables: just the catalog."""
        ...


class SnapshotTaker:
    """The one `TakeSnapshot` there is: made of the applied catalog, the write buffer and the keeper of files."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        buffered: BufferedRows | None = None,
        pins: PinFiles | None = None,
        *,
        coverage: Coverage | None = None,
        is_readable: Callable[[str], bool] | None = None,
    ) -> None:
        """``is_readable`` says whether a file of the manifest can be read on this node now; without it, all can."""
        self._catalog = catalog
        self._buffered = buffered
        self._pins = pins
        self._coverage = coverage
        self._is_readable = is_readable

    def __call__(self, tables: Sequence[TableRange]) -> Snapshot:
        """See `TakeSnapshot`. A table asked for twice gets the union of its ranges.

        Raises Unavailable when this node has neither the files nor the buffered rows: of these measurements only, and
        of files only where they may have rows in the range.
        """
        catalog = self._catalog()
        taken = {(t.database, t.measurement): t for t in merge_ranges(tables)}
        found: dict[tuple[str, str], TableSnapshot] = {}
        for key, wanted in taken.items():
            schema = catalog.schema(*key)
            if schema is None:
                continue
            border = self._border(catalog, *key)
            files = tuple(catalog.files_between(*key, wanted.min_us, wanted.max_us))
            if border < catalog.mark(*key):
                files = tuple(file for file in files if file.last_sequence <= border)
            self._require_readable(files)
            rows = () if self._buffered is None else self._buffered(*key, border)
            found[key] = TableSnapshot(schema=schema, files=files, buffered=tuple(rows))
        paths = tuple(entry.path for table in found.values() for entry in table.files)
        if self._pins is not None and paths:
            self._pins.pin(paths)
        return Snapshot(catalog=catalog, tables=found, _pins=self._pins, _pinned=paths)

    def _require_readable(self, files: Sequence[FileEntry]) -> None:
        """Raise Unavailable when the range asked for needs a file that is not here: one that never came, though its
        rows were never in this buffer (the node is new, or started with a shorter log), or one that was lost.
        """
        if self._is_readable is None:
            return
        lacking = next((file for file in files if not self._is_readable(file.path)), None)
        if lacking is not None:
            raise Unavailable(
                f"a file of {lacking.database}.{lacking.measurement} that this query needs is not on this node now",
                code="files_missing",
            )

    def _border(self, catalog: Catalog, database: str, measurement: str) -> int:
        """Files answer for records up to this, the buffer for those above."""
        mark = catalog.mark(database, measurement)
        if self._coverage is None or self._is_readable is None:
            return mark
        # What was deleted from files is in no buffer that answers for them, though it still has the rows.
        floor = max(self._coverage.floor(database, measurement), catalog.deleted_through(database))
        files = catalog.files(database, measurement) if floor < mark else ()
        border = split(files, mark=mark, floor=floor, is_readable=self._is_readable)
        if border < mark and (border < floor or self._coverage.visible < mark):
            raise Unavailable(
                f"files of {database}.{measurement} have not come to this node yet, and their rows are not here either",
                code="files_missing",
            )
        return border


def merge_ranges(tables: Sequence[TableRange]) -> tuple[TableRange, ...]:
    """One range per measurement that covers all ranges asked of it; an open end stays open."""
    merged: dict[tuple[str, str], TableRange] = {}
    for table in tables:
        key = (table.database, table.measurement)
        known = merged.get(key)
        merged[key] = table if known is None else TableRange(*key, *_cover(known, table))
    return tuple(merged.values())


def _cover(one: TableRange, other: TableRange) -> tuple[int | None, int | None]:
    low = None if one.min_us is None or other.min_us is None else min(one.min_us, other.min_us)
    high = None if one.max_us is None or other.max_us is None else max(one.max_us, other.max_us)
    return low, high
