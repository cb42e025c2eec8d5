"""`arc drill` against nodes that answer what a test says: what is measured, what is found out, what is asked before."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from arc.cli import cluster_steps, drill, drill_story, drill_watch, numbered, resources
from arc.cli.connect import _AUTHORITY, trusting
from arc.cli.drill_report import Report, verdict
from arc.cli.drill_watch import Asked
from arc.cli.numbered import Ack, Count, Gap, silence
from tests.cli import fake_node
from tests.cli.conftest import Run, document
from tests.cli.fake_node import Answer, FakeNode, refusal, table
from tests.cli.fake_node import Asked as Question

SHORT = ("--seconds", "1", "--yes", "--json")


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbered, "EVERY_SECONDS", 0.02)
    monkeypatch.setattr(numbered, "AGAIN_SECONDS", 0.01)
    monkeypatch.setattr(cluster_steps, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(drill_watch, "EVERY_SECONDS", 0.05)
    monkeypatch.setattr(drill_story, "LOOK_EVERY_SECONDS", 0.1)
    monkeypatch.setattr(drill_story, "SETTLE_SECONDS", 0.0)
    monkeypatch.setattr(drill_story, "VERIFY_SECONDS", 0.0)


class Cluster:
    """Three nodes over one store. An order, or a kill of n1, moves the lease to n2."""

    def __init__(self, held: ExitStack) -> None:
        self.lock = threading.Lock()
        self.keys: dict[str, list[int]] = {}
        self.doubled: list[int] = []
        self.dead: set[str] = set()
        self.holder, self.epoch = "n1", 3
        self.state = "healthy"
        self.moves = True
        self.orders: list[tuple[str, str]] = []
        self.asked: list[Question] = []
        self.can_delete = False
        self.nodes: dict[str, FakeNode] = {}
        for name in ("n1", "n2", "n3"):
            server = held.enter_context(fake_node.running())
            server.answer = lambda asked, name=name: self.answer(name, asked)  # type: ignore[misc]
            self.nodes[name] = server

    @property
    def url(self) -> str:
        return self.nodes["n2"].endpoint

    def status(self, name: str) -> dict[str, Any]:
        return {
            "enabled": True, "state": self.state, "local_node_id": name, "node_count": 3, "degraded": [],
            "healthy_count": 3 - len(self.dead), "leader": {"id": "n3"}, "made_at": "2026-01-01T00:00:10.000Z",
            "leases": [{"lease": "writer", "holder": self.holder, "epoch": self.epoch, "reason": "it was asked for"}],
            "nodes": [
                {"id": each, "api_address": server.endpoint.removeprefix("http://")}
                for each, server in self.nodes.items()
            ],
        }  # fmt: skip

    def answer(self, name: str, asked: Question) -> Answer:
        with self.lock:
            if name in self.dead:
                return Answer(status=503, document={"error": "dead", "code": "dead"}, cut=True)
            match asked.method, asked.path:
                case "GET", "/api/v1/cluster":
                    return Answer(document=self.status(name))
                case "GET", "/api/v1/cluster/events":
                    events = [
                        {"at": at, "kind": "granted", "words": words}
                        for at, words in (
                            ("2026-01-01T00:00:11.000Z", "n2 writes"),
                            ("2025-12-31T00:00:00.000Z", "old"),
                        )
                    ]
                    return Answer(document={"events": events, "next": "4-0"})
                case "POST", "/api/v1/cluster/failover":
                    self.orders.append((name, asked.body.decode()))
                    self.move()
                    return Answer(document={"message": "the lease moves to n2"})
                case "DELETE", _:
                    self.asked.append(asked)
                    return Answer(status=200, document={}) if self.can_delete else refusal(403, "not enabled", "no")
                case "POST", "/api/v1/query":
                    return self.count(asked)
            if self.holder in self.dead:
                return refusal(503, "no writer", "no_writer")
            numbers = [int(line.split(b"id=", 1)[1].split(b"i", 1)[0]) for line in asked.body.splitlines()]
            self.keys.setdefault(asked.headers["idempotency-key"], numbers)
            return Answer(status=204)

    def count(self, asked: Question) -> Answer:
        found = Counter([number for numbers in self.keys.values() for number in numbers] + self.doubled)
        if b"GROUP BY" in asked.body:
            return table(["id", "n"], *([number, times] for number, times in found.items()))
        return table(["rows", "distinct"], [sum(found.values()), len(found)])

    def move(self) -> None:
        if self.moves:
            self.holder, self.epoch = "n3" if self.holder == "n2" else "n2", self.epoch + 5


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with ExitStack() as held:
        yield Cluster(held)


def kill_later(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, *, then: str = "") -> None:
    """What the test's commands do: kill n1, after which n2 takes over, and start it again."""

    def run(command: str) -> Any:
        def act(scene: object, live: object) -> None:
            with cluster.lock:
                if command == "kill":
                    cluster.dead.add("n1")
                    threading.Timer(0.2, cluster.move).start()
                    if then == "lose":
                        cluster.keys.clear()
                else:
                    cluster.dead.discard("n1")

        return act

    monkeypatch.setattr(drill, "run_command", run)


