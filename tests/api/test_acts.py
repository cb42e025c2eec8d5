"""The audit log: what becomes a line, what only an event, and that no secret is in either."""

from __future__ import annotations

from typing import Any

import httpx
import orjson
import pytest

from arc.api.acts import EVENT_TYPES, event_type
from arc.catalog.commands import Audited, CreateDatabase
from arc.errors import OutcomeUnknown, Unavailable
from tests.api.fakes import ADMIN, READER, START_US, World

LOGS = "/api/v1/audit/logs"
TOKENS = "/api/v1/auth/tokens"


async def lines(client: httpx.AsyncClient, **query: object) -> list[dict[str, Any]]:
    answer = await client.get(LOGS, params={key: str(value) for key, value in query.items()})
    assert answer.status_code == 200, answer.text
    document = answer.json()
    assert document["success"] is True and document["count"] == len(document["data"])
    return list(document["data"])


async def test_an_act_is_told_with_who_what_and_when() -> None:
    world = World()
    async with world.client() as client:
        wish = {"name": "agent", "permissions": ["write"], "expires_in": "24h"}
        answer = await client.post(TOKENS, json=wish, headers={"user-agent": "test/1"})
        (line,) = await lines(client)
        assert line == {
            "id": world.catalog.index, "timestamp": "2026-01-01T00:00:00.000Z", "event_type": "token.created",
            "actor": "admin", "token_id": 1, "method": "POST", "path": TOKENS, "status_code": 201,
            "ip_address": line["ip_address"], "user_agent": "test/1", "duration_ms": 0, "detail": wish,
            "result": answer.json()["id"],
        }  # fmt: skip
        (event,) = world.logged("administrative_act")
        assert (event["event_type"], event["actor"], event["recorded"]) == ("token.created", "admin", True)


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "database"),
    [
        ("PATCH", f"{TOKENS}/2", {"description": "d"}, "token.updated", None),
        ("POST", f"{TOKENS}/2/rotate", None, "token.rotated", None),
        ("POST", f"{TOKENS}/2/revoke", None, "token.revoked", None),
        ("DELETE", f"{TOKENS}/2", None, "token.deleted", None),
        ("POST", "/api/v1/databases", {"name": "plant"}, "database.created", "plant"),
        ("POST", "/api/v1/rbac/organizations", {"name": "acme"}, "rbac.organization.created", None),
        ("POST", "/api/v1/retention", {"name": "p", "database": "default", "retention_days": 1}, "retention.created",
         "default"),
        ("POST", "/api/v1/import/lp?db=lab&p=secret", b"cpu v=1", "data.import", "lab"),
        ("DELETE", "/api/v1/queries/q1", None, "query.cancelled", None),
    ],
)  # fmt: skip
async def test_acts_of_every_kind_have_their_name(
    method: str, path: str, body: Any, kind: str, database: str | None
) -> None:
    world = World()
    world.apply(CreateDatabase(name="default", created_us=START_US, if_missing=True))
    async with world.client() as client:
        content = body if isinstance(body, bytes) else None if body is None else orjson.dumps(body)
        answer = await client.request(method, path, content=content)
        assert answer.status_code < 300, answer.text
        (line,) = await lines(client)
        assert (line["event_type"], line["status_code"]) == (kind, answer.status_code)
        assert (line.get("database"), line["path"]) == (database, path.partition("?")[0])
        assert world.api.statistics().acts.recorded_total == 1


async def test_the_command_and_its_line_are_one_entry_of_the_log() -> None:
    world = World()
    async with world.client() as client:
        before = world.catalog.index
        await client.post("/api/v1/databases", json={"name": "plant"})
        assert world.catalog.index == before + 1
        assert world.catalog.audit[-1].id == world.catalog.index


async def test_what_is_refused_is_an_event_and_no_line() -> None:
    """Nothing happened, and who has no rights must not fill the log of the cluster."""
    world = World()
    async with world.client() as client, world.client(READER) as reader:
        await client.post("/api/v1/databases", json={"name": "plant"})
        before = world.catalog
        assert (await client.post("/api/v1/databases", json={"name": "plant"})).status_code == 409
        assert (await client.post("/api/v1/databases", json={"name": "a b"})).status_code == 400
        assert (await client.delete(f"{TOKENS}/99")).status_code == 404
        assert (await reader.delete(f"{TOKENS}/1")).status_code == 403
        assert world.catalog.audit is before.audit
        told = [(event["status"], event["recorded"]) for event in world.logged("administrative_act")]
        assert told == [(404, False), (400, False), (409, False), (201, True)], "the newest first"


async def test_looking_writing_and_flushing_are_no_acts() -> None:
    world = World()
    async with world.client() as client:
        for method, path in (
            ("GET", TOKENS), ("POST", "/write?db=a"), ("POST", "/api/v1/query"),
            ("POST", "/api/v1/write/line-protocol/flush"), ("GET", LOGS),
        ):  # fmt: skip
            body = b'{"sql":"SELECT 1"}' if path.endswith("query") else b"cpu v=1"
            assert (await client.request(method, path, content=body if method == "POST" else None)).status_code < 300
        assert await lines(client) == []
        assert world.logged("administrative_act") == []


