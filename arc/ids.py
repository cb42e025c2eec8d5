"""Names that cross package borders: who wrote, in which reign, as the how-manieth record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

NodeId = NewType("NodeId", str)
"""Stable name of a node, chosen once and kept in its data directory."""

Epoch = NewType("Epoch", int)
"""Index of the committed command that granted a lease; grows with every grant, 0 means never granted."""

Sequence = NewType("Sequence", int)
"""Number of a WAL record, without gaps across epochs; the first record is 1, 0 means before everything."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the WAL: ordered by epoch, then sequence."""

    epoch: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read the form that ``str`` writes. Raises ValueError."""
        epoch, _, sequence = text.partition(".")
        return cls(int(epoch), int(sequence))
