"""``retention_days`` and ``delete_source_after_days`` of a continuous query, as the retention policies that they are.

They have the query's id and the next one, are set in the same entry of the log as the query, and can be looked at and
changed like any other. They go with the query: what is kept for ever by mistake can still be deleted, the other way
round not.
"""

from __future__ import annotations

from arc.api.deps import Proposer
from arc.catalog.commands import DropPolicy, PutPolicy
from arc.catalog.fsm import Catalog
from arc.compaction import retention
from arc.compaction.retention import RetentionPolicy
from arc.continuous.definition import ContinuousQuery

_NAME_CHARS_MAX = retention.NAME_CHARS_MAX - len(": results")


def beside(query: ContinuousQuery, now_us: int) -> tuple[PutPolicy, ...]:
    """The policies that the query asks for."""
    wishes = (
        (query.id, "results", query.destination, query.retention_days),
        (query.id + 1, "sources", query.source, query.delete_source_after_days),
    )
    return tuple(
        PutPolicy(
            kind=retention.KIND,
            name=str(number),
            body=retention.body_of(
                RetentionPolicy(
                    id=number,
                    name=f"{query.name[:_NAME_CHARS_MAX]}: {what}",
                    database=query.database,
                    measurement=measurement,
                    retention_days=days,
                    buffer_days=0,
                    is_active=True,
                    created_us=now_us,
                    updated_us=0,
                )
            ),
            at_us=now_us,
        )
        for number, what, measurement, days in wishes
        if days is not None
    )


async def forget(proposer: Proposer, catalog: Catalog, query: ContinuousQuery, *, kept: ContinuousQuery | None) -> None:
    """Drop the policies that a query had asked for and does not any more. Raises Unavailable, OutcomeUnknown."""
    had = (query.retention_days, query.delete_source_after_days)
    has = (kept.retention_days, kept.delete_source_after_days) if kept is not None else (None, None)
    for number, before, after in zip((query.id, query.id + 1), had, has, strict=True):
        if before is not None and after is None and retention.find(catalog, number) is not None:
            await proposer.propose(DropPolicy(kind=retention.KIND, name=str(number)))
            if retention.runs(catalog, number):
                await proposer.propose(DropPolicy(kind=retention.RUNS_KIND, name=str(number)))
