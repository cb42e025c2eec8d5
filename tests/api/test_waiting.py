"""HTTP on a node that belongs to no cluster yet."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from arc.api.config import AuthConfig
from arc.api.waiting import INIT, WaitingApi
from arc.errors import Conflict

TOKEN = "a-token-of-an-operator-0123456789abcdef"


async def ask(method: str, path: str, *, token: str | None = None, auth: AuthConfig | None = None, **named: Any) -> Any:
    sent: list[dict[str, Any]] = []

    async def found() -> str:
        if "refused" in named:
            raise Conflict("it has promised to found another", code="promised")
        return "the-uuid"

    async def receive() -> dict[str, Any]:
        assert len(sent) < 3, "the answer ended before the request"
        return {"type": "http.request", "body": named.get("body", b""), "more_body": len(sent) < 2}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    auth = auth if auth is not None else AuthConfig(bootstrap_token=TOKEN)
    app = WaitingApi(version="1", auth=auth, reason=lambda: "waits for 1 of 3 peers", found=found)
    headers = [(b"authorization", f"Bearer {token}".encode())] if token is not None else []
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers, "client": None}
    await app(scope, receive, send)
    head, body, end = sent
    assert end == {"type": "http.response.body", "body": b"", "more_body": False}
    assert dict(head["headers"])[b"content-length"] == b"%d" % len(body["body"])
    return head["status"], orjson.loads(body["body"])


@pytest.mark.parametrize("path", ["/ready", "/ready/write", "/ready/query", "/write", "/api/v1/query", "/nowhere"])
async def test_whatever_needs_a_cluster_is_refused_with_the_reason(path: str) -> None:
    """P-45, P-46."""
    status, document = await ask("POST" if path == "/write" else "GET", path)
    assert (status, document["code"]) == (503, "not_a_member")
    assert document["reason"] == "waits for 1 of 3 peers"


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("path", ["/write", INIT])
async def test_an_answer_ends_when_the_request_has_ended(method: str, path: str) -> None:
    """Ended sooner, Hypercorn closes the connection, which the client has in use for its next request."""
    await ask(method, path, token=TOKEN, body=b"a piece that comes after the answer")


@pytest.mark.parametrize("path", ["/", "/health"])
async def test_it_is_alive(path: str) -> None:
    assert (await ask("GET", path))[0] == 200


async def test_an_operator_founds_a_cluster_with_the_first_token() -> None:
    assert await ask("POST", INIT, token=TOKEN) == (200, {"success": True, "cluster": {"uuid": "the-uuid"}})


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN[:-1]])
async def test_nobody_else_does(token: str | None) -> None:
    assert (await ask("POST", INIT, token=token))[0] == 401


async def test_without_a_first_token_nobody_can_prove_anything() -> None:
    status, document = await ask("POST", INIT, token="", auth=AuthConfig())
    assert (status, document["code"]) == (403, "no_bootstrap_token")


async def test_without_authentication_nobody_has_to() -> None:
    assert (await ask("POST", INIT, auth=AuthConfig(enabled=False)))[0] == 200


async def test_what_cannot_be_founded_says_why() -> None:
    status, document = await ask("POST", INIT, token=TOKEN, refused=True)
    assert (status, document["code"]) == (409, "promised")
