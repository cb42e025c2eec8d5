"""`arc token`, `arc team`, `arc audit`, `arc database`: what is sent, what is told, what never happens halfway."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from arc.cli import resources
from arc.cli.team import May
from arc.security.tokens import PERMISSIONS
from tests.cli.conftest import Run, document
from tests.cli.fake_node import Answer, Asked, FakeNode, refusal

TOKEN = {
    "id": 2, "name": "grafana", "description": "", "permissions": ["read", "write"], "enabled": True,
    "created_at": "2026-01-01T00:00:00.000Z", "expires_at": None,
}  # fmt: skip
SECRET = "arc_secret"
Said = list[tuple[str, str, Any]]


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody sits there."""
    monkeypatch.setattr(resources, "is_somebody_there", lambda: True)


def said(node: FakeNode) -> Said:
    """What was asked for but not only looked at: method, path below /api/v1, body."""
    return [
        (each.method, each.path.removeprefix("/api/v1"), json.loads(each.body) if each.body else None)
        for each in node.asked
        if each.method != "GET"
    ]


def team(number: int, name: str, *, is_enabled: bool = True) -> dict[str, Any]:
    return {"id": number, "organization_id": 1, "name": name, "enabled": is_enabled}


ORGANIZATIONS: dict[int, dict[str, Any]] = {
    1: {"id": 1, "name": "acme", "enabled": True, "teams": [team(2, "operators"), team(3, "dashboards")]},
    9: {"id": 9, "name": "umbrella", "enabled": False, "teams": [team(10, "operators")]},
}
RULE = {"id": 8, "role_id": 7, "measurement_pattern": "cpu*", "permissions": ["read"]}
ROLES: dict[int, list[dict[str, Any]]] = {
    2: [
        {"id": 6, "database_pattern": "plant_*", "permissions": ["read", "write"], "measurement_permissions": []},
        {"id": 7, "database_pattern": "lab", "permissions": ["read"], "measurement_permissions": [RULE]},
    ],
    3: [],
    10: [],
}


def a_cluster(asked: Asked) -> Answer:
    path, method = asked.path.removeprefix("/api/v1"), asked.method
    if path == "/auth/tokens":
        if method == "POST":
            return Answer(status=201, document={"success": True, "id": 5, "token": SECRET, "message": "store it"})
        return Answer(document={"success": True, "tokens": [TOKEN], "count": 1})
    if path.endswith("/rotate"):
        return Answer(document={"success": True, "new_token": SECRET, "message": "store it"})
    if path.endswith("/permissions"):
        right = {"database": "lab", "measurement": "cpu*", "permissions": ["read"], "source": "team:operators"}
        return Answer(document={"success": True, "permissions": [right], "rbac_enabled": True})
    if re.fullmatch(r"/auth/tokens/\d+/teams", path):
        return Answer(status=201, document={"success": True, "membership": {"id": 11, "token_id": 5, "team_id": 2}})
    if path == "/rbac/organizations":
        if method == "POST":
            return Answer(status=201, document={"success": True, "organization": {"id": 20, "name": "new"}})
        return Answer(document={"success": True, "organizations": list(ORGANIZATIONS.values())})
    if found := re.fullmatch(r"/rbac/organizations/(\d+)", path):
        return Answer(document={"success": True, "organization": ORGANIZATIONS[int(found[1])]})
    if re.fullmatch(r"/rbac/organizations/(\d+)/teams", path):
        return Answer(status=201, document={"success": True, "team": team(21, json.loads(asked.body)["name"])})
    if (found := re.fullmatch(r"/rbac/teams/(\d+)", path)) and method == "GET":
        number = int(found[1])
        its = next(each for one in ORGANIZATIONS.values() for each in one["teams"] if each["id"] == number)
        return Answer(document={"success": True, "team": {**its, "roles": ROLES[number]}})
    if re.fullmatch(r"/rbac/teams/(\d+)/roles", path) or path == "/rbac/roles/7":
        role = {"id": 7, **(json.loads(asked.body) if asked.body else {})}
        return Answer(status=201, document={"success": True, "role": role})
    return Answer(document={"success": True, "message": "done"})


@pytest.fixture
def cluster(node: FakeNode) -> FakeNode:
    node.answer = a_cluster
    return node


