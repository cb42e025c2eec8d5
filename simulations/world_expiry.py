"""A program that writes rows into ``old`` that are too old already, and has a retention policy remove them.

Until the policy is asked for every row must stay. Then rows may go by the schedule, whole files at a time: of what one
request wrote into an hour everything is there or nothing, and what somebody was told to be gone stays gone. At the end
rows are put into files and the policy is executed: none of them is left. A second policy is of all rows, none of which
is old enough, whatever a single clock says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import trio

from simulations.chance import Stream
from simulations.checkers.violation import Violation
from simulations.world_client import Client, time_ns
from simulations.world_history import History, Known
from simulations.world_http import NotSent
from simulations.world_judge import LOOKS_MAX, Judge, broken
from simulations.world_plan import WorldPlan
from simulations.world_trace import Trace

MEASUREMENT, NAME = "old", "short"
PATH = "/api/v1/retention"
RETENTION_DAYS = 7
AGE_SECONDS = 10 * 86_400.0
"""Three days more than the policy allows: no clock of a world jumps back as far."""

ALL_NAME, ALL_DAYS = "long", 60
"""A policy of all measurements, which no row of a world is old enough for but by a clock that is `AHEAD_SECONDS` ahead.
"""

HOUR_NS = 3_600_000_000_000

ASKED_SHARE = 0.15
"""Of turns, until the policy is asked for."""

KILLER = "W-18"


class Expiry:
    """``plan`` is that of the rows that ``client`` writes; their ages count from it."""

    def __init__(
        self, plan: WorldPlan, client: Client, history: History, judge: Judge, trace: Trace, chance: Stream
    ) -> None:
        self._plan = plan
        self._client = client
        self.history = history
        self._judge = judge
        self._trace = trace
        self._chance = chance
        self._policy = 0
        self.stop = False

    async def run(self) -> None:
        """Work until ``stop``. Raises Violation."""
        chance = self._chance
        while not self.stop:
            await trio.sleep(chance.expovariate(1 / self._plan.think_seconds))
            self.history.under_way += 1
            drawn = chance.random()
            if drawn < ASKED_SHARE and not self._policy:
                await self._make()
            elif drawn < 0.6:
                await self._client.write((MEASUREMENT,))
            elif drawn < 0.7:
                await self._client.flush()
            else:
                await self._look()
            self.history.under_way -= 1
        self._client.stop = True
        await self._client.close()

    async def judge(self, names: Sequence[str]) -> None:
        """Everything at rest, on every node. Raises Violation, also W-18: rows in files that are too old stay."""
        for name in names:
            await self._judge.compare_rows(name)
        if not self._policy:
            await self._judge.certainly("making a retention policy", self._make)
        before: dict[str, dict[int, int]] = {}
        for _ in range(LOOKS_MAX):
            await self._judge.certainly("a flush", self._judge.client.flush)
            await self._judge.level()
            await self._judge.certainly("an execution of retention", self._execute)
            await self._judge.level()
            seen = {name: (await self._judge.look(name))[0][MEASUREMENT] for name in names}
            if not any(seen.values()):
                self._trace.probe("old_rows_are_gone")
                return
            if seen == before:  # Requests that were given up may come late, once each.
                broken(KILLER, "rows that are too old stay", {name: sorted(rows)[:5] for name, rows in seen.items()})
            before = seen
        broken(KILLER, "old rows come and come, and nobody writes", LOOKS_MAX)

    async def _make(self) -> bool | None:
        """Ask for the policies."""
        self.history.passing_away(MEASUREMENT)
        wish = {"database": "default", "retention_days": RETENTION_DAYS, "measurement": MEASUREMENT}
        made = await self._policy_of(NAME, wish)
        if made is None:
            return None
        if await self._policy_of(ALL_NAME, wish | {"retention_days": ALL_DAYS, "measurement": None}) is None:
            return None
        self._policy = made
        self.history.completed += 1
        self._trace.probe("retention_policy_made")
        return True

    async def _policy_of(self, name: str, wish: Mapping[str, object]) -> int | None:
        """The id of a policy; whoever lost the answer finds out that it is there."""
        made = await self._ask("POST", PATH, {"name": name, **wish})
        if made is None:
            listed = await self._ask("GET", PATH)
            made = next((each for each in (listed or {}).get("policies", ()) if each["name"] == name), None)
        if made is None:
            self._client.elsewhere()
            return None
        found: int = made["id"]
        return found

    async def _execute(self) -> bool | None:
        """Have the policy executed now."""
        return True if await self._ask("POST", f"{PATH}/{self._policy}/execute", {"confirm": True}) else None

    async def _ask(self, method: str, path: str, wish: Mapping[str, object] | None = None) -> Any:
        """The document of a good answer."""
        try:
            answer = await self._client.request(method, path, wish)
        except NotSent:
            self._client.elsewhere()
            return None
        return json.loads(answer.body) if answer is not None and answer.status in (200, 201) else None

    async def _look(self) -> None:
        """What was acknowledged before, and is not in an answer that saw all that was agreed on, is gone for good."""
        history, is_strong = self.history, self._chance.random() < 0.7
        done = set(history.done[MEASUREMENT])
        seen = await self._client.query(MEASUREMENT, is_strong=is_strong)
        if seen is None:
            return
        check_whole(self._plan, history, done, seen)
        if is_strong and done - seen.keys():
            self._trace.probe("retention_seen_at_work")
            history.gone[MEASUREMENT] |= done - seen.keys()


def check_whole(plan: WorldPlan, history: History, done: Set[int], seen: Mapping[int, int]) -> None:
    """Of what one request wrote into an hour everything is there or nothing. Raises Violation W-18."""
    for numbers in _together(plan, history, done):
        there = [number for number in numbers if number in seen]
        if there and len(there) < len(numbers):
            raise Violation(KILLER, "half of a file is gone", numbers, there)


def _together(plan: WorldPlan, history: History, done: Set[int]) -> Iterator[list[int]]:
    """Acknowledged rows of one request and one hour, which came into one file."""
    for write in history.writes:
        hours: dict[int, list[int]] = {}
        for number in write.rows[MEASUREMENT] if write.known is Known.DONE else ():
            if number in done:
                hours.setdefault(time_ns(plan, number) // HOUR_NS, []).append(number)
        yield from hours.values()
