"""Three nodes that nobody uses: processor, memory, and what they say to each other by their own counters."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.cluster.nodes import Arc, Etcd, metric
from benchmarks.consensus.client import cpu_seconds
from benchmarks.consensus.cluster import NODES, Cluster
from benchmarks.measure import Row, Run, figure

SETTLE_SECONDS = 10.0
"""A start's own work is over by then: kernels, first snapshots, probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What three idle processes cost together."""

    cpu_percent: float
    """Of one core."""
    resident_mb: float
    bytes_per_second: float
    """Sent to peers, by the nodes' own counters."""


def idle(run: Run) -> list[Row]:
    """Ours and etcd, in turns."""
    seconds, turns = (10.0, 2) if run.repetitions < 5 else (30.0, 3)
    found: dict[str, list[Rest]] = defaultdict(list)
    for _ in range(turns):
        for target in (Arc, Etcd):
            if target.missing():
                continue
            with target(run.folder / "cluster") as cluster:
                cluster.start_all()
                cluster.wait_leader()
                found[target.name].append(_rest(cluster, seconds))
            run.say(f"    {target.name}: {found[target.name][-1]}")
    return rows_of(found[Arc.name], found[Etcd.name], Etcd.version() if found[Etcd.name] else "", seconds)


def rows_of(ours: list[Rest], theirs: list[Rest], peer_name: str, seconds: float) -> list[Row]:
    """The rows; without a peer only ours."""

    def row(name: str, unit: str, attribute: str, at_most: float | None, note: str = "") -> Row:
        return Row(
            name=f"idle cluster of three: {name}",
            ours=figure(unit, [getattr(each, attribute) for each in ours]),
            peer_name=peer_name,
            peer=figure(unit, [getattr(each, attribute) for each in theirs]) if theirs else None,
            at_most=at_most if theirs else None,
            note=note,
        )

    return [
        row("processor, all processes", "% of a core", "cpu_percent", 1.5, f"over {seconds:g} s"),
        row("resident memory, all processes", "MB", "resident_mb", None),
        row("sent to peers, all nodes", "bytes/s", "bytes_per_second", None, "by the nodes' own counters"),
    ]


def _rest(cluster: Cluster, seconds: float) -> Rest:
    time.sleep(SETTLE_SECONDS)
    began, cpu, sent = time.perf_counter(), sum(map(cpu_seconds, cluster.pids)), _sent_bytes(cluster)
    time.sleep(seconds)
    wall = time.perf_counter() - began
    cpu = sum(map(cpu_seconds, cluster.pids)) - cpu
    return Rest(
        cpu_percent=cpu / wall * 100,
        resident_mb=sum(map(_resident_bytes, cluster.pids)) / 1e6,
        bytes_per_second=(_sent_bytes(cluster) - sent) / wall,
    )


def _sent_bytes(cluster: Cluster) -> float:
    if isinstance(cluster, Arc):
        return sum(cluster.metric(node, "arc_peers_sent_bytes_total") for node in range(NODES))
    pages = [httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text for port in cluster.ports]
    return sum(metric(page, "etcd_network_peer_sent_bytes_total") for page in pages)


def _resident_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))