def test_a_planned_fail_over_is_ordered_measured_and_every_row_is_looked_for(run: Run, cluster: Cluster) -> None:
    found = run("drill", "failover", "--url", cluster.url, *SHORT)
    told = document(found)
    assert found.exit_code == 0, told
    assert [name for name, _ in cluster.orders] == ["n2"]
    assert (told["old_writer"], told["new_writer"], told["old_epoch"], told["new_epoch"]) == ("n1", "n2", 3, 8)
    assert told["acknowledged"] > 0 and told["lost"] == told["doubled"] == 0
    assert {each["id"] for each in told["verified"]} == {"n1", "n2", "n3"}
    assert {each["id"] for each in told["nodes"] if each["answers"]} == {"n1", "n2", "n3"}
    assert told["write_gap_seconds"] >= 0 and told["query_gap_seconds"] >= 0
    assert [event["words"] for event in told["events"]] == ["n2 writes"]
    assert any("none lost, none doubled" in line for line in told["verdict"])


def test_what_a_server_does_not_remove_is_told_and_is_no_failure(run: Run, cluster: Cluster) -> None:
    told = document(run("drill", "failover", "--url", cluster.url, *SHORT))
    assert told["removed"] is False
    assert "The database could not be removed: not enabled." in told["remarks"]
    cluster.can_delete = True
    assert document(run("drill", "failover", "--url", cluster.url, "--db", "mine", *SHORT))["removed"] is True
    assert cluster.asked[-1].path == "/api/v1/databases/mine"
    asked = len(cluster.asked)
    run("drill", "failover", "--url", cluster.url, "--keep", *SHORT)
    assert len(cluster.asked) == asked


