"""Databases and measurements forgotten, on the node that holds the writer lease: keep rows out, flush, one command.

Rows of what is dropped are kept out for a moment, those inside are flushed, and then every record that was given out so
far is void, in the same entry of the log that takes schema and files away: no buffer, log or late copy of a file brings
anything back, on any node. A write that raced with it is either before, and gone, or behind it, and makes the database
or measurement anew.

The entry carries the epoch of the lease, and counts only under it. It is asked for under a number of its own until its
outcome is known, and rows stay out until then: a late copy of it cannot take along what came in behind it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import trio

from arc.catalog.commands import DropDatabase, DropMeasurement, Once
from arc.catalog.facts import Catalog
from arc.deletion.orders import DropOrder, Outcome
from arc.deletion.ports import Hold, Propose, Writer
from arc.errors import ArcError, NotFound, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.ports import Clock, Rng
from arc.telemetry import Log

AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class DropStatistics:
    """Databases and measurements dropped by this node; ``unknown_total`` answers were lost and asked for again."""

    drops_total: int
    unknown_total: int


class Dropper:
    """One drop at a time. Whoever calls it may be cancelled only when the node stops."""

    def __init__(
        self,
        *,
        node: NodeId,
        catalog: Callable[[], Catalog],
        propose: Propose,
        writer: Writer,
        clock: Clock,
        rng: Rng,
        log: Log,
    ) -> None:
        self._catalog = catalog
        self._propose = propose
        self._writer = writer
        self._clock = clock
        self._log = log.bind(component="drop")
        self._node = node
        self._rng = rng
        self._client = ""
        self._sequence = 0
        self._turn = trio.StrictFIFOLock()
        self._drops = self._unknown = 0

    def __repr__(self) -> str:
        return f"<Dropper drops={self._drops}>"

    async def drop(self, order: DropOrder) -> Outcome:
        """Forget it. Raises NotFound, Unavailable (it is all still there), Conflict (the lease went elsewhere)."""
        async with self._turn:
            began = self._clock.now()
            reign = self._writer.require_reign()
            await reign.confirm()
            self._require(order)
            epoch = reign.epoch
            hold = await reign.hold_rows(order.database, order.measurement)
            outcome = await self._drop(order, epoch, hold)
            hold.release()
            self._drops += 1
            self._log.info(
                "dropped",
                database=order.database,
                measurement=order.measurement or "*",
                files=outcome.files,
                rows=outcome.rows,
                through=hold.through,
            )
            return replace(outcome, milliseconds=(self._clock.now() - began) * 1e3)

    def _require(self, order: DropOrder) -> list[str]:
        """The measurements that go."""
        facts = self._catalog().databases.get(order.database)
        if facts is None:
            raise NotFound(f"database {order.database!r} not found")
        if order.measurement is None:
            return sorted(facts.measurements)
        if order.measurement not in facts.measurements:
            raise NotFound(f"measurement {order.measurement!r} not found in database {order.database!r}")
        return [order.measurement]

    async def _drop(self, order: DropOrder, epoch: int, hold: Hold) -> Outcome:
        """Releases the hold when it raises, unless it was cancelled: then nobody knows, and the node stops."""
        action: DropDatabase | DropMeasurement
        if order.measurement is None:
            action = DropDatabase(name=order.database, up_to=hold.through, epoch=epoch)
        else:
            action = DropMeasurement(database=order.database, name=order.measurement, up_to=hold.through, epoch=epoch)
        # Two runs of one node never share a name.
        self._client = self._client or f"drop/{self._node}/{self._rng.bytes(8).hex()}"
        self._sequence += 1
        try:
            catalog = self._catalog()
            stats = [catalog.file_stats(order.database, name) for name in self._require(order)]
            index = await self._until_known(
                Once(client=self._client, sequence=self._sequence, action=action, asked_after=catalog.index)
            )
        except ArcError:
            hold.release()
            raise
        return Outcome(rows=sum(one.rows for one in stats), files=sum(one.files for one in stats), index=index)

    async def _until_known(self, command: Once) -> int:
        """The index of the entry. Raises what refused it, Unavailable."""
        may_have_happened = False
        while True:
            try:
                result = await self._propose.propose(command)
                result.unwrap()
                return result.index
            except OutcomeUnknown as error:
                if error.code == "client_forgotten":
                    raise  # Nobody will ever know: its number was forgotten, and so no copy can take effect any more.
                may_have_happened = True
                reason = error.message
            except Unavailable as error:
                if not may_have_happened:
                    raise
                reason = error.message
            self._unknown += 1
            self._log.warning("drop_unknown", reason=reason, effect="rows of it wait", next_step="asked again")
            command = replace(command, is_retry=True)
            await trio.sleep(AGAIN_SECONDS)

    def statistics(self) -> DropStatistics:
        """Numbers for status and metrics."""
        return DropStatistics(drops_total=self._drops, unknown_total=self._unknown)
