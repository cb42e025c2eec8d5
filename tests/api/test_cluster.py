"""The cluster for its operator: what is shown, what is wrong and why, what happened, what is asked of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from arc.api.cluster_events import parse_cursor, since
from arc.catalog.commands import CreateDatabase, DeclareColumns, RegisterFiles
from arc.catalog.leases import Lease
from arc.catalog.roles import NodeRole, NodeState
from arc.catalog.values import ColumnSchema
from arc.cluster.outlook import failures_tolerated, quorum_of
from arc.cluster.troubles import CODES, Verdict, troubles, verdict_of
from arc.cluster.views import NodeStats
from arc.errors import ArcError, Conflict, InvalidRequest, OutcomeUnknown, Unavailable
from arc.raft.requests import NotLeading
from arc.raft.types import Configuration, Peer, Role
from arc.storage.files import FileEntry
from tests.api.cluster_fakes import LEADING, N1, N2, N3, ClusterWorld, Lag, Licence, Plan, Seen, view_of
from tests.api.fakes import READER, START_US, World

BASE = "/api/v1/cluster"
ROOT = Path(__file__).resolve().parents[2]


async def page(world: World, path: str = "", **query: object) -> Any:
    async with world.client(READER) as client:
        answer = await client.get(BASE + path, params={name: str(value) for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


def codes(world: ClusterWorld) -> list[str]:
    return [trouble.code for trouble in troubles(world.look())]


def silence(world: ClusterWorld, *peers: Peer, state: NodeState = NodeState.DEAD) -> None:
    """These nodes answer nobody any more, neither consensus nor heartbeats."""
    for peer in peers:
        world.cluster.change(peer.name, state=state, heard_seconds_ago=42.0)
    status = world.consensus.now
    world.consensus.now = status._replace(
        followers=tuple(f._replace(is_active=f.is_active and f.peer not in peers) for f in status.followers)
    )


# ---- how it is


async def test_a_healthy_cluster_says_who_leads_who_writes_and_how_many_may_fail() -> None:
    found = await page(ClusterWorld())
    assert (found["enabled"], found["mode"], found["state"], found["degraded"]) == (True, "cluster", "healthy", [])
    assert found["leader"] == {
        "id": "n1", "term": 4, "since": "2026-01-01T01:00:00.000Z", "led_seconds": 3600.0,
        "address": "n1.example:9100", "api_address": "n1.example:8000",
    }  # fmt: skip
    assert found["failures_tolerated"] == 1
    assert found["quorum"] == {
        "voters": 3, "needed": 2, "answering": 3, "silent": [], "spare": 1, "spare_in_sync": 2,
    }  # fmt: skip
    writer = found["leases"][0]
    assert (writer["lease"], writer["holder"], writer["held_seconds"], writer["reason"], writer["is_clean"]) == (
        "writer", "n2", 3600.0, "the first writer", True,
    )  # fmt: skip
    assert found["in_sync"]["members"] == ["n1", "n2", "n3"]


async def test_the_status_has_every_key_that_clients_of_arc_in_go_read() -> None:
    found = await page(ClusterWorld())
    assert found.keys() >= {
        "enabled", "mode", "running", "cluster_name", "local_node_id", "local_role", "node_count", "healthy_count",
        "writers", "readers", "compactors", "nodes", "raft", "license", "router", "total_cores", "max_cores",
        "active_compactor", "replication_catchup_status",
    }  # fmt: skip
    assert "cores_remaining" not in found
    raft = found["raft"]
    assert (raft["enabled"], raft["is_leader"], raft["leader_addr"], raft["leader_id"], raft["state"]) == (
        True, True, "n1.example:9100", "n1", "Leader",
    )  # fmt: skip
    assert all(isinstance(value, str) for value in raft["stats"].values())
    assert found["license"] == {"valid": True, "state": "valid", "tier": "open", "features": ["clustering"]}
    assert found["active_compactor"] == {
        "assigned": True, "node_id": "n3", "present": True, "role": "writer", "is_dedicated": False,
    }  # fmt: skip
    assert found["nodes"][0].keys() >= {
        "id", "name", "role", "state", "address", "api_address", "cluster_name", "version", "started_at", "joined_at",
        "last_heartbeat", "failed_checks", "stats", "writer_state", "is_active_compactor",
    }  # fmt: skip
    assert found["nodes"][0]["stats"].keys() >= {
        "cpu_usage", "memory_usage", "ingest_rate", "query_rate", "storage_used", "connections", "active_queries",
        "compaction_jobs",
    }  # fmt: skip
    assert found["nodes"][0]["started_at"] == "0001-01-01T00:00:00Z"


async def test_a_licence_with_a_limit_says_how_many_cores_are_left() -> None:
    world = ClusterWorld()
    world.cluster.licence = Licence(max_cores=16)
    found = await page(world)
    assert (found["total_cores"], found["max_cores"], found["cores_remaining"]) == (12, 16, 4)


async def test_nodes_are_sorted_and_filtered() -> None:
    world = ClusterWorld()
    world.cluster.views.append(view_of(Peer("n0", 1), role=NodeRole.READER, state=NodeState.JOINING, is_local=False))
    everybody = await page(world, "/nodes")
    assert [node["id"] for node in everybody["nodes"]] == ["n0", "n1", "n2", "n3"]
    assert everybody["total"] == 4
    assert [node["id"] for node in (await page(world, "/nodes", role="reader"))["nodes"]] == ["n0"]
    assert (await page(world, "/nodes", role="writer", state="joining"))["total"] == 0
    async with world.client() as client:
        for query in ({"role": "king"}, {"state": "ill"}):
            answer = await client.get(f"{BASE}/nodes", params=query)
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_filter")


async def test_one_node_is_found_by_its_id() -> None:
    world = ClusterWorld()
    found = await page(world, "/nodes/n2")
    assert (found["id"], found["writer_state"], found["kind"], found["is_leader"]) == ("n2", "primary", "voter", False)
    assert found["entries_behind"] == 2
    async with world.client() as client:
        gone = await client.get(f"{BASE}/nodes/nx")
        assert (gone.status_code, gone.json()["code"]) == (404, "node_not_found")
        assert gone.json()["error"].startswith("Node not found")
        assert (await client.get(f"{BASE}/nodes/{'n' * 257}")).status_code == 400


async def test_this_node_tells_what_its_role_allows() -> None:
    found = await page(ClusterWorld(), "/local")
    assert (found["id"], found["is_local"]) == ("n1", True)
    assert found["capabilities"] == {
        "can_ingest": True, "can_query": True, "can_compact": False, "can_coordinate": True,
    }  # fmt: skip


async def test_health_counts_and_says_why() -> None:
    world = ClusterWorld()
    silence(world, N3)
    found = await page(world, "/health")
    assert (found["healthy"], found["unhealthy"], found["total"], found["state"]) == (2, 1, 3, "degraded")
    assert found["health_checker"] == {
        "running": True, "check_interval_ms": 200, "check_timeout_ms": 600, "unhealthy_threshold": 3,
    }  # fmt: skip
    assert found["degraded"][0]["next_command"] == "arc cluster remove n3"


async def test_leases_are_shown_also_when_nobody_holds_them() -> None:
    world = ClusterWorld()
    assert [lease["holder"] for lease in (await page(world, "/leases"))["leases"]] == ["n2", "n3"]
    world.fsm = World().fsm
    found = (await page(world, "/leases"))["leases"][0]
    assert (found["holder"], found["epoch"], found["since"]) == (None, 0, "0001-01-01T00:00:00Z")


async def test_a_follower_counts_the_votes_by_what_it_hears_itself() -> None:
    world = ClusterWorld()
    world.consensus.now = LEADING._replace(role=Role.FOLLOWER, leader=N2, followers=())
    world.cluster.change("n3", state=NodeState.UNHEALTHY)
    votes = quorum_of(world.look())
    assert (votes.answering, votes.silent) == (2, ("n3",))
    assert (await page(world))["raft"]["state"] == "Follower"


# ---- what is wrong


def test_a_joint_configuration_is_as_strong_as_its_weaker_half() -> None:
    world = ClusterWorld()
    n4, n5 = Peer("n4", 4), Peer("n5", 5)
    world.consensus.now = LEADING._replace(configuration=Configuration(voters=(N1, n4, n5), outgoing=(N1, N2, N3)))
    votes = quorum_of(world.look())
    assert (votes.voters, votes.answering, votes.spare, votes.silent) == (3, 1, -1, ("n4", "n5"))


@pytest.mark.parametrize(("in_sync", "tolerated"), [(("n1", "n2", "n3"), 1), (("n1", "n2"), 1), (("n2",), 0)])
def test_no_more_nodes_may_fail_than_leave_somebody_with_every_row(in_sync: tuple[str, ...], tolerated: int) -> None:
    world = ClusterWorld()
    if in_sync != ("n1", "n2", "n3"):
        world.in_sync(*in_sync)
    assert failures_tolerated(world.look()) == tolerated


def test_a_silent_voter_degrades_and_a_silent_majority_stops_everything() -> None:
    world = ClusterWorld()
    assert codes(world) == []
    silence(world, N3, state=NodeState.UNHEALTHY)
    assert codes(world) == ["node_unhealthy", "no_failure_tolerated", "compactor_down"]
    silence(world, N3)
    assert codes(world) == ["node_dead", "no_failure_tolerated", "compactor_down"]
    assert verdict_of(troubles(world.look())) is Verdict.DEGRADED
    silence(world, N2)
    world.consensus.now = world.consensus.now._replace(leader=None, role=Role.PRE_CANDIDATE, followers=())
    assert codes(world)[:2] == ["no_leader", "writer_down"]
    assert verdict_of(troubles(world.look())) is Verdict.UNAVAILABLE
    assert "2 of 3 voters must reach each other, and this node hears 1" in troubles(world.look())[0].words


def test_a_dead_writer_says_who_takes_over_or_whose_return_is_needed() -> None:
    world = ClusterWorld()
    silence(world, N2)
    world.cluster.plans["writer"] = Plan("n3 takes over in 0.4 s")
    down = next(trouble for trouble in troubles(world.look()) if trouble.code == "writer_down")
    assert down.words == (
        "n2 holds the writer lease and is dead: it was last heard 42 s ago, so no rows can be written; "
        "n3 takes over in 0.4 s"
    )
    assert down.next_command == "arc cluster events --follow"
    world.in_sync("n2")
    world.cluster.change("n3", stats=NodeStats(durable_sequence=7))
    world.cluster.change("n1", stats=NodeStats(durable_sequence=5))
    down = next(trouble for trouble in troubles(world.look()) if trouble.code == "writer_down")
    assert "in sync are only n2, and bringing one of them back" in down.words
    assert down.next_command == "arc cluster promote n3 --accept-data-loss"


def bare(world: ClusterWorld) -> None:
    world.fsm = World().fsm
    world.consensus.now = LEADING._replace(leader=None, role=Role.FOLLOWER, configuration=Configuration())


def stats_of(world: ClusterWorld, *, days: float) -> NodeStats:
    """Of a node whose certificate is over in so many days."""
    return NodeStats(certificate_expires_us=world.clock.wall_us() + round(days * 86_400e6), disk_free_bytes=3 << 30)


CASES = {
    "not_founded": bare,
    "writer_unheld": lambda world: setattr(world, "fsm", World().fsm),
    "writer_refuses": lambda world: world.cluster.change("n2", stats=NodeStats(refuses_writes="the disk is full")),
    "node_starting": lambda world: setattr(world.node, "starting", "the log is read"),
    "log_damaged": lambda world: setattr(world.consensus, "now", LEADING._replace(is_damaged=True)),
    "disk_full": lambda world: setattr(world.consensus, "now", LEADING._replace(has_space=False)),
    "disk_stalled": lambda world: world.cluster.change("n3", stats=NodeStats(disk_stalled_seconds=6.0)),
    "two_voters": lambda world: setattr(
        world.consensus, "now", LEADING._replace(configuration=Configuration(voters=(N1, N2)))
    ),
    "in_sync_alone": lambda world: world.in_sync("n2"),
    "files_under_replicated": lambda world: setattr(world.cluster, "under_replicated", 7),
    "compactor_unheld": lambda world: setattr(world, "fsm", World().fsm),
    "rows_behind": lambda world: world.cluster.followers.append(Lag("n3", 5000, 31.0)),
    "catalog_behind": lambda world: setattr(world.consensus, "now", LEADING._replace(commit=2000, applied=2000)),
    "node_refuses_queries": lambda world: world.cluster.change("n3", stats=NodeStats(refuses_queries="catches up")),
    "node_joining": lambda world: world.cluster.change("n3", state=NodeState.JOINING),
    "node_leaving": lambda world: world.cluster.change("n3", state=NodeState.LEAVING),
    "certificate_expired": lambda world: world.cluster.change("n3", stats=stats_of(world, days=-1)),
    "certificate_expires": lambda world: world.cluster.change("n1", stats=stats_of(world, days=13)),
    "clock_differs": lambda world: world.cluster.change("n3", clock_offset_seconds=-0.7),
    "versions_differ": lambda world: world.cluster.change("n3", version="0.0.2"),
    "license_expired": lambda world: setattr(world.cluster, "licence", Licence(standing="expired")),
    "license_grace": lambda world: setattr(world.cluster, "licence", Licence(standing="grace")),
    "cores_exceeded": lambda world: setattr(world.cluster, "licence", Licence(max_cores=11)),
}


@pytest.mark.parametrize("code", CASES)
def test_every_reason_is_found(code: str) -> None:
    world = ClusterWorld()
    CASES[code](world)
    found = {trouble.code: trouble for trouble in troubles(world.look())}
    assert code in found
    assert found[code].words and found[code].next_command.startswith("arc ")


def test_reasons_are_told_worst_first_and_each_is_explained_in_the_handbook() -> None:
    tested = {
        *CASES,
        "no_leader",
        "writer_down",
        "node_dead",
        "node_unhealthy",
        "no_failure_tolerated",
        "compactor_down",
    }
    assert set(CODES) == tested
    handbook = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    assert [code for code in CODES if f"`{code}`" not in handbook] == []


def test_a_certificate_is_told_from_two_weeks_on_and_of_a_node_that_is_there() -> None:
    """Ecosystem 5.3: alarm below 14 days."""
    world = ClusterWorld()
    world.cluster.change("n2", stats=stats_of(world, days=14.1))
    assert codes(world) == []
    world.cluster.change("n2", stats=stats_of(world, days=13.9))
    (found,) = troubles(world.look())
    assert (found.code, found.severity) == ("certificate_expires", Verdict.DEGRADED)
    assert "n2 is over in 14 days: replace its files" in found.words
    world.cluster.change("n2", stats=stats_of(world, days=-3))
    assert codes(world) == ["certificate_expired"]
    silence(world, N2)
    assert "certificate_expired" not in codes(world)


@pytest.mark.parametrize(
    ("offsets", "told"),
    [
        ({"n2": 0.5, "n3": -0.5}, []),
        ({"n2": 3.2}, ["the clock of n2 is 3.2 s ahead of"]),
        ({"n2": -60.0, "n3": 0.1}, ["the clock of n2 is 60.0 s behind"]),
        ({"n2": 4.0, "n3": 4.1}, ["the clock of n1 is 4.0 s behind"]),
        ({"n2": 4.0, "n3": -4.0}, ["the clock of n2 is 4.0 s ahead of", "the clock of n3 is 4.0 s behind"]),
    ],
)
def test_the_clock_that_differs_from_most_is_told_also_when_it_is_the_own(
    offsets: dict[str, float], told: list[str]
) -> None:
    world = ClusterWorld()
    world.cluster.change("n1", clock_offset_seconds=0.0)
    for name, offset in offsets.items():
        world.cluster.change(name, clock_offset_seconds=offset)
    found = [trouble.words for trouble in troubles(world.look()) if trouble.code == "clock_differs"]
    assert [words[: len(start)] for words, start in zip(found, told, strict=True)] == told


@pytest.mark.parametrize(("ahead", "count"), [(0.5, 0), (0.6, 1), (-60.0, 0)])
def test_a_clock_that_others_denied_before_they_left_is_told(ahead: float, count: int) -> None:
    world = ClusterWorld()
    world.cluster.clock_ahead_seconds = ahead
    found = [trouble.words for trouble in troubles(world.look()) if trouble.code == "clock_differs"]
    assert len(found) == count and all("is 0.6 s ahead of what other nodes told" in words for words in found)


async def test_disk_certificate_and_clock_of_every_node_are_in_the_document() -> None:
    world = ClusterWorld()
    world.cluster.change("n2", stats=stats_of(world, days=20), clock_offset_seconds=0.04)
    nodes = {node["id"]: node for node in (await page(world))["nodes"]}
    keys = ("disk_free_bytes", "certificate_left_seconds", "clock_offset_seconds")
    assert [nodes["n2"][key] for key in keys] == [3 << 30, 20 * 86_400.0, 0.04]
    assert nodes["n2"]["certificate_expires_at"] == "2026-01-21T02:00:00.000Z"
    assert [nodes["n3"][key] for key in (*keys, "certificate_expires_at")] == [None] * 4


# ---- what happened


def test_events_come_once_and_a_restarted_node_begins_anew() -> None:
    history = ClusterWorld().catalog.history
    seen = [Seen(n, START_US, "n2", "node_dead", "n2 is dead") for n in (4, 5)]
    first = since(history, seen, parse_cursor(""))
    assert ([change.holder for change in first.grants], [one.sequence for one in first.seen]) == (["n2", "n3"], [4, 5])
    again = since(history, seen, first.following)
    assert (again.grants, again.seen, again.following) == ((), (), first.following)
    restarted = since(history, [Seen(1, START_US, "n2", "node_dead", "n2 is dead")], first.following)
    assert [one.sequence for one in restarted.seen] == [1]
    assert restarted.following == (first.following.epoch, 1)
    assert since(history, [], first.following).following == (first.following.epoch, 0)


async def test_events_are_newest_first_in_words() -> None:
    world = ClusterWorld()
    world.cluster.seen = [Seen(1, world.clock.wall_us(), "n2", "node_dead", "n2 is dead")]
    world.clock.seconds += 3601
    world.grant("writer", "n1", reason="n2 is dead")
    world.clock.seconds += 1
    world.grant("writer", "n3", reason="no other choice", unclean=True)
    found = await page(world, "/events")
    assert [event["words"] for event in found["events"]] == [
        "n3 got the writer lease from n1: no other choice",
        "n1 got the writer lease from n2: n2 is dead",
        "n2 is dead",
        "n3 got the compactor lease: the first compactor",
        "n2 got the writer lease: the first writer",
    ]
    assert found["events"][2]["seen_by"] == "n1"
    assert found["total"] == 5
    assert (await page(world, "/events", after=found["next"]))["events"] == []
    assert [event["node"] for event in (await page(world, "/events", limit=1))["events"]] == ["n3"]


async def test_a_reader_may_wait_for_what_comes(autojump_clock: trio.testing.MockClock) -> None:
    world = ClusterWorld()
    last = (await page(world, "/events"))["next"]
    found: list[Any] = []

    async def wait() -> None:
        found.extend((await page(world, "/events", after=last, wait=30))["events"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.sleep(5)
        assert found == []
        world.grant("writer", "n1")
    assert [event["holder"] for event in found] == ["n1"]
    assert (await page(world, "/events", after=parse_cursor("9999-0"), wait=1))["events"] == []


@pytest.mark.parametrize("after", ["1", "a-b", "1-2-3", "-1-2", "1-" + "9" * 21])
async def test_a_wrong_cursor_is_refused(after: str) -> None:
    async with ClusterWorld().client() as client:
        answer = await client.get(f"{BASE}/events", params={"after": after})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_cursor")


# ---- files


HOUR = "/cpu/2026/01/01/00"


def manifest(world: ClusterWorld, database: str, *names: str) -> None:
    world.apply(CreateDatabase(name=database, created_us=1)).unwrap()
    columns = (ColumnSchema("v", "float"),)
    world.apply(DeclareColumns(database=database, measurement="cpu", columns=columns, created_us=1)).unwrap()
    epoch = world.catalog.lease_epoch("writer")
    files = tuple(
        FileEntry(
            path=f"{database}{HOUR}/{name}.parquet", database=database, measurement="cpu",
            sha256="ab" * 32, size_bytes=9,
            rows=3, min_time_us=START_US, max_time_us=START_US + 5, origin="n2", epoch=epoch,
            first_sequence=0, last_sequence=0, created_us=START_US, columns=("time", "v"),
        )
        for name in names
    )  # fmt: skip
    world.apply(RegisterFiles(files=files, epoch=epoch)).unwrap()


async def test_files_come_in_pages_by_path_each_exactly_once() -> None:
    world = ClusterWorld()
    manifest(world, "b", "2", "1", "3")
    manifest(world, "a", "1")
    async with world.client() as client:
        paths: list[str] = []
        query: dict[str, str] = {"limit": "2"}
        while True:
            found = (await client.get(f"{BASE}/files", params=query)).json()
            paths += [entry["path"] for entry in found["files"]]
            assert found["total"] == 4
            if "next_cursor" not in found:
                break
            query["cursor"] = found["next_cursor"]
        only = (await client.get(f"{BASE}/files", params={"database": "a"})).json()
        bad = await client.get(f"{BASE}/files", params={"limit": "10001"})
    assert paths == [
        f"{name}.parquet"
        for name in ("a/cpu/2026/01/01/00/1", "b/cpu/2026/01/01/00/1", "b/cpu/2026/01/01/00/2", "b/cpu/2026/01/01/00/3")
    ]
    assert (only["total"], only["files"][0]["origin_node_id"]) == (1, "n2")
    assert only["files"][0].keys() >= {"partition_time", "tier", "created_at", "lsn", "sha256", "size_bytes"}
    assert bad.status_code == 400


# ---- orders

ORDERS: list[tuple[str, str, object, object]] = [
    ("DELETE", "/nodes/n3", None, ("remove", "n3")),
    ("DELETE", "/nodes/n3?force=true", None, ("remove", "n3", "force")),
    ("POST", "/compactor/assign", {"node_id": "n1"}, ("assign_compactor", "n1")),
    ("POST", "/writers/n2/demote", None, ("failover", "writer", None, "n2 was demoted (by admin)")),
    ("POST", "/voters/converge", {"dry_run": False, "allow_single_voter": True}, ("converge", False, True)),
    ("POST", "/failover", {"lease": "writer", "target": "n3", "reason": "new disk"},
     ("failover", "writer", "n3", "new disk (by admin)")),
    ("POST", "/transfer-leadership", {"target": "n2"}, ("transfer", "n2")),
    ("POST", "/nodes/n3/drain", None, ("drain", "n3")),
    ("POST", "/nodes/n3/undrain", None, ("undrain", "n3")),
    ("POST", "/promote", {"node": "n3", "accept_data_loss": True},
     ("promote", "n3", "promoted by an operator (by admin)")),
    ("POST", "/init", None, ("found",)),
    ("POST", "/leave", None, ("leave",)),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "asked"), ORDERS, ids=lambda value: str(value)[:30])
async def test_an_order_is_passed_on_answered_and_logged_with_who_gave_it(
    method: str, path: str, body: object, asked: object
) -> None:
    world = ClusterWorld()
    async with world.client() as client:
        answer = await client.request(method, BASE + path, **({} if body is None else {"json": body}))
    assert answer.status_code == 200, answer.text
    assert answer.json()["success"] is True
    assert world.cluster.asked == [asked]
    told = [event.as_dict() for event in world.ring.select(limit=10) if event.fields.get("by") == "admin"]
    assert len(told) == 1


async def test_orders_answer_in_the_keys_of_arc_in_go() -> None:
    world = ClusterWorld()
    async with world.client() as client:
        removed = (await client.delete(f"{BASE}/nodes/n3")).json()
        assigned = (await client.post(f"{BASE}/compactor/assign", json={"node_id": "n1"})).json()
        demoted = (await client.post(f"{BASE}/writers/n2/demote")).json()
        planned = (await client.post(f"{BASE}/voters/converge")).json()
        drained = (await client.post(f"{BASE}/nodes/n3/drain")).json()
        moved = (await client.post(f"{BASE}/transfer-leadership")).json()
        promoted = (await client.post(f"{BASE}/promote", json={"node": "n1", "accept_data_loss": True})).json()
    assert removed == {"success": True, "message": "n3 is no member any more", "node_id": "n3"}
    assert assigned == {
        "success": True, "node_id": "n1", "old_compactor": "", "message": "n1 holds the compactor lease",
        "preemption_suppressed_seconds": 600.0,
    }  # fmt: skip
    assert demoted == {
        "success": True, "node_id": "n2", "new_primary": "n3", "message": "n3 holds the writer lease",
    }  # fmt: skip
    assert planned == {"success": True, "dry_run": True, "demote": ["n3"], "promote": []}
    assert (drained["state"], drained["still_holds"]) == ("leaving", ["compactor"])
    assert moved["leader"] == {"id": "n2", "address": "n2.example:9100", "api_address": "n2.example:8000"}
    assert (promoted["holder"], promoted["epoch"]) == ("n1", 101)


async def test_an_order_answers_what_the_catalog_remembers_of_it() -> None:
    world = ClusterWorld()
    world.in_sync("n2")
    epoch = world.grant("writer", "n3", unclean=True)

    async def promote(name: str, *, reason: str) -> Lease:
        return world.catalog.leases["writer"]

    world.cluster.promote = promote  # type: ignore[method-assign]
    async with world.client() as client:
        found = (await client.post(f"{BASE}/promote", json={"node": "n3", "accept_data_loss": True})).json()
    assert (found["epoch"], found["previous"], found["is_clean"]) == (epoch, "n2", False)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("DELETE", "/nodes/n1", None, 400, "self_removal"),
        ("DELETE", "/nodes/nx", None, 404, "node_not_found"),
        ("POST", "/compactor/assign", {"node_id": "nx"}, 404, "node_not_found"),
        ("POST", "/compactor/assign", {}, 400, "invalid"),
        ("POST", "/writers/n3/demote", None, 409, "not_primary_writer"),
        ("POST", "/writers/nx/demote", None, 404, "node_not_found"),
        ("POST", "/voters/converge", {"dry_run": "no"}, 400, "invalid"),
        ("POST", "/failover", {"lease": "crown"}, 400, "invalid_lease"),
        ("POST", "/failover", {"lease": "writer", "target": "nx"}, 404, "node_not_found"),
        ("POST", "/failover", {"lease": "writer", "reason": "x" * 300}, 400, "invalid"),
        ("POST", "/transfer-leadership", {"target": "nx"}, 404, "node_not_found"),
        ("POST", "/promote", {"node": "n3"}, 400, "accept_data_loss_required"),
        ("POST", "/promote", {"node": "n3", "accept_data_loss": False}, 400, "accept_data_loss_required"),
        ("POST", "/nodes/nx/drain", None, 404, "node_not_found"),
    ],
)
async def test_a_wrong_order_asks_nobody(method: str, path: str, body: object, status: int, code: str) -> None:
    world = ClusterWorld()
    async with world.client() as client:
        answer = await client.request(method, BASE + path, **({} if body is None else {"json": body}))
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert world.cluster.asked == []


CONFLICTS_WHERE_NOT_LEADING = ("/compactor/assign", "/writers/n2/demote", "/voters/converge")


@pytest.mark.parametrize(("method", "path", "body", "asked"), ORDERS, ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("error", [NotLeading("n2 does", "n2"), Unavailable("n2 does", code="not_leader")])
async def test_whoever_does_not_lead_says_who_does(
    error: ArcError, method: str, path: str, body: object, asked: object
) -> None:
    world = ClusterWorld()
    world.consensus.now = LEADING._replace(role=Role.FOLLOWER, leader=N2, followers=())
    world.cluster.error = error
    async with world.client() as client:
        answer = await client.request(method, BASE + path, **({} if body is None else {"json": body}))
    expected = 500 if method == "DELETE" else 409 if path in CONFLICTS_WHERE_NOT_LEADING else 503
    assert answer.status_code == expected
    assert answer.json()["code"] == "not_leader"
    assert answer.json()["leader"] == {"name": "n2", "address": "n2.example:9100"}
    if method == "DELETE":
        assert "not the leader" in answer.json()["error"]
    assert not [event for event in world.ring.select(limit=10) if event.fields.get("by")]


@pytest.mark.parametrize(
    ("error", "status"),
    [(Conflict("nobody is in sync"), 409), (Unavailable("too slow"), 503), (OutcomeUnknown("leadership was lost"), 503),
     (InvalidRequest("a compactor cannot write"), 400)],
)  # fmt: skip
async def test_other_refusals_keep_their_words(error: ArcError, status: int) -> None:
    world = ClusterWorld()
    world.cluster.error = error
    async with world.client() as client:
        for method, path, body, _ in ORDERS:
            answer = await client.request(method, BASE + path, **({} if body is None else {"json": body}))
            assert (answer.status_code, answer.json()["error"]) == (status, error.message), path


async def test_a_node_alone_takes_no_orders() -> None:
    world = World()
    async with world.client() as client:
        for method, path, body, _ in ORDERS:
            answer = await client.request(method, BASE + path, **({} if body is None else {"json": body}))
            if method == "DELETE" or path in CONFLICTS_WHERE_NOT_LEADING:
                assert (answer.status_code, answer.json()["success"], answer.json()["enabled"]) == (200, False, False)
            else:
                assert (answer.status_code, answer.json()["code"]) == (409, "cluster_disabled")
