"""Compaction over HTTP, with the keys that clients of Arc in Go read, whichever node is asked."""

from __future__ import annotations

import pytest

from arc.errors import AlreadyRunning, InvalidRequest, Unavailable
from tests.api.fakes import READER, World

BASE = "/api/v1/compaction"


async def test_who_compacts_and_how_it_is() -> None:
    async with World().client() as client:
        found = (await client.get(f"{BASE}/status")).json()
    assert found["holder"] == "n2"
    assert found["manager"] == {"active_jobs": 1, "total_completed": 1, "total_failed": 0}
    assert list(found["schedulers"]) == ["hourly", "daily", "late"]
    assert found["schedulers"]["daily"]["running"] and not found["schedulers"]["hourly"]["running"]
    assert found["schedulers"]["hourly"]["gate_role"] == "compactor"


async def test_totals_history_and_what_runs() -> None:
    async with World().client() as client:
        stats = (await client.get(f"{BASE}/stats")).json()
        history = (await client.get(f"{BASE}/history", params={"limit": 5})).json()
        jobs = (await client.get(f"{BASE}/jobs")).json()
    assert (stats["total_jobs_completed"], stats["total_files_compacted"], stats["total_bytes_saved"]) == (1, 4, 3000)
    assert stats["tiers"][0] == {
        "tier": "hourly", "enabled": True, "min_age_hours": 0.5, "min_files": 4, "total_compactions": 1,
        "total_files_compacted": 4, "total_bytes_saved": 3000, "total_bytes_saved_mb": 0.003,
    }  # fmt: skip
    assert history["total_jobs"] == 1 and history["recent_jobs"] == stats["recent_jobs"]
    last = history["recent_jobs"][0]
    assert (last["partition_path"], last["success"], last["compression_ratio"]) == ("db/cpu/2026/05/28/17", True, 4.0)
    assert jobs["active_jobs"] == 1 and jobs["jobs"][0]["percent"] == 25.0


@pytest.mark.parametrize(
    ("query", "tiers", "database"),
    [
        ({}, ("hourly", "daily", "late"), ""),
        ({"tier": "hourly,daily", "database": "plant"}, ("hourly", "daily"), "plant"),
    ],
)
async def test_a_trigger_is_passed_on(query: dict[str, str], tiers: tuple[str, ...], database: str) -> None:
    world = World()
    async with world.client() as client:
        answer = await client.post(f"{BASE}/trigger", params=query)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["cycle_id"], answer.json()["status"]) == (3, "running")
    assert answer.json().get("database", "") == database
    assert world.compaction.orders == [("trigger", tiers, database)]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (AlreadyRunning("cycle 3 runs already"), 409),
        (InvalidRequest("there is no tier 'x'", code="invalid_tier"), 400),
        (Unavailable("n1 does not compact; nobody does just now", code="not_compactor"), 503),
    ],
)
async def test_what_the_compactor_refuses_is_answered_so(failure: Exception, status: int) -> None:
    world = World()
    world.compaction.failure = failure
    async with world.client() as client:
        assert (await client.post(f"{BASE}/trigger")).status_code == status


async def test_pause_resume_and_cancel_reach_the_compactor() -> None:
    world = World()
    async with world.client() as client:
        for order in ("pause", "resume", "cancel"):
            assert (await client.post(f"{BASE}/{order}")).json()["holder"] == "n2"
        assert [each[0] for each in world.compaction.orders] == ["pause", "resume", "cancel"]
        assert (await client.get(f"{BASE}/status")).json()["is_paused"]
        world.compaction.runs = False
        answer = await client.post(f"{BASE}/cancel")
        assert (answer.status_code, answer.json()["code"]) == (400, "nothing_runs")


async def test_orders_are_for_admins() -> None:
    world = World()
    async with world.client(READER) as client:
        assert (await client.get(f"{BASE}/status")).status_code == 200
        for order in ("trigger", "pause", "resume", "cancel"):
            assert (await client.post(f"{BASE}/{order}")).status_code == 403
    assert world.compaction.orders == []
