"""What the cluster's documents say, in words: one screen for whoever is woken up, tables, events.

Pure: text from a document of ``GET /api/v1/cluster``. A key that this program does not know is passed over, one that an
older node does not send counts as unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from arc.cli.exits import DEGRADED, OK, UNREACHABLE
from arc.cli.screen import counted, shown, size

Document = Mapping[str, object]

EXITS = {"healthy": OK, "degraded": DEGRADED, "unavailable": UNREACHABLE}
NEVER = "0001-01-01T00:00:00Z"
CLOCK_SHOWN_SECONDS = 0.1
SPARKS = "▁▂▃▄▅▆▇█"


def exit_of(document: Document) -> int:
    """The exit code that a status means; a node alone is well."""
    if document.get("enabled") is False:
        return OK
    return EXITS.get(_text(document, "state"), UNREACHABLE)


def is_alone(document: Document) -> bool:
    """Whether the node said that it has no cluster."""
    return document.get("enabled") is False


def lines(document: Document) -> Iterator[tuple[str, str]]:
    """What stands above the table of nodes, as (name, sentence)."""
    uuid = f", {_text(document, 'cluster_uuid')}" if document.get("cluster_uuid") else ""
    yield "cluster", f"{_text(document, 'cluster_name') or 'without a name yet'}{uuid}"
    seen = f"as {_text(document, 'local_node_id')} sees it at {_text(document, 'made_at')}"
    yield "state", f"{_text(document, 'state').upper()}, {seen}"
    yield "leader", _leader(_object(document, "leader"))
    yield "may fail", _may_fail(document)
    for lease in _objects(document, "leases"):
        yield _text(lease, "lease"), _lease(lease)
        plan = _object(lease, "plan")
        if plan:
            yield "", _plan(plan)
    members = _object(document, "in_sync").get("members")
    names = ", ".join(map(str, members)) if isinstance(members, list) and members else "nobody"
    yield "in sync", f"{names}: whoever may take over writes without losing a row"


def _leader(leader: Document) -> str:
    if not leader:
        return "nobody is known to lead"
    return f"{_text(leader, 'id')} since {_since(leader, 'led_seconds')}, term {leader.get('term')}"


def _may_fail(document: Document) -> str:
    votes = _object(document, "quorum")
    count = _whole(document, "failures_tolerated")
    answers = f"{votes.get('answering')} of {votes.get('voters')} voters answer, {votes.get('needed')} must"
    more = "no further node" if not count else "one more node" if count == 1 else f"{count} more nodes"
    return f"{more}, whichever it is: {answers}"


def _lease(lease: Document) -> str:
    holder = lease.get("holder")
    if holder is None:
        return "nobody holds it"
    why = f": {_text(lease, 'reason')}" if lease.get("reason") else ""
    unclean = "; acknowledged rows may have been lost by that" if lease.get("is_clean") is False else ""
    silent = " AND DOES NOT ANSWER" if lease.get("holder_answers") is False else ""
    return f"{holder}{silent} since {_since(lease, 'held_seconds')}, epoch {lease.get('epoch')}{why}{unclean}"


def _plan(plan: Document) -> str:
    able = [each for each in _objects(plan, "candidates") if each.get("is_eligible")]
    heir = f"; next in line: {_text(able[0], 'id')}, which {_text(able[0], 'reason')}" if able else "; nobody is next"
    wait = _number(plan, "look_again_seconds")
    pause = f" (in {span(wait)})" if wait else ""
    return f"{_text(plan, 'verdict')}: {_text(plan, 'reason')}{pause}{heir}"


def _since(document: Document, held: str) -> str:
    since = _text(document, "since")
    if not since or since == NEVER:
        return "an unknown time"
    seconds = document.get(held)
    return f"{since} ({span(float(seconds))})" if isinstance(seconds, int | float) else since


COLUMNS = ("node", "role", "state", "is", "note", "heard", "entries behind", "records behind", "seconds behind",
           "disk free", "certificate", "clock", "version", "peers at", "clients at")  # fmt: skip


def rows(nodes: Iterable[Document]) -> Iterator[tuple[object, ...]]:
    """The table of nodes."""
    for node in nodes:
        yield (
            node.get("id"),
            node.get("role"),
            node.get("state"),
            node.get("kind"),
            ", ".join(_notes(node)),
            _heard(node),
            node.get("entries_behind"),
            node.get("records_behind"),
            node.get("seconds_behind"),
            _disk_free(node),
            _certificate(node),
            _clock(node),
            node.get("version"),
            node.get("address"),
            node.get("api_address"),
        )


def _notes(node: Document) -> Iterator[str]:
    if node.get("is_leader"):
        yield "leads"
    if node.get("writer_state") == "primary":
        yield "writes"
    if node.get("is_active_compactor"):
        yield "compacts"
    if node.get("is_in_sync"):
        yield "in sync"
    if node.get("is_local"):
        yield "this node"


def _heard(node: Document) -> str:
    if node.get("is_local"):
        return "-"
    seconds = node.get("last_contact_seconds")
    return f"{span(float(seconds))} ago" if isinstance(seconds, int | float) else "never"


def _disk_free(node: Document) -> str | None:
    free = node.get("disk_free_bytes")
    return size(free) if isinstance(free, int) else None


def _certificate(node: Document) -> str | None:
    """What is left of the first certificate that will be over."""
    left = node.get("certificate_left_seconds")
    if not isinstance(left, int | float):
        return None
    return f"{span(float(left))} left" if left > 0 else "IS OVER"


def _clock(node: Document) -> str | None:
    """Against the node that was asked. What is below a heartbeat's way and wait is no difference."""
    offset = node.get("clock_offset_seconds")
    if node.get("is_local") or not isinstance(offset, int | float):
        return None
    return "same" if abs(offset) < CLOCK_SHOWN_SECONDS else f"{offset:+.1f} s"


