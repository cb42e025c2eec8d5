"""Continuous queries and schedulers over HTTP, with the keys that clients of Arc in Go read."""

from __future__ import annotations

from typing import Any

import pytest

from arc.catalog.commands import WRITER, AssignLease, CreateDatabase, DeclareColumns
from arc.catalog.schemas import ColumnSchema
from arc.compaction import retention
from arc.ids import NodeId
from tests.api.fakes import READER, START_US, World

BASE = "/api/v1/continuous_queries"
HOUR_US = 3_600_000_000
WISH: dict[str, Any] = {
    "name": "hourly", "database": "metrics", "source_measurement": "cpu", "destination_measurement": "cpu_1h",
    "query": "SELECT date_trunc('hour', time) AS time, host, avg(v) AS v FROM metrics.cpu "
    "WHERE time >= {start_time} AND time < {end_time} GROUP BY 1, 2",
    "interval": "1h",
}  # fmt: skip


def world_with_rows(*, writes: str = "n1") -> World:
    """Two rows in the hour before the world's start, which is the beginning of 2026."""
    world = World()
    world.apply(CreateDatabase(name="metrics", created_us=START_US))
    columns = (ColumnSchema("host", "tag"), ColumnSchema("v", "float"))
    world.apply(DeclareColumns(database="metrics", measurement="cpu", columns=columns, created_us=START_US))
    world.apply(AssignLease(lease=WRITER, node=NodeId(writes), expect_epoch=0))
    world.engine.insert(START_US - HOUR_US, "a", 1.0)
    world.engine.insert(START_US - 1, "a", 3.0)
    return world


async def test_a_query_is_made_looked_at_changed_and_forgotten() -> None:
    world = world_with_rows()
    async with world.client() as client:
        made = await client.post(BASE, json=WISH | {"retention_days": None, "description": None})
        assert made.status_code == 201, made.text
        one = f"{BASE}/{made.json()['id']}"
        flat = {key: value for key, value in made.json().items() if key not in ("success", "query")}
        assert made.json()["query"] == flat | {"query": WISH["query"]}, "the Python client looks there, others do not"
        assert made.json()["query"] == {
            "id": START_US, **WISH, "description": None, "lateness": "10m", "tag_columns": None, "retention_days": None,
            "delete_source_after_days": None, "is_active": True, "last_execution_time": None,
            "last_execution_status": None, "last_error": None, "last_processed_time": None,
            "last_records_written": None, "open_windows": 0, "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip
        assert (await client.get(BASE)).json() == {"queries": [made.json()["query"]], "count": 1}
        assert (await client.get(f"{BASE}?database=other")).json()["count"] == 0
        assert (await client.get(f"{BASE}?is_active=false")).json()["count"] == 0
        changed = await client.put(one, json={"interval": "0 3 * * *", "is_active": False, "tag_columns": ["host"]})
        assert changed.status_code == 200, changed.text
        assert (changed.json()["interval"], changed.json()["tag_columns"]) == ("0 3 * * *", ["host"])
        assert changed.json()["query"]["query"] == WISH["query"]
        assert (await client.get(f"{BASE}?is_active=false&database=metrics")).json()["count"] == 1
        moved = await client.put(one, json={"destination_measurement": "elsewhere"})
        assert moved.status_code == 400
        assert (await client.delete(one)).json()["success"] is True
        assert (await client.get(one)).status_code == 404
        assert (await client.post(f"{one}/execute", json={})).status_code == 404


async def test_an_execution_is_previewed_done_and_remembered() -> None:
    world = world_with_rows()
    async with world.client() as client:
        number = (await client.post(BASE, json=WISH)).json()["id"]
        span = {"start_time": "2025-12-31T22:30:00+00:00", "end_time": "2026-01-01T00:00:00"}
        dry = (await client.post(f"{BASE}/{number}/execute", json={"dry_run": True, **span})).json()
        assert world.catalog.totals().files == 0
        done = (await client.post(f"{BASE}/{number}/execute", json={"dry_run": False, **span})).json()
        for document in (dry, done):
            assert (document["query_id"], document["query_name"]) == (number, "hourly")
            assert (document["status"], document["records_written"], document["windows"]) == ("completed", 1, 2)
            assert document["start_time"] == "2025-12-31T22:00:00.000Z"
            assert document["end_time"] == "2026-01-01T00:00:00.000Z"
            assert document["destination_measurement"] == "cpu_1h"
            assert "'2025-12-31T22:00:00Z'" in document["executed_query"]
        assert (dry["dry_run"], dry["records_read"], done["dry_run"], done["records_read"]) == (True, None, False, 2)
        assert world.catalog.totals().files == 1
        history = (await client.get(f"{BASE}/{number}/executions?limit=1")).json()
        [run] = history["executions"]
        assert (run["id"], run["status"], run["cause"], run["records_written"]) == (2, "completed", "order", 1)
        assert run["execution_id"] == done["execution_id"]
        shown = (await client.get(f"{BASE}/{number}")).json()
        assert shown["last_processed_time"] == "2026-01-01T00:00:00.000Z"
        assert (shown["last_execution_status"], shown["last_records_written"]) == ("completed", 1)
        again = (await client.post(f"{BASE}/{number}/execute")).json()
        assert (again["windows"], again["records_written"]) == (0, 0), "nothing is due"


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"database": "nowhere"}, 404, "nowhere"),
        ({"query": "SELECT 1"}, 400, "start_time"),
        ({"interval": "often"}, 400, "duration"),
        ({"interval": "* * * * * *"}, 400, "five fields"),
        ({"destination_measurement": "cpu"}, 400, "destination"),
        ({"retention_days": 0}, 400, "retention_days"),
        ({"delete_source_after_days": True}, 400, "delete_source_after_days"),
        ({"tag_columns": "host"}, 400, "tag_columns"),
        ({"is_active": "yes"}, 400, "is_active"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused_with_the_rule(
    change: dict[str, Any], status: int, told: str
) -> None:
    world = world_with_rows()
    async with world.client() as client:
        answer = await client.post(BASE, json=WISH | change)
        assert answer.status_code == status, answer.text
        assert told in answer.json()["error"]
        assert (await client.get(BASE)).json()["count"] == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"start_time": "yesterday"}, 400),
        ({"start_time": "2026-01-01T00:00:00Z"}, 409),
        ({"start_time": "2025-12-31T00:00:00Z", "end_time": "2025-12-30T00:00:00Z"}, 400),
        ({"start_time": "1990-01-01T00:00:00Z"}, 413),
    ],
)
async def test_an_order_that_makes_no_sense_is_refused(body: dict[str, str], status: int) -> None:
    world = world_with_rows()
    async with world.client() as client:
        number = (await client.post(BASE, json=WISH)).json()["id"]
        assert (await client.post(f"{BASE}/{number}/execute", json=body)).status_code == status


