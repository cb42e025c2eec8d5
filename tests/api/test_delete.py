"""Deleting over HTTP, with the keys that clients of Arc in Go read."""

from __future__ import annotations

from typing import Any

import pytest

from arc.catalog.commands import CreateToken
from arc.deletion.config import DeleteConfig
from arc.deletion.orders import DeleteOrder, DropOrder, Outcome
from arc.errors import InvalidRequest, OutcomeUnknown, Unavailable
from arc.security.tokens import hash_token
from tests.api.fakes import READER, START_US, WRITER, World
from tests.api.test_resources import with_data

URL = "/api/v1/delete"
WISH: dict[str, Any] = {"database": "plant", "measurement": "cpu", "where": "host = 'a'"}
DONE = Outcome(rows=7, files=3, rewritten=2, paths=("p/1", "p/2"), milliseconds=1.23456, index=5)


def enabled() -> World:
    world = with_data()
    world.deletions.config = DeleteConfig(enabled=True, confirmation_threshold=5, max_rows_per_delete=9)
    world.deletions.outcome = DONE
    return world


@pytest.mark.parametrize("path", [URL, URL + "/"])
async def test_rows_are_deleted_or_counted(path: str) -> None:
    world = enabled()
    async with world.client() as client:
        answer = await client.post(path, json={**WISH, "confirm": True})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "success": True, "deleted_count": 7, "affected_files": 3, "rewritten_files": 2,
            "execution_time_ms": 1.235, "dry_run": False, "files_processed": ["p/1", "p/2"],
        }  # fmt: skip
        assert (await client.post(path, json={**WISH, "dry_run": True})).json()["dry_run"] is True
    first = DeleteOrder(database="plant", measurement="cpu", where="host = 'a'", is_confirmed=True)
    dry = DeleteOrder(database="plant", measurement="cpu", where="host = 'a'", is_dry=True)
    assert world.deletions.orders == [first, dry]
    told = [event for event in world.ring.select(limit=100) if event.message == "delete_ordered"]
    assert [event.fields["by"] for event in told] == ["admin"], "a dry run changes nothing"


@pytest.mark.parametrize(
    "change",
    [
        {"database": ""}, {"database": "no/where"}, {"measurement": "a\nb"}, {"measurement": None}, {"where": ""},
        {"where": 7}, {"where": None}, {"dry_run": "yes"}, {"confirm": 1},
    ],
)  # fmt: skip
async def test_an_order_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    world = enabled()
    async with world.client() as client:
        answer = await client.post(URL, json=WISH | change)
    assert answer.status_code == 400, answer.text
    assert world.deletions.orders == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("not confirmed", code="not_confirmed"), 400),
        (Unavailable("3 files are left: the same order again goes on"), 503),
        (OutcomeUnknown("nobody knows"), 503),
    ],
)
async def test_what_went_wrong_is_told(error: Exception, status: int) -> None:
    world = enabled()
    world.deletions.error = error
    async with world.client() as client:
        answer = await client.post(URL, json=WISH)
    assert (answer.status_code, answer.json()["success"]) == (status, False)
    assert str(error) in answer.json()["error"]


async def test_where_it_is_not_enabled_nothing_is_deleted_and_the_settings_say_so() -> None:
    world = with_data()
    async with world.client() as client:
        for answer in (
            await client.post(URL, json=WISH),
            await client.delete("/api/v1/databases/plant?confirm=true"),
            await client.delete("/api/v1/databases/plant/measurements/cpu?confirm=true"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (403, "delete_disabled")
        config = (await client.get(f"{URL}/config")).json()
    assert world.deletions.orders == []
    assert (config["enabled"], config["implementation"]) == (False, "rewrite-based")
    assert (config["confirmation_threshold"], config["max_rows_per_delete"]) == (10_000, 1_000_000)
    assert set(config["performance_impact"]) == {"writes", "queries", "deletes"}


@pytest.mark.parametrize(
    ("path", "order"),
    [
        ("/api/v1/databases/plant", DropOrder(database="plant")),
        ("/api/v1/databases/plant/measurements/cpu", DropOrder(database="plant", measurement="cpu")),
    ],
)
async def test_a_drop_is_confirmed_and_told(path: str, order: DropOrder) -> None:
    world = enabled()
    async with world.client() as client:
        for query in ("", "?confirm=false", "?confirm=1"):
            answer = await client.delete(path + query)
            assert (answer.status_code, answer.json()["code"]) == (400, "not_confirmed")
        assert world.deletions.orders == []
        answer = await client.delete(path + "?confirm=true")
        assert (answer.status_code, answer.json()["files_deleted"]) == (200, 3)
        assert (await client.delete("/api/v1/databases/none?confirm=true")).status_code == 404
    assert world.deletions.orders == [order]


async def test_a_token_with_the_right_to_delete_deletes_rows_and_drops_nothing() -> None:
    world = enabled()
    hash_ = hash_token("a token that may delete, and no more")
    world.apply(CreateToken(name="deleter", hash=hash_, permissions=("delete",), created_us=START_US))
    async with world.client("a token that may delete, and no more") as client:
        assert (await client.post(URL, json=WISH)).status_code == 200
        assert (await client.delete("/api/v1/databases/plant?confirm=true")).status_code == 403
    assert len(world.deletions.orders) == 1


async def test_whoever_may_not_delete_does_not() -> None:
    world = enabled()
    for token in (READER, WRITER):
        async with world.client(token) as client:
            assert (await client.post(URL, json=WISH)).status_code == 403
            assert (await client.get(f"{URL}/config")).status_code == 403
            assert (await client.delete("/api/v1/databases/plant?confirm=true")).status_code == 403
            assert (await client.delete("/api/v1/databases/plant/measurements/cpu?confirm=true")).status_code == 403
    assert world.deletions.orders == []
