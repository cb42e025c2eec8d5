"""Organizations, teams, roles and memberships over HTTP, and what a token in a team may, from the next request on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from arc.api.routes import Route
from arc.catalog.commands import (
    CreateDatabase,
    DeclareColumns,
    DropAccess,
    JoinTeam,
    RevokeToken,
    UpdateOrganization,
    UpdateTeam,
)
from arc.catalog.schemas import ColumnSchema
from tests.api.fakes import ADMIN, NOBODY, READER, START_US, WRITER, World

RBAC = "/api/v1/rbac"
TOKENS = "/api/v1/auth/tokens"
READER_ID, WRITER_ID, NOBODY_ID = 2, 3, 4
WHEN = "2026-01-01T00:00:00.000Z"


def with_databases() -> World:
    world = World()
    for database, measurement in (("plant", "cpu"), ("plant", "mem"), ("lab", "cpu")):
        world.apply(CreateDatabase(name=database, created_us=START_US, if_missing=True))
        columns = (ColumnSchema("v", "float"),)
        world.apply(DeclareColumns(database=database, measurement=measurement, columns=columns, created_us=START_US))
    return world


async def made(client: httpx.AsyncClient, path: str, **wish: object) -> dict[str, Any]:
    answer = await client.post(path, json=wish)
    assert answer.status_code == 201, answer.text
    document = answer.json()
    assert document.pop("success") is True
    (found,) = document.values()
    assert isinstance(found, dict)
    return found


async def team_of(client: httpx.AsyncClient, *roles: tuple[str, list[str], dict[str, list[str]]]) -> int:
    """An organization with one team of these roles: pattern, permissions, rules by measurement."""
    organization = await made(client, f"{RBAC}/organizations", name="acme")
    team = await made(client, f"{RBAC}/organizations/{organization['id']}/teams", name="ops")
    for pattern, permissions, rules in roles:
        wish = {"database_pattern": pattern, "permissions": permissions}
        role = await made(client, f"{RBAC}/teams/{team['id']}/roles", **wish)
        for measurement, narrowed in rules.items():
            path = f"{RBAC}/roles/{role['id']}/measurements"
            await made(client, path, measurement_pattern=measurement, permissions=narrowed)
    return int(team["id"])


async def test_the_whole_tree_has_the_keys_that_clients_read() -> None:
    world = World()
    async with world.client() as client:
        organization = await made(client, f"{RBAC}/organizations", name="acme", description="all")
        assert organization == {
            "id": 1, "name": "acme", "description": "all", "created_at": WHEN, "updated_at": WHEN, "enabled": True,
        }  # fmt: skip
        team = await made(client, f"{RBAC}/organizations/1/teams", name="ops")
        assert team == {
            "id": 2, "organization_id": 1, "name": "ops", "description": "", "created_at": WHEN, "updated_at": WHEN,
            "enabled": True,
        }  # fmt: skip
        role = await made(client, f"{RBAC}/teams/2/roles", database_pattern="plant_*", permissions=["write", "read"])
        assert role == {
            "id": 3, "team_id": 2, "database_pattern": "plant_*", "permissions": ["read", "write"], "created_at": WHEN,
            "measurement_permissions": [],
        }  # fmt: skip
        rule = await made(client, f"{RBAC}/roles/3/measurements", measurement_pattern="cpu*", permissions=["read"])
        assert rule == {
            "id": 4, "role_id": 3, "measurement_pattern": "cpu*", "permissions": ["read"], "created_at": WHEN,
        }  # fmt: skip
        membership = await made(client, f"{TOKENS}/{READER_ID}/teams", team_id=2)
        assert membership == {"id": 5, "token_id": READER_ID, "team_id": 2, "created_at": WHEN}
        role["measurement_permissions"] = [rule]

        async def got(path: str) -> dict[str, Any]:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            return answer.json() | {"success": None}  # type: ignore[no-any-return]

        assert await got(f"{RBAC}/organizations") == {"success": None, "organizations": [organization], "count": 1}
        assert (await got(f"{RBAC}/organizations/1"))["organization"] == {**organization, "teams": [team]}
        assert await got(f"{RBAC}/organizations/1/teams") == {"success": None, "teams": [team], "count": 1}
        assert (await got(f"{RBAC}/teams/2"))["team"] == {**team, "roles": [role]}
        assert await got(f"{RBAC}/teams/2/roles") == {"success": None, "roles": [role], "count": 1}
        assert (await got(f"{RBAC}/roles/3"))["role"] == role
        rules = await got(f"{RBAC}/roles/3/measurements")
        assert rules == {"success": None, "measurement_permissions": [rule], "count": 1}
        assert await got(f"{TOKENS}/{READER_ID}/teams") == {"success": None, "teams": [team], "count": 1}
        rights = await got(f"{TOKENS}/{READER_ID}/permissions")
        assert rights["permissions"] == [
            {"database": "plant_*", "measurement": "cpu*", "permissions": ["read"], "source": "team:ops"}
        ]
        assert (await got(f"{TOKENS}/{WRITER_ID}/permissions"))["permissions"] == [
            {"database": "*", "permissions": ["write"], "source": "token"}
        ]

        world.clock.seconds = 1.0
        changed = await client.patch(f"{RBAC}/organizations/1", json={"name": "acme2", "enabled": False})
        assert changed.json()["organization"] == {
            **organization, "name": "acme2", "enabled": False, "updated_at": "2026-01-01T00:00:01.000Z",
        }  # fmt: skip
        assert (await client.patch(f"{RBAC}/teams/2", json={"description": "d"})).json()["team"]["description"] == "d"
        changed = await client.patch(f"{RBAC}/roles/3", json={"permissions": ["delete"]})
        assert changed.json()["role"]["permissions"] == ["delete"]

        for path in (f"{RBAC}/measurement-permissions/4", f"{RBAC}/roles/3", f"{RBAC}/teams/2"):
            answer = await client.delete(path)
            assert (answer.status_code, answer.json()["success"]) == (200, True)
            assert (await client.delete(path)).status_code == 404
        assert (await client.delete(f"{RBAC}/organizations/1")).status_code == 200
        assert (await got(f"{RBAC}/organizations"))["count"] == 0


@pytest.mark.parametrize(
    ("method", "path", "wish", "status"),
    [
        ("POST", f"{RBAC}/organizations", {"name": "acme"}, 409),
        ("POST", f"{RBAC}/organizations", {"name": "a b"}, 400),
        ("POST", f"{RBAC}/organizations", {}, 400),
        ("GET", f"{RBAC}/organizations/9", None, 404),
        ("PATCH", f"{RBAC}/organizations/9", {"name": "x"}, 404),
        ("DELETE", f"{RBAC}/organizations/9", None, 404),
        ("GET", f"{RBAC}/organizations/9/teams", None, 404),
        ("POST", f"{RBAC}/organizations/9/teams", {"name": "x"}, 400),
        ("POST", f"{RBAC}/organizations/1/teams", {"name": "ops"}, 409),
        ("GET", f"{RBAC}/teams/9", None, 404),
        ("GET", f"{RBAC}/teams/9/roles", None, 404),
        ("POST", f"{RBAC}/teams/9/roles", {"database_pattern": "*", "permissions": ["read"]}, 400),
        ("POST", f"{RBAC}/teams/2/roles", {"database_pattern": "*", "permissions": []}, 400),
        ("POST", f"{RBAC}/teams/2/roles", {"database_pattern": "*", "permissions": ["root"]}, 400),
        ("POST", f"{RBAC}/teams/2/roles", {"database_pattern": "a*b", "permissions": ["read"]}, 400),
        ("POST", f"{RBAC}/roles/9/measurements", {"measurement_pattern": "*", "permissions": ["read"]}, 400),
        ("GET", f"{RBAC}/roles/9/measurements", None, 404),
        ("PATCH", f"{RBAC}/roles/9", {}, 404),
        ("DELETE", f"{RBAC}/measurement-permissions/9", None, 404),
        ("POST", f"{TOKENS}/9/teams", {"team_id": 2}, 404),
        ("POST", f"{TOKENS}/2/teams", {"team_id": 9}, 400),
        ("POST", f"{TOKENS}/2/teams", {"team_id": "2"}, 400),
        ("DELETE", f"{TOKENS}/2/teams/2", None, 404),
        ("GET", f"{TOKENS}/9/permissions", None, 404),
        ("GET", f"{RBAC}/teams/x", None, 400),
    ],
)
async def test_mistakes_have_the_statuses_of_arc(method: str, path: str, wish: object, status: int) -> None:
    """Data plane 1.7: a parent that is not there is 400 where something is made below it, and else 404."""
    world = World()
    async with world.client() as client:
        await team_of(client, ("plant", ["read"], {}))
        answer = await client.request(method, path, json=wish)
        assert answer.status_code == status, answer.text
        assert answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "database", "status"),
    [
        ("/write?db=plant", "cpu v=1", "plant", 204),
        ("/write?db=plant", "mem v=1", "plant", 403),
        ("/write?db=plant", "cpu v=1\nmem v=1", "plant", 403),
        ("/write?db=lab", "cpu v=1", "lab", 403),
        ("/write", "cpu v=1", "default", 403),
        ("/api/v2/write?bucket=plant/autogen", "cpu v=1", "plant", 204),
        ("/api/v1/write/line-protocol?db=lab", "cpu v=1", "lab", 403),
        ("/write?db=new_1", "anything v=1", "new_1", 204),
    ],
)
async def test_a_write_needs_the_right_on_every_measurement_in_it(
    path: str, body: str, database: str, status: int
) -> None:
    world = with_databases()
    async with world.client() as admin, world.client(WRITER) as client:
        team = await team_of(admin, ("plant", ["write"], {"cpu": ["write"]}), ("new_*", ["write"], {}))
        assert (await client.post(path, content=body)).status_code == 204
        world.apply(JoinTeam(token=WRITER_ID, team=team, at_us=1))
        before = len(world.ingest.requests)
        answer = await client.post(path, content=body)
        assert answer.status_code == status, answer.text
        stored = world.ingest.requests[before:]
        assert [request.database for request in stored] == ([database] if status == 204 else [])


async def test_a_token_with_no_permission_of_its_own_gets_all_from_its_team() -> None:
    """In Arc in Go the route's guard stops it before its team is asked (data plane 10.6, 57)."""
    world = with_databases()
    async with world.client() as admin, world.client(NOBODY) as client:
        assert (await client.get("/api/v1/databases")).status_code == 403
        team = await team_of(admin, ("plant", ["read"], {}))
        await made(admin, f"{TOKENS}/{NOBODY_ID}/teams", team_id=team)
        assert [each["name"] for each in (await client.get("/api/v1/databases")).json()["databases"]] == ["plant"]
        assert (await client.post("/write?db=plant", content="cpu v=1")).status_code == 403
        assert (await client.get(TOKENS)).status_code == 403
        verified = (await client.get("/api/v1/auth/verify")).json()
        assert (verified["permissions"], verified["token_info"]["permissions"]) == (["read"], [])


