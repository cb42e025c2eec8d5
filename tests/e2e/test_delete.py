"""Deleting in real processes: what is gone stays gone, through kills at any moment, and what is left is left once."""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from tests.e2e.cluster import Cluster, wait_until
from tests.e2e.conftest import MakeServer
from tests.e2e.harness import Server
from tests.e2e.links import between

HOUR_US = 3_600_000_000
START_US = 1_767_225_600_000_000
SETTINGS = {"delete.enabled": "true", "delete.max_rows_per_delete": 0}
HOURS = 24
PER_HOUR = 40


def write(server: Server, hours: range) -> None:
    """Rows of four hosts in every hour."""
    lines = [f"cpu,host=h{n % 4} v={n} {START_US + hour * HOUR_US + n}000" for hour in hours for n in range(PER_HOUR)]
    assert server.http.post("/write?db=plant", content="\n".join(lines)).status_code == 204


def counts(server: Server) -> dict[str, int]:
    """Rows by host, as a query sees them."""
    sql = "SELECT host, count(*) FROM cpu GROUP BY host ORDER BY host"
    answer = server.http.post("/api/v1/query", json={"sql": sql}, headers={"x-arc-database": "plant"})
    assert answer.status_code == 200, answer.text
    return {host: count for host, count in answer.json()["data"]}


def delete(server: Server, where: str) -> httpx.Response:
    wish = {"database": "plant", "measurement": "cpu", "where": where, "confirm": True}
    return server.http.post("/api/v1/delete", json=wish)


@pytest.mark.parametrize("delay_seconds", [0.05, 0.15, 0.3, 0.6])
def test_a_node_killed_during_a_delete_has_each_other_row_once_and_the_same_order_ends_it(
    make_server: MakeServer, delay_seconds: float
) -> None:
    """Some rows are in files, some in the log; what is killed between file, sync and entry is left to chance."""
    server = make_server(settings=SETTINGS)
    server.start()
    write(server, range(HOURS // 2))
    assert server.http.post("/api/v1/write/line-protocol/flush").status_code == 200
    write(server, range(HOURS // 2, HOURS))
    full = HOURS * PER_HOUR // 4
    killer = threading.Timer(delay_seconds, server.kill9)
    killer.start()
    with contextlib.suppress(httpx.HTTPError):
        delete(server, "host = 'h1'")
    killer.join()
    server.start()
    found = counts(server)
    assert found.pop("h1", 0) <= full
    assert found == {"h0": full, "h2": full, "h3": full}
    assert delete(server, "host = 'h1'").status_code == 200
    assert counts(server) == found
    server.kill9()
    server.start()
    assert counts(server) == found


def test_nothing_of_a_dropped_database_or_measurement_comes_back(make_server: MakeServer) -> None:
    server = make_server(settings=SETTINGS)
    server.start()
    for path in ("/api/v1/databases/plant/measurements/cpu", "/api/v1/databases/plant"):
        write(server, range(3))
        assert server.http.delete(f"{path}?confirm=true").status_code == 200
        server.kill9()
        server.start()
        assert server.http.delete(f"{path}?confirm=true").status_code == 404
        write(server, range(1))
        assert sum(counts(server).values()) == PER_HOUR
        server.kill9()
        server.start()
        assert sum(counts(server).values()) == PER_HOUR


@pytest.mark.parametrize("hosts", [1, 4])
def test_the_writer_is_killed_during_a_delete_and_the_same_order_ends_it_with_its_successor(
    tmp_path: Path, hosts: int
) -> None:
    """With one host in each hour files go as a whole, with four they are written again. Every node is asked, and what
    is left is left once.
    """
    lines = [
        f"cpu,host=h{(hour + n % hosts) % 4} v={n} {START_US + hour * HOUR_US + n}000"
        for hour in range(96)
        for n in range(8)
    ]
    left = {"h0": 192, "h2": 192, "h3": 192}
    with Cluster(tmp_path, settings=SETTINGS) as cluster:
        cluster.start()
        writer = cluster.writer()
        asked = cluster.others(writer)[0]
        other = cluster.nodes[asked]
        assert other.http.post("/write?db=plant", content="\n".join(lines)).status_code == 204
        killer = threading.Timer(0.2, cluster.nodes[writer].kill9)
        killer.start()
        with contextlib.suppress(httpx.HTTPError):
            delete(other, "host = 'h1'")
        killer.join()
        cluster.writer(but=writer, asked=asked)
        # Files that nobody has fetched yet are on the disk of the dead one only, and its successor waits for them.
        cluster.nodes[writer].start(wait=False)
        wait_until("the same order ends it", lambda: delete(other, "host = 'h1'").status_code == 200)
        wait_until("what is left is seen", lambda: seen(other) == left, lambda: str(seen(other)))
        cluster.wait_whole()
        for node in cluster.nodes.values():
            wait_until("what is left is seen", lambda node=node: seen(node) == left, lambda node=node: str(seen(node)))
        assert other.http.delete("/api/v1/databases/plant?confirm=true").status_code == 200
        assert other.http.get("/api/v1/databases/plant").status_code == 404


def test_a_writer_that_is_cut_off_says_nothing_of_rows_that_its_successor_may_have_stored(tmp_path: Path) -> None:
    """All of its own are in files, so it had nothing to ask anybody about: it said that no row was left to delete."""
    with Cluster(tmp_path, settings=SETTINGS) as cluster:
        cluster.start()
        writer = cluster.writer()
        cut_off = cluster.nodes[writer]
        write(cut_off, range(1))
        flush = "/api/v1/write/line-protocol/flush"
        assert cut_off.http.post(flush).status_code == 200
        cluster.links.cut(between((writer,), tuple(cluster.others(writer))))
        write(cluster.nodes[cluster.writer(but=writer)], range(1, 2))
        second_hour = f"host = 'h1' AND time >= '{datetime.fromtimestamp(START_US / 1e6 + 3600, UTC):%Y-%m-%d %H:%M}'"
        assert delete(cut_off, second_hour).status_code == 503
        assert cut_off.http.post(flush).status_code == 503
        cluster.links.cut(frozenset())
        cluster.wait_whole()
        answer = delete(cut_off, second_hour)
        assert answer.status_code == 200 and answer.json()["deleted_count"] == PER_HOUR // 4, answer.text


def seen(server: Server) -> dict[str, int]:
    """`counts`, or nothing while nobody answers."""
    try:
        return counts(server)
    except (AssertionError, httpx.HTTPError):
        return {}
