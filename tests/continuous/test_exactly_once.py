"""Whatever goes wrong in whatever order: once it stops going wrong, every row is in one result, and in one only.

Each seed is a history of rows, late rows, orders, executions that die at every kind of step, lost answers, refusals,
leases that move and files that are merged. In the end the destination is compared with what the rows come to.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio
from trio.testing import MockClock

from arc.catalog.commands import COMPACTOR, AssignLease, ReplaceFiles
from arc.continuous.names import open_files
from arc.errors import ArcError, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.storage.keeper import DATA
from arc.telemetry import Log
from tests.catalog.facts import do, file
from tests.continuous.facts import HOUR_US, NOON_US, QUERY, hours
from tests.continuous.test_runner import run_for
from tests.continuous.world import World

STEPS = 40


class History:
    """One seed. ``model`` is how many rows each hour has; ``merged`` what merged files hold, by path."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.model: defaultdict[int, int] = defaultdict(int)
        self.merged: dict[str, list[tuple[int, int]]] = {}

    def write(self) -> None:
        for _ in range(self.chance.randint(1, 3)):
            at_us = self.world.clock.wall_us() - self.chance.randrange(12 * HOUR_US)
            if at_us >= hours(3)[0]:
                self.world.write((at_us, 1.0), host=self.chance.choice("ab"))
                self.model[at_us // HOUR_US] += 1

    async def carry_out(self) -> None:
        """For some seconds, on either node, with something going wrong."""
        world, proposer = self.world, self.world.proposer
        with trio.CancelScope() as life:
            wrong: list[Callable[[], object]] = [
                lambda: None,
                lambda: setattr(proposer, "before", life.cancel),
                lambda: setattr(world.engine, "before", life.cancel),
                lambda: setattr(world.disk, "on_write", lambda path: life.cancel()),
                lambda: setattr(world.disk, "free", 10),
                lambda: setattr(world.engine, "error", Unavailable("no memory")),
                lambda: setattr(proposer, "loses_answers", self.chance.randint(1, 6)),
                lambda: setattr(proposer, "errors", [OutcomeUnknown("lost")] * self.chance.randint(1, 6)),
                lambda: setattr(proposer, "errors", [Unavailable("no leader")] * self.chance.randint(1, 6)),
                lambda: setattr(proposer, "before", lambda: world.move_lease(self.chance.choice(["n1", "n2"]))),
                lambda: setattr(proposer, "before", self.merge),
            ]
            self.chance.choice(wrong)()
            nodes = self.chance.sample(["n1", "n2"], k=self.chance.randint(1, 2))
            async with trio.open_nursery() as nursery:
                for node in nodes:
                    if self.chance.random() < 0.5:
                        nursery.start_soon(self.order, node)
                    else:
                        nursery.start_soon(run_for, world.runner(node), self.chance.choice([1, 20]))
        proposer.before, world.engine.before, world.engine.error = None, None, None
        proposer.loses_answers, proposer.errors = 0, []
        world.disk.on_write, world.disk.free = (lambda path: None), 1 << 30

    async def order(self, node: str) -> None:
        """It is refused, or fails, or is done: either way the next ones must get it right."""
        begin = self.chance.randint(3, 20)
        with suppress(ArcError):
            await self.world.runner(node).execute(7, hours(begin)[0], hours(begin + self.chance.randint(0, 5))[1])

    def merge(self) -> None:
        """As compaction does: some files that belong to no open window, into one."""
        is_open = open_files(self.world.catalog)
        entries = [entry for entry in self.world.catalog.files("metrics", "cpu_1h") if not is_open(entry)]
        chosen = [entry for entry in entries if self.chance.random() < 0.5]
        if not chosen:
            return
        span = min(entry.min_time_us for entry in chosen), max(entry.max_time_us for entry in chosen)
        output = file(
            f"0000000009-{self.chance.randrange(10**14):014d}-n1@daily.0000",
            hour=span[0] // HOUR_US,
            measurement="cpu_1h",
            span_us=span,
        )
        self.merged[output.path] = [row for entry in chosen for row in self.rows(entry.path)]
        epoch = self.world.catalog.lease_epoch(COMPACTOR)
        remove = tuple((entry.path, entry.sha256) for entry in chosen)
        do(self.world.fsm, ReplaceFiles(remove=remove, add=(output,), lease=COMPACTOR, epoch=epoch))

    def rows(self, path: str) -> list[tuple[int, int]]:
        """(hour, count) of each row of a result."""
        if path in self.merged:
            return self.merged[path]
        table = pq.read_table(pa.BufferReader(self.world.disk.read(f"{DATA}/{path}")))
        return [(int(row["time"].timestamp()) // 3600, row["n"]) for row in table.to_pylist()]

    def counted(self) -> dict[int, int]:
        found: defaultdict[int, int] = defaultdict(int)
        for entry in self.world.catalog.files("metrics", "cpu_1h"):
            for hour, count in self.rows(entry.path):
                found[hour] += count
        return dict(found)


@pytest.mark.parametrize("seed", range(8))
async def test_every_row_is_counted_once_when_windows_stay_open(log: Log, seed: int, autojump_clock: MockClock) -> None:
    world = World(log)
    history = History(world, seed)
    do(world.fsm, AssignLease(lease=COMPACTOR, node=NodeId("n1"), expect_epoch=0))
    query = await world.make(replace(QUERY, lateness="150h", created_us=hours(4)[0]))
    for _ in range(STEPS):
        history.write()
        world.clock.advance(history.chance.choice([0, 30, 300, 1800]))
        await history.carry_out()
        assert all(count <= history.model[hour] for hour, count in history.counted().items()), "a row is there twice"

    world.clock.advance(3600)
    world.move_lease("n1")
    await run_for(world.runner("n1"), 60)

    until = world.progress().until_us
    assert until == query.schedule.floor(world.clock.wall_us() - 2_000_000)
    expected = {hour: count for hour, count in history.model.items() if hour * HOUR_US < until}
    assert history.counted() == expected
    assert all(run.rows_read >= 0 for run in world.progress().runs)


@pytest.mark.parametrize("seed", range(5))
async def test_no_row_is_counted_twice_when_windows_close_and_are_merged(
    log: Log, seed: int, autojump_clock: MockClock
) -> None:
    """Rows that come after their window has closed may be missing; an order is refused, or replaces what is there."""
    world = World(log)
    history = History(world, 1000 + seed)
    do(world.fsm, AssignLease(lease=COMPACTOR, node=NodeId("n1"), expect_epoch=0))
    await world.make(replace(QUERY, lateness="1h", created_us=hours(4)[0]))
    for _ in range(STEPS):
        history.write()
        world.clock.advance(history.chance.choice([0, 30, 300, 1800]))
        await history.carry_out()
        if history.chance.random() < 0.3:
            history.merge()
        assert all(count <= history.model[hour] for hour, count in history.counted().items()), "a row is there twice"
    world.move_lease("n1")
    world.clock.advance(3600)
    await run_for(world.runner("n1"), 60)
    assert world.progress().until_us >= NOON_US
    assert world.progress().done[-1][1] == world.progress().until_us
