"""Databases, tokens, health, metrics and the words of InfluxDB's and arcli's handshakes."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from arc.api.health import spoken_duration
from arc.catalog.commands import CreateDatabase, DeclareColumns
from arc.catalog.schemas import ColumnSchema
from arc.errors import OutcomeUnknown, Unavailable
from tests.api.fakes import ADMIN, NOBODY, READER, START_US, WRITER, World


def with_data() -> World:
    world = World()
    for name in ("plant", "_hidden"):
        if name[0] != "_":
            world.apply(CreateDatabase(name=name, created_us=START_US))
    column = ColumnSchema("v", "float")
    world.apply(DeclareColumns(database="plant", measurement="cpu", columns=(column,), created_us=START_US))
    return world


async def test_health_has_the_texts_that_arcli_and_the_sdk_require() -> None:
    world = World()
    async with world.client(None) as client:
        assert (await client.get("/health")).json()["uptime"] == "0s"
        world.clock.seconds = 3723
        body = (await client.get("/health")).json()
    assert body == {
        "status": "ok", "time": "2026-01-01T01:02:03.000Z", "uptime": "1h2m", "uptime_sec": 3723, "version": "0.0.1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (61, "1m1s"), (3600, "1h"), (3601, "1h"), (90_061, "1d1h")],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: int, text: str) -> None:
    assert spoken_duration(seconds) == text


async def test_readiness_is_told_for_writes_and_queries_apart() -> None:
    world = World()
    async with world.client(None) as client:

        async def statuses() -> list[int]:
            return [
                (await client.get(path)).status_code for path in ("/ready", "/ready/write", "/ready/query", "/health")
            ]

        assert await statuses() == [200, 200, 200, 200]
        assert (await client.get("/ready")).json()["status"] == "ready"
        world.node.write_reason = "recovering"
        assert await statuses() == [503, 503, 200, 200]
        body = (await client.get("/ready")).json()
        assert (body["status"], body["reason"]) == ("not_ready", "recovering")
        world.node.query_reason = "stopping"
        assert await statuses() == [503, 503, 503, 200]


async def test_databases_are_listed_made_and_looked_at() -> None:
    world = with_data()
    async with world.client() as client:
        assert (await client.get("/api/v1/databases/")).json() == {
            "databases": [{"name": "plant", "measurement_count": 1, "created_at": "2026-01-01T00:00:00.000Z"}],
            "count": 1,
        }
        made = await client.post("/api/v1/databases", json={"name": "lab"})
        assert (made.status_code, made.json()["measurement_count"]) == (201, 0)
        assert (await client.post("/api/v1/databases", json={"name": "lab"})).status_code == 409
        for bad in ({"name": "1x"}, {"name": "system"}, {"name": 3}, {}, {"name": ""}):
            assert (await client.post("/api/v1/databases", json=bad)).status_code == 400, bad
        assert (await client.get("/api/v1/databases/lab")).json()["name"] == "lab"
        assert (await client.get("/api/v1/databases/none")).status_code == 404
        assert (await client.get("/api/v1/databases/none/measurements")).status_code == 404
        assert (await client.get("/api/v1/databases/plant/measurements")).json() == {
            "database": "plant", "measurements": [{"name": "cpu", "file_count": 0}], "count": 1,
        }  # fmt: skip
        assert (await client.delete("/api/v1/databases/plant?confirm=true")).json()["error"] == "delete is not enabled"


async def test_measurements_are_listed_across_databases() -> None:
    async with with_data().client(READER) as client:
        body = (await client.get("/api/v1/measurements")).json()
        assert (body["success"], body["count"]) == (True, 1)
        assert body["measurements"][0] == {
            "database": "plant", "measurement": "cpu", "file_count": 0, "total_size_mb": 0.0,
            "storage_path": "plant/cpu", "row_count": 0, "columns": 2,
        }  # fmt: skip
        assert (await client.get("/api/v1/measurements?database=other")).json()["measurements"] == []


@pytest.mark.parametrize(("error", "status"), [(Unavailable("no quorum"), 503), (OutcomeUnknown("perhaps"), 503)])
async def test_a_change_that_cannot_be_agreed_now_is_503(error: Exception, status: int) -> None:
    world = World()
    world.proposer.error = error
    async with world.client() as client:
        answer = await client.post("/api/v1/databases", json={"name": "lab"})
    assert answer.status_code == status
    assert "retry-after" in answer.headers


async def test_a_token_lives_from_making_to_deleting() -> None:
    world = World()
    async with world.client() as admin:
        made = await admin.post("/api/v1/auth/tokens", json={"name": "probe", "description": "d", "expires_in": "24h"})
        assert made.status_code == 201
        secret, token_id = made.json()["token"], made.json()["id"]
        one = f"/api/v1/auth/tokens/{token_id}"
        shown = (await admin.get(one)).json()["token"]
        assert (shown["permissions"], shown["expires_at"]) == (["read", "write"], "2026-01-02T00:00:00.000Z")
        assert secret not in (await admin.get("/api/v1/auth/tokens")).text
        async with world.client(secret) as probe:
            verified = (await probe.get("/api/v1/auth/verify")).json()
            assert (verified["valid"], verified["token_info"]["name"]) == (True, "probe")
            assert (await probe.get("/api/v1/databases")).status_code == 200
            assert (await admin.patch(one, json={"permissions": ["write"], "name": None})).status_code == 200
            assert (await probe.get("/api/v1/databases")).status_code == 403
            rotated = (await admin.post(f"{one}/rotate")).json()["new_token"]
            answer = await probe.get("/api/v1/auth/verify")
            assert (answer.status_code, answer.json()["valid"]) == (401, False)
        async with world.client(rotated) as probe:
            assert (await probe.get("/api/v1/auth/verify")).status_code == 200
            assert (await admin.post(f"{one}/revoke")).status_code == 200
            assert (await probe.get("/api/v1/auth/verify")).status_code == 401
        assert (await admin.get(one)).json()["token"]["enabled"] is False
        assert (await admin.delete(one)).json()["success"] is True
        missing = await admin.get(one)
        assert missing.status_code == 404
        assert "not found" in missing.json()["error"]
    assert world.logged("token_created")[0]["by"] == "admin"
    assert secret not in str(world.ring.select(limit=1000))


async def test_absent_permissions_mean_read_and_write_and_an_empty_list_means_none() -> None:
    world = World()
    async with world.client() as admin:
        for wish, got in (
            ({}, ["read", "write"]), ({"permissions": None}, ["read", "write"]), ({"permissions": []}, []),
            ({"permissions": ["admin", "read"]}, ["read", "admin"]),
        ):  # fmt: skip
            made = (
                await admin.post("/api/v1/auth/tokens", json={"name": f"t{len(world.catalog.tokens)}", **wish})
            ).json()
            shown = (await admin.get(f"/api/v1/auth/tokens/{made['id']}")).json()["token"]
            assert shown["permissions"] == got


async def test_bad_wishes_for_a_token_are_told_apart() -> None:
    async with World().client() as admin:
        for wish, status in (
            ({"name": "admin"}, 409), ({}, 400), ({"name": "x", "permissions": ["root"]}, 400),
            ({"name": "x", "permissions": "read"}, 400), ({"name": "x", "expires_in": "soon"}, 400),
            ({"name": "x", "expires_in": 5}, 400), ({"name": "x\n"}, 400),
        ):  # fmt: skip
            assert (await admin.post("/api/v1/auth/tokens", json=wish)).status_code == status, wish
        assert (await admin.get("/api/v1/auth/tokens/abc")).status_code == 400
        for method, path in (("PATCH", ""), ("DELETE", ""), ("POST", "/revoke"), ("POST", "/rotate")):
            answer = await admin.request(method, f"/api/v1/auth/tokens/99{path}", json={})
            assert answer.status_code == 404


async def test_ping_answers_as_influxdb_does() -> None:
    async with World().client(None) as client:
        for method in ("GET", "HEAD"):
            answer = await client.request(method, "/ping")
            assert (answer.status_code, answer.content) == (204, b"")
            assert answer.headers["x-influxdb-version"].startswith("1.8")
            assert answer.headers["x-influxdb-build"] == "arc"


async def test_telegraf_and_the_influx_shell_can_make_and_list_databases() -> None:
    world = World()
    async with world.client(WRITER) as client:
        made = await client.post("/query", data={"q": 'CREATE DATABASE "telegraf"'})
        assert made.json() == {"results": [{"statement_id": 0}]}
        again = await client.post("/query?q=create database telegraf WITH DURATION 3d;")
        assert again.status_code == 200, "making it twice is fine"
        assert (await client.get("/query?q=SHOW DATABASES")).status_code == 403
    async with world.client(READER) as client:
        listed = (await client.get("/query", params={"q": "show databases ;"})).json()
        assert listed["results"][0]["series"] == [{"name": "databases", "columns": ["name"], "values": [["telegraf"]]}]
        assert (await client.post("/query", data={"q": "CREATE DATABASE x"})).status_code == 403
        refused = await client.get("/query", params={"q": "SELECT * FROM cpu"})
        assert refused.status_code == 400
        assert "/api/v1/query" in refused.headers["x-influxdb-error"]
        assert (await client.get("/query")).status_code == 400
    async with world.client() as client:
        assert (await client.post("/query", data={"q": 'CREATE DATABASE "a b"'})).status_code == 400
        assert (await client.post("/query", data={"q": "CREATE DATABASE x; DROP DATABASE x"})).status_code == 400


@pytest.mark.parametrize("path", ["", "/nodes", "/nodes/n1", "/local", "/health", "/files"])
async def test_a_lone_node_answers_every_cluster_route_with_one_sentence(path: str) -> None:
    async with World().client() as client:
        answer = await client.get(f"/api/v1/cluster{path}")
    assert answer.status_code == 200
    assert answer.json()["enabled"] is False
    assert answer.json()["mode"] == "standalone"


async def test_metrics_are_text_that_a_scraper_can_read_and_each_name_comes_once() -> None:
    world = World()
    async with world.client(WRITER) as client:
        await client.post("/write", content=b"cpu v=1 1\n")
        await client.get("/nope")
        text = (await client.get("/metrics")).text
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families)
    samples = {(s.name, tuple(s.labels.items())): s.value for family in families for s in family.samples}
    assert samples["arc_http_requests_total", ()] == 2
    assert samples["arc_http_responses_total", (("status", "4xx"),)] == 1
    assert samples["arc_lineprotocol_records_total", ()] == 1
    assert samples["arc_http_latency_seconds_bucket", (("le", "+Inf"),)] == 2
    assert samples["arc_http_latency_seconds_count", ()] == 2
    assert samples["arc_buffer_rows", ()] == 3
    assert samples["arc_flushes_total", ()] == 2


async def test_metrics_come_as_json_too() -> None:
    async with World().client(None) as client:
        flat = (await client.get("/api/v1/metrics")).json()
        same = (await client.get("/metrics", headers={"accept": "application/json"})).json()
        grouped = (await client.get("/api/v1/metrics/endpoints")).json()
    assert flat["arc_buffer_rows"] == same["arc_buffer_rows"] == 3
    assert grouped["buffer"] == {"rows": 3}
    assert "timestamp" in flat


async def test_recent_logs_are_for_admins_and_can_be_narrowed() -> None:
    world = World()
    world.log.bind(component="wal").info("segment_full", segment=3)
    world.log.error("disk_failed")
    world.log.debug("chatter")
    async with world.client() as client:
        body = (await client.get("/api/v1/logs")).json()
        assert [one["message"] for one in body["logs"]] == ["chatter", "disk_failed", "segment_full"]
        assert body["logs"][2] == {
            "timestamp": "2026-01-01T00:00:00.000Z", "level": "info", "component": "wal", "message": "segment_full",
            "segment": 3,
        }  # fmt: skip
        assert (await client.get("/api/v1/logs?level=warn")).json()["count"] == 1
        assert (await client.get("/api/v1/logs?limit=1")).json()["count"] == 1
        for bad in ("limit=0", "limit=1001", "level=loud", "since_minutes=x"):
            assert (await client.get(f"/api/v1/logs?{bad}")).status_code == 400
        world.clock.seconds = 3600.1
        assert (await client.get("/api/v1/logs")).json()["count"] == 0
    for token in (READER, WRITER, NOBODY):
        async with world.client(token) as client:
            assert (await client.get("/api/v1/logs")).status_code == 403


async def test_no_secret_is_ever_logged() -> None:
    world = World()
    async with world.client(ADMIN) as client:
        await client.get("/api/v1/databases?p=" + ADMIN)
        await client.post("/api/v1/databases", content=b"{")
    assert ADMIN not in str(world.ring.select(limit=1000))