def test_a_killed_writer_is_measured_and_started_again(
    run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_later(cluster, monkeypatch)
    found = run("drill", "failover", "--unplanned", "--command", "kill", "--end", "start", "--url", cluster.url, *SHORT)
    told = document(found)
    assert found.exit_code == 0, told
    assert told["write_gap_seconds"] > 0.1
    assert told["new_writer"] == "n2" and told["retries"] > 0
    assert not cluster.dead and not cluster.orders


def test_a_node_that_stays_dead_is_not_counted_and_said_so(
    run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill_later(cluster, monkeypatch)
    found = run("drill", "failover", "--unplanned", "--command", "kill", "--url", cluster.url, *SHORT)
    told = document(found)
    assert found.exit_code == 3, told
    assert list(told["not_verified"]) == ["n1"]
    assert {each["id"] for each in told["verified"]} == {"n2", "n3"}


def test_a_cluster_that_loses_rows_is_found_out(run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_later(cluster, monkeypatch, then="lose")
    told = run("drill", "failover", "--unplanned", "--command", "kill", "--end", "start", "--url", cluster.url,
               "--seconds", "1", "--yes")  # fmt: skip
    assert told.exit_code == 1
    assert "ROWS DIFFER" in told.stdout


def test_a_row_that_is_there_twice_is_found_out(run: Run, cluster: Cluster) -> None:
    cluster.doubled.append(0)
    found = run("drill", "failover", "--url", cluster.url, *SHORT)
    told = document(found)
    assert found.exit_code == 1
    assert told["doubled"] == 1
    assert any(each["doubled_answers"] for each in told["nodes"])


def test_nobody_who_takes_over_is_told(run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill_story, "HAND_OVER_SECONDS", 0.1)
    cluster.moves = False
    told = document(run("drill", "failover", "--url", cluster.url, *SHORT))
    assert any("nobody took over from n1" in remark for remark in told["remarks"])
    assert any("the lease did not move" in line for line in told["verdict"])


def test_a_cluster_that_is_not_well_at_the_end_is_exit_code_3(run: Run, cluster: Cluster) -> None:
    cluster.state = "degraded"
    assert run("drill", "failover", "--url", cluster.url, *SHORT).exit_code == 3


@pytest.mark.parametrize("kind", ["partition", "disk-full"])
def test_commands_make_the_fault_and_make_it_good(run: Run, cluster: Cluster, kind: str, tmp_path: Any) -> None:
    commands = ("--begin", f"echo made >> {tmp_path}/log", "--end", f"echo mended >> {tmp_path}/log")
    found = run("drill", kind, "--url", cluster.url, *commands, *SHORT)
    assert found.exit_code == 0, found.stdout
    assert (tmp_path / "log").read_text().split() == ["made", "mended"]
    assert document(found)["drill"] == kind


def test_a_command_that_fails_ends_the_drill_and_is_made_good(run: Run, cluster: Cluster, tmp_path: Any) -> None:
    commands = ("--begin", "echo no such rule >&2; exit 7", "--end", f"echo mended >> {tmp_path}/log")
    found = run("drill", "partition", "--url", cluster.url, *commands, *SHORT)
    assert found.exit_code == 1
    assert "the command ended with 7" in document(found)["error"] and "no such rule" in document(found)["error"]
    assert (tmp_path / "log").read_text().split() == ["mended"]


def test_a_person_is_asked_to_make_the_fault(run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drill, "is_somebody_there", lambda: True)
    monkeypatch.setattr(resources, "is_somebody_there", lambda: True)
    found = run("drill", "disk-full", "--url", cluster.url, "--seconds", "1", input="y\n\n\n")
    assert found.exit_code == 0, found.stderr
    assert "Go on?" in found.stderr
    assert "Fill the disk of n1, which writes" in found.stderr
    assert "Remove what fills the disk of n1." in found.stderr


def test_nothing_is_done_before_somebody_agreed(run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("drill", "failover", "--url", cluster.url)
    assert found.exit_code == 2
    assert "the writer lease is handed over in order" in found.stderr, "what it will do is told first"
    monkeypatch.setattr(resources, "is_somebody_there", lambda: True)
    assert run("drill", "failover", "--url", cluster.url, input="n\n").exit_code == 2
    assert not cluster.orders and not cluster.keys


@pytest.mark.parametrize(
    "arguments",
    [
        ("failover", "--command", "kill"),
        ("failover", "--unplanned", "--command", "kill", "--to", "n2"),
        ("failover", "--unplanned"),
        ("partition",),
        ("disk-full", "--end", "rm ballast"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(run: Run, cluster: Cluster, arguments: tuple[str, ...]) -> None:
    assert run("drill", *arguments, "--url", cluster.url, "--yes").exit_code == 2
    assert not cluster.keys


def test_a_node_alone_and_a_cluster_without_a_writer_are_not_drilled(run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"enabled": False, "reason": "this node runs alone"}))
    found = run("drill", "failover", "--url", node.endpoint, "--yes")
    assert found.exit_code == 1 and "this node runs alone" in found.stderr
    node.script(Answer(document={"enabled": True, "leader": None, "leases": [], "nodes": []}))
    assert run("drill", "failover", "--url", node.endpoint, "--yes").exit_code == 4


def test_a_node_that_cannot_be_reached_is_named_before_and_after(run: Run, cluster: Cluster) -> None:
    cluster.dead.add("n3")
    found = run("drill", "failover", "--url", cluster.url, *SHORT)
    assert found.exit_code == 3
    assert "n3 is not asked" in found.stderr
    assert list(document(found)["not_verified"]) == ["n3"]


# ---- arithmetic


def report(**changes: Any) -> Report:
    facts: dict[str, Any] = {
        "kind": "failover", "nodes": (("n1", "a"),), "database": "d", "measurement": "m", "state": "healthy",
        "acks": [Ack(1.0, 0, 5, "a")], "write_gap": Gap(1.0, 1.0, 2.0), "counts": [Count("n1", 5, (), (), 0.1)],
        "asked": [Asked(node="n1", answers=3, refusals=0, gap=Gap(0.1, 1.0, 1.1), doubled=0, backwards=0)],
    }  # fmt: skip
    return Report(**{**facts, **changes})


@pytest.mark.parametrize(
    ("changes", "exit_code", "words"),
    [
        ({}, 0, "none lost, none doubled"),
        ({"counts": [Count("n1", 4, (3,), (), 0.1)]}, 1, "1 lost, 0 doubled"),
        ({"counts": [Count("n1", 6, (), (3,), 0.1)]}, 1, "0 lost, 1 doubled"),
        ({"counts": []}, 1, "no row was acknowledged for 1.00 s"),
        ({"write_gap": None}, 1, "WRITES DID NOT COME BACK"),
        ({"uncounted": {"n2": "gone"}}, 3, "n2 could not be asked for its rows: gone"),
        ({"state": "degraded", "degraded": ("a disk is full",)}, 3, "degraded now: a disk is full"),
        ({"asked": [Asked(node="n1", answers=3, refusals=0, gap=None, doubled=2, backwards=0)]}, 1, "WRONG ANSWERS"),
        ({"asked": [Asked(node="n1", answers=3, refusals=0, gap=None, doubled=0, backwards=1)]}, 1, "WRONG ANSWERS"),
    ],
)
def test_the_exit_code_and_the_words_say_the_same(changes: dict[str, Any], exit_code: int, words: str) -> None:
    made = report(**changes)
    assert made.exit_code == exit_code
    assert any(words in line for line in verdict(made)), list(verdict(made))
    assert made.document()["success"] is (exit_code != 1)


def test_a_silence_counts_when_it_ended_after_the_moment() -> None:
    assert silence([1.0, 2.0, 5.0], 2.5, 0.0) == Gap(3.0, 2.0, 5.0)
    assert silence([1.0, 2.0], 2.5, 0.0) is None


def test_threads_trust_whom_their_command_trusts(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--ca-file`` is of the run of a command, and clients are opened by threads of it."""
    seen: list[str] = []

    def remember(*given: object, **options: object) -> None:
        seen.append(_AUTHORITY.get())
        raise RuntimeError("enough")

    monkeypatch.setattr(numbered, "open_client", remember)
    monkeypatch.setattr(drill_watch, "open_client", remember)
    with trusting("our.pem"):
        load = numbered.Load(["http://127.0.0.1:1"], "", numbered.Target(workers=1))
        node = drill_watch._OneNode("n1", "http://127.0.0.1:1", "", numbered.Target())
    for thread in (*load._threads, node):
        thread.start()
        thread.join(30)
    assert seen == ["our.pem", "our.pem"]


def test_questions_that_end_before_it_is_time_end_the_drill(
    run: Run, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was not asked is not told as one that did not answer."""

    def fail(*given: object, **options: object) -> None:
        raise RuntimeError("nothing is asked any more")

    monkeypatch.setattr(drill_watch, "ask", fail)
    found = run("drill", "failover", "--url", cluster.url, *SHORT)
    assert found.exit_code != 0
    assert "nothing is asked any more" in f"{found.exception!r} {found.output}"


def test_an_answer_that_lacks_rows_or_shows_one_twice_is_noticed() -> None:
    node = drill_watch._OneNode("n1", "http://127.0.0.1:1", "", numbered.Target())
    for rows, distinct in ((5, 5), (6, 5), (6, 6), (4, 4)):
        node._take(rows, distinct)
    found = node.asked(0.0, 0.0)
    assert (found.answers, found.doubled, found.backwards, found.is_right) == (4, 1, 1, False)
