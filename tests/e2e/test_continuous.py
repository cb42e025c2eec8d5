"""A continuous query in a cluster of real processes whose writer is killed while it catches up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import cast

from tests.e2e.cluster import Cluster, wait_until
from tests.e2e.harness import Server

WINDOW_SECONDS = 10
QUERY = {
    "name": "tens", "database": "plant", "source_measurement": "cpu", "destination_measurement": "cpu_10s",
    "interval": f"{WINDOW_SECONDS}s", "lateness": "20m", "tag_columns": ["host"],
    "query": "SELECT host, count(*) AS n, sum(v) AS total FROM cpu WHERE time >= {start_time} AND time < {end_time} "
    "GROUP BY host",
}  # fmt: skip
PATH = "/api/v1/continuous_queries"


def test_every_row_is_in_one_window_although_the_writer_is_killed_twice(tmp_path: Path) -> None:
    """Seven minutes of windows are caught up with; meanwhile the writer is killed, and the next one once the
    first is back. Rows come late all the time.
    """
    with Cluster(tmp_path, settings={"continuous.late_check_seconds": "2s"}) as cluster:
        cluster.start()
        writer = cluster.writer()
        now = int(time.time())
        rows = [f"cpu,host=h{n % 3} v={n} {(now - n) * 1_000_000_000}" for n in range(450)]
        cluster.nodes[writer].write("\n".join(rows), db="plant")
        made = cluster.nodes[writer].http.post(PATH, json=QUERY)
        assert made.status_code == 201, made.text
        one = f"{PATH}/{made.json()['id']}"

        for _ in range(2):
            wait_executed(cluster.nodes[writer], one, windows=5)
            cluster.nodes[writer].kill9()
            killed, writer = writer, cluster.writer(but=writer)
            wait_late_row(cluster.nodes[writer])
            cluster.nodes[killed].start()
            cluster.wait_whole()
            writer = cluster.writer()

        node = cluster.nodes[writer]
        end = int(time.time()) // WINDOW_SECONDS * WINDOW_SECONDS
        wait_until("it has caught up", lambda: str(shown(node, one)["last_processed_time"]) >= moment(end))
        for each in cluster.nodes.values():
            wait_all_counted(each, node, one, end)
            twice = (
                "SELECT count(*) FROM (SELECT time, host FROM cpu_10s "
                f"WHERE time < '{moment(end)}' GROUP BY 1, 2 HAVING count(*) > 1)"
            )
            assert each.one(twice, db="plant") == 0


def shown(node: Server, one: str) -> dict[str, object]:
    """The query as that node knows it."""
    return cast("dict[str, object]", node.http.get(one).json()["query"])


def wait_all_counted(asked: Server, node: Server, one: str, end: int) -> None:
    """Return when every row before a moment is in one window, as the node that is asked sees it."""
    wait_until(
        "every row is in one window",
        lambda: sums(asked, "cpu_10s", "sum(n)", end) == sums(asked, "cpu", "count(*)", end),
        lambda: f"{shown(node, one)}\n{node.http.get(f'{one}/executions').text}",
    )


def wait_executed(node: Server, one: str, *, windows: int) -> None:
    """Return when so many more windows were executed."""

    def executed() -> int:
        runs = node.http.get(f"{one}/executions", params={"limit": 1}).json()["executions"]
        return int(runs[0]["id"]) if runs else 0

    before = executed()
    wait_until("it has executed some windows", lambda: executed() >= before + windows)


def wait_late_row(node: Server) -> None:
    """Have one row stored from a minute ago, in a window that may have been executed already."""

    def is_stored() -> bool:
        lines = f"cpu,host=late v=1 {time.time_ns() - 60_000_000_000}"
        return node.http.post("/api/v1/write/line-protocol", params={"db": "plant"}, content=lines).status_code == 204

    wait_until("the new one takes writes", is_stored)


def sums(node: Server, measurement: str, what: str, end: int) -> object:
    """A sum over everything before a moment."""
    return node.one(
        f"SELECT {what} FROM {measurement} WHERE time >= '2020-01-01' AND time < '{moment(end)}'", db="plant"
    )


def moment(seconds: int) -> str:
    """As the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(seconds))
