"""The leader keeps the members as the rule of `voting` wants them: it looks, and does the one thing that is next.

It acts on nothing but Raft's own status and the catalog, so any leader goes on where the last one stopped. How long a
member has been silent is counted by each leader for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.commands import ForgetNode
from arc.catalog.facts import Catalog
from arc.cluster.registrar import Propose
from arc.cluster.voting import SILENT_NOW, Action, ChangeVoters, Forget, HandOver, Silence, plan
from arc.errors import ArcError
from arc.ports import Clock
from arc.raft.events import Change
from arc.raft.status import Status
from arc.raft.types import Peer
from arc.telemetry import Log

TICK_SECONDS = 1.0
"""Pause between two looks. Nothing here is urgent: failures are tolerated meanwhile."""


class LeadingRaft(Protocol):
    """What is needed of `arc.raft.node.RaftNode`."""

    def status(self) -> Status:
        """One look at the core."""
        ...

    async def transfer(self, target: Peer | None = None) -> Peer:
        """Hand leadership over. Raises Unavailable, InvalidRequest."""
        ...


class ChangeMembership(Protocol):
    """`cluster.membership.Membership`."""

    async def change(self, changes: Iterable[Change], *, expect_index: int) -> int:
        """Change who takes part. Raises Unavailable, Conflict, InvalidRequest, OutcomeUnknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AutopilotStatistics:
    """Counters since the start; ``last_reason`` is why the last action was taken."""

    actions_total: int
    failures_total: int
    last_reason: str


class Autopilot:
    """Carries out the plan while this node leads."""

    def __init__(
        self,
        raft: LeadingRaft,
        membership: ChangeMembership,
        propose: Propose,
        catalog: Callable[[], Catalog],
        *,
        clock: Clock,
        log: Log,
        dead_voter_seconds: float,
    ) -> None:
        self._raft = raft
        self._membership = membership
        self._propose = propose
        self._catalog = catalog
        self._clock = clock
        self._log = log.bind(component="autopilot")
        self._dead_seconds = dead_voter_seconds
        self._silent_since: dict[Peer, float] = {}
        self._actions = self._failures = 0
        self._reason = ""

    def __repr__(self) -> str:
        return f"<Autopilot actions={self._actions} failures={self._failures} {self._reason}>"

    def statistics(self) -> AutopilotStatistics:
        """Numbers for status and metrics."""
        return AutopilotStatistics(actions_total=self._actions, failures_total=self._failures, last_reason=self._reason)

    async def run(self) -> None:
        """Until cancelled: look, do the one thing that is next, look again."""
        while True:
            await self.step()
            await trio.sleep(TICK_SECONDS)

    def look(self) -> list[Action]:
        """What would be done next; nothing is."""
        status = self._raft.status()
        return plan(status, self._catalog(), self._listen(status))

    async def step(self) -> Action | None:
        """Look once and do what is next; what could not be done is tried again at the next look."""
        status = self._raft.status()
        silence = self._listen(status)
        actions = plan(status, self._catalog(), silence)
        if not actions:
            await trio.lowlevel.checkpoint()
            return None
        action = actions[0]
        try:
            await self._do(action, status)
        except ArcError as error:
            self._failures += 1
            self._log.info("autopilot_failed", action=type(action).__name__, plan=action.reason, reason=error.message)
            return None
        self._actions += 1
        self._reason = action.reason
        self._log.info("autopilot", action=type(action).__name__, reason=action.reason)
        return action

    async def _do(self, action: Action, status: Status) -> None:
        match action:
            case ChangeVoters(changes, _):
                await self._membership.change(changes, expect_index=status.configuration_index)
            case HandOver(target, _):
                await self._raft.transfer(target)
            case Forget(record, _):
                command = ForgetNode(name=record.name, incarnation=record.incarnation)
                (await self._propose.propose(command)).unwrap()

    def _listen(self, status: Status) -> Silence:
        """Who is silent since when. A new leader begins to count anew: it has not listened before."""
        now = self._clock.now()
        silent = {each.peer for each in status.followers if not each.is_active}
        self._silent_since = {peer: self._silent_since.get(peer, now) for peer in sorted(silent)}
        seconds = {peer: max(now - since, SILENT_NOW) for peer, since in self._silent_since.items()}
        return Silence(seconds, self._dead_seconds)
