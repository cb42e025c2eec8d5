"""``python -m benchmarks.cluster``: the table of whole nodes. ``--quick`` for a first look, ``--only`` for a part.

Three processes of ours on loopback with default settings, and etcd (Debian: ``etcd-server``; ``ETCD_BIN`` names
another) in the same run. Without etcd its column is left out and told about.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from arc.cli.exits import Failure
from benchmarks.__main__ import machine
from benchmarks.cluster import hundred, idle, outage, traffic
from benchmarks.cluster.nodes import Etcd
from benchmarks.measure import Benchmark, Row, Run, table
from tests.e2e.framed import Down

BENCHMARKS: dict[str, Benchmark] = {
    "outages": outage.outages,
    "follower": outage.follower_lost,
    "traffic": traffic.traffic,
    "idle": idle.idle,
    "hundred": hundred.hundred,
}


def main() -> int:
    """Run, print; 0 even when a target is missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(BENCHMARKS), help="some of them, by name")
    parser.add_argument("--quick", action="store_true", help="few and short repetitions: about eight minutes")
    parser.add_argument("--json", metavar="FILE", help="also write the rows into this file")
    parser.add_argument("--folder", help="where data is kept while measuring; a folder on the disk that matters")
    arguments = parser.parse_args()
    run = Run(
        folder=Path(arguments.folder or tempfile.mkdtemp(prefix="arc-bench-")),
        repetitions=3 if arguments.quick else 5,
        seconds=1.5 if arguments.quick else 3.0,
        server_cpu=0,
        client_cpu=0,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if why := Etcd.missing():
        run.say(f"without etcd: {why}")
    found: list[Row] = []
    loads: list[str] = []
    for name in arguments.only or BENCHMARKS:
        run.say(f"{name} …")
        began, load_before = time.monotonic(), os.getloadavg()[0]
        try:
            found.extend(BENCHMARKS[name](run))
        except (RuntimeError, OSError, ValueError, Failure, Down) as error:
            run.say(f"  could not be measured: {error}")
        loads.append(f"{name} {load_before:.1f} to {os.getloadavg()[0]:.1f}")
        run.say(f"  {time.monotonic() - began:.0f} s")
    version = "" if Etcd.missing() else f"{Etcd.version()}; "
    about = f"{machine(run)}; {version}load average before and after: {', '.join(loads)}"
    if arguments.json:
        document = {"machine": about, "rows": [row.document() for row in found]}
        Path(arguments.json).write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"{table(found)}\n\n{about}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
