"""A program that drops its measurement again and again while it writes to it.

What was acknowledged before a drop was asked for never comes back once that is answered; what is sent after the answer
is there exactly once; what was under way meanwhile may be on either side. A drop without an answer may happen at any
later time: the program then leaves that measurement alone and goes on with a new one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import trio

from simulations.chance import Stream
from simulations.world_client import Client
from simulations.world_history import History
from simulations.world_http import NotSent
from simulations.world_judge import Judge
from simulations.world_plan import WorldPlan
from simulations.world_trace import Trace

KILLER = "W-19"

QUERY_SHARE = 0.4

DROP_SECONDS = 2.5
"""Mean of the pause between two drops."""

UNDONE_CODES = ("outcome_unknown", "delete_incomplete")
"""Of an answer that leaves open whether it happened; any other 503 says that nothing did."""


class Drops:
    """``writer`` and ``dropper`` are two connections of the program."""

    def __init__(
        self,
        plan: WorldPlan,
        writer: Client,
        dropper: Client,
        history: History,
        judge: Judge,
        trace: Trace,
        chance: Stream,
    ) -> None:
        self._plan = plan
        self._writer = writer
        self._dropper = dropper
        self.history = history
        self._judge = judge
        self._trace = trace
        self._chance = chance
        self.stop = False
        history.begin("shed1")

    @property
    def _current(self) -> str:
        return self.history.measurements[-1]

    async def run(self) -> None:
        """Work until ``stop``. Raises Violation."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._drop_now_and_then)

    async def judge(self, names: Sequence[str]) -> None:
        """Everything at rest, on every node. Raises Violation."""
        for name in names:
            await self._judge.compare_rows(name)

    async def _write(self) -> None:
        while not self.stop:
            await trio.sleep(self._chance.expovariate(1 / self._plan.think_seconds))
            self.history.under_way += 1
            if self._chance.random() < QUERY_SHARE:
                await self._writer.query(self._current)
            else:
                await self._writer.write((self._current,))
            self.history.under_way -= 1
        self._writer.stop = True
        await self._writer.close()

    async def _drop_now_and_then(self) -> None:
        while not self.stop:
            await trio.sleep(self._chance.expovariate(1 / DROP_SECONDS))
            if not self.history.kept(self._current):
                continue  # Nothing came since the last drop.
            self.history.under_way += 1
            await self._drop(self._current)
            self.history.under_way -= 1
        await self._dropper.close()

    async def _drop(self, measurement: str) -> None:
        history = self.history
        before, going = set(history.done[measurement]), set(history.going[measurement])
        history.passing_away(measurement)
        path = f"/api/v1/databases/default/measurements/{measurement}?confirm=true"
        status, code = 0, "lost"
        try:
            answer = await self._dropper.request("DELETE", path)
            if answer is not None:
                status = answer.status
                code = "" if status == 200 else json.loads(answer.body).get("code", "")
        except NotSent:
            status, code = 503, "not_sent"
        self._trace.note("drops", measurement, status, code)
        self._trace.probe(f"dropped_{status}{code and '_'}{code}")
        if status == 200:
            history.gone[measurement] |= before
            history.passing.discard(measurement)
            history.completed += 1
        elif status == 404 or (status == 503 and code not in UNDONE_CODES):
            history.going[measurement] = going
            history.passing.discard(measurement)
            self._dropper.elsewhere()
        else:
            history.begin(f"shed{len(history.measurements) + 1}")
            self._dropper.elsewhere()
