"""What is not as it should be in the cluster, worst first: a stable code, a sentence, and the command to run next.

Pure: it judges one `Outlook`. The words name nodes and numbers, because an operator at night must not have to combine.
`docs/operating.md` explains every code; `tests/api/test_cluster.py` checks that it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from arc.catalog.leases import may_hold
from arc.catalog.roles import NodeState
from arc.catalog.values import COMPACTOR, WRITER
from arc.cluster.outlook import (
    SILENT,
    Outlook,
    certificate_left,
    clock_offsets,
    entries_behind,
    failures_tolerated,
    kind_of,
    quorum_of,
    records_behind,
)
from arc.cluster.views import NodeView

LAG_SECONDS_MAX = 30.0
"""A follower that lacks older rows than this makes a hand-over slow, and its queries old."""

LAG_ENTRIES_MAX = 1000
"""Entries of consensus; some seconds of a very busy cluster."""


CERTIFICATE_SECONDS_MIN = 14 * 86_400.0
"""What is left of a certificate when somebody should replace it (ecosystem 5.3); the log begins at 30 days."""

CLOCK_SECONDS_MAX = 0.5
"""How far clocks may differ. Nothing is ordered by them, but rows without a time get the writer's; half a second is a
hundred times what time services leave, and ten times what a heartbeat is late.
"""


class Verdict(StrEnum):
    """How the cluster is. The order is from best to worst."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class Trouble(NamedTuple):
    """Something that somebody should know, and what he can do. Unavailable: changes or writes are not possible."""

    code: str
    severity: Verdict
    words: str
    next_command: str

    def document(self) -> dict[str, object]:
        """The JSON form."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "words": self.words,
            "next_command": self.next_command,
        }


CODES = (
    "not_founded", "no_leader", "writer_unheld", "writer_down", "writer_refuses",
    "node_starting", "log_damaged", "disk_full", "disk_stalled", "node_dead", "node_unhealthy",
    "no_failure_tolerated", "two_voters", "certificate_expired", "in_sync_alone", "files_under_replicated",
    "compactor_unheld", "compactor_down",
    "rows_behind", "catalog_behind", "node_refuses_queries", "node_joining", "node_leaving", "versions_differ",
    "certificate_expires", "clock_differs",
    "license_expired", "license_grace", "cores_exceeded",
)  # fmt: skip
"""All codes, in the order in which they are told."""


def troubles(outlook: Outlook) -> tuple[Trouble, ...]:
    """Everything that is wrong, worst first."""
    found = [
        *_agreement(outlook),
        *_writer(outlook),
        *_this_node(outlook),
        *_nodes(outlook),
        *_redundancy(outlook),
        *_compactor(outlook),
        *_lag(outlook),
        *_passing(outlook),
        *_certificates(outlook),
        *_clocks(outlook),
        *_licence(outlook),
    ]
    order = {code: at for at, code in enumerate(CODES)}
    return tuple(sorted(found, key=lambda trouble: order[trouble.code]))


def verdict_of(found: Iterable[Trouble]) -> Verdict:
    """The worst of them; healthy when there is none."""
    severities = {trouble.severity for trouble in found}
    return next((each for each in (Verdict.UNAVAILABLE, Verdict.DEGRADED) if each in severities), Verdict.HEALTHY)


def _agreement(outlook: Outlook) -> Iterator[Trouble]:
    if outlook.leader is not None:
        return
    votes = quorum_of(outlook)
    if outlook.identity is None and not votes.voters:
        yield Trouble(
            "not_founded",
            Verdict.UNAVAILABLE,
            "this node belongs to no cluster yet: nobody has taken it in, and none was founded here",
            "arc cluster init",
        )
        return
    silent = f"; {_listed(votes.silent)} cannot be heard from here" if votes.silent else ""
    yield Trouble(
        "no_leader",
        Verdict.UNAVAILABLE,
        f"nobody leads, so nothing can be agreed on: {votes.needed} of {votes.voters} voters must reach each other, "
        f"and this node hears {votes.answering} (itself among them){silent}",
        "arc raft status",
    )


def _writer(outlook: Outlook) -> Iterator[Trouble]:
    held = outlook.writer
    if held is None:
        if outlook.leader is not None:
            able = [view for view in outlook.nodes if may_hold(WRITER, view.role)]
            words = "nobody holds the writer lease, so no rows can be written"
            words += "" if able else ": no node of this cluster has a role that may write"
            yield Trouble("writer_unheld", Verdict.UNAVAILABLE, words, "arc cluster failover writer")
        return
    view = outlook.node(held.holder)
    if not outlook.answers(held.holder):
        yield Trouble(
            "writer_down",
            Verdict.UNAVAILABLE,
            f"{held.holder} holds the writer lease and {_how(view)}, so no rows can be written; {_takeover(outlook)}",
            _takeover_command(outlook),
        )
    elif view is not None and view.stats.refuses_writes:
        yield Trouble(
            "writer_refuses",
            Verdict.UNAVAILABLE,
            f"{held.holder} holds the writer lease and takes no writes: {view.stats.refuses_writes}",
            "arc cluster events",
        )


def _takeover(outlook: Outlook) -> str:
    plan = outlook.plans.get(WRITER)
    heirs = _heirs(outlook)
    if heirs:
        return plan.reason if plan is not None else f"{heirs[0].name} is in sync and can take over"
    members = outlook.in_sync.members if outlook.in_sync is not None else ()
    return (
        f"nobody can take over without losing acknowledged rows: in sync are only {_listed(members)}, and "
        "bringing one of them back brings writes back"
    )


def _takeover_command(outlook: Outlook) -> str:
    if _heirs(outlook):
        return "arc cluster events --follow"
    able = [view for view in outlook.nodes if may_hold(WRITER, view.role) and outlook.answers(view.name)]
    best = max(able, key=lambda view: view.stats.durable_sequence, default=None)
    if best is None:
        return "arc cluster nodes"
    return f"arc cluster promote {best.name} --accept-data-loss"


def _heirs(outlook: Outlook) -> list[NodeView]:
    members = outlook.in_sync.members if outlook.in_sync is not None else ()
    found = [outlook.node(name) for name in members if outlook.answers(name)]
    return [view for view in found if view is not None and may_hold(WRITER, view.role)]


def _this_node(outlook: Outlook) -> Iterator[Trouble]:
    if outlook.behind is not None:
        yield Trouble(
            "node_starting",
            Verdict.DEGRADED,
            f"{outlook.me}, which was asked, may not know everything: {outlook.behind}",
            "arc cluster health --wait",
        )
    status = outlook.consensus
    if status is not None and status.is_damaged:
        yield Trouble(
            "log_damaged",
            Verdict.DEGRADED,
            f"{outlook.me} has lost entries of its log that it may have acknowledged; it neither votes nor leads "
            "until the leader has repaired it",
            "arc raft status",
        )
    if status is not None and not status.has_space:
        yield Trouble(
            "disk_full",
            Verdict.DEGRADED,
            f"the disk of {outlook.me} is full: it still votes, but takes no proposals",
            "arc doctor",
        )


def _nodes(outlook: Outlook) -> Iterator[Trouble]:
    for view in outlook.nodes:
        if view.is_stalled and view.state not in SILENT:
            yield Trouble(
                "disk_stalled",
                Verdict.DEGRADED,
                f"the disk of {view.name} stands still: a write has been under way for "
                f"{view.stats.disk_stalled_seconds:.0f} s; the node lives, and can store nothing",
                "arc cluster events",
            )
        if view.is_local or view.state not in SILENT:
            continue
        is_dead = view.state is NodeState.DEAD
        yield Trouble(
            "node_dead" if is_dead else "node_unhealthy",
            Verdict.DEGRADED,
            f"{view.name} ({view.role}, {kind_of(outlook, view)}) {_how(view)}",
            f"arc cluster remove {view.name}" if is_dead else "arc cluster events",
        )


def _redundancy(outlook: Outlook) -> Iterator[Trouble]:
    votes = quorum_of(outlook)
    if outlook.leader is None or not votes.voters:
        return
    if failures_tolerated(outlook) == 0:
        yield Trouble(
            "no_failure_tolerated",
            Verdict.DEGRADED,
            f"no further node may fail: {_scarce(outlook)}",
            "arc cluster nodes" if votes.silent else "arc cluster join-token",
        )
    if votes.voters == 2:
        yield Trouble(
            "two_voters",
            Verdict.DEGRADED,
            "two voters: when either of them is away, nothing can be agreed on; a third makes the cluster safer",
            "arc cluster join-token",
        )
    able = [view.name for view in outlook.nodes if may_hold(WRITER, view.role) and outlook.answers(view.name)]
    if outlook.in_sync is not None and len(outlook.in_sync.members) == 1 and len(able) > 1:
        (alone,) = outlook.in_sync.members
        yield Trouble(
            "in_sync_alone",
            Verdict.DEGRADED,
            f"only {alone} holds every acknowledged row: if it fails, writes stop until it is back",
            "arc cluster status",
        )
    if outlook.files_under_replicated and len(outlook.nodes) > 1:
        silent = [view.name for view in outlook.nodes if not outlook.answers(view.name)]
        words = f"files on fewer than {outlook.copies_wanted} running nodes: {outlook.files_under_replicated}; "
        words += f"one more lost disk may lose rows. {_mending(silent)}"
        has_enough = len(outlook.nodes) - len(silent) >= outlook.copies_wanted
        command = "arc cluster nodes" if has_enough else "arc cluster join-token"
        yield Trouble("files_under_replicated", Verdict.DEGRADED, words, command)


def _mending(silent: Sequence[str]) -> str:
    if silent:
        return f"Bring {_listed(silent)} back, or remove what will not come back"
    return "Nodes that answer queries fetch what they lack; if the number stays, look at their logs and disks"


def _scarce(outlook: Outlook) -> str:
    votes = quorum_of(outlook)
    if votes.spare <= 0:
        return f"{votes.answering} of {votes.voters} voters answer and {votes.needed} must"
    members = outlook.in_sync.members if outlook.in_sync is not None else ()
    answering = [name for name in members if outlook.answers(name)]
    return f"of the in-sync set only {_listed(answering)} answers, and only its members can take over writes"


def _compactor(outlook: Outlook) -> Iterator[Trouble]:
    held = outlook.compactor
    able = [view for view in outlook.nodes if may_hold(COMPACTOR, view.role) and outlook.answers(view.name)]
    if held is None:
        if outlook.leader is not None and able and COMPACTOR in outlook.plans:
            yield Trouble(
                "compactor_unheld",
                Verdict.DEGRADED,
                "nobody holds the compactor lease: small files are not merged",
                f"arc cluster failover compactor --to {able[0].name}",
            )
        return
    if not outlook.answers(held.holder):
        yield Trouble(
            "compactor_down",
            Verdict.DEGRADED,
            f"{held.holder} holds the compactor lease and {_how(outlook.node(held.holder))}: small files are not "
            "merged until another node takes over",
            f"arc cluster failover compactor --to {able[0].name}" if able else "arc cluster nodes",
        )


def _lag(outlook: Outlook) -> Iterator[Trouble]:
    for view in outlook.nodes:
        if view.state in SILENT:
            continue
        lag = outlook.lags.get(view.name)
        if lag is not None and lag.seconds > LAG_SECONDS_MAX:
            yield Trouble(
                "rows_behind",
                Verdict.DEGRADED,
                f"{view.name} is {lag.seconds:.0f} s ({records_behind(outlook, view)} records) behind the writer",
                "arc cluster watch",
            )
        entries = entries_behind(outlook, view)
        if entries is not None and entries > LAG_ENTRIES_MAX:
            yield Trouble(
                "catalog_behind",
                Verdict.DEGRADED,
                f"{view.name} lacks {entries} entries of what was agreed on: it does not know the newest files",
                "arc raft status",
            )


def _passing(outlook: Outlook) -> Iterator[Trouble]:
    """What passes by itself, or was wanted."""
    for view in outlook.nodes:
        if view.state is NodeState.JOINING:
            yield Trouble(
                "node_joining", Verdict.DEGRADED, f"{view.name} joins: it gets what it lacks first",
                "arc cluster health --wait",
            )  # fmt: skip
        elif view.state is NodeState.LEAVING:
            yield Trouble(
                "node_leaving",
                Verdict.DEGRADED,
                f"{view.name} is drained: it is given nothing new",
                f"arc cluster undrain {view.name}",
            )
        if view.state is NodeState.HEALTHY and view.capabilities.can_query and view.stats.refuses_queries:
            yield Trouble(
                "node_refuses_queries",
                Verdict.DEGRADED,
                f"{view.name} answers no queries: {view.stats.refuses_queries}",
                "arc cluster health --wait",
            )
    versions = {view.version for view in outlook.nodes if view.version and view.state not in SILENT}
    if len(versions) > 1:
        yield Trouble(
            "versions_differ",
            Verdict.DEGRADED,
            f"nodes run different versions ({_listed(sorted(versions))}): fine during an upgrade, and only then",
            "arc cluster nodes",
        )


def _certificates(outlook: Outlook) -> Iterator[Trouble]:
    for view in outlook.nodes:
        left = certificate_left(outlook, view)
        if left is None or left >= CERTIFICATE_SECONDS_MIN or view.state in SILENT:
            continue
        remedy = "replace its files; they are taken up without a restart"
        if left <= 0:
            words = f"a certificate of {view.name} is over: whoever checks it opens no new connection to it; {remedy}"
            yield Trouble("certificate_expired", Verdict.DEGRADED, words, "arc doctor")
        else:
            words = f"a certificate of {view.name} is over in {_span(left)}: {remedy}"
            yield Trouble("certificate_expires", Verdict.DEGRADED, words, "arc doctor")


def _clocks(outlook: Outlook) -> Iterator[Trouble]:
    if outlook.clock_ahead_seconds > CLOCK_SECONDS_MAX:
        yield Trouble(
            "clock_differs",
            Verdict.DEGRADED,
            f"the clock of {outlook.me} is {outlook.clock_ahead_seconds:.1f} s ahead of what other nodes told "
            "before they all left. Retention and continuous queries go by that until another node is there, or "
            f"{outlook.me} is started again: look after the time service (NTP) there",
            "arc cluster nodes",
        )
    for name, offset in clock_offsets(outlook).items():
        if abs(offset) > CLOCK_SECONDS_MAX:
            where = "ahead of" if offset > 0 else "behind"
            yield Trouble(
                "clock_differs",
                Verdict.DEGRADED,
                f"the clock of {name} is {abs(offset):.1f} s {where} those of the others. Rows that come without a "
                "time get the writer's; retention and continuous queries wait for the one that is furthest behind: "
                "look after the time service (NTP) there",
                "arc cluster nodes",
            )


def _licence(outlook: Outlook) -> Iterator[Trouble]:
    licence, state = outlook.licence, str(outlook.licence.state(outlook.now_us))
    if state in ("expired", "grace"):
        effect = "until its days of grace end everything works" if state == "grace" else "no node starts again"
        yield Trouble(
            f"license_{state}",
            Verdict.DEGRADED,
            f"the licence of {licence.holder} is over: {effect}; ask its issuer for a new one",
            "arc doctor --settings",
        )
    if 0 < licence.max_cores < outlook.cores:
        yield Trouble(
            "cores_exceeded",
            Verdict.DEGRADED,
            f"the nodes have {outlook.cores} cores and the licence allows {licence.max_cores}: "
            "no other node is taken in",
            "arc cluster nodes",
        )


def _span(seconds: float) -> str:
    return f"{seconds / 86_400:.0f} days" if seconds >= 2 * 86_400 else f"{seconds / 3600:.1f} h"


def _how(view: NodeView | None) -> str:
    if view is None:
        return "is no member any more"
    heard = "was never heard by this node"
    if view.heard_seconds_ago is not None:
        heard = f"was last heard {view.heard_seconds_ago:.0f} s ago"
    return f"is {view.state}: it {heard}"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nobody"
