"""What a merged file is called: ``<epoch>-<job>-<node>@<tier>.<part>.parquet``, in the first hour folder of its rows.

Epoch, job and node make two compactors differ, also two lives of one; the epoch stands where flushed files have it, so
whoever collects leftovers reads it as theirs (`storage.paths.epoch_of`). No quoted name of a node has an ``@``, so a
merged file is never taken for a flushed one.

Files that one job wrote are a *chain*: in the order of their parts they are one sorted run, read as one.
"""

from __future__ import annotations

import re

from arc.storage.paths import hour_folder, hour_of, quote_part

JOBS = 10**14
"""Numbers of jobs lie below this: as many digits as the sequence in the name of a flushed file."""

_MERGED = re.compile(r"(?P<chain>[0-9]{10,}-[0-9]{14}-[^@/]+@(?P<tier>[a-z]+))\.(?P<part>[0-9]{4,})\.parquet")


def merged_path(
    database: str, measurement: str, min_time_us: int, *, epoch: int, job: int, node: str, tier: str, part: int
) -> str:
    """The path of one output."""
    assert 0 <= job < JOBS, job
    folder = hour_folder(database, measurement, hour_of(min_time_us))
    return f"{folder}/{epoch:010d}-{job:014d}-{quote_part(node)}@{tier}.{part:04d}.parquet"


def chain_of(path: str) -> tuple[str, int]:
    """The chain that a file belongs to, and its place there. A file that was not merged is a chain of its own."""
    match = _MERGED.fullmatch(path.rpartition("/")[2])
    return (path, 0) if match is None else (match["chain"], int(match["part"]))


def tier_of(path: str) -> str:
    """The tier that wrote a file; empty for one that was not merged."""
    match = _MERGED.fullmatch(path.rpartition("/")[2])
    return "" if match is None else match["tier"]
