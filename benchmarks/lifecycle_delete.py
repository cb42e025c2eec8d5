"""The child of ``delete``: every file of a measurement written again without one percent of its rows, by us and by
pyarrow, in turns. Prints the times as JSON.

Every file has some of the rows that go: the dearest percent there is.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from arc.catalog.schemas import MeasurementSchema
from arc.catalog.values import ColumnSchema
from arc.deletion.rewrite import rewrite
from arc.ingest.writing import write_files
from arc.ports import Disk
from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.predicate import Conditions
from arc.storage.drafting import ZSTD_LEVEL
from arc.storage.files import FileEntry
from arc.storage.paths import HOUR_US, file_path
from arc.system import system_ports
from benchmarks.payloads import START_NS

FILES = 10
FILE_ROWS = 1_000_000
HOSTS = 100
GONE = "h07"


def measure(repetitions: int, root: Path) -> dict[str, list[float]]:
    """Seconds for all files; what was written goes before the next file."""
    disk = system_ports(root).disk
    entries = [entry for number in range(FILES) for entry in _flushed(disk, number)]
    assert len(entries) == FILES, "each hour is one file"
    engine = Engine(QueryConfig(threads=1), roots=[str(root)], native_path=disk.native_path)
    kinds = {"time": "time", "host": "tag"}
    schema = MeasurementSchema({n: ColumnSchema(n, kinds.get(n, "float")) for n in entries[0].columns}, 1)
    condition = Conditions(engine).parse(f"host = '{GONE}'", "cpu", schema, 0)
    found: dict[str, list[float]] = {name: [] for name in ("ours", "theirs", "our_bytes", "their_bytes")}
    target = root / "theirs.parquet"
    disk.make_dirs("deletion")
    for repetition in range(repetitions):
        ours = theirs = 0.0
        for entry in entries:
            began = time.perf_counter()
            rows = _by_hand(disk.native_path(f"data/{entry.path}"), target)
            theirs += time.perf_counter() - began
            began = time.perf_counter()
            part = rewrite(disk, entry, condition, "deletion/1", node="n1", epoch=2)
            ours += time.perf_counter() - began
            assert part is not None
            assert part.rows == rows == FILE_ROWS - FILE_ROWS // HOSTS, (part.rows, rows)
            if repetition == 0:
                found["our_bytes"].append(part.size_bytes)
                found["their_bytes"].append(target.stat().st_size)
            disk.remove("deletion/1")
            target.unlink()
        found["ours"].append(ours)
        found["theirs"].append(theirs)
    engine.close()
    return found


def _flushed(disk: Disk, number: int) -> Iterator[FileEntry]:
    """One hour of all hosts as a flush leaves it."""
    rng = np.random.default_rng(number)
    at = np.arange(FILE_ROWS)
    times = START_NS // 1000 + number * HOUR_US + at // HOSTS * (HOUR_US // (FILE_ROWS // HOSTS))
    hosts = pa.array([f"h{n:02d}" for n in range(HOSTS)])
    columns = {
        "time": pa.array(times).cast(pa.timestamp("us", "UTC")),
        "host": pa.DictionaryArray.from_arrays(pa.array((at % HOSTS).astype("int32")), hosts),
    }
    columns |= {f"f{n}": pa.array(np.round(rng.random(FILE_ROWS) * 100, 2 + n % 3)) for n in range(6)}
    return write_files(
        tuple(pa.table(columns).to_batches()),
        lambda file: file_path("bench", "cpu", file.hour, node="n1", epoch=1, sequence=number + 1),
        database="bench",
        measurement="cpu",
        first=number + 1,
        last=number + 1,
        node="n1",
        epoch=1,
        now_us=0,
        disk=disk,
    )


def _by_hand(source: str, target: Path) -> int:
    """The whole file at once; everything but codec and level as it comes."""
    rows = pq.read_table(source, use_threads=False).filter(pc.field("host") != GONE)
    pq.write_table(rows, target, compression="zstd", compression_level=ZSTD_LEVEL)
    with target.open("rb") as file:
        hashlib.file_digest(file, "sha256")
    return len(rows)


def main() -> None:
    """Repetitions, and the folder on the disk that matters."""
    repetitions, folder = sys.argv[1:]
    pa.set_cpu_count(1)
    with tempfile.TemporaryDirectory(dir=folder) as root:
        print(json.dumps(measure(int(repetitions), Path(root))))


if __name__ == "__main__":
    main()
