"""Plants a bug: copies under other import names, with exact snippets of their source replaced.

The code knows nothing of it: no flag, no hook. Each snippet must occur exactly once in its module, else the table
itself is wrong and says so. What is copied is the core (`arc.raft` without its storage and driver) and, for bugs that
live around the core, the simulator's own stand-ins for disk, driver, state machine and clients. Values (types,
messages, events, effects, config) and the checkers' ghost state are shared with the project's own code, so checkers
judge a copy like the original.

Modules are named as they are imported, below ``arc.raft`` or from ``simulations.`` on; ``quorum`` is `arc.quorum`.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import arc.quorum
import arc.raft
import simulations

CORE = (
    *("append", "change", "core", "durability", "election", "heartbeat", "invariants", "lanes", "leading", "log"),
    *("membership", "progress", "reads", "recovery", "snapshot", "state", "status", "transfer"),
)
"""The modules of the core that decide something; a copy has its own of each."""

SHARED = ("config", "effects", "events", "messages", "types")
"""The values that a copy shares with the original."""

STANDS = (
    *("simulations.cores", "simulations.deeds", "simulations.disk", "simulations.host", "simulations.machine"),
    "simulations.workload",
)
"""What stands for disk, driver, state machine and clients in a run of bare cores."""


class Edit(NamedTuple):
    """One replacement in one module."""

    module: str
    old: str
    new: str


class NotPlantable(Exception):
    """A snippet does not occur exactly once: the code moved on and the table did not."""


def sources() -> dict[str, str]:
    """Module name -> source of everything that can be copied."""
    folder = Path(arc.raft.__file__).parent
    found = {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in CORE}
    found["quorum"] = Path(arc.quorum.__file__).read_text(encoding="utf-8")
    around = Path(next(iter(simulations.__path__)))
    for name in STANDS:
        found[name] = (around / f"{name.partition('.')[2]}.py").read_text(encoding="utf-8")
    return found


def patched(edits: Sequence[Edit]) -> dict[str, str]:
    """The sources with the edits. Raises NotPlantable."""
    found = sources()
    for edit in edits:
        count = found.get(edit.module, "").count(edit.old)
        if count != 1:
            raise NotPlantable(f"{edit.module}: occurs {count} times, not once: {edit.old!r}")
        found[edit.module] = found[edit.module].replace(edit.old, edit.new)
    return found


def plant(name: str, edits: Sequence[Edit]) -> type[Any]:
    """The `RaftCore` of a copy with the edits. Raises NotPlantable."""
    return core_of(name, patched(edits))


def core_of(name: str, texts: Mapping[str, str]) -> type[Any]:
    """The `RaftCore` made of these sources."""
    package = _name("arc_raft", name)
    own = {key: text for key, text in texts.items() if not key.startswith("simulations.")}
    moved = {
        f"{package}.{key}": text.replace("arc.raft", package).replace("arc.quorum", f"{package}.quorum")
        for key, text in own.items()
    }
    shared = {f"{package}.{key}": importlib.import_module(f"arc.raft.{key}") for key in SHARED}
    core: type[Any] = load(package, moved, shared, f"{package}.core").RaftCore
    return core


def world_of(name: str, texts: Mapping[str, str]) -> type[Any]:
    """The `Cores` made of these sources; the checkers are the simulator's own."""
    package = _name("planted", name)
    moved = {key.replace("simulations", package, 1): retarget(texts[key], package, STANDS) for key in STANDS}
    world: type[Any] = load(package, moved, {}, f"{package}.cores").Cores
    return world


def retarget(text: str, package: str, modules: Sequence[str]) -> str:
    """Make a source import these modules of ``simulations`` from a copy instead."""
    for module in modules:
        text = re.sub(rf"\b{re.escape(module)}\b", module.replace("simulations", package, 1), text)
    return text


def load(
    package: str,
    texts: Mapping[str, str],
    shared: Mapping[str, ModuleType],
    wanted: str,
    names: Mapping[str, Callable[..., Any]] | None = None,
) -> ModuleType:
    """Import ``wanted`` of a package that exists in memory only. ``names`` are known in all its modules."""
    for known in [module for module in sys.modules if module == package or module.startswith(package + ".")]:
        del sys.modules[known]
    finder = _Finder(package, texts, names or {})
    sys.meta_path.insert(0, finder)
    try:
        sys.modules.update(shared)
        return importlib.import_module(wanted)
    finally:
        sys.meta_path.remove(finder)


def _name(prefix: str, name: str) -> str:
    return f"{prefix}_" + "".join(letter if letter.isalnum() else "_" for letter in name)


class _Finder(MetaPathFinder, Loader):
    """Finds the modules of one copy in memory."""

    def __init__(self, package: str, texts: Mapping[str, str], names: Mapping[str, Callable[..., Any]]) -> None:
        self._texts = {package: "", **texts}
        self._names = names

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Only what is ours."""
        if fullname not in self._texts:
            return None
        is_package = any(known.startswith(fullname + ".") for known in self._texts)
        return ModuleSpec(fullname, self, is_package=is_package)

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source."""
        name = module.__name__
        module.__dict__.update(self._names)
        exec(compile(self._texts[name], f"<{name}>", "exec"), module.__dict__)
