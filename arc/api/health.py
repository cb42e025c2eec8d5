"""Is the process alive, and may work be sent to it: for people, load balancers and clients' handshakes."""

from __future__ import annotations

from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Route
from arc.api.schemas import INTEGER, STRING, TIMESTAMP, json_answer, obj
from arc.telemetry import rfc3339_ms

RETRY_SECONDS = 1


class Health:
    """Liveness never depends on anything but the process; readiness asks the node."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._started = deps.clock.now()

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        ready = {
            200: json_answer("Send work.", obj({"status": STRING, "time": TIMESTAMP}, {"uptime_sec": INTEGER})),
            503: json_answer("Not now.", obj({"status": STRING, "time": TIMESTAMP, "reason": STRING})),
        }
        about = obj({"name": STRING, "version": STRING, "docs": STRING})
        alive = obj({"status": STRING, "time": TIMESTAMP, "uptime": STRING, "uptime_sec": INTEGER, "version": STRING})
        return (
            Route(
                method="GET", path="/", name="about", tag="health", permission=Permission.PUBLIC, unlimited=True,
                summary="What this server is", view=self.about, answers={200: json_answer("Name and version.", about)},
            ),
            Route(
                method="GET", path="/health", name="health", tag="health", permission=Permission.PUBLIC, unlimited=True,
                summary="Whether the process is alive", view=self.health, answers={200: json_answer("Alive.", alive)},
            ),
            Route(
                method="GET", path="/ready", name="ready", tag="health", permission=Permission.PUBLIC, unlimited=True,
                summary="Whether requests may be sent here", view=self.ready, answers=ready,
            ),
            Route(
                method="GET", path="/ready/write", name="ready_write", tag="health", permission=Permission.PUBLIC,
                unlimited=True, summary="Whether writes are taken here", view=self.ready_write, answers=ready,
            ),
            Route(
                method="GET", path="/ready/query", name="ready_query", tag="health", permission=Permission.PUBLIC,
                unlimited=True, summary="Whether queries are answered here", view=self.ready_query, answers=ready,
            ),
        )  # fmt: skip

    async def about(self, call: Call) -> Reply:
        """For whoever opens the address in a browser."""
        return json_reply(200, {"name": "arc", "version": self._deps.version, "docs": "/openapi.json"})

    async def health(self, call: Call) -> Reply:
        """``uptime`` is a text because the Python SDK and arcli want one (ecosystem 1.1, 1.4)."""
        seconds = self._uptime_seconds()
        return json_reply(
            200,
            {
                "status": "ok",
                "time": self._time(),
                "uptime": spoken_duration(seconds),
                "uptime_sec": seconds,
                "version": self._deps.version,
            },
        )

    async def ready(self, call: Call) -> Reply:
        """Requests of any kind: this node answers them or passes them on."""
        return self._readiness(self._deps.node.not_ready())

    async def ready_write(self, call: Call) -> Reply:
        """Writes only."""
        return self._readiness(self._deps.node.refuses_writes())

    async def ready_query(self, call: Call) -> Reply:
        """Queries only."""
        return self._readiness(self._deps.node.refuses_queries())

    def _readiness(self, reason: str | None) -> Reply:
        if reason is None:
            return json_reply(200, {"status": "ready", "time": self._time(), "uptime_sec": self._uptime_seconds()})
        document = {"status": "not_ready", "time": self._time(), "reason": reason}
        return json_reply(503, document, ((b"retry-after", str(RETRY_SECONDS).encode()),))

    def _time(self) -> str:
        return rfc3339_ms(self._deps.clock.wall_us())

    def _uptime_seconds(self) -> int:
        return int(self._deps.clock.now() - self._started)


def spoken_duration(seconds: int) -> str:
    """``3d4h``, ``5h7m``, ``2m3s`` or ``9s``: the two largest units."""
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    parts: list[str] = []
    for name, size in units:
        count, seconds = divmod(seconds, size)
        if count or (name == "s" and not parts):
            parts.append(f"{count}{name}")
        elif parts:
            break
    return "".join(parts[:2])
