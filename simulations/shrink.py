"""Makes a failing plan small, as long as the same property breaks: what is left is what it takes.

It edits the plan and never the generator. Order: nodes (small clusters run fast), whole kinds of faults, single faults
by halves (ddmin), the end, the clients and their operations, knobs that are not needed, messages (chance is replaced by
a list of deviations, then shrunk by halves), and times with fewer digits. Then again from the start, until nothing
changes or time is up.
Every step is a run of its own that must break the same property. Where fewer nodes or operations do not break it by
themselves, a few other seeds are tried: wanted is a small plan, and not the closest relative of a big one. (Reference,
7.8; Zeller and Hildebrandt, 2002.)

How far it comes within its seconds depends on the machine; what it returns always fails, on every machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from arc.raft.core import RaftCore
from simulations.chance import stream
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.deviations import Deviation, Recording
from simulations.disk import DiskShape
from simulations.fabric import NetworkShape
from simulations.plan import Fault, Plan
from simulations.runner import FAILED, STOPPED, run
from simulations.workload import PROBER

SECONDS_MAX = 60.0
ROUNDS_MAX = 4
SEEDS_TRIED = 20
DIGITS = (0, 1, 2, 3)

T = TypeVar("T")


def smallest(
    plan: Plan,
    core_class: type[Any] = RaftCore,
    *,
    seconds_max: float = SECONDS_MAX,
    tell: Callable[[str], None] = lambda _: None,
) -> Plan:
    """A smaller plan that breaks the same property. One that breaks nothing comes back as it is."""
    first = run(plan, core_class)
    if first.verdict != FAILED or seconds_max <= 0:
        if first.verdict != FAILED:
            tell("the plan does not fail: nothing to shrink")
        return plan
    shrinking = _Shrinking(plan, core_class, first.killer, time.monotonic() + seconds_max)
    for _ in range(ROUNDS_MAX):
        before = shrinking.plan
        shrinking.all_steps()
        if shrinking.plan == before or shrinking.is_late:
            break
    assert run(shrinking.plan, core_class).killer == first.killer, shrinking.plan
    tell(f"{first.killer}: {measure(shrinking.plan)}, after {shrinking.runs} runs")
    return shrinking.plan


def measure(plan: Plan) -> str:
    """How big a plan is, in words."""
    told = [f"{len(plan.faults)} faults", f"{plan.size + plan.spares} nodes", f"{plan.seconds:g} s"]
    if plan.asked is not None:
        told.append(f"{len(plan.asked)} operations")
    if plan.deviations is not None:
        told.append(f"{len(plan.deviations)} messages out of the ordinary")
    return ", ".join(told)


class _Shrinking:
    """The smallest plan so far, and what it takes to make it smaller."""

    def __init__(self, plan: Plan, core_class: type[Any], killer: str, deadline: float) -> None:
        self.plan = plan
        self.core_class = core_class
        self.killer = killer
        self.deadline = deadline
        self.runs = 0
        self.phases = 2
        """How much of a candidate must run to see it fail."""

    @property
    def is_late(self) -> bool:
        return time.monotonic() >= self.deadline

    def all_steps(self) -> None:
        for step in (
            self.nodes,
            self.cut,
            self.kinds,
            self.faults,
            self.end,
            self.operations,
            self.knobs,
            self.messages,
            self.times,
        ):
            step()

    def fails(self, candidate: Plan) -> bool:
        if self.is_late:
            return False
        self.runs += 1
        return self.look(candidate)[1] == self.killer

    def attempt(self, **changes: Any) -> bool:
        candidate = replace(self.plan, **changes)
        if candidate == self.plan or not self.fails(candidate):
            return False
        self.plan = candidate
        return True

    def attempt_by_any(self, **changes: Any) -> bool:
        """The same, with a few other seeds if the own one will not do."""
        return self.attempt(**changes) or any(self.attempt(**changes, seed=seed) for seed in range(SEEDS_TRIED))

    # ---------------------------------------------------------------------------------------------------------- steps

    def cut(self) -> None:
        """Leave out what comes after the end. If that is in the first phase, the second need not run again."""
        self.phases = 2
        world, _ = self.look(self.plan)
        if world.is_closing:
            return
        faults = tuple(fault for fault in self.plan.faults if fault.at <= world.now)
        self.attempt(seconds=min(round(world.now + 0.001, 3), self.plan.seconds), faults=faults)
        self.phases = 1

    def kinds(self) -> None:
        self.attempt(faults=())
        for kind in sorted({fault.kind for fault in self.plan.faults}):
            self.attempt(faults=tuple(fault for fault in self.plan.faults if fault.kind != kind))

    def faults(self) -> None:
        self.ddmin("faults", self.plan.faults)

    def end(self) -> None:
        for share in (0.1, 0.5, 0.75):
            self.attempt(seconds=round(self.plan.seconds * share, 3))
        if self.phases == 1:
            self.cut()

    def operations(self) -> None:
        if self.plan.asked is None:
            if self.attempt(asked=()):
                return
            world, _ = self.look(self.plan)
            asked = tuple((each.client, each.serial) for each in world.history if each.client < PROBER)
            if not self.attempt(asked=asked):
                return
        assert self.plan.asked is not None
        self.ddmin("asked", self.plan.asked)
        self.attempt(clients=max((client for client, _ in self.plan.asked or ()), default=1))

    def nodes(self) -> None:
        for size, spares in ((1, 0), (2, 0), (3, 0), (self.plan.size, 0), (self.plan.size - 1, self.plan.spares)):
            if 0 < size <= self.plan.size:
                names = {f"n{number}" for number in range(1, size + spares + 1)}
                faults = tuple(fault for fault in self.plan.faults if _names(fault) <= names)
                if self.attempt_by_any(size=size, spares=min(spares, self.plan.spares), faults=faults):
                    break

    def knobs(self) -> None:
        plain = Plan()
        for name in ("guided", "clocks", "calm_seconds", "is_core_partial", "apply_seconds", "snapshot_every"):
            self.attempt(**{name: getattr(plain, name)})
        self.attempt(disk=DiskShape())
        self.attempt(network=NetworkShape())
        self.attempt(config={})
        for key in sorted(self.plan.config):
            self.attempt(config={name: value for name, value in self.plan.config.items() if name != key})

    def messages(self) -> None:
        if self.plan.deviations is None:
            if self.attempt(deviations=()):
                return
            fabric = self.look(self.plan, is_recording=True)[0].fabric
            assert isinstance(fabric, Recording)
            if not self.attempt(deviations=tuple(fabric.deviations)):
                return
        assert self.plan.deviations is not None
        for kind in sorted({each.kind for each in self.plan.deviations}):
            self.attempt(deviations=tuple(each for each in self.plan.deviations if each.kind != kind))
        self.ddmin("deviations", self.plan.deviations)

    def times(self) -> None:
        for digits in DIGITS:
            if self.attempt(faults=tuple(sorted(_rounded(fault, digits) for fault in self.plan.faults))):
                break
        else:
            for place, fault in enumerate(self.plan.faults):
                for digits in DIGITS:
                    if self.attempt(faults=_with(self.plan.faults, place, _rounded(fault, digits))):
                        break
        for place, deviation in enumerate(self.plan.deviations or ()):
            for digits in DIGITS[1:]:
                delays = tuple(round(delay, digits) for delay in deviation.delays)
                changed: Deviation = deviation._replace(delays=delays)
                if delays and self.attempt(deviations=_with(self.plan.deviations or (), place, changed)):
                    break

    # ---------------------------------------------------------------------------------------------------------- tools

    def ddmin(self, name: str, items: Sequence[object]) -> None:
        """Drop what is not needed from a field of the plan, by halves first."""
        size = max(len(items) // 2, 1)
        while items and not self.is_late:
            start, is_smaller = 0, False
            while start < len(items):
                candidate = (*items[:start], *items[start + size :])
                if self.attempt(**{name: candidate}):
                    items, is_smaller = candidate, True
                else:
                    start += size
            if size == 1 and not is_smaller:
                break
            size = max(size // 2, 1)

    def look(self, plan: Plan, *, is_recording: bool = False) -> tuple[Cores, str]:
        """The world in which a plan ends, and what ended it."""
        world = Cores(plan, self.core_class)
        if is_recording:
            world.fabric = Recording(plan.network, stream(plan.seed, "network"))
        try:
            world.run(self.phases)
        except Violation as violation:
            return world, violation.killer
        except Exception:  # As the runner tells it.
            return world, STOPPED
        return world, ""


def _names(fault: Fault) -> set[str]:
    """The nodes that a fault names."""
    return {target for target in fault.targets if target[:1] == "n" and target[1:].isdigit()}


def _rounded(fault: Fault, digits: int) -> Fault:
    return fault._replace(at=round(fault.at, digits))


def _with(items: Sequence[T], place: int, item: T) -> tuple[T, ...]:
    return (*items[:place], item, *items[place + 1 :])
