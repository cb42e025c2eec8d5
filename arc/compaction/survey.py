"""All files of the catalog, looked at for jobs cell by cell: a day with one file costs a look at its length."""

from __future__ import annotations

from arc.catalog.facts import Catalog
from arc.compaction.config import CompactionConfig
from arc.compaction.tiers import Job, plan_day, value


def plan_catalog(catalog: Catalog, config: CompactionConfig, now_us: int) -> list[Job]:
    """`tiers.plan` for everything there is. Files of more than one day are in a cell that is not looked at."""
    jobs: list[Job] = []
    for _, held in sorted(catalog.manifest.items()):
        for _, record in sorted(held.measurements.items()):
            for _, cell in sorted(record.days.items()):
                if len(cell) > 1:
                    jobs += plan_day(cell, config, now_us)
    return sorted(jobs, key=value)