async def test_days_of_a_query_are_retention_policies_that_come_and_go_with_it() -> None:
    world = world_with_rows()

    def kept() -> dict[str | None, int]:
        return {policy.measurement: policy.retention_days for policy in retention.policies(world.catalog)}

    async with world.client() as client:
        wish = WISH | {"retention_days": 365, "delete_source_after_days": 30}
        number = (await client.post(BASE, json=wish)).json()["id"]
        assert kept() == {"cpu_1h": 365, "cpu": 30}
        await client.put(f"{BASE}/{number}", json={"retention_days": 400, "delete_source_after_days": None})
        assert kept() == {"cpu_1h": 400}
        await client.put(f"{BASE}/{number}", json={"interval": "2h"})
        assert kept() == {"cpu_1h": 400}
        await client.delete(f"{BASE}/{number}")
        assert kept() == {}


async def test_only_an_admin_sets_and_executes_queries() -> None:
    world = world_with_rows()
    async with world.client() as client:
        number = (await client.post(BASE, json=WISH)).json()["id"]
    async with world.client(READER) as client:
        assert (await client.get(BASE)).status_code == 200
        assert (await client.post(BASE, json=WISH)).status_code == 403
        assert (await client.post(f"{BASE}/{number}/execute")).status_code == 403
        assert (await client.post("/api/v1/schedulers/cq/reload")).status_code == 403


async def test_schedulers_tell_what_this_node_carries_out() -> None:
    world = world_with_rows()
    async with world.client() as client:
        number = (await client.post(BASE, json=WISH)).json()["id"]
        wish = {"name": "short", "database": "metrics", "retention_days": 3}
        policy = (await client.post("/api/v1/retention", json=wish)).json()["id"]
        assert (await client.get("/api/v1/schedulers")).json() == {
            "cq_scheduler": {
                "running": True, "license_valid": True, "job_count": 1,
                "jobs": [{"cq_id": number, "cq_name": "hourly", "interval": "1h"}],
            },
            "retention_scheduler": {
                "running": True, "schedule": "@every 3600s", "license_valid": True, "can_run": True,
                "gate_role": "writer", "next_run": "2026-01-01T00:00:00.000Z",
            },
        }  # fmt: skip
        assert (await client.post("/api/v1/schedulers/cq/reload")).json()["job_count"] == 1
        assert "1 policies" in (await client.post("/api/v1/schedulers/retention/trigger")).json()["message"]
        assert len(retention.runs(world.catalog, policy)) == 1
        later = (await client.get("/api/v1/schedulers")).json()["retention_scheduler"]["next_run"]
        assert later == "2026-01-01T01:00:00.000Z"


async def test_a_standby_carries_no_schedule_out_and_says_so() -> None:
    world = world_with_rows(writes="n2")
    async with world.client() as client:
        found = (await client.get("/api/v1/schedulers")).json()
        assert found["cq_scheduler"]["running"] is found["retention_scheduler"]["running"] is False
        for path in ("cq/reload", "retention/trigger"):
            answer = await client.post(f"/api/v1/schedulers/{path}")
            assert answer.status_code == 503 and "writer" in answer.json()["error"]
