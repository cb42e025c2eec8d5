"""The small values that commands carry and the catalog keeps."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("tag", "float", "integer", "unsigned", "boolean", "string")
"""What a column may be; the values of `arc.ingest.columns.Kind`."""

WRITER = "writer"
"""The lease whose holder accepts writes and flushes."""

COMPACTOR = "compactor"
"""The lease whose holder merges files."""

LEASES = (WRITER, COMPACTOR)


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """One column: its exact name and one of `KINDS`."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class FlushMark:
    """Every WAL record of this measurement up to ``sequence`` is in files of the manifest."""

    database: str
    measurement: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteSource:
    """A file that went into an output, or is too old. ``reason`` is for people: ``compaction:<job>``."""

    path: str
    reason: str
