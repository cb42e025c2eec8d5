"""Runs generic bugs: how many of them live, and which (`generic` makes them)."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

from simulations.checkers.violation import Violation
from simulations.mutants.generic import Change, drawn, texts_with
from simulations.mutants.matrix import campaign_plan
from simulations.mutants.mutant import Kill
from simulations.mutants.plant import core_of, world_of
from simulations.mutants.survivors import reason

SEEDS_MAX = 60
"""A third of the campaign's round: enough for nearly all that die at all."""

SECONDS_MAX = 20
"""For one run: a changed loop may never end."""


class Finding(NamedTuple):
    """How one generic bug fared. ``reason``: why it may live, if somebody has looked."""

    change: Change
    kill: Kill
    reason: str

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "id": self.change.key,
            "what": str(self.change),
            "operator": self.change.operator,
            "killed": bool(self.kill.killer),
            "killer": self.kill.killer,
            "seeds": self.kill.seeds,
            "seconds": round(self.kill.seconds, 2),
            "reason": self.reason,
        }


def survey(count: int, seed: int, seeds_max: int = SEEDS_MAX) -> Iterator[Finding]:
    """Plant that many generic bugs, one after the other."""
    for number, change in enumerate(drawn(count, seed)):
        kill = chase_change(change, f"generic_{number}", seeds_max)
        yield Finding(change, kill, "" if kill.killer else reason(change.key))


def chase_change(change: Change, name: str, seeds_max: int) -> Kill:
    """Hunt one small change."""
    start = time.perf_counter()

    def over(killer: str, number: int) -> Kill:
        return Kill(killer, number, time.perf_counter() - start)

    texts = texts_with(change)
    try:
        core, world = core_of(name, texts), world_of(name, texts)
    except Exception as error:  # The change breaks what runs when a module is imported.
        return over(type(error).__name__, 1)
    for number in range(1, seeds_max + 1):
        plan = campaign_plan(number - 1)
        try:
            with _ends_in(SECONDS_MAX):
                world(plan, core).run()
        except Violation as violation:
            return over(violation.killer, number)
        except TimeoutError:
            return over("HANGS", number)
        except Exception as error:  # Of the simulator, which met what no core of ours would do.
            return over(type(error).__name__, number)
    return over("", seeds_max)


@contextmanager
def _ends_in(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in the body after that long."""

    def ring(_: int, __: FrameType | None) -> None:
        raise TimeoutError

    before: Callable[[int, FrameType | None], Any] | int | None = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
