"""Bugs of code that no simulation of bare cores runs: a private copy of the project with the bug, under its own tests
or, for bugs that whole nodes show, under a story of whole nodes.

The copy lives in a temporary folder and is run in a process of its own, so nothing of it is ever imported here. It has
the compiled files of the original, too: to compile everything anew would take longer than most runs.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from simulations.mutants.mutant import Kill, Mutant
from simulations.mutants.plant import Edit, NotPlantable
from simulations.scenarios.worlds import NAMED

ROOT = Path(__file__).resolve().parents[2]
NODES = ("arc", "simulations")
COPIED = (*NODES, "tests", "docs")
FILES = ("pyproject.toml", "DIVERGENCE.md")
SECONDS_MAX = 900


def check(edits: Sequence[Edit]) -> None:
    """Raises NotPlantable when a snippet does not occur exactly once."""
    for edit in edits:
        _replaced(edit, (ROOT / edit.module).read_text(encoding="utf-8"))


def run(mutant: Mutant) -> Kill:
    """Run the selected tests against a copy with the bug; the killer is the first test that fails.

    Raises NotPlantable, and RuntimeError when the tests could not be run at all.
    """
    start = time.perf_counter()
    with _copied(mutant.edits, COPIED) as copy:
        command = ["-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *mutant.tests]
        done = _run(copy, command)
    failed = re.search(r"^(?:FAILED|ERROR) \S*?([^/\s]+?\.py::[^\s\[]+)", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or (done.returncode == 1 and failed is None):
        raise RuntimeError(f"the tests of {mutant.id} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Kill(failed.group(1) if failed else "", 1, time.perf_counter() - start)


def chase(mutant: Mutant, first_seed: int, seeds_max: int | None = None) -> Kill:
    """Run the bug's story of whole nodes from this seed on until something is wrong; the killer is the property.

    Raises NotPlantable, and RuntimeError when the nodes could not be run at all.
    """
    assert mutant.hunt is not None, mutant
    start = time.perf_counter()
    scenario, seeds, more = mutant.hunt
    plans = [replace(NAMED[scenario](first_seed + nth), **more) for nth in range(min(seeds, seeds_max or seeds))]
    with _copied(mutant.edits, NODES) as copy:
        done = _run(copy, ["-m", "simulations.mutants.trial"], json.dumps([plan.document() for plan in plans]))
    if done.returncode:
        raise RuntimeError(f"the nodes of {mutant.id} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Kill(told["killer"], told["seeds"], time.perf_counter() - start)


@contextmanager
def _copied(edits: Sequence[Edit], names: Sequence[str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="arc-mutant-") as folder:
        copy = Path(folder)
        for name in names:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(".*"))
        for name in FILES:
            if (ROOT / name).exists():
                shutil.copy(ROOT / name, copy / name)
        for edit in edits:
            path = copy / edit.module
            path.write_text(_replaced(edit, path.read_text(encoding="utf-8")), encoding="utf-8")
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
                compiled.unlink()
        yield copy


def _run(copy: Path, command: Sequence[str], told: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
        input=told,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )


def _replaced(edit: Edit, text: str) -> str:
    if text.count(edit.old) != 1:
        raise NotPlantable(f"{edit.module}: occurs {text.count(edit.old)} times, not once: {edit.old!r}")
    return text.replace(edit.old, edit.new)
