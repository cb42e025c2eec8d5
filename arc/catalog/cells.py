"""The files of one measurement, in one cell per UTC day: a change copies little, a look at an hour touches one cell.

A file lives in the cell of its folder's day if all its rows do, else among the wide ones. So a path names two places
where its file can be, and a range of time names the days to look at. Within a cell files are ordered by path. Nothing
here judges whether a change is right: that is `manifest`'s matter.

Days, not hours: the table of cells is copied at every change, and ten years of hours are a table of 87,600.
"""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from operator import attrgetter

from arc.storage.files import FileEntry

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
PATH_CHARS_MAX = 1_024

_PATH = re.compile(
    r"(?P<database>[^/\\]+)/(?P<folder>[^/\\]+)/(?P<year>[0-9]{4})/(?P<month>[0-9]{2})/(?P<day>[0-9]{2})/(?P<hour>[01][0-9]|2[0-3])"
    r"/[^/\\.][^/\\]*\.parquet"
)
_EPOCH = date(1970, 1, 1).toordinal()
_path_of = attrgetter("path")

Cell = tuple[FileEntry, ...]

_WIDE = 1 << 60
"""Key of the cell for files that no day holds; beyond any day that a path can name."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a path says: database, the measurement's folder, and the day as a count of days since 1970 UTC."""

    database: str
    folder: str
    day: int


def parse_path(path: str) -> Place | None:
    """Read ``db/folder/YYYY/MM/DD/HH/name.parquet``.

    None for anything else, above all for a path that leads elsewhere.
    """
    match = _PATH.fullmatch(path)
    if match is None or len(path) > PATH_CHARS_MAX or not path.isprintable():
        return None
    database, folder, year, month, day, _ = match.groups()
    if database.startswith(".") or folder.startswith("."):
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    return Place(database, folder, days)


@dataclass(frozen=True, slots=True)
class FileStats:
    """Totals over some files: their number, rows and bytes."""

    files: int = 0
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementFiles:
    """The files and the flush mark of one measurement."""

    days: Mapping[int, Cell] = field(default_factory=dict)
    wide: Cell = ()
    stats: FileStats = FileStats()
    mark: int = 0

    def find(self, path: str, day: int) -> FileEntry | None:
        """The file of this path, whose day is ``day``."""
        for cell in (self.days.get(day, ()), self.wide):
            place = bisect_left(cell, path, key=_path_of)
            if place < len(cell) and cell[place].path == path:
                return cell[place]
        return None

    def all(self) -> Iterator[FileEntry]:
        """Every file: by day, wide ones last; the same order on every node."""
        for day in sorted(self.days):
            yield from self.days[day]
        yield from self.wide

    def between(self, min_us: int | None, max_us: int | None) -> list[FileEntry]:
        """Files whose closed time range overlaps the closed range asked for; None is no bound."""
        if min_us is None and max_us is None:
            return list(self.all())
        found: list[FileEntry] = []
        for day in self._days_between(min_us, max_us):
            starts_before = min_us is None or min_us <= day * DAY_US
            ends_behind = max_us is None or max_us >= (day + 1) * DAY_US - 1
            found += self.days[day] if starts_before and ends_behind else _overlapping(self.days[day], min_us, max_us)
        return found + _overlapping(self.wide, min_us, max_us)

    def _days_between(self, min_us: int | None, max_us: int | None) -> Sequence[int]:
        """Days with files that may overlap, ascending: counted when the range is short, picked when it is long."""
        first = None if min_us is None else min_us // DAY_US
        last = None if max_us is None else max_us // DAY_US
        if first is not None and last is not None and last - first < len(self.days):
            return [day for day in range(first, last + 1) if day in self.days]
        return sorted(d for d in self.days if (first is None or d >= first) and (last is None or d <= last))


def _overlapping(cell: Iterable[FileEntry], min_us: int | None, max_us: int | None) -> list[FileEntry]:
    return [
        file
        for file in cell
        if (max_us is None or file.min_time_us <= max_us) and (min_us is None or file.max_time_us >= min_us)
    ]


