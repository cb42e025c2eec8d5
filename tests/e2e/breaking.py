"""A library, built where it is needed, that breaks the disk of one process when a file says so (`failing_disk.c`)."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_disk.c")
HANGS = "hang"
"""What the file says when calls are to wait until it is gone (`hang`); otherwise they fail with EIO."""


class NotBuilt(Exception):
    """Why there is no such library on this machine."""


def build(folder: Path) -> Path:
    """The library, in that folder. Raises NotBuilt."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise NotBuilt("no C compiler: the failing disk cannot be built")
    library = folder / "failing_disk.so"
    command = [compiler, "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode != 0:
        raise NotBuilt(f"the failing disk does not compile here: {done.stderr.decode()[:300]}")
    return library


def variables(library: Path, trigger: Path, below: Path) -> Mapping[str, str]:
    """The environment of a process whose files below that folder are on a disk that breaks while ``trigger`` is there.
    What broke is told in a file beside the trigger.
    """
    return {
        "LD_PRELOAD": str(library),
        "BROKEN_DISK_TRIGGER": str(trigger),
        "BROKEN_DISK_FOLDER": str(below),
        "BROKEN_DISK_LOG": str(told_in(trigger)),
    }


def hang(trigger: Path) -> None:
    """Let the disk hang from now on, until the file is gone."""
    draft = trigger.with_name(f"{trigger.name}.draft")
    draft.write_text(HANGS, encoding="utf-8")
    draft.replace(trigger)  # A file that is there and empty would mean something else.


def told_in(trigger: Path) -> Path:
    """Where the calls that failed are told."""
    return trigger.with_name(f"{trigger.name}.calls")
