"""Continuous queries: each window once in the destination, whatever fails, changes or dies meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pyarrow as pa
import pytest
import trio
from trio.testing import MockClock

from arc.catalog.commands import (
    COMPACTOR,
    AssignLease,
    Command,
    DescribeNode,
    DropPolicy,
    ForgetNode,
    PutPolicy,
    ReplaceFiles,
)
from arc.catalog.policies import Policy
from arc.catalog.results import Result
from arc.continuous import definition
from arc.continuous.changes import drop, put
from arc.continuous.names import open_files, read_name
from arc.continuous.reading import timed
from arc.continuous.runner import LOOK_SECONDS, RETRY_SECONDS, ContinuousRunner
from arc.errors import Conflict, InvalidRequest, NotFound, OutcomeUnknown, TooLarge, Unavailable
from arc.ids import NodeId
from arc.storage.files import FileEntry
from arc.telemetry import Log
from tests.catalog.facts import do, file
from tests.continuous.facts import HOUR_US, NOON_US, QUERY, hours
from tests.continuous.world import World

WITHIN = "WHERE time >= {start_time} AND time < {end_time}"


@pytest.fixture
def world(log: Log) -> World:
    """Two rows in the hour before noon, one in the hour before that; five seconds past noon."""
    return filled(log)


def filled(log: Log) -> World:
    """The same, as many as a test needs."""
    found = World(log)
    found.write((hours(10)[0], 5.0), (hours(11)[0], 1.0), (hours(11)[0] + 60, 3.0))
    found.clock.advance(5)
    return found


async def run_for(runner: ContinuousRunner, seconds: float) -> None:
    """Under Trio's mock clock; the clock that tells the time stands still."""
    with trio.move_on_after(seconds):
        await runner.run()


async def test_a_window_is_executed_once_when_it_has_ended(world: World, autojump_clock: MockClock) -> None:
    await world.make()
    runner = world.runner()

    await run_for(runner, 60)

    assert world.stored() == [(11, "a", 2.0, 2)]
    assert world.progress().until_us == NOON_US
    [run] = world.progress().runs
    assert (run.cause, run.status, run.start_us, run.end_us) == ("schedule", "completed", *hours(11))
    assert (run.rows_read, run.rows_written) == (2, 1)
    assert len(world.proposer.results) == 1
    schema = world.catalog.schema("metrics", "cpu_1h")
    assert schema is not None
    assert {name: column.kind for name, column in schema.columns.items()} == {
        "host": "tag", "v": "float", "n": "integer",
    }  # fmt: skip
    world.clock.advance(3600)
    world.write((hours(12)[0], 9.0))
    await run_for(runner, 60)
    assert world.stored() == [(11, "a", 2.0, 2), (12, "a", 9.0, 1)]


async def test_a_clock_that_is_ahead_says_alone_of_no_window_that_it_is_over(
    world: World, autojump_clock: MockClock
) -> None:
    """One that was a day ahead summed up hours that had not begun, and their rows were summed up by nobody."""
    await world.make()
    world.clock.jump_wall(24 * HOUR_US)
    world.clocks_us["n2"] = None
    runner = world.runner()
    await run_for(runner, 60)
    assert world.stored() == [], "nobody else has told the time yet"
    with pytest.raises(Unavailable, match="no other node has told its time yet"):
        await runner.execute(QUERY.id, None, None)

    world.clocks_us["n2"] = NOON_US + 5_000_000
    await run_for(runner, 60)

    assert world.stored() == [(11, "a", 2.0, 2)]
    assert world.progress().until_us == NOON_US
    assert [each.span for each in world.progress().open] == [hours(11)], "nor is it closed for rows that come late"


