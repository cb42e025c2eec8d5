"""The head of a request: method, path, query, headers, client. Raw handlers and Quart's views read the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict
from urllib.parse import parse_qsl

from arc.errors import InvalidRequest

QUERY_FIELDS_MAX = 100
"""More parameters than any client sends; each one costs memory and time before anybody is authenticated."""


class Scope(TypedDict, total=False):
    """The part of an ASGI HTTP scope that is read here (ASGI specification, HTTP 2.3)."""

    type: str
    method: str
    scheme: str
    path: str
    raw_path: bytes
    query_string: bytes
    headers: Iterable[tuple[bytes, bytes]]
    client: tuple[str, int] | None
    http_version: str


@dataclass(frozen=True, slots=True)
class Head:
    """What came before the body. Header names are lower case; of a repeated header or parameter the first counts."""

    method: str
    path: str
    query_string: bytes
    headers: Mapping[bytes, bytes]
    client: str

    @classmethod
    def scan(cls, scope: Scope) -> Head:
        """Read an ASGI scope."""
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, value)
        peer = scope.get("client")
        return cls(scope["method"], scope["path"], scope["query_string"], headers, peer[0] if peer else "")

    def query(self) -> dict[str, str]:
        """Decode the query string. Raises InvalidRequest when it has too many fields."""
        if not self.query_string:
            return {}
        try:
            pairs = parse_qsl(
                self.query_string.decode("latin-1"), keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX
            )
        except ValueError as error:
            raise InvalidRequest(f"more than {QUERY_FIELDS_MAX} query parameters") from error
        found: dict[str, str] = {}
        for name, value in pairs:
            found.setdefault(name, value)
        return found

    def header(self, name: bytes) -> str:
        """A header's text without blanks around it, empty when absent. ``name`` is lower case."""
        return self.headers.get(name, b"").decode("latin-1").strip()

    def content_length(self) -> int | None:
        """Declared size of the body, None when it is chunked. Raises InvalidRequest."""
        text = self.headers.get(b"content-length")
        if text is None:
            return None
        if not text.isdigit() or len(text) > 18:
            raise InvalidRequest("Content-Length is not a number")
        return int(text)
