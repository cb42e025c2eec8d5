"""What an operator is shown of a real cluster with TLS everywhere: metrics, certificates, disks and clocks."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import cast

import pytest
import trustme
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.cluster import Cluster, wait_until

HISTOGRAM, COUNTER, GAUGE = "histogram", "counter", "gauge"

WANTED: Mapping[str, tuple[str, frozenset[str]]] = {
    "arc_raft_has_leader": (GAUGE, frozenset()),
    "arc_raft_is_leader": (GAUGE, frozenset()),
    "arc_raft_term": (GAUGE, frozenset()),
    "arc_raft_leader_changes_total": (COUNTER, frozenset()),
    "arc_raft_commit_index": (GAUGE, frozenset()),
    "arc_raft_applied_index": (GAUGE, frozenset()),
    "arc_raft_proposals_pending": (GAUGE, frozenset()),
    "arc_raft_proposals_failed_total": (COUNTER, frozenset()),
    "arc_raft_snapshot_duration_seconds": (HISTOGRAM, frozenset()),
    "arc_wal_fsync_duration_seconds": (HISTOGRAM, frozenset()),
    "arc_cluster_nodes": (GAUGE, frozenset({"role", "state"})),
    "arc_cluster_peer_last_contact_seconds": (GAUGE, frozenset({"peer"})),
    "arc_replication_lag_entries": (GAUGE, frozenset({"peer"})),
    "arc_replication_lag_seconds": (GAUGE, frozenset({"peer"})),
    "arc_replication_files_missing": (GAUGE, frozenset()),
    "arc_failover_total": (COUNTER, frozenset({"lease", "reason"})),
    "arc_failover_duration_seconds": (HISTOGRAM, frozenset({"lease"})),
    "arc_role_holder": (GAUGE, frozenset({"role", "node"})),
    "arc_query_gate_rejections_total": (COUNTER, frozenset({"reason"})),
    "arc_tls_cert_expiry_seconds": (GAUGE, frozenset({"port"})),
    "arc_build_info": (GAUGE, frozenset({"version"})),
}
"""Every name of ecosystem 5.3, with the labels named there; ours add the lease of a hand-over and the reason."""

DAYS = 20


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """n1's certificate is over in `DAYS`."""
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("cluster")
    with Cluster(folder, authority=authority) as cluster:
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=DAYS)
        issued = authority.issue_cert("127.0.0.1", not_after=until)
        issued.private_key_pem.write_to_path(folder / "n1" / "key.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "n1" / "cert.pem")
        cluster.start()
        yield cluster


@pytest.mark.timeout(300)
def test_the_writer_shows_every_metric_of_the_ecosystem(cluster: Cluster) -> None:

    def lacking() -> dict[str, object]:
        """Asked again while the lease moves, which it may on a machine that is busy."""
        writer = cluster.nodes[cluster.writer()]
        if writer.http.post("/write?db=default", content=b"cpu,host=a usage=1.5 1").status_code != 204:
            return {"the row": "was not taken"}
        shown = families(writer.http.get("/metrics").text)
        return {name: shown.get(name) for name, wanted in WANTED.items() if shown.get(name) != wanted}

    wait_until("the writer shows all", lambda: not lacking(), lambda: str(lacking()))


def families(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Name of a family as in `WANTED`."""
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == COUNTER else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[name] = (family.type, frozenset(labels))
    return found


@pytest.mark.timeout(300)
def test_disk_certificate_and_clock_of_all_nodes_are_seen_from_any(cluster: Cluster) -> None:
    """Three processes on one machine have one clock."""

    def told() -> list[Mapping[str, object]]:
        nodes = cast("list[Mapping[str, object]]", cluster.document("n2").get("nodes", []))
        return (
            nodes
            if nodes and all(node["disk_free_bytes"] and node["certificate_left_seconds"] for node in nodes)
            else []
        )

    nodes = wait_until("all nodes have told", told, lambda: str(cluster.document("n2")))
    for node in nodes:
        offset = cast("float", node["clock_offset_seconds"])
        assert abs(offset) < 0.5, node
        assert (cast("float", node["certificate_left_seconds"]) < DAYS * 86_400) == (node["id"] == "n1")


@pytest.mark.timeout(300)
def test_a_certificate_for_both_ports_is_told_of_once_for_each(cluster: Cluster) -> None:
    """The HTTP port and what passes requests on used to tell the same twice."""
    logs = cluster.nodes["n1"].http.get("/api/v1/logs?level=warning&limit=1000").json()["logs"]
    told = Counter(event["port"] for event in logs if event["message"] == "certificate_expires")
    # While it waited for the others to found the cluster, n1 had the two ports open as well.
    assert set(told) == {"http", "peer"} and told["http"] == told["peer"] <= 2


@pytest.mark.timeout(300)
def test_a_node_that_lives_is_removed_once_it_says_that_nothing_goes_with_it(cluster: Cluster) -> None:
    """The last of this module: one node is gone for good."""
    writer = cluster.writer()
    victim = next(name for name in cluster.nodes if name not in (writer, cluster.leader()))
    answers: list[str] = []

    def removed() -> bool:
        leader = cluster.nodes[cluster.leader()]
        answer = leader.http.delete(f"/api/v1/cluster/nodes/{victim}", timeout=40)
        answers.append(f"{answer.status_code} {answer.text}")
        # Whoever does not lead says 500; the writer may have changed to the victim; files may be on their way.
        assert answer.status_code in (200, 400, 409, 500, 503), answers
        return answer.status_code == 200

    wait_until(f"{victim} is removed", removed, lambda: str(answers))
    nodes = cast("list[Mapping[str, object]]", cluster.document(writer)["nodes"])
    assert victim not in [node["id"] for node in nodes]
