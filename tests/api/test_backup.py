"""Backups over HTTP, with the keys that clients of Arc in Go read; and files for those who keep a copy elsewhere."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio

from arc.catalog.commands import WRITER, AssignLease, DeclareColumns
from arc.catalog.schemas import ColumnSchema
from arc.ids import NodeId
from tests.api.fakes import READER, START_US, World

BASE = "/api/v1/backup"
UNKNOWN = "backup-20260101-000000-00000000"


def with_a_database() -> World:
    world = World()
    world.apply(
        DeclareColumns(database="plant", measurement="cpu", columns=(ColumnSchema("v", "float"),), created_us=START_US)
    )
    world.apply(AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=0))
    return world


async def ended(client: httpx.AsyncClient) -> dict[str, Any]:
    while True:
        await trio.lowlevel.checkpoint()  # Asking in place is no pause for anybody else.
        found: dict[str, Any] = (await client.get(f"{BASE}/status")).json()
        if found["status"] != "running":
            return found


async def test_a_backup_is_taken_looked_at_verified_and_deleted() -> None:
    world = with_a_database()
    async with trio.open_nursery() as nursery, world.client() as client:
        nursery.start_soon(world.deps.backups.run)
        assert (await client.get(f"{BASE}/status")).json()["status"] == "idle"
        begun = await client.post(BASE)
        assert begun.status_code == 202 and begun.json()["status"] == "running"
        number = begun.json()["backup_id"]
        done = await ended(client)
        assert (done["status"], done["operation"], done["backup_id"]) == ("completed", "backup", number)
        assert world.node.flushes == 1
        assert {"total_files", "processed_files", "skipped_files", "total_bytes", "processed_bytes"} <= done.keys()
        listed = (await client.get(BASE)).json()
        assert (listed["count"], listed["backups"][0]["backup_id"]) == (1, number)
        assert listed["backups"][0].keys() >= {
            "backup_id", "created_at", "backup_type", "total_files", "total_size_bytes", "database_count",
        }  # fmt: skip
        [database] = (await client.get(f"{BASE}/{number}")).json()["databases"]
        assert (database["name"], database["measurements"][0]["name"]) == ("plant", "cpu")
        assert (await client.post(f"{BASE}/verify", json={"backup_id": number})).status_code == 202
        assert (await ended(client))["operation"] == "verify"
        assert (await client.delete(f"{BASE}/{number}")).status_code == 200
        assert (await client.get(f"{BASE}/{number}")).status_code == 404
        nursery.cancel_scope.cancel()


async def test_a_second_operation_is_refused_while_one_runs() -> None:
    world = with_a_database()
    async with world.client() as client:  # Nobody carries anything out, so the first one stays.
        await client.post(BASE)
        for method, path, body in (
            ("POST", BASE, None),
            ("POST", f"{BASE}/verify", {"backup_id": UNKNOWN}),
            ("POST", f"{BASE}/restore", {"backup_id": UNKNOWN, "confirm": True}),
            ("DELETE", f"{BASE}/{UNKNOWN}", None),
        ):
            refused = await client.request(method, path, json=body)
            assert refused.status_code == 409, refused.text
            assert (refused.json()["status"], refused.json()["operation"]) == ("running", "backup")


async def test_a_restore_tells_how_it_ended() -> None:
    world = with_a_database()
    async with trio.open_nursery() as nursery, world.client() as client:
        nursery.start_soon(world.deps.backups.run)
        number = (await client.post(BASE)).json()["backup_id"]
        await ended(client)
        begun = await client.post(f"{BASE}/restore", json={"backup_id": number, "confirm": True})
        assert begun.status_code == 202
        failed = await ended(client)
        assert (failed["status"], failed["code"]) == ("failed", "exists") and "plant" in failed["error"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("/restore", {"backup_id": UNKNOWN}, 400, "confirm"),
        ("/restore", {"confirm": True}, 400, "backup_id"),
        ("/restore", {"backup_id": "../x", "confirm": True}, 400, "id of a backup"),
        ("/restore", {"backup_id": UNKNOWN, "confirm": True, "restore_config": True}, 400, "configuration"),
        ("/verify", {"backup_id": "x"}, 400, "id of a backup"),
        ("", {"include_tokens": "yes"}, 400, "include_tokens"),
    ],
)
async def test_a_wish_that_makes_no_sense_is_refused(path: str, body: Any, status: int, told: str) -> None:
    world = with_a_database()
    async with world.client() as client:
        answer = await client.post(f"{BASE}{path}", json=body)
        assert answer.status_code == status and told in answer.json()["error"], answer.text
        assert (await client.get(f"{BASE}/nonsense")).status_code == 400
        assert (await client.get(f"{BASE}/{UNKNOWN}")).status_code == 404


async def test_only_an_admin_comes_near_backups_and_files() -> None:
    async with with_a_database().client(READER) as client:
        for method, path in (
            ("GET", BASE),
            ("POST", BASE),
            ("GET", f"{BASE}/status"),
            ("GET", f"{BASE}/{UNKNOWN}"),
            ("POST", "/api/v1/export/files"),
            ("GET", "/api/v1/export/file?path=a&sha256=b"),
        ):
            assert (await client.request(method, path)).status_code == 403, path


async def test_files_for_an_export_are_those_of_one_version() -> None:
    world = with_a_database()
    async with world.client() as client:
        index = world.catalog.index
        found = (await client.post("/api/v1/export/files")).json()
        assert found["tables"] == [
            {"database": "plant", "measurement": "cpu", "columns": [{"name": "v", "kind": "float"}], "files": []}
        ]
        assert found["catalog_index"] == index
        assert (await client.post("/api/v1/export/files", json={"databases": ["x"]})).status_code == 404
        assert (await client.get("/api/v1/export/file?path=a&sha256=b")).status_code == 404
        assert (await client.get("/api/v1/export/file")).status_code == 400