async def test_secrets_are_in_neither_the_log_of_the_cluster_nor_that_of_the_node() -> None:
    world = World()
    async with world.client(None) as client:
        url = f"{TOKENS}?p={ADMIN}&name=x"
        body = {"name": "agent", "secret": "hush-hush", "password": "hush-hush", "token": "hush-hush"}
        made = await client.post(url, json=body)
        rotated = await client.post(f"{TOKENS}/2/rotate", headers={"authorization": f"Bearer {ADMIN}"})
        secrets = [made.json()["token"], rotated.json()["new_token"], ADMIN, "hush-hush"]
    assert len(world.catalog.audit) == 2
    everything = repr(world.catalog.audit) + repr([event.as_dict() for event in world.ring.select(limit=1000)])
    hashes = [token.hash for token in world.catalog.tokens.values()]
    assert not [secret for secret in secrets + hashes if secret in everything]


async def test_lines_are_found_by_kind_actor_database_and_time_newest_first() -> None:
    world = World()
    async with world.client() as client:
        for second, name in enumerate(("a", "b", "c")):
            world.clock.seconds = float(second)
            await client.post("/api/v1/databases", json={"name": name})
        await client.post(f"{TOKENS}/2/revoke")
        assert [line.get("database") for line in await lines(client)] == [None, "c", "b", "a"]
        assert [line["database"] for line in await lines(client, event_type="database.created", limit=1)] == ["c"]
        assert [line["database"] for line in await lines(client, event_type="database.*", offset=2)] == ["a"]
        assert [line["event_type"] for line in await lines(client, database="b")] == ["database.created"]
        assert await lines(client, actor="nobody") == []
        assert len(await lines(client, actor="admin")) == 4
        assert len(await lines(client, since="2026-01-01T00:00:01Z")) == 3
        assert len(await lines(client, since="2026-01-01T01:00:01+01:00", until="2026-01-01T00:00:02Z")) == 1
        assert (await client.get(f"{LOGS}?since=yesterday")).status_code == 400
        assert (await client.get(f"{LOGS}?limit=0")).status_code == 400
        stats = (await client.get("/api/v1/audit/stats?since=2026-01-01T00:00:02Z")).json()["data"]
        assert stats["by_event_type"] == {"database.created": 1, "token.revoked": 1}
        assert (stats["total"], stats["by_actor"]) == (2, {"admin": 2})


async def test_an_order_that_is_no_command_is_told_when_it_ended() -> None:
    world = World()
    async with world.client() as client:
        await client.delete("/api/v1/queries/q1")
        assert world.catalog.audit[-1].value is None
        await client.delete("/api/v1/queries/q0")
        assert len(world.catalog.audit) == 1, "a query that had ended was not stopped"


async def test_an_order_whose_line_nobody_agrees_on_is_done_and_warned_about() -> None:
    world = World()
    async with world.client() as client:
        world.proposer.error = Unavailable("no leader")
        assert (await client.delete("/api/v1/queries/q1")).status_code == 200
        (warning,) = world.logged("act_not_recorded")
        assert (warning["event_type"], warning["actor"]) == ("query.cancelled", "admin")
        acts = world.api.statistics().acts
        assert (acts.recorded_total, acts.unrecorded_total) == (0, 1)


async def test_a_command_whose_outcome_is_not_known_is_told_as_what_it_is() -> None:
    world = World()
    async with world.client() as client:
        world.proposer.error = OutcomeUnknown("lost on the way")
        assert (await client.post("/api/v1/databases", json={"name": "plant"})).status_code == 503
        assert len(world.logged("act_not_recorded")) == 1
        world.proposer.error = Unavailable("no leader")
        assert (await client.post("/api/v1/databases", json={"name": "plant"})).status_code == 503
        assert len(world.logged("act_not_recorded")) == 1, "that one was not done"


async def test_a_long_body_is_cut_to_what_fits() -> None:
    world = World()
    async with world.client() as client:
        wish = {"name": "n" * 64, "description": "d" * 1_000, "permissions": ["read"] * 90, "where": "w" * 4_000}
        assert (await client.post(TOKENS, json=wish)).status_code == 201
        (line,) = await lines(client)
        assert line["detail"]["description"] == "d" * 200 + "…"
        assert len(line["detail"]["permissions"]) == 20


def test_every_name_of_an_act_belongs_to_a_route_and_every_act_has_a_name() -> None:
    routes = {route.name: route for route in World().api.routes}
    assert EVENT_TYPES.keys() <= routes.keys()
    named = {name: event_type(route) for name, route in routes.items()}
    assert named["cluster_drain"] == "cluster.drain"
    assert named["flush"] is None and named["list_tokens"] is None and named["write_lines"] is None
    changing = [
        r for r in routes.values() if r.permission.value in ("admin", "delete") and r.method not in ("GET", "HEAD")
    ]
    assert [route.name for route in changing if named[route.name] is None] == ["flush"]


async def test_a_line_that_another_version_wrote_in_other_words_is_shown_as_it_is() -> None:
    world = World()
    world.apply(Audited(at_us=START_US, event_type="x", actor="y", detail="not json"))
    async with world.client() as client:
        (line,) = await lines(client)
        assert line["detail"] == "not json"
