"""Moves the leases: one manager for the writer's, one for the compactor's, both the same but for their policy.

A manager works on the Raft leader only, and looks whenever something happened: a node fell ill or got well, the catalog
changed, leadership changed, a cooldown ended; a slow safety tick is all the polling there is (P-48). What `failover`
decides is proposed as a compare-and-set, so two leaders, or an answer that got lost, never move a lease twice: a lost
answer is settled by asking the same again and looking at what was agreed on.

From the last sign of life of a holder to the proposal pass at most ``HealthConfig.detection_seconds`` (1.2 s by
default) where this node was watching already: every voter is, so also when the leader dies together with the writer.
Agreeing takes one round trip and one fsync more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.commands import AssignLease
from arc.catalog.events import InSyncChanged, LeaseAssigned, LeaseVacated, NodeDescribed, NodeForgotten
from arc.catalog.leases import Lease
from arc.cluster.callbacks import (
    DEFAULT_CALLBACK_TIMEOUT_SECONDS,
    Callbacks,
    CallbackStatistics,
    OnComplete,
    OnStart,
)
from arc.cluster.failover import (
    Decision,
    LeasePolicy,
    Moment,
    Verdict,
    can_finish,
    decide,
    is_reachable,
    last_move,
    plan_move,
)
from arc.cluster.feed import Feed, Subscription
from arc.cluster.moving import Mover, PrepareHandOver, Propose
from arc.cluster.node_events import NodeSubscription
from arc.cluster.registry import Registry
from arc.cluster.views import NodeView
from arc.errors import ArcError, Conflict, InvalidRequest, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.ports import Clock
from arc.telemetry import LONG_BOUNDS, Distribution, Histogram, Log, rfc3339_ms

SAFETY_SECONDS = 5.0
"""How often is looked although nothing happened."""

BACKOFF_SECONDS = (0.05, 0.2, 1.0)
"""Pauses after attempts that failed, the last one repeats; an event ends a pause early."""

WARNING_SECONDS = 60.0
"""From one warning that nobody can take over to the next of the same words."""

_RELEVANT = (LeaseAssigned, LeaseVacated, InSyncChanged, NodeDescribed, NodeForgotten)


class Leadership(Protocol):
    """What is asked of consensus; `arc.raft.node.RaftNode` is one."""

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows."""
        ...

    async def read(self) -> int:
        """Return when the catalog holds all that was agreed on before. Raises Unavailable."""
        ...

    async def wait_changed(self) -> None:
        """Return when leadership may have changed since the call."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FailoverStatistics:
    """``moves_total`` are those that this process began and that were agreed on; ``verdict`` is of this moment.

    ``last_move_us`` is the wall clock of the last move that the cluster remembers, 0 for none.
    """

    is_running: bool
    is_moving: bool
    moves_total: int
    manual_total: int
    failures_total: int
    last_move_us: int
    holder: str
    epoch: int
    verdict: Verdict
    eligible_candidates: int
    callbacks: CallbackStatistics


class LeaseManager:
    """Keeps one lease in good hands. See `WriterFailoverManager` and `CompactorFailoverManager`."""

    holder_key = "holder_id"

    def __init__(
        self,
        *,
        policy: LeasePolicy,
        registry: Registry,
        feed: Feed,
        propose: Propose,
        leadership: Leadership,
        clock: Clock,
        log: Log,
        hand_over: PrepareHandOver | None = None,
        on_start: OnStart | None = None,
        on_complete: OnComplete | None = None,
        callback_timeout_seconds: float = DEFAULT_CALLBACK_TIMEOUT_SECONDS,
    ) -> None:
        self._policy = policy
        self._registry = registry
        self._feed = feed
        self._leadership = leadership
        self._clock = clock
        self._log = log.bind(component="failover", lease=policy.lease)
        self._callbacks = Callbacks(on_start, on_complete, timeout_seconds=callback_timeout_seconds, log=self._log)
        self._mover = Mover(
            catalog=lambda: feed.catalog,
            propose=propose,
            hand_over=hand_over,
            callbacks=self._callbacks,
            clock=clock,
            log=self._log,
        )
        self._wake = trio.Event()
        self._is_running = self._is_current = False
        self._known = (feed.catalog.lease_epoch(policy.lease), clock.now())
        self._failed_in_a_row = 0
        self._told: tuple[Verdict, str, float] | None = None
        self._manual = self._failures = 0
        self._durations = Histogram(LONG_BOUNDS)
        self._last_failure = ""

    def __repr__(self) -> str:
        lease = self._feed.catalog.leases.get(self._policy.lease)
        held = "nobody" if lease is None else f"{lease.holder}@{lease.epoch}"
        return f"<{type(self).__name__} {held} leader={self._leadership.is_leader} moving={self._mover.is_moving}>"

    # --------------------------------------------------------------------------------------------------------- running

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after the lease until cancelled."""
        with self._feed.subscribe() as changes, self._registry.events().subscribe() as notices:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._callbacks.run)
                nursery.start_soon(self._hear_catalog, changes)
                nursery.start_soon(self._hear_nodes, notices)
                nursery.start_soon(self._hear_leadership)
                self._is_running = True
                task_status.started()
                try:
                    while True:
                        self._wake = trio.Event()
                        pause = await self._turn()
                        with trio.move_on_after(pause):
                            await self._wake.wait()
                finally:
                    self._is_running = False

    async def trigger_manual_failover(self, target: NodeId | None = None, reason: str = "an operator asked") -> Lease:
        """Move the lease to ``target``, or to the best candidate, whatever the cooldown; returns the new lease.

        The holder is asked to finish first, if it can be asked and ``hand_over`` was given; when that fails, nothing
        happens. Raises Unavailable (code ``not_leader``: ask there; ``no_candidate``; or nothing happened), Conflict
        (code ``failover_in_progress``, or what `failover.plan_move` says), NotFound, OutcomeUnknown.
        """
        if not self._leadership.is_leader:
            raise Unavailable("only the leader moves leases, and this node does not lead", code="not_leader")
        await self._catch_up()
        if self._mover.is_moving:
            raise Conflict(f"the {self._policy.lease} lease is being moved already", code="failover_in_progress")
        catalog, views = self._feed.catalog, self._registry.all()
        command = plan_move(catalog, views, self._policy.lease, target, reason, self._clock.wall_us())
        holder = self._registry.get(catalog.leases[self._policy.lease].holder)
        self._manual += 1
        try:
            return await self._move(command, holder, is_prepared=holder is not None and can_finish(holder))
        except ArcError as error:
            self._fail(error.message)
            raise
        finally:
            self._wake.set()

    # ------------------------------------------------------------------------------------------------------- questions

    def explain(self) -> Decision:
        """What should become of the lease now, as this node sees it, and why; only the leader acts on it."""
        return self._decide()

    def statistics(self) -> FailoverStatistics:
        """Counters since the start."""
        decision = self._decide()
        last = last_move(self._feed.catalog.history, self._policy.lease)
        return FailoverStatistics(
            is_running=self._is_running,
            is_moving=self._mover.is_moving,
            moves_total=self._mover.moves_total,
            manual_total=self._manual,
            failures_total=self._failures,
            last_move_us=last.at_us if last is not None else 0,
            holder=decision.holder or "",
            epoch=decision.epoch,
            verdict=decision.verdict,
            eligible_candidates=sum(each.is_eligible for each in decision.candidates),
            callbacks=self._callbacks.statistics(),
        )

    def durations(self) -> Distribution:
        """How long the lease was in no hands, for moves from one holder that this process made: from the last sign of
        life of one that fell silent, or from the order of one that could be asked, until the grant was agreed on.
        """
        return self._durations.statistics()

    def stats(self) -> dict[str, object]:
        """The same for status pages, in the words of Arc in Go, with the reasons."""
        decision = self._decide()
        holder = self._registry.get(decision.holder) if decision.holder is not None else None
        last = last_move(self._feed.catalog.history, self._policy.lease)
        found: dict[str, object] = {
            "running": self._is_running,
            self.holder_key: decision.holder or "",
            "consecutive_fails": holder.failed_checks if holder is not None else 0,
            "failover_in_progress": self._mover.is_moving,
            "cooldown_period": f"{self._policy.cooldown_seconds:g}s",
            "verdict": decision.verdict.value,
            "reason": decision.reason,
            "last_failure": self._last_failure,
            "candidates": [
                {"node_id": each.name, "eligible": each.is_eligible, "reason": each.reason}
                for each in decision.candidates
            ],
        }
        if last is not None:
            found["last_failover_at"] = rfc3339_ms(last.at_us)
        return found

    # ---------------------------------------------------------------------------------------------------------- acting

    async def _turn(self) -> float:
        """Look once, act if need be; seconds until the next look."""
        self._note_grant()
        if not self._leadership.is_leader:
            self._is_current = False
            return SAFETY_SECONDS
        if self._mover.is_moving:
            return SAFETY_SECONDS  # Whoever moves it wakes this task at the end.
        try:
            await self._catch_up()
            if self._mover.is_moving:
                return SAFETY_SECONDS
            decision = self._decide()
            self._tell(decision)
            if decision.command is not None:
                is_prepared = decision.is_planned and not self._mover.insists(decision.epoch)
                holder = self._registry.get(decision.holder) if decision.holder is not None else None
                await self._move(decision.command, holder, is_prepared=is_prepared)
        except (Unavailable, OutcomeUnknown, InvalidRequest) as error:
            self._fail(error.message)
            pause = BACKOFF_SECONDS[min(self._failed_in_a_row, len(BACKOFF_SECONDS) - 1)]
            self._failed_in_a_row += 1
            return pause
        self._failed_in_a_row = 0
        return min(SAFETY_SECONDS, decision.look_again_seconds or SAFETY_SECONDS)

    async def _move(self, command: AssignLease, holder: NodeView | None, *, is_prepared: bool) -> Lease:
        """Raises as `Mover.move`. ``holder`` as it was when the move was decided on."""
        is_first = command.lease not in self._feed.catalog.leases
        began = self._clock.now() - silence_of(holder)
        lease = await self._mover.move(command, is_prepared=is_prepared)
        if not is_first:
            self._durations.observe(self._clock.now() - began)
        return lease

    async def _catch_up(self) -> None:
        """Once in a leadership: know what was agreed on before it, so that nothing is decided on old facts."""
        if not self._is_current:
            await self._leadership.read()
            self._is_current = True

    def _decide(self) -> Decision:
        self._note_grant()
        at = Moment(now_us=self._clock.wall_us(), known_seconds=self._clock.now() - self._known[1])
        return decide(self._feed.catalog, self._registry.all(), at, self._policy)

    def _note_grant(self) -> None:
        """Since when this process knows the current grant; also while another node leads."""
        epoch = self._feed.catalog.lease_epoch(self._policy.lease)
        if epoch != self._known[0]:
            self._known = (epoch, self._clock.now())

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._last_failure = reason
        self._log.warning("failover_failed", reason=reason)

    def _tell(self, decision: Decision) -> None:
        """Say what changed; and, once a minute, that nobody can take over."""
        now, before = self._clock.now(), self._told
        is_same = before is not None and before[:2] == (decision.verdict, decision.reason)
        is_stuck = decision.verdict is Verdict.STUCK
        if is_same and not (is_stuck and before is not None and now - before[2] >= WARNING_SECONDS):
            return
        self._told = (decision.verdict, decision.reason, now)
        if is_stuck:
            self._log.warning("failover_stuck", reason=decision.reason)
        elif before is not None or decision.verdict is not Verdict.KEEP:
            self._log.info(f"failover_{decision.verdict}", reason=decision.reason)

    # --------------------------------------------------------------------------------------------------------- hearing

    async def _hear_catalog(self, changes: Subscription) -> None:
        async for change in changes:
            if any(isinstance(event, _RELEVANT) for event in change.events):
                self._note_grant()
                self._wake.set()

    async def _hear_nodes(self, notices: NodeSubscription) -> None:
        async for _ in notices:
            self._wake.set()

    async def _hear_leadership(self) -> None:
        while True:
            await self._leadership.wait_changed()
            self._is_current = False
            self._wake.set()


def silence_of(holder: NodeView | None) -> float:
    """For how many seconds a holder has been of no use already; 0 for one that can finish, or has gone."""
    if holder is None:
        return 0.0
    if is_reachable(holder):
        return holder.stats.disk_stalled_seconds
    return holder.heard_seconds_ago if holder.heard_seconds_ago is not None else holder.state_seconds


class WriterFailoverManager(LeaseManager):
    """Keeps the writer's lease in good hands. Its policy is `failover.writer_policy`."""

    holder_key = "primary_id"


class CompactorFailoverManager(LeaseManager):
    """Keeps the compactor's lease in good hands. Its policy is `failover.compactor_policy`."""

    holder_key = "active_compactor_id"
