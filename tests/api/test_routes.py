"""The table is the whole truth about who may call what, and the document says the same."""

from __future__ import annotations

import httpx
import pytest
from quart import Response

from arc.api import app as quart_app
from arc.api.config import AuthConfig
from arc.api.principal import Permission
from arc.api.routes import Route
from tests.api.fakes import ADMIN, NOBODY, READER, WRITER, World

ROUTES = World().api.routes
GUARDED = [route for route in ROUTES if route.permission is not Permission.PUBLIC]

PUBLIC = {
    "/", "/health", "/ready", "/ready/write", "/ready/query", "/metrics", "/api/v1/metrics",
    "/api/v1/metrics/endpoints", "/api/v1/auth/verify", "/openapi.json", "/ping",
}  # fmt: skip
"""Written down a second time on purpose: making a route public must be done twice."""

HOLDERS = {
    Permission.ANY: {ADMIN, READER, WRITER, NOBODY},
    Permission.READ: {ADMIN, READER},
    Permission.WRITE: {ADMIN, WRITER},
    Permission.DELETE: {ADMIN},
    Permission.ADMIN: {ADMIN},
}


def row(route: Route) -> str:
    return f"{route.method} {route.path}"


async def call(world: World, route: Route, token: str | None) -> httpx.Response:
    path = route.path.replace("{id}", "4").replace("{name}", "x").replace("{measurement}", "cpu")
    async with world.client(token) as client:
        return await client.request(route.method, path, content=b"{}" if route.body else None)


def test_only_the_listed_routes_are_public() -> None:
    assert {route.path for route in ROUTES if route.permission is Permission.PUBLIC} == PUBLIC


@pytest.fixture(scope="module")
def unharmed() -> World:
    """A node that only refuses, so that one is enough for all tests."""
    return World(auth=AuthConfig(failed_per_minute=1_000_000))


@pytest.mark.parametrize("route", GUARDED, ids=row)
async def test_without_a_token_the_answer_is_401(route: Route, unharmed: World) -> None:
    answer = await call(unharmed, route, None)
    assert answer.status_code == 401
    assert answer.json()["error"] == "Authentication required"
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", GUARDED, ids=row)
async def test_a_token_without_the_right_gets_403(route: Route, unharmed: World) -> None:
    for token in {ADMIN, READER, WRITER, NOBODY} - HOLDERS[route.permission]:
        answer = await call(unharmed, route, token)
        assert answer.status_code == 403
        assert answer.json()["error"] == f"Permission denied: {route.permission.value} required"


async def test_a_token_with_the_right_is_let_in() -> None:
    for token in (READER, WRITER, ADMIN):
        world = World()
        for route in GUARDED:
            if token in HOLDERS[route.permission] and route.method != "DELETE":
                answer = await call(world, route, token)
                assert answer.status_code != 401, row(route)
                assert "Permission denied" not in answer.text or route.permission is Permission.ANY, row(route)


@pytest.mark.parametrize("route", GUARDED, ids=row)
async def test_a_slash_at_the_end_opens_no_second_door(route: Route, unharmed: World) -> None:
    slashed = Route(**{name: getattr(route, name) for name in Route.__slots__} | {"path": route.path + "/"})
    assert (await call(unharmed, slashed, None)).status_code == 401


async def test_an_unknown_path_is_answered_in_the_words_arcli_looks_for() -> None:
    async with World().client() as client:
        answer = await client.get("/api/v1/mqtt")
    assert answer.status_code == 404
    assert answer.json()["error"] == "Cannot GET /api/v1/mqtt"


async def test_a_known_path_with_another_method_is_405_and_names_those_it_takes() -> None:
    async with World().client() as client:
        for path, allowed in (("/write", "POST"), ("/api/v1/databases", "GET, HEAD, POST"), ("/health", "GET, HEAD")):
            answer = await client.put(path)
            assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_a_browser_may_ask_before_it_calls() -> None:
    async with World().client(None) as client:
        headers = {"origin": "http://x", "access-control-request-method": "PATCH"}
        answer = await client.options("/api/v1/auth/tokens/1", headers=headers)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "PATCH" in answer.headers["access-control-allow-methods"]


async def test_answers_with_a_body_wear_the_security_headers() -> None:
    async with World().client() as client:
        for path in ("/health", "/nope", "/api/v1/databases", "/write"):
            answer = await client.get(path)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_the_document_describes_every_route_and_nothing_else() -> None:
    async with World().client(None) as client:
        document = (await client.get("/openapi.json")).json()
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert described == {(route.method, route.path) for route in ROUTES}
    assert document["openapi"] == "3.1.0"
    for route in ROUTES:
        operation = document["paths"][route.path][route.method.lower()]
        assert ("security" in operation) == (route.permission is not Permission.PUBLIC), route.path
        assert operation["responses"]


async def test_with_authentication_off_everybody_may_do_everything() -> None:
    world = World(auth=AuthConfig(enabled=False))
    async with world.client(None) as client:
        assert (await client.get("/api/v1/auth/tokens")).status_code == 200
        assert (await client.get("/api/v1/auth/verify")).status_code == 404


@pytest.mark.parametrize("before_the_error", [(), (object(),)], ids=["quart 0.22", "quart 0.23"])
async def test_a_failure_has_its_answer_whichever_quart_hands_it_over(
    before_the_error: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From 0.23 on, which pip installs for newer Pythons than some machines have, a context comes first."""
    take = quart_app._Quart.handle_user_exception

    async def as_that_version_does(quart: quart_app._Quart, *given: BaseException) -> Response:
        return await take(quart, *before_the_error, given[-1])

    monkeypatch.setattr(quart_app._Quart, "handle_user_exception", as_that_version_does)
    async with World().client() as client:
        assert (await client.get("/api/v1/mqtt")).json()["error"] == "Cannot GET /api/v1/mqtt"
        assert (await client.put("/api/v1/databases")).status_code == 405
