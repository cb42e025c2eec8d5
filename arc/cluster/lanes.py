"""Names under which one node can ask again for what it proposed: a pool of clients, each with one command at a time.

The catalog remembers the last accepted sequence of every client (`arc.catalog.sessions`). That is enough exactly when a
client asks for one thing after the other, so what is to be in flight at once goes through as many clients. A lane
that comes free is the first to be taken again: a node that asks little uses few, and the catalog remembers few.

A lane is left with the number of its last command used up, whatever became of it: when another command of the lane is
accepted, a copy of the old one that still travels is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from arc.catalog.commands import Action, Once

LANES_MAX = 64
"""Commands of one node in flight at once; more wait. `arc.catalog.sessions.CLIENTS_MAX` has all lanes of 64 nodes."""


class Lane:
    """One client. Only its holder asks under its name."""

    def __init__(self, client: str) -> None:
        self.client = client
        self._last = 0

    def __repr__(self) -> str:
        return f"<Lane {self.client} at {self._last}>"

    def next(self, action: Action, *, asked_after: int) -> Once:
        """The action under the lane's next number, to be asked for as often as it takes."""
        self._last += 1
        return Once(client=self.client, sequence=self._last, action=action, asked_after=asked_after)


class Lanes:
    """The lanes of one run of one node: ``client`` must be told from every other run of every node."""

    def __init__(self, client: str, lanes_max: int = LANES_MAX) -> None:
        self._client = client
        self._slots = trio.Semaphore(lanes_max)
        self._lanes_max = lanes_max
        self._free: list[Lane] = []
        self._made = 0

    def __repr__(self) -> str:
        return f"<Lanes {self._client} busy={self.busy} made={self._made}>"

    @property
    def has_free(self) -> bool:
        """Whether a lane can be had without waiting."""
        return self._slots.value > 0

    @property
    def busy(self) -> int:
        """Lanes with a command in flight."""
        return self._lanes_max - self._slots.value

    @property
    def waiting(self) -> int:
        """Commands that wait for a lane."""
        return self._slots.statistics().tasks_waiting

    @asynccontextmanager
    async def open_lane(self) -> AsyncIterator[Lane]:
        """A lane to oneself; waits in order of asking while all are busy."""
        async with self._slots:
            lane = self._free.pop() if self._free else self._make()
            try:
                yield lane
            finally:
                self._free.append(lane)

    def _make(self) -> Lane:
        self._made += 1
        return Lane(f"{self._client}/{self._made}")
