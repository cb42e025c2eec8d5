"""What continuous queries ask of their neighbours. Whoever wires them gives what fits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pyarrow as pa

from arc.catalog.commands import Command
from arc.catalog.results import Result
from arc.ids import NodeId
from arc.storage.files import FileEntry


class Propose(Protocol):
    """Changes the catalog; `cluster.proposals`."""

    async def propose(self, command: Command) -> Result:
        """Have a command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


class Answer(Protocol):
    """The result of one statement."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns, of the engine's own types."""
        ...

    def batches(self) -> AsyncIterator[pa.RecordBatch]:
        """Its rows, once."""
        ...


class Queries(Protocol):
    """Answers statements over all rows that this node sees now: `query.service.QueryService`."""

    def open(
        self, sql: str, *, database: str | None, timeout_seconds: float | None
    ) -> AbstractAsyncContextManager[Answer]:
        """Run one. Entering raises InvalidRequest, Overloaded, TimedOut, Conflict (cancelled), Unavailable."""
        ...

    async def estimate(self, sql: str, *, database: str | None, timeout_seconds: float | None) -> int:
        """How many rows it returns. Raises as `open` does."""
        ...


class Results(Protocol):
    """Brings rows of a result to the shape and the place in which rows are stored here."""

    async def fit(
        self, database: str, measurement: str, rows: pa.Table, tags: Collection[str]
    ) -> tuple[pa.RecordBatch, ...]:
        """The rows as the measurement has them; columns it lacks are declared. ``rows`` have a column ``time``.

        Raises InvalidRequest when any row does not fit, Unavailable.
        """
        ...

    async def write(
        self,
        batches: tuple[pa.RecordBatch, ...],
        path_of: Callable[[int], str],
        *,
        database: str,
        measurement: str,
        epoch: int,
    ) -> Sequence[FileEntry]:
        """Store them, a file for each hour (counted from 1970 UTC), durable on return. Raises OSError, Unavailable."""
        ...


class Files(Protocol):
    """This node's files: `storage.keeper.FileKeeper`."""

    def pin(self, paths: Sequence[str]) -> None:
        """Leave these files alone."""
        ...

    def unpin(self, paths: Sequence[str]) -> None:
        """End one `pin`."""
        ...

    def came(self, path: str) -> None:
        """A file was written whole."""
        ...

    def left(self, paths: Sequence[str]) -> None:
        """Files are to go, once nobody reads them."""
        ...


class Copies(Protocol):
    """Sees to copies of files that the manifest does not have yet; shaped like `compaction.ports.Copies`."""

    async def spread(self, entries: Sequence[FileEntry]) -> Sequence[NodeId]:
        """Return who has all of them, when enough nodes have. Raises Unavailable."""
        ...
