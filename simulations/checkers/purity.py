"""The core is a function of its inputs: I-35, by doing a life again.

Every input of a life is written down. A second core with the same disk, the same chance and the same inputs must say
the same, step by step, and end in an equal state: then nothing else went in, neither a clock nor another life.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from arc.raft.effects import Effects
from arc.raft.events import Event
from arc.raft.types import Stored
from simulations.chance import stream
from simulations.checkers.violation import Violation

if TYPE_CHECKING:
    from simulations.host import Host

INPUTS_MAX = 20_000


class Recording:
    """One life of a core: what it began with, and every input with what came of it."""

    def __init__(self, host: Host, stored: Stored, chance: str) -> None:
        self.host = host
        self.core = host.core
        self.stored = stored
        self.chance = chance
        self.started_at = host.local(host.world.now)
        self.config = host.config
        self.inputs: list[tuple[Event, float, Effects]] = []

    def add(self, event: Event, now: float, effects: Effects) -> None:
        """One step more."""
        if len(self.inputs) < INPUTS_MAX:
            self.inputs.append((event, now, effects))

    def check(self) -> None:
        """Do it again. Raises Violation."""
        world, host = self.host.world, self.host
        chance = stream(world.plan.seed, self.chance)
        again = world.core_class(host.peer, self.config, self.stored, chance, self.started_at)
        for event, now, effects in self.inputs:
            other = again.step(event, now)
            if other != effects:
                raise Violation("I-35", "the same inputs lead to other effects", host.peer, event, effects, other)
        if len(self.inputs) < INPUTS_MAX:
            difference = differs(self.core.state, again.state)
            if difference:
                raise Violation("I-35", "the same inputs lead to another state", host.peer, difference)
        world.probes["life_replayed"] += 1


def differs(one: Any, other: Any, path: str = "state") -> str:
    """Where two values differ, to their depth; empty if they are equal."""
    if type(one) is not type(other):
        return f"{path}: {one!r} and {other!r}"
    if isinstance(one, random.Random):
        return "" if one.getstate() == other.getstate() else f"{path}: chance was drawn differently"
    if isinstance(one, list | tuple | deque):
        if len(one) != len(other):
            return f"{path}: {len(one)} and {len(other)} of them"
        found = (differs(a, b, f"{path}[{place}]") for place, (a, b) in enumerate(zip(one, other, strict=True)))
        return next(filter(None, found), "")
    if isinstance(one, Mapping):
        return differs(list(one.items()), list(other.items()), path)
    if isinstance(one, Enum):
        return "" if one == other else f"{path}: {one!r} and {other!r}"
    names = getattr(type(one), "__slots__", None) or getattr(one, "__dict__", ())
    if names and type(one).__module__ != "builtins":
        found = (differs(getattr(one, name), getattr(other, name), f"{path}.{name}") for name in names)
        return next(filter(None, found), "")
    return "" if one == other else f"{path}: {one!r} and {other!r}"
