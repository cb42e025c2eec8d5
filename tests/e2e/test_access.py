"""Teams and the audit log in a real cluster: one answer on all nodes, and a right that is gone is gone everywhere."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.e2e.cluster import Cluster
from tests.e2e.harness import Server

RBAC = "/api/v1/rbac"


def test_a_right_is_given_and_taken_on_all_nodes_at_the_same_index(tmp_path: Path) -> None:
    """The id of a line in the audit log is the index of the catalog at which the act is in force."""
    with Cluster(tmp_path) as cluster:
        cluster.start()
        nodes = list(cluster.nodes.values())
        standby = cluster.nodes[cluster.others(cluster.writer())[0]]
        standby.write("cpu,host=a v=1")
        made = made_through(standby)
        heard_by(nodes, last_act(standby))
        assert [count(node, made.token) for node in nodes] == [(200, [[1]])] * 3
        assert [write(node, made.token) for node in nodes] == [403] * 3

        gone = cluster.nodes[cluster.writer()].http.delete(f"{RBAC}/roles/{made.role}")
        assert gone.status_code == 200, gone.text
        heard_by(nodes, last_act(cluster.nodes[cluster.writer()]))
        assert [count(node, made.token)[0] for node in nodes] == [403] * 3

        logs = [node.http.get("/api/v1/audit/logs").json()["data"] for node in nodes]
        assert logs[0] == logs[1] == logs[2]
        assert [line["event_type"] for line in logs[0]] == [
            "rbac.role.deleted", "token.team_joined", "token.created", "rbac.role.created", "rbac.team.created",
            "rbac.organization.created",
        ]  # fmt: skip


class Made:
    """A token in a team that may read ``default``."""

    def __init__(self, token: str, role: int) -> None:
        self.token = token
        self.role = role


def made_through(node: Server) -> Made:
    def post(path: str, **wish: object) -> dict[str, object]:
        answer = node.http.post(path, json=wish)
        assert answer.status_code == 201, answer.text
        found: dict[str, object] = answer.json()
        return found

    def number(document: dict[str, object], key: str) -> int:
        found = document[key]
        assert isinstance(found, dict)
        return int(found["id"])

    organization = number(post(f"{RBAC}/organizations", name="acme"), "organization")
    team = number(post(f"{RBAC}/organizations/{organization}/teams", name="ops"), "team")
    wish = {"database_pattern": "def*", "permissions": ["read"]}
    role = number(post(f"{RBAC}/teams/{team}/roles", **wish), "role")
    token = post("/api/v1/auth/tokens", name="agent", permissions=[])
    post(f"/api/v1/auth/tokens/{token['id']}/teams", team_id=team)
    return Made(str(token["token"]), role)


def last_act(node: Server) -> int:
    return int(node.http.get("/api/v1/audit/logs?limit=1").json()["data"][0]["id"])


def heard_by(nodes: list[Server], index: int) -> None:
    """Return once each has applied ``index``: a query that must see it waits for it."""
    for node in nodes:
        answer = node.http.post("/api/v1/query", json={"sql": "SELECT 1"}, headers={"x-arc-min-index": str(index)})
        assert answer.status_code == 200, answer.text


def count(node: Server, token: str) -> tuple[int, object]:
    headers = {"authorization": f"Bearer {token}"}
    sql = "SELECT count(*) FROM cpu"
    answer = httpx.post(f"{node.url}/api/v1/query", json={"sql": sql}, headers=headers, timeout=30)
    return answer.status_code, answer.json().get("data")


def write(node: Server, token: str) -> int:
    headers = {"authorization": f"Bearer {token}"}
    return httpx.post(f"{node.url}/write", content="cpu v=2", headers=headers, timeout=30).status_code
