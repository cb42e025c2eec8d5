"""Rows without a peer: a long log is opened, and clusters are simulated. Each in a process of its own, per second of
processor time where it computes, so that other work on the machine matters less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.consensus.cluster import REPOSITORY, ArcRaft
from benchmarks.measure import Row, Run, figure
from tests.e2e.framed import PUT, Down, Framed

LOG_ENTRIES = 1_000_000
ENTRY_BYTES = 256
GROUP_ENTRIES = 1000
SEEDS = 20
START_SECONDS = 120.0


def open_log(run: Run) -> list[Row]:
    """A million entries of 256 bytes, out of the page cache: the log alone, and a member that also applies them all."""
    folder = run.folder / "long-log"
    _child("write", str(folder))
    opened, answered, writing = [], [], _size(folder)
    for _ in range(run.repetitions):
        _forget(folder)
        opened.append(float(_child("open", str(folder))))
        _forget(folder)
        answered.append(_member(run, folder))
        run.say(f"    opened in {opened[-1]:.2f} s, first acknowledged write after {answered[-1]:.2f} s")
    note = (
        f"{writing / 1e6:.0f} MB, cold; a process of one voter that also applies all of it acknowledges a write after"
    )
    return [
        Row(
            name=f"open a log of {LOG_ENTRIES:,} entries",
            ours=figure("s", opened),
            at_most=5.0,
            note=f"{note} {figure('s', answered)}",
        )
    ]


def simulated(run: Run) -> list[Row]:
    """Five bare cores, and five whole nodes under the virtual clock with and without load."""
    found: dict[str, list[float]] = {}
    for _ in range(run.repetitions):
        for name in ("cores", "world-load", "world-idle"):
            for what, value in json.loads(_child(name)).items():
                found.setdefault(what, []).append(value)
        run.say(f"    {', '.join(f'{what} {values[-1]:,.1f}' for what, values in found.items())}")
    return [
        Row(
            name="bare cores simulated, all invariants on: events",
            ours=figure("events/s", found["events"]),
            at_least=50_000,
            note="per second of processor time",
        ),
        Row(
            name="bare cores simulated: five nodes, 20 simulated seconds, about 100 operations",
            ours=figure("seeds/s", found["seeds"]),
            at_least=20,
            note=f"{found['size'][-1]:,.0f} events a seed",
        ),
        Row(
            name="five whole nodes under the virtual clock, with load",
            ours=figure("× real time", found["load"]),
            at_least=10,
        ),
        Row(
            name="five whole nodes under the virtual clock, nearly idle",
            ours=figure("× real time", found["idle"]),
            at_least=100,
        ),
    ]


def _member(run: Run, folder: Path) -> float:
    """Seconds from the start of the process to its first acknowledged write."""
    cluster = ArcRaft(run.folder / "cluster")
    with cluster:
        command = cluster.command(0)
        command[command.index("--folder") + 1] = str(folder)
        command[command.index("--members") + 1] = f"n0=127.0.0.1:{cluster.peer_ports[0]}"
        command += ["--snapshot-entries", str(10 * LOG_ENTRIES)]  # the next repetition shall find the same
        began = time.perf_counter()
        with (cluster.folder / "n0.log").open("ab") as log:
            cluster.processes[0] = process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment())
        while time.perf_counter() - began < START_SECONDS and process.poll() is None:
            try:
                connection = Framed(("127.0.0.1", cluster.ports[0]), timeout=1.0)
            except Down:
                time.sleep(0.01)
                continue
            try:
                if connection.call(PUT, b"key", b"value", timeout=START_SECONDS).ok:
                    return time.perf_counter() - began
                time.sleep(0.01)
            finally:
                connection.close()
        raise RuntimeError(f"the member with a long log takes no writes\n{cluster.told()}")


def _child(*arguments: str) -> str:
    """One of the jobs below, alone in a process. Raises RuntimeError with what it wrote."""
    command = [sys.executable, "-m", "benchmarks.consensus.alone", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return done.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), os.environ.get("PYTHONPATH", "")))}


def _files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if path.is_file()]


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in _files(folder))


def _forget(folder: Path) -> None:
    """Put the files out of the page cache."""
    for path in _files(folder):
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


# ------------------------------------------------------------------------------------------------- jobs of a child


def _write(folder: str) -> str:
    from arc.raft.effects import Write
    from arc.raft.types import Entry, HardState, Peer
    from tests.e2e.raftd import command_of

    storage = _storage(folder)
    value = b"v" * (ENTRY_BYTES - 16)
    storage.write([Write(1, HardState(1, Peer("n0")))])
    for first in range(1, LOG_ENTRIES + 1, GROUP_ENTRIES):
        entries = tuple(
            Entry(index, 1, payload=command_of(b"%012d" % (index % 10_000), value))
            for index in range(first, first + GROUP_ENTRIES)
        )
        storage.write([Write(first + 1, entries=entries)])
    storage.close()
    return ""


def _open(folder: str) -> str:
    began = time.perf_counter()
    storage = _storage(folder)
    took = time.perf_counter() - began
    assert storage.statistics().next_index > LOG_ENTRIES, storage
    return str(took)


def _storage(folder: str):  # type: ignore[no-untyped-def]  # its import takes long and only children need it
    from arc.raft.storage import RaftStorage
    from arc.raft.types import Configuration, Peer
    from arc.system import SystemDisk

    founders = Configuration(voters=(Peer("n0"),))
    return RaftStorage.open(SystemDisk(Path(folder)), "raft", me=Peer("n0"), founders=founders)


def _cores() -> str:
    from simulations.plan import Plan
    from simulations.runner import PASSED, run

    def plan(seed: int) -> Plan:
        # The faults' part of 14 s and the healing after it make 20 simulated seconds.
        return Plan(scenario="bench", seed=seed, size=5, seconds=14.0, clients=3, think_seconds=0.4)

    run(plan(0))
    events, began = 0, time.process_time()
    for seed in range(1, SEEDS + 1):
        outcome = run(plan(seed))
        assert outcome.verdict == PASSED, outcome
        events += outcome.events
    took = time.process_time() - began
    return json.dumps({"events": events / took, "seeds": SEEDS / took, "size": events / SEEDS})


def _world(name: str, clients: int, think_seconds: float, seconds: float) -> str:
    from simulations.runner import PASSED
    from simulations.world import run_world
    from simulations.world_plan import WorldPlan

    began = time.process_time()
    plan = WorldPlan(seed=1, size=5, clients=clients, think_seconds=think_seconds, seconds=seconds)
    outcome = run_world(plan)
    assert outcome.verdict == PASSED, outcome
    return json.dumps({name: outcome.simulated_seconds / (time.process_time() - began)})


JOBS: dict[str, Callable[..., str]] = {
    "write": _write,
    "open": _open,
    "cores": _cores,
    "world-load": lambda: _world("load", 4, 0.2, 30.0),
    "world-idle": lambda: _world("idle", 1, 10.0, 200.0),
}

if __name__ == "__main__":
    print(JOBS[sys.argv[1]](*sys.argv[2:]))
