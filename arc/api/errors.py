"""The one place where an exception becomes an HTTP answer.

The families of `arc.errors` carry their status and a sentence for people; anything else is a bug of ours: it is logged
whole under an incident id, and the client sees the id and nothing of the inside.

The body has ``error``, ``message`` (the same text) and ``code`` because every client reads another of the three;
InfluxDB clients also read the header ``X-Influxdb-Error`` (ecosystem 1.2, 2).
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator

import trio
from werkzeug.exceptions import HTTPException

from arc.api.heads import Head
from arc.api.replies import Headers, Reply, json_reply
from arc.errors import ArcError, InvalidRequest, OutcomeUnknown, TimedOut, Unauthenticated, Unavailable
from arc.ingest.columns import Refused
from arc.ports import Rng
from arc.telemetry import Log

INFLUX_PATHS = frozenset({"/write", "/query", "/ping", "/api/v2/write"})
"""Paths whose callers are InfluxDB clients."""

DROPS_ON_4XX = frozenset({"/write"})
"""Telegraf's v1 output drops a batch on any 4xx but keeps it on 503 (ecosystem 1.3), so "slow down" must be a 503."""

REFUSED_LISTED_MAX = 100
"""How many refused lines an answer names; ``refused_total`` always tells how many there were."""

HEADER_TEXT_MAX = 400

FRAMES_LOGGED = 12


class TooManyRequests(Unavailable):
    """This caller must slow down: 429, or 503 where a client would drop its data on 429."""

    code = "rate_limited"
    status = 429


class LeaderElsewhere(Unavailable):
    """Only the leader can do it. ``leader`` is (name, address of its peer port), None while nobody is known to lead.

    The address is None when the cluster was not told where that node is.
    """

    code = "not_leader"

    def __init__(self, message: str, leader: tuple[str, str | None] | None) -> None:
        super().__init__(message)
        self.leader = leader


class ClientGone(Exception):
    """The client closed the connection; nobody is left to answer."""


class PartialWrite(InvalidRequest):
    """Some rows were stored and some were not. ``written`` rows are safe; ``refused`` are in line order."""

    code = "partial_write"

    def __init__(self, *, written: int, refused: tuple[Refused, ...], position: str) -> None:
        first = refused[0]
        # "partial write:", "unable to parse" and "dropped=" are what InfluxDB clients look for: do not send again.
        super().__init__(
            f"partial write: unable to parse '{first.text}': {first.reason} (line {first.line}) dropped={len(refused)}"
        )
        self.written = written
        self.refused = refused
        self.position = position


def answer_error(error: BaseException, head: Head, *, log: Log, rng: Rng) -> Reply:
    """The answer to a failed request. Logs what an operator must know; never raises."""
    chosen = worst(error)
    match chosen:
        case ArcError() if chosen.status != 500:
            return _known(chosen, head)
        case HTTPException():
            return _routing(chosen, head)
        case _:
            return _unexpected(error, head, log=log, rng=rng)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _leaves(part)
    else:
        yield error


def worst(error: BaseException) -> BaseException:
    """Of a group, the one that decides: a bug before a known error; a Cancelled is never the reason."""
    leaves = [leaf for leaf in _leaves(error) if not isinstance(leaf, trio.Cancelled)]
    bugs = [leaf for leaf in leaves if not isinstance(leaf, (ArcError, HTTPException))]
    return (bugs or leaves or [error])[0]


def _known(error: ArcError, head: Head) -> Reply:
    document: dict[str, object] = _document(error.message, error.code)
    headers: list[tuple[bytes, bytes]] = []
    refused = getattr(error, "refused", ())
    if refused:
        document["refused_total"] = len(refused)
        document["refused"] = [
            {"line": one.line, "reason": one.reason, "text": one.text} for one in refused[:REFUSED_LISTED_MAX]
        ]
    if isinstance(error, PartialWrite):
        document["written"] = error.written
        headers.append((b"x-arc-position", error.position.encode()))
    if isinstance(error, LeaderElsewhere):
        document["leader"] = None if error.leader is None else dict(zip(("name", "address"), error.leader, strict=True))
    if isinstance(error, (Unavailable, OutcomeUnknown)) and not isinstance(error, TimedOut):
        seconds = error.retry_after_seconds if isinstance(error, Unavailable) else 1
        headers.append((b"retry-after", str(seconds).encode()))
        # For a node that passes requests on: whether another one is worth asking, without reading the body.
        headers.append((b"x-arc-code", error.code.encode()))
    if isinstance(error, Unauthenticated):
        headers.append((b"www-authenticate", b'Bearer realm="arc"'))
    status = 503 if error.status == 429 and head.path in DROPS_ON_4XX else error.status
    return json_reply(status, document, (*headers, *_influx(error.message, head)))


def _routing(error: HTTPException, head: Head) -> Reply:
    status = error.code or 500
    if status == 404:
        # The prefix is how arcli recognises a feature that this server does not have (ecosystem 1.4).
        return json_reply(404, _document(f"Cannot {head.method} {head.path}", "not_found"))
    if status == 405:
        allowed = ", ".join(sorted(getattr(error, "valid_methods", None) or ()))
        return json_reply(
            405, _document("Method Not Allowed", "method_not_allowed"), ((b"allow", allowed.encode("latin-1")),)
        )
    texts = {
        413: ("request body is too large", "too_large"),
        408: ("the request body did not arrive in time", "timeout"),
    }
    message, code = texts.get(status, (error.name, "invalid"))
    return json_reply(status, _document(message, code))


def _unexpected(error: BaseException, head: Head, *, log: Log, rng: Rng) -> Reply:
    incident = rng.bytes(6).hex()
    reason = worst(error)
    log.error(
        "request_failed",
        incident=incident,
        method=head.method,
        path=head.path,
        reason=reason,
        frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in _innermost(reason) or _innermost(error)],
    )
    message = f"internal error, incident {incident}: the server's log has the details"
    return json_reply(500, _document(message, "internal"), _influx(message, head))


def _innermost(error: BaseException) -> list[traceback.FrameSummary]:
    """The frames nearest to the failure: a log value is cut at its end, where a whole traceback has what matters."""
    return traceback.extract_tb(error.__traceback__)[-FRAMES_LOGGED:]


def _document(message: str, code: str) -> dict[str, object]:
    return {"success": False, "error": message, "message": message, "code": code}


def _influx(message: str, head: Head) -> Headers:
    if head.path not in INFLUX_PATHS:
        return ()
    return ((b"x-influxdb-error", header_text(message)),)


def header_text(message: str) -> bytes:
    """What a header can carry of a message: printable ASCII in one line. The message may quote a client's bytes."""
    line = " ".join(message.split())[:HEADER_TEXT_MAX]
    return "".join(char if " " <= char <= "~" else "?" for char in line).encode("ascii")
