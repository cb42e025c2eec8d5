"""One row per endpoint: where it is, who may call it, who serves it, and what its documentation says.

The same row mounts the route, guards it and describes it in `/openapi.json`, so that none of the three can be
forgotten. A row is served either by a *view* (Quart: parameters in the path, small JSON in and out) or by a *stream*
handler (plain ASGI: large bodies in, large results out, thousands of times a second).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from arc.api.heads import Head
from arc.api.principal import Permission, Principal
from arc.api.replies import Reply

if TYPE_CHECKING:
    from arc.api.deps import Proposer
    from arc.api.exchange import Exchange

Schema = dict[str, object]
"""A JSON schema (2020-12), as OpenAPI 3.1 takes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a view is given: who asks, the head, the parameters of the path and the body.

    ``proposer`` changes the catalog in the caller's name (`arc.api.acts`).
    """

    head: Head
    principal: Principal
    path: dict[str, str]
    body: bytes
    proposer: Proposer


Routed = Literal["write", "import", "query"]
"""Kinds of requests that find their node by themselves: an import is a write that takes as long as a query may."""

View = Callable[[Call], Awaitable[Reply]]
Stream = Callable[["Exchange"], Awaitable[Reply | None]]
"""Returns the answer, or None when it has sent one itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter for the documentation. Its meaning is in the handler."""

    name: str
    place: Literal["query", "header", "path"]
    about: str
    schema: Schema
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBody:
    """What may be sent: schemas by media type."""

    content: dict[str, Schema]
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one status means; ``content`` is schemas by media type, empty for no body."""

    about: str
    content: dict[str, Schema]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One endpoint. ``path`` writes parameters as ``{name}``; exactly one of ``view`` and ``stream`` is given.

    ``unlimited`` routes are answered even when all request slots are taken: an operator must be able to look.
    ``routed`` stream routes may be answered by another node of the cluster, chosen as for that kind of request.
    """

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    name: str
    tag: str
    summary: str
    permission: Permission
    answers: dict[int, Answer]
    view: View | None = None
    stream: Stream | None = None
    parameters: tuple[Parameter, ...] = ()
    body: RequestBody | None = None
    unlimited: bool = False
    routed: Routed | None = None

    def __post_init__(self) -> None:
        assert self.routed is None or self.stream is not None, self.path
        assert (self.view is None) != (self.stream is None), self.path
        assert self.stream is None or self.path.count("{") <= 1, self.path
