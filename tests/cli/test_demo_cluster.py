"""`arc demo --nodes 3`, step by step, against nodes that answer what a test says; the whole of it needs real ones."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from arc.cli import cluster_steps, demo, demo_cluster, numbered
from arc.cli.cluster_steps import verify, wait_hand_over, wait_whole
from arc.cli.demo_cluster import make_nodes, story
from arc.cli.demo_node import Node
from arc.cli.demo_report import Report, tell_verdict
from arc.cli.exits import Failure
from arc.cli.live import Live
from arc.cli.numbered import BATCH_ROWS, Ack, Count, Load, Target, batch_of, gap_of, judge_rows
from arc.cli.screen import Screen
from arc.ingest.lineprotocol import parse
from tests.cli import fake_node
from tests.cli.conftest import Run
from tests.cli.fake_node import Answer, Asked, FakeNode, refusal, table

NOWHERE = "http://127.0.0.1:1"


class Streams:
    """Where a screen writes to."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return False


@pytest.fixture
def screen() -> Screen:
    return Screen(out=Streams(), err=Streams(), json=False)  # type: ignore[arg-type]


@pytest.fixture
def live(screen: Screen) -> Live:
    return Live(screen, every_seconds=0.0)


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered, "EVERY_SECONDS", 0.002)
    monkeypatch.setattr(numbered, "AGAIN_SECONDS", 0.001)
    monkeypatch.setattr(cluster_steps, "POLL_SECONDS", 0.002)
    monkeypatch.setattr(cluster_steps, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(demo_cluster, "ALONE_SECONDS", 0.0)


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


# ---- arithmetic


@pytest.mark.parametrize(
    ("times", "killed", "gap"),
    [
        ([1.0, 1.1, 3.5, 3.6], 1.2, (2.4, 1.1, 3.5)),
        ([1.0, 1.1, 1.25, 3.5], 1.2, (2.25, 1.25, 3.5)),  # an answer was under way when the node died
        ([3.5, 1.1, 1.0], 1.2, (2.4, 1.1, 3.5)),  # workers append in any order
        ([1.0, 4.0, 4.1], 4.05, (0.1, 4.0, 4.1)),  # a silence before the kill is not its fault
        ([2.0], 1.0, (2.0, 0.0, 2.0)),
        ([1.0], 1.5, None),
        ([], 1.0, None),
    ],
)
def test_the_gap_is_the_longest_silence_that_ended_after_the_kill(
    times: list[float], killed: float, gap: tuple[float, float, float] | None
) -> None:
    found = gap_of([Ack(at, 0, 1, "") for at in times], killed, 0.0)
    assert (found is None) == (gap is None)
    if found is not None:
        assert (found.seconds, found.last_before, found.first_after) == pytest.approx(gap)


@pytest.mark.parametrize(
    ("found", "lost", "doubled"),
    [
        ({0: 1, 1: 1, 5: 1}, (), ()),
        ({0: 1, 5: 1}, (1,), ()),
        ({0: 1, 1: 2, 5: 1}, (), (1,)),
        ({0: 1, 1: 1, 5: 1, 9: 1}, (), ()),  # never acknowledged, and stored: its answer was lost
        ({0: 1, 1: 1, 5: 1, 9: 2}, (), (9,)),  # stored twice is wrong, acknowledged or not
        ({}, (0, 1, 5), ()),
    ],
)
def test_every_acknowledged_row_is_wanted_exactly_once(
    found: dict[int, int], lost: tuple[int, ...], doubled: tuple[int, ...]
) -> None:
    count = judge_rows([Ack(0.0, 0, 2, ""), Ack(0.0, 5, 1, "")], found)
    assert (count.lost, count.doubled) == (lost, doubled)


def test_a_batch_is_line_protocol_with_a_point_of_its_own_for_each_row() -> None:
    decoded = parse(batch_of(100, 1) + b"\n" + batch_of(100 + BATCH_ROWS, 1), precision="us", now_us=0)
    assert decoded.refused == ()
    assert decoded.rows == 2 * BATCH_ROWS


def test_a_report_is_whole_only_when_every_node_was_asked() -> None:
    report = Report(nodes=(("n1", "a"), ("n2", "b")), acks=[Ack(0.0, 0, 5, "a")], seconds=2.0)
    report.counts.append(Count("n1", 5, (), (), 0.1))
    assert not report.is_whole
    report.counts.append(Count("n2", 5, (3,), (1, 2), 0.1))
    assert not report.is_whole
    made = report.document()
    assert (made["success"], made["lost"], made["doubled"], made["acknowledged"]) == (False, 1, 2, 5)
    assert made.keys() >= {"gap_seconds", "killed", "new_writer", "verified", "rows_per_second"}


def test_a_report_that_is_not_whole_names_rows_and_nodes(screen: Screen) -> None:
    report = Report(nodes=(("n1", "a"),), acks=[Ack(0.0, 0, 50, "a")], killed="n1", new_writer="n2")
    report.counts.append(Count("n1", 5, tuple(range(20)), (), 0.1))
    tell_verdict(screen, report)
    said = screen.out.text  # type: ignore[attr-defined]
    assert "ROWS DIFFER: 20 lost, 0 doubled of 50" in said
    assert "n1: lost 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 10 more; doubled none" in said
    assert "gap not over" in said


# ---- the load


def stored(node: FakeNode) -> list[tuple[str, int]]:
    """Key and first number of every batch that the node was sent."""
    found = []
    for asked in node.asked:
        first = int(asked.body.split(b"id=", 1)[1].split(b"i", 1)[0])
        found.append((asked.headers["idempotency-key"], first))
    return found


def run_until(load: Load, rows: int) -> None:
    with load:
        deadline = soon()
        while load.rows < rows and time.monotonic() < deadline:
            load.require_well()
            time.sleep(0.001)
        load.stop()
    assert load.rows >= rows


def test_a_batch_that_is_not_acknowledged_is_sent_again_under_its_key(node: FakeNode) -> None:
    node.script(refusal(503, "an election", "not_leader"), refusal(503, "it may have happened", "outcome_unknown"),
                Answer(status=204))  # fmt: skip
    load = Load([node.endpoint], "t", Target(workers=1))
    run_until(load, 3 * BATCH_ROWS)
    sent = stored(node)
    assert len({sent[0], sent[1], sent[2]}) == 1
    assert len({key for key, _ in sent}) == len(load.acks)
    assert load.retries == 2
    assert [ack.first for ack in load.acks] == [BATCH_ROWS * at for at in range(len(load.acks))]


def test_a_node_that_is_dead_costs_a_try_and_no_row(node: FakeNode) -> None:
    load = Load([NOWHERE, node.endpoint], "t", Target(workers=1))
    run_until(load, 4 * BATCH_ROWS)
    assert {ack.endpoint for ack in load.acks} == {node.endpoint}
    assert load.retries > 0
    assert len({key for key, _ in stored(node)}) == len(node.asked)


def test_a_refused_row_ends_the_load(node: FakeNode) -> None:
    node.script(refusal(400, "a wrong line", "invalid"))
    load = Load([node.endpoint], "t", Target(workers=2))
    with load, pytest.raises(Failure, match="a wrong line"):
        for thread in load._threads:
            thread.join(30)
        load.stop()
    with pytest.raises(Failure, match="a wrong line"):
        load.require_well()


def test_a_batch_that_nobody_takes_is_given_up_and_not_counted(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered, "GIVE_UP_SECONDS", 0.0)
    node.script(refusal(503, "no writer", "no_writer"))
    load = Load([node.endpoint], "t", Target(workers=1))
    with load:
        while not load.retries:
            time.sleep(0.001)
        load.stop()
    assert (load.acks, load.unknown) == ([], BATCH_ROWS)


# ---- waiting


def status(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "enabled": True, "state": "healthy", "node_count": 3, "healthy_count": 3, "degraded": [],
        "leader": {"id": "n1"}, "leases": [{"lease": "writer", "holder": "n2", "epoch": 7, "reason": "the first"}],
        "nodes": [{"id": "n1", "address": "127.0.0.1:1"}],
    }  # fmt: skip
    return {**found, **changes}


THIN = {"code": "in_sync_alone", "severity": "degraded", "words": "only n2 holds every row", "next_command": "x"}


def test_a_cluster_is_whole_when_every_node_says_so(live: Live, node: FakeNode) -> None:
    node.script(
        refusal(503, "the node is starting", "node_starting"),
        Answer(document={"enabled": False, "reason": "this node runs alone"}),
        Answer(document=status(healthy_count=2)),
        Answer(document=status(healthy_count=2)),
        Answer(document=status(leases=[])),
        Answer(document=status(leader=None)),
        Answer(document=status()),
    )
    assert wait_whole([node.endpoint], "t", 3, soon(), live)["state"] == "healthy"
    assert len(node.asked) == 7
    said = live._screen.err.text  # type: ignore[attr-defined]
    assert "waiting: the node is starting" in said
    assert "waiting: this node runs alone" in said
    assert said.count("waiting: 2 of 3 nodes are healthy") == 1


def test_a_cluster_that_works_and_is_not_healthy_is_taken_as_it_is_and_said_so(live: Live, node: FakeNode) -> None:
    node.script(Answer(document=status(state="degraded", degraded=[THIN])))
    assert wait_whole([node.endpoint], "t", 3, soon(), live)["state"] == "degraded"
    said = live._screen.err.text  # type: ignore[attr-defined]
    assert "it works and is not fully healthy: degraded: only n2 holds every row [in_sync_alone]" in said


def test_a_cluster_that_does_not_form_fails_with_the_reason(live: Live, node: FakeNode) -> None:
    node.script(Answer(document=status(state="unavailable")))
    with pytest.raises(Failure, match="3 of 3 nodes are healthy") as caught:
        wait_whole([node.endpoint], "t", 3, soon(0.05), live)
    assert caught.value.exit_code == 4


def test_a_node_that_ends_by_itself_is_not_waited_for(live: Live, node: FakeNode) -> None:
    def watch() -> None:
        raise Failure("node n2 ended with exit code 2")

    with pytest.raises(Failure, match="n2 ended"):
        wait_whole([node.endpoint], "t", 3, soon(), live, watch=watch)


def test_a_hand_over_is_another_holder_in_a_newer_epoch(live: Live, node: FakeNode) -> None:
    def held(holder: str, epoch: int) -> Answer:
        return Answer(document=status(leases=[{"lease": "writer", "holder": holder, "epoch": epoch}]))

    node.script(refusal(503, "busy", "overloaded"), held("n2", 7), held("n2", 8), held("n3", 7), held("n3", 9))
    found = wait_hand_over([NOWHERE, node.endpoint], "t", 7, "n2", soon(), live)
    assert cluster_steps.lease_of(found, "writer") == ("n3", 9)


def test_nobody_who_takes_over_is_a_failure_with_the_clusters_own_words(live: Live, node: FakeNode) -> None:
    stuck = {**THIN, "severity": "unavailable", "words": "nobody can take over"}
    node.script(Answer(document=status(degraded=[stuck])))
    with pytest.raises(Failure, match="nobody can take over"):
        wait_hand_over([node.endpoint], "t", 7, "n2", soon(0.05), live)


# ---- counting


def counted(*rows: list[int]) -> Answer:
    return table(["id", "n"], *rows)  # type: ignore[arg-type]


def test_a_node_that_catches_up_is_asked_again(node: FakeNode) -> None:
    node.script(refusal(503, "not yet", "not_seen_yet"), counted([0, 1]), counted([0, 1], [1, 1]))
    count = verify("n1", node.endpoint, "t", [Ack(0.0, 0, 2, "")], soon())
    assert (count.node, count.rows, count.is_whole) == ("n1", 2, True)
    assert len(node.asked) == 3


def test_a_node_that_never_shows_a_row_has_lost_it(node: FakeNode) -> None:
    node.script(counted([0, 2]))
    count = verify("n1", node.endpoint, "t", [Ack(0.0, 0, 2, "")], soon(0.0))
    assert (count.lost, count.doubled) == ((1,), (0,))
    node.script(refusal(503, "still not", "not_seen_yet"))
    with pytest.raises(Failure, match="still not"):
        verify("n1", node.endpoint, "t", [Ack(0.0, 0, 2, "")], soon(0.0))


def test_many_rows_are_counted_in_pieces(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_steps, "NUMBERS_PER_QUERY", 2)
    node.script(counted([0, 1], [1, 1]), counted([2, 1]), counted([2, 1]))
    assert verify("n1", node.endpoint, "t", [Ack(0.0, 0, 3, "")], soon()).is_whole
    assert [json.loads(asked.body)["sql"].partition("WHERE ")[2] for asked in node.asked] == [
        "id >= 0 AND id < 2 GROUP BY id", "id >= 2 AND id < 4 GROUP BY id",
    ]  # fmt: skip


# ---- the whole story


class FakeCluster:
    """Three nodes over one store; who writes changes when the writer dies. ``loses`` forgets everything at the kill."""

    def __init__(self, held: ExitStack, *, loses: bool = False, doubles: bool = False) -> None:
        self.lock = threading.Lock()
        self.keys: dict[str, list[int]] = {}
        self.extra: list[int] = []
        self.dead: set[str] = set()
        self.holder, self.epoch, self.loses, self.doubles = "n1", 3, loses, doubles
        self.nodes: list[FakeMember] = []
        for name in ("n1", "n2", "n3"):
            server = held.enter_context(fake_node.running())
            server.answer = lambda asked, name=name: self.answer(name, asked)  # type: ignore[misc]
            self.nodes.append(FakeMember(self, server, name))

    def answer(self, name: str, asked: Asked) -> Answer:
        with self.lock:
            if name in self.dead:
                return Answer(status=503, document={"error": "dead", "code": "dead"}, cut=True)
            if asked.path == "/api/v1/cluster":
                lease = {"lease": "writer", "holder": self.holder, "epoch": self.epoch, "reason": "it was silent"}
                return Answer(document=status(healthy_count=3 - len(self.dead), leader={"id": "n1"}, leases=[lease]))
            if asked.path == "/api/v1/query":
                found = Counter([number for numbers in self.keys.values() for number in numbers] + self.extra)
                return counted(*([number, times] for number, times in found.items()))
            if self.holder in self.dead:
                return refusal(503, "no writer", "no_writer")
            numbers = [int(line.split(b"id=", 1)[1].split(b"i", 1)[0]) for line in asked.body.splitlines()]
            self.keys.setdefault(asked.headers["idempotency-key"], numbers)
            return Answer(status=204)

    def kill(self, name: str) -> None:
        with self.lock:
            self.dead.add(name)
            if self.loses:
                self.keys.clear()
            if self.doubles:
                self.extra.append(0)
        threading.Timer(0.1, self.elect).start()

    def elect(self) -> None:
        with self.lock:
            self.holder, self.epoch = "n2", self.epoch + 5


class FakeMember(Node):
    """A node of that cluster."""

    def __init__(self, cluster: FakeCluster, server: FakeNode, name: str) -> None:
        super().__init__(folder=Path(), port=int(server.endpoint.rpartition(":")[2]), token="t", name=name)
        self.cluster = cluster

    def launch(self) -> None:
        with self.cluster.lock:
            self.cluster.dead.discard(self.name)

    def require_running(self) -> None:
        pass

    def kill(self) -> None:
        self.cluster.kill(self.name)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_the_writer_is_killed_another_takes_over_and_every_row_is_there_once(
    screen: Screen, live: Live, held: ExitStack
) -> None:
    cluster = FakeCluster(held)
    report = story(screen, live, cluster.nodes, seconds=0.5, kills=True)
    assert report.is_whole
    assert (report.killed, report.killed_led, report.new_writer) == ("n1", True, "n2")
    assert (report.old_epoch, report.new_epoch) == (3, 8)
    assert report.gap is not None and 0.05 < report.gap.seconds < 30
    assert [count.node for count in report.counts] == ["n1", "n2", "n3"]
    said = screen.err.text  # type: ignore[attr-defined]
    assert "kill -9 n1, which writes and leads" in said
    assert "n2 holds the writer lease after" in said
    assert "(epoch 3 → 8): it was silent" in said
    assert all(node.endpoint in said for node in cluster.nodes)


@pytest.mark.parametrize(("loses", "doubles"), [(True, False), (False, True)])
def test_a_cluster_that_loses_or_doubles_a_row_is_found_out(
    loses: bool, doubles: bool, screen: Screen, live: Live, held: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_cluster, "VERIFY_SECONDS", 0.0)
    report = story(screen, live, FakeCluster(held, loses=loses, doubles=doubles).nodes, seconds=0.5, kills=True)
    assert not report.is_whole
    assert (report.lost >= BATCH_ROWS) == loses
    assert report.doubled == (1 if doubles else 0)


def test_without_a_kill_rows_stream_and_are_counted(screen: Screen, live: Live, held: ExitStack) -> None:
    report = story(screen, live, FakeCluster(held).nodes, seconds=0.2, kills=False)
    assert report.is_whole
    assert (report.killed, report.gap, report.document()["gap_seconds"]) == (None, None, None)


# ---- the processes


def test_nodes_get_each_other_as_seeds_and_the_secret_only_in_their_environment(tmp_path: Path) -> None:
    nodes = make_nodes(tmp_path, 3)
    seeds = {setting for node in nodes for setting in node.settings if setting.startswith("cluster.seeds=")}
    assert len(seeds) == 1
    addresses = seeds.pop().partition("=")[2].split(",")
    told = [dict(setting.split("=", 1) for setting in node.settings) for node in nodes]
    assert [each["cluster.advertise"] for each in told] == addresses
    assert {each["cluster.bootstrap_expect"] for each in told} == {"3"}
    assert len({node.port for node in nodes} | {int(each.rpartition(":")[2]) for each in addresses}) == 6
    secrets = {node.environment["ARC_CLUSTER_SHARED_SECRET"] for node in nodes}
    assert len(secrets) == 1 and len(next(iter(secrets))) >= 16
    assert not any(secret in setting for secret in secrets for node in nodes for setting in node.settings)
    assert not any(secret in repr(node) for secret in secrets for node in nodes)


def test_a_kill_needs_a_cluster(run: Run) -> None:
    found = run("demo", "--kill-leader")
    assert found.exit_code == 2
    assert "Add --nodes 3" in found.stderr


@pytest.mark.parametrize("whole", [True, False])
def test_the_exit_code_tells_whether_all_rows_were_there_and_evidence_is_kept(
    whole: bool, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(demo, "run_cluster", lambda *args, **options: whole)
    found = run("demo", "--nodes", "3", "--kill-leader")
    assert found.exit_code == (0 if whole else 1)
    assert len(list(tmp_path.glob("arc-demo-*"))) == (0 if whole else 1)
