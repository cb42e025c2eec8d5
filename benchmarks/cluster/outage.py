"""A node is lost: how long until a client has its next row acknowledged, and is every acknowledged row there, once.

The client never waits for one attempt: a new one, with a row and an idempotency key of its own, goes to the survivors
in turn every 20 ms, and only attempts begun after the loss count. Every attempt has a connection for itself (HTTP/1.1
answers in order); etcd's connections carry many. At the end every node is asked for every acknowledged row.
"""

from __future__ import annotations

import select
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from arc.cli.numbered import MEASUREMENT, Ack
from benchmarks.cluster.nodes import Arc, Etcd
from benchmarks.consensus.cluster import NODES, Cluster
from benchmarks.measure import Figure, Row, Run, figure
from benchmarks.payloads import START_NS
from tests.e2e.framed import PUT, Connection, Down

ATTEMPT_SECONDS = 0.02
GIVE_UP_SECONDS = 60.0
BEFORE_SECONDS = 0.5
QUIET_AFTER_SECONDS = 2.0
"""A gap counts as over when nothing was silent for so long afterwards."""
SILENCE_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One way to lose a node. ``peer_name`` is how the same is called at etcd."""

    name: str
    signal: signal.Signals
    writer_leads: bool
    at_most_seconds: float


KINDS = (
    Kind(name="kill -9 of the writer that also leads", signal=signal.SIGKILL, writer_leads=True, at_most_seconds=3.0),
    Kind(name="kill -9 of the writer, another leads", signal=signal.SIGKILL, writer_leads=False, at_most_seconds=2.0),
    Kind(name="SIGSTOP of the writer that also leads", signal=signal.SIGSTOP, writer_leads=True, at_most_seconds=3.0),
    Kind(name="SIGSTOP of the writer, another leads", signal=signal.SIGSTOP, writer_leads=False, at_most_seconds=2.0),
)


@dataclass(frozen=True, slots=True)
class Done:
    """One acknowledged attempt, in seconds of the client's clock."""

    number: int
    begun_at: float
    at: float


@dataclass(slots=True)
class Tally:
    """Rows of one cluster over all rounds: each attempt has a number of its own."""

    attempts: int = 0
    done: list[Done] = field(default_factory=list)
    lost: int = 0
    doubled: int = 0

    @property
    def acks(self) -> list[Ack]:
        """As the demo judges them."""
        return [Ack(done.at, done.number, 1, "") for done in self.done]

    def judge(self, cluster: Arc) -> None:
        """Count what is missing or there twice, on any node."""
        counts = cluster.verify(self.acks)
        self.lost += len({number for count in counts for number in count.lost})
        self.doubled += len({number for count in counts for number in count.doubled})


def outages(run: Run) -> list[Row]:
    """Each way to lose the writer, on a fresh cluster; then etcd, whose leader is lost the same way."""
    rounds = 3 if run.repetitions < 5 else 7
    found: dict[str, list[float]] = defaultdict(list)
    theirs: dict[signal.Signals, list[float]] = defaultdict(list)
    rows_of, lost, doubled = 0, 0, 0
    for kind in KINDS:
        with Arc(run.folder / "cluster") as cluster:
            cluster.start_all()
            tally = Tally()
            for _ in range(rounds):
                found[kind.name].append(_lose_writer(cluster, kind, tally))
            cluster.wait_whole()
            tally.judge(cluster)
        rows_of, lost, doubled = rows_of + len(tally.done), lost + tally.lost, doubled + tally.doubled
        run.say(f"    arc, {kind.name}: {figure('s', found[kind.name])}, lost {tally.lost}, doubled {tally.doubled}")
        if not Etcd.missing():
            with Etcd(run.folder / "cluster") as etcd:
                etcd.start_all()
                values = [_lose_leader(etcd, kind.signal, Tally()) for _ in range(rounds)]
            theirs[kind.signal] += values
            run.say(f"    etcd, {kind.signal.name} of the leader: {figure('s', values)}")
    rows = [
        Row(
            name=f"{kind.name}: first acknowledged row after it",
            ours=figure("s", found[kind.name]),
            peer_name=_etcd(kind.signal, theirs),
            at_most=kind.at_most_seconds,
            note=f"default settings, {rounds} rounds",
        )
        for kind in KINDS
    ]
    spoiled = Figure(unit="rows", values=(float(lost + doubled),))
    note = f"{lost} lost and {doubled} doubled of {rows_of:,} acknowledged, counted at each node"
    return [*rows, Row(name="the same: acknowledged rows lost or doubled", ours=spoiled, at_most=0.0, note=note)]