Dated = tuple[FileEntry, int]
"""A file and the day of its path."""


def changed(
    old: MeasurementFiles, *, add: Iterable[Dated] = (), remove: Iterable[Dated] = (), mark: int
) -> MeasurementFiles:
    """A new version with files taken out and put in.

    The caller has checked that removed files are there and that no added path stays there twice.
    """
    cells = {**old.days, _WIDE: old.wide}
    files, rows, size = old.stats.files, old.stats.rows, old.stats.bytes
    for key, gone in _by_cell(remove).items():
        paths = {file.path for file in gone}
        left = tuple(file for file in cells[key] if file.path not in paths)
        assert len(left) + len(paths) == len(cells[key]), "a file to remove is not in its cell"
        if left or key == _WIDE:
            cells[key] = left
        else:
            del cells[key]
        files, rows, size = files - len(gone), rows - sum(f.rows for f in gone), size - sum(f.size_bytes for f in gone)
    for key, new in _by_cell(add).items():
        cells[key] = _with(cells.get(key, ()), new)
        files, rows, size = files + len(new), rows + sum(f.rows for f in new), size + sum(f.size_bytes for f in new)
    wide = cells.pop(_WIDE)
    return MeasurementFiles(days=cells, wide=wide, stats=FileStats(files, rows, size), mark=mark)


FEW = 8
"""One in so many: inserting by bisection looks at so few paths of a cell that it beats a merge of all of them."""


def _with(cell: Cell, new: list[FileEntry]) -> Cell:
    """The cell with more files, by path. Old data touches many cells with a file or two for each."""
    if len(new) * FEW > len(cell):
        # Two ordered runs: the sort only merges them.
        return tuple(sorted((*cell, *sorted(new, key=_path_of)), key=_path_of))
    files = list(cell)
    for file in new:
        insort(files, file, key=_path_of)
    return tuple(files)


def swapped(old: MeasurementFiles, files: Iterable[Dated]) -> MeasurementFiles:
    """A new version in which these files stand in the place of those with their paths, rows and times.

    Only what is known *about* a file may differ: its place, and so its cell, is the same.
    """
    days, wide = {**old.days}, old.wide
    for key, group in _by_cell(files).items():
        new = {file.path: file for file in group}
        cell = tuple(new.get(file.path, file) for file in (wide if key == _WIDE else days[key]))
        if key == _WIDE:
            wide = cell
        else:
            days[key] = cell
    return replace(old, days=days, wide=wide)


def mapped(old: MeasurementFiles, change: Callable[[FileEntry], FileEntry]) -> tuple[MeasurementFiles, list[FileEntry]]:
    """A new version with every file changed as in `swapped`, and the files that are other objects now."""
    found: list[FileEntry] = []

    def cell_of(cell: Cell) -> Cell:
        after = tuple(map(change, cell))
        come = [new for new, file in zip(after, cell, strict=True) if new is not file]
        found.extend(come)
        return after if come else cell

    days = {day: cell_of(old.days[day]) for day in sorted(old.days)}
    wide = cell_of(old.wide)
    return (replace(old, days=days, wide=wide) if found else old), found


def differing(old: MeasurementFiles, new: MeasurementFiles) -> Iterator[tuple[Cell, Cell]]:
    """(before, after) of every cell that is another object now; what is shared costs one comparison."""
    if old is new:
        return
    for day in sorted({*old.days, *new.days}):
        before, after = old.days.get(day, ()), new.days.get(day, ())
        if before is not after:
            yield before, after
    if old.wide is not new.wide:
        yield old.wide, new.wide


def _by_cell(files: Iterable[Dated]) -> dict[int, list[FileEntry]]:
    """Files by the key of their cell: the day, or `_WIDE`."""
    groups: dict[int, list[FileEntry]] = {}
    for file, day in files:
        inside = file.min_time_us // DAY_US == day == file.max_time_us // DAY_US
        groups.setdefault(day if inside else _WIDE, []).append(file)
    return groups