async def test_a_window_without_rows_moves_the_progress_and_makes_no_file(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make(replace(QUERY, created_us=NOON_US - 100 * HOUR_US))
    await run_for(world.runner(), 300)
    assert world.progress().until_us == NOON_US
    assert world.stored() == [(10, "a", 5.0, 1), (11, "a", 2.0, 2)]
    assert world.catalog.file_stats("metrics", "cpu_1h").files == 2


async def test_only_the_writer_carries_out_and_its_successor_goes_on_where_it_was(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make()
    first, second = world.runner("n1"), world.runner("n2")
    await run_for(second, 30)
    assert world.stored() == []
    await run_for(first, 30)
    world.move_lease("n2")
    world.clock.advance(3600)
    world.write((hours(12)[0], 9.0))
    await run_for(first, 30)
    assert world.stored() == [(11, "a", 2.0, 2)]
    await run_for(second, 30)
    assert world.stored() == [(11, "a", 2.0, 2), (12, "a", 9.0, 1)]


async def test_what_was_begun_under_a_lease_that_moved_leaves_no_trace(world: World, autojump_clock: MockClock) -> None:
    """The next holder has executed the window before the entry of the former one came."""
    await world.make()
    first, second = world.runner("n1"), world.runner("n2")

    async def successor() -> None:
        await second.execute(7, None, None)

    world.proposer.before = lambda: world.move_lease("n2")
    await run_for(first, 30)
    assert world.stored() == [] and world.progress().runs == ()
    await successor()
    assert world.stored() == [(11, "a", 2.0, 2)]
    assert len(world.on_disk()) == 1, "the file of the refused attempt"
    assert world.keeper.is_anything_leaving


async def test_rows_that_come_late_replace_the_result_until_the_window_closes(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make()
    runner = world.runner()
    await run_for(runner, 30)
    world.clock.advance(1800)
    world.write((hours(11)[0] + 120, 5.0))
    await run_for(runner, 30)
    assert world.stored() == [(11, "a", 3.0, 3)]
    assert world.catalog.file_stats("metrics", "cpu_1h").files == 1
    assert [run.cause for run in world.progress().runs] == ["late", "schedule"]
    world.clock.advance(2 * 3600)
    world.write((hours(11)[0] + 180, 7.0))
    await run_for(runner, 30)
    assert (11, "a", 4.0, 4) in world.stored(), "what came before it closed is looked at once more"
    assert world.progress().open_at(hours(11)) is None
    world.clock.advance(600)
    world.write((hours(11)[0] + 240, 100.0))
    await run_for(runner, 30)
    assert (11, "a", 4.0, 4) in world.stored()


async def test_a_window_that_closes_with_nothing_new_is_not_executed_again(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make(replace(QUERY, interval="12h"))
    runner = world.runner()
    await run_for(runner, 30)
    opened = world.progress()
    assert [each.rows for each in opened.open] == [3]
    world.clock.advance(7200)
    await run_for(runner, 30)
    assert world.progress().open == ()
    assert world.progress().runs == opened.runs


async def test_a_row_that_comes_between_count_and_query_is_in_the_result_and_makes_it_late_once(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make()
    runner = world.runner()
    world.engine.before = lambda: world.write((hours(11)[0] + 120, 5.0))
    await run_for(runner, 30)
    assert world.stored() == [(11, "a", 3.0, 3)]
    world.clock.advance(60)
    await run_for(runner, 30)
    assert world.stored() == [(11, "a", 3.0, 3)]
    assert [(run.cause, run.rows_read) for run in world.progress().runs] == [("late", 3), ("schedule", 2)]


Propose = Callable[[Command], Awaitable[Result]]


class Died(Exception):
    """The process ends."""


@pytest.mark.parametrize("is_applied", [False, True], ids=["before", "after"])
async def test_files_and_progress_stand_together_wherever_the_process_dies(log: Log, is_applied: bool) -> None:
    """Before each entry that an execution asks for, or after it."""
    proposals = 0
    for at in range(10):
        world = filled(log)
        await world.make()
        propose, asked = world.proposer.propose, list[Command]()

        async def dies(
            command: Command, at: int = at, asked: list[Command] = asked, propose: Propose = propose
        ) -> Result:
            asked.append(command)
            if len(asked) <= at:
                return await propose(command)
            if is_applied:
                await propose(command)
            raise Died

        world.proposer.propose = dies  # type: ignore[method-assign]
        try:
            await world.runner().execute(7, *hours(11))
        except Died:
            proposals += 1
            assert bool(world.stored()) == bool(world.progress().done), asked
        world.proposer.propose = propose  # type: ignore[method-assign]
        await world.runner().execute(7, *hours(11))
        assert world.stored() == [(11, "a", 2.0, 2)]
    assert 2 <= proposals < 10, "the columns of the destination, and the window"


async def test_a_lost_answer_is_settled_by_looking(world: World, autojump_clock: MockClock) -> None:
    await world.make()
    world.proposer.loses_answers = 1
    await run_for(world.runner(), 30)
    assert world.stored() == [(11, "a", 2.0, 2)]
    assert [run.status for run in world.progress().runs] == ["completed"]
    assert world.on_disk() == [] and not world.keeper.is_anything_leaving


async def test_an_outcome_that_stays_unknown_is_not_executed_twice(world: World, autojump_clock: MockClock) -> None:
    await world.make()
    world.proposer.errors = [OutcomeUnknown("nobody answers")] * 5
    runner = world.runner()
    await run_for(runner, 9)
    [run] = world.progress().runs
    assert (run.status, run.error) == ("failed", "nobody answers")
    assert world.stored() == []
    assert not world.keeper.is_anything_leaving, "it may be data"
    world.clock.advance(RETRY_SECONDS)
    await run_for(runner, 30)
    assert world.stored() == [(11, "a", 2.0, 2)]


async def test_what_fails_is_in_the_history_and_tried_again_after_a_growing_pause(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make()
    world.engine.error = Unavailable("no memory")
    runner = world.runner()
    await run_for(runner, 4)
    assert [(run.status, run.error) for run in world.progress().runs] == [("failed", "no memory")]
    assert world.progress().until_us == hours(11)[0]
    world.clock.advance(RETRY_SECONDS)
    await run_for(runner, 2 * LOOK_SECONDS)
    assert len(world.progress().runs) == 2
    world.clock.advance(RETRY_SECONDS)
    await run_for(runner, 2 * LOOK_SECONDS)
    assert len(world.progress().runs) == 2, "now it waits twice as long"
    world.engine.error = None
    assert runner.wake() == 1
    await run_for(runner, LOOK_SECONDS)
    assert world.stored() == [(11, "a", 2.0, 2)]
    assert runner.statistics().failures_total == 2


async def test_a_query_that_is_wrong_holds_up_no_other(world: World, autojump_clock: MockClock) -> None:
    wrong = f"SELECT nothing FROM metrics.cpu {WITHIN}"
    await world.make(replace(QUERY, id=6, name="wrong", query=wrong, destination="wrong_1h"))
    await world.make()
    await run_for(world.runner(), 30)
    assert world.stored() == [(11, "a", 2.0, 2)]
    [run] = world.progress(6).runs
    assert run.status == "failed" and run.error is not None and "nothing" in run.error


async def test_a_full_disk_is_waited_for(world: World, autojump_clock: MockClock) -> None:
    await world.make()
    world.disk.free = 10
    runner = world.runner()
    await run_for(runner, 4)
    assert [run.status for run in world.progress().runs] == ["failed"]
    world.disk.free = 1 << 30
    world.clock.advance(RETRY_SECONDS)
    await run_for(runner, 30)
    assert world.stored() == [(11, "a", 2.0, 2)]


@pytest.mark.parametrize("limit", [1 << 20])
async def test_a_result_that_is_too_large_fails(world: World, limit: int) -> None:
    many = f"SELECT time, repeat('x', 10000) AS s FROM metrics.cpu, range(500) {WITHIN}"
    await world.make(replace(QUERY, query=many))
    with pytest.raises(TooLarge, match="shorter"):
        await world.runner(result_bytes_max=limit).execute(7, None, None)
    assert world.stored() == []


async def test_a_query_that_changes_while_it_is_executed_is_executed_as_it_is_now(
    world: World, autojump_clock: MockClock
) -> None:
    made = await world.make()
    changed = replace(made, query=QUERY.query.replace("avg(v)", "max(v)"))
    change = PutPolicy(kind=definition.KIND, name="7", body=definition.body_of(changed), at_us=made.updated_us + 1)
    world.proposer.before = lambda: do(world.fsm, change)
    await run_for(world.runner(), 30)
    assert world.stored() == [(11, "a", 3.0, 2)]


async def test_a_query_that_is_deleted_while_it_is_executed_leaves_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make()
    world.proposer.before = lambda: do(world.fsm, DropPolicy(kind=definition.KIND, name="7"))
    await run_for(world.runner(), 30)
    assert world.stored() == []
    assert not world.catalog.policies


async def test_a_deleted_query_is_gone_with_its_progress_and_its_results_stay(world: World) -> None:
    await world.make()
    runner = world.runner()
    await runner.execute(7, None, None)
    await drop(world.proposer, lambda: world.catalog, 7)
    assert not world.catalog.policies
    assert world.stored() == [(11, "a", 2.0, 2)]
    with pytest.raises(NotFound):
        await runner.execute(7, None, None)


# ---- by order


async def test_an_order_fills_in_what_lies_before_the_beginning_once_and_again(world: World) -> None:
    await world.make()
    runner = world.runner()
    for _ in range(2):
        done = await runner.execute(7, hours(8)[0], NOON_US)
        assert (done.start_us, done.end_us, done.windows) == (hours(8)[0], NOON_US, 4)
        assert (done.rows_read, done.rows_written) == (3, 2)
        assert world.stored() == [(10, "a", 5.0, 1), (11, "a", 2.0, 2)]
    assert len({run.execution_id for run in world.progress().runs}) == 2
    world.write((hours(10)[0] + 60, 7.0))
    await runner.execute(7, hours(10)[0], hours(10)[1])
    assert world.stored() == [(10, "a", 6.0, 2), (11, "a", 2.0, 2)]


async def test_an_order_on_another_node_and_the_schedule_do_not_get_in_each_others_way(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make(replace(QUERY, created_us=NOON_US - 8 * HOUR_US))
    writer, other = world.runner("n1"), world.runner("n2")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, writer, 60)
        for _ in range(3):
            await other.execute(7, hours(5)[0], NOON_US)
    assert world.stored() == [(10, "a", 5.0, 1), (11, "a", 2.0, 2)]
    assert world.progress().done == (hours(3, 12),)


async def test_of_two_nodes_that_execute_a_window_at_once_one_result_stays(world: World) -> None:
    await world.make()
    async with trio.open_nursery() as nursery:
        for node in ("n1", "n2", "n3"):
            nursery.start_soon(world.runner(node).execute, 7, *hours(11))
    assert world.stored() == [(11, "a", 2.0, 2)]
    assert world.catalog.file_stats("metrics", "cpu_1h").files == 1


async def test_what_an_order_executed_first_is_left_alone_by_the_schedule(
    world: World, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-89 lived: executing it once more changes no row, only the work and the history."""
    await world.make()
    other, propose, waits = world.runner("n2"), world.proposer.propose, [True]

    async def ordered_first(command: Command) -> Result:
        if waits and isinstance(command, ReplaceFiles):
            waits.pop()
            await other.execute(7, *hours(11))
        return await propose(command)

    monkeypatch.setattr(world.proposer, "propose", ordered_first)
    await run_for(world.runner("n1"), 30)
    assert world.stored() == [(11, "a", 2.0, 2)]
    assert [run.cause for run in world.progress().runs] == ["order"]


async def test_a_preview_writes_nothing_and_tells_what_would_be_written(world: World) -> None:
    await world.make()
    seen = await world.runner().preview(7, hours(9)[0], NOON_US)
    assert (seen.rows_written, seen.windows) == (2, 3)
    assert "'2026-01-01T09:00:00Z'" in seen.statement and "'2026-01-01T10:00:00Z'" in seen.statement
    assert world.stored() == [] and world.progress().updated_us == 0


async def test_an_order_while_nobody_writes_is_refused(world: World) -> None:
    await world.make()
    do(world.fsm, DescribeNode(name=NodeId("n1"), incarnation=1, address="h:1"))
    do(world.fsm, ForgetNode(name=NodeId("n1"), incarnation=1))
    with pytest.raises(Unavailable, match="lease"):
        await world.runner("n2").execute(7, None, None)
    assert world.on_disk() == []


async def test_an_order_that_fails_in_the_middle_keeps_what_was_executed_and_is_noted(world: World) -> None:
    await world.make()
    runner = world.runner()
    bad = f"SELECT time, CASE WHEN v > 4 THEN error('too hot') ELSE 'fine' END AS s FROM metrics.cpu {WITHIN}"
    await world.change(query=bad)
    with pytest.raises(InvalidRequest, match="too hot"):
        await runner.execute(7, hours(9)[0], NOON_US)
    assert [(run.status, run.start_us) for run in world.progress().runs] == [
        ("failed", hours(10)[0]),
        ("completed", hours(9)[0]),
    ]


# ---- what others do with files


class Spreading:
    """Fails so often, and then says who has the files."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    async def spread(self, entries: Sequence[FileEntry]) -> Sequence[NodeId]:
        await trio.lowlevel.checkpoint()
        if self.failures:
            self.failures -= 1
            raise Unavailable("1 of the nodes that should have the files do, 2 must")
        return (NodeId("n1"), NodeId("n2"))


async def test_a_result_is_no_data_before_enough_nodes_have_it(world: World, autojump_clock: MockClock) -> None:
    await world.make()
    for node in ("n1", "n2"):
        do(world.fsm, DescribeNode(name=NodeId(node), incarnation=1, address=f"{node}:1"))
    world.copies = Spreading(failures=1)
    runner = world.runner()
    await run_for(runner, 4)
    assert world.stored() == [] and world.progress().runs[0].status == "failed"
    world.clock.advance(RETRY_SECONDS)
    await run_for(runner, 30)
    [entry] = world.catalog.files("metrics", "cpu_1h")
    assert entry.holders == ("n1", "n2")


async def test_an_order_on_a_node_that_does_not_write_waits_for_no_copies(world: World) -> None:
    """Nobody takes what it offers."""
    await world.make()
    do(world.fsm, DescribeNode(name=NodeId("n2"), incarnation=1, address="n2:1"))
    world.copies = Spreading(failures=99)
    await world.runner("n2").execute(7, None, None)
    [entry] = world.catalog.files("metrics", "cpu_1h")
    assert entry.holders == ("n2",)


def merge(world: World, names: list[str]) -> None:
    """Put one file in the place of some of the destination's, as compaction does."""
    if world.catalog.lease_epoch(COMPACTOR) == 0:
        do(world.fsm, AssignLease(lease=COMPACTOR, node=NodeId("n1"), expect_epoch=0))
    gone = [entry for entry in world.catalog.files("metrics", "cpu_1h") if entry.path in names]
    span = min(entry.min_time_us for entry in gone), max(entry.max_time_us for entry in gone)
    hour = span[0] // HOUR_US
    output = file(f"0000000009-{len(names):014d}-n1@daily.0000", hour=hour, measurement="cpu_1h", span_us=span, rows=2)
    do(
        world.fsm,
        ReplaceFiles(
            remove=tuple((entry.path, entry.sha256) for entry in gone),
            add=(output,),
            lease=COMPACTOR,
            epoch=world.catalog.lease_epoch(COMPACTOR),
        ),
    )


async def test_files_of_open_windows_are_told_to_whoever_merges_files(world: World, autojump_clock: MockClock) -> None:
    await world.make()
    runner = world.runner()
    await runner.execute(7, hours(9)[0], NOON_US)
    entries = list(world.catalog.files("metrics", "cpu_1h"))
    windows_open = {entry.path for entry in entries if open_files(world.catalog)(entry)}
    assert {read_name(path).window for path in windows_open} == {hours(10), hours(11)}  # type: ignore[union-attr]
    world.clock.advance(3 * 3600)
    await run_for(runner, 30)
    still = open_files(world.catalog)
    assert not any(still(entry) for entry in entries)
    assert not still(file("plain", measurement="cpu_1h"))


async def test_a_window_whose_result_was_merged_is_not_executed_again(world: World) -> None:
    await world.make()
    runner = world.runner()
    await runner.execute(7, hours(9)[0], NOON_US)
    merge(world, [entry.path for entry in world.catalog.files("metrics", "cpu_1h")])
    with pytest.raises(Conflict, match="merged") as caught:
        await runner.execute(7, hours(11)[0], NOON_US)
    assert caught.value.code == "merged"
    assert world.catalog.file_stats("metrics", "cpu_1h").files == 1
    assert world.progress().runs[0].status == "failed"


async def test_late_rows_of_a_window_whose_result_was_merged_are_given_up_and_told(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make()
    runner = world.runner()
    await run_for(runner, 30)
    merge(world, [entry.path for entry in world.catalog.files("metrics", "cpu_1h")])
    world.write((hours(11)[0] + 120, 5.0))
    world.clock.advance(60)
    await run_for(runner, 9)
    assert world.progress().open == ()
    assert (world.progress().runs[0].status, world.progress().runs[0].cause) == ("failed", "late")
    assert runner.statistics().given_up_total == 1
    world.clock.advance(3600)
    await run_for(runner, 60)
    assert world.progress().until_us == NOON_US + HOUR_US, "the schedule goes on"


async def test_files_that_are_merged_while_a_window_is_executed_refuse_its_entry(world: World) -> None:
    await world.make()
    runner = world.runner()
    await runner.execute(7, hours(9)[0], NOON_US)
    paths = [entry.path for entry in world.catalog.files("metrics", "cpu_1h")]
    world.proposer.before = lambda: merge(world, paths)
    with pytest.raises(Conflict, match="merged"):
        await runner.execute(7, hours(11)[0], NOON_US)
    assert world.catalog.file_stats("metrics", "cpu_1h").files == 1


async def test_a_day_made_of_hours_replaces_them_all_and_an_hour_of_a_day_is_refused(world: World) -> None:
    await world.make(replace(QUERY, created_us=NOON_US - 86_400_000_000))
    runner = world.runner()
    await runner.execute(7, hours(9)[0], NOON_US)
    world.clock.advance(86_400)
    await world.change(interval="1d")
    await runner.execute(7, hours(0)[0], hours(23)[1])
    assert world.stored() == [(10, "a", 5.0, 1), (11, "a", 2.0, 2)]
    names = {read_name(entry.path).window for entry in world.catalog.files("metrics", "cpu_1h")}  # type: ignore[union-attr]
    assert names == {hours(0, 24)}
    await world.change(interval="1h")
    with pytest.raises(Conflict, match="another interval"):
        await runner.execute(7, hours(11)[0], NOON_US)


# ---- what a result is


@pytest.mark.parametrize(
    ("select", "kinds"),
    [
        ("host, avg(v) AS v", {"host": "tag", "v": "float"}),
        ("upper(host) AS place, sum(n) AS n", {"place": "string", "n": "float"}),
        ("host, count(*) AS n, bool_or(v > 1) AS b", {"host": "tag", "n": "integer", "b": "boolean"}),
    ],
)
async def test_a_result_without_a_time_gets_the_beginning_of_its_window(
    world: World, select: str, kinds: dict[str, str]
) -> None:
    text = f"SELECT {select} FROM (SELECT *, 1::BIGINT AS n FROM metrics.cpu {WITHIN}) GROUP BY host"
    await world.make(replace(QUERY, query=text))
    await world.runner().execute(7, None, None)
    [entry] = world.catalog.files("metrics", "cpu_1h")
    assert entry.min_time_us == entry.max_time_us == hours(11)[0]
    schema = world.catalog.schema("metrics", "cpu_1h")
    assert schema is not None and {name: column.kind for name, column in schema.columns.items()} == kinds


async def test_tags_are_those_that_were_named(world: World) -> None:
    await world.make(replace(QUERY, tags=("place",), query=QUERY.query.replace("host,", "host AS place, host,")))
    await world.runner().execute(7, None, None)
    schema = world.catalog.schema("metrics", "cpu_1h")
    assert schema is not None and schema.tags == ("place",)
    assert schema.columns["host"].kind == "string"


async def test_a_row_that_contradicts_the_destination_fails_the_window_whole(world: World) -> None:
    await world.make()
    runner = world.runner()
    await runner.execute(7, None, None)
    await world.change(query=QUERY.query.replace("avg(v) AS v", "'hot' AS v"))
    with pytest.raises(InvalidRequest, match="does not fit"):
        await runner.execute(7, hours(10)[0], hours(10)[1])
    assert world.stored() == [(11, "a", 2.0, 2)]


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="timestamp"):
        timed(pa.table({"time": [1, 2]}), hours(1))


# ---- what a query is


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        ({"query": "SELECT 1"}, InvalidRequest, "start_time"),
        ({"query": "SELECT {start_time}"}, InvalidRequest, "end_time"),
        ({"interval": "1s"}, InvalidRequest, "10s"),
        ({"interval": "1m", "lateness": "4h"}, InvalidRequest, "lateness"),
        ({"lateness": "soon"}, InvalidRequest, "lateness"),
        ({"destination": "cpu"}, InvalidRequest, "another"),
        ({"destination": "a/b"}, InvalidRequest, "measurement"),
        ({"name": ""}, InvalidRequest, "name"),
        ({"database": "nowhere"}, NotFound, "nowhere"),
    ],
)
async def test_a_query_that_makes_no_sense_is_refused(
    world: World, change: dict[str, object], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        await world.make(replace(QUERY, **change))  # type: ignore[arg-type]


async def test_names_are_taken_once_and_no_circle_is_made(world: World) -> None:
    stale = world.catalog
    query = await world.make()
    with pytest.raises(Conflict, match="already"):
        # World seed 510121: asked on a node on which the first one was not applied yet.
        await put(world.proposer, stale, replace(QUERY, id=8), now_us=1, is_new=True)
    with pytest.raises(Conflict, match="already"):
        await world.make(replace(QUERY, id=8))
    await world.make(replace(QUERY, id=9, name="daily", source="cpu_1h", destination="cpu_1d"))
    with pytest.raises(InvalidRequest, match="cpu_1d -> cpu -> cpu_1h -> cpu_1d"):
        await world.make(replace(QUERY, id=10, name="round", source="cpu_1d", destination="cpu"))
    await put(world.proposer, world.catalog, replace(query, interval="2h"), now_us=1, is_new=False)
    with pytest.raises(Conflict, match="changed meanwhile"):
        await put(world.proposer, world.catalog, replace(query, interval="3h"), now_us=1, is_new=False)


async def test_a_query_that_rests_is_executed_by_order_only(world: World, autojump_clock: MockClock) -> None:
    await world.make(replace(QUERY, is_active=False))
    runner = world.runner()
    await run_for(runner, 60)
    assert world.stored() == []
    await runner.execute(7, None, None)
    assert world.stored() == [(11, "a", 2.0, 2)]
    assert not any(map(open_files(world.catalog), world.catalog.files("metrics", "cpu_1h")))


async def test_a_node_that_is_told_not_to_leaves_the_schedules_alone(world: World, autojump_clock: MockClock) -> None:
    await world.make()
    await run_for(world.runner(enabled=False), 60)
    assert world.stored() == []


def test_a_query_is_read_as_it_was_written(world: World) -> None:
    query = replace(QUERY, tags=("a", "b"), description="é", retention_days=3)
    kept = Policy(definition.KIND, "7", definition.body_of(query), 5)
    assert definition.read(kept) == replace(query, updated_us=5)


async def test_a_node_that_was_started_again_in_the_same_epoch_writes_under_other_names(world: World) -> None:
    """A name that came twice would put other bytes under a hash that was agreed on."""
    await world.make()
    await world.runner("n2").execute(7, None, None)
    [first] = world.catalog.files("metrics", "cpu_1h")
    await world.runner("n2").execute(7, *hours(11))
    [second] = world.catalog.files("metrics", "cpu_1h")
    assert first.path != second.path
    assert world.stored() == [(11, "a", 2.0, 2)]


async def test_a_query_that_this_version_does_not_understand_stops_nothing(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make()
    strange = replace(QUERY, id=6, name="strange", interval="every full moon")
    do(world.fsm, PutPolicy(kind=definition.KIND, name="6", body=definition.body_of(strange), at_us=1))
    await run_for(world.runner(), 30)
    assert world.stored() == [(11, "a", 2.0, 2)]


async def test_a_result_whose_rows_lie_outside_of_its_window_is_replaced_all_the_same(
    world: World, autojump_clock: MockClock
) -> None:
    await world.make(replace(QUERY, query=QUERY.query.replace("date_trunc('hour', time)", "date_trunc('day', time)")))
    runner = world.runner()
    await run_for(runner, 30)
    assert world.progress().has_strays
    world.write((hours(11)[0] + 120, 5.0))
    world.clock.advance(60)
    await run_for(runner, 30)
    assert world.stored() == [(0, "a", 3.0, 3)]
