"""Two of three nodes are gone for good: the third goes on alone, with its rows, and takes in new ones."""

from __future__ import annotations

import json

from tests.e2e.conftest import MakeServer
from tests.e2e.harness import run_arc
from tests.e2e.test_cluster import Trio, arc, create, greets, wait_for, wait_for_answer


def test_the_survivor_of_three_goes_on_alone_and_becomes_a_cluster_again(make_server: MakeServer) -> None:
    nodes = Trio(make_server)
    nodes.found()
    survivor, replacement = nodes.nodes["n1"], nodes.nodes["n2"]
    survivor.write("cpu,host=a usage=1.5 1700000000000000000")
    wait_for(lambda: create(survivor, "before"))
    for server in nodes.nodes.values():
        server.kill9()

    only_shown = run_arc("raft", "recover", str(survivor.data_dir))
    assert only_shown.returncode == 2
    assert "n2 and n3 must never start again" in only_shown.stderr
    recovered = run_arc("raft", "recover", str(survivor.data_dir), "--yes", "--json")
    assert recovered.returncode == 0, recovered.stdout
    assert json.loads(recovered.stdout)["voters"] == ["n1", "n2", "n3"]

    survivor.start()
    assert nodes.voters("n1") == {"n1"}
    assert wait_for_answer(lambda: survivor.rows("SELECT usage FROM cpu")) == [[1.5]]
    assert create(survivor, "alone"), "its own voice is enough now"

    survivor.write("cpu,host=a usage=2.5 1700000001000000000")
    members = survivor.http.get("/api/v1/raft/status").json()["members"]
    assert [member["name"] for member in members] == ["n1"], "nobody waits for the others or takes them in again"

    replacement.data_dir = replacement.folder / "another disk"
    replacement.start(wait=False)
    wait_for(lambda: greets(replacement))
    arc(lambda: survivor, "raft", "add", f"127.0.0.1:{nodes.ports['n2']}", "--json")
    wait_for(lambda: {"before", "alone"} <= nodes.databases("n2"))
