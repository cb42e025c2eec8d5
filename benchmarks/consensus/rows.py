"""The rows of the consensus table: what is done to each target, and against what ours is compared.

Targets take turns, one on the machine at a time, each on fresh folders: a repetition is one round over all of them. The
ratio is against etcd; the others stand beside it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from benchmarks.consensus import powercut
from benchmarks.consensus.client import Burst, Meter, Request, gets, load, puts
from benchmarks.consensus.cluster import NODES, ArcRaft, Cluster, Etcd, Floor, PySyncObj, PySyncObjSynced
from benchmarks.measure import Row, Run, figure, number
from tests.e2e.framed import Reply

TARGETS: tuple[type[Cluster], ...] = (ArcRaft, Etcd, PySyncObjSynced, PySyncObj, Floor)
VALUE_BYTES = 256
SETTLE_SECONDS = 0.5
QUIET_CORES = 0.25
QUIET_SECONDS = 2.0
CATCH_UP_ENTRIES = 100_000
CATCH_UP_REPETITIONS = 3
FILL_SECONDS = 120.0

Found = dict[tuple[str, str], list[float]]
"""(name of the target, what) → one value for each repetition."""


def available(run: Run, *, but: Iterable[type[Cluster]] = ()) -> list[type[Cluster]]:
    """The targets that are here; the others are told about."""
    found = []
    for target in TARGETS:
        if target in but:
            continue
        why = target.missing()
        if why:
            run.say(f"  without {target.name}: {why}")
        else:
            found.append(target)
    return found


def wait_quiet(run: Run) -> None:
    """Give other work on this machine a moment to end; never longer."""
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        meter = Meter([])
        time.sleep(0.3)
        if meter.read()[2] < QUIET_CORES:
            return


def steady(run: Run) -> list[Row]:
    """Cold start, writes and linearizable reads, all on the same fresh cluster."""
    found: Found = defaultdict(list)
    bursts: dict[tuple[str, str], list[Burst]] = defaultdict(list)
    for repetition in range(run.repetitions):
        for target in available(run):
            wait_quiet(run)
            with target(run.folder / "cluster") as cluster:
                found[target.name, "start"].append(cluster.start_all())
                time.sleep(SETTLE_SECONDS)
                for name, burst in _bursts(run, cluster):
                    bursts[target.name, name].append(burst)
                    found[target.name, name].append(burst.per_second)
                    found[target.name, f"{name} p50"].append(burst.p50_ms)
            run.say(f"    {repetition + 1}/{run.repetitions} {target.name}: {_told(target.name, bursts)}")
    return [
        _row(found, "start", "s", "cold start of three processes to the first acknowledged write", at_most=1.0),
        _row(found, "put 1 p50", "ms", "1 write in flight, p50", at_most=1.0, bursts=bursts),
        _row(found, "put 64", "/s", "64 writes in flight", at_least=2.5, bursts=bursts),
        _row(found, "put 256", "/s", "256 writes in flight", at_least=2.5, bursts=bursts),
        _row(found, "get 1", "/s", "linearizable reads, 1 in flight", at_least=1.0, bursts=bursts),
        _row(found, "get 64", "/s", "linearizable reads, 64 in flight", at_least=1.5, bursts=bursts),
    ]


def _bursts(run: Run, cluster: Cluster) -> Iterator[tuple[str, Burst]]:
    leader = cluster.wait_leader()
    keys = [b"1-%08d" % count for count in range(1, 200)]
    plan: list[tuple[str, int, Callable[[], Request | None]]] = [
        ("put", in_flight, puts(b"%d-" % in_flight, VALUE_BYTES)) for in_flight in (1, 64, 256)
    ]
    plan += [("get", in_flight, gets(keys)) for in_flight in (1, 64)]
    for op, in_flight, requests in plan:
        connections = cluster.connections(leader, in_flight)
        yield (
            f"{op} {in_flight}",
            load(connections, requests, in_flight=in_flight, seconds=run.seconds, pids=cluster.pids),
        )
        for connection in connections:
            connection.close()


def catch_up(run: Run) -> list[Row]:
    """A follower is dead while 100,000 entries are written; from its start until it has applied them all."""
    found: Found = defaultdict(list)
    for _ in range(min(run.repetitions, CATCH_UP_REPETITIONS)):
        for target in available(run, but=[Floor, PySyncObjSynced]):
            wait_quiet(run)
            with target(run.folder / "cluster") as cluster:
                cluster.start_all()
                leader = cluster.wait_leader()
                late = (leader + 1) % NODES
                cluster.kill(late)
                connections = cluster.connections(leader, 256)
                requests = puts(b"c", VALUE_BYTES, CATCH_UP_ENTRIES)
                load(connections, requests, in_flight=256, seconds=FILL_SECONDS, warm_seconds=0)
                for connection in connections:
                    connection.close()
                goal = cluster.applied(cluster.wait_leader())
                if goal < CATCH_UP_ENTRIES:
                    raise RuntimeError(f"{target.name} took only {goal} entries in {FILL_SECONDS:g} s")
                began = time.perf_counter()
                cluster.start(late)
                cluster.wait_caught_up(late, goal)
                found[target.name, "catch-up"].append(time.perf_counter() - began)
            run.say(f"    {target.name}: {found[target.name, 'catch-up'][-1]:.2f} s")
    rest = _others(found, "catch-up", "s", (Etcd, PySyncObj))
    return [
        Row(
            name="a follower that missed 100,000 entries, from its start until it has applied them",
            ours=figure("s", found[ArcRaft.name, "catch-up"]),
            at_most=2.0,
            note=rest,
        )
    ]


def power_cut(run: Run) -> list[Row]:
    """64 writes in flight, all three disks stop in one instant; what was acknowledged before is read back."""
    why = powercut.why_not(run.folder)
    if why:
        raise RuntimeError(why)
    lost: Found = defaultdict(list)
    for _ in range(min(run.repetitions, CATCH_UP_REPETITIONS)):
        for target in available(run, but=[Floor]):
            acknowledged, missing, came_back = _cut(run, target)
            lost[target.name, "lost"].append(missing)
            lost[target.name, "acknowledged"].append(acknowledged)
            lost[target.name, "down"].append(not came_back)
            run.say(f"    {target.name}: lost {missing} of {acknowledged}{'' if came_back else ', did not come back'}")

    def sentence(name: str) -> str:
        parts = [sum(lost[name, what]) for what in ("lost", "acknowledged", "down")]
        return f"{parts[0]:,.0f} of {parts[1]:,.0f}" + (f", {parts[2]:.0f} times gone for good" if parts[2] else "")

    others = "; ".join(
        f"{target.name}: {sentence(target.name)}" for target in TARGETS[1:] if (target.name, "lost") in lost
    )
    return [
        Row(
            name="power cut of all three under 64 writes in flight: acknowledged writes lost",
            ours=figure("writes", lost[ArcRaft.name, "lost"]),
            at_most=0.0,
            note=f"arc: {sentence(ArcRaft.name)}; {others}",
        )
    ]


def _cut(run: Run, target: type[Cluster]) -> tuple[int, int, bool]:
    """Acknowledged, lost, whether the cluster came back."""
    acknowledged: list[bytes] = []

    def keep(request: Request, _: Reply) -> None:
        acknowledged.append(request.key)

    with target(run.folder / "cluster") as cluster, powercut.Disks(cluster.folders) as disks:
        try:
            cluster.start_all()
            time.sleep(SETTLE_SECONDS)
            os.sync()  # what the set-up wrote is safe; only the writes are at stake
            connections = cluster.connections(cluster.wait_leader(), 64)
            ends_at = time.perf_counter() + 2.0

            def stop() -> bool:
                if time.perf_counter() < ends_at:
                    return False
                disks.cut()
                return True

            requests = puts(b"p", VALUE_BYTES)
            load(connections, requests, in_flight=64, seconds=60, warm_seconds=0, stop=stop, acknowledged=keep)
            for connection in connections:
                connection.close()
            for node in range(NODES):
                cluster.kill(node)
            disks.restore()
            for node in range(NODES):
                cluster.start(node)
            try:
                cluster.wait_leader()
                cluster.wait_write()
            except RuntimeError:
                return len(acknowledged), len(acknowledged), False
            return len(acknowledged), len(cluster.missing_keys(cluster.wait_leader(), acknowledged)), True
        finally:
            for node in range(NODES):
                cluster.kill(node)


def _row(
    found: Found,
    what: str,
    unit: str,
    name: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    bursts: dict[tuple[str, str], list[Burst]] | None = None,
) -> Row:
    """Ours against etcd, the others in the note. Without ours (or etcd) the row has what there is."""
    note = _others(found, what, unit, (Floor, PySyncObjSynced, PySyncObj))
    if bursts is not None:
        kind = what.removesuffix(" p50")
        ours = bursts[ArcRaft.name, kind]
        cost = " and ".join(
            f"{statistics.median(burst.client_us for burst in bursts[target.name, kind]):.0f} µs ({target.name})"
            for target in (ArcRaft, Etcd)
            if bursts[target.name, kind]
        )
        note += f"; our p99 {statistics.median(burst.p99_ms for burst in ours):.1f} ms" if ours else ""
        note += f"; client {cost} a request"
    has_peer = (Etcd.name, what) in found
    return Row(
        name=name,
        ours=figure(unit, found[ArcRaft.name, what]),
        peer_name=Etcd.version() if has_peer else "",
        peer=figure(unit, found[Etcd.name, what]) if has_peer else None,
        at_least=at_least,
        at_most=at_most,
        note=note,
    )


def _others(found: Found, what: str, unit: str, targets: Iterable[type[Cluster]]) -> str:
    return "; ".join(
        f"{target.name} {figure(unit, found[target.name, what])}" for target in targets if (target.name, what) in found
    )


def _told(name: str, bursts: dict[tuple[str, str], list[Burst]]) -> str:
    return ", ".join(
        f"{what} {number(last.per_second)}/s (p50 {last.p50_ms:.2f} ms, others {last.foreign_cores:.1f} cores)"
        for (target, what), all_ in bursts.items()
        if target == name
        for last in all_[-1:]
    )
