"""Where a token may stand, what makes it void, and how often one may be wrong."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.api.auth import FailureLimiter, client_key, find_token
from arc.api.config import AuthConfig
from arc.api.heads import Head
from arc.catalog.commands import RevokeToken, RotateToken, UpdateToken
from arc.security.tokens import hash_token
from tests.api.fakes import READER, START_US, World


def head(headers: dict[str, str] | None = None, query: str = "") -> Head:
    raw = {name.encode(): value.encode("latin-1") for name, value in (headers or {}).items()}
    return Head("GET", "/", query.encode(), raw, "10.0.0.1")


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("given_head", "token", "source"),
    [
        (head({"authorization": "Bearer abc"}), "abc", "bearer"),
        (head({"authorization": "bearer  abc "}), "abc", "bearer"),
        (head({"authorization": "Token abc"}), "abc", "token"),
        (head({"authorization": "abc"}), "abc", "bare"),
        (head({"authorization": basic("root:abc")}), "abc", "basic"),
        (head({"authorization": basic("root:a:bc")}), "a:bc", "basic"),
        (head({"authorization": basic("abc:")}), "abc", "basic"),
        (head({"x-api-key": "abc"}), "abc", "x-api-key"),
        (head(query="db=x&p=abc&u=me"), "abc", "p"),
        (head({"authorization": "Bearer abc", "x-api-key": "other"}, "p=third"), "abc", "bearer"),
        (head({"x-api-key": "abc"}, "p=third"), "abc", "x-api-key"),
    ],
)
def test_a_token_is_found_where_clients_put_it(given_head: Head, token: str, source: str) -> None:
    found = find_token(given_head)
    assert found is not None
    assert (found.text, found.source) == (token, source)


@pytest.mark.parametrize(
    "given_head",
    [head(), head({"authorization": "Bearer"}), head({"authorization": "Basic !!"}), head(query="p=&q=1"),
     head({"authorization": basic(":")})],
)  # fmt: skip
def test_nothing_is_no_token(given_head: Head) -> None:
    assert find_token(given_head) is None


@settings(max_examples=200)
@given(st.text(max_size=60), st.binary(max_size=60))
def test_no_header_makes_the_search_fail(authorization: str, query: bytes) -> None:
    raw = {b"authorization": authorization.encode("latin-1", "replace")}
    find_token(Head("GET", "/", query, raw, ""))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (UpdateToken(id=2, expires_us=START_US + 10_000_000), 200),
        (UpdateToken(id=2, expires_us=START_US), 401),
        (UpdateToken(id=2, enabled=False), 401),
        (RevokeToken(id=2), 401),
        (RotateToken(id=2, hash=hash_token("another")), 401),
        (UpdateToken(id=2, permissions=("write",)), 403),
    ],
    ids=["expires later", "expired", "disabled", "revoked", "rotated", "lost the right"],
)
async def test_a_change_of_a_token_counts_from_the_next_request(change: object, status: int) -> None:
    world = World()
    async with world.client(READER) as client:
        assert (await client.get("/api/v1/databases")).status_code == 200
        world.apply(change)  # type: ignore[arg-type]
        assert (await client.get("/api/v1/databases")).status_code == status


async def test_a_token_expires_without_anybody_doing_anything() -> None:
    world = World()
    world.apply(UpdateToken(id=2, expires_us=START_US + 10_000_000))
    async with world.client(READER) as client:
        world.clock.seconds = 9.9
        assert (await client.get("/api/v1/databases")).status_code == 200
        world.clock.seconds = 10.0
        assert (await client.get("/api/v1/databases")).status_code == 401


async def test_too_many_wrong_tokens_are_429_on_native_paths_and_503_where_a_4xx_drops_data() -> None:
    world = World(auth=AuthConfig(failed_per_minute=3))
    async with world.client("wrong") as client:
        assert [(await client.post("/api/v2/write")).status_code for _ in range(5)] == [401, 401, 401, 429, 429]
        answer = await client.post("/write")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        world.clock.seconds += 21
        assert (await client.post("/write")).status_code == 401


async def test_a_node_that_does_not_know_all_tokens_yet_calls_none_wrong() -> None:
    """Found by the simulated world: a restarted follower listens before it has heard what was agreed on."""
    world = World()
    world.node.starting = "the node waits to hear what the cluster has agreed on"
    async with world.client("not-known-here-yet") as client:
        answer = await client.post("/api/v2/write")
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        world.node.starting = None
        assert (await client.post("/api/v2/write")).status_code == 401


async def test_a_right_token_is_let_in_while_its_neighbour_fails() -> None:
    world = World(auth=AuthConfig(failed_per_minute=1))
    async with world.client("wrong") as wrong, world.client(READER) as right:
        for _ in range(3):
            await wrong.get("/api/v1/databases")
        assert (await wrong.get("/api/v1/databases")).status_code == 429
        assert (await right.get("/api/v1/databases")).status_code == 200


async def test_a_token_in_the_url_is_warned_about_once() -> None:
    world = World()
    async with world.client(None) as client:
        for _ in range(3):
            assert (await client.get(f"/api/v1/databases?p={READER}")).status_code == 200
    assert len(world.logged("token_in_url")) == 1


@pytest.mark.parametrize(
    ("client", "key"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:10.1.2.3", "10.1.2.3"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002"),
        ("2001:db8:1:2::ffff", "2001:0db8:0001:0002"),
        ("", ""),
    ],
)
def test_an_address_counts_as_one_customer(client: str, key: str) -> None:
    assert client_key(client) == key


def test_the_limiter_lets_its_rate_through_and_tells_how_long_to_wait() -> None:
    limiter = FailureLimiter(30)
    assert [limiter.failed("a", 0.0) for _ in range(30)] == [None] * 30
    assert limiter.failed("a", 0.0) == 2
    assert limiter.failed("b", 0.0) is None
    assert limiter.failed("a", 2.1) is None
    assert limiter.failed("a", 2.1) is not None


def test_the_limiter_remembers_a_bounded_number_of_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arc.api.auth.ADDRESSES_MAX", 3)
    limiter = FailureLimiter(1)
    for address in "abcd":
        limiter.failed(address, 0.0)
    assert limiter.failed("d", 0.0) is not None
    assert limiter.failed("a", 0.0) is None, "the oldest was forgotten"


async def test_a_missing_token_is_no_guess_and_is_never_limited() -> None:
    world = World(auth=AuthConfig(failed_per_minute=1))
    async with world.client(None) as client:
        assert {(await client.get("/api/v1/databases")).status_code for _ in range(5)} == {401}


async def test_a_wrong_token_is_logged_without_a_letter_of_it() -> None:
    world = World(auth=AuthConfig(failed_per_minute=2))
    async with world.client("wrong-secret") as client:
        for _ in range(5):
            await client.get("/api/v1/databases")
    events = world.logged("token_refused")
    assert len(events) == 2
    assert events[0]["source"] == "bearer"
    assert "wrong" not in str(events)
