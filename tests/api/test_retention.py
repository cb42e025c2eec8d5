"""Retention policies over HTTP, with the keys that clients of Arc in Go read."""

from __future__ import annotations

from typing import Any

import pytest

from arc.catalog.commands import WRITER, AssignLease, CreateDatabase, RegisterFiles
from arc.catalog.commands import DeclareColumns as Declare
from arc.catalog.schemas import ColumnSchema
from arc.ids import NodeId
from tests.api.fakes import READER, START_US, World
from tests.catalog.facts import file

BASE = "/api/v1/retention"
WISH: dict[str, Any] = {"name": "short", "database": "plant", "retention_days": 30, "buffer_days": 7}


def with_old_rows() -> World:
    world = World()
    world.apply(CreateDatabase(name="plant", created_us=START_US))
    world.apply(
        Declare(database="plant", measurement="cpu", columns=(ColumnSchema("v", "float"),), created_us=START_US)
    )
    world.apply(AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=0))
    epoch = world.catalog.lease_epoch(WRITER)
    assert world.apply(RegisterFiles(files=(file("a", database="plant", rows=5),), epoch=epoch)).ok
    return world


async def test_a_policy_is_made_looked_at_changed_and_forgotten() -> None:
    world = with_old_rows()
    async with world.client() as client:
        made = await client.post(BASE, json=WISH)
        assert made.status_code == 201, made.text
        one = f"{BASE}/{made.json()['id']}"
        assert made.json() == {
            "id": START_US, **WISH, "measurement": None, "is_active": True, "last_execution_time": None,
            "last_execution_status": None, "last_deleted_count": None, "created_at": "2026-01-01T00:00:00.000Z",
            "updated_at": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip
        assert (await client.get(BASE)).json() == {"policies": [made.json()], "count": 1}
        changed = await client.put(one, json={"retention_days": 60, "measurement": "cpu", "is_active": False})
        assert changed.status_code == 200
        assert (changed.json()["retention_days"], changed.json()["buffer_days"]) == (60, 7)
        assert (changed.json()["measurement"], changed.json()["is_active"]) == ("cpu", False)
        assert (await client.delete(one)).json()["success"] is True
        assert (await client.get(one)).status_code == 404


async def test_an_execution_is_looked_at_first_confirmed_and_remembered() -> None:
    world = with_old_rows()
    async with world.client() as client:
        number = (await client.post(BASE, json=WISH)).json()["id"]
        dry = (await client.post(f"{BASE}/{number}/execute", json={"dry_run": True})).json()
        refused = await client.post(f"{BASE}/{number}/execute", json={"dry_run": False})
        assert refused.status_code == 400 and "confirm" in refused.json()["error"]
        assert world.catalog.totals().files == 1
        done = (await client.post(f"{BASE}/{number}/execute", json={"confirm": True})).json()
        assert (dry["dry_run"], done["dry_run"]) == (True, False)
        for document in (dry, done):
            assert (document["deleted_count"], document["files_deleted"]) == (5, 1)
            assert document["affected_measurements"] == ["cpu"]
            assert document["cutoff_date"] == "2025-11-25T00:00:00.000Z"
        assert world.catalog.totals().files == 0
        [run] = (await client.get(f"{BASE}/{number}/executions?limit=5")).json()["executions"]
        assert (run["status"], run["deleted_count"], run["policy_id"]) == ("completed", 5, number)
        assert (await client.get(f"{BASE}/{number}")).json()["last_deleted_count"] == 5
        await client.put(f"{BASE}/{number}", json={"is_active": False})
        assert (await client.post(f"{BASE}/{number}/execute", json={"confirm": True})).status_code == 400


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"database": "nowhere"}, 404, "nowhere"),
        ({"database": "no/where"}, 400, "database"),
        ({"retention_days": 0}, 400, "retention_days"),
        ({"retention_days": True}, 400, "retention_days"),
        ({"retention_days": "30"}, 400, "retention_days"),
        ({"buffer_days": 30}, 400, "buffer_days"),
        ({"name": ""}, 400, "name"),
        ({"measurement": "a\nb"}, 400, "measurement"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused_with_the_rule(
    change: dict[str, Any], status: int, told: str
) -> None:
    world = with_old_rows()
    async with world.client() as client:
        answer = await client.post(BASE, json=WISH | change)
        assert answer.status_code == status, answer.text
        assert told in answer.json()["error"]
        assert (await client.get(BASE)).json()["count"] == 0


async def test_a_name_is_taken_once_and_only_an_admin_sets_policies() -> None:
    world = with_old_rows()
    async with world.client() as client:
        assert (await client.post(BASE, json=WISH)).status_code == 201
        world.clock.seconds += 1
        assert (await client.post(BASE, json=WISH)).status_code == 409
    async with world.client(READER) as client:
        assert (await client.get(BASE)).status_code == 200
        assert (await client.post(BASE, json=WISH)).status_code == 403
