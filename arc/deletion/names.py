"""What a file is called that rows were deleted from: ``<epoch>-<job>-<node>@deleted.parquet``, or with the tier of a
merged file in the place of ``deleted``, and a part; in the folder of the file it replaces.

Epoch, job and node never repeat together. The epoch stands where flushed files have it, so whoever collects leftovers
reads it as theirs. No quoted name of a node has an ``@``, so none of these is taken for a flushed file, which could be
written again from the log with the rows that were deleted. What was merged stays merged, as a chain of its own.
"""

from __future__ import annotations

import re

from arc.storage.paths import quote_part

JOBS = 10**14
"""Numbers of jobs lie below this: as many digits as the sequence in the name of a flushed file."""

_TIER = re.compile(r"@([a-z]+)\.[0-9]{4,}\.parquet$")


def rewritten_path(path: str, *, epoch: int, job: int, node: str) -> str:
    """The path of the file that takes the place of ``path``."""
    assert 0 <= job < JOBS, job
    merged = _TIER.search(path)
    ending = f"{merged[1]}.0000" if merged is not None else "deleted"
    return f"{path.rpartition('/')[0]}/{epoch:010d}-{job:014d}-{quote_part(node)}@{ending}.parquet"
