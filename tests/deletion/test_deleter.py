"""Rows deleted by a condition: exactly those for which it is TRUE, wherever they are, and for good."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arc.catalog.commands import WRITER, Command, DropMeasurement, PutPolicy, ReplaceFiles
from arc.deletion import rewrite
from arc.deletion.config import DeleteConfig
from arc.deletion.orders import DeleteOrder
from arc.errors import DiskFailed, InvalidRequest, NotFound, OutcomeUnknown, Unavailable
from arc.query.predicate import Conditions
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from tests.deletion.world import HOUR_US, Row, open_world

ROWS: tuple[Row, ...] = (
    (0, "a", 1.0),
    (1, "b", 2.0),
    (2, None, 3.0),
    (3, "a", None),
    (HOUR_US, "a", 5.0),
    (HOUR_US + 1, "c", 6.0),
    (2 * HOUR_US, "a", 7.0),
)


def keys(rows: Sequence[Row]) -> list[int]:
    return sorted(time for time, _, _ in rows)


async def test_rows_for_which_it_is_true_go_and_null_and_false_stay(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()
        assert await world.delete("host = 'a'") == 4
        assert keys(world.rows()) == [1, 2, HOUR_US + 1]
        assert await world.delete("NOT (host = 'b')") == 1
        assert keys(world.rows()) == [1, 2], "of NULL nobody knows whether it is 'b'"
        assert await world.delete("host = 'a'") == 0


async def test_rows_in_the_buffer_are_covered_and_no_replay_brings_them_back(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS[:3])
        await world.flush()
        await world.write(*ROWS[3:])
        fsm = world.path.fsm
        assert await world.delete("host = 'a'") == 4
        assert keys(world.rows()) == [1, 2, HOUR_US + 1]
    async with open_world(tmp_path, fsm=fsm) as again:
        assert keys(again.rows()) == [1, 2, HOUR_US + 1]
        await again.write((9, "a", 1.0))
        await again.flush()
        assert keys(again.rows()) == [1, 2, 9, HOUR_US + 1]


async def test_what_is_written_again_is_what_it_was_without_the_rows(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS[:4])
        await world.flush()
        [before] = world.files()
        old = world.table(before)
        await world.delete("value = 2")
        [after] = world.files()
        new = world.table(after)
        assert new.to_pylist() == [row for row in old.to_pylist() if row["value"] != 2], "in the same order"
        assert new.schema.equals(old.schema)
        assert after.path != before.path and after.path.rpartition("/")[0] == before.path.rpartition("/")[0]
        same = ("database", "measurement", "first_sequence", "last_sequence", "columns", "origin")
        assert all(getattr(after, name) == getattr(before, name) for name in same)
        assert (after.rows, after.min_time_us, after.max_time_us) == (3, 0, 3)
        assert world.given == [replace(after, holders=())], "others had it before it took effect"
        file = pq.ParquetFile(pa.BufferReader(world.path.disk.read(f"{DATA}/{after.path}")))
        metadata = file.metadata.metadata
        assert metadata[b"arc.tags"] == b"host" and metadata[b"arc.wal_last"] == b"1"
        assert metadata[b"arc.writer"] == b"n1" and metadata[b"arc.epoch"] == str(world.epoch).encode()
        assert "b" not in file.read().column("host").combine_chunks().dictionary.to_pylist(), "not even as a value"


async def test_a_file_whose_rows_all_match_goes_as_a_whole(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()
        order = DeleteOrder(database="db", measurement="cpu", where=f"time >= to_timestamp({HOUR_US // 10**6})")
        outcome = await world.deleter.delete(order)
        assert (outcome.rows, outcome.files, outcome.rewritten) == (3, 2, 0)
        assert world.given == []
        assert keys(world.rows()) == [0, 1, 2, 3]


async def test_a_dry_run_tells_what_an_order_would_do_and_changes_no_file(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        order = DeleteOrder(database="db", measurement="cpu", where="host = 'a'", is_dry=True)
        dry = await world.deleter.delete(order)
        before = world.files()
        assert keys(world.rows()) == keys(ROWS)
        done = await world.deleter.delete(replace(order, is_dry=False))
        assert (dry.rows, dry.files, dry.rewritten) == (done.rows, done.files, done.rewritten) == (4, 3, 2)
        assert sorted(dry.paths) == sorted(done.paths) == sorted(entry.path for entry in before)
        assert world.deleter.statistics().orders_total == 1


@pytest.mark.parametrize(
    ("where", "confirmed", "told"),
    [
        ("host = 'a'", False, "confirm"),
        ("1=1", True, "max_rows_per_delete"),
        ("host IS NULL OR host IS NOT NULL", True, "max_rows_per_delete"),
        ("nowhere = 1", True, "nowhere"),
        ("host IN (SELECT 'a')", True, "subquery"),
        ("", True, "must be a condition"),
    ],
)
async def test_what_is_refused_changes_nothing(tmp_path: Path, where: str, confirmed: bool, told: str) -> None:
    config = DeleteConfig(enabled=True, confirmation_threshold=3, max_rows_per_delete=6)
    async with open_world(tmp_path, config=config) as world:
        await world.write(*ROWS)
        with pytest.raises(InvalidRequest, match=told):
            await world.delete(where, is_confirmed=confirmed)
        assert keys(world.rows()) == keys(ROWS)
        assert await world.delete("value > 5 AND host = 'a'", is_confirmed=False) == 1, "few rows need no confirmation"


async def test_all_rows_are_deleted_only_when_that_is_confirmed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        with pytest.raises(InvalidRequest, match="confirm"):
            await world.delete("1=1", is_confirmed=False)
        assert await world.delete("1=1") == 7
        assert world.rows() == [] and world.files() == []
        with pytest.raises(NotFound, match="nope"):
            await world.deleter.delete(DeleteOrder(database="db", measurement="nope", where="1=1"))


async def test_a_file_that_was_merged_meanwhile_is_looked_at_again_under_its_new_name(tmp_path: Path) -> None:
    """The entry is refused: what was written again from the old file would double the rows of the merged one."""
    async with open_world(tmp_path) as world:
        await world.write(*ROWS[:4])
        await world.flush()
        merged: list[FileEntry] = []

        async def merge(outputs: Sequence[FileEntry]) -> None:
            """What a compactor does, at the worst moment."""
            if merged:
                return
            [old] = world.files()
            path = old.path.replace(".parquet", "@hourly.0000.parquet")
            world.path.disk.write_durable(f"{DATA}/{path}", world.path.disk.read(f"{DATA}/{old.path}"))
            merged.append(replace(old, path=path, holders=()))
            swap = ReplaceFiles(remove=((old.path, old.sha256),), add=(merged[0],), lease=WRITER, epoch=world.epoch)
            (await world.path.proposer.propose(swap)).unwrap()

        world.spread = merge
        assert await world.delete("host = 'a'") == 2
        assert keys(world.rows()) == [1, 2]
        [left] = world.files()
        assert "@hourly.0000.parquet" in left.path, "what was merged stays merged"
        assert world.deleter.statistics().files_rewritten_total == 1


async def test_files_that_keep_changing_are_told_of_in_the_end(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS[:4])
        await world.flush()
        count = 0

        async def merge(outputs: Sequence[FileEntry]) -> None:
            nonlocal count
            count += 1
            [old] = world.files()
            path = old.path.rpartition("/")[0] + f"/0000000001-{count:014d}-n1@hourly.0000.parquet"
            world.path.disk.write_durable(f"{DATA}/{path}", world.path.disk.read(f"{DATA}/{old.path}"))
            swap = ReplaceFiles(
                remove=((old.path, old.sha256),),
                add=(replace(old, path=path, holders=()),),
                lease=WRITER,
                epoch=world.epoch,
            )
            (await world.path.proposer.propose(swap)).unwrap()

        world.spread = merge
        with pytest.raises(Unavailable, match=r"0 rows of 0 files were deleted, 1 files are left"):
            await world.delete("host = 'a'")
        assert keys(world.rows()) == [0, 1, 2, 3]


async def test_a_failover_in_the_middle_leaves_what_was_done_and_the_same_order_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arc.deletion.plan.FILES_PER_ENTRY", 1)
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()
        fsm = world.path.fsm

        async def fail_over(outputs: Sequence[FileEntry]) -> None:
            if len(world.given) == 2:
                world.move_lease()

        world.spread = fail_over
        with pytest.raises(OutcomeUnknown, match=r"2 rows of 1 files were deleted, 2 files are left") as caught:
            await world.delete("host = 'a'")
        assert caught.value.code == "delete_incomplete"
        assert keys(world.rows()) == [1, 2, HOUR_US, HOUR_US + 1, 2 * HOUR_US]
        assert world.deleter.statistics().rows_total == 2
    async with open_world(tmp_path, fsm=fsm) as successor:
        assert await successor.delete("host = 'a'") == 2
        assert keys(successor.rows()) == [1, 2, HOUR_US + 1]


async def test_an_entry_of_the_old_reign_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()

        def before(command: Command) -> None:
            if isinstance(command, ReplaceFiles) and world.path.fsm.catalog.lease_epoch(WRITER) == world.epoch:
                world.move_lease()

        world.path.proposer.before = before
        with pytest.raises(Unavailable, match="the writer lease went elsewhere"):
            await world.delete("host = 'a'")
        assert keys(world.rows()) == keys(ROWS)


async def test_an_entry_whose_answer_was_lost_counts_once(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()
        lost: list[Command] = []

        def after(command: Command) -> None:
            if isinstance(command, ReplaceFiles) and not lost:
                lost.append(command)
                raise OutcomeUnknown("the leader is gone")

        world.path.proposer.after = after
        assert await world.delete("host = 'a'") == 4
        assert keys(world.rows()) == [1, 2, HOUR_US + 1]
        assert len(lost) == 1


async def test_an_entry_nobody_knows_of_leaves_its_files_alone(tmp_path: Path) -> None:
    """It may still come about: files that were thrown away would be missing then."""
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()

        def before(command: Command) -> None:
            if isinstance(command, ReplaceFiles):
                raise OutcomeUnknown("nobody answers")

        world.path.proposer.before = before
        with pytest.raises(OutcomeUnknown, match="the same order again"):
            await world.delete("host = 'a'")
        assert world.given and all(world.keeper.is_here(entry.path) for entry in world.given)
        assert not world.keeper.is_anything_leaving
        world.path.proposer.before = lambda command: None
        assert await world.delete("host = 'a'") == 4


async def test_what_the_others_do_not_get_does_not_take_effect(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()

        async def refuse(outputs: Sequence[FileEntry]) -> None:
            raise Unavailable("n2 cannot be reached")

        world.spread = refuse
        with pytest.raises(Unavailable, match="n2 cannot be reached; 0 rows of 0 files were deleted, 3 files are left"):
            await world.delete("host = 'a'")
        assert keys(world.rows()) == keys(ROWS)
        assert world.keeper.statistics().leaving_files == len(world.given) == 2


@pytest.mark.parametrize(("number", "error"), [(errno.ENOSPC, Unavailable), (errno.EIO, DiskFailed)])
async def test_a_disk_that_is_full_is_no_reason_to_stop_and_one_that_fails_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()

        def install(moves: object) -> None:
            raise OSError(number, "no")

        monkeypatch.setattr(world.path.disk, "install", install)
        with pytest.raises(error):
            await world.delete("host = 'a'")
        assert keys(world.rows()) == keys(ROWS)


async def test_a_bad_copy_is_never_written_again(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS[:4])
        await world.flush()
        [entry] = world.files()
        sink = pa.BufferOutputStream()
        pq.write_table(world.table(entry).slice(1), sink)
        good = bytes(world.path.disk.read(f"{DATA}/{entry.path}"))
        assert b"parquet-cpp" in good
        # As long as it was, and it can be read (R-85: only the other length was noticed).
        rotten = good.replace(b"parquet-cpp", b"parquet-cpq")
        for bad in (sink.getvalue().to_pybytes(), rotten):
            world.path.disk.write_durable(f"{DATA}/{entry.path}", bad)
            world.suspected.clear()
            with pytest.raises(Unavailable) as caught:
                await world.delete("host = 'a'")
            assert caught.value.code == "file_unreadable"
            assert [each.path for each in world.suspected] == [entry.path]
            # Nor is it counted: what the bit hides would stay in all the good copies.
            with pytest.raises(Unavailable):
                await world.delete("host = 'nobody'", is_dry=True)
        assert [each.path for each in world.files()] == [entry.path]


async def test_files_that_are_on_their_way_are_waited_for(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.flush()
        world.keeper.away = frozenset(entry.path for entry in world.files())
        deleted: list[int] = []

        async def delete() -> None:
            deleted.append(await world.delete("host = 'a'"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(delete)
            await trio.testing.wait_all_tasks_blocked(0.05)
            world.keeper.away = frozenset()
            world.keeper.came("x")
        assert deleted == [4]


async def test_only_the_node_that_writes_deletes(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        world.is_reigning = False
        with pytest.raises(Unavailable):
            await world.delete("host = 'a'")


@pytest.mark.parametrize("is_dry", [False, True])
async def test_who_may_have_been_replaced_does_not_look_before_it_is_confirmed(tmp_path: Path, is_dry: bool) -> None:
    """Of what the next holder has stored, a measurement among it, nothing is to be seen here (world seed 730808)."""
    async with open_world(tmp_path) as world:

        def replaced() -> None:
            raise Unavailable("this node does not hold the writer lease any more")

        world.before_confirmed = replaced
        with pytest.raises(Unavailable, match="any more"):
            await world.delete("host = 'a'", is_dry=is_dry)
        world.before_confirmed = lambda: None
        with pytest.raises(NotFound):
            await world.delete("host = 'a'", is_dry=is_dry)
        assert world.confirmed == 2


async def test_no_buffer_answers_for_what_was_deleted_and_it_is_said_before_the_first_file_goes(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)
        await world.write((5, "b", 1.0), measurement="disk")
        await world.delete("host = 'a'")
        catalog = world.path.fsm.catalog
        assert catalog.deleted_through("db") == 2 and catalog.deleted_through("other") == 0
        kinds = [type(command) for command in world.path.proposer.proposed]
        assert kinds.index(PutPolicy) < kinds.index(ReplaceFiles)
        await world.delete("host = 'b'")
        assert [type(command) for command in world.path.proposer.proposed].count(PutPolicy) == 1, "it stands already"


async def test_of_a_measurement_that_is_dropped_meanwhile_nothing_is_left_to_delete(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*ROWS)

        async def drop(outputs: Sequence[FileEntry]) -> None:
            command = DropMeasurement(database="db", name="cpu", up_to=1, epoch=world.epoch)
            (await world.path.proposer.propose(command)).unwrap()

        world.spread = drop
        assert await world.delete("host = 'a'") == 0
        assert world.files() == []


values = st.sampled_from([None, 0.0, 1.0, 2.0])
hosts = st.sampled_from([None, "a", "b", "c"])
rows_drawn = st.lists(
    st.tuples(st.integers(0, 3 * HOUR_US), hosts, values), min_size=1, max_size=40, unique_by=lambda row: row[0]
)
conditions = st.sampled_from(
    ["host = 'a'", "value > 1", "NOT (value > 0 AND host = 'b')", "host IS NULL", "value IS NOT NULL", "1=1", "NULL",
     f"time < to_timestamp({HOUR_US // 10**6})", "host <> 'c' OR value = 2"]
)  # fmt: skip


def is_true(where: str, row: Row) -> bool:
    """By another engine: SQLite has the same three truth values."""
    import sqlite3

    time, host, value = row
    with sqlite3.connect(":memory:") as oracle:
        oracle.create_function("to_timestamp", 1, lambda seconds: seconds * 10**6)
        oracle.execute("CREATE TABLE cpu (time INTEGER, host TEXT, value REAL)")
        oracle.execute("INSERT INTO cpu VALUES (?, ?, ?)", (time, host, value))
        found: int = oracle.execute(f"SELECT count(*) FROM cpu WHERE {where}").fetchone()[0]
    return bool(found)


@given(batches=st.lists(rows_drawn, min_size=1, max_size=3), where=conditions, flushes=st.booleans())
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_rows_are_exactly_those_for_which_it_is_true_go(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Row]], where: str, flushes: bool
) -> None:
    async def run() -> None:
        async with open_world(tmp_path_factory.mktemp("delete")) as world:
            await world.write((0, "z", 9.0))  # So that there are columns to ask for.
            for batch in batches:
                await world.write(*batch)
                if flushes:
                    await world.flush()
            written = [(0, "z", 9.0), *(row for batch in batches for row in batch)]
            left = [row for row in written if not is_true(where, row)]
            assert await world.delete(where) == len(written) - len(left)
            assert world.rows() == sorted(left, key=str)

    old = rewrite.ROW_GROUP_ROWS
    rewrite.ROW_GROUP_ROWS = 4
    try:
        trio.run(run)
    finally:
        rewrite.ROW_GROUP_ROWS = old


async def test_row_groups_outside_the_time_of_the_condition_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_world(tmp_path) as world:
        await world.write(*[(n * 1_000_000, "a", float(n)) for n in range(100)])
        monkeypatch.setattr("arc.storage.parquet.ROW_GROUP_ROWS", 10)
        await world.flush()
        schema = world.path.fsm.catalog.schema("db", "cpu")
        assert schema is not None
        condition = Conditions(world.engine).parse("time < '1970-01-01T00:00:25Z'", "cpu", schema, 0)
        asked: list[int] = []

        class Counting:
            columns, low_us, high_us = condition.columns, condition.low_us, condition.high_us

            def matches(self, rows: pa.Table) -> np.ndarray:
                asked.append(rows.num_rows)
                return condition.matches(rows)

        [entry] = world.files()
        assert rewrite.count(world.path.disk, entry, Counting()) == 25
        assert asked == [10, 10, 10]
