"""What the clients of a world asked for and what they were told; checkers compare it with what the nodes show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

MEASUREMENTS = ("cpu", "mem", "disk")


class Known(Enum):
    """What a client knows about a request."""

    OPEN = "open"
    """Not answered yet, or not for certain: it may have happened."""
    DONE = "done"
    REFUSED = "refused"
    """Every try was refused for certain: it must never be seen."""


class Write:
    """One request with rows. ``rows`` are row numbers by measurement; no number is used twice in a world. An import is
    stored measurement by measurement, any other write as a whole.
    """

    __slots__ = ("is_import", "key", "known", "number", "rows", "tries")

    def __init__(self, number: int, key: str, rows: Mapping[str, tuple[int, ...]]) -> None:
        self.number = number
        self.key = key
        self.rows = rows
        self.is_import = False
        self.known = Known.OPEN
        self.tries = 0

    @property
    def pieces(self) -> list[Mapping[str, tuple[int, ...]]]:
        """What of it is there as a whole or not at all."""
        return [{name: numbers} for name, numbers in self.rows.items()] if self.is_import else [self.rows]

    def __repr__(self) -> str:
        return (
            f"<write {self.number} key={self.key or '-'} rows={dict(self.rows)} {self.known.value} {self.tries} tries>"
        )


class History:
    """All requests about some measurements. ``killer`` is what is broken when a row that is gone is there."""

    def __init__(self, measurements: Sequence[str] = MEASUREMENTS, *, killer: str = "W-15") -> None:
        self.measurements: list[str] = []
        self.killer = killer
        self.writes: list[Write] = []
        self.databases: dict[str, Known] = {}
        self.sent: dict[str, set[int]] = {}
        self.done: dict[str, set[int]] = {}
        self.going: dict[str, set[int]] = {}
        """Rows that a delete was asked for: each may be there or not, until it is known to be gone."""
        self.gone: dict[str, set[int]] = {}
        """Rows that were acknowledged before a delete that is done was asked for."""
        self.passing: set[str] = set()
        """Measurements that something removes rows of right now: whatever is sent meanwhile may go with them."""
        for name in measurements:
            self.begin(name)
        self.position = (0, 0)
        """The furthest place in the WAL (epoch, sequence) that was told: who saw it saw all acknowledged rows."""
        self.rows = 0
        self.completed = 0
        self.under_way = 0

    def begin(self, measurement: str) -> None:
        """One more measurement."""
        self.measurements.append(measurement)
        for rows in (self.sent, self.done, self.going, self.gone):
            rows[measurement] = set()

    def write(self, key: str, counts: Mapping[str, int]) -> Write:
        """A new request with so many new rows in each measurement."""
        rows = {}
        for name, count in counts.items():
            rows[name] = tuple(range(self.rows, self.rows + count))
            self.rows += count
            self.sent[name].update(rows[name])
            if name in self.passing:
                self.going[name].update(rows[name])
        write = Write(len(self.writes), key, rows)
        self.writes.append(write)
        return write

    def kept(self, measurement: str) -> set[int]:
        """Acknowledged rows that nobody wanted gone."""
        return self.done[measurement] - self.going[measurement]

    def deleting(self, measurement: str, first: int, end: int) -> set[int]:
        """A delete of these numbers is about to be asked for: the acknowledged ones among them. Those that are sent
        from now on may go as well: it covers what is there when it is carried out (world seed 300018).
        """
        wanted = set(range(first, end))
        self.going[measurement] |= wanted
        return wanted & self.done[measurement]

    def deleted(self, measurement: str, numbers: set[int]) -> None:
        """What `deleting` gave is gone for good."""
        self.gone[measurement] |= numbers
        self.completed += 1

    def passing_away(self, measurement: str) -> None:
        """From here on every row of it may go, those to come as well."""
        self.passing.add(measurement)
        self.going[measurement] |= self.sent[measurement]

    def stored_at(self, position: str) -> None:
        """A write was answered with its place."""
        epoch, _, sequence = position.partition(".")
        self.position = max(self.position, (int(epoch), int(sequence)))

    def settle(self, write: Write, known: Known) -> None:
        """The client has its answer."""
        write.known = known
        self.completed += 1
        if known is Known.DONE:
            for name, numbers in write.rows.items():
                self.done[name].update(numbers)
