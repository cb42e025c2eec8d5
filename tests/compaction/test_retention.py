"""Retention: what is too old goes once, whole, under the writer's lease, and is in the history wherever it was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import pytest
import trio
from trio.testing import MockClock

from arc.catalog.commands import WRITER, AssignLease, Command, PutPolicy, ReplaceFiles
from arc.catalog.fsm import ClusterFSM
from arc.catalog.results import Result
from arc.cluster.clocks import earliest_us
from arc.compaction import retention
from arc.compaction.config import RetentionConfig
from arc.compaction.retention import DAY_US, RetentionPolicy, Run
from arc.compaction.retention_runner import RetentionRunner, put
from arc.errors import ArcError, Conflict, InvalidRequest, NotFound, Unavailable
from arc.ids import NodeId
from arc.telemetry import Log
from tests.catalog.facts import declare, do, file, ready, register
from tests.fakes import ManualClock

NOW_US = 100 * DAY_US
POLICY = RetentionPolicy(
    id=7, name="short", database="metrics", measurement=None, retention_days=10, buffer_days=2, is_active=True,
    created_us=7, updated_us=0,
)  # fmt: skip


class Proposer:
    """Applies at once; ``meanwhile`` happens before a command that removes files, once. ``error`` is raised for it."""

    def __init__(self, fsm: ClusterFSM) -> None:
        self.fsm = fsm
        self.removals = 0
        self.meanwhile: Callable[[], None] | None = None
        self.error: ArcError | None = None

    async def propose(self, command: Command) -> Result:
        await trio.lowlevel.checkpoint()
        if isinstance(command, ReplaceFiles):
            if self.error is not None:
                raise self.error
            happens, self.meanwhile = self.meanwhile, None
            if happens is not None:
                happens()
            self.removals += 1
        return self.fsm.apply(self.fsm.catalog.index + 1, command).result


def day(name: str, days_ago: int, **more: object) -> object:
    """A file whose newest row is so many days old, to the microsecond."""
    at = NOW_US - days_ago * DAY_US
    return file(name, hour=(at - DAY_US // 24) // (DAY_US // 24), span_us=(at - 5, at), **more)  # type: ignore[arg-type]


def filled(*files: object) -> ClusterFSM:
    fsm = ready()
    do(fsm, declare(measurement="disk"))
    do(fsm, register(*files))  # type: ignore[arg-type]
    return fsm


def runner(
    fsm: ClusterFSM,
    log: Log,
    *,
    node: str = "n1",
    every: float = 3600.0,
    ahead_us: int = 0,
    clocks_us: Mapping[str, int | None] = MappingProxyType({}),
) -> tuple[RetentionRunner, Proposer]:
    proposer, clock = Proposer(fsm), ManualClock(wall_us=NOW_US + ahead_us)
    config = RetentionConfig(every_seconds=every)
    retain = RetentionRunner(
        config,
        proposer,
        lambda: fsm.catalog,
        lambda: earliest_us(clock.wall_us(), clocks_us),
        node=NodeId(node),
        clock=clock,
        log=log,
    )
    return retain, proposer


async def made(fsm: ClusterFSM, policy: RetentionPolicy = POLICY) -> RetentionPolicy:
    return await put(Proposer(fsm), fsm.catalog, policy, now_us=NOW_US, is_new=True)


def left(fsm: ClusterFSM) -> list[str]:
    return sorted(each.path.rsplit("/", 1)[1] for each in fsm.catalog.all_files())


async def test_a_file_goes_once_its_newest_row_is_older_than_both_numbers_of_days(log: Log) -> None:
    on_the_border = day("border", 12)
    fsm = filled(day("old", 13), on_the_border, day("young", 11), day("ancient", 90, measurement="disk"))
    await made(fsm)
    retain, _ = runner(fsm, log)

    looked, done = retain.preview(7), await retain.execute(7)

    assert left(fsm) == ["border.parquet", "young.parquet"]
    assert (looked.rows, looked.files, looked.measurements) == (done.rows, done.files, done.measurements)
    assert (done.rows, done.files, done.measurements) == (20, 2, ("cpu", "disk"))
    [run] = retention.runs(fsm.catalog, 7)
    assert (run.status, run.rows, run.files, run.at_us, run.cutoff_us) == (
        "completed", 20, 2, NOW_US, NOW_US - 12 * DAY_US,
    )  # fmt: skip
    again = await retain.execute(7)
    assert (again.rows, again.files) == (0, 0)
    assert [each.id for each in retention.runs(fsm.catalog, 7)] == [2, 1]


@pytest.mark.parametrize(
    ("ahead_days", "others_days", "is_gone"),
    [
        (0, {}, False),
        (365, {"n2": 0}, False),
        (365, {"n2": 365, "n3": 0}, False),
        (365, {"n2": None, "n3": 0}, False),
        (0, {"n2": 365}, False),
        (365, {"n2": 365}, True),
        (2, {"n2": None, "n3": 3}, True),
        (365, {}, True),
    ],
)
async def test_no_clock_that_is_ahead_says_alone_that_rows_are_old(
    ahead_days: int, others_days: dict[str, int | None], is_gone: bool, log: Log
) -> None:
    """One that was a year ahead removed a year too much."""
    fsm = filled(day("young", 11))
    await made(fsm)
    others = {name: days if days is None else NOW_US + days * DAY_US for name, days in others_days.items()}
    retain, _ = runner(fsm, log, ahead_us=ahead_days * DAY_US, clocks_us=others)

    looked, done = retain.preview(7), await retain.execute(7)

    assert (looked.files, done.files) == (int(is_gone), int(is_gone))
    assert left(fsm) == ([] if is_gone else ["young.parquet"])


async def test_nothing_is_removed_before_another_node_has_told_its_time(log: Log, autojump_clock: MockClock) -> None:
    fsm, clocks_us = filled(day("old", 13)), dict[str, int | None](n2=None)
    await made(fsm)
    retain, _ = runner(fsm, log, every=5.0, clocks_us=clocks_us)
    with pytest.raises(Unavailable, match="no other node has told its time yet"):
        await retain.execute(7)
    with pytest.raises(Unavailable, match="no other node has told its time yet"):
        retain.preview(7)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retain.run)
        await trio.sleep(21.0)
        assert left(fsm) == ["old.parquet"]
        clocks_us["n2"] = NOW_US
        await trio.sleep(5.0)
        assert left(fsm) == []
        nursery.cancel_scope.cancel()


async def test_a_policy_of_one_measurement_leaves_the_others_alone(log: Log) -> None:
    fsm = filled(day("old", 13), day("ancient", 90, measurement="disk"))
    await made(fsm, replace(POLICY, measurement="disk"))

    await runner(fsm, log)[0].execute(7)

    assert left(fsm) == ["old.parquet"]


async def test_a_file_that_was_merged_meanwhile_is_looked_at_again(log: Log) -> None:
    old, merged = day("old", 13), day("merged", 11)
    fsm = filled(old, day("other", 14))
    await made(fsm)
    retain, proposer = runner(fsm, log)
    swap = ReplaceFiles(remove=((old.path, old.sha256),), add=(merged,), lease=WRITER, epoch=1)  # type: ignore[attr-defined, arg-type]
    proposer.meanwhile = lambda: do(fsm, swap)

    done = await retain.execute(7)

    assert left(fsm) == ["merged.parquet"]
    assert (done.files, proposer.removals) == (1, 2)


async def test_under_a_lease_that_moved_meanwhile_nothing_goes_until_it_looked_again(log: Log) -> None:
    fsm = filled(day("old", 13))
    await made(fsm)
    retain, proposer = runner(fsm, log)
    move = AssignLease(lease=WRITER, node=NodeId("n1"), expect_epoch=1)
    proposer.meanwhile = lambda: do(fsm, move)

    assert (await retain.execute(7)).files == 1
    assert proposer.removals == 2


async def test_what_fails_is_in_the_history_and_due_again_later(log: Log) -> None:
    fsm = filled(day("old", 13))
    await made(fsm)
    retain, proposer = runner(fsm, log)
    proposer.error = Unavailable("no leader is known now")

    with pytest.raises(Unavailable):
        await retain.execute(7)

    [run] = retention.runs(fsm.catalog, 7)
    assert (run.status, run.rows, run.error) == ("failed", 0, "no leader is known now")
    assert retention.due(fsm.catalog, NOW_US + 10_000_000, 20_000_000) == []
    assert [each.id for each in retention.due(fsm.catalog, NOW_US + 20_000_000, 20_000_000)] == [7]
    assert [each.id for each in retention.due(fsm.catalog, NOW_US - 1, 20_000_000)] == [7], "a clock was set back"
    proposer.error = None
    assert (await retain.execute(7)).files == 1


async def test_the_schedule_is_carried_out_by_who_writes_and_once_in_its_time(
    log: Log, autojump_clock: MockClock
) -> None:
    fsm = filled(day("old", 13))
    await made(fsm)
    await made(fsm, replace(POLICY, id=8, name="resting", is_active=False))
    standby, _ = runner(fsm, log, node="n2")
    with trio.move_on_after(300):
        await standby.run()
    assert left(fsm) == ["old.parquet"]
    writer, _ = runner(fsm, log)
    with trio.move_on_after(300):
        await writer.run()
    assert left(fsm) == []
    assert len(retention.runs(fsm.catalog, 7)) == 1, "the clock of the wall stands still here"
    assert retention.runs(fsm.catalog, 8) == []


async def test_with_no_schedule_nothing_happens_by_itself(log: Log, autojump_clock: MockClock) -> None:
    fsm = filled(day("old", 13))
    await made(fsm)
    with trio.move_on_after(10_000):
        await runner(fsm, log, every=0.0)[0].run()
    assert left(fsm) == ["old.parquet"]


async def test_an_order_for_a_resting_or_unknown_policy_is_refused(log: Log) -> None:
    fsm = filled(day("old", 13))
    await made(fsm, replace(POLICY, is_active=False))
    retain, _ = runner(fsm, log)
    with pytest.raises(Conflict, match="not active"):
        await retain.execute(7)
    with pytest.raises(NotFound):
        await retain.execute(99)
    assert left(fsm) == ["old.parquet"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"retention_days": 0}, "retention_days"),
        ({"buffer_days": 10}, "buffer_days"),
        ({"buffer_days": -1}, "buffer_days"),
        ({"name": ""}, "name"),
    ],
)
async def test_a_policy_that_makes_no_sense_is_refused(change: dict[str, object], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        await made(ready(), replace(POLICY, **change))  # type: ignore[arg-type]


async def test_names_are_taken_once_and_of_two_changes_the_second_looks_again() -> None:
    fsm = ready()
    policy = await made(fsm)
    with pytest.raises(Conflict, match="already"):
        await made(fsm, replace(POLICY, id=8))
    stale = ready().catalog  # A node on which the first one is not applied yet.
    with pytest.raises(Conflict, match="already"):
        await put(Proposer(fsm), stale, replace(POLICY, id=8), now_us=NOW_US, is_new=True)
    with pytest.raises(NotFound):
        await made(fsm, replace(POLICY, id=9, name="other", database="nowhere"))
    first = replace(policy, retention_days=20)
    await put(Proposer(fsm), fsm.catalog, first, now_us=NOW_US, is_new=False)
    with pytest.raises(Conflict, match="changed meanwhile"):
        await put(Proposer(fsm), fsm.catalog, replace(policy, retention_days=30), now_us=NOW_US, is_new=False)
    found = retention.find(fsm.catalog, 7)
    assert found is not None and found.retention_days == 20


def test_a_policy_is_read_as_it_was_written_and_the_history_is_bounded() -> None:
    fsm = ready()
    do(fsm, PutPolicy(kind=retention.KIND, name="7", body=retention.body_of(POLICY), at_us=3))
    assert retention.policies(fsm.catalog) == [replace(POLICY, updated_us=3)]
    run = Run(id=0, at_us=1, status="completed", rows=1, files=1, cutoff_us=0, milliseconds=1.0)
    for _ in range(retention.RUNS_KEPT + 5):
        body = retention.body_of_runs(retention.runs(fsm.catalog, 7), run)
        do(fsm, PutPolicy(kind=retention.RUNS_KIND, name="7", body=body, at_us=9))
    kept = retention.runs(fsm.catalog, 7)
    assert len(kept) == retention.RUNS_KEPT
    assert kept[0].id == retention.RUNS_KEPT + 5
