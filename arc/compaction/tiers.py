"""Which files to merge next: a function of the files, the settings and the time.

Three tiers. *hourly*: the files of one UTC hour that is over. *daily*: what there is of a UTC day that is over, into
files of the target size. *late*: what came after that; when nothing comes any more, two files suffice, so that nothing
small stays for ever. No job crosses a day, which is the catalog's cell and what retention drops.

Two rules hold in all tiers.

*Worth it*: no file of a job is larger than ``size_ratio`` times all the others together. So whoever is written again
ends in something larger by ``1 + 1 / size_ratio`` at least, and a row is written again at most logarithmically often. A
file that is too large for that is set apart, and what is older and what is younger is looked at by itself.

*Order*: files are merged with their neighbours in the order of the WAL. Between two sources of a job there is never
another file with rows of the same time, so the result is younger or older as a whole than any file it may share a key
with. That is all that last-write-wins needs: file against file the range of WAL records decides, within a file the
order of the rows; nothing has to be stored per row, and it does not matter how merges nest.

The unit is a *knot*: chains (`names.chain_of`) whose times and WAL records both overlap. Chains of a knot go together
or not at all. Usually a knot is one chain; files rewritten by others, or that came from nowhere in the WAL, may be
tangled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from arc.catalog.cells import DAY_US, HOUR_US
from arc.compaction.config import CompactionConfig
from arc.compaction.names import chain_of
from arc.storage.files import FileEntry
from arc.storage.paths import hour_folder

Tier = Literal["hourly", "daily", "late"]
TIERS: tuple[Tier, ...] = ("hourly", "daily", "late")

CHAINS_MAX = 256
"""Merged by one job; what is more is halved. Bounds what is lost when a job is cancelled."""

Chain = tuple[FileEntry, ...]
"""Files of one job in the order of their parts, or one file: a sorted run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Files to merge, oldest rows first. ``hour`` counts from 1970 and is None unless the tier is hourly."""

    tier: Tier
    database: str
    measurement: str
    day: int
    hour: int | None
    chains: tuple[Chain, ...]

    @property
    def sources(self) -> tuple[FileEntry, ...]:
        """All files, chain by chain."""
        return tuple(file for chain in self.chains for file in chain)

    @property
    def size_bytes(self) -> int:
        """Of all sources."""
        return sum(file.size_bytes for file in self.sources)

    @property
    def partition_path(self) -> str:
        """``database/measurement/YYYY/MM/DD``, with ``/HH`` in the hourly tier."""
        folder = hour_folder(self.database, self.measurement, self.day * 24 if self.hour is None else self.hour)
        return folder if self.hour is not None else folder.rpartition("/")[0]


def plan(files: Iterable[FileEntry], config: CompactionConfig, now_us: int, busy: Collection[str] = ()) -> list[Job]:
    """Jobs that may run now, in any order or together, the most valuable first: most files gone per byte written.

    ``busy`` are paths that somebody else is about to replace; no job comes near them. Files whose rows lie in more than
    one day are nobody's and stay as they are.
    """
    jobs: list[Job] = []
    inside = [file for file in files if file.min_time_us // DAY_US == file.max_time_us // DAY_US]
    inside.sort(key=lambda file: (file.database, file.measurement, file.min_time_us // DAY_US, file.path))
    for _, group in groupby(inside, key=lambda file: (file.database, file.measurement, file.min_time_us // DAY_US)):
        jobs += plan_day(tuple(group), config, now_us, busy)
    return sorted(jobs, key=value)


def value(job: Job) -> tuple[float, str, str, int, int, str]:
    """Sorts jobs by what they are worth: bytes to write for each file that goes; then by place, to be settled."""
    cost = (job.size_bytes + HOUSEHOLD_BYTES) / (len(job.chains) - 1)
    hour = -1 if job.hour is None else job.hour
    return cost, job.database, job.measurement, job.day, hour, job.sources[0].path


HOUSEHOLD_BYTES = 1 << 20
"""What a job costs besides its bytes: syncs, an entry of the log, copies to be asked for."""


def plan_day(
    files: Sequence[FileEntry], config: CompactionConfig, now_us: int, busy: Collection[str] = ()
) -> list[Job]:
    """`plan` for the files of one measurement and one day."""
    if len(files) < 2:
        return []
    knots = _knots(files)
    day = files[0].min_time_us // DAY_US
    day_is_over = (day + 1) * DAY_US + config.daily_min_age_seconds * 1e6 <= now_us
    scope = _Day(knots, config, now_us, frozenset(busy))
    found = scope.whole() if day_is_over else scope.hours(day)
    return [
        Job(
            tier=tier,
            database=files[0].database,
            measurement=files[0].measurement,
            day=day,
            hour=hour,
            chains=tuple(sorted((chain for knot in window for chain in knot.chains), key=_age)),
        )
        for tier, hour, window in found
    ]


@dataclass(frozen=True, slots=True)
class _Knot:
    """Chains that go together, and the hull of their times and WAL records."""

    chains: tuple[Chain, ...]
    low_us: int
    high_us: int
    first: int
    last: int

    @property
    def size_bytes(self) -> int:
        return sum(map(_bytes, self.chains))

    @property
    def is_of_one_hour(self) -> bool:
        return self.low_us // HOUR_US == self.high_us // HOUR_US

    @property
    def created_us(self) -> int:
        return max(file.created_us for chain in self.chains for file in chain)


_Window = tuple[_Knot, ...]


def _knot(chains: Iterable[Chain]) -> _Knot:
    chains = tuple(sorted(chains, key=_age))
    files = [file for chain in chains for file in chain]
    return _Knot(
        chains,
        min(file.min_time_us for file in files),
        max(file.max_time_us for file in files),
        min(file.first_sequence for file in files),
        max(file.last_sequence for file in files),
    )


def _age(chain: Chain) -> tuple[int, int, int, int, str]:
    """The order of the WAL. What did not come from it (imports) is older than all that did, in the order it came."""
    return (
        max(file.last_sequence for file in chain),
        min(file.first_sequence for file in chain),
        max(file.epoch for file in chain),
        max(file.created_us for file in chain),
        chain[0].path,
    )


def _bytes(chain: Chain) -> int:
    return sum(file.size_bytes for file in chain)


def _chains(files: Sequence[FileEntry]) -> list[Chain]:
    parts: dict[str, list[tuple[int, str, FileEntry]]] = {}
    for file in files:
        name, part = chain_of(file.path)
        parts.setdefault(name, []).append((part, file.path, file))
    return [tuple(file for *_, file in sorted(group, key=lambda each: each[:2])) for _, group in sorted(parts.items())]


def _knots(files: Sequence[FileEntry]) -> list[_Knot]:
    """Connected components of "overlaps in time and in WAL records", oldest first."""
    singles = sorted((_knot([chain]) for chain in _chains(files)), key=_place)
    group = list(range(len(singles)))
    open_: list[int] = []
    for n, knot in enumerate(singles):
        # Sorted by their first record: who ended before this one begins meets none of those that follow.
        open_ = [m for m in open_ if singles[m].last >= knot.first]
        for m in open_:
            if _meet_in_time(singles[m], knot) and _root(group, m) != _root(group, n):
                group[_root(group, n)] = _root(group, m)
        open_.append(n)
    together: dict[int, list[Chain]] = {}
    for n, knot in enumerate(singles):
        together.setdefault(_root(group, n), []).extend(knot.chains)
    return sorted(map(_knot, together.values()), key=_place)


def _root(group: list[int], n: int) -> int:
    while group[n] != n:
        group[n] = group[group[n]]
        n = group[n]
    return n


def _place(knot: _Knot) -> tuple[int, int, int, str]:
    return knot.first, knot.last, knot.low_us, knot.chains[0][0].path


def _meet_in_time(a: _Knot, b: _Knot) -> bool:
    return a.low_us <= b.high_us and b.low_us <= a.high_us


class _Day:
    """The choice within one day. Lives for one call."""

    def __init__(self, knots: list[_Knot], config: CompactionConfig, now_us: int, busy: frozenset[str]) -> None:
        self._knots = knots
        self._config = config
        self._now_us = now_us
        self._ready = {id(knot) for knot in knots if self._is_ready(knot, busy)}
        self._taken: set[int] = set()

    def _is_ready(self, knot: _Knot, busy: frozenset[str]) -> bool:
        is_settled = knot.created_us + self._config.hourly_min_age_seconds * 1e6 <= self._now_us
        return is_settled and not any(file.path in busy for chain in knot.chains for file in chain)

    def hours(self, day: int) -> Iterator[tuple[Tier, int | None, _Window]]:
        config = self._config
        by_hour: dict[int, list[_Knot]] = {}
        for knot in self._knots:
            for hour in range(knot.low_us // HOUR_US, knot.high_us // HOUR_US + 1):
                by_hour.setdefault(hour, []).append(knot)
        for hour in range(day * 24, day * 24 + 24):
            if (hour + 1) * HOUR_US + config.hourly_min_age_seconds * 1e6 > self._now_us:
                break
            there = by_hour.get(hour, [])
            fit = {id(knot) for knot in there if knot.is_of_one_hour} & self._ready
            for window in self._choose(there, fit, config.hourly_min_files):
                yield "hourly", hour, window

    def whole(self) -> Iterator[tuple[Tier, int | None, _Window]]:
        config = self._config
        tier: Tier = "daily" if all(knot.is_of_one_hour for knot in self._knots) else "late"
        files_min = config.daily_min_files if tier == "daily" else config.late_min_files
        newest_us = max(knot.created_us for knot in self._knots)
        if newest_us + config.late_quiet_seconds * 1e6 <= self._now_us:
            files_min = 2
        for window in self._choose(self._knots, self._ready, files_min):
            yield tier, None, window

    def _choose(self, there: Sequence[_Knot], fit: Collection[int], files_min: int) -> Iterator[_Window]:
        """Windows of neighbours among ``there`` that are worth it. Who is not ``fit`` separates."""
        for is_fit, run in groupby(there, key=lambda knot: id(knot) in fit):
            if is_fit:
                yield from self._windows(tuple(run), fit, files_min)

    def _windows(self, run: _Window, fit: Collection[int], files_min: int) -> Iterator[_Window]:
        if sum(len(knot.chains) for knot in run) < files_min:
            return
        apart = self._too_large(run)
        if apart is not None:
            yield from self._windows(run[:apart], fit, files_min)
            yield from self._windows(run[apart + 1 :], fit, files_min)
            return
        is_small = len(run) == 1 or sum(len(knot.chains) for knot in run) <= CHAINS_MAX
        window = self._closed(run, fit) if is_small else None
        if window is not None:
            self._taken.update(map(id, window))
            yield window
        elif len(run) > 1:
            middle = len(run) // 2
            yield from self._windows(run[:middle], fit, files_min)
            yield from self._windows(run[middle:], fit, files_min)

    def _too_large(self, run: _Window) -> int | None:
        """The place of the one that is not worth to be written again for the others' sake."""
        sizes = [max(map(_bytes, knot.chains)) for knot in run]
        place = max(range(len(run)), key=sizes.__getitem__)
        rest = sum(knot.size_bytes for knot in run) - sizes[place]
        return place if sizes[place] > self._config.size_ratio * rest else None

    def _closed(self, run: _Window, fit: Collection[int]) -> _Window | None:
        """The window with all that lies between its records and within its time; None when that cannot be had."""
        window = {id(knot): knot for knot in run}
        if self._taken & window.keys():
            return None
        while True:
            hull = _knot(chain for knot in window.values() for chain in knot.chains)
            between = [
                knot
                for knot in self._knots
                if id(knot) not in window
                and _meet_in_time(knot, hull)
                and knot.first <= hull.last
                and knot.last >= hull.first
            ]
            if not between:
                whole = tuple(sorted(window.values(), key=_place))
                return whole if len(window) == len(run) or self._too_large(whole) is None else None
            if any(id(knot) not in fit or id(knot) in self._taken for knot in between):
                return None
            window.update((id(knot), knot) for knot in between)
