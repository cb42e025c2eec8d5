"""The clients that people have, unmodified, each in a process of its own against a real node.

The node is one that is alone, and one of a cluster that does not write, so that it passes on what it is sent.

A script per client (tests/e2e/clients) makes the calls and prints what came of them; the tests here say what should
have.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.harness import TOKEN, Server

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
NODE_FOLDER = HERE / "node"
CLIENT_SECONDS = 100


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A node of a cluster that another one writes for."""
    with Cluster(tmp_path_factory.mktemp("standby"), settings={"delete.enabled": "true"}) as cluster:
        cluster.start()
        yield cluster.nodes[cluster.others(cluster.writer())[0]]


@pytest.fixture(params=["node", "standby"])
def any_node(request: pytest.FixtureRequest) -> Server:
    """The node that a client is pointed at."""
    return cast("Server", request.getfixturevalue(request.param))


class Calls:
    """What a client's calls returned; asking for one that raised fails with its error."""

    def __init__(self, found: dict[str, dict[str, object]]) -> None:
        self._found = found

    def value(self, name: str) -> object:
        """What the call returned."""
        found = self._found[name]
        assert "error" not in found, f"{name}: {found['type']}: {found['error']}"
        return found["value"]

    def error(self, name: str) -> str:
        """``type: text`` of what the call raised."""
        found = self._found[name]
        assert "error" in found, f"{name} returned {found['value']!r} instead of raising"
        return f"{found['type']}: {found['error']}"

    def all_worked(self, *but: str) -> None:
        """Assert that no other call raised."""
        failed = {name: found["error"] for name, found in self._found.items() if "error" in found and name not in but}
        assert not failed, failed