def nodes_of(document: Document) -> list[Document]:
    """Its nodes."""
    return _objects(document, "nodes")


def notes(document: Document) -> Iterator[str]:
    """What is wrong and what to do, worst first."""
    for trouble in _objects(document, "degraded"):
        yield f"{_text(trouble, 'severity')}: {_text(trouble, 'words')} [{_text(trouble, 'code')}]"
        yield f"next: {_text(trouble, 'next_command')}"


def next_command(document: Document) -> str:
    """The one command to run next; empty when nothing has to be done."""
    first = next(iter(_objects(document, "degraded")), None)
    return _text(first, "next_command") if first is not None else ""


def event_line(event: Document) -> str:
    """One event. What came from other nodes is shown without control characters."""
    seen_by = f" (seen by {_text(event, 'seen_by')})" if event.get("seen_by") else ""
    return shown(f"{_text(event, 'at')}  {_text(event, 'kind'):18}{_text(event, 'words')}{seen_by}")


def events_of(document: Document) -> list[Document]:
    """Its events, oldest first."""
    return _objects(document, "events")[::-1]


def snippet(document: Document, *, role: str) -> str:
    """What a new node's ``arc.toml`` needs to join this cluster. The secret is not in it, and nowhere in an answer."""
    seeds = [
        _text(node, "address") for node in nodes_of(document) if node.get("address") and node.get("kind") == "voter"
    ]
    listed = ", ".join(f'"{_quoted(seed)}"' for seed in seeds)
    return "\n".join((
        f"# Joins cluster {_text(document, 'cluster_uuid')}. The shared secret is not shown here: give it to the new",
        "# node as on every other one, in the variable ARC_CLUSTER_SHARED_SECRET.",
        "[node]",
        f'role = "{_quoted(role)}"',
        "",
        "[cluster]",
        "enabled = true",
        f'name = "{_quoted(_text(document, "cluster_name"))}"',
        f"seeds = [{listed}]",
        'advertise = "THIS-HOST:9100"  # where the others reach the new node',
    ))  # fmt: skip


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def span(seconds: float) -> str:
    """A duration for people, in two units at the most."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = int(seconds) // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def spark(values: Sequence[float]) -> str:
    """Numbers as a row of bars, the highest of them full."""
    top = max(values, default=0.0)
    if top <= 0:
        return SPARKS[0] * len(values)
    return "".join(SPARKS[min(len(SPARKS) - 1, int(value / top * (len(SPARKS) - 1) + 0.5))] for value in values)


def summary(document: Document) -> str:
    """How many are well, in a line."""
    healthy, total = _whole(document, "healthy"), _whole(document, "total")
    return f"{_text(document, 'state')}: {healthy} of {counted(total, 'node')} healthy"


def _object(document: Document, key: str) -> Document:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _objects(document: Document, key: str) -> list[Document]:
    value = document.get(key)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _text(document: Document, key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _whole(document: Document, key: str) -> int:
    value = document.get(key)
    return value if isinstance(value, int) else 0


def _number(document: Document, key: str) -> float:
    value = document.get(key)
    return float(value) if isinstance(value, int | float) else 0.0