async def test_lists_show_what_may_be_read_and_no_name_besides() -> None:
    world = with_databases()
    async with world.client() as admin, world.client(READER) as client:
        team = await team_of(admin, ("plant", ["read"], {"cpu": ["read"]}))
        world.apply(JoinTeam(token=READER_ID, team=team, at_us=1))
        assert [each["name"] for each in (await client.get("/api/v1/databases")).json()["databases"]] == ["plant"]
        listed = (await client.get("/api/v1/databases/plant/measurements")).json()
        assert [each["name"] for each in listed["measurements"]] == ["cpu"]
        assert (await client.get("/api/v1/databases/plant")).json()["measurement_count"] == 1
        inventory = (await client.get("/api/v1/measurements")).json()["measurements"]
        assert [(each["database"], each["measurement"]) for each in inventory] == [("plant", "cpu")]
        for name in ("lab", "not-there"):
            assert (await client.get(f"/api/v1/databases/{name}")).status_code == 403
        influx = (await client.get("/query?q=SHOW DATABASES")).json()
        assert influx["results"][0]["series"][0]["values"] == [["plant"]]
        policy = {"name": "p", "database": "lab", "retention_days": 1}
        number = (await admin.post("/api/v1/retention", json=policy)).json()["id"]
        assert (await client.get("/api/v1/retention")).json()["count"] == 0
        assert (await client.get(f"/api/v1/retention/{number}")).status_code == 404
        assert (await admin.get("/api/v1/retention")).json()["count"] == 1


