"""A catalog of many files: work must not grow with the files that a command does not touch.

Counts instead of seconds where it can be, and generous seconds elsewhere: the machine is shared.
"""

from __future__ import annotations

from time import perf_counter

from arc.catalog.cells import HOUR_US
from arc.catalog.commands import RegisterFiles
from arc.catalog.fsm import ClusterFSM
from tests.catalog.facts import declare, do, file, ready


def filled() -> ClusterFSM:
    """100,000 files: 20 measurements with 5,000 hours each."""
    machine = ready()
    for number in range(20):
        do(machine, declare(measurement=f"m{number}"))
    for start in range(0, 5_000, 1_000):
        entries = tuple(
            file("a", hour=hour, measurement=f"m{number}")
            for number in range(20)
            for hour in range(start, start + 1_000)
        )
        do(machine, RegisterFiles(files=entries, epoch=1))
    return machine


def test_a_change_shares_everything_it_does_not_touch() -> None:
    machine = filled()
    before = machine.catalog.manifest["metrics"].measurements
    do(machine, RegisterFiles(files=(file("b", hour=4_999, measurement="m3"),), epoch=1))
    after = machine.catalog.manifest["metrics"].measurements
    assert [name for name in after if after[name] is not before[name]] == ["m3"]
    copied = [day for day, cell in after["m3"].days.items() if cell is not before["m3"].days.get(day)]
    assert copied == [4_999 // 24]

    fastest = min(measure(machine, number) for number in range(5))
    assert fastest < 0.1, f"1,000 files took {fastest:.3f} s; 10 ms on a quiet machine"
    begun = perf_counter()
    found = machine.catalog.files_between("metrics", "m5", 4_000 * HOUR_US, 4_001 * HOUR_US - 1)
    assert len(found) == 6
    assert perf_counter() - begun < 0.01


def measure(machine: ClusterFSM, number: int) -> float:
    entries = tuple(file(f"x{number}", hour=4_000 + hour, measurement=f"m{n}") for n in range(20) for hour in range(50))
    begun = perf_counter()
    do(machine, RegisterFiles(files=entries, epoch=1))
    return perf_counter() - begun
