"""Plants a bug: a copy of the core under another import name, with exact snippets of its source replaced.

The core knows nothing of it: no flag, no hook. Each snippet must occur exactly once in its module, else the table
itself is wrong and says so. Values (types, messages, events, effects, config) are shared with the project's own core,
so the simulator drives a copy like the original.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import arc.quorum
import arc.raft

SHARED = ("config", "effects", "events", "messages", "types")
LEFT_OUT = ("__init__", "node", "snapshots", "storage")


class Edit(NamedTuple):
    """One replacement in one module of the core (``quorum`` is `arc.quorum`)."""

    module: str
    old: str
    new: str


class NotPlantable(Exception):
    """A snippet does not occur exactly once: the code moved on and the table did not."""


def sources() -> dict[str, str]:
    """Module name -> source of everything that is copied."""
    folder = Path(arc.raft.__file__).parent
    found = {
        path.stem: path.read_text(encoding="utf-8")
        for path in sorted(folder.glob("*.py"))
        if path.stem not in (*SHARED, *LEFT_OUT)
    }
    found["quorum"] = Path(arc.quorum.__file__).read_text(encoding="utf-8")
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
    package = "arc_raft_" + "".join(letter if letter.isalnum() else "_" for letter in name)
    for known in [module for module in sys.modules if module == package or module.startswith(package + ".")]:
        del sys.modules[known]
    finder = _Finder(package, patched(edits))
    sys.meta_path.insert(0, finder)
    try:
        root = importlib.import_module(package)
        for shared in SHARED:
            module = importlib.import_module(f"arc.raft.{shared}")
            sys.modules[f"{package}.{shared}"] = module
            setattr(root, shared, module)
        core: type[Any] = importlib.import_module(f"{package}.core").RaftCore
    finally:
        sys.meta_path.remove(finder)
    return core


class _Finder(MetaPathFinder, Loader):
    """Finds the modules of one copy in memory."""

    def __init__(self, package: str, texts: Mapping[str, str]) -> None:
        self._package = package
        self._texts = {
            f"{package}.{name}": text.replace("arc.raft", package).replace("arc.quorum", f"{package}.quorum")
            for name, text in texts.items()
        }
        self._texts[package] = ""

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """Only what is ours."""
        if fullname not in self._texts:
            return None
        return ModuleSpec(fullname, self, is_package=fullname == self._package)

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed source."""
        name = module.__name__
        exec(compile(self._texts[name], f"<{name}>", "exec"), module.__dict__)