@pytest.mark.parametrize(("pattern", "seen"), [("db", 1), ("lab", 0)])
async def test_what_compaction_tells_names_only_what_may_be_read(pattern: str, seen: int) -> None:
    world = World()
    async with world.client() as admin, world.client(READER) as client:
        await team_of(admin, (pattern, ["read"], {}))
        world.apply(JoinTeam(token=READER_ID, team=2, at_us=1))
        told = {name: (await client.get(f"/api/v1/compaction/{name}")).json() for name in ("jobs", "history", "stats")}
        assert [told["jobs"]["active_jobs"], told["history"]["total_jobs"]] == [seen, seen]
        assert len(told["stats"]["recent_jobs"]) == seen


async def test_making_a_database_in_influxql_needs_the_right_to_write_into_it() -> None:
    world = with_databases()
    async with world.client() as admin, world.client(WRITER) as client:
        team = await team_of(admin, ("plant*", ["write"], {}))
        world.apply(JoinTeam(token=WRITER_ID, team=team, at_us=1))
        assert (await client.post("/query?q=CREATE DATABASE plant_2")).status_code == 200
        assert (await client.post("/query?q=CREATE DATABASE lab_2")).status_code == 403
        assert "lab_2" not in world.catalog.databases


@pytest.mark.parametrize(
    "revocation",
    [
        UpdateTeam(id=2, enabled=False, at_us=1),
        UpdateOrganization(id=1, enabled=False, at_us=1),
        DropAccess(kind="role", id=3),
        DropAccess(kind="team", id=2),
        DropAccess(kind="organization", id=1),
    ],
    ids=["team disabled", "organization disabled", "role gone", "team gone", "organization gone"],
)
async def test_what_is_taken_away_is_gone_with_the_next_request(revocation: Any) -> None:
    """Nothing remembers a right, and none comes back because the team that narrowed it is gone."""
    world = with_databases()
    async with world.client() as admin, world.client(READER) as client:
        await team_of(admin, ("plant", ["read"], {}))
        world.apply(JoinTeam(token=READER_ID, team=2, at_us=1))
        assert (await client.get("/api/v1/databases/plant")).status_code == 200
        world.apply(revocation)
        assert (await client.get("/api/v1/databases/plant")).status_code == 403


