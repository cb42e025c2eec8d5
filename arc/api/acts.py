"""What administrators do, told: which requests are acts, and how each gets its line in the audit log.

A view changes the catalog through its `Act`, which puts the caller's name on the command (`Audited`): the act and its
line are one entry of the log. What was done in another way, as an order to the cluster, gets its line when it ended;
if nobody agrees on that in time, the warning ``act_not_recorded`` has it. Either way it is an event in this node's log.

What was refused is an event and no line: nothing happened. Nor can callers without rights fill the log of the cluster.
Of the body only keys that are known to be harmless are told, and of the head no token.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import orjson
import trio

from arc.api.deps import Proposer
from arc.api.errors import ClientGone, PartialWrite
from arc.api.exchange import Exchange
from arc.api.heads import Head
from arc.api.observed import ActStatistics
from arc.api.principal import Permission, Principal
from arc.api.replies import Reply
from arc.api.routes import Route, Stream
from arc.catalog.audit import DETAIL_CHARS_MAX
from arc.catalog.commands import Audited, Command, Once
from arc.catalog.results import Result
from arc.errors import ArcError, Forbidden, InvalidRequest, Unavailable
from arc.ports import Clock
from arc.telemetry import Log

RECORD_SECONDS = 3.0
"""How long an answer waits for its line: an election passes in that time, and an operator in trouble is not held up."""

EVENT_TYPES: Mapping[str, str] = {
    "create_token": "token.created",
    "update_token": "token.updated",
    "delete_token": "token.deleted",
    "revoke_token": "token.revoked",
    "rotate_token": "token.rotated",
    "join_team": "token.team_joined",
    "leave_team": "token.team_left",
    "create_organization": "rbac.organization.created",
    "update_organization": "rbac.organization.updated",
    "delete_organization": "rbac.organization.deleted",
    "create_team": "rbac.team.created",
    "update_team": "rbac.team.updated",
    "delete_team": "rbac.team.deleted",
    "create_role": "rbac.role.created",
    "update_role": "rbac.role.updated",
    "delete_role": "rbac.role.deleted",
    "create_measurement_permission": "rbac.measurement_permission.created",
    "delete_measurement_permission": "rbac.measurement_permission.deleted",
    "create_database": "database.created",
    "delete_database": "database.deleted",
    "delete_measurement": "measurement.deleted",
    "delete_rows": "data.delete",
    "create_retention": "retention.created",
    "update_retention": "retention.updated",
    "delete_retention": "retention.deleted",
    "execute_retention": "retention.executed",
    "create_continuous_query": "continuous_query.created",
    "update_continuous_query": "continuous_query.updated",
    "delete_continuous_query": "continuous_query.deleted",
    "execute_continuous_query": "continuous_query.executed",
    "import_csv": "data.import",
    "import_parquet": "data.import",
    "import_lines": "data.import",
    "cancel_query": "query.cancelled",
}
"""By the name of the route (data plane 1.10). Others are called ``<tag>.<name of the route>``, as ``cluster.drain``."""

NO_ACTS = frozenset({"flush"})
"""Needs the right and decides nothing; some clients do it after every write."""

TOLD_BEFORE = frozenset({"cluster_leave"})
"""Afterwards this node has nobody left to agree with."""

TOLD_KEYS = (
    "name", "description", "permissions", "enabled", "expires_in", "team_id", "database", "measurement",
    "database_pattern", "measurement_pattern", "retention_days", "buffer_days", "is_active", "dry_run", "confirm",
    "where", "lease", "target", "node", "node_id", "reason", "force", "accept_data_loss", "as_learner", "address",
    "tier", "query", "interval", "source_measurement", "destination_measurement", "backup_id", "databases",
    "include_tokens", "restore_tokens", "skip_damaged", "start_time", "end_time",
)  # fmt: skip
"""Keys of bodies and URLs that never hold a secret; others are not told."""

TOLD_CHARS_MAX = 200
TOLD_ITEMS_MAX = 20


def event_type(route: Route) -> str | None:
    """What an act of this route is called; None where a request is none."""
    needs_more = route.permission in (Permission.ADMIN, Permission.DELETE)
    if not needs_more or route.method in ("GET", "HEAD") or route.name in NO_ACTS:
        return None
    return EVENT_TYPES.get(route.name) or f"{route.tag}.{route.name.removeprefix(route.tag + '_')}"


class Acts:
    """Makes an `Act` of each request that is one. One per server."""

    def __init__(self, proposer: Proposer, clock: Clock, log: Log) -> None:
        self._proposer = proposer
        self._clock = clock
        self._log = log
        self._recorded = 0
        self._unrecorded = 0

    def __repr__(self) -> str:
        return f"<Acts recorded={self._recorded} unrecorded={self._unrecorded}>"

    def statistics(self) -> ActStatistics:
        """The counts so far."""
        return ActStatistics(recorded_total=self._recorded, unrecorded_total=self._unrecorded)

    @asynccontextmanager
    async def watching(
        self, route: Route, head: Head, principal: Principal, path: Mapping[str, str], body: bytes
    ) -> AsyncIterator[Act]:
        """The request is served in this block, and told when it ends; `Act.status` is set by whoever answers."""
        kind = event_type(route)
        if kind is None:
            yield Act(self._proposer, {}, is_told=True)
            return
        words = _described(kind, route, head, principal, path, body, self._clock.wall_us())
        act = Act(self._proposer, words | {"status": min(route.answers, default=200)})
        started = self._clock.now()
        if route.name in TOLD_BEFORE:
            await self._record(act, words)
        happened = True
        try:
            yield act
            happened = not 400 <= act.status < 500
        except ArcError as error:
            act.status, happened = error.status, _may_have_happened(error, route)
            raise
        except ClientGone:
            raise
        except Exception:
            act.status = 500
            raise
        finally:
            spent_ms = round((self._clock.now() - started) * 1000)
            with trio.CancelScope(shield=True):
                await self._told(act, spent_ms, happened=happened)

    def around(self, route: Route) -> Stream:
        """The stream of a route, watched; its body is data, and not told."""
        serve = route.stream
        assert serve is not None
        if event_type(route) is None:
            return serve

        async def watched(exchange: Exchange) -> Reply | None:
            async with self.watching(route, exchange.head, exchange.principal, {}, b"") as act:
                reply = await serve(exchange)
                act.status = reply.status if reply is not None else exchange.status
                return reply

        return watched

    async def _told(self, act: Act, spent_ms: int, *, happened: bool) -> None:
        words = act.words | {"status": act.status, "duration_ms": spent_ms}
        if happened and not act.is_told:
            await self._record(act, words)
        self._recorded += act.is_told
        self._log.info("administrative_act", **words, recorded=act.is_told)

    async def _record(self, act: Act, words: Mapping[str, object]) -> None:
        """A line of its own. Never fails: what it is about has happened."""
        reason: object = f"not agreed on within {RECORD_SECONDS:g} s"
        with trio.move_on_after(RECORD_SECONDS):
            try:
                result = await self._proposer.propose(Audited(**words))  # type: ignore[arg-type]
                act.is_told, reason = result.ok, result.message
            except ArcError as error:
                reason = error
        if not act.is_told:
            self._unrecorded += 1
            self._log.warning("act_not_recorded", **words, reason=reason)


class Act:
    """One request that changes something, and the way its view changes the catalog: see `deps.Proposer`."""

    def __init__(self, proposer: Proposer, words: dict[str, object], *, is_told: bool = False) -> None:
        self._proposer = proposer
        self.words = words
        self.status = 0
        self.is_told = is_told

    def __repr__(self) -> str:
        return f"<Act {self.words.get('event_type', 'none')} told={self.is_told}>"

    async def propose(self, command: Command) -> Result:
        """Have the command agreed on in the caller's name; only the first of an act tells it."""
        if self.is_told or isinstance(command, Once):
            return await self._proposer.propose(command)
        result = await self._proposer.propose(Audited(**self.words, action=command))  # type: ignore[arg-type]
        self.is_told = result.ok
        return result


