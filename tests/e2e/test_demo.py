"""``arc demo --nodes 3`` as somebody types it on a fresh clone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.e2e.cluster import wait_until
from tests.e2e.harness import environment

DEMO_SECONDS = 240.0
INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def demo(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start it; what it makes is below ``folder``."""
    folder.mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "arc", "demo", "--nodes", "3", *arguments],
        env=environment({}, {"TMPDIR": str(folder)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=takes_interrupts,
    )


def takes_interrupts() -> None:
    """Whoever runs these tests in the background of a shell ignores SIGINT, and so would what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.timeout(400)
def test_the_demo_kills_the_writer_and_finds_every_row_once_on_every_node(tmp_path: Path) -> None:
    running = demo(tmp_path / "demo", "--kill-leader", "--json", "--seconds", "6")

    out, err = running.communicate(timeout=DEMO_SECONDS)

    assert running.returncode == 0, err
    found = json.loads(out)
    assert found["acknowledged"] > 0 and found["lost"] == 0 and found["doubled"] == 0, found
    assert found["killed"] != found["new_writer"]
    assert not any((tmp_path / "demo").iterdir()), "it leaves nothing behind"
    print(f"gap {found['gap_seconds']} s, {found['acknowledged']} rows acknowledged")


def to_the_command(running: subprocess.Popen[str]) -> None:
    """As ``kill -INT`` does."""
    running.send_signal(signal.SIGINT)


def to_all_of_them(running: subprocess.Popen[str]) -> None:
    """As Ctrl-C in a terminal does: the nodes get it as well."""
    os.killpg(running.pid, signal.SIGINT)


@pytest.mark.timeout(400)
@pytest.mark.parametrize("interrupt", [to_the_command, to_all_of_them])
def test_an_interrupted_demo_ends_its_nodes_and_removes_their_folders(
    tmp_path: Path, interrupt: Callable[[subprocess.Popen[str]], None]
) -> None:
    running = demo(tmp_path / "demo", "--seconds", "600")
    children: list[psutil.Process] = []

    def has_three() -> bool:
        assert running.poll() is None
        children[:] = psutil.Process(running.pid).children()
        return len(children) == 3 and len([*tmp_path.glob("demo/arc-demo-*/n*/data/wal")]) == 3

    wait_until("three nodes run and belong to a cluster", has_three)
    interrupt(running)
    _, err = running.communicate(timeout=DEMO_SECONDS)

    assert running.returncode == INTERRUPTED, err
    assert "Traceback" not in err
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert not any((tmp_path / "demo").iterdir())
