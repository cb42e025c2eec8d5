"""What a demo and a drill wait for and check in a cluster: each step looks at endpoints and has a deadline.

A node that does not answer is part of the play. What is missing is told while it is waited for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from arc.cli.asking import ask
from arc.cli.cluster_asking import fetch
from arc.cli.cluster_screen import notes
from arc.cli.connect import open_client
from arc.cli.exits import UNREACHABLE, Failure
from arc.cli.live import Live
from arc.cli.numbered import DEMO, Ack, Count, Load, Target, judge_rows

SETTLE_SECONDS = 20.0
"""How long it is waited for full health once every node is there; then it goes on, and says what is missing."""
HAND_OVER_SECONDS = 60.0
LOOK_SECONDS = 5.0
POLL_SECONDS = 0.1
NUMBERS_PER_QUERY = 100_000

Document = Mapping[str, object]


def wait_whole(
    endpoints: Sequence[str],
    token: str,
    count: int,
    deadline: float,
    live: Live,
    *,
    watch: Callable[[], None] = lambda: None,
) -> Document:
    """Return when every node says that all are healthy and one of them writes. Raises Failure when not by then.

    A cluster that works and is not fully healthy is waited for a little longer, and then taken as it is.
    """
    works_since: float | None = None
    why: list[str] = []
    while time.monotonic() < deadline:
        watch()
        found = [look_at(endpoint, token) for endpoint in endpoints]
        seen = [document for document in found if isinstance(document, dict)]
        why = sorted({reason for each in found for reason in _missing(each, count)})
        if not why:
            return seen[0]
        works = len(seen) == len(endpoints) and all(_works(document, count) for document in seen)
        works_since = (works_since or time.monotonic()) if works else None
        if works_since is not None and time.monotonic() - works_since > SETTLE_SECONDS:
            live.say(f"it works and is not fully healthy: {'; '.join(why)}")
            return seen[0]
        live.show(f"waiting: {'; '.join(why)}")
        time.sleep(POLL_SECONDS)
    raise Failure(
        f"the cluster is not whole: {'; '.join(why) or 'no time to look'}",
        next_step="Run it again on a less busy machine, or with fewer nodes.",
        exit_code=UNREACHABLE,
        code="not_whole",
    )


def _missing(found: dict[str, object] | Failure, count: int) -> list[str]:
    """What a node says is missing; empty when all is well."""
    if isinstance(found, Failure):
        return [found.cause]
    if found.get("enabled") is False:
        return [str(found.get("reason"))]
    if not _works(found, count):
        return [f"{found.get('healthy_count', 0)} of {count} nodes are healthy"]
    if found.get("state") == "healthy":
        return []
    return [note for note in notes(found) if not note.startswith("next:")]


def _works(document: Document, count: int) -> bool:
    """All nodes are there and well, one leads and one writes."""
    return (
        document.get("healthy_count") == count
        and document.get("node_count") == count
        and document.get("state") in ("healthy", "degraded")
        and lease_of(document, "writer")[0] is not None
        and leader_of(document) is not None
    )


def wait_hand_over(
    endpoints: Sequence[str], token: str, old_epoch: int, old: str, deadline: float, live: Live
) -> Document:
    """Return when a node says that another one than ``old`` holds the writer lease in a newer epoch. Raises Failure."""
    why = ""
    while time.monotonic() < deadline:
        for endpoint in endpoints:
            found = look_at(endpoint, token)
            if isinstance(found, Failure):
                why = found.cause
                continue
            holder, epoch = lease_of(found, "writer")
            if holder not in (None, old) and epoch > old_epoch:
                return found
            why = next(notes(found), "nothing is wrong, they say")
        live.show(f"waiting for somebody to take over from {old}: {why}")
        time.sleep(POLL_SECONDS / 2)
    raise Failure(
        f"nobody took over from {old} within {HAND_OVER_SECONDS:.0f} s: {why}",
        effect="No row can be written.",
        exit_code=UNREACHABLE,
        code="no_hand_over",
    )


def stream(live: Live, load: Load, endpoints: Sequence[str], token: str, *, until: float, every_seconds: float) -> None:
    """Let rows come in until then, and say how it is. Raises what ended a worker of the load."""
    while (now := time.monotonic()) < until:
        load.require_well()
        found = any_look(endpoints, token)
        state = "nobody answers"
        if found is not None:
            state = f"{found.get('state')}, {lease_of(found, 'writer')[0]} writes, {leader_of(found)} leads"
        live.show(f"{now - load.started_at:5.1f} s  {load.rows:>9,} rows acknowledged  {state}")
        time.sleep(max(0.0, min(every_seconds, until - time.monotonic())))


def verify(name: str, endpoint: str, token: str, acks: Sequence[Ack], deadline: float, target: Target = DEMO) -> Count:
    """Ask one node for every row, until it shows all that were acknowledged or the time is over. Raises Failure."""
    began = time.monotonic()
    trouble: Failure | None = None
    count: Count | None = None
    with open_client(endpoint, token) as client:
        while True:
            try:
                found: dict[int, int] = {}
                last = max((ack.first + ack.rows for ack in acks), default=0)
                for low in range(0, last, NUMBERS_PER_QUERY):
                    sql = (
                        f"SELECT id, count(*) AS n FROM {target.measurement} WHERE id >= {low} AND "
                        f"id < {low + NUMBERS_PER_QUERY} GROUP BY id"
                    )
                    for number, times in ask(client, sql, database=target.database).rows:
                        found[int(str(number))] = int(str(times))
                count = judge_rows(acks, found, node=name, seconds=time.monotonic() - began)
                if count.is_whole:
                    return count
            except Failure as error:
                if error.exit_code != UNREACHABLE:
                    raise
                trouble = error
            if time.monotonic() > deadline:
                if count is not None:
                    return count
                assert trouble is not None
                raise trouble
            time.sleep(POLL_SECONDS)


def lease_of(document: Document, name: str) -> tuple[str | None, int]:
    """Who holds a lease, and in which epoch."""
    found = document.get("leases")
    for lease in found if isinstance(found, list) else ():
        if isinstance(lease, dict) and lease.get("lease") == name:
            holder, epoch = lease.get("holder"), lease.get("epoch")
            return str(holder) if holder else None, epoch if isinstance(epoch, int) else 0
    return None, 0


def leader_of(document: Document) -> str | None:
    """Who leads."""
    leader = document.get("leader")
    return str(leader["id"]) if isinstance(leader, dict) and leader.get("id") else None


def reason_of(document: Document) -> str:
    """Why the writer is who it is."""
    found = document.get("leases")
    leases = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return next((str(lease.get("reason")) for lease in leases if lease.get("lease") == "writer"), "")


def look_at(endpoint: str, token: str) -> dict[str, object] | Failure:
    """A node's status, or why there is none."""
    try:
        with open_client(endpoint, token, answer_seconds=LOOK_SECONDS) as client:
            return fetch(client)
    except Failure as failure:
        return failure


def any_look(endpoints: Sequence[str], token: str) -> dict[str, object] | None:
    """The status that the first node has which answers."""
    return next((each for each in (look_at(one, token) for one in endpoints) if isinstance(each, dict)), None)
