"""Whether a node is alive, judged from what was heard of it: a pure step from one check to the next.

A check fails when nothing was heard for ``check_timeout_seconds``. Three failed checks in a row make a healthy node
unhealthy, six make any node dead; one that succeeds brings it back to the state that was agreed on. A session that
breaks fails the next check at once, which only brings the counting forward: the silence has to be there all the same,
so a connection that is made anew in time harms nobody.

With the defaults a node is unhealthy 1.0 to 1.2 s after the last sign of life (0.6 to 0.8 s when its session broke):
0.6 s of silence until the first check can fail, and two more checks 0.2 s apart, each up to 0.2 s late for its
moment. A peer that tells every 0.25 s may thus be paused for 0.75 s and nobody notices.

Nothing a node says about its own state counts here (P-37): joining, healthy and leaving are agreed on, the rest is
seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from arc.catalog.roles import AGREED_STATES, NodeState, may_become


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthConfig:
    """Section ``[health]``: how quickly a node that fell silent is noticed."""

    heartbeat_seconds: float = 0.25
    """How often a node tells those who decide about it: voters and the holders of leases."""

    far_heartbeat_seconds: float = 2.0
    """How often it tells everybody else, in whole multiples of heartbeat_seconds."""

    check_interval_seconds: float = 0.2
    """How often every other node is checked."""

    check_timeout_seconds: float = 0.6
    """A check fails when nothing was heard for longer. More than twice heartbeat_seconds: one may be lost."""

    unhealthy_threshold: int = 3
    """Failed checks in a row until a node counts as unhealthy; as dead after twice as many."""

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_seconds <= self.far_heartbeat_seconds:
            raise ValueError("heartbeat_seconds must be above 0 and at most far_heartbeat_seconds")
        if self.check_interval_seconds <= 0:
            raise ValueError("check_interval_seconds must be above 0")
        if self.check_timeout_seconds <= 2 * self.heartbeat_seconds:
            raise ValueError("check_timeout_seconds must be more than twice heartbeat_seconds: one may be lost")
        if self.unhealthy_threshold < 1:
            raise ValueError("unhealthy_threshold must be at least 1")

    @property
    def dead_threshold(self) -> int:
        """Failed checks in a row until a node counts as dead."""
        return 2 * self.unhealthy_threshold

    @property
    def far_timeout_seconds(self) -> float:
        """The time-out on a node that is told at the slow pace; there, too, one heartbeat may be lost."""
        return self.check_timeout_seconds + 2 * self.far_heartbeat_seconds

    @property
    def detection_seconds(self) -> float:
        """How long after its last sign of life a node is unhealthy at the latest, where it is watched closely."""
        return self.check_timeout_seconds + self.unhealthy_threshold * self.check_interval_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What this node has made of the checks of another one so far. ``since`` is when it entered ``state``."""

    state: NodeState = NodeState.UNKNOWN
    failed_checks: int = 0
    since: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What one check goes by. ``now`` and ``Health.since`` are seconds of the same clock."""

    now: float
    heard_seconds_ago: float | None
    """None: never, by this process."""

    is_broken: bool = False
    """The session broke and nothing was heard since."""

    is_watching: bool = True
    """This node has been told at the full pace for as long as a judgement takes; until then it is patient."""

    is_late: bool = False
    """This node was itself held up before the check: what it did not hear is no evidence against others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A node went from one state to another in the eyes of this one."""

    old: NodeState
    new: NodeState


def judge(health: Health, agreed: NodeState, evidence: Evidence, config: HealthConfig) -> Health:
    """The health after one more check. ``agreed`` is one of `AGREED_STATES`."""
    assert agreed in AGREED_STATES, agreed
    before = aligned(health.state, agreed)
    failed = 0 if _succeeds(evidence, config) else health.failed_checks + _counts(evidence)
    if _succeeds(evidence, config):
        state = _towards(before, agreed)
    elif is_silent(evidence, config):
        state = _after_failures(before, failed, config)
    else:
        state = before
    return Health(state=state, failed_checks=failed, since=health.since if state is health.state else evidence.now)


def is_silent(evidence: Evidence, config: HealthConfig) -> bool:
    """Whether nothing was heard for longer than the time-out."""
    timeout = config.check_timeout_seconds if evidence.is_watching else config.far_timeout_seconds
    return evidence.heard_seconds_ago is None or evidence.heard_seconds_ago > timeout


def aligned(state: NodeState, agreed: NodeState) -> NodeState:
    """What is agreed on holds at once for a node that is seen alive; what is seen of others holds until a check."""
    return agreed if state in AGREED_STATES else state


def moved(health: Health, state: NodeState, now: float) -> Health:
    """The same health in another state."""
    return health if state is health.state else replace(health, state=state, since=now)


def _succeeds(evidence: Evidence, config: HealthConfig) -> bool:
    return not evidence.is_broken and not is_silent(evidence, config)


def _counts(evidence: Evidence) -> bool:
    """A node that was never heard may still be connecting: its silence counts once this node has listened enough."""
    return not evidence.is_late and (evidence.is_watching or evidence.heard_seconds_ago is not None)


def _towards(state: NodeState, agreed: NodeState) -> NodeState:
    """One step, or through healthy where the table has no step of its own: dead, seen again, and leaving."""
    if state is agreed or may_become(state, agreed):
        return agreed
    assert may_become(state, NodeState.HEALTHY), (state, agreed)
    assert may_become(NodeState.HEALTHY, agreed), (state, agreed)
    return agreed


def _after_failures(state: NodeState, failed: int, config: HealthConfig) -> NodeState:
    """Who is joining, leaving or unknown was not relied on: it is never unhealthy, only dead in the end."""
    if failed >= config.dead_threshold and may_become(state, NodeState.DEAD):
        return NodeState.DEAD
    if failed >= config.unhealthy_threshold and may_become(state, NodeState.UNHEALTHY):
        return NodeState.UNHEALTHY
    return state
