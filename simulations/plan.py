"""What a run will be, as a value: sizes, masks, networks, disks, clients, and every fault with its time.

A run is its plan and nothing else: the same plan gives the same events, to the bit. Shrinking edits the plan and never
the generator that drew it. A plan is written to a file as JSON and read back equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from simulations.deviations import Deviation
from simulations.disk import DiskShape
from simulations.fabric import NetworkShape

RESTARTS = (0.001, 0.3, 1.0, 5.0)
"""Seconds until a crashed node is back; all but the first are in election timeouts (of one second)."""


class Fault(NamedTuple):
    """One fault: when (seconds), what, to whom (names, or ``leader``, ``follower``, ``random``), how much."""

    at: float
    kind: str
    targets: tuple[str, ...] = ()
    amount: float = 0.0

    def __str__(self) -> str:
        return f"{self.at:.3f}s {self.kind} {' '.join(self.targets)} {self.amount:g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One run of bare cores. ``config`` are fields of `arc.raft.config.Config`; ``guided`` is the chance of a guided
    crash; ``clocks`` are rates of the nodes' clocks."""

    scenario: str = "swarm"
    seed: int = 0
    size: int = 3
    spares: int = 0
    seconds: float = 15.0
    config: Mapping[str, Any] = field(default_factory=dict)
    network: NetworkShape = NetworkShape()  # noqa: RUF009  # a tuple
    disk: DiskShape = DiskShape()  # noqa: RUF009
    clients: int = 3
    keys: int = 2
    think_seconds: float = 0.15
    read_share: float = 0.3
    has_sessions: bool = True
    snapshot_every: int = 0
    is_compacting_disk: bool = True
    apply_seconds: float = 0.0005
    guided: float = 0.0
    restarts: tuple[float, ...] = RESTARTS
    clocks: tuple[float, ...] = ()
    faults: tuple[Fault, ...] = ()
    asked: tuple[tuple[int, int], ...] | None = None
    """The operations that clients ask for, as (client, serial), after shrinking; None: all."""
    deviations: tuple[Deviation, ...] | None = None
    """What messages do out of the ordinary, after shrinking; None: chance decides, by ``network``."""
    is_core_partial: bool = False
    """Heal only a quorum in the second phase; everybody else stays cut off."""
    audits: tuple[str, ...] = ()
    """What this run looks at besides, for it costs time: ``codec`` (I-32), ``replay`` (I-35), ``prefixes`` (I-37)."""
    is_over_budget: bool = False
    """Storage faults may take more than the other copies can make good."""
    is_disk_checked: bool = True
    """Whether a start refuses another node's disk, or an old copy; off in experiments."""
    expects: tuple[str, ...] = ()
    """An experiment beyond what can be survived: these properties may break, and then the run has shown it."""
    calm_seconds: float = 0.0
    """How long the healed cluster must keep one leader (V-07), in seconds; 0: not looked at."""

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Plan:
        """From what `document` gave. Raises TypeError for a field that is not there."""
        values = dict(document)
        values["network"] = NetworkShape(*values["network"])
        values["disk"] = DiskShape(*values["disk"])
        values["faults"] = tuple(
            Fault(at, kind, tuple(targets), amount) for at, kind, targets, amount in values["faults"]
        )
        if values.get("asked") is not None:
            values["asked"] = tuple((client, serial) for client, serial in values["asked"])
        if values.get("deviations") is not None:
            values["deviations"] = tuple(
                Deviation(sender, to, kind, nth, tuple(delays))
                for sender, to, kind, nth, delays in values["deviations"]
            )
        for name in ("restarts", "clocks", "audits", "expects"):
            values[name] = tuple(values[name])
        return cls(**values)
