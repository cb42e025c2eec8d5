"""The black-box arm: the same runs, judged by nothing that a user of the cluster could not see.

Checkers that look into nodes are replaced by ones that say nothing, and the ghost state by one that knows nothing. What
is left: every key's history of operations must have a linear order (which also finds lost acknowledged writes and
operations that took effect twice, for values are written once); a healed cluster must elect, serve and agree. A core
that fails its own assertion stops, as a process does, and is started again.
"""

from __future__ import annotations

import importlib
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import simulations
from simulations.checkers import wing_gong
from simulations.checkers.violation import Violation
from simulations.history import Operation
from simulations.machine import READ
from simulations.mutants.plant import STANDS, load, retarget

VISIBLE = frozenset({"LIN", "V-01", "V-02", "V-03", "I-24"})
"""Killers that count here: linearizability, progress, agreement, digests."""

LOSSES = frozenset({"rot", "wipe", "restore", "replace", "swap"})

VISITS_MAX = 200_000
DEATHS_MAX = 20
"""A node that stops more often than this stays down."""

LIVENESS = "simulations.checkers.liveness"
SEEING = ("violation", "wing_gong", "liveness")


def blind_world(name: str, texts: Mapping[str, str]) -> type[Any]:
    """The `Cores` made of these sources, with checkers that see only what clients see."""
    package = "blind_" + "".join(letter if letter.isalnum() else "_" for letter in name)
    folder = Path(next(iter(simulations.__path__))) / "checkers"
    moved = {f"{package}.checkers": ""}
    for key in (*STANDS, LIVENESS):
        text = texts[key] if key in texts else (folder / "liveness.py").read_text(encoding="utf-8")
        if key == "simulations.disk":
            text = text.replace("raise Violation(", "Violation(")
        text = text.replace("raise of_core(error) from error", "return stopped(self)")
        text = retarget(text, package, STANDS)
        moved[key.replace("simulations", package, 1)] = re.sub(
            r"\bsimulations\.checkers\b", f"{package}.checkers", text
        )
    shared: dict[str, ModuleType] = {}
    for path in sorted(folder.glob("*.py")):
        if path.stem not in ("liveness", "__init__"):
            real = importlib.import_module(f"simulations.checkers.{path.stem}")
            shared[f"{package}.checkers.{path.stem}"] = real if path.stem in SEEING else _silent(real)
    world: type[Any] = load(package, moved, shared, f"{package}.cores", {"stopped": stopped}).Cores
    return world


def judge(world: Any) -> None:
    """Run a blind world and look at what clients saw. Raises Violation.

    Left out are plans that lose disks while members change: who can be spared then is known to the ghost alone.
    """
    kinds = {fault.kind for fault in world.plan.faults}
    if kinds & LOSSES and "change" in kinds:
        return
    try:
        world.run()
    except Violation as violation:
        if violation.killer in VISIBLE:
            raise
        return
    keys: dict[str, list[Operation]] = {}
    for operation in world.history:
        if operation.is_complete or operation.kind != READ:
            keys.setdefault(operation.key, []).append(operation)
    leader = world.leader
    for key in sorted(keys) if leader is not None else ():  # What a client would read at last.
        last = Operation(9999, 1, READ, key, "-", "-", world.now)
        last.answer, last.returned = leader.machine.registers.get(key, "-"), world.now + 1.0
        keys[key].append(last)
    for key, operations in sorted(keys.items()):
        if wing_gong.is_linearizable(operations, VISITS_MAX) is False:
            raise Violation("LIN", f"no order explains the history of {key}", *operations[-12:])


def stopped(host: Any) -> None:
    """The core of a node raised: its process ends, and something starts it again."""
    world = host.world
    host.deaths = getattr(host, "deaths", 0) + 1
    if host.core is not None:
        host.crash()
    if host.deaths < DEATHS_MAX:
        world.restart_later(host)
    elif world.is_closing:
        raise Violation("V-01", "a node that stops whenever it is started", host.peer)


class Nothing:
    """A ghost that knows nothing and believes everything."""

    def __init__(self, founders: Any, *_: object) -> None:
        self.configurations = [(0, founders)]
        """As if nothing were ever changed: faults are kept within what the founders can bear."""
        self.committed = _Zeros()
        self.entries: list[Any] = []
        self.commit = 1 << 60
        self.first_at: defaultdict[object, int] = defaultdict(int)
        self.floor = 0
        self.machine = self

    def link(self, before: int, entry: Any) -> int:
        """A chain like any other."""
        return 0

    def __getattr__(self, name: str) -> Any:
        return _nothing


class _Zeros(list[int]):
    def __getitem__(self, place: Any) -> Any:
        return 0

    def __len__(self) -> int:
        return 0


def _nothing(*_: object, **__: object) -> None:
    return None


def _silent(real: ModuleType) -> ModuleType:
    """A module with the classes of the real one, and functions that do nothing."""
    module = ModuleType(real.__name__)
    for name, value in vars(real).items():
        if isinstance(value, type):
            setattr(module, name, Nothing if name == "Ghost" else value)
        elif callable(value):
            setattr(module, name, _nothing)
        elif not name.startswith("__"):
            setattr(module, name, value)
    return module
