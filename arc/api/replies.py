"""A finished small answer, and the headers every answer wears."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from arc.api.heads import Head

Headers = tuple[tuple[bytes, bytes], ...]

JSON_TYPE = b"application/json"

SECURITY: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"strict-origin-when-cross-origin"),
    (b"permissions-policy", b"geolocation=(), microphone=(), camera=()"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
"""For browsers. An empty 204 does without: it has nothing to protect, and every header costs the hot path a check."""

HSTS: Headers = ((b"strict-transport-security", b"max-age=31536000"),)
"""Only when this process itself speaks TLS."""

CORS_METHODS = b"GET, POST, PUT, PATCH, DELETE, OPTIONS"
CORS_HEADERS = (
    b"Origin, Content-Type, Accept, Authorization, x-api-key, x-arc-database, x-arc-measurement, "
    b"x-arc-arrow-compression, x-arc-arrow-dictionary, Content-Encoding, Idempotency-Key"
)
CORS_EXPOSED = b"X-Arc-Position, X-Arc-Query-ID, X-Arc-Served-By, X-Arc-Code, Retry-After"


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, body and headers (lower-case names). An empty body gets no content type."""

    status: int
    body: bytes = b""
    headers: Headers = ()


def json_reply(status: int, document: object, headers: Headers = ()) -> Reply:
    """An answer in JSON. Raises TypeError for what JSON cannot carry: a bug of ours."""
    return Reply(status, orjson.dumps(document), ((b"content-type", JSON_TYPE), *headers))


def text_reply(status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> Reply:
    """An answer in plain text."""
    return Reply(status, text.encode(), ((b"content-type", content_type.encode()),))


def common_headers(head: Head, *, cors_origin: str, tls: bool, empty: bool) -> Headers:
    """Headers that do not depend on what is answered, only on who asks and whether there is a body."""
    found: Headers = () if empty else SECURITY
    if tls:
        found += HSTS
    if b"origin" in head.headers and cors_origin:
        found += (
            (b"access-control-allow-origin", cors_origin.encode("latin-1")),
            (b"access-control-expose-headers", CORS_EXPOSED),
        )
    return found


def preflight() -> Reply:
    """The answer to a browser that asks whether it may call (Fetch standard); common headers name the origin."""
    return Reply(
        204,
        headers=(
            (b"access-control-allow-methods", CORS_METHODS),
            (b"access-control-allow-headers", CORS_HEADERS),
            (b"access-control-max-age", b"86400"),
        ),
    )
