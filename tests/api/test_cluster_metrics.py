"""The cluster's numbers under the names of the ecosystem, each family once, and counters that never go back."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from arc.api.cluster_metrics import WHYS, LeaseTally
from arc.catalog.leases import HISTORY_MAX
from arc.catalog.roles import NodeRole, NodeState
from arc.catalog.values import LEASES
from arc.raft.types import Role
from tests.api.cluster_fakes import LEADING, N2, N3, ClusterWorld, Lag
from tests.api.fakes import World
from tests.api.test_cluster import silence

Key = tuple[str, tuple[tuple[str, str], ...]]


async def scrape(world: World) -> dict[Key, float]:
    async with world.client(None) as client:
        text = (await client.get("/metrics")).text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


async def test_a_scrape_tells_what_the_status_tells() -> None:
    world = ClusterWorld()
    world.cluster.followers = [Lag("n3", 12, 1.5), Lag("n9", 99, 9999.0)]
    found = await scrape(world)
    expected = {
        ("arc_raft_has_leader", ()): 1,
        ("arc_raft_is_leader", ()): 1,
        ("arc_raft_term", ()): 4,
        ("arc_raft_leader_changes_total", ()): 0,
        ("arc_raft_commit_index", ()): 90,
        ("arc_raft_applied_index", ()): 90,
        ("arc_raft_peer_lag_entries", (("peer", "n2"),)): 7,
        ("arc_cluster_nodes", (("role", "writer"), ("state", "healthy"))): 3,
        ("arc_cluster_peer_last_contact_seconds", (("peer", "n2"),)): 0.2,
        ("arc_cluster_lease_epoch", (("lease", "writer"),)): 9,
        ("arc_cluster_lease_held", (("lease", "writer"),)): 0,
        ("arc_cluster_lease_held_seconds", (("lease", "writer"),)): 3600,
        ("arc_cluster_in_sync_nodes", ()): 3,
        ("arc_cluster_failures_tolerated", ()): 1,
        ("arc_cluster_verdict", ()): 0,
        ("arc_replication_lag_entries", (("peer", "n3"),)): 12,
        ("arc_replication_lag_entries", (("peer", "n2"),)): 0,
        ("arc_replication_lag_seconds", (("peer", "n3"),)): 1.5,
        ("arc_role_holder", (("node", "n2"), ("role", "writer"))): 1,
        ("arc_role_holder", (("node", "n1"), ("role", "leader"))): 1,
        ("arc_build_info", (("version", "0.0.1"),)): 1,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert ("arc_replication_lag_seconds", (("peer", "n9"),)) not in found, "it is no member any more"


async def test_files_that_are_still_to_come_are_a_number_where_any_are_fetched() -> None:
    world = ClusterWorld()
    assert ("arc_replication_files_missing", ()) not in await scrape(world), "this node fetches none"
    world.cluster.catch_up = {"pulled": 3, "failed": 1, "missing": 7, "inflight_count": 2}
    assert (await scrape(world))["arc_replication_files_missing", ()] == 7


async def test_trouble_is_a_number_that_can_be_alarmed_on() -> None:
    world = ClusterWorld()
    world.cluster.change("n3", role=NodeRole.READER)
    silence(world, N2, state=NodeState.DEAD)
    found = await scrape(world)
    assert found["arc_cluster_verdict", ()] == 2
    assert found["arc_cluster_degraded", (("code", "writer_down"),)] == 1
    assert found["arc_cluster_voters_answering", ()] == 2
    assert found["arc_cluster_nodes", (("role", "writer"), ("state", "dead"))] == 1
    assert found["arc_cluster_nodes", (("role", "reader"), ("state", "healthy"))] == 1


async def test_hand_overs_and_leaders_are_counted_from_the_first_scrape_on() -> None:
    world = ClusterWorld()
    before = await scrape(world)
    zeros = [value for (name, _), value in before.items() if name == "arc_failover_total"]
    assert zeros == [0.0] * (len(LEASES) * len(WHYS))
    world.grant("writer", "n3")
    world.grant("writer", "n3")
    world.in_sync("n3")
    world.grant("writer", "n1", unclean=True)
    world.consensus.now = LEADING._replace(term=5, leader=N2, role=Role.FOLLOWER, followers=())
    await scrape(world)
    world.consensus.now = LEADING._replace(term=5, leader=None, role=Role.FOLLOWER, followers=())
    await scrape(world)
    world.consensus.now = LEADING._replace(term=6, leader=N3, role=Role.FOLLOWER, followers=())
    found = await scrape(world)
    assert found["arc_raft_leader_changes_total", ()] == 2
    counts = {
        dict(labels)["reason"]: value
        for (name, labels), value in found.items()
        if name == "arc_failover_total" and ("lease", "writer") in labels
    }
    assert counts == {"takeover": 1, "again": 1, "unclean": 1, "first": 0}


def test_a_history_that_has_forgotten_does_not_count_backwards() -> None:
    world = ClusterWorld()
    tally = LeaseTally(world.catalog.history)
    for _ in range(HISTORY_MAX - 1):
        world.grant("writer", "n3")
        world.in_sync("n1", "n2", "n3")
    assert sum(tally.count(world.catalog.history)["writer"].values()) == HISTORY_MAX - 1
    world.grant("writer", "n1")
    assert sum(tally.count(world.catalog.history)["writer"].values()) == HISTORY_MAX
    assert sum(tally.count(world.catalog.history)["writer"].values()) == HISTORY_MAX


async def test_a_node_alone_has_numbers_of_consensus_and_none_of_a_cluster() -> None:
    world = World()
    world.replace(raft=ClusterWorld().consensus)
    found = await scrape(world)
    assert found["arc_raft_has_leader", ()] == 1
    assert not [name for name, _ in found if name.startswith(("arc_cluster_", "arc_role_", "arc_failover_"))]
    assert ("arc_raft_has_leader", ()) not in await scrape(World())
