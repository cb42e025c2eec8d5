"""What deleting asks of its neighbours. Whoever wires it gives what fits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from arc.catalog.commands import Command
from arc.catalog.results import Result
from arc.catalog.schemas import MeasurementSchema
from arc.ids import NodeId
from arc.storage.files import FileEntry


class Propose(Protocol):
    """Changes the catalog; `cluster.proposals`."""

    async def propose(self, command: Command) -> Result:
        """Have a command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


class Hold(Protocol):
    """Rows that are kept out; `ingest.holds.Hold`."""

    @property
    def through(self) -> int:
        """The last record that was given out before."""
        ...

    def release(self) -> None:
        """Let rows in again."""
        ...


class Reign(Protocol):
    """The writer lease while this node holds it; `duties.reign.Reign`."""

    @property
    def epoch(self) -> int:
        """Of the lease."""
        ...

    async def confirm(self) -> None:
        """Return once the cluster has confirmed that this reign stood when this was called. Raises Unavailable."""
        ...

    async def flush_rows(self, database: str, measurement: str) -> int:
        """A record: all that anybody was told to be stored lies below or at it, and what of it is of this measurement
        is in files on return. Raises Unavailable.
        """
        ...

    async def hold_rows(self, database: str, measurement: str | None) -> Hold:
        """Keep rows out; those that were let in before are in files. Raises Unavailable."""
        ...


class Writer(Protocol):
    """The rows of this node; `duties.WriterDuty`."""

    def require_reign(self) -> Reign:
        """Raises Unavailable when this node does not hold the lease."""
        ...


class Condition(Protocol):
    """A condition on rows; `query.predicate.Condition`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that it reads; a condition on none is about all rows or none."""
        ...

    @property
    def low_us(self) -> int | None:
        """No row before this moment matches."""
        ...

    @property
    def high_us(self) -> int | None:
        """No row behind this moment matches."""
        ...

    def matches(self, rows: pa.Table) -> np.ndarray:
        """For each row whether the condition is TRUE. Blocks. Raises InvalidRequest, Overloaded."""
        ...


class Conditions(Protocol):
    """`query.predicate.Conditions`. Blocks."""

    def parse(self, where: str, measurement: str, schema: MeasurementSchema, now_us: int) -> Condition:
        """Raises InvalidRequest."""
        ...


class Copies(Protocol):
    """Sees to copies of files that the manifest does not have yet; shaped like `compaction.ports.Copies`."""

    async def spread(self, entries: Sequence[FileEntry]) -> Sequence[NodeId]:
        """Return who has all of them, when every node has that answers queries and can be reached, and at least as many
        as the replication factor. Raises Unavailable."""
        ...


class Files(Protocol):
    """This node's files: `storage.keeper.FileKeeper`."""

    @property
    def changes(self) -> int:
        """Grows with every file that comes or goes."""
        ...

    def is_here(self, path: str) -> bool:
        """Whether the whole file is on this disk."""
        ...

    def pin(self, paths: Sequence[str]) -> None:
        """Keep these files on the disk."""
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

    async def wait_changed(self, seen: int) -> int:
        """Return `changes` once it is another."""
        ...


class Ask(Protocol):
    """`cluster.calls.Calls.call`."""

    async def __call__(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """The answer. Raises Unavailable, OutcomeUnknown, and what was raised there."""
        ...
