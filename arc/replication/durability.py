"""When a write may be acknowledged: the high watermark of a reign, and who waits for it.

Two bounds that most often are one. ``high`` is what queries see and flushes take. What is acknowledged needs more:
enough nodes in sync, and a lease that is alive. While one of the two is missing, records still become durable and
visible, but nobody is told so, and nothing new is begun.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Literal, Protocol

from arc.errors import OutcomeUnknown, Unavailable
from arc.replication.log import Pulse
from arc.replication.watermark import Watermark


class Written(Protocol):
    """The holder's own log; `ReplicaLog`."""

    @property
    def next_sequence(self) -> int:
        """Sequence of the next record; all before it are durable here."""
        ...

    @property
    def pulse(self) -> Pulse:
        """Beats when anything of replication changed."""
        ...


class Durability:
    """`ingest.durable.WaitDurable` for one reign, which begins where ``log`` ends now."""

    def __init__(
        self,
        watermark: Watermark,
        me: str,
        log: Written,
        *,
        level: Literal["replicated", "local"],
        min_insync: Callable[[], int],
    ) -> None:
        self._watermark = watermark
        self._me = me
        self._log = log
        self._level = level
        self._min_insync = min_insync
        self._acknowledged = watermark.high
        self.inherited = log.next_sequence - 1
        """The last record of earlier epochs. All up to it may have been acknowledged and seen, though a reign that has
        just begun knows a lower ``high``, or none.
        """
        self._paused: str | None = None
        self.is_over = False
        self._told = self._moves()
        self._look()

    def __repr__(self) -> str:
        return f"<Durability acknowledged={self._acknowledged} {self._watermark!r}>"

    @property
    def high(self) -> int:
        """The high watermark."""
        return self._watermark.high

    @property
    def members(self) -> frozenset[str]:
        """The in-sync set as the catalog has it."""
        return self._watermark.agreed

    @property
    def counted(self) -> frozenset[str]:
        """All whose records count for the watermark now."""
        return self._watermark.counted

    # ------------------------------------------------------------------------------------------------- for the intake

    def require_able(self) -> None:
        """Raise Unavailable while what is begun now could not be acknowledged."""
        if self._paused is not None:
            raise Unavailable(f"this node takes no writes now: {self._paused}", code="lease_expired")
        if (short := self.short) is not None:
            raise Unavailable(f"{short}; nothing was stored", code="not_enough_replicas", retry_after_seconds=2)

    @property
    def short(self) -> str | None:
        """Why too few nodes are in sync for a write to be acknowledged; None when they are enough."""
        if self._level != "replicated":
            return None
        wanted, there = self._min_insync(), self._watermark.in_sync
        if there >= wanted:
            return None
        return f"{there} of the {wanted} nodes that a write must be durable on are in sync (wal.min_insync)"

    async def wait_durable(self, sequence: int) -> int:
        """Return how far records may be acknowledged once that is at least ``sequence``. Raises OutcomeUnknown when
        the reign ended before.
        """
        while True:
            self._look()
            if self._acknowledged >= sequence:
                return self._acknowledged
            if self.is_over:
                raise OutcomeUnknown("the node lost the writer lease before this write was durable everywhere")
            await self._log.pulse.wait()

    async def wait_high(self, above: int) -> int:
        """Return the high watermark once it is higher than ``above``."""
        while True:
            self._look()
            if self._watermark.high > above:
                return self._watermark.high
            await self._log.pulse.wait()

    # --------------------------------------------------------------------------------------------- for the other parts

    def confirmed(self, name: str) -> int:
        """The last record known to be durable there; 0 when nothing was heard in this reign."""
        return self._watermark.durable(name)

    def wrote(self, name: str, through: int) -> None:
        """A follower has records up to here on its disk."""
        self._watermark.wrote(name, through)
        self._look()

    def propose(self, members: Collection[str]) -> None:
        """A change of the in-sync set is being asked for."""
        self._watermark.propose(members)
        self._look()

    def settle(self) -> None:
        """The change has an outcome."""
        self._watermark.settle()
        self._look()

    def agree(self, members: Iterable[str]) -> None:
        """The catalog has this in-sync set now."""
        self._watermark.agree(members)
        self._look()

    def pause(self, reason: str) -> None:
        """Acknowledge nothing until `go_on`."""
        self._paused = reason

    def go_on(self) -> None:
        """Acknowledge again."""
        self._paused = None
        self._log.pulse.beat()

    def end(self) -> None:
        """The reign is over: nobody waits any longer."""
        self.is_over = True
        self._log.pulse.beat()

    def _look(self) -> None:
        """Take in what the log here holds, and tell everybody what moved."""
        if self.is_over:
            return
        end = self._log.next_sequence - 1
        self._watermark.wrote(self._me, end)
        if self._paused is None and (self._level == "local" or self.short is None):
            reached = end if self._level == "local" else self._watermark.high
            self._acknowledged = max(self._acknowledged, reached)
        # Against what was told last: the watermark may have moved by itself before anybody looked.
        if (now := self._moves()) != self._told:
            self._told = now
            self._log.pulse.beat()

    def _moves(self) -> tuple[int, int, frozenset[str]]:
        """All that somebody waits for."""
        return self._watermark.high, self._acknowledged, self._watermark.agreed
