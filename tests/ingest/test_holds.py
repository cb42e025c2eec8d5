"""Rows kept out while what they belong to is dropped: each write is before the drop or behind it, never half."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
import trio.testing

from arc.catalog.commands import Command, DeclareColumns, DropDatabase, DropMeasurement
from arc.errors import DiskFailed, OutcomeUnknown, Unavailable
from arc.ingest.config import IngestConfig
from tests.ingest.broken_disk import BrokenDisk
from tests.ingest.writepath import WritePath, open_write_path, values, write


async def drop(path: WritePath, measurement: str | None, database: str = "db") -> int:
    """As the holder of the lease does, flush left out; the last record that is void."""
    hold = await path.intake.hold(database, measurement)
    name, up_to, epoch = measurement, hold.through, hold.epoch
    if name is None:
        command: Command = DropDatabase(name=database, up_to=up_to, epoch=epoch)
    else:
        command = DropMeasurement(database=database, name=name, up_to=up_to, epoch=epoch)
    (await path.proposer.propose(command)).unwrap()
    hold.release()
    return up_to


@pytest.mark.parametrize("measurement", ["cpu", None])
async def test_a_write_before_a_drop_is_gone_and_one_behind_it_is_there_whole(
    tmp_path: Path, measurement: str | None
) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(5)))
        hold = await path.intake.hold("db", measurement)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(path.intake.write, write(values(3)))
            await trio.testing.wait_all_tasks_blocked()
            assert path.intake.admitted_sequence == hold.through, "the second waits outside"
            if measurement is None:
                command: Command = DropDatabase(name="db", up_to=hold.through, epoch=hold.epoch)
            else:
                command = DropMeasurement(database="db", name="cpu", up_to=hold.through, epoch=hold.epoch)
            (await path.proposer.propose(command)).unwrap()
            assert path.fsm.catalog.schema("db", "cpu") is None
            hold.release()
        assert path.fsm.catalog.schema("db", "cpu") is not None, "the second made it again"
        assert path.rows() == 3


async def test_a_write_that_was_settled_before_a_drop_and_enters_behind_it_is_settled_again(tmp_path: Path) -> None:
    """Its measurement is gone by then: rows without a schema would be acknowledged and seen by nobody."""
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(5)))
        settled, go_on = trio.Event(), trio.Event()
        settle = path.intake._settlement.settle

        async def slowly(request: object) -> object:
            agreed = await settle(request)  # type: ignore[arg-type]
            if not settled.is_set():
                settled.set()
                await go_on.wait()
            return agreed

        path.intake._settlement.settle = slowly  # type: ignore[method-assign,assignment]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(path.intake.write, write(values(3)))
            await settled.wait()
            await drop(path, "cpu")
            go_on.set()
        assert path.fsm.catalog.schema("db", "cpu") is not None
        assert path.rows() == 3
        assert isinstance(path.proposer.proposed[-1], DeclareColumns)


async def test_writes_to_others_go_on_during_a_hold(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        hold = await path.intake.hold("db", "cpu")
        await path.intake.write(write(values(4, measurement="disk")))
        assert path.rows("disk") == 4
        assert hold.through < path.intake.admitted_sequence
        hold.release()
        hold.release()


async def test_who_waits_too_long_is_told_that_nothing_was_stored(tmp_path: Path) -> None:
    config = IngestConfig(write_timeout_seconds=0.05)
    async with open_write_path(tmp_path, config=config) as path:
        await path.intake.hold("db", None)
        with pytest.raises(Unavailable, match="being dropped"):
            await path.intake.write(write(values(1)))
        assert path.rows() == 0


@pytest.mark.parametrize("is_late", [False, True])
async def test_nothing_is_dropped_once_a_write_may_be_in_the_log_or_not(tmp_path: Path, is_late: bool) -> None:
    """Its record would come back with the next start, behind the drop, without the measurement it is of."""
    disk = BrokenDisk(tmp_path)
    refused: list[Unavailable] = []
    with pytest.RaisesGroup(pytest.RaisesGroup(DiskFailed)):
        async with open_write_path(tmp_path, disk=disk) as path:
            await path.intake.write(write(values(5)))
            disk.write_error = errno.EIO

            async def write_in_vain() -> None:
                with pytest.raises(OutcomeUnknown):
                    await path.intake.write(write(values(5, start=9)))

            async def drop_in_vain() -> None:
                with trio.CancelScope(shield=True):  # A request that is under way, while everything else ends.
                    try:
                        await drop(path, "cpu")
                    except Unavailable as error:
                        refused.append(error)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(write_in_vain)
                if not is_late:
                    while not path.intake._appending:
                        await trio.lowlevel.checkpoint()
                    nursery.start_soon(drop_in_vain)
            if is_late:
                await drop_in_vain()
    assert len(refused) == 1 and "may be stored" in refused[0].message
    assert path.fsm.catalog.schema("db", "cpu") is not None


async def test_the_end_of_the_lease_ends_all_holds(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.hold("db", None)
        failed: list[Unavailable] = []

        async def refused() -> None:
            try:
                await path.intake.write(write(values(1)))
            except Unavailable as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused)
            await trio.testing.wait_all_tasks_blocked()
            path.intake._end()
        assert "writer lease" in failed[0].message


@pytest.mark.parametrize("is_logged", [False, True])
async def test_a_hold_waits_for_what_was_let_in_before_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_logged: bool
) -> None:
    """Whether it waits for the log or for its acknowledgement: its record is among those that are void then."""
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(1)))
        go_on = trio.Event()
        append, wait_durable = path.wal.append, path.intake._durability.wait_durable

        async def slow_append(records: Sequence[bytes]) -> None:
            if not is_logged:
                await go_on.wait()
            await append(records)

        async def slow_wait(sequence: int) -> int:
            if is_logged:
                await go_on.wait()
            return await wait_durable(sequence)

        monkeypatch.setattr(path.wal, "append", slow_append)
        monkeypatch.setattr(path.intake._durability, "wait_durable", slow_wait)
        held: list[int] = []

        async def hold() -> None:
            held.append((await path.intake.hold("db", "cpu")).through)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(path.intake.write, write(values(3)))
            await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert held == []
            go_on.set()
        assert held == [path.wal.next_sequence - 1] == [2]


async def test_a_hold_waits_for_records_that_another_holder_has_logged(tmp_path: Path) -> None:
    """They are in the log of the new holder, nobody's entries, and visible only once they are durable everywhere."""
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(1)))
        path.intake._visibility.take_back(0)
        held: list[int] = []

        async def hold() -> None:
            held.append((await path.intake.hold("db", "cpu")).through)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert held == []
            path.intake._visibility.show(1)
        assert held == [1]
