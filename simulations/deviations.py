"""What messages do out of the ordinary, as a sparse list: the rest arrives in order, after the links' base latency.

A plan that carries such a list asks no chance about its network. That makes a shrunk failure read like a story: "the
third append from n1 to n2 is lost", and nothing else happens. `Recording` writes the list of a run that is left to
chance, `Scripted` plays one; cuts are faults and not deviations, they stop messages in both. (Reference, 7.8.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from arc.raft.messages import Message
from simulations.chance import Stream
from simulations.fabric import Fabric, NetworkShape


class Deviation(NamedTuple):
    """The ``nth`` message (from 1) of a kind on a link arrives after these delays, in seconds; none: it is lost."""

    sender: str
    to: str
    kind: str
    nth: int
    delays: tuple[float, ...] = ()

    def __str__(self) -> str:
        what = f"{self.sender}->{self.to} {self.kind} {self.nth}"
        if not self.delays:
            return f"{what} is lost"
        return f"{what} takes {' and '.join(f'{delay:g}' for delay in self.delays)} s"


class Recording(Fabric):
    """Chance decides, and what it decided is written down in ``deviations``: every message, for a start."""

    def __init__(self, shape: NetworkShape, chance: Stream) -> None:
        super().__init__(shape, chance)
        self.deviations: list[Deviation] = []
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def times(self, message: Message, now: float) -> list[float]:
        """When the copies of a message arrive; empty: never."""
        key = _key(message)
        self._counts[key] += 1
        found = super().times(message, now)
        if key[:2] not in self.cuts:
            self.deviations.append(Deviation(*key, self._counts[key], tuple(at - now for at in found)))
        return found


class Scripted(Fabric):
    """No chance: a message does what the list says, or arrives after the base latency."""

    def __init__(self, shape: NetworkShape, chance: Stream, deviations: Iterable[Deviation]) -> None:
        super().__init__(shape, chance)
        self._told = {each[:4]: each.delays for each in deviations}
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def times(self, message: Message, now: float) -> list[float]:
        """When the copies of a message arrive; empty: never."""
        key = _key(message)
        self._counts[key] += 1
        if key[:2] in self.cuts:
            return []
        delays = self._told.get((*key, self._counts[key]))
        return [now + self.shape.latency_seconds] if delays is None else [now + delay for delay in delays]


def _key(message: Message) -> tuple[str, str, str]:
    return message.sender.name, message.to.name, type(message).__name__
