"""Many small files into few on one core: our merge against DuckDB's ``COPY (… ORDER BY …)`` of the same files; the
memory of a merge of four times as much; and one series asked for before and after.

``python -m benchmarks --only compaction``
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.measure import Row, Run, figure

FILES = 24
FILE_ROWS = 50_000
HOSTS = 500
MEMORY_BYTES = 512 << 20
GROWTH = 4
"""So much larger is the partition whose merge must not take more memory."""


def compaction(run: Run) -> list[Row]:
    """In processes of their own, pinned: thread pools and peaks of memory are per process."""
    times = _child(run, "speed", str(run.repetitions))
    small, large = (_child(run, "memory", str(factor))["mib"][0] for factor in (1, GROWTH))
    (their_bytes,), (our_bytes,) = times["their_bytes"], times["our_bytes"]
    title = f"{FILES} files of {FILE_ROWS:,} rows × 21 columns"
    return [
        Row(
            name=f"compaction: {title}, merge + sort order + zstd + sha256",
            ours=figure("M rows/s", times["ours"]),
            peer_name=f"DuckDB COPY ORDER BY, 1 thread, {their_bytes / our_bytes:.2f}× our bytes",
            peer=figure("M rows/s", times["theirs"]),
            at_least=1.5,
        ),
        Row(
            name=f"compaction: peak memory of {GROWTH} times as many rows",
            ours=figure("MiB", [large]),
            peer_name="once as many, in a process of its own",
            peer=figure("MiB", [small]),
            at_most=1.3,
        ),
        Row(
            name="one series of the day, before and after its files were merged (DuckDB, 1 thread)",
            ours=figure("queries/s", times["after"]),
            peer_name="before",
            peer=figure("queries/s", times["before"]),
            at_least=3.0,
        ),
    ]


def _child(run: Run, *arguments: str) -> dict[str, list[float]]:
    command = ["taskset", "-c", str(run.server_cpu), sys.executable, "-m", "benchmarks.compaction", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, list[float]] = json.loads(done.stdout)
    return found


class Bench:
    """Flushed files of one day on a real disk, and the job that merges them."""

    def __init__(self, root: Path, factor: int) -> None:
        from arc.compaction.tiers import Job
        from arc.ingest.writing import write_files
        from arc.storage.parquet import EncodedFile
        from arc.storage.paths import file_path
        from arc.system import system_ports
        from benchmarks.payloads import wide_table

        def path_of(sequence: int, file: EncodedFile) -> str:
            return file_path("bench", "wide", file.hour, node="n1", epoch=1, sequence=sequence)

        self.disk = system_ports(root).disk
        entries = []
        start = 1_767_225_600_000_000_000
        for number in range(FILES * factor):
            begin = start + number * (86_000_000_000_000 // (FILES * factor))
            table = wide_table(FILE_ROWS, host_count=HOSTS, start_ns=begin)
            entries += list(
                write_files(
                    tuple(table.to_batches()),
                    partial(path_of, number + 1),
                    database="bench",
                    measurement="wide",
                    first=number + 1,
                    last=number + 1,
                    node="n1",
                    epoch=1,
                    now_us=0,
                    disk=self.disk,
                )
            )
        self.entries = entries
        self.rows = sum(entry.rows for entry in entries)
        day = entries[0].min_time_us // 86_400_000_000
        chains = tuple((entry,) for entry in entries)
        self.job = Job(tier="daily", database="bench", measurement="wide", day=day, hour=None, chains=chains)

    def merge(self) -> Sequence[str]:
        """Where the outputs lie, below the root."""
        from arc.compaction.merge import Progress, merge

        done = merge(
            self.job,
            disk=self.disk,
            folder="out",
            known=None,
            node="n1",
            epoch=2,
            number=1,
            deduplicate=False,
            target_bytes=256 << 20,
            memory_bytes=MEMORY_BYTES,
            stop=lambda: False,
            progress=Progress(),
        )
        assert done.rows_out == self.rows
        return [part.draft for part in done.parts]

    def paths(self) -> list[str]:
        """Of the sources, as the system knows them."""
        return [self.disk.native_path(f"data/{entry.path}") for entry in self.entries]


def speed(repetitions: int) -> dict[str, list[float]]:
    """Alternate."""
    import duckdb
    import pyarrow as pa

    from benchmarks.payloads import TAGS

    pa.set_cpu_count(1)
    found: dict[str, list[float]] = {name: [] for name in ("ours", "theirs", "before", "after")}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), 1)
        connection = duckdb.connect(config={"threads": 1, "memory_limit": "2GB", "temp_directory": f"{folder}/spill"})
        target, order = f"{folder}/theirs.parquet", ", ".join([*TAGS, "time"])
        for _ in range(repetitions):
            began = time.perf_counter()
            connection.execute(
                f"COPY (SELECT * FROM read_parquet(?) ORDER BY {order}) TO '{target}' (COMPRESSION zstd)",
                [bench.paths()],
            )
            found["theirs"].append(bench.rows / (time.perf_counter() - began) / 1e6)
            began = time.perf_counter()
            outputs = [bench.disk.native_path(path) for path in bench.merge()]
            found["ours"].append(bench.rows / (time.perf_counter() - began) / 1e6)
        found["their_bytes"] = [os.path.getsize(target)]
        found["our_bytes"] = [sum(map(os.path.getsize, outputs))]
        tags = connection.execute(f"SELECT {', '.join(TAGS)} FROM read_parquet(?) LIMIT 1", [outputs]).fetchall()[0]
        where = " AND ".join(f"{name} = ?" for name in TAGS)
        query = f"SELECT count(*), max(time) FROM read_parquet(?) WHERE {where}"
        for _ in range(3 * repetitions):
            for name, paths in (("before", bench.paths()), ("after", outputs)):
                began = time.perf_counter()
                counted = connection.execute(query, [paths, *tags]).fetchall()
                found[name].append(1 / (time.perf_counter() - began))
                assert counted[0][0] == bench.rows // HOSTS, counted
    return found


def memory(factor: int) -> dict[str, list[float]]:
    """The peak of a process that only merges: the files are made by another."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory() as folder:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            bench = Bench(Path(folder), factor)
            import pickle

            os.write(writing, pickle.dumps([bench.entries, bench.rows, bench.job]))
            os._exit(0)
        os.close(writing)
        import pickle

        with os.fdopen(reading, "rb") as pipe:
            entries, rows, job = pickle.loads(pipe.read())
        os.waitpid(child, 0)
        from arc.system import system_ports

        bench = Bench.__new__(Bench)
        bench.disk, bench.entries, bench.rows, bench.job = system_ports(Path(folder)).disk, entries, rows, job
        bench.merge()
    return {"mib": [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]}


def main() -> None:
    """What a child does."""
    what, amount = sys.argv[1:]
    print(json.dumps(speed(int(amount)) if what == "speed" else memory(int(amount))))


if __name__ == "__main__":
    main()
