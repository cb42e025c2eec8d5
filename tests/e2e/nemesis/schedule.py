"""Which fault, when, on whom and for how long: all of it from one number, before anything runs.

A step names a node, or a part that some node plays at that moment (the writer, the leader); the runner looks up who it
is. So the schedule is the same whoever was elected, and a run can be repeated as far as the machine lets it.

Faults come one after another, each is made good before the next one begins, and none takes more nodes than the
cluster bears, but for two that say so: everything at once, and writer and leader at once. Kinds are drawn without
putting them back until each had its turn; a short run meets as many kinds as fit.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What is done to the cluster."""

    KILL = "kill"
    """SIGKILL, started again."""
    KILL_BOTH = "kill-both"
    """SIGKILL to writer and leader in the same moment; to one more when they are the same."""
    POWER = "power"
    """SIGKILL to all nodes, as when the power of the room goes."""
    PAUSE = "pause"
    """SIGSTOP, for longer than others need to notice, then SIGCONT."""
    RESTART = "restart"
    """SIGTERM, and a start."""
    HALVES = "halves"
    """The nodes of one side and those of the other do not hear each other."""
    ISOLATE = "isolate"
    """One node hears nobody and is heard by nobody."""
    ONE_WAY = "one-way"
    """What one node sends arrives nowhere, and it hears all; or the other way round."""
    SLOW = "slow"
    """Whatever passes to and from one node takes longer."""
    DISK = "disk-full"
    """The disk of one node has no room; it may be the one that writes."""
    HANG = "disk-hang"
    """The disk of one node neither does what it is told nor fails."""
    FAILOVER = "failover"
    """An order to hand the writer lease over."""
    FLUSH = "flush"
    """An order to write files now."""


ORDERS = frozenset({Kind.FAILOVER, Kind.FLUSH})
"""Not faults, but what an operator does: over at once."""

WRITER = "writer"
LEADER = "leader"
STANDBY = "standby"
"""A node that does not write."""
ROLES = (WRITER, LEADER, STANDBY)

FIRST_SECONDS = 3.0
"""How long nothing is done at first, so that there is something to lose."""
FAULT_SECONDS = {
    Kind.KILL: (0.5, 6.0),
    Kind.KILL_BOTH: (0.5, 4.0),
    Kind.POWER: (0.2, 3.0),
    Kind.PAUSE: (3.0, 8.0),
    Kind.RESTART: (0.0, 0.0),
    Kind.HALVES: (3.0, 10.0),
    Kind.ISOLATE: (3.0, 10.0),
    Kind.ONE_WAY: (3.0, 10.0),
    Kind.SLOW: (3.0, 10.0),
    Kind.DISK: (3.0, 8.0),
    Kind.HANG: (2.0, 15.0),
    Kind.FAILOVER: (0.0, 0.0),
    Kind.FLUSH: (0.0, 0.0),
}
"""Shortest and longest. A silent node is dead for the others after 1.8 s (docs/failover.md): a pause is longer."""
QUIET_SECONDS = (1.0, 5.0)
"""Between the end of a fault and the next one, at least."""
DELAY_SECONDS = (0.01, 0.15)
"""What a slow link adds to each piece that passes."""
SPARE_SECONDS = 2.0
"""What a step leaves of the run for its traces to show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One fault or order. ``at`` counts from the start of the run; ``whom`` are nodes or roles; ``detail`` is the
    kind's own: ``out`` or ``in`` for one way, seconds for slow, ``order`` or ``as-it-is`` for a full disk."""

    number: int
    kind: Kind
    at: float
    seconds: float
    whom: tuple[str, ...] = ()
    detail: str = ""

    def __str__(self) -> str:
        parts = [self.kind.value, *self.whom, self.detail, f"{self.seconds:.1f} s" if self.seconds else ""]
        return " ".join(part for part in parts if part)


def plan(seed: int, seconds: float, names: Sequence[str], kinds: Sequence[Kind] = tuple(Kind)) -> tuple[Step, ...]:
    """The steps of a run, in the order of time. The disk that can be filled is `small_disk`'s."""
    assert len(names) >= 3, names
    assert kinds, "nothing to do"
    rng = random.Random(seed)
    disk = small_disk(seed, names)
    found: list[Step] = []
    at = FIRST_SECONDS
    for kind in _turns(rng, kinds):
        low, high = FAULT_SECONDS[kind]
        lasts = round(rng.uniform(low, high), 1)
        whom, detail = _whom(rng, kind, names, disk)
        if at + lasts + SPARE_SECONDS > seconds:
            return tuple(found)
        found.append(Step(number=len(found) + 1, kind=kind, at=round(at, 1), seconds=lasts, whom=whom, detail=detail))
        at += lasts + rng.uniform(*QUIET_SECONDS)
    raise AssertionError("turns never end")


def small_disk(seed: int, names: Sequence[str]) -> str:
    """The node whose disk is small enough to be filled."""
    return random.Random(f"disk {seed}").choice(list(names))


def bears(names: Sequence[str]) -> int:
    """How many nodes may be away while a majority is left."""
    return (len(names) - 1) // 2


def _turns(rng: random.Random, kinds: Sequence[Kind]) -> Iterator[Kind]:
    ordered = [kind for kind in Kind if kind in kinds]
    while True:
        turn = list(ordered)
        rng.shuffle(turn)
        yield from turn


def _whom(rng: random.Random, kind: Kind, names: Sequence[str], disk: str) -> tuple[tuple[str, ...], str]:
    match kind:
        case Kind.KILL_BOTH:
            return (WRITER, LEADER), ""
        case Kind.POWER:
            return tuple(names), ""
        case Kind.KILL | Kind.PAUSE:
            several = bears(names) > 1 and rng.random() < 0.4
            return ((WRITER, STANDBY) if several else (rng.choice([*ROLES, *names]),)), ""
        case Kind.HALVES:
            return tuple(sorted(rng.sample(list(names), bears(names)))), ""
        case Kind.ISOLATE:
            return (rng.choice([WRITER, WRITER, LEADER]),), ""
        case Kind.ONE_WAY:
            return (rng.choice([WRITER, LEADER, STANDBY]),), rng.choice(["out", "in"])
        case Kind.SLOW:
            return (rng.choice([*ROLES, *names]),), f"{rng.uniform(*DELAY_SECONDS):.3f}"
        case Kind.RESTART:
            return (rng.choice([*ROLES, *names]),), ""
        case Kind.HANG:
            return (rng.choice([WRITER, *ROLES]),), ""
        case Kind.DISK:
            return (disk,), rng.choice(["order", "as-it-is"])
        case Kind.FAILOVER | Kind.FLUSH:
            return (), ""
