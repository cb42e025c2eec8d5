"""Who should hold a lease: one pure policy, used for the writer's lease and for the compactor's.

``decide`` looks at what is agreed on and at what this node sees, and answers with at most one compare-and-set command
and the reasons for it (P-19, P-20). A first election is a replacement of nobody: the same way, the same candidates
(P-18). It keeps no memory: cooldowns are reckoned from the grants that the catalog remembers, so the next leader knows
them, and an attempt that failed is not among them (P-21).

A lease moves when nobody holds it, when its holder left, is leaving or may not hold it any more, and when its holder
has been silent: slow is not silent. The writer's also moves when the disk of its holder stands still: it lives and is
heard, and can store nothing. A dedicated compactor takes its lease back from a stand-in.

Nothing happens here; `failover_managers` acts, on the Raft leader only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from arc.catalog.commands import AssignLease
from arc.catalog.facts import Catalog
from arc.catalog.leases import REASON_CHARS_MAX, History, Lease, LeaseChange, may_hold
from arc.catalog.roles import NodeRole, NodeState
from arc.catalog.values import COMPACTOR, WRITER
from arc.cluster.candidates import Candidate, rank
from arc.cluster.judging import HealthConfig
from arc.cluster.views import NodeView
from arc.errors import Conflict, NotFound, Unavailable
from arc.ids import NodeId

PREEMPT_COOLDOWNS = 10
"""A stand-in keeps the compactor's lease for so many cooldowns: moving it costs the merges that are running."""

LOOK_SECONDS = 1.0
"""How often is looked whether the disk of the writer stands still."""

