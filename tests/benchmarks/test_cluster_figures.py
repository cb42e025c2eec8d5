"""What the cluster's benchmarks make of what they see: answers, gaps, rates, pages, rows of the table."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.cluster import hundred, idle, outage, traffic
from benchmarks.cluster.http import Databases, Lines
from benchmarks.cluster.nodes import metric, missing
from benchmarks.consensus.client import Burst
from benchmarks.consensus.cluster import Cluster
from tests.e2e.framed import PUT, Connection, Down

OK = b"HTTP/1.1 204 \r\nx-arc-position: 1.1\r\n\r\n"
REFUSED = b"HTTP/1.1 503 \r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def read_request(peer: socket.socket) -> bytes:
    """One request, head and body; empty at the end."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = peer.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
    while len(body) < length:
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


# ---------------------------------------------------------------------------------------------------------------- HTTP


def test_a_request_carries_its_key_and_answers_are_told_apart_however_they_are_cut() -> None:
    with listening() as server:
        connection = Lines(server.getsockname(), "secret")
        peer, _ = server.accept()
        with peer:
            first = connection.submit(PUT, b"key-1", b"m v=1i 1")
            connection.flush()
            request = read_request(peer)
            assert b"idempotency-key: key-1\r\n" in request and request.endswith(b"\r\n\r\nm v=1i 1")
            assert b"authorization: Bearer secret\r\n" in request
            second = connection.submit(PUT, b"key-2", b"m v=2i 2")
            assert connection.parse() == []
            connection.received += (OK + REFUSED)[:-1]
            assert [(reply.token, reply.ok) for reply in connection.parse()] == [(first, True)]
            connection.received += REFUSED[-1:]
            assert [(reply.token, reply.ok, reply.payload) for reply in connection.parse()] == [(second, False, b"{}")]
        connection.close()


def test_a_command_names_a_database_by_its_key() -> None:
    with listening() as server:
        connection = Databases(server.getsockname(), "secret")
        connection.encode(PUT, b"d7", b"", 1)
        assert bytes(connection.out).startswith(b"POST /api/v1/databases ")
        assert json.loads(bytes(connection.out).partition(b"\r\n\r\n")[2]) == {"name": "d7"}
        connection.close()


@pytest.mark.parametrize("answer", [OK, b"HTTP/1.1 200 \r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"])
def test_an_answer_that_cannot_be_told_apart_breaks_the_connection(answer: bytes) -> None:
    with listening() as server:
        connection = Lines(server.getsockname(), "secret")
        if b"chunked" in answer:
            connection.encode(PUT, b"k", b"", 1)
        connection.received += answer
        with pytest.raises(Down):
            connection.parse()
        assert connection.is_dead
        connection.close()


# ------------------------------------------------------------------------------------------------------------- outages


class Toy(Cluster):
    """Listeners in place of nodes: they refuse so often, then acknowledge."""

    name = "toy"

    def __init__(self, folder: Path, servers: list[socket.socket], refusals: int) -> None:
        self.folder = folder
        self.servers = servers
        self.refusals = refusals
        self.seen: list[tuple[int, bytes]] = []
        self._lock = threading.Lock()
        for node, server in enumerate(servers):
            threading.Thread(target=self._accept, args=(node, server), daemon=True).start()

    def connect(self, node: int) -> Connection:
        return Lines(self.servers[node].getsockname(), "secret")

    def told(self) -> str:
        return ""

    def _accept(self, node: int, server: socket.socket) -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(node, peer), daemon=True).start()

    def _serve(self, node: int, peer: socket.socket) -> None:
        with peer:
            while request := read_request(peer):
                with self._lock:
                    self.seen.append((node, request))
                    is_refused = len(self.seen) <= self.refusals
                peer.sendall(REFUSED if is_refused else OK)


def test_attempts_go_to_the_nodes_in_turn_each_with_a_row_and_a_key_of_its_own(tmp_path: Path) -> None:
    with listening() as one, listening() as two:
        cluster, tally = Toy(tmp_path, [one, two], refusals=4), outage.Tally()
        done = outage.attempt(cluster, [0, 1], tally, stop=lambda _, done: len(done) >= 2)
    assert [each.number for each in tally.done] == [each.number for each in done]
    assert min(each.number for each in done) > 4, "who was refused is not acknowledged"
    bodies = [request.partition(b"\r\n\r\n")[2] for _, request in cluster.seen]
    assert len(set(bodies)) == len(bodies) and {node for node, _ in cluster.seen} == {0, 1}
    keys = [line for _, request in cluster.seen for line in request.split(b"\r\n") if b"idempotency-key" in line]
    assert len(set(keys)) == len(bodies)
    assert {ack.first for ack in tally.acks} == {each.number for each in done}
    assert outage.line_of(done[0].number) in bodies


def test_attempts_are_given_up_when_nobody_ever_acknowledges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outage, "GIVE_UP_SECONDS", 0.05)
    with listening() as one:
        cluster = Toy(tmp_path, [one], refusals=1_000_000)
        with pytest.raises(RuntimeError, match="nothing was acknowledged"):
            outage.attempt(cluster, [0], outage.Tally(), stop=lambda _, done: bool(done))


