"""How fast a result of 1 M rows × 4 columns leaves the query path, per format, scan of the files included.

Run: ``python benchmarks/query_encode.py [rows]``. For every format: DuckDB's scan of the same files alone (the floor),
the scan with the encoder, and for JSON the plain library's way, alternating in one process; median and spread of five.
Nothing is sent anywhere. Targets (two cores): Arrow 10 M rows/s, JSON 5 M, MessagePack 8 M.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from arc.catalog.schemas import ColumnSchema, MeasurementSchema
from arc.query import json_rows, results_json
from arc.query.config import QueryConfig
from arc.query.engine import Engine
from arc.query.names import TableName
from arc.query.relation import parquet_source, relation_sql
from arc.query.results import Encoder, Encoding, Summary
from arc.query.results_arrow import ArrowEncoder
from arc.query.results_csv import CsvEncoder
from arc.query.results_json import JsonEncoder
from arc.query.results_msgpack import MsgpackEncoder
from arc.query.snapshot import Snapshot, TableSnapshot
from arc.query.statement import Statement, TableUse
from arc.storage.files import FileEntry

REPEATS = 5
START_US = 1_767_225_600_000_000
SQL = "SELECT time, host, usage_user, usage_irq FROM cpu"


def main() -> None:
    """Make the files, run the cases, print the table."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        entries = write_files(root, rows)
        engine = Engine(QueryConfig(), roots=[folder], native_path=lambda path: str(root / path))
        held = TableSnapshot(schema=SCHEMA, files=tuple(entries))
        snapshot = Snapshot(catalog=None, tables={TABLE: held})  # type: ignore[arg-type]
        results_json.warm()
        plain = duckdb.connect()
        plain.execute("SET preserve_insertion_order = false")
        cases: dict[str, Callable[[], int]] = {
            "DuckDB scan alone (Arrow batches)": lambda: scan(plain, root, entries),
            "Arrow IPC": lambda: encode(engine, snapshot, ArrowEncoder()),
            "Arrow IPC, zstd": lambda: encode(engine, snapshot, ArrowEncoder(compression="zstd")),
            "JSON": lambda: encode(engine, snapshot, JsonEncoder()),
            "MessagePack": lambda: encode(engine, snapshot, MsgpackEncoder(bytes_max=1 << 40)),
            "CSV": lambda: encode(engine, snapshot, CsvEncoder()),
            "JSON, orjson on rows (library)": lambda: encode(engine, snapshot, PlainJson()),
        }
        measure(rows, cases)
        engine.close()


SCHEMA = MeasurementSchema(
    {
        "host": ColumnSchema("host", "tag"),
        "usage_user": ColumnSchema("usage_user", "float"),
        "usage_irq": ColumnSchema("usage_irq", "integer"),
    },
    1,
)
TABLE = TableName("default", "cpu")


def write_files(root: Path, rows: int) -> list[FileEntry]:
    """Two files, time-sorted, 4,000 hosts."""
    rng = np.random.default_rng(7)
    entries = []
    for number in range(2):
        count = rows // 2
        times = START_US + (number * count + np.arange(count)) * 1_000
        hosts = pa.DictionaryArray.from_arrays(
            pa.array(rng.integers(0, 4000, count), pa.int32()), pa.array([f"host_{i}" for i in range(4000)])
        )
        table = pa.table(
            {
                "time": pa.array(times, pa.timestamp("us", tz="UTC")),
                "host": hosts,
                "usage_user": np.round(rng.uniform(0, 100, count), 3),
                "usage_irq": rng.integers(0, 100, count),
            }
        )
        pq.write_table(table, root / f"{number}.parquet", compression="lz4", use_dictionary=["host"])
        entries.append(
            FileEntry(
                path=f"{number}.parquet",
                database="default",
                measurement="cpu",
                sha256="",
                size_bytes=0,
                rows=count,
                min_time_us=int(times[0]),
                max_time_us=int(times[-1]),
                origin="n1",
                epoch=1,
                first_sequence=1,
                last_sequence=1,
                created_us=0,
                columns=tuple(table.column_names),
            )
        )
    return entries


def scan(plain: duckdb.DuckDBPyConnection, root: Path, entries: list[FileEntry]) -> int:
    """DuckDB's own rows as Arrow batches, dropped at once."""
    source = relation_sql(SCHEMA, [parquet_source(entries, [str(root / entry.path) for entry in entries])])
    reader = plain.sql(SQL.replace("cpu", f"{source} AS cpu")).to_arrow_reader(32_768)
    return sum(batch.num_rows for batch in reader)


def encode(engine: Engine, snapshot: Snapshot, encoder: Encoder) -> int:
    """The whole way of the query path but its threads and its network: parse, bind, run, encode."""
    tree = engine.parse(SQL).tree
    tree["node"]["from_table"].update(alias="cpu", table_name="arc_t_0000", qualified_name={"path": ["arc_t_0000"]})  # type: ignore[index]
    run = engine.run(Statement(tree=tree, uses=(TableUse("arc_t_0000", TABLE),)), snapshot, token="arc_t")
    encoding = Encoding(encoder, run.open(), run.next)
    size = 0
    while not encoding.ended:
        size += len(encoding.chunk())
    summary = Summary(row_count=encoding.row_count, execution_time_ms=0, timestamp="")
    size += sum(len(piece) for piece in encoding.tail(summary))
    run.close()
    assert size
    return encoding.row_count


class PlainJson(JsonEncoder):
    """JSON by orjson on Python rows."""

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """Not valid as a whole, but of the same size."""
        return json_rows.encode_plainly(batch) + b","


def measure(rows: int, cases: dict[str, Callable[[], int]]) -> None:
    """Alternate the cases and print rates and ratios to the first."""
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(REPEATS + 1):
        for name, case in cases.items():
            started = time.perf_counter()
            found = case()
            assert found == rows, (name, found)
            if repeat:  # the first round warms files and caches
                taken[name].append(time.perf_counter() - started)
    floor = statistics.median(next(iter(taken.values())))
    print(
        f"{rows:,} rows x 4 columns; duckdb {duckdb.__version__}, pyarrow {pa.__version__}, orjson {orjson.__version__}"
    )
    print(f"{'':36}{'M rows/s':>10}{'spread':>16}{'x scan':>8}")
    for name, times in taken.items():
        median = statistics.median(times)
        spread = f"{rows / max(times) / 1e6:.1f}-{rows / min(times) / 1e6:.1f}"
        print(f"{name:36}{rows / median / 1e6:10.1f}{spread:>16}{median / floor:8.2f}")


if __name__ == "__main__":
    main()
