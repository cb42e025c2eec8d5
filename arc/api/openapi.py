"""`/openapi.json`: the route table as an OpenAPI 3.1 document. What is not in it is neither served nor described."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from arc.api.principal import Permission
from arc.api.replies import JSON_TYPE, Reply
from arc.api.routes import Answer, Call, Parameter, RequestBody, Route, Schema
from arc.api.schemas import ANYTHING, ERROR, json_answer

_PROBLEMS = {
    400: "The request must be changed.",
    401: "No token, or a wrong one.",
    403: "The token lacks the right.",
    404: "There is no such thing.",
    405: "Not with this method.",
    408: "The body did not arrive in time.",
    409: "It contradicts what stands.",
    413: "Larger than allowed; send smaller pieces.",
    422: "The Idempotency-Key is another write's: code `idempotency_key_reused`.",
    429: "Slow down; `Retry-After` tells how long.",
    503: "Not now; `Retry-After` tells when. With code `outcome_unknown` it may have happened.",
    504: "Not finished in time.",
}


def own_route(document: dict[str, object]) -> Route:
    """The row that serves the document (which describes it too, so it is filled in after the row was made)."""

    async def openapi(call: Call) -> Reply:
        return Reply(200, orjson.dumps(document), ((b"content-type", JSON_TYPE),))

    return Route(
        method="GET", path="/openapi.json", name="openapi", tag="health", permission=Permission.PUBLIC,
        summary="This document", view=openapi, answers={200: json_answer("OpenAPI 3.1.", {"type": "object"})},
    )  # fmt: skip


def describe(routes: Iterable[Route], version: str) -> dict[str, object]:
    """The document for a table of routes."""
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Arc",
            "version": version,
            "description": "A time-series database: line protocol, MessagePack and Arrow in, SQL out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic", "description": "The password is the token."},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _operation(route: Route) -> dict[str, object]:
    operation: dict[str, object] = {
        "operationId": route.name,
        "tags": [route.tag],
        "summary": route.summary,
        "parameters": [_parameter(parameter) for parameter in route.parameters],
        "responses": _responses(route),
        "x-arc-permission": route.permission.value,
    }
    if route.body is not None:
        operation["requestBody"] = _body(route.body)
    if route.permission is not Permission.PUBLIC:
        operation["security"] = [{"bearer": []}, {"basic": []}, {"apiKey": []}]
    return operation


def _parameter(parameter: Parameter) -> dict[str, object]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.about,
        "required": parameter.required or parameter.place == "path",
        "schema": parameter.schema,
    }


def _body(body: RequestBody) -> dict[str, object]:
    return {"required": body.required, "content": _content(body.content)}


def _content(content: dict[str, Schema]) -> dict[str, object]:
    return {media: {"schema": schema} if schema is not ANYTHING else {} for media, schema in content.items()}


def _responses(route: Route) -> dict[str, object]:
    found: dict[str, object] = {str(status): _answer(answer) for status, answer in sorted(route.answers.items())}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in sorted(possible_problems(route)):
        found.setdefault(str(status), {"description": _PROBLEMS[status], "content": error})
    return found


def _answer(answer: Answer) -> dict[str, object]:
    described: dict[str, object] = {"description": answer.about}
    if answer.content:
        described["content"] = _content(answer.content)
    return described


def possible_problems(route: Route) -> set[int]:
    """Failures any caller of this route may meet, beside those it lists itself."""
    found = {400, 503}
    if route.permission is not Permission.PUBLIC:
        found |= {401, 403, 429}
    if route.body is not None:
        found |= {408, 413}
    if any(parameter.place == "path" for parameter in route.parameters):
        found |= {404}
    if route.method in ("POST", "PATCH", "PUT", "DELETE"):
        found |= {409}
    if any(parameter.name == "Idempotency-Key" for parameter in route.parameters):
        found |= {422}
    if route.tag == "query":
        found |= {404, 504}
    return found
