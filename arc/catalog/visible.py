"""The catalog as somebody sees it who may not see all: what he may not see is not there.

Names are looked up, listed and suggested from this view, so nothing that forgets to ask can tell of a hidden one. It
is as lazy as a lookup: nothing is copied, and only who lists a database looks at all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from arc.catalog.facts import Catalog
from arc.catalog.schemas import DatabaseFacts, Databases, MeasurementSchema


class Eyes(Protocol):
    """Who looks."""

    def sees(self, database: str) -> bool:
        """Whether anything in it may be read."""
        ...

    def reads(self, database: str, measurement: str) -> bool:
        """Whether its rows may be read."""
        ...


def visible(catalog: Catalog, eyes: Eyes) -> Catalog:
    """The same version without the databases and measurements that are hidden from these eyes."""
    return replace(catalog, databases=_Databases(catalog.databases, eyes))


class _Databases(Mapping[str, DatabaseFacts]):
    def __init__(self, every: Databases, eyes: Eyes) -> None:
        self._every = every
        self._eyes = eyes

    def __getitem__(self, name: str) -> DatabaseFacts:
        facts = self._every[name]
        if not self._eyes.sees(name):
            raise KeyError(name)
        return replace(facts, measurements=_Measurements(name, facts.measurements, self._eyes))

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._every if self._eyes.sees(name))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class _Measurements(Mapping[str, MeasurementSchema]):
    def __init__(self, database: str, every: Mapping[str, MeasurementSchema], eyes: Eyes) -> None:
        self._database = database
        self._every = every
        self._eyes = eyes

    def __getitem__(self, name: str) -> MeasurementSchema:
        schema = self._every[name]
        if not self._eyes.reads(self._database, name):
            raise KeyError(name)
        return schema

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._every if self._eyes.reads(self._database, name))

    def __len__(self) -> int:
        return sum(1 for _ in self)
