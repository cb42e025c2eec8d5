"""Continuous queries made, changed and deleted, on any node: each change is one entry of the catalog's log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from arc.catalog.commands import WRITER, Command, DropPolicy, PutPolicy, RegisterFiles
from arc.catalog.facts import Catalog
from arc.continuous import definition, progress
from arc.continuous.definition import ContinuousQuery
from arc.continuous.ports import Propose
from arc.errors import Unavailable


async def put(
    propose: Propose,
    catalog: Catalog,
    query: ContinuousQuery,
    *,
    now_us: int,
    is_new: bool,
    beside: Sequence[PutPolicy] = (),
) -> ContinuousQuery:
    """Make or change a query, and set what belongs to it with it; as it stands then.

    Raises InvalidRequest, NotFound (no such database), Conflict (the name is taken, or it was changed meanwhile),
    TooLarge, Unavailable, OutcomeUnknown.
    """
    definition.check_new(catalog, query)
    at_us = max(now_us, query.updated_us + 1)
    own = PutPolicy(
        kind=definition.KIND,
        name=str(query.id),
        body=definition.body_of(query),
        at_us=at_us,
        expect_us=0 if is_new else query.updated_us,
        title=query.name,
    )
    command: Command = own
    if beside:
        epoch = catalog.lease_epoch(WRITER)
        if not epoch:
            raise Unavailable("nobody holds the writer lease: a query with retention can not be set now")
        command = RegisterFiles(files=(), epoch=epoch, policies=(own, *beside))
    (await propose.propose(command)).unwrap()
    return replace(query, updated_us=at_us)


async def drop(propose: Propose, catalog: Callable[[], Catalog], query_id: int) -> None:
    """Delete a query and what is known of its windows; its results stay.

    Raises NotFound, Unavailable, OutcomeUnknown.
    """
    name = str(query_id)
    (await propose.propose(DropPolicy(kind=definition.KIND, name=name))).unwrap()
    if (progress.KIND, name) in catalog().policies:  # Nothing can add to it any more: results expect the query.
        await propose.propose(DropPolicy(kind=progress.KIND, name=name))
