"""All batches of one request against one version of the catalog, asking for what it lacks until nothing is missing.

`schema.settle` says what one batch needs; here the catalog is asked to grant it. Everything is settled again after
each grant, so that what goes into the log was checked against a single version, with no await in between.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from arc.catalog.commands import Command, DeclareColumns, WidenColumn
from arc.catalog.fsm import Catalog
from arc.catalog.names import check_measurement_name
from arc.catalog.results import Result
from arc.errors import InvalidRequest, Unavailable
from arc.ingest.columns import Decoded, Refused
from arc.ingest.requests import AllRefused, WriteRequest
from arc.ingest.schema import SchemaSettler, Settled
from arc.ports import Clock

TRIES_MAX = 8
"""A write may find its schema changed by others this often before it is told to come back."""


_NOT_KNOWN = Refused(
    0, "", "it was refused when it was sent first; which line it was is not known any more, the schema has changed"
)


class Propose(Protocol):
    """Changes the catalog; `cluster.proposals`."""

    async def propose(self, command: Command) -> Result:
        """Have a command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True)
class Agreed:
    """Rows that fit the catalog, by measurement, and the lines that do not."""

    batches: tuple[tuple[str, Settled], ...]
    refused: tuple[Refused, ...]


class Settlement:
    """Settles requests. Holds nothing but a cache of request shapes."""

    def __init__(self, catalog: Callable[[], Catalog], propose: Propose, clock: Clock) -> None:
        self._catalog = catalog
        self._propose = propose
        self._clock = clock
        self._settler = SchemaSettler()

    async def settle(self, request: WriteRequest) -> Agreed:
        """Fit the request, extending the schema where that is allowed.

        Raises AllRefused when no row fits (or one does not, and the request is strict), Unavailable when the schema
        will not hold still.
        """
        named, misnamed = _check_names(request.decoded.batches)
        for _ in range(TRIES_MAX):
            catalog = self._catalog()
            settled = [(b, self._settler.settle(b, catalog.schema(request.database, b.measurement))) for b in named]
            refused = [*request.decoded.refused, *misnamed, *(line for _, one in settled for line in one.refused)]
            refused.sort(key=lambda line: line.line)
            stored = [(b.measurement, one) for b, one in settled if one.batch.num_rows]
            if refused and (request.strict or not stored):
                # Before anything is declared: a request that is refused whole changes nothing.
                raise AllRefused(tuple(refused))
            wanted = self._wanted(request.database, stored)
            if not wanted:
                return Agreed(tuple(stored), tuple(refused))
            for command in wanted:
                # A refusal means that somebody was faster; the next round settles with what they declared.
                await self._propose.propose(command)
        raise Unavailable(
            f"the schema of a measurement in {request.database} kept changing during this write; nothing was stored",
            code="schema_churn",
        )

    def refused_again(self, request: WriteRequest, stored_rows: int) -> tuple[Refused, ...]:
        """The lines that were refused when ``stored_rows`` rows of this request were stored, for one who asks again.

        Those that do not fit are the same as then, unless the schema has changed: then they are counted.
        """
        named, misnamed = _check_names(request.decoded.batches)
        catalog = self._catalog()
        fits = (self._settler.settle(each, catalog.schema(request.database, each.measurement)) for each in named)
        misfits = [line for one in fits for line in one.refused]
        lacking = sum(each.rows for each in named) - stored_rows
        if len(misfits) != lacking:
            misfits = [_NOT_KNOWN] * lacking
        return tuple(sorted([*request.decoded.refused, *misnamed, *misfits], key=lambda line: line.line))

    def _wanted(self, database: str, stored: list[tuple[str, Settled]]) -> list[Command]:
        wanted: list[Command] = []
        for measurement, one in stored:
            wanted.extend(WidenColumn(database=database, measurement=measurement, column=name) for name in one.widen)
            if one.declare or self._catalog().schema(database, measurement) is None:
                wanted.append(
                    DeclareColumns(
                        database=database,
                        measurement=measurement,
                        columns=one.declare,
                        created_us=self._clock.wall_us(),
                    )
                )
        return wanted


def _check_names(batches: tuple[Decoded, ...]) -> tuple[list[Decoded], list[Refused]]:
    """Batches whose measurement may have its name, and every row of the others as refused."""
    named: list[Decoded] = []
    refused: list[Refused] = []
    for batch in batches:
        try:
            check_measurement_name(batch.measurement)
        except InvalidRequest as error:
            lines = range(1, batch.rows + 1) if batch.lines is None else batch.lines.to_pylist()
            refused.extend(Refused(line, batch.measurement[:120], error.message) for line in lines)
        else:
            named.append(batch)
    return named, refused
