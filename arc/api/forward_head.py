"""What of a request's and an answer's head goes on to the other side when one node asks another for a client.

Headers that are about one connection stay behind; so do those in which a client could claim to be somebody else
(CVE-2026-45045 and its kind): the other node gets ours, and asks for the token again. `X-Arc-Forwarded-By` names the
nodes that a request has passed. Anybody can send it, so nothing is believed because of it: it can only make this node
refuse to pass a request on.
"""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from arc.api.exchange import Exchange
from arc.api.heads import Head
from arc.cluster.router import Candidate
from arc.errors import Unavailable
from arc.ids import NodeId
from arc.wire.http import AnswerHead, RequestHead

MARK = b"x-arc-forwarded-by"
SERVED_BY = b"x-arc-served-by"
KEY = b"idempotency-key"

HOPS_MAX = 2
"""Nodes a request may pass before the one that answers: the second one knew better than the first."""

HOP_BY_HOP = frozenset(
    {b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te"}
    | {b"trailer", b"trailers", b"transfer-encoding", b"upgrade"}
)
"""RFC 9110, 7.6.1, with its older names; besides those that ``Connection`` names."""

CLAIMS = frozenset(
    {b"x-real-ip", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port", b"forwarded"}
    | {b"x-arc-forwarded-by", b"x-arc-original-host", b"true-client-ip", b"cf-connecting-ip", b"x-client-ip"}
)
"""Who a client says that it is (arc-cluster 6.3)."""

REFRAMED = frozenset({b"content-length", b"host", b"expect"})
"""Said anew: the body may be framed otherwise, and its sender was told to go on already."""

Framing = int | Literal["chunked"] | None
"""Length of the body, or that it is not known, or that there is none."""

Pairs = tuple[tuple[bytes, bytes], ...]


class ForwardLoop(Unavailable):
    """Nodes disagree about whose request it is; they will agree soon."""

    code = "forward_loop"
    status = 508


def passed_nodes(head: Head) -> tuple[str, ...]:
    """The nodes that the request says it has passed; more than `HOPS_MAX` are not told apart."""
    text = head.header(MARK)
    return tuple(part.strip() for part in text.split(",", HOPS_MAX + 1)) if text else ()


def check_hops(head: Head, node: NodeId) -> None:
    """Raises ForwardLoop when this node must not pass the request on."""
    passed = passed_nodes(head)
    if node in passed or len(passed) >= HOPS_MAX:
        raise ForwardLoop("request already forwarded and cannot be served by this node")


def request_head(
    exchange: Exchange, target: Candidate, *, node: NodeId, added_key: bytes | None, framing: Framing
) -> RequestHead:
    """The head that the target gets."""
    scope, head = exchange.scope, exchange.head
    headers = [(b"host", target.address.encode("ascii", "replace")), *_end_to_end(scope["headers"], CLAIMS | REFRAMED)]
    if added_key is not None:
        headers.append((KEY, added_key))
    if framing == "chunked":
        headers.append((b"transfer-encoding", b"chunked"))
    elif framing is not None:
        headers.append((b"content-length", b"%d" % framing))
    if head.client:
        headers.append((b"x-forwarded-for", head.client.encode("latin-1")))
    if host := head.headers.get(b"host"):
        headers.append((b"x-arc-original-host", host))
    headers.append((MARK, ", ".join((*passed_nodes(head), node)).encode("latin-1")))
    return RequestHead(method=head.method.encode("ascii"), target=_target(exchange), headers=headers)


def answer_headers(answer: AnswerHead, target: Candidate) -> Pairs:
    """The headers that the client gets. Our own server dates the answer."""
    found = _end_to_end(answer.headers, frozenset({b"date"}))
    if not any(name == SERVED_BY for name, _ in found):
        found.append((SERVED_BY, target.node.encode("latin-1")))
    return tuple(found)


def _target(exchange: Exchange) -> bytes:
    scope = exchange.scope
    path = scope.get("raw_path") or b""
    if not path.startswith(b"/"):
        path = quote(scope["path"]).encode("ascii")
    return path + b"?" + scope["query_string"] if scope["query_string"] else path


def _end_to_end(headers: object, left_out: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = [(bytes(name).lower(), bytes(value)) for name, value in headers]  # type: ignore[attr-defined]
    named = {part.strip().lower() for name, value in pairs if name == b"connection" for part in value.split(b",")}
    gone = HOP_BY_HOP | left_out | named
    return [(name, value) for name, value in pairs if name not in gone]
