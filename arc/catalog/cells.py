"""The files of one measurement, in cells of time.

A change copies a few small cells, a look at one hour touches little else.

A file lives in the cell of its folder's hour if all its rows do, else in the cell of its folder's day if all its rows
do, else among the wide ones. So a path names the three places where its file can be, and a range of time names the
hours and days to look at. Within a cell files are ordered by path. Nothing here judges whether a change is right: that
is `manifest`'s matter.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Place:
    """What a path says: database, the measurement's folder, and the hour as a count of hours since 1970 UTC."""

    database: str
    folder: str
    hour: int


def parse_path(path: str) -> Place | None:
    """Read ``db/folder/YYYY/MM/DD/HH/name.parquet``.

    None for anything else, above all for a path that leads elsewhere.
    """
    match = _PATH.fullmatch(path)
    if match is None or len(path) > PATH_CHARS_MAX or not path.isprintable():
        return None
    database, folder, year, month, day, hour = match.groups()
    if database.startswith(".") or folder.startswith("."):
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    return Place(database, folder, days * 24 + int(hour))


@dataclass(frozen=True, slots=True)
class FileStats:
    """Totals over some files: their number, rows and bytes."""

    files: int = 0
    rows: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementFiles:
    """The files and the flush mark of one measurement."""

    hours: Mapping[int, Cell] = field(default_factory=dict)
    days: Mapping[int, Cell] = field(default_factory=dict)
    wide: Cell = ()
    stats: FileStats = FileStats()
    mark: int = 0

    def find(self, path: str, hour: int) -> FileEntry | None:
        """The file of this path, whose hour is ``hour``."""
        for cell in (self.hours.get(hour, ()), self.days.get(hour // 24, ()), self.wide):
            place = bisect_left(cell, path, key=_path_of)
            if place < len(cell) and cell[place].path == path:
                return cell[place]
        return None

    def all(self) -> Iterator[FileEntry]:
        """Every file: by hour, by day, wide; the same order on every node."""
        for cells in (self.hours, self.days):
            for key in sorted(cells):
                yield from cells[key]
        yield from self.wide

    def between(self, min_us: int | None, max_us: int | None) -> list[FileEntry]:
        """Files whose closed time range overlaps the closed range asked for; None is no bound."""
        if min_us is None and max_us is None:
            return list(self.all())
        found: list[FileEntry] = []
        for cells, width_us in ((self.hours, HOUR_US), (self.days, DAY_US)):
            for key in _keys_between(cells, width_us, min_us, max_us):
                inside = (min_us is None or min_us <= key * width_us) and (
                    max_us is None or (key + 1) * width_us - 1 <= max_us
                )
                found.extend(cells[key] if inside else _overlapping(cells[key], min_us, max_us))
        found.extend(_overlapping(self.wide, min_us, max_us))
        return found


def _keys_between(cells: Mapping[int, Cell], width_us: int, min_us: int | None, max_us: int | None) -> Sequence[int]:
    """Keys that exist and may overlap, ascending.

    Counted through when the range is short, picked out when it is long.
    """
    first = None if min_us is None else min_us // width_us
    last = None if max_us is None else max_us // width_us
    if first is not None and last is not None and last - first < len(cells):
        return [key for key in range(first, last + 1) if key in cells]
    return sorted(key for key in cells if (first is None or key >= first) and (last is None or key <= last))


def _overlapping(cell: Cell, min_us: int | None, max_us: int | None) -> list[FileEntry]:
    return [
        file
        for file in cell
        if (max_us is None or file.min_time_us <= max_us) and (min_us is None or file.max_time_us >= min_us)
    ]


def changed(
    old: MeasurementFiles,
    *,
    add: Iterable[tuple[FileEntry, int]] = (),
    remove: Iterable[tuple[FileEntry, int]] = (),
    mark: int,
) -> MeasurementFiles:
    """A new version with files taken out and put in; each comes with the hour of its path.

    The caller has checked that removed files are there and that no added path stays there twice.
    """
    hours, days = dict(old.hours), dict(old.days)
    wide = {0: old.wide}
    cells = (hours, days, wide)
    files, rows, size = old.stats.files, old.stats.rows, old.stats.bytes
    for (which, key), gone in _by_cell(remove).items():
        paths = {file.path for file in gone}
        left = tuple(file for file in cells[which][key] if file.path not in paths)
        assert len(left) + len(paths) == len(cells[which][key]), "a file to remove is not in its cell"
        _put(cells[which], key, left)
        files, rows, size = files - len(gone), rows - sum(f.rows for f in gone), size - sum(f.size_bytes for f in gone)
    for (which, key), new in _by_cell(add).items():
        _put(cells[which], key, tuple(sorted((*cells[which].get(key, ()), *new), key=_path_of)))
        files, rows, size = files + len(new), rows + sum(f.rows for f in new), size + sum(f.size_bytes for f in new)
    return MeasurementFiles(
        hours=hours,
        days=days,
        wide=wide.get(0, ()),
        stats=FileStats(files, rows, size),
        mark=mark,
    )


def _by_cell(files: Iterable[tuple[FileEntry, int]]) -> dict[tuple[int, int], list[FileEntry]]:
    """Files by (0 hours, 1 days, 2 wide; key within)."""
    groups: dict[tuple[int, int], list[FileEntry]] = {}
    for file, hour in files:
        groups.setdefault(_cell_of(file, hour), []).append(file)
    return groups


def _cell_of(file: FileEntry, hour: int) -> tuple[int, int]:
    if file.min_time_us // HOUR_US == hour == file.max_time_us // HOUR_US:
        return 0, hour
    if file.min_time_us // DAY_US == hour // 24 == file.max_time_us // DAY_US:
        return 1, hour // 24
    return 2, 0


def _put(cells: dict[int, Cell], key: int, cell: Cell) -> None:
    if cell:
        cells[key] = cell
    else:
        cells.pop(key, None)
