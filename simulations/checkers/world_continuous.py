"""Continuous queries: a window is there at most once and says nothing that nobody sent (W-16), and at rest every window
that is over says exactly what its source says (W-17).

The query of a world sums up the numbers of rows, so a row that is left out or taken twice shows in the count and in the
sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from simulations.checkers.violation import Violation


class Summary(NamedTuple):
    """What the rows of one window come to: how many, and the sum of their numbers."""

    rows: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Windows are ``length_us`` long and begin at multiples of it, the first at ``first_us``. Those that ended before
    ``over_us`` are due on every clock, and none that ended before ``closed_us`` is open for late rows on every clock.
    """

    first_us: int
    length_us: int
    over_us: int
    closed_us: int

    def is_due(self, start_us: int) -> bool:
        """Whether a window must have been executed."""
        return start_us >= self.first_us and start_us + self.length_us <= self.over_us

    def is_open(self, start_us: int) -> bool:
        """Whether rows that come now must still change it."""
        return start_us + self.length_us > self.closed_us


def summaries(numbers: Iterable[tuple[int, int]], length_us: int) -> dict[int, list[int]]:
    """The numbers of rows by the beginning of their window; given are numbers with their times in µs."""
    found: dict[int, list[int]] = {}
    for number, at_us in sorted(numbers):
        found.setdefault(at_us - at_us % length_us, []).append(number)
    return found


def check_windows(seen: Iterable[tuple[int, int, Summary]], sent: Mapping[int, list[int]]) -> None:
    """One answer: windows by their beginning, how often each is there, and what it says. ``sent`` are the numbers of
    rows that were sent for each, ascending.

    Raises Violation W-16: a window is there twice, or says what cannot come of any of the rows that were sent.
    """
    for start_us, times, (rows, total) in seen:
        if times != 1:
            raise Violation("W-16", "a window is there more than once", start_us, times)
        numbers = sent.get(start_us, [])
        if not 1 <= rows <= len(numbers):
            raise Violation("W-16", "a window has rows that nobody sent", start_us, rows, len(numbers))
        if not sum(numbers[:rows]) <= total <= sum(numbers[-rows:]):
            raise Violation("W-16", "a window says what no rows of it come to", start_us, rows, total)


def mismatch(seen: Mapping[int, Summary], source: Mapping[int, list[int]], reach: Reach) -> tuple[object, ...] | None:
    """Where the windows of one node and its source rows differ: a window, what it says and what its rows come to."""
    for start_us in sorted(seen.keys() | source.keys()):
        numbers = source.get(start_us, [])
        said, comes_to = seen.get(start_us), Summary(len(numbers), sum(numbers))
        is_wrong = reach.is_due(start_us) if said is None else said != comes_to and reach.is_open(start_us)
        if is_wrong:
            return start_us, said, comes_to
    return None
