"""Bodies are counted while they come, slots are given back, and nothing is read that is not paid for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from arc.api.config import ServerConfig
from arc.api.errors import ClientGone
from arc.api.heads import Head
from arc.api.limits import CHUNK_RESERVE_BYTES, Body, BodyStalled, Slots
from arc.errors import InvalidRequest, Overloaded, TooLarge
from tests.api.fakes import WRITER, FakeIngest, World


def incoming(*chunks: bytes, declared: int | None = None, ends: bool = True, gone: bool = False) -> Body:
    """A body that arrives in these chunks."""
    messages: list[Mapping[str, object]] = [{"type": "http.request", "body": c, "more_body": True} for c in chunks]
    if gone:
        messages.append({"type": "http.disconnect"})
    elif ends:
        messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Mapping[str, object]:
        await trio.lowlevel.checkpoint()
        if not messages:
            await trio.sleep_forever()
        return messages.pop(0)

    headers = {} if declared is None else {b"content-length": str(declared).encode()}
    return Body(Head("POST", "/write", b"", headers, ""), receive, stall_seconds=30)


async def read(body: Body, limit: int, ingest: FakeIngest | None = None) -> bytes:
    with ExitStack() as held:
        return await body.read(limit, (ingest or FakeIngest()).reserve, held)


async def test_chunks_are_joined() -> None:
    assert await read(incoming(b"ab", b"", b"cd"), 4) == b"abcd"
    assert await read(incoming(), 4) == b""


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    ingest = FakeIngest()
    with pytest.raises(TooLarge):
        await read(incoming(b"x" * 5, declared=5), 4, ingest)
    assert ingest.peak == 0


async def test_an_undeclared_body_is_refused_as_soon_as_it_passes_the_limit() -> None:
    body = incoming(b"abc", b"de", ends=False)
    with pytest.raises(TooLarge):
        await read(body, 4)
    assert not body.complete


@pytest.mark.parametrize("text", [b"-1", b"1x", b"", b"9" * 30, "٣".encode()])
def test_a_length_that_is_no_number_is_a_mistake(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        Head("POST", "/", b"", {b"content-length": text}, "").content_length()


async def test_an_undeclared_body_is_paid_for_in_steps_before_it_is_kept() -> None:
    ingest = FakeIngest(budget=CHUNK_RESERVE_BYTES)
    chunk = b"x" * (CHUNK_RESERVE_BYTES // 2)
    assert len(await read(incoming(chunk, chunk), 1 << 30, ingest)) == CHUNK_RESERVE_BYTES
    with pytest.raises(Overloaded):
        await read(incoming(chunk, chunk, b"x"), 1 << 30, ingest)
    assert ingest.reserved == 0


async def test_a_client_that_goes_away_in_the_middle_is_not_answered() -> None:
    with pytest.raises(ClientGone):
        await read(incoming(b"abc", gone=True), 100)


async def test_a_body_that_stops_arriving_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(BodyStalled) as caught:
        await read(incoming(b"abc", ends=False), 100)
    assert caught.value.status == 408
    assert trio.current_time() == pytest.approx(30)


async def test_a_refused_upload_is_read_on_for_a_bounded_time(autojump_clock: trio.testing.MockClock) -> None:
    await incoming(b"abc", ends=False).drain(100, 5.0)
    assert trio.current_time() == pytest.approx(5)
    body = incoming(b"x" * 60, b"x" * 60, ends=False)
    await body.drain(100, 5.0)
    assert trio.current_time() == pytest.approx(5)
    await incoming(b"abc", gone=True).drain(100, 5.0)


def test_slots_are_given_back_also_after_failures() -> None:
    slots = Slots(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), slots:
            raise ZeroDivisionError
    with slots, pytest.raises(Overloaded), slots:
        pass
    assert (slots.taken, slots.refused) == (0, 1)


async def test_requests_over_the_limit_are_503_but_health_is_answered() -> None:
    world = World(server=ServerConfig(max_concurrent_requests=1))
    world.ingest.wait = trio.Event()
    async with world.client(WRITER) as client, trio.open_nursery() as nursery:

        async def write() -> None:
            assert (await client.post("/write", content=b"cpu v=1 1\n")).status_code == 204

        nursery.start_soon(write)
        await world.ingest.entered.wait()
        for path in ("/write", "/api/v1/query"):
            answer = await client.post(path, content=b"{}")
            assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
            assert "retry-after" in answer.headers
        for path in ("/health", "/ready", "/metrics", "/ping"):
            assert (await client.get(path)).status_code < 300
        world.ingest.wait.set()
    assert world.api.statistics().http.refused_total == 2


async def test_a_json_body_over_its_limit_is_413() -> None:
    world = World(server=ServerConfig(max_json_bytes=100))
    async with world.client() as client:
        for path in ("/api/v1/query", "/api/v1/databases", "/api/v1/auth/tokens"):
            assert (await client.post(path, content=b" " * 101)).status_code == 413


async def test_too_many_parameters_are_a_mistake() -> None:
    async with World().client(WRITER) as client:
        answer = await client.post("/write?" + "&".join(f"a{n}=1" for n in range(101)), content=b"cpu v=1 1\n")
    assert answer.status_code == 400
