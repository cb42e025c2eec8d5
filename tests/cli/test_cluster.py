"""`arc cluster` against a node that answers what a test says, in the very documents that the API makes."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import pytest

from arc.api.cluster_events import newest_first, parse_cursor, since
from arc.catalog.roles import NodeState
from arc.cli import cluster, cluster_orders
from arc.cli.cluster_screen import COLUMNS, event_line, exit_of, lines, rows, snippet, span, spark
from arc.cli.cluster_watch import LOOKS_KEPT, Lags
from arc.cluster.document import local_document, status_document, verdict_document
from tests.api.cluster_fakes import N2, ClusterWorld, Lag, Plan, Seen
from tests.api.fakes import START_US
from tests.api.test_cluster import silence
from tests.cli import fake_node
from tests.cli.conftest import Run, document
from tests.cli.fake_node import Answer, Asked, FakeNode, refusal

NEXT = "next in line: n3, which is in sync and healthy, and durable up to 1000"
ALONE = {"enabled": False, "mode": "standalone", "reason": "this node runs alone: a cluster of one"}


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "POLL_SECONDS", 0.001)


def status_of(world: ClusterWorld) -> dict[str, Any]:
    """What the API would answer."""
    found = json.loads(json.dumps(status_document(world.look())))
    assert isinstance(found, dict)
    return found


def health_of(world: ClusterWorld) -> dict[str, Any]:
    healthy = sum(view.is_healthy for view in world.cluster.views)
    total = len(world.cluster.views)
    return {"healthy": healthy, "unhealthy": total - healthy, "total": total, **verdict_document(world.look())}


def degraded() -> ClusterWorld:
    """The writer is dead."""
    world = ClusterWorld()
    silence(world, N2)
    world.cluster.plans["writer"] = Plan("n3 takes over in 0.4 s")
    return world


def ask(run: Run, node: FakeNode, *arguments: str, input: str | None = None) -> Any:
    return run("cluster", *arguments, "--endpoint", node.endpoint, input=input)


# ---- status


def test_status_is_one_screen_that_answers_what_is_asked_at_night(run: Run, node: FakeNode) -> None:
    node.script(Answer(document=status_of(ClusterWorld())))
    found = ask(run, node, "status", "--token", "secret")
    assert found.exit_code == 0
    assert (node.asked[0].path, node.asked[0].headers["authorization"]) == ("/api/v1/cluster", "Bearer secret")
    text = found.stdout.splitlines()
    assert text[:9] == [
        "cluster    arc, 0b5c1d9e-7a34-4c55-9d7e-0123456789ab",
        "state      HEALTHY, as n1 sees it at 2026-01-01T02:00:00.000Z",
        "leader     n1 since 2026-01-01T01:00:00.000Z (1 h 0 min), term 4",
        "may fail   one more node, whichever it is: 3 of 3 voters answer, 2 must",
        "writer     n2 since 2026-01-01T01:00:00.000Z (1 h 0 min), epoch 9: the first writer",
        f"           keep: n2 holds it and is healthy; {NEXT}",
        "compactor  n3 since 2026-01-01T01:00:00.000Z (1 h 0 min), epoch 10: the first compactor",
        f"           keep: n3 holds it and is healthy; {NEXT}",
        "in sync    n1, n2, n3: whoever may take over writes without losing a row",
    ]
    at = text.index("# nodes")
    assert text[at + 2].split("\t")[:9] == [
        "n1", "writer", "healthy", "voter", "leads, in sync, this node", "-", "0", "0", "",
    ]  # fmt: skip
    assert text[at + 3].split("\t")[:7] == ["n2", "writer", "healthy", "voter", "writes, in sync", "0.2 s ago", "2"]
    assert "# what is wrong" not in text


def test_status_of_a_cluster_in_trouble_says_why_and_what_to_do(run: Run, node: FakeNode) -> None:
    node.script(Answer(document=status_of(degraded())))
    found = ask(run, node, "status")
    assert found.exit_code == 4
    text = found.stdout
    assert "state      UNAVAILABLE" in text
    assert "writer     n2 AND DOES NOT ANSWER since" in text
    assert "so no rows can be written; n3 takes over in 0.4 s [writer_down]" in text
    assert "next: arc cluster events --follow" in text


@pytest.mark.parametrize(("state", "code"), [("healthy", 0), ("degraded", 3), ("unavailable", 4), ("new word", 4)])
def test_the_exit_code_is_the_verdict(state: str, code: int, run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"enabled": True, "state": state}))
    assert ask(run, node, "status").exit_code == code
    assert ask(run, node, "health").exit_code == code


def test_status_for_programs_is_the_nodes_document(run: Run, node: FakeNode) -> None:
    made = status_of(degraded())
    node.script(Answer(document=made))
    found = ask(run, node, "status", "--json")
    assert found.exit_code == 4
    assert document(found) == made


def test_a_node_alone_is_well_and_says_that_it_is_alone(run: Run, node: FakeNode) -> None:
    node.script(Answer(document=ALONE))
    for command in (["status"], ["nodes"], ["health", "--wait"], ["events"], ["events", "--follow"]):
        found = ask(run, node, *command)
        assert (found.exit_code, found.stdout) == (0, "this node runs alone: a cluster of one\n")


def test_a_node_that_is_not_there_is_exit_code_4(run: Run) -> None:
    for command in ("status", "nodes", "events"):
        assert run("cluster", command, "--endpoint", "http://127.0.0.1:1").exit_code == 4


def test_an_older_node_that_says_less_is_shown_all_the_same() -> None:
    found = dict(lines({"enabled": True, "state": "healthy"}))
    assert found["leader"] == "nobody is known to lead"
    assert found["in sync"].startswith("nobody")


def test_disk_certificate_and_clock_of_a_node_are_shown_and_what_it_does_not_say_is_not() -> None:
    node = {"id": "n2", "disk_free_bytes": 3 << 30, "certificate_left_seconds": 9 * 86_400.0}
    at = COLUMNS.index("disk free")

    def shown(**more: object) -> tuple[object, ...]:
        (row,) = rows([{**node, **more}])
        return row[at : at + 3]

    assert shown(clock_offset_seconds=0.02) == ("3.0 GiB", "9 d 0 h left", "same")
    assert shown(clock_offset_seconds=-2.5, certificate_left_seconds=-1.0) == ("3.0 GiB", "IS OVER", "-2.5 s")
    assert shown(is_local=True, clock_offset_seconds=0.0)[2] is None
    assert shown(disk_free_bytes=None, certificate_left_seconds=None) == (None, None, None)


def test_lease_that_was_taken_with_a_loss_says_so() -> None:
    world = ClusterWorld()
    world.in_sync("n2")
    world.grant("writer", "n3", reason="no other choice", unclean=True)
    assert "no other choice; acknowledged rows may have been lost by that" in dict(lines(status_of(world)))["writer"]


# ---- nodes, health, events


def test_nodes_are_listed_and_filtered_by_the_node(run: Run, node: FakeNode) -> None:
    world = ClusterWorld()
    view = world.look().local
    assert view is not None
    node.script(Answer(document={"nodes": [local_document(view, world.look())], "total": 1}))
    found = ask(run, node, "nodes", "--role", "writer", "--state", "healthy")
    assert node.asked[0].query == {"role": "writer", "state": "healthy"}
    assert found.stdout.splitlines()[1].startswith("n1\twriter\thealthy\tvoter\t")


def test_health_waits_until_all_is_well_and_says_what_for(run: Run, node: FakeNode) -> None:
    bad, good = Answer(document=health_of(degraded())), Answer(document=health_of(ClusterWorld()))
    node.script(refusal(503, "the node is starting", "node_starting"), bad, bad, good)
    found = ask(run, node, "health", "--wait")
    assert (found.exit_code, len(node.asked)) == (0, 4)
    assert found.stdout == "healthy: 3 of 3 nodes healthy\n"
    assert found.stderr.count("waiting:") == 2
    assert "waiting: the node is starting" in found.stderr


def test_health_waits_for_so_many_nodes(run: Run, node: FakeNode) -> None:
    two = ClusterWorld()
    two.cluster.views = two.cluster.views[1:]
    node.script(Answer(document={**health_of(two), "state": "healthy", "degraded": []}))
    found = ask(run, node, "health", "--wait", "--nodes", "3", "--timeout", "0")
    assert found.exit_code == 4
    node.script(Answer(document=health_of(ClusterWorld())))
    assert ask(run, node, "health", "--wait", "--nodes", "3", "--timeout", "0").exit_code == 0


def test_health_that_never_comes_ends_with_what_was_seen_last(run: Run, node: FakeNode) -> None:
    world = ClusterWorld()
    world.cluster.change("n3", state=NodeState.LEAVING)
    node.script(Answer(document=health_of(world)))
    found = ask(run, node, "health", "--wait", "--timeout", "0.01")
    assert found.exit_code == 3
    assert "next: arc cluster undrain n3" in found.stdout
    gone = run("cluster", "health", "--wait", "--timeout", "0", "--endpoint", "http://127.0.0.1:1", "--json")
    assert (gone.exit_code, document(gone)["code"]) == (4, "unreachable")


def events_of(world: ClusterWorld, after: str = "") -> Answer:
    news = since(world.catalog.history, world.cluster.seen, parse_cursor(after))
    found = newest_first(news.grants, news.seen, seen_by="n1")
    return Answer(document={"events": found, "next": str(news.following), "total": len(found)})


def test_events_are_shown_oldest_first_and_followed_from_where_they_were_read(run: Run, node: FakeNode) -> None:
    world = ClusterWorld()
    first = events_of(world)
    world.cluster.seen = [Seen(1, START_US, "n2", "node_dead", "n2 is dead\x1b[2J")]
    after = json.loads(first.payload)["next"]
    node.script(first, events_of(world, after), refusal(403, "Permission denied", "forbidden"))
    found = ask(run, node, "events", "--follow")
    assert found.exit_code == 1  # the refusal ends the test
    assert [line.split("Z", 1)[1].strip() for line in found.stdout.splitlines()] == [
        "lease_assigned    n2 got the writer lease: the first writer",
        "lease_assigned    n3 got the compactor lease: the first compactor",
        "node_dead         n2 is dead\\x1b[2J (seen by n1)",
    ]
    assert node.asked[1].query == {"after": after, "wait": "20"}


def test_events_for_programs_are_one_document_or_one_a_line(run: Run, node: FakeNode) -> None:
    node.script(events_of(ClusterWorld()))
    assert document(ask(run, node, "events", "--json"))["total"] == 2
    node.script(events_of(ClusterWorld()), refusal(403, "Permission denied", "forbidden"))
    told = [json.loads(line) for line in ask(run, node, "events", "--follow", "--json").stdout.splitlines()]
    assert [event.get("holder") for event in told] == ["n2", "n3", None]
    assert event_line(told[0]).endswith("the first writer")


# ---- orders

MOVED = {"success": True, "message": "n3 holds the writer lease", "lease": "writer", "holder": "n3"}


@pytest.mark.parametrize(
    ("arguments", "method", "path", "body"),
    [
        (["init"], "POST", "/init", None),
        (["leave"], "POST", "/leave", None),
        (["drain", "n 3"], "POST", "/nodes/n%203/drain", None),
        (["undrain", "n3"], "POST", "/nodes/n3/undrain", None),
        (["remove", "n3"], "DELETE", "/nodes/n3", None),
        (["transfer-leader"], "POST", "/transfer-leadership", {"target": None}),
        (["transfer-leader", "n3"], "POST", "/transfer-leadership", {"target": "n3"}),
        (["failover"], "POST", "/failover", {"lease": "writer", "target": None, "reason": None}),
        (["failover", "compactor", "--to", "n3", "--reason", "hot"], "POST", "/failover",
         {"lease": "compactor", "target": "n3", "reason": "hot"}),
        (["promote", "n3", "--accept-data-loss", "--yes"], "POST", "/promote",
         {"node": "n3", "accept_data_loss": True, "reason": None}),
    ],
)  # fmt: skip
def test_an_order_is_one_request(
    arguments: list[str], method: str, path: str, body: object, run: Run, node: FakeNode
) -> None:
    node.script(Answer(document=MOVED))
    found = ask(run, node, *arguments, "--json")
    assert (found.exit_code, document(found)) == (0, MOVED)
    (asked,) = node.asked
    assert (asked.method, asked.path) == (method, f"/api/v1/cluster{path}")
    assert (json.loads(asked.body) if asked.body else None) == body


def test_a_node_that_would_take_files_along_is_removed_by_force_only(run: Run, node: FakeNode) -> None:
    refused = {"error": "n3 lives, and 2 file(s) would go with it", "code": "files_held"}
    node.script(Answer(status=409, document=refused), Answer(document=MOVED))
    found = ask(run, node, "remove", "n3")
    assert (found.exit_code, "`arc cluster leave` at that node" in found.stderr) == (1, True)
    assert ask(run, node, "remove", "n3", "--force").exit_code == 0
    assert [asked.query for asked in node.asked] == [{}, {"force": "true"}]


@pytest.mark.parametrize("answer", [{"cluster_uuid": "0b5c", "cluster_name": "arc"}, {"cluster": {"uuid": "0b5c"}}])
def test_a_founded_cluster_has_a_name_for_life(answer: dict[str, object], run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"success": True, **answer}))
    found = ask(run, node, "init")
    assert found.stdout == "the cluster is founded: 0b5c\n"
    assert "next: arc cluster join-token" in found.stderr


def test_a_node_without_a_cluster_says_what_it_waits_for(run: Run, node: FakeNode) -> None:
    node.script(refusal(503, "it waits for 3 nodes and has seen 1", "not_a_member"))
    found = ask(run, node, "status")
    assert found.exit_code == 4
    assert "it waits for 3 nodes and has seen 1" in found.stderr
    assert "next: It joins by itself" in found.stderr


def test_an_order_goes_to_the_leader_when_another_node_was_asked(run: Run, node: FakeNode) -> None:
    with fake_node.running() as leader:
        leader.script(Answer(document=MOVED))

        def follower(asked: Asked) -> Answer:
            if asked.method == "GET":
                return Answer(document={"id": "n2", "api_address": leader.endpoint.removeprefix("http://")})
            return refusal(503, "this node does not lead", "not_leader", leader={"name": "n2", "address": "n2:9100"})

        node.answer = follower
        found = ask(run, node, "failover", "--token", "secret")
        assert (found.exit_code, found.stdout) == (0, "n3 holds the writer lease\n")
        assert [asked.path for asked in node.asked] == ["/api/v1/cluster/failover", "/api/v1/cluster/nodes/n2"]
        assert leader.asked[0].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("leader", "step"),
    [({"name": "n2", "address": "n2:9100"}, "Ask n2: give its HTTP address"), (None, "Wait for an election")],
)
def test_an_order_that_reaches_no_leader_says_whom_to_ask(leader: object, step: str, run: Run, node: FakeNode) -> None:
    def answer(asked: Asked) -> Answer:
        if asked.method == "GET":
            return refusal(404, "Node not found", "node_not_found")
        return refusal(503, "this node does not lead", "not_leader", leader=leader)

    node.answer = answer
    found = ask(run, node, "transfer-leader", "--json")
    assert found.exit_code == 4
    assert step in document(found)["next"]
    assert document(found)["effect"] == "Nothing was changed."


def test_an_order_to_a_node_alone_fails(run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"success": False, **ALONE}))
    found = ask(run, node, "remove", "n3", "--json")
    assert (found.exit_code, document(found)["code"]) == (1, "cluster_disabled")


def test_what_a_drained_node_still_holds_is_told(run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"success": True, "message": "n3 is given nothing new", "still_holds": ["compactor"]}))
    found = ask(run, node, "drain", "n3")
    assert "it still holds: compactor" in found.stderr


def test_a_promotion_that_may_lose_rows_is_asked_for_twice(
    run: Run, node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.script(Answer(document=MOVED))
    plain = ask(run, node, "promote", "n3")
    assert (plain.exit_code, node.asked) == (2, [])
    assert "--accept-data-loss" in plain.stderr
    nobody = ask(run, node, "promote", "n3", "--accept-data-loss")
    assert (nobody.exit_code, node.asked) == (2, [])
    monkeypatch.setattr(cluster_orders, "is_somebody_there", lambda: True)
    wrong = ask(run, node, "promote", "n3", "--accept-data-loss", input="n2\n")
    assert (wrong.exit_code, node.asked) == (2, [])
    assert ask(run, node, "promote", "n3", "--accept-data-loss", input="n3\n").exit_code == 0
    assert len(node.asked) == 1


def test_the_snippet_for_a_new_node_is_toml_and_has_no_secret(run: Run, node: FakeNode) -> None:
    made = status_of(ClusterWorld())
    node.script(Answer(document=made))
    found = tomllib.loads(ask(run, node, "join-token", "--role", "reader").stdout)
    assert found["node"] == {"role": "reader"}
    assert found["cluster"] == {
        "enabled": True, "name": "arc", "advertise": "THIS-HOST:9100",
        "seeds": ["n1.example:9100", "n2.example:9100", "n3.example:9100"],
    }  # fmt: skip
    told = document(ask(run, node, "join-token", "--json"))
    assert told["secret_variable"] == "ARC_CLUSTER_SHARED_SECRET"
    assert "shared_secret" not in told["configuration"]
    evil = snippet({**made, "cluster_name": 'a"\nenabled = false #'.replace("\n", " ")}, role="writer")
    assert tomllib.loads(evil)["cluster"]["enabled"] is True


# ---- watch


def test_watch_looks_again_and_again_and_ends_with_the_last_verdict(run: Run, node: FakeNode) -> None:
    world = degraded()
    world.cluster.followers = [Lag("n3", 40, 2.0)]
    node.script(Answer(document=status_of(ClusterWorld())), refusal(503, "starting", "node_starting"),
                Answer(document=status_of(world)))  # fmt: skip
    found = ask(run, node, "watch", "--every", "0.1", "--looks", "3")
    assert found.exit_code == 4
    assert found.stdout.count("cluster    arc, ") == 2
    assert "starting; asking again" in found.stdout
    n3 = [line for line in found.stdout.splitlines() if line.startswith("n3\t")]
    assert [line.rpartition("\t")[2] for line in n3] == ["▁", "▁█"]


def test_watch_for_programs_is_one_document_a_line(run: Run, node: FakeNode) -> None:
    node.script(Answer(document=status_of(ClusterWorld())), refusal(503, "starting", "node_starting"))
    found = ask(run, node, "watch", "--every", "0.1", "--looks", "2", "--json")
    told = [json.loads(line) for line in found.stdout.splitlines()]
    assert (told[0]["state"], told[1]["code"], found.exit_code) == ("healthy", "node_starting", 4)


def test_lags_are_kept_for_a_while_and_forgotten_with_the_node() -> None:
    lags = Lags()
    for value in range(LOOKS_KEPT + 5):
        lags.add({"nodes": [{"id": "n1", "records_behind": value}]})
    assert len(lags.bars("n1")) == LOOKS_KEPT
    for name in range(200):
        lags.add({"nodes": [{"id": f"x{name}", "records_behind": None}]})
    assert lags.bars("n1") == ""


# ---- words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.2 s"), (9.96, "10.0 s"), (10, "10 s"), (59.9, "60 s"), (60, "1 min"), (3599, "59 min"),
     (3600, "1 h 0 min"), (86399, "23 h 59 min"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_durations_are_told_in_two_units_at_the_most(seconds: float, words: str) -> None:
    assert span(seconds) == words


@pytest.mark.parametrize(("values", "bars"), [([], ""), ([0, 0], "▁▁"), ([0, 1, 2], "▁▅█"), ([5], "█")])
def test_bars_are_as_high_as_the_highest(values: list[float], bars: str) -> None:
    assert spark(values) == bars


def test_an_unknown_verdict_is_not_taken_for_health() -> None:
    assert exit_of({}) == 4