_SILENT = (NodeState.UNHEALTHY, NodeState.DEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverConfig:
    """Section ``[failover]``: when a lease moves by itself."""

    enabled: bool = True
    """Replace holders that fell silent. Off: only a first holder is chosen, and one that leaves or is removed is
    replaced.
    """

    cooldown_seconds: float = 5.0
    """So long the writer's lease stays where it was moved to, however ill its holder."""

    compactor_patience_seconds: float = 10.0
    """So long a compactor may be silent; a writer is replaced as soon as it is unhealthy."""

    compactor_cooldown_seconds: float = 60.0
    """So long the compactor's lease stays where it was moved to; ten times as long before it is taken back."""

    preempt_after_seconds: float = 60.0
    """So long a dedicated compactor must be healthy before it takes the lease back from a writer."""

    def __post_init__(self) -> None:
        for name in (
            "cooldown_seconds",
            "compactor_patience_seconds",
            "compactor_cooldown_seconds",
            "preempt_after_seconds",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


@dataclass(frozen=True, slots=True, kw_only=True)
class LeasePolicy:
    """What differs between the two leases. ``preempt_after_seconds`` is None where nobody has a better claim."""

    lease: str
    is_automatic: bool
    patience_seconds: float
    cooldown_seconds: float
    preempt_after_seconds: float | None = None
    preempt_cooldown_seconds: float = 0.0
    look_seconds: float | None = None
    """How often is looked although nothing happened: numbers change and nobody tells. None: the holder's disk is no
    reason to move it.
    """

    @property
    def kept_seconds(self) -> float:
        """How long nobody with a better claim takes the lease from a healthy holder that it was moved to; a cooldown
        only protects one that falls silent.
        """
        return max(self.cooldown_seconds, self.preempt_cooldown_seconds)


def writer_policy(config: FailoverConfig, health: HealthConfig) -> LeasePolicy:
    """The writer is replaced once it is unhealthy, unless it was heard again since the check that said so."""
    return LeasePolicy(
        lease=WRITER,
        is_automatic=config.enabled,
        patience_seconds=health.check_timeout_seconds,
        cooldown_seconds=config.cooldown_seconds,
        look_seconds=LOOK_SECONDS,
    )


def compactor_policy(config: FailoverConfig, health: HealthConfig) -> LeasePolicy:
    """Merging can wait, and moving it costs what is half done: everything takes longer."""
    return LeasePolicy(
        lease=COMPACTOR,
        is_automatic=config.enabled,
        patience_seconds=max(config.compactor_patience_seconds, health.check_timeout_seconds),
        cooldown_seconds=config.compactor_cooldown_seconds,
        preempt_after_seconds=config.preempt_after_seconds,
        preempt_cooldown_seconds=PREEMPT_COOLDOWNS * config.compactor_cooldown_seconds,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When it is decided. ``now_us`` is the wall clock; ``known_seconds`` is how long this process has known the
    current grant, by the clock that never jumps.
    """

    now_us: int
    known_seconds: float


class Verdict(StrEnum):
    """What becomes of the lease."""

    KEEP = "keep"
    WAIT = "wait"
    """It would move, but not yet."""
    MOVE = "move"
    STUCK = "stuck"
    """It should move, and nobody can take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict and why. ``command`` only with `Verdict.MOVE`.

    ``is_planned``: the holder is alive and can be asked to finish first. ``look_again_seconds``: when time alone will
    change the answer.
    """

    lease: str
    holder: NodeId | None
    epoch: int
    verdict: Verdict
    reason: str
    candidates: tuple[Candidate, ...]
    command: AssignLease | None = None
    is_planned: bool = False
    look_again_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class _Case:
    """Why the lease should move. ``wait_seconds``: not before that; ``choice`` narrows who may take it.

    ``detail`` is told when it moves: numbers that change from look to look are no news.
    """

    why: str
    wait_seconds: float = 0.0
    waits_for: str = ""
    choice: tuple[Candidate, ...] | None = None
    detail: str = ""


def decide(catalog: Catalog, views: Sequence[NodeView], at: Moment, policy: LeasePolicy) -> Decision:
    """What should become of the lease now."""
    lease = catalog.leases.get(policy.lease)
    candidates = rank(catalog, views, policy.lease)
    by_name = {view.name: view for view in views}
    holder = None if lease is None else by_name.get(lease.holder)
    case = _case(catalog, lease, holder, candidates, at, policy)

    def decision(verdict: Verdict, reason: str, command: AssignLease | None = None) -> Decision:
        return Decision(
            lease=policy.lease,
            holder=lease.holder if lease is not None else None,
            epoch=lease.epoch if lease is not None else 0,
            verdict=verdict,
            reason=reason,
            candidates=candidates,
            command=command,
            is_planned=holder is not None and command is not None and can_finish(holder),
            look_again_seconds=case.wait_seconds
            if isinstance(case, _Case) and case.wait_seconds > 0
            else policy.look_seconds,
        )

    if isinstance(case, str):
        return decision(Verdict.KEEP, case)
    if case.choice is None and not any(each.is_eligible for each in candidates):
        return decision(
            Verdict.STUCK, f"{case.why}, and nobody can take over; {remedy(catalog, by_name, policy.lease)}"
        )
    if case.wait_seconds > 0 or case.waits_for:
        return decision(Verdict.WAIT, f"{case.why}; {case.waits_for}")
    chosen = (case.choice or candidates)[0]
    reason = f"{case.why}{case.detail}; {chosen.name} {chosen.reason}"
    return decision(Verdict.MOVE, reason, command_for(catalog, policy.lease, chosen.name, reason, at.now_us))


def plan_move(
    catalog: Catalog, views: Sequence[NodeView], lease: str, target: NodeId | None, reason: str, now_us: int
) -> AssignLease:
    """The command for a move that an operator asks for; cooldowns do not bind him.

    Raises Conflict (nobody holds the lease yet; the target holds it, cannot hold it, is not in sync or not healthy),
    NotFound (no such node), Unavailable (nobody can take it).
    """
    if lease not in catalog.leases:
        raise Conflict(f"nobody holds the {lease} lease yet, so there is nothing to move", code="conflict")
    candidates = rank(catalog, views, lease)
    if target is None:
        chosen = next((each for each in candidates if each.is_eligible), None)
        if chosen is None:
            what = remedy(catalog, {view.name: view for view in views}, lease)
            raise Unavailable(f"nobody can take the {lease} lease; {what}", code="no_candidate")
    else:
        chosen = next((each for each in candidates if each.name == target), None)
        if chosen is None:
            raise NotFound(f"there is no node {target!r}")
        if not chosen.is_eligible:
            raise Conflict(f"{target} cannot take the {lease} lease: it {chosen.reason}", code=chosen.code)
    return command_for(catalog, lease, chosen.name, f"{reason}; {chosen.name} {chosen.reason}", now_us)


def command_for(catalog: Catalog, lease: str, target: NodeId, reason: str, now_us: int) -> AssignLease:
    """The compare-and-set that gives the lease to a node, if nobody else is quicker."""
    return AssignLease(
        lease=lease,
        node=target,
        expect_epoch=catalog.lease_epoch(lease),
        reason=reason[:REASON_CHARS_MAX],
        at_us=now_us,
    )


def is_reachable(view: NodeView) -> bool:
    """Whether the node can be asked something, as far as is known."""
    return view.state not in (*_SILENT, NodeState.UNKNOWN)


def can_finish(view: NodeView) -> bool:
    """Whether a holder can be asked to finish first, before its lease goes elsewhere."""
    return is_reachable(view) and not view.is_stalled


def last_move(history: History, lease: str) -> LeaseChange | None:
    """The last grant that took the lease from one node and gave it to another."""
    changes = (each for each in reversed(history) if each.lease == lease)
    return next((each for each in changes if each.previous not in (None, each.holder)), None)


def cooldown_left(catalog: Catalog, lease: str, at: Moment, seconds: float) -> float:
    """How much of a cooldown is left.

    A wall clock that jumped ahead ends it early; one that jumped back cannot make it last, because this process counts
    for itself as well.
    """
    last = last_move(catalog.history, lease)
    if last is None:
        return 0.0
    return max(0.0, seconds - max((at.now_us - last.at_us) / 1e6, at.known_seconds))


def remedy(catalog: Catalog, views: Mapping[NodeId, NodeView], lease: str) -> str:
    """What would bring the lease back to life, in words."""
    if lease != WRITER:
        return "start a node of role compactor or writer, or wait until one is healthy"
    if catalog.in_sync is None:
        return "start a node that may write, or wait until one is healthy"

    def spoken(name: NodeId) -> str:
        return f"{name} ({views[name].state if name in views else 'no member'})"

    members = ", ".join(spoken(name) for name in catalog.in_sync.members)
    if not members:
        return (
            "whoever was known to hold every acknowledged row was removed; writes go on after "
            "'arc cluster promote NODE --accept-data-loss', with the rows that NODE has"
        )
    return (
        f"known to hold every acknowledged row: {members}; writes go on when one of them is healthy, or after "
        "'arc cluster promote NODE --accept-data-loss'"
    )


def _case(
    catalog: Catalog,
    lease: Lease | None,
    holder: NodeView | None,
    candidates: tuple[Candidate, ...],
    at: Moment,
    policy: LeasePolicy,
) -> _Case | str:
    """Why the lease should move, or why it stays."""
    if not catalog.nodes:
        return "no node is described, so this node is alone"
    if lease is None:
        return _Case("nobody holds the lease")
    record = catalog.nodes.get(lease.holder)
    if record is None:
        return _Case(f"{lease.holder} is no member any more")
    if not may_hold(policy.lease, NodeRole(record.role)):
        return _Case(f"{lease.holder} is a {record.role} now")
    if record.state == NodeState.LEAVING:
        return _Case(f"{lease.holder} is leaving")
    if holder is None or holder.state is NodeState.UNKNOWN:
        return f"{lease.holder} was not heard of yet, which says nothing about it"
    if holder.state in _SILENT:
        return _silent_case(catalog, holder, at, policy)
    if holder.is_stalled and policy.look_seconds is not None:
        return _stalled_case(catalog, holder, at, policy)
    return _preempting_case(catalog, holder, candidates, at, policy) or f"{holder.name} holds it and is {holder.state}"


def _silent_case(catalog: Catalog, holder: NodeView, at: Moment, policy: LeasePolicy) -> _Case:
    silent = holder.heard_seconds_ago if holder.heard_seconds_ago is not None else holder.state_seconds
    why = f"{holder.name} is {holder.state}"
    if policy.is_automatic and silent < policy.patience_seconds:
        return _Case(why, policy.patience_seconds - silent, "it may come back")
    return _ill_case(catalog, at, policy, why, f" and silent for {silent:.1f} s")


def _stalled_case(catalog: Catalog, holder: NodeView, at: Moment, policy: LeasePolicy) -> _Case:
    why = f"the disk of {holder.name} stands still"
    return _ill_case(catalog, at, policy, why, f" for {holder.stats.disk_stalled_seconds:.1f} s")


def _ill_case(catalog: Catalog, at: Moment, policy: LeasePolicy, why: str, detail: str) -> _Case:
    """The holder cannot do what it should: the lease moves, unless that is off, or it was moved just now."""
    if not policy.is_automatic:
        return _Case(why, waits_for="failover is off: somebody has to move it by hand")
    left = cooldown_left(catalog, policy.lease, at, policy.cooldown_seconds)
    if left > 0:
        return _Case(why, left, "the lease was moved just now and cools down")
    return _Case(why, detail=detail)


def _preempting_case(
    catalog: Catalog, holder: NodeView, candidates: tuple[Candidate, ...], at: Moment, policy: LeasePolicy
) -> _Case | None:
    """A dedicated compactor has a better claim than whoever stands in for it."""
    if policy.preempt_after_seconds is None or not policy.is_automatic or holder.role is NodeRole.COMPACTOR:
        return None
    dedicated = [each for each in candidates if each.is_eligible and each.is_dedicated]
    if not dedicated:
        return None
    steady = tuple(each for each in dedicated if each.healthy_seconds >= policy.preempt_after_seconds)
    why = f"{holder.name} stands in for a dedicated compactor"
    if not steady:
        left = policy.preempt_after_seconds - max(each.healthy_seconds for each in dedicated)
        return _Case(why, left, "the dedicated one has not been healthy for long")
    left = cooldown_left(catalog, policy.lease, at, policy.preempt_cooldown_seconds)
    if left > 0:
        return _Case(why, left, "the lease was moved not long ago and cools down")
    return _Case(why, choice=steady)
