"""``python -m benchmarks.consensus``: the consensus table. ``--quick`` for a first look, ``--only`` for a part.

Peers: etcd (Debian: ``etcd-server``; ``ETCD_BIN`` names another), PySyncObj (in this interpreter, or in the one that
``PYSYNCOBJ_PYTHON`` names). What is not installed is left out and told about. Power cuts need root.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.__main__ import arguments_of, machine
from benchmarks.consensus import alone, failover, rows
from benchmarks.consensus.cluster import Cluster, Etcd, PySyncObj
from benchmarks.measure import Benchmark, Row, Run, table

BENCHMARKS: dict[str, Benchmark] = {
    "steady": rows.steady,
    "catch-up": rows.catch_up,
    "failover": failover.failover,
    "power-cut": rows.power_cut,
    "open-log": alone.open_log,
    "simulated": alone.simulated,
}


def main() -> int:
    """Run, print; 0 even when a target is missed."""
    arguments = arguments_of("python -m benchmarks.consensus", __doc__, BENCHMARKS)
    run = Run(
        folder=Path(arguments.folder or tempfile.mkdtemp(prefix="arc-bench-")),
        repetitions=3 if arguments.quick else 5,
        seconds=1.0 if arguments.quick else 2.0,
        server_cpu=0,
        client_cpu=0,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    found: list[Row] = []
    load_before = os.getloadavg()[0]
    for name in arguments.only or BENCHMARKS:
        run.say(f"{name} …")
        began = time.monotonic()
        try:
            found.extend(BENCHMARKS[name](run))
        except (RuntimeError, OSError, ValueError) as error:
            run.say(f"  could not be measured: {error}")
        run.say(f"  {time.monotonic() - began:.0f} s")
    peers: list[type[Cluster]] = [Etcd, PySyncObj]
    about = "; ".join(
        [
            machine(run),
            *(peer.version() for peer in peers if not peer.missing()),
            f"load average {load_before:.1f} before",
        ]
    )
    if arguments.json:
        print(json.dumps({"machine": about, "rows": [row.document() for row in found]}, indent=2))
    else:
        print(f"{table(found)}\n\n{about}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
