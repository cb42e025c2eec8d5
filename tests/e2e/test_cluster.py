"""Three nodes that are added one by one: they agree, take in and let go of each other, and survive kill -9."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import httpx
import pytest
import trustme

from tests.e2e.conftest import MakeServer
from tests.e2e.harness import POLL_SECONDS, START_SECONDS, TOKEN, Server, free_port, run_arc

TRY_AGAIN = 4
"""Exit code of `arc`, see docs/cli.md."""

FAILOVER_SECONDS = 15.0
"""Far more than an election needs; a loaded machine is no reason to fail."""


class Trio:
    """A founder and two nodes that wait to be taken in."""

    def __init__(self, make_server: MakeServer, more: Callable[[str], Mapping[str, object]] = lambda name: {}) -> None:
        self.ports = {name: free_port() for name in ("n1", "n2", "n3")}
        self.nodes: dict[str, Server] = {}
        for name, port in self.ports.items():
            settings = {
                "cluster.enabled": "true",
                "cluster.shared_secret": "what three nodes on loopback share",
                "cluster.peer_port": port,
                "cluster.join": "true" if name != "n1" else "false",
                "node.id": name,
            }
            self.nodes[name] = make_server(settings=settings | more(name))

    def found(self) -> None:
        """Start all, and have the founder take in the others by the command line."""
        self.nodes["n1"].start()
        for name in ("n2", "n3"):
            self.nodes[name].start(wait=False)
        for name in ("n2", "n3"):
            wait_for(lambda name=name: greets(self.nodes[name]))
            added = self.at_leader("raft", "add", f"127.0.0.1:{self.ports[name]}", "--json")
            assert added["member"]["name"] == name
        wait_for(lambda: all(self.voters(name) == set(self.nodes) for name in self.nodes))

    def voters(self, name: str) -> set[str]:
        """Who votes, as this node knows it. Of two members one votes, of three all do: the leader sees to it."""
        members = cast("list[Mapping[str, object]]", self.status(name).get("members", []))
        return {str(member["name"]) for member in members if member["kind"] == "voter"}

    def status(self, name: str) -> dict[str, object]:
        """What this node knows, {} while it does not answer."""
        try:
            answer = self.nodes[name].http.get("/api/v1/raft/status", timeout=5)
        except httpx.TransportError:
            return {}
        return cast("dict[str, object]", answer.json()) if answer.status_code == 200 else {}

    def leader(self, *, but: str = "") -> str:
        """Wait until the running nodes agree on somebody other than ``but``."""

        def agreed() -> str | None:
            told = {str(cast("Mapping[str, object]", s["leader"])["name"]) for s in self._statuses() if s.get("leader")}
            return told.pop() if len(told) == 1 and but not in told else None

        return wait_for(agreed)

    def at_leader(self, *arguments: str) -> dict[str, dict[str, object]]:
        """An `arc` command against whoever leads; its JSON."""
        return arc(lambda: self.nodes[self.leader()], *arguments)

    def _statuses(self) -> list[dict[str, object]]:
        return [self.status(name) for name in self.nodes]

    def databases(self, name: str) -> set[str]:
        answer = self.nodes[name].http.get("/api/v1/databases")
        assert answer.status_code == 200, answer.text
        return {database["name"] for database in answer.json()["databases"]}


def wait_for(condition: Callable[[], object]) -> str:
    """Ask again until it holds; what it said."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if said := condition():
            return str(said)
        time.sleep(POLL_SECONDS)
    raise AssertionError("waited in vain")