def test_a_secret_goes_alone_to_standard_output(run: Run, cluster: FakeNode) -> None:
    found = run("token", "create", "grafana", "--may", "read", "--expires", "90d", "--endpoint", cluster.endpoint)
    assert found.exit_code == 0 and found.stdout == f"{SECRET}\n"
    assert "token 5, grafana: read" in found.stderr and "cannot be shown again" in found.stderr
    wish = {"name": "grafana", "expires_in": "90d", "permissions": ["read"]}
    assert said(cluster) == [("POST", "/auth/tokens", wish)]
    rotated = run("token", "rotate", "grafana", "--yes", "--endpoint", cluster.endpoint)
    assert rotated.stdout == f"{SECRET}\n" and said(cluster)[-1] == ("POST", "/auth/tokens/2/rotate", None)


def test_all_that_the_server_knows_can_be_allowed() -> None:
    assert tuple(May) == PERMISSIONS


def test_what_is_not_said_is_left_to_the_server(run: Run, cluster: FakeNode) -> None:
    assert run("token", "create", "grafana", "--endpoint", cluster.endpoint).exit_code == 0
    assert said(cluster) == [("POST", "/auth/tokens", {"name": "grafana"})]


def test_a_token_for_a_team_has_nothing_before_it_is_in_it(run: Run, cluster: FakeNode) -> None:
    found = run("token", "create", "grafana", "--team", "acme/operators", "--json", "--endpoint", cluster.endpoint)
    assert document(found)["token"] == SECRET and document(found)["membership"]["team_id"] == 2
    assert said(cluster) == [
        ("POST", "/auth/tokens", {"name": "grafana", "permissions": []}),
        ("POST", "/auth/tokens/5/teams", {"team_id": 2}),
    ]


@pytest.mark.parametrize(("name", "code"), [("nobody", "not_found"), ("operators", "ambiguous")])
def test_no_token_is_made_for_a_team_that_is_not_found(name: str, code: str, run: Run, cluster: FakeNode) -> None:
    found = run("token", "create", "grafana", "--team", name, "--json", "--endpoint", cluster.endpoint)
    assert document(found)["code"] == code and said(cluster) == []


def test_the_secret_is_told_though_the_team_refuses(run: Run, cluster: FakeNode) -> None:
    full = refusal(409, "a token is in 64 teams at most", "conflict")
    cluster.answer = lambda asked: full if asked.path.endswith("/5/teams") else a_cluster(asked)
    found = run("token", "create", "grafana", "--team", "2", "--endpoint", cluster.endpoint)
    assert found.exit_code == 1 and SECRET in found.stdout and "64 teams" in found.stderr


def test_tokens_are_listed_and_explained_without_secrets(run: Run, cluster: FakeNode) -> None:
    listed = run("token", "list", "--endpoint", cluster.endpoint).stdout
    assert "2\tgrafana\tread, write\ttrue\t\t2026-01-01" in listed
    shown = run("token", "show", "2", "--endpoint", cluster.endpoint)
    assert "lab\tcpu*\tread\tteam:operators" in shown.stdout
    assert document(run("token", "show", "grafana", "--json", "--endpoint", cluster.endpoint))["token"] == TOKEN
    missing = run("token", "show", "nobody", "--endpoint", cluster.endpoint)
    assert missing.exit_code == 1 and "there is no token 'nobody'" in missing.stderr


