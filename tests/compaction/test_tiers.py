"""What is merged next: what is ready, what is worth it, and never so that the order of the WAL is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log2
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.catalog.cells import DAY_US, HOUR_US, parse_path
from arc.compaction.config import CompactionConfig
from arc.compaction.names import chain_of, merged_path, tier_of
from arc.compaction.survey import plan_catalog
from arc.compaction.tiers import Job, plan
from arc.storage.files import FileEntry
from arc.storage.paths import epoch_of
from tests.catalog.facts import file
from tests.compaction.catalogs import catalog_of

C = CompactionConfig()
LATER = 40 * DAY_US
S = 1_000_000


def flushed(n: int, hour: int, *, size: int = 1000, created: int = 5, database: str = "metrics") -> FileEntry:
    """The n-th flush's file for an hour."""
    return replace(
        file(f"{1:010d}-{n:014d}-n1", hour=hour, first=n, last=n, database=database),
        size_bytes=size,
        created_us=created,
    )


def of_hour(count: int, hour: int = 3, start: int = 1, **more: int) -> list[FileEntry]:
    return [flushed(n, hour, **more) for n in range(start, start + count)]


def applied(files: Sequence[FileEntry], job: Job, number: int, now_us: int, parts: int = 1) -> list[FileEntry]:
    """The files after a job whose output is as large as its sources."""
    gone = {entry.path for entry in job.sources}
    low, high = min(f.min_time_us for f in job.sources), max(f.max_time_us for f in job.sources)
    outputs = [
        replace(
            job.sources[0],
            path=merged_path("metrics", "cpu", low, epoch=9, job=number, node="n2", tier=job.tier, part=part),
            size_bytes=max(1, job.size_bytes // parts),
            min_time_us=low,
            max_time_us=high,
            first_sequence=min(f.first_sequence for f in job.sources),
            last_sequence=max(f.last_sequence for f in job.sources),
            created_us=now_us,
        )
        for part in range(parts)
    ]
    return [entry for entry in files if entry.path not in gone] + outputs


def paths(job: Job) -> list[str]:
    return [entry.path for entry in job.sources]


def test_names_tell_chain_tier_and_epoch_and_are_paths_of_the_catalog() -> None:
    path = merged_path("d b", "m/1", 3 * HOUR_US, epoch=12, job=7, node="a-b@c.x", tier="late", part=2)
    assert path == "d%20b/m%2F1/1970/01/01/03/0000000012-00000000000007-a-b%40c.x@late.0002.parquet"
    assert parse_path(path) is not None and epoch_of(path) == 12 and tier_of(path) == "late"
    assert chain_of(path) == ("0000000012-00000000000007-a-b%40c.x@late", 2)
    odd = f"d/m/1970/01/01/03/{1:010d}-{2:014d}-x.daily.0001.parquet"
    assert chain_of(odd) == (odd, 0) and tier_of(odd) == ""


HOUR_3_ENDS = 4 * HOUR_US


@pytest.mark.parametrize(
    ("config", "files", "now_us", "jobs"),
    [
        (C, of_hour(4), HOUR_3_ENDS + 1800 * S, 1),
        (C, of_hour(4), HOUR_3_ENDS + 1800 * S - 1, 0),
        (replace(C, hourly_min_age_seconds=60), of_hour(4), HOUR_3_ENDS + 60 * S, 1),
        (C, of_hour(3), HOUR_3_ENDS + 1800 * S, 0),
        (replace(C, hourly_min_files=3), of_hour(3), HOUR_3_ENDS + 1800 * S, 1),
        (C, of_hour(4, created=5 * HOUR_US), 5 * HOUR_US + 1800 * S - 1, 0),
        (C, [flushed(1, 3, size=3001), *of_hour(3, start=2)], HOUR_3_ENDS + 1800 * S, 0),
        (replace(C, size_ratio=2.0), [flushed(1, 3, size=3001), *of_hour(3, start=2)], HOUR_3_ENDS + 1800 * S, 1),
    ],
)
def test_an_hour_is_merged_when_it_is_over_and_enough_came(
    config: CompactionConfig, files: list[FileEntry], now_us: int, jobs: int
) -> None:
    found = plan(files, config, now_us)
    assert [(job.tier, job.hour) for job in found] == [("hourly", 3)] * jobs
    assert all(sorted(paths(job)) == sorted(entry.path for entry in files) for job in found)


HOURS = [flushed(hour + 1, hour) for hour in range(6)]
DAY_MERGED = replace(file("m", first=1, last=9, span_us=(0, DAY_US - 1)), size_bytes=50_000, created_us=5)


@pytest.mark.parametrize(
    ("config", "files", "now_us", "tiers"),
    [
        (C, HOURS, DAY_US + 3600 * S, ["daily"]),
        (C, HOURS, DAY_US + 3600 * S - 1, []),
        (replace(C, daily_min_age_seconds=10), HOURS, DAY_US + 10 * S, ["daily"]),
        (replace(C, daily_min_files=7, late_quiet_seconds=1e9), HOURS, DAY_US + 3600 * S, []),
        (replace(C, daily_min_files=7), HOURS, DAY_US + 86400 * S, ["daily"]),
        (C, [DAY_MERGED, *(flushed(n, n % 9, created=DAY_US) for n in range(10, 14))], DAY_US + 3600 * S, ["late"]),
        (C, [DAY_MERGED, *(flushed(n, n % 9, created=DAY_US) for n in range(10, 13))], DAY_US + 3600 * S, []),
        (
            replace(C, late_min_files=3),
            [DAY_MERGED, *(flushed(n, n % 9, created=DAY_US) for n in range(10, 13))],
            DAY_US + 3600 * S,
            ["late"],
        ),
        (C, [DAY_MERGED, *(flushed(n, 2, created=DAY_US) for n in (10, 11))], 2 * DAY_US, ["late"]),
        (
            replace(C, late_quiet_seconds=90_000),
            [DAY_MERGED, *(flushed(n, 2, created=DAY_US) for n in (10, 11))],
            2 * DAY_US,
            [],
        ),
        (C, [DAY_MERGED, flushed(10, 2)], LATER, []),
    ],
)
def test_a_day_is_merged_when_it_is_over_and_late_files_among_themselves(
    config: CompactionConfig, files: list[FileEntry], now_us: int, tiers: list[str]
) -> None:
    found = plan(files, config, now_us)
    assert [job.tier for job in found] == tiers
    assert all(DAY_MERGED.path not in paths(job) for job in found), "a large file is written again for small ones"


def test_a_busy_file_keeps_jobs_away_and_parts_of_a_job_are_one_run() -> None:
    assert plan(HOURS, C, LATER, busy=[HOURS[0].path, HOURS[5].path]) != plan(HOURS, C, LATER)
    assert all(HOURS[2].path not in paths(job) for job in plan(HOURS, C, LATER, busy=[HOURS[2].path]))
    (job,) = plan(HOURS, C, LATER)
    files = applied(HOURS, job, 1, 0, parts=3)
    more = [flushed(n, 2, size=6000) for n in range(20, 22)]
    (job,) = plan([*more, *files], C, LATER)
    assert [len(chain) for chain in job.chains] == [3, 1, 1]
    assert [entry.last_sequence for entry in job.sources] == [6, 6, 6, 20, 21]


def test_neighbours_in_the_order_of_the_log_are_not_jumped_over() -> None:
    """n=2 is too young to be merged; what is older and younger than it in its hour must not become one file."""
    files = [flushed(1, 3), flushed(2, 3, created=LATER), flushed(3, 3)]
    assert plan(files, replace(C, late_quiet_seconds=0), LATER) == []


def test_the_most_files_for_the_fewest_bytes_come_first() -> None:
    big = [flushed(n, 30, size=100 << 20) for n in range(1, 5)]
    few = [flushed(n, 55, size=1 << 20) for n in range(1, 5)]
    many = [flushed(n, 80, size=1 << 20, database="other") for n in range(1, 9)]
    assert [job.day for job in plan([*big, *few, *many], C, LATER)] == [3, 2, 1]


ARRIVALS = st.lists(st.tuples(st.integers(0, 23), st.integers(1, 5000), st.integers(1, 3)), min_size=2, max_size=60)


@settings(max_examples=150, deadline=None)
@given(ARRIVALS, st.sampled_from([0.5, 1.0, 2.0]), st.randoms(use_true_random=False))
def test_jobs_share_no_file_keep_order_end_and_write_a_row_again_rarely(arrivals, ratio, chance) -> None:  # type: ignore[no-untyped-def]
    """Model: files come in any hour; now and then everything that may be merged is. In the end little is left, and each
    byte was written again at most as often as its file can grow by the ratio."""
    config = replace(C, size_ratio=ratio, late_min_files=2, daily_min_files=2, hourly_min_files=2)
    files: list[FileEntry] = []
    generation: dict[str, int] = {}
    number, now = 0, LATER
    for n, (hour, size, width) in enumerate(arrivals, 1):
        for place in range(1 + size % 4):  # one flush may touch several hours
            entry = flushed(n, (hour + place) % 24, size=size * (1 + place * place), created=now)
            files.append(replace(entry, first_sequence=10 * n, last_sequence=10 * n + width))
        now += 3600 * S
        while chance.random() < 0.7 or n == len(arrivals):
            jobs = plan(files, config, now)
            shuffled = files.copy()
            chance.shuffle(shuffled)
            assert plan(shuffled, config, now) == jobs
            used = [path for job in jobs for path in paths(job)]
            assert len(used) == len(set(used))
            if not jobs:
                break
            job = jobs[0]
            number += 1
            sizes = [sum(f.size_bytes for f in chain) for chain in job.chains]
            assert len(sizes) > 1 and max(sizes) <= ratio * (sum(sizes) - max(sizes))
            _require_neighbours(files, job)
            parts = 1 + number % 3
            after = applied(files, job, number, now, parts)
            depth = 1 + max(generation.get(path, 0) for path in paths(job))
            generation.update((f.path, depth) for f in after if f not in files)
            assert depth <= 1 + log2(sum(map(size_of, files)) + 60) / log2(1 + 1 / ratio)
            files, now = after, now + 3600 * S
    assert plan(files, config, now) == []


def size_of(entry: FileEntry) -> int:
    return entry.size_bytes


def _require_neighbours(files: Sequence[FileEntry], job: Job) -> None:
    inside = set(paths(job))
    low, high = min(f.min_time_us for f in job.sources), max(f.max_time_us for f in job.sources)
    first, last = min(f.first_sequence for f in job.sources), max(f.last_sequence for f in job.sources)
    for other in files:
        if other.path not in inside and other.min_time_us <= high and other.max_time_us >= low:
            assert other.last_sequence < first or other.first_sequence > last, "rows would lose their order"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"hourly_min_files": 1}, "at least 2"),
        ({"daily_min_files": 0}, "at least 2"),
        ({"late_min_files": 1}, "at least 2"),
        ({"size_ratio": 0.0}, "0.1 to 10"),
        ({"target_file_bytes": 1 << 10}, "at least 1MiB"),
        ({"memory_bytes": 1 << 20}, "at least 32MiB"),
        ({"poll_seconds": 0.0}, "above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        CompactionConfig(**settings)


def test_a_file_of_two_days_is_nobodys_in_the_walk_over_the_catalog_too() -> None:
    wide = replace(flushed(9, 23), max_time_us=DAY_US + 5)
    jobs = plan_catalog(catalog_of([*of_hour(8), wide]), C, LATER)
    assert jobs and all(wide.path not in paths(job) for job in jobs)
    assert jobs == plan([*of_hour(8), wide], C, LATER)


def test_files_that_others_still_replace_are_left_alone() -> None:
    entries = of_hour(9)
    names = {entry.path for entry in entries[:2]}
    jobs = plan_catalog(catalog_of(entries), C, LATER, lambda catalog: lambda entry: entry.path in names)
    assert jobs and jobs == plan(entries[2:], C, LATER)
    assert plan_catalog(catalog_of(entries), C, LATER, lambda catalog: lambda entry: True) == []


def test_what_is_left_alone_is_not_jumped_over_either() -> None:
    """A file that others will still replace stands between its neighbours, as one does that is too young."""
    entries = of_hour(9)
    left = entries[4]
    jobs = plan_catalog(catalog_of(entries), C, LATER, lambda catalog: lambda entry: entry == left)
    assert [paths(job) for job in jobs] == [[f.path for f in entries[:4]], [f.path for f in entries[5:]]]
