"""What is not as it should be in a cluster, worst first: a stable code, a sentence, and what to do about it.

Pure functions of one `Look`, which is what the gates use themselves: the catalog, the nodes as this node sees them, one
look at consensus, what the failover managers would do, the licence (P-49). The words name nodes and numbers, so that
nobody has to combine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeState
from arc.catalog.values import LEASES, WRITER
from arc.cluster.failover import Decision, Verdict
from arc.cluster.views import NodeView
from arc.license import License, LicenseState, count_cores
from arc.quorum import majority
from arc.raft.membership import halves
from arc.raft.status import Status
from arc.raft.types import Peer, Role

SILENT = (NodeState.UNHEALTHY, NodeState.DEAD, NodeState.UNKNOWN)
"""States of a node that nobody should count on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Everything at one moment, on one node. ``nodes`` are sorted by name and contain ``me``; ``now_us`` is the wall
    clock; ``decisions`` are by lease. The maps are what the parts say for status pages, empty where there is no part.
    """

    me: str
    now_us: int
    is_running: bool
    cluster_name: str
    catalog: Catalog
    nodes: tuple[NodeView, ...]
    consensus: Status
    licence: License
    decisions: Mapping[str, Decision]
    failover: Mapping[str, Mapping[str, object]]
    router: Mapping[str, object]
    catch_up: Mapping[str, int] | None

    def node(self, name: str | None) -> NodeView | None:
        """The node of this name."""
        return next((view for view in self.nodes if view.name == name), None)

    def answers(self, name: str) -> bool:
        """Whether a node can be counted on, as far as this one can see."""
        view = self.node(name)
        return view is not None and (view.is_local or view.state not in SILENT)


class Severity(StrEnum):
    """How bad it is."""

    WARNING = "warning"
    """Everything works."""
    DEGRADED = "degraded"
    """Everything works, and less may fail than should."""
    UNAVAILABLE = "unavailable"
    """Writes, or changes, are not possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Something that somebody should know. ``next_command`` is what to run, or where to look."""

    code: str
    severity: Severity
    words: str
    next_command: str


def degraded(look: Look) -> tuple[Reason, ...]:
    """Everything that is not as it should be, worst first."""
    order = list(Severity)[::-1]
    found = [*_agreement(look), *_leases(look), *_nodes(look), *_redundancy(look), *_this_node(look), *_licence(look)]
    return tuple(sorted(found, key=lambda reason: order.index(reason.severity)))


def failures_tolerated(look: Look) -> int:
    """How many more nodes may fail, whichever they are, before something stops: votes, or writes."""
    spares = [spare for *_, spare in votes(look)]
    in_sync = look.catalog.in_sync
    if in_sync is not None:
        spares.append(sum(look.answers(name) for name in in_sync.members) - 1)
    return max(0, min(spares, default=0))


def votes(look: Look) -> list[tuple[int, int, int]]:
    """For each majority that is needed: its voters, those who answer, and how many of these may still fail."""
    found: list[tuple[int, int, int]] = []
    for half in halves(look.consensus.configuration):
        if half:
            answering = sum(_votes_now(look, peer) for peer in half)
            found.append((len(half), answering, answering - majority(len(half))))
    return found


def _votes_now(look: Look, peer: Peer) -> bool:
    """The leader knows who answers it; others see who is well."""
    if peer == look.consensus.me:
        return True
    if look.consensus.role is Role.LEADER:
        return any(follower.peer == peer and follower.is_active for follower in look.consensus.followers)
    view = look.node(peer.name)
    return view is not None and view.incarnation == peer.incarnation and view.state not in SILENT


# --------------------------------------------------------------------------------------------------- what is not right


def _agreement(look: Look) -> Iterator[Reason]:
    if look.consensus.leader is not None:
        return
    scarcest = min(votes(look), key=lambda half: half[2], default=None)
    if scarcest is None:
        words = "this node belongs to no cluster yet: nobody has taken it in, and none was founded here"
        yield Reason(code="not_founded", severity=Severity.UNAVAILABLE, words=words, next_command="arc cluster init")
        return
    voters, answering, _ = scarcest
    yield Reason(
        code="no_leader",
        severity=Severity.UNAVAILABLE,
        words=f"nobody leads, so nothing can be agreed on: {majority(voters)} of {voters} voters must reach each "
        f"other, and this node hears {answering}, itself among them",
        next_command="arc raft status",
    )


def _leases(look: Look) -> Iterator[Reason]:
    for name in LEASES:
        decision, held = look.decisions.get(name), look.catalog.leases.get(name)
        if decision is None:
            continue
        is_writer = name == WRITER
        severity = Severity.UNAVAILABLE if is_writer else Severity.DEGRADED
        effect = "writes are not taken" if is_writer else "small files are not merged"
        next_command = f"arc cluster failover {name}"
        if decision.verdict is Verdict.STUCK:
            next_command = "arc cluster nodes"
        if held is None:
            yield Reason(
                code=f"{name}_unheld",
                severity=severity,
                words=f"nobody holds the {name} lease, so {effect}: {decision.reason}",
                next_command=next_command,
            )
        elif not look.answers(held.holder):
            yield Reason(
                code=f"{name}_down",
                severity=severity,
                words=f"{held.holder} holds the {name} lease and does not answer, so {effect}: {decision.reason}",
                next_command=next_command,
            )


def _nodes(look: Look) -> Iterator[Reason]:
    for view in look.nodes:
        if view.is_local or view.state not in SILENT:
            continue
        heard = "was never heard by this node"
        if view.heard_seconds_ago is not None:
            heard = f"was last heard {view.heard_seconds_ago:.0f} s ago"
        is_dead = view.state is NodeState.DEAD
        yield Reason(
            code="node_dead" if is_dead else "node_unhealthy",
            severity=Severity.DEGRADED,
            words=f"{view.name} ({view.role}) is {view.state}: it {heard}",
            next_command=f"arc cluster remove {view.name}" if is_dead else "arc cluster events",
        )


def _redundancy(look: Look) -> Iterator[Reason]:
    if look.consensus.leader is None or len(look.nodes) == 1 or failures_tolerated(look) > 0:
        return
    in_sync = look.catalog.in_sync
    answering = [name for name in in_sync.members if look.answers(name)] if in_sync is not None else []
    scarce = next((f"{a} of {v} voters answer and {majority(v)} must" for v, a, spare in votes(look) if spare < 1), "")
    yield Reason(
        code="no_failure_tolerated",
        severity=Severity.DEGRADED,
        words="no further node may fail: "
        + (scarce or f"only {', '.join(answering) or 'nobody'} of those who could take over writes answers"),
        next_command="arc cluster nodes",
    )


def _this_node(look: Look) -> Iterator[Reason]:
    if look.consensus.is_damaged:
        words = f"{look.me} has lost entries of its log that it may have acknowledged; it neither votes nor leads"
        yield Reason(code="log_damaged", severity=Severity.DEGRADED, words=words, next_command="arc raft status")
    if not look.consensus.has_space:
        words = f"the disk of {look.me} is full: it still votes, and takes no proposals"
        yield Reason(code="disk_full", severity=Severity.DEGRADED, words=words, next_command="arc doctor")


def _licence(look: Look) -> Iterator[Reason]:
    state, cores = look.licence.state(look.now_us), count_cores(look.licence, look.catalog.nodes.values())
    told = "ask the issuer of the licence for a new one and set license.file"
    if state is not LicenseState.VALID:
        words = f"the licence of {look.licence.holder} is over" + (
            "; in its days of grace everything works" if state is LicenseState.GRACE else ": no node starts again"
        )
        yield Reason(code=f"license_{state}", severity=Severity.WARNING, words=words, next_command=told)
    if cores.maximum and cores.total > cores.maximum:
        words = f"the nodes have {cores.total} cores and the licence allows {cores.maximum}: no other node is taken in"
        yield Reason(code="cores_exceeded", severity=Severity.WARNING, words=words, next_command=told)