def test_who_is_asking(run: Run, node: FakeNode) -> None:
    node.script(Answer(document={"valid": True, "permissions": ["read"], "token_info": TOKEN}))
    found = run("token", "whoami", "--token", SECRET, "--endpoint", node.endpoint)
    assert found.stdout == "token 2, grafana: read\n"
    assert node.asked[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("order", "sent"),
    [
        (("rotate",), ("POST", "/auth/tokens/2/rotate", None)),
        (("revoke",), ("POST", "/auth/tokens/2/revoke", None)),
        (("delete",), ("DELETE", "/auth/tokens/2", None)),
    ],
)
def test_somebody_agrees_before_a_token_stops_to_work(
    order: tuple[str, ...], sent: object, run: Run, cluster: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("token", *order, "grafana", "--endpoint", cluster.endpoint)
    alone = run(*command)
    assert alone.exit_code == 2 and "nobody is there to be asked" in alone.stderr
    monkeypatch.setattr(resources, "is_somebody_there", lambda: True)
    refused = run(*command, input="n\n")
    assert refused.exit_code == 2 and "token 2, grafana?" in refused.stderr
    assert said(cluster) == []
    assert run(*command, input="y\n").exit_code == 0
    assert said(cluster) == [sent]


@pytest.mark.parametrize(
    ("order", "sent"),
    [
        (("change", "grafana", "--may", "read"), ("PATCH", "/auth/tokens/2", {"permissions": ["read"]})),
        (("change", "grafana", "--disable"), ("PATCH", "/auth/tokens/2", {"enabled": False})),
        (
            ("change", "2", "--name", "g2", "--expires", "1h", "--enable"),
            ("PATCH", "/auth/tokens/2", {"name": "g2", "expires_in": "1h", "enabled": True}),
        ),
        (("join", "grafana", "dashboards"), ("POST", "/auth/tokens/2/teams", {"team_id": 3})),
        (("leave", "grafana", "3"), ("DELETE", "/auth/tokens/2/teams/3", None)),
    ],
)
def test_tokens_are_changed(order: tuple[str, ...], sent: object, run: Run, cluster: FakeNode) -> None:
    found = run("token", *order, "--endpoint", cluster.endpoint)
    assert found.exit_code == 0, found.stderr
    assert said(cluster) == [sent]


def test_to_change_nothing_is_a_mistake(run: Run, cluster: FakeNode) -> None:
    found = run("token", "change", "grafana", "--endpoint", cluster.endpoint)
    assert found.exit_code == 2 and "nothing to change" in found.stderr and not cluster.asked


def test_teams_are_listed_with_what_they_grant(run: Run, cluster: FakeNode) -> None:
    assert run("team", "list", "--endpoint", cluster.endpoint).stdout.splitlines()[1:] == [
        "2\tacme/operators\ttrue\t6\tplant_*\tread, write\t*",
        "2\tacme/operators\ttrue\t7\tlab\tread\tcpu*",
        "3\tacme/dashboards\ttrue\t\t\t\t",
        "10\tumbrella/operators\tfalse\t\t\t\t",
    ]
    found = document(run("team", "list", "--json", "--endpoint", cluster.endpoint))
    assert [each["title"] for each in found["teams"]] == ["acme/operators", "acme/dashboards", "umbrella/operators"]
    assert found["teams"][0]["roles"] == ROLES[2]


def test_a_team_is_made_with_its_organization(run: Run, cluster: FakeNode) -> None:
    made = run("team", "add", "night", "--org", "acme", "--endpoint", cluster.endpoint)
    assert "team 21, acme/night" in made.stdout
    assert said(cluster) == [("POST", "/rbac/organizations/1/teams", {"name": "night"})]
    run("team", "add", "night", "--org", "new", "--description", "shift", "--endpoint", cluster.endpoint)
    assert said(cluster)[1:] == [
        ("POST", "/rbac/organizations", {"name": "new"}),
        ("POST", "/rbac/organizations/20/teams", {"name": "night", "description": "shift"}),
    ]


def test_a_role_for_some_measurements_grants_nothing_before_it_is_narrowed(run: Run, cluster: FakeNode) -> None:
    wide = run(
        "team", "grant", "3", "--db", "plant_*", "--may", "read", "--may", "write", "--endpoint", cluster.endpoint
    )
    assert "role 7: acme/dashboards may read, write on plant_*" in wide.stdout
    assert said(cluster) == [
        ("POST", "/rbac/teams/3/roles", {"database_pattern": "plant_*", "permissions": ["read", "write"]})
    ]
    cluster.asked.clear()
    narrow = (
        "team",
        "grant",
        "3",
        "--db",
        "lab",
        "--may",
        "read",
        "-m",
        "cpu*",
        "-m",
        "mem",
        "--endpoint",
        cluster.endpoint,
    )
    assert "may read on lab in cpu*, mem" in run(*narrow).stdout
    rules = [
        ("POST", "/rbac/roles/7/measurements", {"measurement_pattern": pattern, "permissions": ["read"]})
        for pattern in ("cpu*", "mem")
    ]
    made = ("POST", "/rbac/teams/3/roles", {"database_pattern": "-", "permissions": ["read"]})
    assert said(cluster) == [made, *rules, ("PATCH", "/rbac/roles/7", {"database_pattern": "lab"})]
    cluster.asked.clear()
    bad = refusal(400, "measurement pattern is not allowed", "invalid")
    cluster.answer = lambda asked: bad if asked.path.endswith("/measurements") else a_cluster(asked)
    found = run(*narrow)
    assert found.exit_code == 1 and "not allowed" in found.stderr
    assert said(cluster) == [made, rules[0], ("DELETE", "/rbac/roles/7", None)]


@pytest.mark.parametrize(
    ("order", "sent"),
    [
        (("withdraw", "7"), ("DELETE", "/rbac/roles/7", None)),
        (("disable", "dashboards"), ("PATCH", "/rbac/teams/3", {"enabled": False})),
        (("enable", "umbrella/operators"), ("PATCH", "/rbac/teams/10", {"enabled": True})),
        (("remove", "2", "--yes"), ("DELETE", "/rbac/teams/2", None)),
    ],
)
def test_teams_are_changed(order: tuple[str, ...], sent: object, run: Run, cluster: FakeNode) -> None:
    found = run("team", *order, "--endpoint", cluster.endpoint)
    assert found.exit_code == 0, found.stderr
    assert said(cluster) == [sent]


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (("enable", "dashboards"), "acme/dashboards grants again"),
        (("disable", "dashboards"), "acme/dashboards grants nothing"),
        (("enable", "10"), "umbrella/operators grants nothing: its organization, 1, is disabled"),
    ],
)
def test_what_a_team_grants_then(order: tuple[str, ...], told: str, run: Run, cluster: FakeNode) -> None:
    assert run("team", *order, "--endpoint", cluster.endpoint).stdout == f"{told}\n"


