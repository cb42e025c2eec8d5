"""The HTTP application: one thin ASGI callable in front of two ways to serve.

Stream routes (writes, imports, queries) are plain ASGI, because they come by the thousand or carry gigabytes and
Quart's price per request would be most of theirs. Everything else is a view behind Quart-Trio. Both ways share the
route table, the gate, the limits and the translation of errors, so a client cannot tell them apart.

READ FIRST of this package: `routes` (the table's row), then this file, then `write` and `query`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, cast

import trio
from quart import Response, request
from quart_trio import QuartTrio
from werkzeug.exceptions import MethodNotAllowed

from arc.api.acts import Acts
from arc.api.auth import Gate
from arc.api.deps import Deps
from arc.api.errors import ClientGone, answer_error
from arc.api.exchange import LINGER_SECONDS, Exchange, Send
from arc.api.heads import Head, Scope
from arc.api.limits import Body, Receive, Slots
from arc.api.observed import ApiStatistics, AuthStatistics, HttpCounts
from arc.api.principal import ANONYMOUS
from arc.api.replies import Headers, Reply, common_headers, json_reply, preflight
from arc.api.routes import Call, Route
from arc.api.table import build_table


class Api:
    """The ASGI application. ``routes`` is the whole table; `statistics` what it counted."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._gate = Gate(deps.auth, deps.catalog, deps.clock, deps.log, deps.node.behind)
        self._slots = Slots(deps.server.max_concurrent_requests)
        self._counts = HttpCounts()
        self._forward = deps.forward
        self._served_by: Headers = () if deps.forward is None else ((b"x-arc-served-by", deps.forward.node.encode()),)
        self._acts = Acts(deps.proposer, deps.clock, deps.log)
        table = build_table(deps, gate=self._gate, api_statistics=self.statistics)
        self.routes = tuple(replace(row, stream=self._acts.around(row)) if row.stream else row for row in table.routes)
        self._formats = table.formats
        self._query_gate = table.query_gate
        self._streams: dict[tuple[str, str], Route] = {
            (row.method, row.path): row for row in self.routes if row.stream and "{" not in row.path
        }
        self._prefixes = [
            (row.method, row.path.partition("{")[0], row) for row in self.routes if row.stream and "{" in row.path
        ]
        self._unlimited = {row.path for row in table.routes if row.unlimited}
        self._quart = _mount(self, self.routes, deps)

    def __repr__(self) -> str:
        return f"<Api routes={len(self.routes)} in_flight={self._counts.in_flight}>"

    def statistics(self) -> ApiStatistics:
        """What was answered so far."""
        gate = self._gate
        formats = {name: counts.statistics() for name, counts in self._formats.items()}
        return ApiStatistics(
            http=self._counts.statistics(refused=self._slots.refused),
            auth=AuthStatistics(requests_total=gate.requests, failed_total=gate.failed, limited_total=gate.limited),
            acts=self._acts.statistics(),
            query_gate=self._query_gate.statistics(),
            lineprotocol=formats["lineprotocol"],
            msgpack=formats["msgpack"],
            arrow=formats["arrow"],
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] != "http":
            await self._quart(cast(Any, scope), cast(Any, receive), cast(Any, send))
            return
        path = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            # Clients disagree about the slash at the end of a collection (ecosystem 2); to us both are one route.
            scope["path"] = path = path.rstrip("/") or "/"
        typed = cast(Scope, scope)
        head = Head.scan(typed)
        started = self._deps.clock.now()
        exchange = Exchange(head, ANONYMOUS, self._body(head, receive), send, self._dress, typed)
        self._counts.in_flight += 1
        try:
            await self._serve(scope, exchange, receive, send)
        except ClientGone:
            pass
        except trio.Cancelled:
            raise
        except BaseExceptionGroup as group:
            cancelled, rest = group.split(trio.Cancelled)
            if rest is not None:
                await self._fail(exchange, rest)
            if cancelled is not None:
                raise cancelled from None
        except Exception as error:
            await self._fail(exchange, error)
        finally:
            self._counts.in_flight -= 1
            whole = exchange.finished or exchange.status >= 400
            self._counts.answered(exchange.status if whole else 0, self._deps.clock.now() - started)

    async def _serve(self, scope: MutableMapping[str, Any], exchange: Exchange, receive: Receive, send: Send) -> None:
        head = exchange.head
        if scope.get("http_version") == "2":
            # Hypercorn cannot reset one HTTP/2 stream, so a failed answer could not be told from a whole one. 404 is
            # what a gRPC client (influxdb3's queries) reads as "not implemented".
            await exchange.reply(json_reply(404, {"error": "this server speaks HTTP/1.1", "code": "http_version"}))
            return
        if head.method == "OPTIONS" and b"access-control-request-method" in head.headers:
            await exchange.reply(preflight())
            return
        if head.path in self._unlimited:
            await self._view(scope, exchange, receive, send)
            return
        with self._slots:
            route = self._stream_route(head)
            if route is None:
                await self._view(scope, exchange, receive, send)
                return
            assert route.stream is not None
            exchange.principal = self._gate.admit(head, route.permission)
            if self._forward is not None and route.routed is not None:
                reply = await self._forward.serve(exchange, route.routed, route.stream)
            else:
                reply = await route.stream(exchange)
            if reply is not None:
                await exchange.reply(reply)

    def _stream_route(self, head: Head) -> Route | None:
        route = self._streams.get((head.method, head.path))
        if route is not None:
            return route
        for method, prefix, row in self._prefixes:
            if head.method == method and head.path.startswith(prefix):
                rest = head.path[len(prefix) :]
                if rest and "/" not in rest:
                    return row
        return None

    async def _view(self, scope: MutableMapping[str, Any], exchange: Exchange, receive: Receive, send: Send) -> None:
        body_came = trio.Event()

        async def observed(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                exchange.started = True
                exchange.status = cast(int, message["status"])
            elif not message.get("more_body", False):
                if not body_came.is_set():
                    # Refused before its body was here: Hypercorn would close a connection that the client keeps.
                    await send({**message, "more_body": True})
                    message = {"type": "http.response.body", "body": b"", "more_body": False}
                    with trio.move_on_after(LINGER_SECONDS):
                        await body_came.wait()
                exchange.finished = True
            await send(message)

        async def until_answered() -> Mapping[str, object]:
            message = await receive()
            if message["type"] == "http.disconnect" or not message.get("more_body", False):
                body_came.set()
            if message["type"] == "http.disconnect" and exchange.finished:
                # The end of our own answer. Quart would cancel the task that is just about to close the connection.
                await trio.sleep_forever()
            return message

        await self._quart(cast(Any, scope), cast(Any, until_answered), cast(Any, observed))

    async def answer_view(self, route: Route, path: dict[str, str]) -> Reply:
        """Guard and run one view inside Quart's request context."""
        head = Head.scan(cast(Scope, request.scope))
        principal = self._gate.admit(head, route.permission)
        body = cast(bytes, await request.get_data()) if route.body is not None else b""
        assert route.view is not None
        async with self._acts.watching(route, head, principal, path, body) as act:
            reply = await route.view(Call(head=head, principal=principal, path=path, body=body, proposer=act))
            act.status = reply.status
            return reply

    def dress_view(self, reply: Reply, scope: Scope) -> Response:
        """A Quart response that wears what a plain one wears."""
        head = Head.scan(scope)
        response = self._quart.response_class(reply.body, status=reply.status)
        del response.headers["content-type"]
        for name, value in (*reply.headers, *self._dress(head, not reply.body)):
            response.headers.add(name.decode("latin-1"), value.decode("latin-1"))
        if reply.status == 204:
            response.headers.pop("content-length", None)
        return response

    def answer_failure(self, error: BaseException, scope: Scope) -> Reply:
        """The answer to a view that failed."""
        return answer_error(error, Head.scan(scope), log=self._deps.log, rng=self._deps.rng)

    async def _fail(self, exchange: Exchange, error: BaseException) -> None:
        if not exchange.started:
            await exchange.reply(answer_error(error, exchange.head, log=self._deps.log, rng=self._deps.rng))
            return
        # Nothing can be taken back. Returning without the end of the body makes the server close the connection.
        self._deps.log.warning("answer_cut", method=exchange.head.method, path=exchange.head.path, reason=error)

    def _dress(self, head: Head, empty: bool) -> Headers:
        server = self._deps.server
        found = common_headers(head, cors_origin=server.cors_origin, tls=server.tls_enabled, empty=empty)
        return found + self._served_by if self._served_by else found

    def _body(self, head: Head, receive: Receive) -> Body:
        return Body(head, receive, stall_seconds=self._deps.server.body_stall_seconds)


def build_app(deps: Deps) -> Api:
    """The application over these parts. It owns no task and no socket; `arc.api.server.serve` gives it both."""
    return Api(deps)


class _Quart(QuartTrio):
    """Quart with one door for failures: whatever a view or the router raises becomes the answer of `arc.api.errors`."""

    api: Api

    async def handle_user_exception(self, *args: Any) -> Response:
        # Quart 0.22 gives the error alone; from 0.23 on, which needs a newer Python, its context comes before it.
        error: BaseException = args[-1]
        if isinstance(error, BaseExceptionGroup):
            cancelled, rest = error.split(trio.Cancelled)
            if cancelled is not None:
                raise cancelled
            assert rest is not None
        scope = cast(Scope, request.scope)
        return self.api.dress_view(self.api.answer_failure(error, scope), scope)


def _mount(api: Api, routes: tuple[Route, ...], deps: Deps) -> _Quart:
    quart = _Quart("arc", static_folder=None, template_folder=None)
    quart.api = api
    quart.url_map.strict_slashes = False
    quart.url_map.merge_slashes = False
    quart.config["MAX_CONTENT_LENGTH"] = deps.server.max_json_bytes
    quart.config["BODY_TIMEOUT"] = deps.server.body_stall_seconds
    for route in routes:
        rule = route.path.replace("{", "<").replace("}", ">")
        quart.add_url_rule(
            rule,
            endpoint=route.name,
            view_func=_view_function(api, route),
            methods=[route.method],
            provide_automatic_options=False,
        )
    return quart


def _view_function(api: Api, route: Route) -> Callable[..., Awaitable[Response]]:
    async def view(**path: str) -> Response:
        if route.view is None:
            # Mounted so that the router knows the path and answers other methods with 405; HEAD comes here by itself.
            raise MethodNotAllowed([route.method])
        reply = await api.answer_view(route, path)
        return api.dress_view(reply, cast(Scope, request.scope))

    view.__name__ = route.name
    return view