def _may_have_happened(error: ArcError, route: Route) -> bool:
    """Most errors say that nothing did. Imports are stored in slices, and some may be before one fails."""
    if isinstance(error, InvalidRequest | Forbidden):
        return isinstance(error, PartialWrite)
    return route.tag == "import" or not isinstance(error, Unavailable)


def _described(
    kind: str, route: Route, head: Head, principal: Principal, path: Mapping[str, str], body: bytes, at_us: int
) -> dict[str, object]:
    """The fields of an `Audited` that are known before."""
    given = {**head.query(), **_object(body)}
    database = given.get("database") or given.get("db") or head.header(b"x-arc-database")
    if route.tag == "databases":
        database = path.get("name") or given.get("name")
    measurement = path.get("measurement") or given.get("measurement")
    return {
        "at_us": at_us,
        "event_type": kind,
        "actor": principal.name,
        "token_id": principal.token_id,
        "method": head.method,
        "path": head.path,
        "database": database if isinstance(database, str) else "",
        "measurement": measurement if isinstance(measurement, str) else "",
        "client": head.client,
        "user_agent": head.header(b"user-agent"),
        "detail": _detail(given),
    }


def _object(body: bytes) -> dict[str, object]:
    try:
        found = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _detail(given: Mapping[str, object]) -> str:
    """JSON of at most `DETAIL_CHARS_MAX` characters: keys that do not fit are left out, the last ones first."""
    told: dict[str, object] = {}
    text = ""
    for key in TOLD_KEYS:
        value = given.get(key)
        if value is None:
            continue
        longer = orjson.dumps({**told, key: _short(value)}).decode()
        if len(longer) <= DETAIL_CHARS_MAX:
            told[key], text = _short(value), longer
    return text


def _short(value: object) -> object:
    match value:
        case bool() | int() | float():
            return value
        case str():
            return value if len(value) <= TOLD_CHARS_MAX else value[:TOLD_CHARS_MAX] + "…"
        case list():
            return [_short(item) for item in value[:TOLD_ITEMS_MAX] if isinstance(item, str)]
    return "…"
