"""Carries out one move of a lease: the holder finishes, if it can be asked; the grant is agreed on; everybody is told.

The grant is a compare-and-set, so it is given once or not at all. An answer that was lost is settled by asking the same
again and looking at what was agreed on; it never becomes a second move.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import trio

from arc.catalog.commands import AssignLease, Command
from arc.catalog.facts import Catalog
from arc.catalog.leases import Lease
from arc.catalog.results import Result
from arc.cluster.callbacks import Callbacks
from arc.errors import Conflict, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.ports import Clock
from arc.telemetry import Log

ASSIGN_SECONDS_MAX = 10.0
"""How long an answer to a proposal is waited for before it counts as lost."""

ASKED_MAX = 3
"""How often the same is asked before the outcome stays unknown."""

HAND_OVER_SECONDS = 5.0
"""How long a holder that is alive may take to finish before the move is given up."""

CLOSED_SECONDS = HAND_OVER_SECONDS + 2.0
"""How long a holder stays closed that heard no more; a grant takes milliseconds, and a late one is safe."""

HAND_OVERS_MAX = 3
"""So often a holder that is leaving is asked to finish first; then the lease goes without (nothing acknowledged is
lost: the next one is in sync; but clients of what was on its way are told that the outcome is unknown).
"""


class Propose(Protocol):
    """Changes the catalog; `cluster.proposals`."""

    async def propose(self, command: Command) -> Result:
        """Have a command agreed and applied. Raises Unavailable, OutcomeUnknown."""
        ...


class PrepareHandOver(Protocol):
    """Asks the holder of a lease, perhaps another node, to finish: take nothing new, and wait until ``target`` has all.

    Unless the lease is gone within ``seconds_max`` of the call, the holder takes writes again by itself, and at once
    when it cannot finish: nobody has to tell it that the move failed.
    """

    async def __call__(self, holder: NodeId, target: NodeId, epoch: int, /, *, seconds_max: float) -> None:
        """Return when the target has all. Raises Unavailable, OutcomeUnknown, Conflict: it does not or cannot."""
        ...


class Mover:
    """Moves leases, one at a time."""

    def __init__(
        self,
        *,
        catalog: Callable[[], Catalog],
        propose: Propose,
        hand_over: PrepareHandOver | None,
        callbacks: Callbacks,
        clock: Clock,
        log: Log,
    ) -> None:
        self._catalog = catalog
        self._propose = propose
        self._hand_over = hand_over
        self._callbacks = callbacks
        self._clock = clock
        self._log = log
        self._refused_hand_overs = (0, 0)
        self.is_moving = False
        self.moves_total = 0

    def __repr__(self) -> str:
        return f"<Mover moving={self.is_moving} moves={self.moves_total}>"

    def insists(self, epoch: int) -> bool:
        """Whether the holder of this epoch could not finish so often that the lease goes without."""
        return self._refused_hand_overs[0] == epoch and self._refused_hand_overs[1] >= HAND_OVERS_MAX

    async def move(self, command: AssignLease, *, is_prepared: bool) -> Lease:
        """Return the new lease. ``is_prepared``: the holder is asked to finish first.

        Raises Unavailable, OutcomeUnknown, InvalidRequest (refused: the target is gone, or somebody was quicker).
        """
        assert not self.is_moving, "one move at a time"
        held = self._catalog().leases.get(command.lease)
        self.is_moving, is_done = True, False
        begun = self._clock.now()
        self._log.info("failover_started", node=command.node, epoch=command.expect_epoch, reason=command.reason)
        self._callbacks.start(held.holder if held is not None else None, command.node)
        try:
            if is_prepared and held is not None and self._hand_over is not None:
                await self._prepare(self._hand_over, held, command.node)
            await self._assign(command)
            is_done = True
        finally:
            self.is_moving = False
            self._callbacks.complete(command.node, is_done=is_done)
        self.moves_total += 1
        lease = self._catalog().leases[command.lease]
        seconds = round(self._clock.now() - begun, 3)
        self._log.info("failover_done", node=lease.holder, epoch=lease.epoch, seconds=seconds)
        return lease

    async def _prepare(self, hand_over: PrepareHandOver, held: Lease, target: NodeId) -> None:
        """Raises Unavailable, OutcomeUnknown or Conflict: the holder could not finish in time, and goes on."""
        try:
            with trio.fail_after(HAND_OVER_SECONDS):
                await hand_over(held.holder, target, held.epoch, seconds_max=CLOSED_SECONDS)
        except trio.TooSlowError:
            self._count_refused(held.epoch)
            raise Unavailable(f"{held.holder} did not finish within {HAND_OVER_SECONDS:g} s") from None
        except (Unavailable, OutcomeUnknown, Conflict):
            self._count_refused(held.epoch)
            raise

    async def _assign(self, command: AssignLease) -> None:
        for _ in range(ASKED_MAX):
            try:
                with trio.fail_after(ASSIGN_SECONDS_MAX):
                    result = await self._propose.propose(command)
            except (OutcomeUnknown, trio.TooSlowError):
                if self._stands(command):
                    return
                continue
            if not result.ok and not self._stands(command):
                result.unwrap()
            return
        raise OutcomeUnknown(f"whether {command.node} was given the {command.lease} lease is not known")

    def _stands(self, command: AssignLease) -> bool:
        """Whether just this command was agreed on: its grant is the first one after the epoch that it expected."""
        for change in self._catalog().history:
            if change.lease == command.lease and change.epoch > command.expect_epoch:
                asked = (command.node, command.at_us, command.reason)
                return (change.holder, change.at_us, change.reason) == asked
        return False

    def _count_refused(self, epoch: int) -> None:
        before, times = self._refused_hand_overs
        self._refused_hand_overs = (epoch, times + 1 if before == epoch else 1)
