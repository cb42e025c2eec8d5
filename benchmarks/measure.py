"""One row of the table: what was done, what we measured, what the peer did in the same run, whether a target holds.

A figure is a median of repetitions with its spread; a ratio is always ours against theirs so that the target reads as
a sentence. Nothing here is a test: figures depend on the machine, and a machine is never as quiet as one hopes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Repeated measurements of one thing in one unit."""

    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """What is shown."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"{number(self.median)} ({number(low)}–{number(high)}) {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. ``target`` is met when ``ratio`` (ours / peer, or the value itself) is on its side."""

    name: str
    ours: Figure
    peer_name: str = ""
    peer: Figure | None = None
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float:
        """Ours over the peer's; our own value when there is no peer."""
        if self.peer is None:
            return self.ours.median
        return self.ours.median / self.peer.median if self.peer.median else float("inf")

    @property
    def target(self) -> str:
        """In words."""
        unit = "×" if self.peer is not None else f" {self.ours.unit}"
        if self.at_least is not None:
            return f"≥ {number(self.at_least)}{unit}"
        return f"≤ {number(self.at_most)}{unit}" if self.at_most is not None else "–"

    @property
    def verdict(self) -> str:
        """``pass``, ``miss``, or nothing when no target was set."""
        if self.at_least is not None:
            return "pass" if self.ratio >= self.at_least else "miss"
        if self.at_most is not None:
            return "pass" if self.ratio <= self.at_most else "miss"
        return ""

    def document(self) -> dict[str, object]:
        """For ``--json``."""
        return {**asdict(self), "ratio": self.ratio, "target": self.target, "verdict": self.verdict}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How this run measures: where its files are, how often and how long, on which cores, how it tells."""

    folder: Path
    repetitions: int
    seconds: float
    server_cpu: int
    client_cpu: int
    say: Callable[[str], None] = field(default=print)

    @property
    def warm_seconds(self) -> float:
        """Load before the clock starts: kernels are compiled, tables filled, the disk's segments made."""
        return min(3.0, self.seconds)


Benchmark = Callable[[Run], list[Row]]


def number(value: float) -> str:
    """Three significant digits without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def table(rows: Sequence[Row]) -> str:
    """Markdown, as the README shows it."""
    lines = ["| work | ours | peer | ratio | target | |", "|---|---|---|---|---|---|"]
    for row in rows:
        peer = f"{row.peer_name} {row.peer}" if row.peer is not None else row.peer_name or "–"
        ratio = f"{number(row.ratio)}×" if row.peer is not None else "–"
        name = f"{row.name}<br>{row.note}" if row.note else row.name
        lines.append(f"| {name} | {row.ours} | {peer} | {ratio} | {row.target} | {row.verdict} |")
    return "\n".join(lines)


def figure(unit: str, values: Iterable[float]) -> Figure:
    """Collect measurements. Raises ValueError when there is none."""
    found = tuple(values)
    if not found:
        raise ValueError(f"nothing measured in {unit}")
    return Figure(unit=unit, values=found)
