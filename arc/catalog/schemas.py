"""Databases, measurements and their columns: which names exist and what type each one has, for ever.

A column gets its type at first sight and keeps it; the one change allowed is integer to float, by its own command. Two
columns of a measurement may not differ by case alone, because SQL could not tell them apart. ``time`` is implied and
never listed.

This file holds the values and their part of the state machine. It knows nothing of files: what a dropped database does
to the manifest is `manifest`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from arc.catalog.values import KINDS, ColumnSchema


@dataclass(frozen=True, slots=True)
class MeasurementSchema:
    """The columns of one measurement in the order they were first seen.

    ``version`` is the index of the command that made this schema, so it differs for every schema that ever was, also
    when a database is dropped and made again: a cache may use it as its key. ``tags`` and ``fields`` are names in
    column order.
    """

    columns: Mapping[str, ColumnSchema]
    version: int
    tags: tuple[str, ...] = field(init=False, compare=False, repr=False)
    fields: tuple[str, ...] = field(init=False, compare=False, repr=False)
    _folded: Mapping[str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        columns = dict(self.columns)
        derive = object.__setattr__
        derive(self, "columns", MappingProxyType(columns))
        derive(self, "tags", tuple(c.name for c in columns.values() if c.kind == "tag"))
        derive(self, "fields", tuple(c.name for c in columns.values() if c.kind != "tag"))
        derive(self, "_folded", {name.casefold(): name for name in columns})

    def get(self, name: str) -> ColumnSchema | None:
        """The column of exactly this name."""
        return self.columns.get(name)

    def find_ignoring_case(self, name: str) -> ColumnSchema | None:
        """The column whose name equals ``name`` when case is ignored (Unicode case folding)."""
        found = self._folded.get(name.casefold())
        return None if found is None else self.columns[found]


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One database and its measurements by name."""

    name: str
    created_us: int
    measurements: Mapping[str, MeasurementSchema] = field(default_factory=lambda: MappingProxyType({}))


__all__ = ["KINDS", "ColumnSchema", "DatabaseFacts", "MeasurementSchema"]
