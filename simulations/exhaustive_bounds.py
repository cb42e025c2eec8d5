"""How far an exhaustive search goes, and what it says when it is done: bounds and results as values."""

from __future__ import annotations

from typing import Any, NamedTuple


class Bounds(NamedTuple):
    """How far the search goes. ``rounds`` of heartbeats a leadership; ``states_max`` ends it early."""

    nodes: int = 3
    terms: int = 2
    entries: int = 2
    crashes: int = 1
    rounds: int = 1
    states_max: int = 1_000_000
    seconds_max: float = 1e9


CI = (
    Bounds(nodes=2, terms=1, entries=1, crashes=1),
    Bounds(nodes=2, terms=2, entries=1, crashes=0),
    Bounds(nodes=3, terms=1, entries=0, crashes=0),
    Bounds(nodes=3, terms=2, entries=2, crashes=1, states_max=15_000),
)
"""Some seconds: the small ones to their end, the large one as far as it gets."""

LONG = (
    Bounds(nodes=2, terms=2, entries=1, crashes=1),
    Bounds(nodes=3, terms=1, entries=0, crashes=1),
    Bounds(nodes=2, terms=2, entries=2, crashes=1, states_max=3_000_000),
    Bounds(nodes=2, terms=3, entries=1, crashes=0, states_max=3_000_000),
    Bounds(nodes=2, terms=2, entries=1, crashes=1, rounds=2, states_max=3_000_000),
    Bounds(nodes=3, terms=1, entries=1, crashes=0, states_max=3_000_000),
    Bounds(nodes=3, terms=2, entries=2, crashes=1, states_max=3_000_000),
)
"""For `make sim-long` (``python -m simulations.exhaustive``): some minutes each, below 2 GB."""


class Found(NamedTuple):
    """A property that does not hold, and the shortest way there."""

    killer: str
    what: str
    path: tuple[str, ...]


class Result(NamedTuple):
    """What a search saw. ``is_exhausted``: every state within the bounds was seen."""

    bounds: Bounds
    states: int
    transitions: int
    depth: int
    node_states: int
    messages: int
    core_steps: int
    is_exhausted: bool
    seconds: float
    violation: Found | None
    probes: dict[str, int]

    def lines(self) -> list[str]:
        """For a reader: the bounds, what was seen, and how it ended."""
        bounds, reached = self.bounds, ", ".join(f"{count:,}x {name}" for name, count in self.probes.items())
        ends = "every state within these bounds" if self.is_exhausted else "not all states within these bounds"
        said = [
            f"{bounds.nodes} nodes, {bounds.terms} terms, {bounds.entries} entries, {bounds.crashes} crashes, "
            f"{bounds.rounds} rounds of heartbeats; messages lost, doubled and in any order without bound",
            f"{self.states:,} distinct states, {self.transitions:,} transitions, depth {self.depth}, "
            f"{self.seconds:.1f} s: {ends}",
            f"{self.node_states:,} states of a node, {self.messages:,} messages, {self.core_steps:,} steps of the core",
            f"reached: {reached or 'nothing'}",
        ]
        if self.violation is not None:
            said += [f"failed: {self.violation.what}", *(f"  {line}" for line in self.violation.path)]
        return said

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        violation = None if self.violation is None else self.violation._asdict()
        return {
            **self._asdict(),
            "bounds": self.bounds._asdict(),
            "seconds": round(self.seconds, 2),
            "violation": violation,
        }
