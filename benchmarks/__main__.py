"""``python -m benchmarks``: measure what was asked for, print the table. ``--quick`` for a first look, ``--only`` for a
part.

The server has one core and the load another; peers and we take turns. Nothing else should run: on a busy machine the
ratios survive better than the figures, but neither is worth much. What was measured under which load is printed with
the table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from benchmarks import compaction, flush, ingest, lifecycle, liveness, output, queries
from benchmarks.measure import Benchmark, Row, Run, table
from benchmarks.servers import Arc, InfluxDB, VictoriaMetrics, version_of

BENCHMARKS: dict[str, Benchmark] = {
    "lines-1k": ingest.lines("simple-1k", 1_000, 2.0, "line protocol, 1 tag + 3 floats, 1,000 lines"),
    "lines-10k": ingest.lines("simple-10k", 10_000, 4.0, "line protocol, 1 tag + 3 floats, 10,000 lines"),
    "lines-wide": ingest.lines("wide-1k", 1_000, 6.0, "line protocol, 10 tags + 10 fields, 1,000 lines"),
    "msgpack": ingest.msgpack,
    "arrow": ingest.arrow,
    "log-cost": ingest.log_cost,
    "flush": flush.flush,
    "compaction": compaction.compaction,
    "while-compacting": lifecycle.while_compacting,
    "delete": lifecycle.delete,
    "catalog": lifecycle.catalog,
    "queries": queries.queries,
    "one-series": queries.one_series,
    "rows-out": output.rows_out,
    "stall": liveness.stall,
    "replay": liveness.replay,
    "idle": liveness.idle,
}


def main() -> int:
    """Run, print; 0 even when a target is missed: a figure is not a failure of the program."""
    arguments = arguments_of("python -m benchmarks", __doc__, BENCHMARKS)
    run_folder = Path(arguments.folder or tempfile.mkdtemp(prefix="arc-bench-"))
    run = Run(
        folder=run_folder,
        repetitions=3 if arguments.quick else 5,
        seconds=3.0 if arguments.quick else 5.0,
        server_cpu=0,
        client_cpu=min(1, (os.cpu_count() or 1) - 1),
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    rows: list[Row] = []
    with Arc(run, run.folder / "server", pinned=False) as server:
        server.settle()
    for name in arguments.only or BENCHMARKS:
        run.say(f"{name} …")
        began = time.monotonic()
        try:
            found = BENCHMARKS[name](run)
        except (RuntimeError, OSError) as error:
            run.say(f"  could not be measured: {error}")
            continue
        for row in found:
            run.say(f"  {row.name}: {row.ours}" + (f", {row.ratio:.2f}× {row.peer_name}" if row.peer else ""))
        run.say(f"  {time.monotonic() - began:.0f} s")
        rows.extend(found)
    if arguments.json:
        print(json.dumps({"machine": machine(), "rows": [row.document() for row in rows]}, indent=2))
    else:
        print(table(rows))
        print("\n" + machine(run))
    return 0


def machine(run: Run | None = None) -> str:
    """Where and with what this was measured."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    parts = [f"{os.cpu_count()} cores {cpu}", f"Linux {platform.release()}", f"Python {platform.python_version()}"]
    parts += [f"{name} {version(name)}" for name in ("pyarrow", "duckdb", "trio", "hypercorn")]
    parts += [f"{peer.name} {found}" for peer in (VictoriaMetrics, InfluxDB) if (found := version_of(peer))]
    parts.append(f"load average {os.getloadavg()[0]:.1f}")
    if run is not None:
        parts.append(f"{run.repetitions} repetitions of {run.seconds:g} s, median (lowest–highest)")
    return "; ".join(parts)


def arguments_of(prog: str, about: str | None, names: Iterable[str]) -> argparse.Namespace:
    """What every family of benchmarks is asked on the command line."""
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("--only", nargs="+", choices=list(names), help="some of them, by name")
    parser.add_argument("--quick", action="store_true", help="three short repetitions instead of five")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--folder", help="where data is kept while measuring; a folder on the disk that matters")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