async def test_leaving_the_last_team_is_told_to_give_the_tokens_own_permissions_back() -> None:
    world = with_databases()
    async with world.client() as admin, world.client(READER) as client:
        team = await team_of(admin, ("plant", ["read"], {}))
        await made(admin, f"{TOKENS}/{READER_ID}/teams", team_id=team)
        assert (await client.get("/api/v1/databases/lab")).status_code == 403
        left = await admin.delete(f"{TOKENS}/{READER_ID}/teams/{team}")
        assert "its own permissions again: read" in left.json()["message"]
        assert (await client.get("/api/v1/databases/lab")).status_code == 200


async def test_an_administrator_is_limited_by_no_team() -> None:
    world = with_databases()
    async with world.client() as admin:
        team = await team_of(admin, ("plant", ["read"], {}))
        await made(admin, f"{TOKENS}/1/teams", team_id=team)
        assert (await admin.get("/api/v1/databases/lab")).status_code == 200
        assert (await admin.post("/write?db=lab", content="cpu v=1")).status_code == 204
        assert (await admin.get("/api/v1/auth/verify")).json()["permissions"] == ["admin"]


async def test_a_role_called_admin_is_one_of_its_databases_only() -> None:
    world = with_databases()
    async with world.client() as admin, world.client(NOBODY) as client:
        team = await team_of(admin, ("*", ["admin"], {}))
        await made(admin, f"{TOKENS}/{NOBODY_ID}/teams", team_id=team)
        assert (await client.post("/write?db=lab", content="cpu v=1")).status_code == 204
        assert (await client.get(TOKENS)).status_code == 403
        assert (await client.post(f"{RBAC}/organizations", json={"name": "mine"})).status_code == 403


async def test_the_last_rule_of_a_role_is_told_to_open_it() -> None:
    world = World()
    async with world.client() as admin:
        await team_of(admin, ("plant", ["read", "write"], {"cpu": ["read"]}))
        gone = await admin.delete(f"{RBAC}/measurement-permissions/4")
        assert "grants read, write on every measurement now" in gone.json()["message"]


async def test_the_cache_that_clients_ask_for_is_empty_for_ever() -> None:
    async with World().client(ADMIN) as admin:
        stats = (await admin.get("/api/v1/auth/cache/stats")).json()["stats"]
        assert (stats["cache_size"], stats["cache_hits"], stats["hit_rate_percent"]) == (0, 0, 0)
        assert (await admin.post("/api/v1/auth/cache/invalidate")).json()["success"] is True


def test_every_route_below_rbac_is_for_administrators() -> None:
    rows: list[Route] = [route for route in World().api.routes if route.path.startswith(RBAC)]
    assert len(rows) == 18
    assert {route.permission.value for route in rows} == {"admin"}


@pytest.mark.parametrize(
    ("taken", "status"), [(RevokeToken(id=WRITER_ID), 401), (JoinTeam(token=WRITER_ID, team=2, at_us=1), 403)]
)
async def test_a_right_that_is_taken_away_while_the_body_comes_stores_nothing(taken: Any, status: int) -> None:
    world = with_databases()
    async with world.client() as admin, world.client(WRITER) as client:
        await team_of(admin, ("lab", ["write"], {}))

        async def body() -> AsyncIterator[bytes]:
            yield b"cpu v=1\n"
            world.apply(taken)
            yield b"cpu v=2\n"

        answer = await client.post("/write?db=plant", content=body())
        assert answer.status_code == status, answer.text
        assert world.ingest.requests == []
