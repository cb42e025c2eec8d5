"""Trees of numbers: what ``statistics()`` returns, flattened into named samples.

Every long-lived object returns a frozen dataclass from ``statistics()``, nested like the objects themselves; status
pages and ``/metrics`` read the same tree. Writing the Prometheus text is left to `arc.api`, which has a library for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """How values spread.

    ``counts[i]`` values lie above ``bounds[i - 1]`` and at or below ``bounds[i]``; the last count takes the rest.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """How many values were seen."""
        return sum(self.counts)


LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. From a query's floor (1 ms) to the point where clients give up (30 s)."""

DISK_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Seconds that a durable write takes: from a log device with a cache of its own (0.1 ms) to a disk that is about to
fail. 10 and 25 ms are where a log begins to hold up its cluster (etcd alarms there, too).
"""

LONG_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds of what happens seldom and is waited for: a hand-over (some tenths to two seconds), a snapshot."""


class Histogram:
    """Counts values into fixed buckets; ``statistics()`` gives a `Distribution`."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float] = LATENCY_BOUNDS) -> None:
        assert list(bounds) == sorted(set(bounds)), "bounds must grow"
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def statistics(self) -> Distribution:
        """Return the counts so far."""
        return Distribution(bounds=self._bounds, counts=tuple(self._counts), sum=self._sum)


Kind = Literal["counter", "gauge", "info", "histogram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One named number. ``value`` is a `Distribution` exactly when ``kind`` is ``histogram``."""

    name: str
    value: int | float | Distribution
    labels: Mapping[str, str]
    kind: Kind


def flatten(tree: object, *, prefix: str = "arc") -> list[Sample]:
    """Name every number of a statistics tree: ``arc_<path>_<field>``.

    - a number is a gauge, or a counter when its field ends in ``_total``; a bool is 0 or 1; None is left out
    - a nested dataclass adds its field name to the path
    - a mapping adds a label, named by the field's ``metadata["label"]`` (else ``name``), over numbers or dataclasses;
      a mapping of mappings adds two, named ``"outer,inner"``
    - text or an enum is ``<name>_info`` with the value as label and 1 as number
    - a `Distribution` is a histogram
    - lists and tuples are for status pages and have no sample

    Raises TypeError for anything else, naming the path: a statistic that nobody can see is a mistake.
    """
    assert is_dataclass(tree), f"statistics() returns a dataclass, not {type(tree).__name__}"
    return list(_samples(prefix, tree, {}, "name"))


def _samples(name: str, value: object, labels: Mapping[str, str], label: str) -> Iterator[Sample]:
    match value:
        case None | list() | tuple():
            return
        case Distribution():
            yield Sample(name=name, value=value, labels=labels, kind="histogram")
        case str() | Enum():
            text = str(value.value) if isinstance(value, Enum) else value
            yield Sample(name=f"{name}_info", value=1, labels={**labels, name.rpartition("_")[2]: text}, kind="info")
        case bool() | int() | float():
            kind: Kind = "counter" if name.endswith("_total") else "gauge"
            yield Sample(name=name, value=int(value) if isinstance(value, bool) else value, labels=labels, kind=kind)
        case Mapping():
            outer, _, inner = label.partition(",")
            for key, item in value.items():
                yield from _samples(name, item, {**labels, outer: str(key)}, inner or outer)
        case _ if is_dataclass(value) and not isinstance(value, type):
            for part in fields(value):
                path = f"{name}_{part.name}"
                yield from _samples(path, getattr(value, part.name), labels, part.metadata.get("label", "name"))
        case _:
            raise TypeError(f"{name} holds a {type(value).__name__}, which cannot be a statistic")
