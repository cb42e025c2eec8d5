"""Finds where two runs of one plan part, when they should not: the first event that differs, with both sides.

Each side is a process of its own with its own hash seed. It digests every event and the whole state of every node, and
tells the digest every ``EVERY`` events. The first that differs names a window; both sides run again and tell that
window event by event. (Reference, 7.8: time travel; I-36.)

Not here: how to repair it. Look for a set or an ``id()`` that settles an order.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from arc.raft.core import RaftCore
from arc.raft.events import Event
from arc.raft.types import Peer
from simulations.chance import Stream
from simulations.checkers.violation import Violation
from simulations.cores import Cores
from simulations.plan import Plan
from simulations.runner import HASH_SEEDS

EVERY = 200
"""Events between two digests that are told; also how many are told in full."""

CONTEXT = 5
DEPTH_MAX = 12
ROOT = Path(__file__).resolve().parents[1]


class Moment(NamedTuple):
    """One event of one side: what it was, and the state of all nodes before it."""

    line: str
    states: dict[str, str]


class Difference(NamedTuple):
    """Where two sides part. ``number`` counts events from 0; the last event before it made the states differ."""

    number: int
    before: tuple[str, ...]
    one: Moment
    other: Moment

    def lines(self) -> list[str]:
        """For a person: the way there, then both sides."""
        told = [
            f"the runs part at event {self.number}; before it, on both sides:",
            *(f"    {it}" for it in self.before),
        ]
        if self.one.line != self.other.line:
            told += [f"  one:   {self.one.line}", f"  other: {self.other.line}"]
        for name in sorted({*self.one.states, *self.other.states}):
            one, other = self.one.states.get(name, "down"), self.other.states.get(name, "down")
            if one != other:
                told += [f"  state of {name}:", *_parted(one, other)]
        return told


def first_difference(plan: Plan, edits: Sequence[tuple[str, str, str]] = ()) -> Difference | None:
    """Run the plan in two processes with different hash seeds; None if all digests agree.

    ``edits`` plant a bug in both. Raises subprocess.CalledProcessError when a side ends otherwise than by a verdict.
    """
    request: dict[str, Any] = {"plan": plan.document(), "edits": [list(edit) for edit in edits], "window": None}
    one, other = (_side(request, seed) for seed in HASH_SEEDS)
    common = min(len(one), len(other))
    place = next((at for at in range(common) if one[at] != other[at]), common)
    if place == len(one) == len(other):
        return None
    start = place * EVERY
    request["window"] = [start, start + EVERY + 1]
    window, beside = ([Moment(*each) for each in _side(request, seed)] for seed in HASH_SEEDS)
    nothing = Moment("nothing: this side has ended", {})
    for at in range(max(len(window), len(beside))):
        left = window[at] if at < len(window) else nothing
        right = beside[at] if at < len(beside) else nothing
        if left != right:
            before = tuple(moment.line for moment in window[max(at - CONTEXT, 0) : at])
            return Difference(start + at, before, left, right)
    return None


def _side(request: dict[str, Any], hash_seed: str) -> list[Any]:
    done = subprocess.run(
        [sys.executable, "-m", "simulations.differ"],
        input=json.dumps(request),
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    found: list[Any] = json.loads(done.stdout)
    return found


class Watched(Cores):
    """A run that digests itself: all of it every EVERY events, or, within a window, every event in full."""

    def __init__(self, plan: Plan, core_class: type[Any], window: tuple[int, int] | None) -> None:
        self.seen = 0
        self.window = window
        self.digests: list[str] = []
        self.moments: list[Moment] = []
        super().__init__(plan, core_class, is_told=True)

    def traced(self, peer: Peer, event: Event) -> None:
        """An event is about to happen: look first."""
        super().traced(peer, event)
        if self.window is not None and self.window[0] <= self.seen < self.window[1]:
            self.moments.append(Moment(self.transcript[-1], self._states()))
        self.transcript.clear()
        self.seen += 1
        if self.seen % EVERY == 0:
            self.check()

    def check(self) -> None:
        """Tell the digest of everything up to here."""
        states = "\n".join(self._states().values())
        self.digests.append(f"{self.digest} {hashlib.blake2b(states.encode(), digest_size=8).hexdigest()}")

    def _states(self) -> dict[str, str]:
        return {
            peer.name: canonical(host.state) if host.core is not None else "down" for peer, host in self.hosts.items()
        }


def canonical(value: object, depth: int = 0) -> str:
    """Text that is equal for equal values in every process. Dicts keep their order, for a core may walk them; a set has
    none, so its elements are sorted."""
    assert depth <= DEPTH_MAX, value
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return repr(value)
        case Stream():
            return f"<stream {hashlib.blake2b(repr(value.getstate()).encode(), digest_size=4).hexdigest()}>"
        case dict():
            return f"{{{', '.join(f'{canonical(k, depth + 1)}: {canonical(v, depth + 1)}' for k, v in value.items())}}}"
        case set() | frozenset():
            return f"{{{', '.join(sorted(canonical(each, depth + 1) for each in value))}}}"
        case list() | tuple():
            return f"({', '.join(canonical(each, depth + 1) for each in value)})"
    names = _fields(value)
    if not names:
        return type(value).__name__ if callable(value) or hasattr(value, "__iter__") else repr(value).split(" at 0x")[0]
    told = ", ".join(f"{name}={canonical(getattr(value, name), depth + 1)}" for name in names if hasattr(value, name))
    return f"{type(value).__name__}({told})"


def _fields(value: object) -> list[str]:
    slots = [name for kind in type(value).__mro__ for name in _as_names(getattr(kind, "__slots__", ()))]
    return [*dict.fromkeys(slots), *getattr(value, "__dict__", {})]


def _as_names(slots: str | Iterable[str]) -> list[str]:
    return [slots] if isinstance(slots, str) else [name for name in slots if not name.startswith("__")]


def _parted(one: str, other: str) -> list[str]:
    """Only what differs of two long texts, with a little around it."""
    start = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(start - 60, 0)
    return [f"    one:   …{one[begin : start + 100]}…", f"    other: …{other[begin : start + 100]}…"]


def main() -> None:
    """One side: a request as JSON on stdin; digests, or the moments of a window, as JSON on stdout."""
    request = json.load(sys.stdin)
    core: type[Any] = RaftCore
    if request["edits"]:
        from simulations.mutants.plant import Edit, plant

        core = plant("differ", [Edit(*each) for each in request["edits"]])
    window = (request["window"][0], request["window"][1]) if request["window"] else None
    world = Watched(Plan.read(request["plan"]), core, window)
    try:
        world.run()
    except Violation as violation:
        world.note("verdict", violation.killer)
    world.check()
    json.dump(world.moments if window else world.digests, sys.stdout)


if __name__ == "__main__":
    main()
