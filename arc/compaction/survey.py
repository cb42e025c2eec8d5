"""All files of the catalog, looked at for jobs cell by cell: a day with one file costs a look at its length."""

from __future__ import annotations

from collections.abc import Callable

from arc.catalog.facts import Catalog
from arc.compaction.config import CompactionConfig
from arc.compaction.tiers import Job, plan_day, value
from arc.storage.files import FileEntry

Leaves = Callable[[Catalog], Callable[[FileEntry], bool]]
"""Of one version of the catalog: which files others will still replace as they are, so that they are not merged."""


def none_left(catalog: Catalog) -> Callable[[FileEntry], bool]:
    """All files may be merged."""
    return lambda entry: False


def plan_catalog(catalog: Catalog, config: CompactionConfig, now_us: int, leaves: Leaves = none_left) -> list[Job]:
    """`tiers.plan` for everything there is. Files of more than one day are in a cell that is not looked at."""
    is_left = leaves(catalog)
    jobs: list[Job] = []
    for _, held in sorted(catalog.manifest.items()):
        for _, record in sorted(held.measurements.items()):
            for _, cell in sorted(record.days.items()):
                if len(cell) > 1:
                    # Not out of sight: nothing may be merged across them either.
                    jobs += plan_day(cell, config, now_us, busy=[entry.path for entry in cell if is_left(entry)])
    return sorted(jobs, key=value)
