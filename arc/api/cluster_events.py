"""What happened in the cluster, newest first: grants of leases, which are agreed on, and what this node saw of others.

A reader who comes back says up to where he has read (``after``) and may wait for more; so one request at a time is
enough to follow. The cursor has two numbers, because grants are counted by the cluster and observations by this
process: after a restart its observations begin anew, and a cursor that is ahead of them counts from the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import trio

from arc.api.bodies import whole_number
from arc.api.cluster import alone
from arc.api.cluster_schemas import EVENTS, cluster_answers
from arc.api.deps import Deps, Observation
from arc.api.principal import Permission
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, Parameter, Route
from arc.api.schemas import STRING
from arc.catalog.leases import History, LeaseChange
from arc.cluster.document import change_document
from arc.errors import InvalidRequest
from arc.telemetry import rfc3339_ms

LIMIT_MAX = 1000
LIMIT = 100
WAIT_SECONDS_MAX = 30
AGAIN_SECONDS = 0.1
"""How often a reader who waits is looked after: soon enough for people, and cheap, because a look reads two lists."""


class Cursor(NamedTuple):
    """Up to where somebody has read: the index of the last grant, the number of the last observation."""

    epoch: int = 0
    sequence: int = 0

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"


def parse_cursor(text: str) -> Cursor:
    """Read what ``next`` said. Raises InvalidRequest."""
    if not text:
        return Cursor()
    parts = text.split("-")
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() and len(part) <= 20 for part in parts):
        raise InvalidRequest("after must be the 'next' of an earlier answer", code="invalid_cursor")
    return Cursor(int(parts[0]), int(parts[1]))


class ClusterEvents:
    """`GET /api/v1/cluster/events`."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        after = Parameter(
            name="after", place="query", about="`next` of an earlier answer: only what came since.", schema=STRING
        )
        limit = Parameter(
            name="limit", place="query", about="At most this many, the newest.",
            schema={"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT},
        )  # fmt: skip
        wait = Parameter(
            name="wait", place="query", about="Seconds to wait for the first one.",
            schema={"type": "integer", "minimum": 0, "maximum": WAIT_SECONDS_MAX, "default": 0},
        )  # fmt: skip
        return (
            Route(
                method="GET", path="/api/v1/cluster/events", name="cluster_events", tag="cluster",
                permission=Permission.READ, unlimited=True, summary="What happened in the cluster", view=self.events,
                parameters=(after, limit, wait), answers=cluster_answers("Newest first.", EVENTS),
            ),
        )  # fmt: skip

    async def events(self, call: Call) -> Reply:
        """Raises InvalidRequest."""
        if self._deps.cluster is None:
            return alone()
        query = call.head.query()
        limit = whole_number(query, "limit", default=LIMIT, low=1, high=LIMIT_MAX)
        wait = whole_number(query, "wait", default=0, low=0, high=WAIT_SECONDS_MAX)
        after = parse_cursor(query.get("after", ""))
        news = self._since(after)
        with trio.move_on_after(wait):
            while not news.grants and not news.seen:
                await trio.sleep(AGAIN_SECONDS)
                news = self._since(after)
        found = newest_first(news.grants, news.seen, seen_by=_me(self._deps))
        return json_reply(200, {"events": found[:limit], "next": str(news.following), "total": len(found)})

    def _since(self, after: Cursor) -> News:
        assert self._deps.cluster is not None
        return since(self._deps.catalog().history, self._deps.cluster.observed(), after)


class News(NamedTuple):
    """What came after a cursor, oldest first, and the cursor that follows it."""

    grants: tuple[LeaseChange, ...]
    seen: tuple[Observation, ...]
    following: Cursor


def since(history: History, observed: Sequence[Observation], after: Cursor) -> News:
    """What came after the cursor."""
    last = observed[-1].sequence if observed else 0
    read = after.sequence if after.sequence <= last else 0
    grants = tuple(change for change in history if change.epoch > after.epoch)
    seen = tuple(each for each in observed if each.sequence > read)
    return News(grants, seen, Cursor(grants[-1].epoch if grants else after.epoch, last))


def newest_first(
    grants: Iterable[LeaseChange], seen: Iterable[Observation], *, seen_by: str
) -> list[dict[str, object]]:
    """Both kinds in one list. Clocks of several nodes told the times, so neighbours may be the wrong way round."""
    found = [(change.at_us, _grant(change)) for change in grants]
    found += [(each.at_us, _observation(each, seen_by)) for each in seen]
    found.reverse()  # of the same moment the later one comes first, because sorting keeps what is equal in its order
    return [document for _, document in sorted(found, key=lambda pair: pair[0], reverse=True)]


def _grant(change: LeaseChange) -> dict[str, object]:
    return {
        "at": rfc3339_ms(change.at_us),
        "kind": "lease_assigned",
        "node": change.holder,
        "words": words_of(change),
        "index": change.epoch,
        **change_document(change),
    }


def words_of(change: LeaseChange) -> str:
    """One grant as a sentence."""
    came = ""
    if change.previous is not None and change.previous != change.holder:
        came = f" from {change.previous}"
    elif change.previous is not None:
        came = " again"
    why = f": {change.reason}" if change.reason else ""
    lost = "" if change.is_clean else "; acknowledged rows may have been lost by it"
    return f"{change.holder} got the {change.lease} lease{came}{why}{lost}"


def _observation(seen: Observation, seen_by: str) -> dict[str, object]:
    return {
        "at": rfc3339_ms(seen.at_us),
        "kind": seen.kind,
        "node": seen.node,
        "words": seen.words,
        "sequence": seen.sequence,
        "seen_by": seen_by,
    }


def _me(deps: Deps) -> str:
    assert deps.cluster is not None
    return deps.cluster.look().me
