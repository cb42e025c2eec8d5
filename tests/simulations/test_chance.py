"""Chance is repeatable, in streams that do not disturb each other; links lose and double as often as they are told."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from arc.raft.messages import Commit
from arc.raft.types import Peer
from simulations.chance import stream
from simulations.fabric import Fabric, NetworkShape

ROOT = Path(__file__).resolve().parents[2]
DRAWS = "from simulations.chance import stream; print([stream(s, n).random() for s in (1, 2) for n in ('disk', 'net')])"
MESSAGE = Commit(Peer("n1"), Peer("n2"), 7, 1234)


def test_a_stream_is_its_seed_and_its_name_in_every_process() -> None:
    """N-05, I-36: whatever the hash seed of the process."""
    told = {
        subprocess.run(
            [sys.executable, "-c", DRAWS],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "77")
    }
    assert told == {f"{[stream(seed, name).random() for seed in (1, 2) for name in ('disk', 'net')]}\n"}


def test_streams_of_other_names_and_of_other_seeds_differ() -> None:
    """N-05."""
    firsts = {stream(seed, name).random() for seed in range(50) for name in ("disk/n1", "disk/n2", "network")}
    assert len(firsts) == 150


def test_links_lose_and_double_as_often_as_they_are_told() -> None:
    """R-15: five standard deviations of ten thousand draws."""
    shape = NetworkShape(loss=0.2, duplicate=0.1)
    fabric = Fabric(shape, stream(1, "rates"))
    arrivals = [fabric.times(MESSAGE, 0.0) for _ in range(10_000)]
    lost = sum(not each for each in arrivals)
    doubled = sum(len(each) > 1 for each in arrivals)
    assert abs(lost - 2000) < 5 * 40
    assert abs(doubled - 800) < 5 * 27


def test_links_take_as_long_as_they_are_told() -> None:
    """R-15: half to one and a half of the link's own mean, which is half to one and a half of the shape's."""
    fabric = Fabric(NetworkShape(latency_seconds=0.01), stream(1, "delays"))
    delays = sorted(fabric.times(MESSAGE, 5.0)[0] - 5.0 for _ in range(2_000))
    mean = delays[len(delays) // 2]
    assert 0.005 <= mean <= 0.015
    assert 0.45 * mean < delays[0] < 0.55 * mean
    assert 1.45 * mean < delays[-1] < 1.55 * mean