def follower_lost(run: Run) -> list[Row]:
    """A member of the in-sync set that neither writes nor leads dies; at etcd a follower."""
    rounds = 2 if run.repetitions < 5 else 5
    found: dict[str, list[float]] = defaultdict(list)
    tally = Tally()
    with Arc(run.folder / "cluster") as cluster:
        cluster.start_all()
        for _ in range(rounds):
            writer, leader = cluster.arrange(writer_leads=True)
            victim = next(node for node in range(NODES) if node not in (writer, leader))
            found["arc"].append(_lose_follower(cluster, victim, tally))
            cluster.start(victim)
            run.say(f"    arc: {found['arc'][-1]:.2f} s")
        cluster.wait_whole()
        tally.judge(cluster)
    if not Etcd.missing():
        with Etcd(run.folder / "cluster") as etcd:
            etcd.start_all()
            for _ in range(rounds):
                victim = (etcd.wait_leader() + 1) % NODES
                found["etcd"].append(_lose_follower(etcd, victim, Tally()))
                etcd.start(victim)
                etcd.wait_caught_up(victim, etcd.applied(etcd.wait_leader()))
    peer = f"{Etcd.version()}: {figure('s', found['etcd'])}" if found["etcd"] else ""
    judged = f"{tally.lost} lost, {tally.doubled} doubled of {len(tally.done):,} acknowledged"
    return [
        Row(
            name="kill -9 of an in-sync follower: longest gap between acknowledged rows",
            ours=figure("s", found["arc"]),
            peer_name=peer,
            note=f"default settings, {rounds} rounds; {judged}",
        )
    ]


def _etcd(kind: signal.Signals, theirs: dict[signal.Signals, list[float]]) -> str:
    return f"{Etcd.version()}, its leader: {figure('s', theirs[kind])}" if theirs[kind] else ""


def _lose_writer(cluster: Arc, kind: Kind, tally: Tally) -> float:
    victim, _ = cluster.arrange(writer_leads=kind.writer_leads)
    gap = _lose(cluster, victim, kind.signal, tally)
    if kind.signal == signal.SIGKILL:
        cluster.start(victim)
    return gap


def _lose_leader(etcd: Etcd, number: signal.Signals, tally: Tally) -> float:
    victim = etcd.wait_leader()
    gap = _lose(etcd, victim, number, tally)
    if number == signal.SIGKILL:
        etcd.start(victim)
    etcd.wait_caught_up(victim, etcd.applied(etcd.wait_leader()))
    time.sleep(1.0)
    return gap


def _lose(cluster: Cluster, victim: int, number: signal.Signals, tally: Tally) -> float:
    """Write for a moment, lose the node, write until a row is acknowledged; the seconds that took."""
    ends_at = time.perf_counter() + BEFORE_SECONDS
    attempt(cluster, range(NODES), tally, stop=lambda now, _: now >= ends_at)
    process = cluster.processes[victim]
    assert process is not None
    process.send_signal(number)
    lost_at = time.perf_counter()
    survivors = [node for node in range(NODES) if node != victim]
    done = attempt(cluster, survivors, tally, stop=lambda _, done: bool(done))
    if number == signal.SIGKILL:
        cluster.kill(victim)
    else:
        process.send_signal(signal.SIGCONT)
    return done[0].at - lost_at


