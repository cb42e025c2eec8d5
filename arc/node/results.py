"""Results of continuous queries brought where rows go: the shape by the rules of ingestion, the files by those of a
flush. The departments never meet; here the one's rows are handed to the other's tools.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import pyarrow as pa

from arc.catalog.facts import Catalog
from arc.errors import InvalidRequest
from arc.ids import NodeId
from arc.ingest.requests import AllRefused, WriteRequest
from arc.ingest.settlement import Propose, Settlement
from arc.ingest.tabular import decode_table
from arc.ingest.writing import write_files
from arc.ports import Ports
from arc.storage.files import FileEntry
from arc.storage.shelf import Shelf


class ResultRows:
    """The one `continuous.ports.Results` there is. ``shelf`` is the store that all nodes share, None without."""

    def __init__(
        self, catalog: Callable[[], Catalog], propose: Propose, *, node: NodeId, ports: Ports, shelf: Shelf | None
    ) -> None:
        self._settlement = Settlement(catalog, propose, ports.clock)
        self._node = node
        self._ports = ports
        self._shelf = shelf

    def __repr__(self) -> str:
        return f"<ResultRows of {self._node}>"

    async def fit(
        self, database: str, measurement: str, rows: pa.Table, tags: Collection[str]
    ) -> tuple[pa.RecordBatch, ...]:
        """See `continuous.ports.Results`."""
        request = await self._ports.workers.run(lambda: decode_table(rows, measurement=measurement, tags=tags))
        try:
            agreed = await self._settlement.settle(WriteRequest(database=database, decoded=request, strict=True))
        except AllRefused as refused:
            first = refused.refused[0]
            raise InvalidRequest(
                f"a row of the result does not fit {database}.{measurement}: {first.reason}; "
                f"{len(refused.refused)} rows are so"
            ) from refused
        return tuple(settled.batch for _, settled in agreed.batches)

    async def write(
        self,
        batches: tuple[pa.RecordBatch, ...],
        path_of: Callable[[int], str],
        *,
        database: str,
        measurement: str,
        epoch: int,
    ) -> Sequence[FileEntry]:
        """See `continuous.ports.Results`."""

        def write() -> list[FileEntry]:
            return list(
                write_files(
                    batches,
                    lambda file: path_of(file.hour),
                    database=database,
                    measurement=measurement,
                    first=0,
                    last=0,
                    node=self._node,
                    epoch=epoch,
                    now_us=self._ports.clock.wall_us(),
                    disk=self._ports.disk,
                    shelf=self._shelf,
                )
            )

        entries = await self._ports.workers.run(write)
        if self._shelf is not None:
            for entry in entries:
                self._shelf.note(entry.path)
        return entries