def drive(command: list[str], node: Server, database: str, **variables: str) -> Calls:
    """Run a script to its end."""
    done = subprocess.run(
        [*command, node.url, TOKEN, database],
        env={**os.environ, **variables},
        cwd=HERE / "clients",
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return Calls(json.loads(done.stdout.splitlines()[-1]))


def python(script: str, node: Server, database: str) -> Calls:
    """Run a Python client with this interpreter, whose environment has all of them (the extra ``clients``)."""
    return drive([sys.executable, script], node, database)


def test_the_arc_sdk_writes_and_reads_everything(any_node: Server) -> None:
    """PyPI arc-tsdb-client, synchronous."""
    calls = python("arc_sdk.py", any_node, "sdk")

    wrong = ("query_wrong", "query_arrow_wrong", "get_token_gone", "query_unauthorised")
    refused = (
        "retention_unconfirmed",
        "retention_gone",
        "delete_all_unconfirmed",
        "delete_wrong",
        "cq_wrong",
        "cq_gone",
    )
    calls.all_worked(*wrong, *refused)
    assert calls.value("health") == "ok"
    assert calls.value("ready") is True
    assert calls.value("query_columns") == ["time", "host", "usage"]
    assert calls.value("query") == [["2026-01-01T00:00:00Z", "a", 1.5], ["2026-01-01T00:00:01Z", "b", 2.5]]
    assert calls.value("query_disk") == [["a", 7], ["b", 8]]
    assert calls.value("query_mem") == [["h0", 0.0, 0], ["h0", 0.0, 0], ["h1", 1.0, 1], ["h2", 2.0, 2]]
    assert calls.value("query_frame") == [[1767225600005, "a", 1.0], [1767225600006, "b", 2.0]]
    assert calls.value("query_sparse") == [[5, 2, 3]]
    assert calls.value("query_arrow") == {"usage": [1.5, 2.5]}
    assert calls.value("query_pandas") == [1.5, 2.5]
    assert calls.value("estimate") == 2
    assert calls.value("list_measurements") == ["cpu", "disk", "frame", "mem", "sparse"]
    assert calls.value("show_tables") == ["cpu", "disk", "frame", "mem", "sparse"]
    assert "sdk" in calls.value("list_databases")  # type: ignore[operator]
    assert calls.value("verify") is True
    assert calls.value("list_tokens") is True
    assert calls.value("get_token") == "t-sdk"
    assert calls.value("rotated_differs") is True
    assert "nowhere" in calls.error("query_wrong")
    assert "nowhere" in calls.error("query_arrow_wrong")
    assert calls.error("get_token_gone").startswith("ArcNotFoundError")
    assert "Authentication failed" in calls.error("query_unauthorised")
    assert calls.value("retention_list") == ["r-sdk"]
    assert calls.value("retention_get") == 30
    assert calls.value("retention_update") == 1
    assert calls.value("retention_dry_run") is True
    assert calls.value("retention_execute") == "r-sdk"
    assert calls.value("retention_executions") == ["completed"]
    assert "confirm" in calls.error("retention_unconfirmed")
    assert calls.error("retention_gone").startswith("ArcNotFoundError")
    assert calls.value("delete_config") is True
    assert calls.value("delete_dry_run") == [True, True, 2, 1, 1]
    assert calls.value("delete") == [True, False, 2, 1, 1]
    assert calls.value("delete_left") == [[3.0]]
    assert "confirm" in calls.error("delete_all_unconfirmed")
    assert "nothing" in calls.error("delete_wrong")
    assert calls.value("cq_list") == ["cq-sdk"]
    assert calls.value("cq_get") == "cpu_1h"
    assert calls.value("cq_update") == "changed"
    assert calls.value("cq_dry_run") == calls.value("cq_execute") == calls.value("cq_execute_again") == 2
    assert calls.value("cq_executions") == ["completed"]
    assert "start_time" in calls.error("cq_wrong")
    assert calls.error("cq_gone").startswith("ArcNotFoundError")


def test_the_arc_sdk_works_on_trio(any_node: Server) -> None:
    """PyPI arc-tsdb-client, asynchronous."""
    calls = python("arc_sdk_trio.py", any_node, "sdktrio")

    calls.all_worked()
    assert calls.value("query") == [[f"h{number}", float(number)] for number in range(8)]
    assert calls.value("query_arrow") == {"s": [28.0]}
    assert calls.value("continuous") == ["completed", 1, "cq-trio"]
    assert calls.value("buffered") == [[7]]
    assert calls.value("delete") == [8, [[0]], "rewrite-based"]


def test_influxdb_client_writes(any_node: Server) -> None:
    """PyPI influxdb-client, for InfluxDB 2."""
    calls = python("influx2.py", any_node, "influx2")

    calls.all_worked("write_partly_wrong", "write_unauthorised")
    assert calls.value("ping") is True
    assert "arc" in str(calls.value("version"))
    assert calls.value("build") == "arc"
    assert calls.value("ready") == "ready"
    assert calls.value("batching") == 0
    assert "partial write" in calls.error("write_partly_wrong")
    assert "(401)" in calls.error("write_unauthorised")
    sql = "SELECT epoch_ms(time) // 1000 - 1767225600, host, usage, n FROM influx2.v2 ORDER BY time"
    assert any_node.rows(sql) == [[0, "a", 1.5, 3], [1, "b", 2.5, 4], [2, "c", 3.5, 5], [3, "d", 4.5, 6]]
    assert any_node.rows("SELECT count(*), count(DISTINCT n) FROM influx2.v2batch") == [[175, 175]]
    assert any_node.rows("SELECT count(*), sum(n) FROM influx2.v2gzip") == [[100, 4950]]


def test_influxdb_1_client_writes(any_node: Server) -> None:
    """PyPI influxdb 5.x, for InfluxDB 1, with Basic auth."""
    calls = python("influx1.py", any_node, "influx1")

    calls.all_worked("write_wrong", "write_unauthorised")
    assert "arc" in str(calls.value("ping"))
    assert "influx1" in calls.value("get_list_database")  # type: ignore[operator]
    found = any_node.rows('SELECT host, usage, "on", note FROM influx1.v1 ORDER BY time')
    assert found == [[f"h{n}", n + 0.5, True, f"n {n}"] for n in range(3)]
    precisions = any_node.rows("SELECT p, epoch_ms(time) // 1000 FROM influx1.v1p ORDER BY p")
    assert precisions == [[p, 1767225600] for p in ("h", "m", "ms", "n", "s", "u")]
    assert any_node.rows("SELECT count(*), sum(n) FROM influx1.v1lines") == [[10, 45]]
    assert any_node.one("SELECT count(*) FROM influx1.v1gzip") == 1
    assert calls.error("write_wrong").startswith("InfluxDBClientError: 400")
    assert calls.error("write_unauthorised").startswith("InfluxDBClientError: 401")


def test_influxdb3_client_writes(any_node: Server) -> None:
    """PyPI influxdb3-python; its Flight queries fail cleanly."""
    calls = python("influx3.py", any_node, "influx3")

    calls.all_worked("write_wrong", "query")
    found = any_node.rows("SELECT host, usage FROM influx3.v3 ORDER BY host, usage")
    assert found == [["a", 1.5], ["b", 0.5], ["b", 1.5], ["b", 2.5], ["b", 3.5], ["c", 9.5]]
    assert any_node.one("SELECT count(*) FROM influx3.v3batch") == 100
    assert "write_wrong" and calls.error("write_wrong")
    assert calls.error("query")


@pytest.fixture(scope="session")
def npm_modules() -> Path:
    """The folder with the npm client, filled once; skipped with the reason where node or its registry is absent."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm on this machine: the npm client is not driven")
    if not (NODE_FOLDER / "node_modules" / "@influxdata" / "influxdb-client").is_dir():
        command = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=NODE_FOLDER, capture_output=True, text=True, timeout=110, check=False)
        if done.returncode != 0:
            pytest.skip(f"npm could not install the client: {done.stderr.strip()[-300:]}")
    return NODE_FOLDER


def test_the_npm_client_writes(any_node: Server, npm_modules: Path) -> None:
    """npm @influxdata/influxdb-client."""
    calls = drive(["node", "influx2.mjs"], any_node, "npm", CLIENT_MODULES=str(npm_modules))

    calls.all_worked("write_wrong", "write_unauthorised")
    assert any_node.rows("SELECT host, usage, n, note FROM npm.js") == [["a", 1.5, 3, 'a "b" c']]
    assert any_node.rows("SELECT count(*), sum(n) FROM npm.jsmany") == [[100, 4950]]
    assert any_node.rows("SELECT count(*), sum(n) FROM npm.jsgzip") == [[100, 4950]]
    assert "400" in calls.error("write_wrong")
    assert "401" in calls.error("write_unauthorised")
