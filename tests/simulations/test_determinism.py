"""The same seed is the same run, to the bit: in another process, under another hash seed, and from its plan's file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from simulations import swarm
from simulations.plan import Plan
from simulations.runner import run
from simulations.scenarios import TABLE

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 5

PROGRAM = """
import sys
from simulations.runner import run_seed
from simulations.scenarios import TABLE
for seed in range(int(sys.argv[1])):
    print("swarm", seed, run_seed(("swarm", seed)).digest)
for scenario in TABLE:
    print(scenario.name, 1, run_seed((scenario.name, 1)).digest)
"""


def digests(hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SEEDS)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )
    return done.stdout


def test_two_processes_with_different_hash_seeds_see_the_same_events() -> None:
    """I-36; every event, message and crash is in the digest."""
    first, second = digests("1"), digests("4242")
    assert first == second
    assert len(first.splitlines()) == SEEDS + len(TABLE)


def test_digests_of_different_seeds_differ() -> None:
    """N-05: seeds that were drawn differ in what follows from them."""
    assert run(swarm.draw(1)).digest != run(swarm.draw(2)).digest


def test_a_plan_read_back_from_its_file_is_the_same_run() -> None:
    plan = swarm.draw(11)
    again = Plan.read(json.loads(json.dumps(plan.document())))
    assert again == plan
    assert run(again).document() == run(plan).document()