def test_a_team_goes_after_somebody_agreed(run: Run, cluster: FakeNode, person: None) -> None:
    refused = run("team", "remove", "dashboards", "--endpoint", cluster.endpoint, input="n\n")
    assert refused.exit_code == 2 and "can do nothing then" in refused.stderr and said(cluster) == []


def test_the_audit_log_says_when_there_is_more(run: Run, node: FakeNode) -> None:
    act = {
        "timestamp": "2026-01-01T00:00:00.000Z", "actor": "root", "ip_address": "127.0.0.1", "method": "POST",
        "event_type": "token.created", "path": "/api/v1/auth/tokens", "status_code": 201,
    }  # fmt: skip
    node.script(Answer(document={"success": True, "data": [act], "count": 1, "total": 3}))
    found = run("audit", "--event", "token.*", "--limit", "1", "--endpoint", node.endpoint)
    assert "root\t127.0.0.1\ttoken.created\tPOST /api/v1/auth/tokens\t201" in found.stdout
    assert "1 of 3 shown" in found.stderr
    assert node.asked[0].query == {"event_type": "token.*", "limit": "1"}


def of_databases(asked: Asked) -> Answer:
    if asked.method == "DELETE":
        return Answer(document={"message": "gone", "files_deleted": 3, "rows_deleted": 500})
    if asked.path.endswith("/measurements"):
        held = [{"name": "cpu", "file_count": 2}, {"name": "a/b", "file_count": 1}]
        return Answer(document={"database": "plant", "measurements": held, "count": 2})
    found = {"name": "plant", "measurement_count": 2, "created_at": "2026-01-01T00:00:00.000Z"}
    return Answer(status=201, document=found) if asked.method == "POST" else Answer(document={"databases": [found]})


def test_databases_are_listed_and_made(run: Run, node: FakeNode) -> None:
    node.answer = of_databases
    assert "plant\t2\t2026-01-01" in run("database", "list", "--endpoint", node.endpoint).stdout
    assert "cpu\t2" in run("database", "show", "plant", "--endpoint", node.endpoint).stdout
    assert "database plant is made" in run("database", "create", "plant", "--endpoint", node.endpoint).stdout
    assert said(node) == [("POST", "/databases", {"name": "plant"})]


def test_a_database_goes_after_somebody_agreed(run: Run, node: FakeNode, person: None) -> None:
    node.answer = of_databases
    drop = ("database", "drop", "plant", "--endpoint", node.endpoint)
    refused = run(*drop, input="n\n")
    assert refused.exit_code == 2 and "database plant, 2 measurements and all its rows, 3 files" in refused.stderr
    missing = run(*drop, "-m", "disk", "--yes")
    assert missing.exit_code == 1 and "there is no measurement 'disk' in plant" in missing.stderr
    assert said(node) == []
    done = run(*drop, input="y\n")
    assert "500 rows in 3 files" in done.stdout and node.asked[-1].query == {"confirm": "true"}
    assert run(*drop, "-m", "a/b", "--yes").exit_code == 0
    assert [path for _, path, _ in said(node)] == ["/databases/plant", "/databases/plant/measurements/a%2Fb"]
