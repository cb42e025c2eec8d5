"""How a run ended, as a value: the same for bare cores and for whole nodes."""

from __future__ import annotations

from typing import Any, NamedTuple

PASSED, FAILED, VACUOUS = "passed", "failed", "vacuous"


class Outcome(NamedTuple):
    """How one run ended."""

    scenario: str
    seed: int
    verdict: str
    killer: str
    violation: str
    digest: str
    simulated_seconds: float
    events: int
    elections: int
    commits: int
    operations: int
    faults: dict[str, int]
    probes: dict[str, int]
    node: str
    """Who took the last event before the verdict."""
    wall_seconds: float

    def document(self) -> dict[str, Any]:
        """As JSON values; wall time is left out, for it is the only thing that differs between equal runs."""
        return {name: value for name, value in self._asdict().items() if name != "wall_seconds"}
