"""A program that has the rows of ``cpu`` summed up by a continuous query, and looks at what comes of it.

It makes the query once rows are there, on any node, and asks until that is done; then it looks at the windows now and
then. When the world is at rest the windows must come to what the rows come to, on every node. Wall clocks jump by
minutes: whichever node executes may believe that a window is over that is not, or not yet. So a window may be there
early, and must be there once it is over on the slowest clock; as long as it is open for late rows on the fastest one,
what it says must become right, however early it was executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import trio

from simulations.chance import Stream
from simulations.checkers.world_continuous import Reach, Summary, check_windows, mismatch, summaries
from simulations.world_client import Client, time_ns
from simulations.world_history import History
from simulations.world_http import NotSent
from simulations.world_judge import Judge, broken
from simulations.world_plan import WorldPlan
from simulations.world_trace import Trace

SOURCE, DESTINATION, NAME = "cpu", "cpu_summed", "summed"
PATH = "/api/v1/continuous_queries"
LATENESS = "2h"
"""Longer than a query reaches back, an hour, and clocks jump: no window of a world closes."""

LATENESS_US, REACH_US = 7_200_000_000, 3_600_000_000

RIGHT_SECONDS = 120.0
"""At rest, windows come to what their rows come to within this."""

SLACK_US = 2_000_000
"""So long after it is due a window may be on its way."""


class Summing:
    """``sent`` is the history of those who write the source, ``clocks`` tells the wall clocks of all nodes, in µs."""

    def __init__(
        self,
        plan: WorldPlan,
        client: Client,
        history: History,
        sent: History,
        judge: Judge,
        trace: Trace,
        chance: Stream,
        clocks: Callable[[], Sequence[int]],
    ) -> None:
        self._plan = plan
        self._client = client
        self.history = history
        self._sent = sent
        self._judge = judge
        self._trace = trace
        self._chance = chance
        self._clocks = clocks
        self._length_us = round(plan.window_seconds * 1e6)
        self._made_us = 0
        self.stop = False

    async def run(self) -> None:
        """Work until ``stop``. Raises Violation."""
        while not self.stop:
            await trio.sleep(self._chance.expovariate(1 / self._plan.think_seconds))
            self.history.under_way += 1
            if not self._made_us:
                await self._make()
            else:
                await self._look(is_strong=self._chance.random() < 0.5)
            self.history.under_way -= 1
        await self._client.close()

    async def judge(self, names: Sequence[str]) -> None:
        """Everything at rest, on every node. Raises Violation W-16, W-17."""
        if not self._sent.done[SOURCE]:
            return
        if not self._made_us:
            await self._judge.certainly("making a continuous query", self._make)
        for name in names:
            deadline, orders = trio.current_time() + RIGHT_SECONDS, 0
            while (wrong := await self._wrong(name)) is not None:
                if trio.current_time() >= deadline:
                    broken("W-17", "a window does not say what its rows come to", name, *wrong)
                if orders % 10 == 0:
                    await self._order_reload(names)
                orders += 1
                await trio.sleep(1.0)
            self._trace.probe("windows_are_right")

    async def _make(self) -> bool | None:
        """Ask for the query; whoever lost the answer finds out that it is there."""
        if not self._sent.done[SOURCE]:
            return None  # Without a source it would fail, and be tried again much later.
        wish = {
            "name": NAME,
            "database": "default",
            "source_measurement": SOURCE,
            "destination_measurement": DESTINATION,
            "interval": f"{self._plan.window_seconds:g}s",
            "lateness": LATENESS,
            "query": f"SELECT count(*) AS n, sum(id) AS total FROM {SOURCE} "
            "WHERE time >= {start_time} AND time < {end_time} HAVING count(*) > 0",
        }
        made = await self._ask("POST", PATH, wish)
        if made is None:
            listed = await self._ask("GET", PATH)
            made = next((each for each in (listed or {}).get("queries", ()) if each["name"] == NAME), None)
        if made is None:
            self._client.elsewhere()
            return None
        self._made_us = made["id"]
        self.history.completed += 1
        self._trace.probe("continuous_query_made")
        return True

    async def _ask(self, method: str, path: str, wish: Mapping[str, object] | None = None, server: str = "") -> Any:
        """The document of a good answer."""
        try:
            answer = await self._client.request(method, path, wish, server=server)
        except NotSent:
            self._client.elsewhere()
            return None
        return json.loads(answer.body) if answer is not None and answer.status in (200, 201) else None

    async def _order_reload(self, names: Sequence[str]) -> None:
        """What failed while there were faults waits for minutes; now it is tried again."""
        for name in names:
            await self._ask("POST", "/api/v1/schedulers/cq/reload", {}, name)

    async def _look(self, server: str = "", *, is_strong: bool = False) -> dict[int, Summary] | None:
        """The windows that a node shows; None without an answer. Raises Violation W-16."""
        text = (
            f"SELECT epoch_us(time) AS at, count(*) AS times, sum(n) AS n, sum(total) AS total FROM {DESTINATION} "
            "GROUP BY 1 ORDER BY 1"
        )
        answer = await self._client.sql(text, server, is_strong=is_strong)
        if answer is None:
            return None
        seen = [(int(at), int(times), Summary(int(n), int(total))) for at, times, n, total in answer]
        check_windows(seen, self._windows(self._sent.sent[SOURCE]))
        self.history.completed += 1
        self._trace.note("summing", "saw", len(seen))
        if seen:
            self._trace.probe("windows_seen")
        return {at: summary for at, _, summary in seen}

    def _windows(self, numbers: set[int]) -> dict[int, list[int]]:
        timed = ((number, time_ns(self._plan, number) // 1000) for number in numbers)
        return summaries(timed, self._length_us)

    async def _wrong(self, name: str) -> tuple[object, ...] | None:
        """What does not fit on a node now."""
        clocks = self._clocks()
        first_us = self._made_us - REACH_US
        delay_us = round(self._plan.config["continuous"]["delay_seconds"] * 1e6)
        reach = Reach(
            first_us=first_us - first_us % self._length_us,
            length_us=self._length_us,
            over_us=min(clocks) - delay_us - SLACK_US,
            closed_us=max(clocks) - LATENESS_US,
        )

        async def look() -> dict[int, Summary] | None:
            return await self._look(name)

        async def ask() -> dict[int, int] | None:
            return await self._judge.client.query(SOURCE, server=name)

        seen = await self._judge.certainly(f"a query on {name}", look)
        rows = await self._judge.certainly(f"a query on {name}", ask)
        return mismatch(seen, self._windows(set(rows)), reach)
