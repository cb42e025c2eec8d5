"""Bugs of code that no simulation of bare cores runs: a private copy of the project with the bug, under its own tests.

The copy lives in a temporary folder and is tested in a process of its own, so nothing of it is ever imported here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from simulations.mutants.mutant import Kill, Mutant
from simulations.mutants.plant import Edit, NotPlantable

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("arc", "simulations", "tests", "docs")
FILES = ("pyproject.toml", "DIVERGENCE.md")
SECONDS_MAX = 300


def check(edits: Sequence[Edit]) -> None:
    """Raises NotPlantable when a snippet does not occur exactly once."""
    for edit in edits:
        _replaced(edit, (ROOT / edit.module).read_text(encoding="utf-8"))


def run(mutant: Mutant) -> Kill:
    """Run the selected tests against a copy with the bug; the killer is the first test that fails.

    Raises NotPlantable, and RuntimeError when the tests could not be run at all.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="arc-mutant-") as folder:
        copy = Path(folder)
        for name in COPIED:
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        for name in FILES:
            if (ROOT / name).exists():
                shutil.copy(ROOT / name, copy / name)
        for edit in mutant.edits:
            path = copy / edit.module
            path.write_text(_replaced(edit, path.read_text(encoding="utf-8")), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=", *mutant.tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
    failed = re.search(r"^(?:FAILED|ERROR) \S*?([^/\s]+?\.py::[^\s\[]+)", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1) or (done.returncode == 1 and failed is None):
        raise RuntimeError(f"the tests of {mutant.id} did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Kill(failed.group(1) if failed else "", 1, time.perf_counter() - start)


def _replaced(edit: Edit, text: str) -> str:
    if text.count(edit.old) != 1:
        raise NotPlantable(f"{edit.module}: occurs {text.count(edit.old)} times, not once: {edit.old!r}")
    return text.replace(edit.old, edit.new)
