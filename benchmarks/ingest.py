"""Rows in: each payload into us and into the peers, alternating, on one core each; and what the log costs."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import Loaded, post
from benchmarks.measure import Row, Run, figure, number
from benchmarks.payloads import write_bodies
from benchmarks.servers import Arc, ArcWithoutLog, InfluxDB, Process, VictoriaMetrics, version_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A load, and how many requests were answered per second of the server's processor: what neighbours spoil least."""

    loaded: Loaded
    per_cpu_second: float


def _measure(run: Run, make: Callable[[], Process], bodies: Path, target: str) -> Measured:
    """Fresh server, warm-up, load."""
    with make() as server:
        post(run, server.url, target, bodies, auth=server.auth, seconds=run.warm_seconds)
        before, began = server.cpu_seconds(), time.monotonic()
        loaded = post(run, server.url, target, bodies, auth=server.auth)
        took = time.monotonic() - began
        cores = max((server.cpu_seconds() - before) / took, 0.01)
    run.say(
        f"    {server.name}: {loaded.per_second:,.0f} requests/s, p50 {loaded.p50_ms:.1f} ms,"
        f" p99 {loaded.p99_ms:.1f} ms, {cores:.2f} cores" + (f", {loaded.refused} refused" if loaded.refused else "")
    )
    return Measured(loaded=loaded, per_cpu_second=loaded.per_second / cores)


def _alternate(
    run: Run, servers: Iterable[type[Process]], payload: str, target: str
) -> dict[type[Process], list[Measured]]:
    bodies = write_bodies(run.folder / "bodies", payload)
    found: dict[type[Process], list[Measured]] = {}
    for _ in range(run.repetitions):
        for server in servers:
            measured = _measure(run, lambda: server(run, run.folder / "server"), bodies, target)  # noqa: B023
            found.setdefault(server, []).append(measured)
    return found


def lines(payload: str, rows_per_body: int, at_least: float, title: str) -> Callable[[Run], list[Row]]:
    """Line protocol against both peers; the target is against VictoriaMetrics."""

    def benchmark(run: Run) -> list[Row]:
        peers = [peer for peer in (VictoriaMetrics, InfluxDB) if version_of(peer)]
        found = _alternate(run, [*peers, Arc], payload, "/write?db=bench")

        def millions(server: type[Process]) -> Iterable[float]:
            return (each.loaded.per_second * rows_per_body / 1e6 for each in found[server])

        def per_cpu(server: type[Process]) -> str:
            rate = statistics.median(each.per_cpu_second for each in found[server])
            return number(rate * rows_per_body / 1e6)

        ours = figure("M lines/s", millions(Arc))
        latency = statistics.median(each.loaded.p99_ms for each in found[Arc])
        rows = [
            Row(
                name=f"{title} against {peer.name}",
                ours=ours,
                peer_name=f"{peer.name} {version_of(peer)}",
                peer=figure("M lines/s", millions(peer)),
                at_least=at_least if peer is VictoriaMetrics else None,
                note=f"our p99 {latency:.0f} ms; per second of processor {per_cpu(Arc)} M against {per_cpu(peer)} M",
            )
            for peer in peers
        ]
        return rows or [Row(name=title, ours=ours, peer_name="no peer installed")]

    return benchmark


def msgpack(run: Run) -> list[Row]:
    """Four columns, ten thousand rows a body."""
    found = _alternate(run, [Arc], "msgpack-10k", "/api/v1/write/msgpack?db=bench")[Arc]
    ours = figure("M rows/s", (each.loaded.per_second / 100 for each in found))
    note = f"per second of processor {number(statistics.median(each.per_cpu_second for each in found) / 100)} M"
    return [Row(name="MessagePack columnar, 4 columns × 10,000 rows", ours=ours, at_least=4.0, note=note)]


def disk_floor(folder: Path, seconds: float) -> float:
    """MB/s of appending and fdatasync, one writer, one megabyte at a time."""
    block = os.urandom(1 << 20)
    path = folder / "floor.bin"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    written, began = 0, time.monotonic()
    try:
        while time.monotonic() - began < seconds:
            written += os.write(fd, block)
            os.fdatasync(fd)
        took = time.monotonic() - began
    finally:
        os.close(fd)
        path.unlink()
    return written / took / 1e6


def arrow(run: Run) -> list[Row]:
    """Arrow streams: decoding is free, so the disk is what remains."""
    bodies = write_bodies(run.folder / "bodies", "arrow-20k")
    size = (bodies / "0.bin").stat().st_size
    ours, floors = [], []
    for _ in range(run.repetitions):
        floors.append(disk_floor(run.folder, run.seconds / 2))
        measured = _measure(run, lambda: Arc(run, run.folder / "server"), bodies, "/api/v1/write/arrow?db=bench")
        ours.append(measured.loaded.per_second * size / 1e6)
    return [
        Row(
            name=f"Arrow IPC stream, 5 columns × 20,000 rows ({size / 1e6:.1f} MB a body)",
            ours=figure("MB/s", ours),
            peer_name="append 1 MiB + fdatasync",
            peer=figure("MB/s", floors),
            at_least=0.7,
        )
    ]


def log_cost(run: Run) -> list[Row]:
    """The same server with the log and with one that forgets."""
    rows = []
    for payload, per_body, title in (
        ("simple-1k", 1_000, "line protocol 1+3, 1,000 lines"),
        ("wide-1k", 1_000, "line protocol 10+10, 1,000 lines"),
    ):
        found = _alternate(run, [ArcWithoutLog, Arc], payload, "/write?db=bench")

        ours, theirs = (
            figure("M lines/s", [each.loaded.per_second * per_body / 1e6 for each in found[server]])
            for server in (Arc, ArcWithoutLog)
        )
        rows.append(
            Row(
                name=f"with the log against without: {title}",
                ours=ours,
                peer_name=ArcWithoutLog.name,
                peer=theirs,
                at_least=0.85,
            )
        )
    return rows
