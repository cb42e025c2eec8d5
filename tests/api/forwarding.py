"""A node that is asked for what is another's: its views, its network of scripts, and a client of plain ASGI."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import trio

from arc.api.forward import Forwarder
from arc.catalog.roles import NodeRole, NodeState, WriterState
from arc.cluster.router import Router, RouterConfig
from arc.cluster.views import NodeStats, NodeView
from arc.ids import NodeId
from arc.wire.http import HttpClient
from tests.api.fakes import ADMIN, World
from tests.fakes import SeededRng
from tests.wire.scripts import Net, Server

LINES = b"cpu v=1 1\n"
SQL = b'{"sql":"SELECT 1"}'


def node(name: str, role: NodeRole = NodeRole.WRITER, **changes: object) -> NodeView:
    """A healthy standby, or reader, whose HTTP port is ``name:80``."""
    stats = {key: changes.pop(key) for key in list(changes) if key in NodeStats.__dataclass_fields__}
    view = NodeView(
        name=NodeId(name), incarnation=1, role=role, state=NodeState.HEALTHY, address=f"{name}:9100",
        api_address=f"{name}:80", version="0", cores=1, joined_us=0, stats=NodeStats(**stats),  # type: ignore[arg-type]
    )  # fmt: skip
    return replace(view, **changes)  # type: ignore[arg-type]


def reader(name: str, **changes: object) -> NodeView:
    return node(name, NodeRole.READER, **changes)


def holder(name: str, **changes: object) -> NodeView:
    return node(name, writer_state=WriterState.PRIMARY, **changes)


class Cluster:
    """What ``n1``, the node that is asked, sees of the others; `see` replaces it and tells."""

    def __init__(self, world: World, net: Net, views: Sequence[NodeView], config: RouterConfig, **router: Any) -> None:
        self.world = world
        self.net = net
        self._views = list(views)
        self._changed = trio.Event()
        self.lacks_files = False
        self.router = Router(
            config,
            lambda: [replace(view, is_local=view.name == "n1") for view in self._views],
            lambda: next(view for view in self._views if view.name == "n1"),
            rng=SeededRng(3),
            clock=world.clock,
            **router,
        )
        self.forwarder = Forwarder(
            node=NodeId("n1"),
            router=self.router,
            client=HttpClient(net.connect, world.clock),
            rng=SeededRng(4),
            log=world.log,
            wait_change=self._wait_change,
            lacks_files=lambda: self.lacks_files,
            query_bytes_max=world.deps.server.max_json_bytes,
        )
        world.replace(forward=self.forwarder)

    async def _wait_change(self) -> None:
        await self._changed.wait()

    def see(self, *views: NodeView) -> None:
        self._views = list(views)
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def ask(self, path: str = "/write", body: bytes | Sequence[bytes] = LINES, **options: Any) -> Client:
        return Client(self.world, path, body, **options)


@asynccontextmanager
async def cluster(
    *views: NodeView, servers: Mapping[str, Server], keep: bool = False, **options: Any
) -> AsyncIterator[Cluster]:
    """``n1`` among these, with servers by node name. Options are those of `RouterConfig` and of `Router`."""
    router = {key: options.pop(key) for key in list(options) if key not in RouterConfig.__dataclass_fields__}
    async with trio.open_nursery() as nursery:
        net = Net(nursery, {f"{name}:80": server for name, server in servers.items()})
        found = Cluster(World(), net, views, RouterConfig(**options), **router)
        if keep:
            await nursery.start(partial(found.forwarder.run))
        yield found
        nursery.cancel_scope.cancel()


@dataclass
class Answered:
    """What the client got; ``is_whole`` is whether the end of the answer was seen."""

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    is_whole: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def all(self, name: str) -> list[str]:
        return [value.decode() for key, value in self.headers if key == name.encode()]

    def one(self, name: str) -> str | None:
        found = self.all(name)
        assert len(found) < 2, found
        return found[0] if found else None


class Client:
    """One request of one client. It hangs up when ``gone`` is set.

    With ``end`` it says only when that is set that its body is complete.
    """

    def __init__(
        self, world: World, path: str, body: bytes | Sequence[bytes], *, method: str = "POST",
        headers: Sequence[tuple[str, str]] = (), token: str = ADMIN, sized: bool = True,
        end: trio.Event | None = None,
    ) -> None:  # fmt: skip
        path, _, query = path.partition("?")
        self._world = world
        self._end = end
        self._pieces = [body] if isinstance(body, bytes) else list(body)
        pairs = [("host", "public.example"), ("authorization", f"Bearer {token}"), *headers]
        if sized and method == "POST":
            pairs.append(("content-length", str(sum(map(len, self._pieces)))))
        self._scope: dict[str, Any] = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http", "path": path,
            "raw_path": path.encode(), "query_string": query.encode(), "client": ("192.0.2.7", 4711),
            "headers": [(name.encode(), value.encode()) for name, value in pairs],
        }  # fmt: skip
        self.gone = trio.Event()
        self.taken = 0
        self.answered = Answered()
        self._finished = trio.Event()

    async def __call__(self) -> Answered:
        with trio.fail_after(60):
            await self._world.api(self._scope, self._receive, self._send)
        return self.answered

    async def _receive(self) -> dict[str, object]:
        await trio.lowlevel.checkpoint()
        if self.gone.is_set():
            return {"type": "http.disconnect"}
        if self._pieces:
            piece = self._pieces.pop(0)
            self.taken += 1
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or self._end is not None}
        if self._end is not None:
            await self._end.wait()
            self._end = None
            return {"type": "http.request", "body": b"", "more_body": False}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._either, self.gone, nursery.cancel_scope)
            nursery.start_soon(self._either, self._finished, nursery.cancel_scope)
        return {"type": "http.disconnect"}

    async def _either(self, event: trio.Event, scope: trio.CancelScope) -> None:
        await event.wait()
        scope.cancel()

    async def _send(self, message: dict[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self.answered.status = message["status"]
            self.answered.headers = list(message["headers"])
            return
        if message.get("body"):
            self.answered.pieces.append(message["body"])
        if not message.get("more_body", False):
            self.answered.is_whole = True
            self._finished.set()
