"""The child of ``catalog``: a machine built by commands until it has a million files, then changed, asked and written
down. Prints milliseconds of each step as JSON, of this thread's processor time: nothing here waits for a disk, and what
neighbours take is not a cost of the catalog.

The collector is set as `arc serve` sets it, and nothing is frozen: as on a node that registered all this since its
start.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable

from arc.catalog import snapshot
from arc.catalog.commands import WRITER, AssignLease, Command, DeclareColumns, RegisterFiles
from arc.catalog.fsm import ClusterFSM
from arc.catalog.values import ColumnSchema
from arc.ids import NodeId
from arc.storage.files import FileEntry
from arc.storage.paths import HOUR_US, file_path
from benchmarks.payloads import START_NS

FILES = 1_000_000
MEASUREMENTS = 10
DAYS = 500
BATCH_FILES = 10_000
NEW_FILES = 1_000
PRUNED_HOURS = 6

DAY_US = 24 * HOUR_US
START_US = START_NS // 1000
COLUMNS = ("time", "host", "usage", "idle")


class Machine:
    """The state machine, and files that it has never seen."""

    def __init__(self) -> None:
        self.fsm = ClusterFSM()
        self._made = 0
        self.do(AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=0))
        self._epoch = self.fsm.catalog.lease_epoch(WRITER)
        columns = tuple(map(ColumnSchema, COLUMNS[1:], ("tag", "float", "float")))
        for n in range(MEASUREMENTS):
            self.do(DeclareColumns(database="bench", measurement=f"m{n}", columns=columns, created_us=0))
        for first in range(0, FILES, BATCH_FILES):
            self.do(self.register(BATCH_FILES, lambda n, f=first: (f + n) * DAYS // FILES))  # type: ignore[misc]

    def do(self, command: Command) -> None:
        """Apply it. Raises AssertionError when it is refused."""
        done = self.fsm.apply(self.fsm.catalog.index + 1, command).result
        assert done.ok, done

    def register(self, count: int, day_of: Callable[[int], int]) -> RegisterFiles:
        """So many files of all measurements in turn, each in the day that is said."""
        return RegisterFiles(files=tuple(self._file(n, day_of(n)) for n in range(count)), epoch=self._epoch)

    def _file(self, n: int, day: int) -> FileEntry:
        self._made += 1
        name, hour = f"m{n % MEASUREMENTS}", START_US // HOUR_US + day * 24 + n // MEASUREMENTS % 24
        return FileEntry(
            path=file_path("bench", name, hour, node="n1", epoch=self._epoch, sequence=self._made),
            database="bench",
            measurement=name,
            sha256=f"{self._made:064x}",
            size_bytes=1 << 20,
            rows=50_000,
            min_time_us=hour * HOUR_US,
            max_time_us=(hour + 1) * HOUR_US - 1,
            origin="n1",
            epoch=self._epoch,
            first_sequence=0,
            last_sequence=0,
            created_us=self._made,
            columns=COLUMNS,
        )


def measure(repetitions: int) -> dict[str, list[float]]:
    """Ten times as many of what takes milliseconds, so that the collector is met now and then."""
    machine = Machine()
    found: dict[str, list[float]] = {name: [] for name in ("today", "scattered", "pruned", "step", "snapshot")}
    for turn in range(10 * repetitions):
        for name, command in (
            ("today", machine.register(NEW_FILES, lambda n: DAYS - 1)),
            ("scattered", machine.register(NEW_FILES, lambda n, t=turn: (n // MEASUREMENTS * 5 + t) % DAYS)),  # type: ignore[misc]
        ):
            began = time.thread_time()
            machine.do(command)
            found[name].append(_ms(began))
        low, name = START_US + turn * 7 % DAYS * DAY_US, f"m{turn % MEASUREMENTS}"
        began = time.thread_time()
        files = machine.fsm.catalog.files_between("bench", name, low, low + PRUNED_HOURS * HOUR_US - 1)
        found["pruned"].append(_ms(began))
        assert files
    found["files"] = [float(len(files))]
    for _ in range(repetitions):
        began = last = time.thread_time()
        longest = chunks = 0.0
        for _ in snapshot.encode(machine.fsm.catalog):
            longest, last, chunks = max(longest, _ms(last)), time.thread_time(), chunks + 1
        found["step"].append(longest)
        found["snapshot"].append(_ms(began) / 1000)
        found["chunks"] = [chunks]
    assert machine.fsm.catalog.totals().files == FILES + 20 * repetitions * NEW_FILES
    return found


def _ms(since: float) -> float:
    return (time.thread_time() - since) * 1000


if __name__ == "__main__":
    gc.set_threshold(50_000, 50, 100)
    print(json.dumps(measure(int(sys.argv[1]))))