@pytest.mark.parametrize(
    ("times", "since", "gap"),
    [
        ([], 0.0, 0.0),
        ([1.0], 0.0, 0.0),
        ([1.0, 2.0, 5.0, 5.5], 1.5, 3.0),
        ([5.5, 1.0, 5.0, 2.0], 1.5, 3.0),
        ([0.0, 9.0, 9.5], 9.2, 0.5),
    ],
    ids=["nothing", "one", "the longest", "in any order", "one that ended before does not count"],
)
def test_the_longest_gap_is_one_that_ended_after_the_loss(times: list[float], since: float, gap: float) -> None:
    assert outage.longest_gap(times, since) == pytest.approx(gap)


def test_rows_flow_again_only_after_a_while_without_silence() -> None:
    every = [outage.Done(number, 0.0, number * 0.1) for number in range(101)]
    assert outage.is_flowing(every, 10.0, 0.0)
    assert not outage.is_flowing(every, 10.0, 8.0), "too early to tell"
    assert not outage.is_flowing([each for each in every if not 8.5 < each.at < 9.0], 10.0, 0.0)
    assert not outage.is_flowing(every, 10.5, 0.0), "silent just now"


# ---------------------------------------------------------------------------------------------------------- statuses


def status(**changes: object) -> dict[str, object]:
    lease = {"lease": "writer", "holder": "n1", "epoch": 3, "held_seconds": 60.0}
    whole = {"state": "healthy", "in_sync": {"members": ["n1", "n2", "n3"]}, "leases": [lease], "leader": {"id": "n2"}}
    return {**whole, **changes}


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (status(), ""),
        (status(state="degraded", degraded=["n3 is dead"]), "n3 is dead"),
        (status(in_sync={"members": ["n1"]}), "in sync"),
        (status(leader=None), "nobody"),
        (status(leases=[]), "nobody"),
        (status(leases=[{"lease": "writer", "holder": "n1", "epoch": 3, "held_seconds": 1.0}]), "just moved"),
    ],
)
def test_a_measurement_begins_only_when_all_is_well(document: dict[str, object], why: str) -> None:
    found = missing(document, rested=True)
    assert (why in found) if why else not found


def test_a_metric_is_the_sum_over_its_labels_and_never_another_of_a_similar_name() -> None:
    page = '# TYPE a counter\na{to="x"} 1.5\na{to="y"} 2\na_total 100\nba 7\n'
    assert metric(page, "a") == 3.5
    with pytest.raises(KeyError):
        metric(page, "c")


# --------------------------------------------------------------------------------------------------------------- rows


def burst(rate: float, p50: float, refused: int = 0) -> Burst:
    return Burst(
        per_second=rate, latencies_ms=[p50] * 9, refused=refused, client_us=1.0, servers_us=1.0, foreign_cores=0.0
    )


def test_traffic_compares_forwarded_with_direct_and_three_disks_with_one() -> None:
    found = {
        "direct commands": [burst(1000, 1)],
        "forwarded commands": [burst(600, 1, refused=3)],
        "direct 12": [burst(200, 1)],
        "forwarded 12": [burst(100, 1)],
        "local 12": [burst(250, 1)],
        "direct 1": [burst(1, 6.0)],
        "forwarded 1": [burst(1, 9.0)],
        "local 1": [burst(1, 4.0)],
    }
    rows = traffic.rows_of(found)
    assert [row.ratio for row in rows] == pytest.approx([0.6, 0.5, 1.5, 1.5, 0.8])
    assert [row.verdict for row in rows] == ["miss", "", "", "pass", "pass"]
    assert "refused 3 and 0" in rows[0].note


def test_idling_has_a_target_only_beside_the_peer() -> None:
    ours = [idle.Rest(cpu_percent=6.0, resident_mb=900.0, bytes_per_second=5000.0)]
    theirs = [idle.Rest(cpu_percent=3.0, resident_mb=90.0, bytes_per_second=2000.0)]
    assert [row.verdict for row in idle.rows_of(ours, theirs, "etcd", 10.0)] == ["miss", "", ""]
    assert idle.rows_of(ours, theirs, "etcd", 10.0)[0].ratio == 2.0
    assert [row.verdict for row in idle.rows_of(ours, [], "", 10.0)] == ["", "", ""]


def test_the_crowd_tells_times_bytes_and_that_it_is_beyond_the_bound() -> None:
    found = hundred.Found(
        joined_seconds=9.0,
        lost_seconds=5.5,
        healed_seconds=2.0,
        voters=5,
        reader_bytes=(4000.0, 4200.0, 4100.0),
        voter_bytes=(9000.0,),
        total_bytes=(4e5, 4.1e5, 4e5),
        wall_seconds=100.0,
    )
    rows = hundred.rows_of(found, 100)
    assert [row.ours.median for row in rows] == [9.0, 5.5, 2.0, 4100.0, 9000.0]
    assert "beyond the 64" in rows[0].note and "beyond" not in hundred.rows_of(found, 20)[0].note
    assert hundred.health("") == (0, 0, 0)
    assert hundred.health('{"healthy": 7, "total": 9, "quorum": {"voters": 5}}') == (7, 9, 5)
