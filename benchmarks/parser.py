"""Line protocol parsers against each other on one core: ours compiled, ours without numba, ours exact, and a C parser.

Run: ``python -m benchmarks.parser [--quick] [--json]``. Every way decodes the same bodies in turn, in one process; a
rate is lines for each second of CPU, median of the repetitions. Ours include everything up to Arrow columns,
which is what a write request costs. The peer, `line-protocol-parser` (C, PyPI), makes Python dicts, no columns; it is
left out when it is not installed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from arc.ingest.lineprotocol import parse, unit_of
from arc.ingest.lp_fast import LineDecoder
from arc.ingest.lp_library import decode_uniform
from benchmarks.measure import Row as Measured
from benchmarks.measure import figure, number, table
from benchmarks.payloads import simple_lines, wide_lines

NOW_US = 1_767_225_600_000_000
TARGETS = {
    ("1 tag + 3 floats", 1_000): 5.0,
    ("10 tags + 10 fields", 1_000): 2.0,
    ("1 tag + 3 floats", 10_000): 8.0,
    ("10 tags + 10 fields", 10_000): 3.5,
}
"""M lines/s of the compiled decoder on one quiet core."""

Way = Callable[[bytes], object]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(prog="python -m benchmarks.parser", description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="fewer repetitions")
    arguments.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    given = arguments.parse_args()
    ways = all_ways()
    shapes = {"1 tag + 3 floats": simple_lines(), "10 tags + 10 fields": wide_lines()}
    rows = []
    for shape, lines in shapes.items():
        for batch in (1_000, 10_000):
            rows += compare(shape, lines[:100_000], batch, ways, repetitions=3 if given.quick else 7)
    print(json.dumps([row.document() for row in rows], indent=2) if given.json else table(rows))


def all_ways() -> dict[str, Way]:
    """The parsers that are here, fastest first. Raises RuntimeError without numba."""
    compiled = LineDecoder()
    if not compiled.warm():
        raise RuntimeError("the compiled decoder needs numba (extra 'fast')")
    ways: dict[str, Way] = {
        "compiled": lambda body: compiled.decode(body, now_us=NOW_US),
        "library": lambda body: decode_uniform(body, unit_of("ns"), NOW_US),
    }
    try:
        from line_protocol_parser import parse_line
    except ImportError:
        print("line-protocol-parser is not installed: no figures of it", file=sys.stderr)
    else:
        ways["line-protocol-parser"] = lambda body: [parse_line(line) for line in body.decode().splitlines()]
    ways["exact"] = lambda body: parse(body, now_us=NOW_US)
    return ways


def compare(shape: str, lines: Sequence[str], batch: int, ways: dict[str, Way], repetitions: int) -> list[Measured]:
    """One row for each other way: the compiled decoder against it."""
    bodies = ["\n".join(lines[at : at + batch]).encode() + b"\n" for at in range(0, len(lines), batch)]
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        for name, way in ways.items():
            # The slow ones get a part of the bodies: all take about as long.
            part = bodies if name == "compiled" else bodies[: max(1, len(bodies) // (3 if name == "library" else 20))]
            began = time.process_time()
            for body in part:
                way(body)
            if repetition:  # the first warms
                rates[name].append(len(part) * batch / (time.process_time() - began) / 1e6)
    ours = figure("M lines/s", rates.pop("compiled"))
    title = f"line protocol to columns, {shape}, {number(batch)} lines"
    goal = Measured(name=title, ours=ours, at_least=TARGETS[shape, batch], note="compiled, one core")
    against = [
        Measured(name=title, ours=ours, peer_name=name, peer=figure("M lines/s", found))
        for name, found in sorted(rates.items(), key=lambda item: -statistics.median(item[1]))
    ]
    return [goal, *against]


if __name__ == "__main__":
    main()
