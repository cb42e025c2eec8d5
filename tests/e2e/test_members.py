"""A cluster of three that founded itself: real clients at a node that passes on, restarts one by one, strangers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.cluster import SECRET, Cluster, wait_until
from tests.e2e.conftest import MakeServer
from tests.e2e.harness import Server, free_port
from tests.e2e.keyed import KeyedLoad
from tests.e2e.test_failures import check_every_node


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        cluster.start()
        yield cluster


@pytest.mark.timeout(400)
def test_a_rolling_restart_under_load_fails_no_write_of_a_client_that_tries_again(cluster: Cluster) -> None:
    """SIGTERM, a start, the next one, the writer last: 503 or a closed door at one node, and another node takes it."""
    writer = cluster.writer()
    with KeyedLoad(cluster.nodes) as load:
        for name in (*cluster.others(writer), writer):
            load.wait_progress()
            cluster.nodes[name].terminate()
            load.wait_progress()
            cluster.nodes[name].start(wait=False)
            cluster.wait_whole()
        print(f"rolling restart: {load.retries} tries were repeated, longest gap {load.gap_after(0.0):.2f} s")
    check_every_node(cluster, load)


def test_nodes_that_all_moved_at_once_find_each_other_again(cluster: Cluster) -> None:
    """Their folders on other machines: what they agreed on names places where none of them is any more."""
    cluster.nodes["n1"].write("moved,host=a usage=1.5 1700000000000000000")
    for node in cluster.nodes.values():
        node.kill9()
    cluster.move()
    cluster.start()
    cluster.nodes["n2"].write("moved,host=b usage=2.5 1700000000000000000")
    for node in cluster.nodes.values():
        wait_until(
            "every row is there once",
            lambda node=node: node.rows("SELECT host, usage FROM moved ORDER BY host") == [["a", 1.5], ["b", 2.5]],
            node.stderr,
        )


def is_up(server: Server) -> bool:
    server.check_alive()
    try:
        return server.http.get("/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def why_not_ready(server: Server) -> str:
    """What ``/ready`` says; fails when the node is ready."""
    answer = server.http.get("/ready", timeout=5)
    assert answer.status_code == 503, answer.text
    return answer.text


def member(seeds: str, **others: object) -> dict[str, object]:
    """Settings of a node that wants to be let in."""
    return {
        "node.id": "n4",
        "node.role": "reader",
        "cluster.enabled": "true",
        "cluster.shared_secret": SECRET,
        "cluster.peer_port": free_port(),
        "cluster.seeds": seeds,
        **{name.replace("__", "."): value for name, value in others.items()},
    }


def test_a_node_with_another_secret_is_not_let_in_and_not_ready(cluster: Cluster, make_server: MakeServer) -> None:
    seed = str(cluster.document("n1")["nodes"][0]["address"])  # type: ignore[index]
    stranger = make_server(settings=member(seed, cluster__shared_secret="this is not what the others share"))
    stranger.start(wait=False)
    wait_until("it is up", lambda: is_up(stranger), stranger.stderr)

    wait_until("it says that it was refused", lambda: "refused this node" in why_not_ready(stranger), stranger.stderr)

    counted = 'arc_peers_handshakes_refused_total{reason="secret"}'
    assert any(counted in node.http.get("/metrics").text for node in cluster.nodes.values()), "they know why"
    stranger.write("cpu v=1", expect=503)
    assert len(cluster.document("n1")["nodes"]) == 3  # type: ignore[arg-type]


def test_a_member_that_cannot_join_is_not_ready_and_serves_nobody(make_server: MakeServer) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    alone = make_server(settings=member(nobody))
    alone.start(wait=False)
    wait_until("it is up", lambda: is_up(alone), alone.stderr)

    assert nobody in why_not_ready(alone)

    alone.write("cpu v=1", expect=503)
    assert alone.http.post("/api/v1/query", json={"sql": "SELECT 1"}).status_code == 503
    alone.terminate()


def test_a_role_that_does_not_exist_is_refused_at_the_start_with_those_that_do(make_server: MakeServer) -> None:
    misspelt = make_server(settings=member("127.0.0.1:9100", node__role="wirter"))
    misspelt.start(wait=False)

    assert misspelt.wait_end() == 2, misspelt.stderr()

    for role in ("wirter", "writer", "reader", "compactor", "standalone"):
        assert role in misspelt.stderr(), misspelt.stderr()
    assert not Path(misspelt.data_dir / "raft").exists(), "nothing is begun under a role that means nothing"


def test_a_node_joins_through_a_seed_and_has_what_was_there_before(cluster: Cluster, make_server: MakeServer) -> None:
    cluster.nodes["n1"].write("before,host=a v=1.5", db="joined")
    seed = str(cluster.document("n1")["nodes"][0]["address"])  # type: ignore[index]

    joined = make_server(settings=member(seed)).start()

    assert wait_until("it answers by itself", lambda: own_rows(joined, "SELECT v FROM joined.before")) == [[1.5]]
    refused = joined.write("before,host=b v=2.5", db="joined")
    assert refused.headers["x-arc-served-by"] in cluster.nodes, "a reader passes writes on"
    joined.terminate()


def own_rows(server: Server, sql: str) -> list[list[object]]:
    """The rows of a query, empty unless the node n4 answered it itself."""
    answer = server.http.post("/api/v1/query", json={"sql": sql})
    if answer.status_code != 200 or answer.headers.get("x-arc-served-by", "n4") != "n4":
        return []
    rows: list[list[object]] = answer.json()["data"]
    return rows
