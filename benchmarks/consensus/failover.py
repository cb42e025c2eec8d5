"""The leader is lost: how long until a client has its next write, with the times that each comes with.

The client never waits for one attempt: a new one, with a key of its own, goes to the survivors in turn every 20 ms, and
only attempts begun after the loss count. So it is the cluster that is measured, and not a client's patience.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import defaultdict

from benchmarks.consensus.client import Request, load, puts
from benchmarks.consensus.cluster import NODES, ArcRaft, Cluster, Etcd
from benchmarks.consensus.rows import VALUE_BYTES, available
from benchmarks.measure import Row, Run, figure
from tests.e2e.framed import PUT, Connection, Down

ATTEMPT_SECONDS = 0.02
GIVE_UP_SECONDS = 30.0
ROUNDS = 7
SIGNALS = {"kill -9": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}


def failover(run: Run) -> list[Row]:
    """Rounds of each kind on one cluster, which is whole again before each."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for target in available(run):
        if target not in (ArcRaft, Etcd):
            continue
        for kind, number in SIGNALS.items():
            with target(run.folder / "cluster") as cluster:
                cluster.start_all()
                for turn in range(ROUNDS):
                    found[target.name, kind].append(_round(cluster, number, turn))
            run.say(f"    {target.name} {kind}: {figure('s', found[target.name, kind])}")
    return [
        Row(
            name=f"{kind} of the leader: first acknowledged write after it, default times, {ROUNDS} rounds",
            ours=figure("s", found[ArcRaft.name, kind]),
            peer_name=Etcd.version() if found[Etcd.name, kind] else "",
            peer=figure("s", found[Etcd.name, kind]) if found[Etcd.name, kind] else None,
            at_most=0.75,
        )
        for kind in SIGNALS
    ]


def _round(cluster: Cluster, number: signal.Signals, turn: int) -> float:
    lost = cluster.wait_leader()
    connections = cluster.connections(lost, 1)
    load(connections, puts(b"before%d-" % turn, VALUE_BYTES), in_flight=1, seconds=0.5, warm_seconds=0)
    process = cluster.processes[lost]
    assert process is not None
    os.kill(process.pid, number)
    gap = _first_after(cluster, lost, b"after%d-" % turn)
    for connection in connections:
        connection.close()
    if number == signal.SIGKILL:
        cluster.kill(lost)
        cluster.start(lost)
    else:
        os.kill(process.pid, signal.SIGCONT)
    cluster.wait_caught_up(lost, cluster.applied(cluster.wait_leader()))
    time.sleep(1.0)
    return gap


def _first_after(cluster: Cluster, lost: int, prefix: bytes) -> float:
    """Seconds from now to the first acknowledgement by a survivor. Raises RuntimeError."""
    began = time.perf_counter()
    survivors = [node for node in range(NODES) if node != lost]
    connections: dict[int, Connection] = {}
    requests = puts(prefix, VALUE_BYTES)
    attempt, due = 0, began
    while (now := time.perf_counter()) < began + GIVE_UP_SECONDS:
        if now >= due:
            node = survivors[attempt % len(survivors)]
            attempt, due = attempt + 1, now + ATTEMPT_SECONDS
            request = requests()
            assert isinstance(request, Request) and request.op == PUT
            try:
                if node not in connections or connections[node].is_dead:
                    connections[node] = cluster.connect(node)
                connections[node].submit(*request)
                connections[node].flush()
            except Down:
                continue
        ready, _, _ = select.select([each for each in connections.values() if not each.is_dead], [], [], 0.005)
        for connection in ready:
            try:
                replies = connection.poll()
            except Down:
                continue
            if any(reply.ok for reply in replies):
                for each in connections.values():
                    each.close()
                return time.perf_counter() - began
    raise RuntimeError(f"{cluster.name}: nothing was acknowledged\n{cluster.told()}")
