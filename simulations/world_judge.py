"""The judge of a world: what is there at rest, on every node, in the buffer and in files, against what was promised."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NoReturn, Protocol, TypeVar

import trio

from simulations.checkers.violation import Violation
from simulations.checkers.world_agreement import Ghost
from simulations.checkers.world_rows import check_history
from simulations.world_client import Client
from simulations.world_history import History, Known
from simulations.world_trace import Trace

T = TypeVar("T")

SETTLE_SECONDS = 3.0
"""Without work, every node has applied everything after this (V-03)."""

LEVEL_ELECTIONS = 10
"""And if not then, after so many election timeouts more in which nobody was elected: a slow network may cost a leader
its quorum at any time, and each election adds an entry that everybody has to get."""

LOOKS_MAX = 10
"""So often rows may have changed between two looks when nobody writes any more: what was given up comes once."""

TRIES_MAX = 10
"""Who asks for what must work gives up after so many tries: in the slowest networks a leader of two lasts seconds."""


class Until(Protocol):
    """`World.until`."""

    async def __call__(self, killer: str, what: str, seconds: float, is_so: Callable[[], bool]) -> None:
        """Wait for something. Raises Violation when it does not come in time."""
        ...


class Judge:
    """Asks as a client of its own. ``names`` are the nodes that take part now. Everything raises Violation."""

    def __init__(
        self,
        client: Client,
        history: History,
        ghost: Ghost,
        trace: Trace,
        *,
        names: Callable[[], Sequence[str]],
        until: Until,
        election_seconds: float,
    ) -> None:
        self.client = client
        self._history = history
        self._ghost = ghost
        self._trace = trace
        self._names = names
        self._until = until
        self._election_seconds = election_seconds

    async def judge(self) -> None:
        """Compare everything, before and after all rows went into files."""
        for _ in range(2):
            for name in self._names():
                await self.compare_rows(name)
            await self.level()  # Any node answers this from its own catalog.
            databases = await self.certainly("a list of databases", self.client.databases)
            if gone := sorted(set(self._certain_databases()) - set(databases)):
                broken("W-06", "acknowledged databases are missing", gone[:5])
            await self.certainly("a flush", self.client.flush)
        await trio.sleep(SETTLE_SECONDS)
        await self.level()
        self._ghost.check_equal(self._names())

    async def level(self) -> None:
        """Wait until every node has applied all that any of them has. Where a leader is elected meanwhile the time
        begins anew, `TRIES_MAX` times (world seed 70165).
        """
        names, seconds = self._names(), LEVEL_ELECTIONS * self._election_seconds
        for left in reversed(range(TRIES_MAX)):
            terms = len(self._ghost.leaders)
            try:
                await self._until("V-03", "nodes stay behind", seconds, lambda: self._ghost.is_level(names))
            except Violation:
                if not left or len(self._ghost.leaders) == terms:
                    raise
            else:
                return

    async def compare_rows(self, server: str) -> None:
        """The rows of all measurements that one node shows among each other, with their counts, and with the history.

        A request whose client gave up may be carried out as long as its node lives, so between two questions too. What
        does not fit is therefore wrong only when nothing came while it was looked at: when the rows are still the same.
        """
        rows, counts = await self.look(server)
        for _ in range(LOOKS_MAX):
            try:
                for measurement, count in counts.items():
                    if count != len(rows[measurement]):
                        there = len(rows[measurement])
                        broken("W-11", "count(*) differs from the rows", server, measurement, count, there)
                check_history(self._history, rows)
            except Violation:
                before = rows
                rows, counts = await self.look(server)
                if rows == before:
                    raise
                self._trace.probe("rows_came_while_judged")
            else:
                return
        broken("W-11", "rows come and come, and nobody writes", LOOKS_MAX)

    async def look(self, server: str) -> tuple[dict[str, dict[int, int]], dict[str, int]]:
        """Row numbers by measurement, and their counts as another query tells them."""
        rows: dict[str, dict[int, int]] = {}
        counts: dict[str, int] = {}
        for measurement in self._history.measurements:
            query = partial(self.client.query, measurement, server=server)
            rows[measurement] = await self.certainly(f"a query on {server}", query)
            count = partial(self.client.count, measurement, server=server)
            counts[measurement] = await self.certainly(f"count(*) on {server}", count)
        return rows, counts

    async def certainly(self, what: str, ask: Callable[[], Awaitable[T | None]]) -> T:
        """The answer; the first tries may meet a connection, a pause or an election."""
        for _ in range(TRIES_MAX):
            answer = await ask()
            if answer is not None:
                return answer
            await self.client.close()  # The server would, meanwhile, and the next try would only find that out.
            await trio.sleep(6.0)
        broken("W-11", f"{what} failed and nothing is wrong")

    def _certain_databases(self) -> list[str]:
        return [name for name, known in self._history.databases.items() if known is Known.DONE]


def broken(killer: str, what: str, *facts: object) -> NoReturn:
    """Raise the violation."""
    raise Violation(killer, what, *facts)