def greets(server: Server) -> bool:
    """Whether the process is up: its peer port is open before its HTTP port."""
    server.check_alive()
    try:
        return server.http.get("/health", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def arc(server: Callable[[], Server], *arguments: str) -> dict[str, dict[str, object]]:
    """An `arc` command against a node; its JSON."""
    for _ in range(10):  # A loaded machine may lose its leader on the way: "asking again is safe".
        done = run_arc(*arguments, "--endpoint", server().url, "--token", TOKEN)
        if done.returncode != TRY_AGAIN:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return cast("dict[str, dict[str, object]]", json.loads(done.stdout))


def create(server: Server, name: str) -> bool:
    """Whether the database was acknowledged; a refusal for the moment, or no answer, is False."""
    try:
        answer = server.http.post("/api/v1/databases", json={"name": name}, timeout=15)
    except httpx.TransportError:
        return False
    assert answer.status_code in (200, 201, 409, 503), answer.text
    return answer.status_code < 300


def is_taken(server: Server, line: str) -> bool:
    """Whether the row was acknowledged; a refusal for the moment is False. Its key makes asking again safe."""
    try:
        answer = server.http.post("/api/v1/write/line-protocol", content=line, headers={"idempotency-key": line})
    except httpx.TransportError:
        return False
    assert answer.status_code in (204, 503), answer.text
    return answer.status_code == 204


def wait_for_answer(ask: Callable[[], list[list[object]]]) -> list[list[object]]:
    """Ask again while the answer is an error, as it is for the moment after a node died."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return ask()
        except AssertionError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


@pytest.fixture
def trio_of_nodes(make_server: MakeServer) -> Trio:
    trio = Trio(make_server)
    trio.found()
    return trio


def test_three_nodes_agree_and_nothing_acknowledged_is_lost_when_the_leader_is_killed(trio_of_nodes: Trio) -> None:
    nodes = trio_of_nodes
    acknowledged = {f"early_{number}" for number in range(6)}
    for number, name in enumerate(sorted(acknowledged)):
        assert create(nodes.nodes[f"n{1 + number % 3}"], name), "any node passes a command on to the leader"
    for turn in range(3):
        victim = nodes.leader()
        survivor = next(name for name in nodes.nodes if name != victim)
        nodes.nodes[victim].kill9()
        died = time.monotonic()
        number = 0
        while not create(nodes.nodes[survivor], f"turn_{turn}_{number}"):
            number += 1
            assert time.monotonic() - died < FAILOVER_SECONDS
        print(f"turn {turn}: {victim} killed, the next command was acknowledged after {time.monotonic() - died:.2f} s")
        acknowledged.add(f"turn_{turn}_{number}")
        nodes.nodes[victim].start(wait=False)
        wait_for(lambda victim=victim: nodes.status(victim).get("leader"))
    for name in nodes.nodes:
        wait_for(lambda name=name: acknowledged <= nodes.databases(name))
    catalogs = [nodes.databases(name) for name in nodes.nodes]
    assert catalogs[0] == catalogs[1] == catalogs[2]


def test_rows_go_to_the_holder_of_the_writer_lease_whichever_node_is_asked(trio_of_nodes: Trio) -> None:
    nodes = trio_of_nodes
    holder, other = nodes.nodes["n1"], nodes.nodes["n2"]
    taken = holder.write("cpu,host=a usage=1.5 1700000000000000000")
    passed_on = other.write("cpu,host=b usage=2.5 1700000000000000000")
    assert (taken.headers["x-arc-served-by"], passed_on.headers["x-arc-served-by"]) == ("n1", "n1")
    assert holder.rows("SELECT host, usage FROM cpu ORDER BY host") == [["a", 1.5], ["b", 2.5]]
    nodes.at_leader("raft", "transfer", "n2", "--json")
    nodes.leader(but="n1")
    holder.write("mem,host=a used=7i 1700000000000000000")
    assert holder.rows("SELECT used FROM mem") == [[7]], "a new measurement is declared through the leader elsewhere"

    holder.kill9()

    found = wait_for_answer(lambda: other.rows("SELECT host, usage FROM cpu ORDER BY host"))
    assert found == [["a", 1.5], ["b", 2.5]], "another node has every acknowledged row"
    wait_for(lambda: is_taken(other, "cpu,host=c usage=3.5 1700000000000000000"))
    holder.start()
    expected = [["a", 1.5], ["b", 2.5], ["c", 3.5]]
    wait_for(lambda: holder.rows("SELECT host, usage FROM cpu ORDER BY host") == expected)


def test_a_wiped_node_is_a_stranger_until_it_is_removed_and_added_again(trio_of_nodes: Trio) -> None:
    nodes = trio_of_nodes
    assert create(nodes.nodes["n1"], "before")
    wiped = nodes.nodes["n3"]
    wiped.kill9()
    wiped.data_dir = wiped.folder / "another disk"
    wiped.start(wait=False)
    wait_for(lambda: greets(wiped))
    assert create(nodes.nodes["n2"], "meanwhile"), "two of three are enough"
    leader = nodes.nodes[nodes.leader()]
    refused = run_arc("raft", "add", f"127.0.0.1:{nodes.ports['n3']}", "--endpoint", leader.url, "--token", TOKEN)
    assert refused.returncode != 0 and "remove" in refused.stderr
    nodes.at_leader("raft", "remove", "n3", "--json")
    nodes.at_leader("raft", "add", f"127.0.0.1:{nodes.ports['n3']}", "--json")
    wait_for(lambda: {"before", "meanwhile"} <= nodes.databases("n3"))


def test_a_member_without_its_peer_port_does_not_start_alone(trio_of_nodes: Trio) -> None:
    member = trio_of_nodes.nodes["n2"]
    member.kill9()
    alone = Server(member.folder, data_dir=member.data_dir)
    alone.start(wait=False)
    assert alone.wait_end() != 0
    assert "cluster.enabled" in alone.stderr()


def test_nodes_agree_over_mutual_tls_and_one_with_another_secret_gets_nowhere(
    make_server: MakeServer, tmp_path: Path
) -> None:
    """Certificates of an authority of one's own; the stranger has one as well and lacks the secret."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    def more(name: str) -> Mapping[str, object]:
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
        tls = {
            "cluster.tls_cert_file": tmp_path / f"{name}.pem",
            "cluster.tls_key_file": tmp_path / f"{name}.key",
            "cluster.tls_ca_file": tmp_path / "ca.pem",
        }
        return tls | ({"cluster.shared_secret": "this is not what the others share"} if name == "n3" else {})

    nodes = Trio(make_server, more)
    nodes.nodes["n1"].start()
    for name in ("n2", "n3"):
        nodes.nodes[name].start(wait=False)
        wait_for(lambda name=name: greets(nodes.nodes[name]))
    assert nodes.at_leader("raft", "add", f"127.0.0.1:{nodes.ports['n2']}", "--json")["member"]["name"] == "n2"
    wait_for(lambda: create(nodes.nodes["n2"], "over_tls"))
    assert "over_tls" in nodes.databases("n1")
    stranger = f"127.0.0.1:{nodes.ports['n3']}"
    leader = nodes.nodes[nodes.leader()]
    refused = run_arc("raft", "add", stranger, "--endpoint", leader.url, "--token", TOKEN, "--json")
    assert refused.returncode != 0
    assert "refused this node" in refused.stdout + refused.stderr
    metrics = nodes.nodes["n3"].http.get("/metrics").text
    assert 'arc_peers_handshakes_refused_total{reason="secret"}' in metrics
