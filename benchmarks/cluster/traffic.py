"""What it costs to reach the right node through another one, and to have every row on three disks instead of one.

Each repetition starts three fresh nodes twice: with `wal.write_level = replicated`, the default, and with `local`. The
same requests go to the node they are for and through another one, in alternating order, under the same load.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import count, cycle

from benchmarks.cluster.http import Databases, Http, Lines
from benchmarks.cluster.nodes import Arc
from benchmarks.consensus.client import Burst, Request, load
from benchmarks.consensus.cluster import NODES
from benchmarks.measure import Row, Run, figure, number
from benchmarks.payloads import MAKERS
from tests.e2e.framed import PUT

COMMANDS_IN_FLIGHT = 64
WRITES_IN_FLIGHT = 12
"""As the rows of one node; and what a few busy agents make."""
WARM_SECONDS = 0.5

Found = dict[str, list[Burst]]


def traffic(run: Run) -> list[Row]:
    """Forwarded commands, forwarded writes, replicated writes."""
    found: Found = defaultdict(list)
    bodies = cycle(MAKERS["simple-1k"]())
    keys = count()
    for repetition in range(run.repetitions):
        levels = ("replicated", "local")
        for level in levels if repetition % 2 == 0 else reversed(levels):
            with Arc(run.folder / "cluster", f"wal.write_level={level}") as cluster:
                cluster.start_all()
                for name, burst in _bursts(run, cluster, level, repetition, lambda: next(bodies), keys):
                    found[name].append(burst)
        run.say(f"    {repetition + 1}/{run.repetitions}: " + ", ".join(map(_told, found.items())))
    return rows_of(found)


def _bursts(
    run: Run, cluster: Arc, level: str, repetition: int, body: Callable[[], bytes], keys: Iterator[int]
) -> Iterator[tuple[str, Burst]]:
    writer, _ = cluster.arrange(writer_leads=True)
    ways = [("direct", writer), ("forwarded", next(node for node in range(NODES) if node != writer))]
    if repetition % 2:
        ways.reverse()

    def write() -> Request:
        return Request(PUT, b"burst-%d" % next(keys), body())

    def command() -> Request:
        return Request(PUT, b"d%d" % next(keys), b"")

    def burst(kind: type[Http], node: int, request: Callable[[], Request], in_flight: int) -> Burst:
        connections = [cluster.open(kind, node) for _ in range(in_flight)]
        try:
            return load(
                connections,
                request,
                in_flight=in_flight,
                seconds=run.seconds,
                warm_seconds=WARM_SECONDS,
                pids=cluster.pids,
            )
        finally:
            for connection in connections:
                connection.close()

    burst(Lines, writer, write, WRITES_IN_FLIGHT)  # kernels, segments, the measurement itself
    if level == "local":
        yield "local 1", burst(Lines, writer, write, 1)
        yield f"local {WRITES_IN_FLIGHT}", burst(Lines, writer, write, WRITES_IN_FLIGHT)
        return
    for way, node in ways:
        yield f"{way} commands", burst(Databases, node, command, COMMANDS_IN_FLIGHT)
        yield f"{way} 1", burst(Lines, node, write, 1)
        yield f"{way} {WRITES_IN_FLIGHT}", burst(Lines, node, write, WRITES_IN_FLIGHT)


def rows_of(found: Found) -> list[Row]:
    """The rows, from bursts by name."""

    def rates(name: str) -> list[float]:
        return [burst.per_second for burst in found[name]]

    def p50s(name: str) -> list[float]:
        return [burst.p50_ms for burst in found[name]]

    def row(name: str, unit: str, ours: list[float], peer: tuple[str, list[float]], **more: float | str) -> Row:
        return Row(name=name, ours=figure(unit, ours), peer_name=peer[0], peer=figure(unit, peer[1]), **more)  # type: ignore[arg-type]

    many = WRITES_IN_FLIGHT
    return [
        row(
            f"commands through a follower, {COMMANDS_IN_FLIGHT} in flight",
            "/s",
            rates("forwarded commands"),
            ("the leader itself", rates("direct commands")),
            at_least=0.7,
            note=f"POST /api/v1/databases, a new name each; {_quality(found, 'forwarded commands', 'direct commands')}",
        ),
        row(
            f"writes of 1,000 lines through a standby, {many} in flight",
            "bodies/s",
            rates(f"forwarded {many}"),
            ("the writer itself", rates(f"direct {many}")),
            note=_quality(found, f"forwarded {many}", f"direct {many}"),
        ),
        row(
            "writes of 1,000 lines through a standby, 1 in flight, p50",
            "ms",
            p50s("forwarded 1"),
            ("the writer itself", p50s("direct 1")),
        ),
        row(
            "`replicated` write of 1,000 lines to three disks, 1 in flight, p50",
            "ms",
            p50s("direct 1"),
            ("`local`", p50s("local 1")),
            at_most=1.8,
            note="`local` also sends every row to both followers, and does not wait for them",
        ),
        row(
            f"`replicated` writes of 1,000 lines, {many} in flight",
            "bodies/s",
            rates(f"direct {many}"),
            ("`local`", rates(f"local {many}")),
            at_least=0.6,
            note=_quality(found, f"direct {many}", f"local {many}"),
        ),
    ]


def _quality(found: Found, *names: str) -> str:
    """p99, and how many were not acknowledged, ours and the other's."""
    p99 = " against ".join(number(statistics.median(burst.p99_ms for burst in found[name])) for name in names)
    refused = [sum(burst.refused for burst in found[name]) for name in names]
    told = f"; refused {refused[0]} and {refused[1]}" if any(refused) else ""
    return f"p99 {p99} ms{told}"


def _told(item: tuple[str, list[Burst]]) -> str:
    name, bursts = item
    last = bursts[-1]
    return f"{name} {number(last.per_second)}/s (p50 {last.p50_ms:.1f} ms, refused {last.refused})"