def _lose_follower(cluster: Cluster, victim: int, tally: Tally) -> float:
    """Rows go to the other two all the time; the longest silence that ended after the kill."""
    survivors = [node for node in range(NODES) if node != victim]
    ends_at = time.perf_counter() + BEFORE_SECONDS
    before = attempt(cluster, survivors, tally, stop=lambda now, _: now >= ends_at)
    lost_at = time.perf_counter()
    cluster.kill(victim)
    after = attempt(cluster, survivors, tally, stop=lambda now, done: is_flowing(done, now, lost_at))
    return longest_gap([done.at for done in before + after], lost_at)


def is_flowing(done: Sequence[Done], now: float, since: float) -> bool:
    """Whether rows have been acknowledged without a silence for a while, and long enough after the loss.

    A lost follower shows at the earliest with the next record: whoever looks before that sees no gap at all.
    """
    recent = [each.at for each in done if each.at > now - QUIET_AFTER_SECONDS]
    times = [now - QUIET_AFTER_SECONDS, *recent, now]
    return now > since + 2 * QUIET_AFTER_SECONDS and all(b - a < SILENCE_SECONDS for a, b in pairwise(times))


def longest_gap(times: Sequence[float], since: float) -> float:
    """Seconds of the longest silence that ended after ``since``; 0 without any."""
    return max((after - before for before, after in pairwise(sorted(times)) if after > since), default=0.0)


def line_of(number: int) -> bytes:
    """The row of an attempt, in the table that the demo's check looks at. No two are the same point."""
    return f"{MEASUREMENT},worker=w0 id={number}i,value={(number % 97) / 7:.3f} {START_NS + number * 1_000}".encode()


def attempt(
    cluster: Cluster, nodes: Sequence[int], tally: Tally, *, stop: Callable[[float, Sequence[Done]], bool]
) -> list[Done]:
    """Send attempts to these nodes in turn until ``stop(now, acknowledged so far)``. Raises RuntimeError.

    What is still open then is given up: it may be stored or not.
    """
    done: list[Done] = []
    idle: dict[int, list[Connection]] = {node: [] for node in nodes}
    open_: dict[int, tuple[int, Connection, dict[int, tuple[int, float]]]] = {}
    is_shared = isinstance(cluster, Etcd)
    poller = select.epoll()
    began = due = time.perf_counter()
    turn = 0
    try:
        while not stop(now := time.perf_counter(), done):
            if now > began + GIVE_UP_SECONDS:
                raise RuntimeError(f"{cluster.name}: nothing was acknowledged\n{cluster.told()}")
            if now >= due:
                node, turn, due = nodes[turn % len(nodes)], turn + 1, max(due + ATTEMPT_SECONDS, now)
                tally.attempts += 1
                try:
                    if not idle[node]:
                        connection = cluster.connect(node)
                        poller.register(connection.fileno(), select.EPOLLIN)
                        open_[connection.fileno()] = (node, connection, {})
                        idle[node].append(connection)
                    connection = idle[node][0] if is_shared else idle[node].pop()
                    key = b"attempt-%d" % tally.attempts
                    token = connection.submit(PUT, key, line_of(tally.attempts))
                    open_[connection.fileno()][2][token] = (tally.attempts, now)
                    connection.flush()
                except Down:
                    idle[node] = [each for each in idle[node] if not each.is_dead]
                    continue
            for fd, _ in poller.poll(max(0.0, min(due - time.perf_counter(), 0.005))):
                node, connection, sent = open_[fd]
                try:
                    replies = connection.poll()
                except Down:
                    replies = []
                for reply in replies:
                    number, begun_at = sent.pop(reply.token)
                    if reply.ok:
                        done.append(Done(number, begun_at, time.perf_counter()))
                if connection.is_dead:
                    poller.unregister(fd)
                    del open_[fd]
                    idle[node] = [each for each in idle[node] if each is not connection]
                    connection.close()
                elif replies and not is_shared:
                    idle[node].append(connection)
    finally:
        poller.close()
        for _, connection, _ in open_.values():
            connection.close()
        tally.done += done
    return done
