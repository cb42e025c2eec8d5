"""Rows that are kept out for a moment: of a database, or of one measurement, which is about to be dropped.

A write that is not inside yet waits until the hold is over and is settled anew, since what it was settled with may be
gone by then. So of every write racing with a drop all rows are before it, and gone, or behind it.
"""

from __future__ import annotations

from collections.abc import Iterable

import trio

from arc.errors import Unavailable
from arc.ids import Epoch


class Hold:
    """Until `release`, no rows of ``database`` come in, or none of ``measurement``. ``through`` is the last record that
    was given out before, ``epoch`` that of the writer lease.
    """

    def __init__(self, holds: Holds, epoch: Epoch, database: str, measurement: str | None) -> None:
        self._holds = holds
        self._over = trio.Event()
        self.epoch = epoch
        self.database = database
        self.measurement = measurement
        self.through = 0

    def __repr__(self) -> str:
        return f"<Hold {self.database}.{self.measurement or '*'} through={self.through} over={self._over.is_set()}>"

    def covers(self, database: str, measurements: Iterable[str]) -> bool:
        """Whether any of these rows are kept out."""
        return database == self.database and (self.measurement is None or self.measurement in measurements)

    async def wait_over(self, seconds_max: float) -> None:
        """Return once it is released. Raises Unavailable where that takes longer: a write that waits is not inside."""
        with trio.move_on_after(seconds_max):
            await self._over.wait()
            return
        raise Unavailable(f"{self.database}.{self.measurement or '*'} is being dropped; nothing was stored")

    def release(self) -> None:
        """Let rows in again. A second call does nothing."""
        if not self._over.is_set():
            self._holds.end(self)
            self._over.set()


class Holds:
    """All holds of one intake. ``ended`` counts those that are over."""

    def __init__(self, epoch: Epoch) -> None:
        self._epoch = epoch
        self._holds: list[Hold] = []
        self.ended = 0

    def __repr__(self) -> str:
        return f"<Holds {self._holds} ended={self.ended}>"

    def begin(self, database: str, measurement: str | None) -> Hold:
        """Keep these rows out from now on."""
        hold = Hold(self, self._epoch, database, measurement)
        self._holds.append(hold)
        return hold

    def find(self, database: str, measurements: Iterable[str]) -> Hold | None:
        """One that keeps any of these rows out."""
        return next((hold for hold in self._holds if hold.covers(database, measurements)), None)

    def end(self, hold: Hold) -> None:
        """For `Hold.release`."""
        self._holds.remove(hold)
        self.ended += 1

    def end_all(self) -> None:
        """The intake is over: whoever waits is told so."""
        for hold in tuple(self._holds):
            hold.release()
