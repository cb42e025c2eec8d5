"""A write is stored once, whole, in order and durably, or the client is told that it is not."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import trio
import trio.testing

from arc.catalog.commands import Command, DeclareColumns, DropMeasurement
from arc.catalog.results import Result
from arc.errors import DiskFailed, OutcomeUnknown, Overloaded, Unavailable
from arc.ingest.columns import Column, Decoded, Kind, Refused
from arc.ingest.config import IngestConfig
from arc.ingest.keys import KeyReused
from arc.ingest.requests import AllRefused, Written
from arc.system import SystemClock
from tests.ingest.broken_disk import BrokenDisk
from tests.ingest.writepath import WritePath, open_write_path, values, write


def hold_next_proposal(path: WritePath) -> trio.Event:
    """The next change of the catalog waits until the event is set; those behind it do not."""
    propose, release = path.proposer.propose, trio.Event()

    async def held(command: Command) -> Result:
        path.proposer.propose = propose  # type: ignore[method-assign]
        await release.wait()
        return await propose(command)

    path.proposer.propose = held  # type: ignore[method-assign]
    return release


async def test_row_is_visible_as_soon_as_it_is_acknowledged(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        written = await path.intake.write(write(values(10)))
        assert (written.rows, path.rows()) == (10, 10)
        assert written.position.sequence == path.intake.admitted_sequence == 1


async def test_acknowledged_rows_come_back_after_a_crash(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        for n in range(20):
            await path.intake.write(write(values(100, start=n), values(5, measurement="mem", start=n)))
        fsm = path.fsm
    async with open_write_path(tmp_path, fsm=fsm) as path:
        assert (path.rows("cpu"), path.rows("mem")) == (2000, 100)
        again = await path.intake.write(write(values(1)))
        assert again.position.sequence == 41
        assert again.position.epoch > 1


async def test_replay_skips_what_is_in_files(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(100)))
        await path.flusher.flush_all()
        await path.intake.write(write(values(7, start=10**9)))
        fsm = path.fsm
    for _ in range(2):  # replaying twice changes nothing
        async with open_write_path(tmp_path, fsm=fsm) as path:
            assert path.rows() == 107


async def test_concurrent_writes_share_one_sync_and_keep_sequence_order(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(1)))
        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(path.intake.write, write(values(3, start=n)))
        statistics = path.intake.statistics()
        assert statistics.batches_total == 51
        assert statistics.groups_total < 10
        assert path.rows() == 151


async def test_client_that_hangs_up_does_not_take_its_row_back(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(1)))
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(path.intake.write, write(values(10, start=5)))
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        await path.intake.drain()
        fsm = path.fsm
        assert path.rows() in (1, 11)
        seen = path.rows()
    async with open_write_path(tmp_path, fsm=fsm) as path:
        assert path.rows() == seen


async def test_retry_with_the_same_key_stores_once_also_after_a_crash(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        first = await path.intake.write(write(values(10), values(4, measurement="mem"), key="k1"))
        retry = await path.intake.write(write(values(10), values(4, measurement="mem"), key="k1"))
        assert (retry.position, retry.rows) == (first.position, first.rows) == (first.position, 14)
        assert path.rows() == 10
        fsm = path.fsm
    async with open_write_path(tmp_path, fsm=fsm) as path:
        assert (await path.intake.write(write(values(10), key="k1"))).position == first.position
        assert path.rows() == 10


async def test_key_survives_the_segment_that_held_it(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(10), key="old"))
        for n in range(40):
            await path.intake.write(write(values(2000, start=n)))
        await path.flusher.flush_all()
        assert path.wal.segments()[0].first_index > 1, "the first segment must be gone for this test to mean anything"
        fsm = path.fsm
    async with open_write_path(tmp_path, fsm=fsm) as path:
        before = path.rows()
        await path.intake.write(write(values(10), key="old"))
        assert path.rows() == before


async def test_another_write_under_a_key_that_is_known_is_refused_and_not_taken_for_a_retry(tmp_path: Path) -> None:
    """It was answered as stored, and its rows were gone without a word."""
    one, other = write(values(10), key="k", fingerprint=1), write(values(7, start=5), key="k", fingerprint=2)
    async with open_write_path(tmp_path) as path:
        first = await path.intake.write(one)
        for n in range(40):
            with pytest.raises(KeyReused, match="nothing of this one was stored"):
                await path.intake.write(other)
            assert await path.intake.write(one) == first
            await path.intake.write(write(values(2000, start=n)))
        assert path.rows() == 80_010
        fsm = path.fsm
    async with open_write_path(tmp_path, fsm=fsm) as path:
        with pytest.raises(KeyReused):
            await path.intake.write(other)
        await path.flusher.flush_all()
        assert path.wal.segments()[0].first_index > 1, "from here on only the checkpoint has the key"
    async with open_write_path(tmp_path, fsm=fsm) as path:
        with pytest.raises(KeyReused):
            await path.intake.write(other)
        assert await path.intake.write(one) == first
        assert path.rows() == 80_010


async def test_of_two_different_writes_under_one_key_side_by_side_one_is_stored(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        refused: list[int] = []

        async def send(number: int) -> None:
            try:
                await path.intake.write(write(values(10, start=number), key="same", fingerprint=1 + number))
            except KeyReused:
                refused.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(send, number)
        assert path.rows() == 10
        assert len(refused) == 4


async def test_another_write_that_comes_while_the_first_one_waits_for_its_schema_is_refused(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        release = hold_next_proposal(path)
        refused: list[KeyReused] = []

        async def first() -> None:
            with pytest.raises(KeyReused) as caught:
                await path.intake.write(write(values(10), key="same", fingerprint=1))
            refused.append(caught.value)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            await path.intake.write(write(values(3), key="same", fingerprint=2))
            release.set()
        assert len(refused) == 1 and path.rows() == 3


class SetClock(SystemClock):
    """Somebody sets the wall clock."""

    ahead_us = 0

    def wall_us(self) -> int:
        return super().wall_us() + self.ahead_us


@pytest.mark.parametrize("hours", [2, -2])
async def test_a_key_is_known_whatever_the_wall_clock_says(hours: int, tmp_path: Path) -> None:
    clock = SetClock()
    async with open_write_path(tmp_path, clock=clock) as path:
        await path.intake.write(write(values(10), key="a"))
        clock.ahead_us = hours * 3_600_000_000
        await path.intake.write(write(values(10), key="a"))
        await path.intake.write(write(values(10), key="b"))
        await path.intake.write(write(values(10), key="a"))
        assert path.rows() == 20
        fsm = path.fsm
    async with open_write_path(tmp_path, fsm=fsm, clock=SetClock()) as path:
        for key in ("a", "b"):
            await path.intake.write(write(values(10), key=key))
        assert path.rows() == 20


async def test_two_racing_retries_store_once(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(path.intake.write, write(values(10), key="same"))
        assert path.rows() == 10


async def test_a_twin_that_waited_for_its_schema_until_the_first_was_stored_stores_nothing(tmp_path: Path) -> None:
    """Its client gave up and asked again with the same key; an election takes longer (world seed 70124)."""
    async with open_write_path(tmp_path) as path:
        release = hold_next_proposal(path)
        answers: list[Written] = []

        async def first() -> None:
            answers.append(await path.intake.write(write(values(10), key="same")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(first)
            await trio.testing.wait_all_tasks_blocked()
            answers.append(await path.intake.write(write(values(10), key="same")))
            release.set()
        assert path.rows() == 10
        assert {(answer.position, answer.rows) for answer in answers} == {(answers[0].position, 10)}


async def test_strict_request_with_one_bad_line_stores_and_declares_nothing(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        with pytest.raises(AllRefused) as caught:
            await path.intake.write(write(values(3), refused=(Refused(2, "x", "missing fields"),), strict=True))
        assert "line 2" in caught.value.message
        assert path.proposer.proposed == []
        assert path.wal.next_sequence == 1


def mixed() -> Decoded:
    """Of its three rows the second one contradicts the type of its column."""
    return Decoded(
        measurement="cpu",
        time=pa.array([1, 2, 3], pa.int64()),
        columns=(
            Column("value", Kind.FLOAT, pa.array([1.0, None, 3.0])),
            Column("value", Kind.STRING, pa.array([None, "no", None])),
        ),
    )


async def test_good_rows_are_stored_beside_refused_ones(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(3)))
        written = await path.intake.write(write(mixed()))
        assert (written.rows, [line.line for line in written.refused]) == (2, [2])
        assert "type conflict" in written.refused[0].reason
        assert path.rows() == 5


async def test_a_retry_is_told_again_which_lines_were_refused(tmp_path: Path) -> None:
    """The first answer may have been lost, and one that names no lines says that all are stored."""
    unread = Refused(4, "x", "missing fields")
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(3)))
        first = await path.intake.write(write(mixed(), key="k", refused=(unread,)))
        again = await path.intake.write(write(mixed(), key="k", refused=(unread,)))
        assert again == first
        assert [line.line for line in again.refused] == [2, 4]
        fsm = path.fsm
    async with open_write_path(tmp_path, fsm=fsm) as path:
        assert (await path.intake.write(write(mixed(), key="k", refused=(unread,)))) == first


async def test_lines_that_a_changed_schema_does_not_show_any_more_are_counted_for_a_retry(tmp_path: Path) -> None:
    unread = Refused(4, "x", "missing fields")
    async with open_write_path(tmp_path) as path:
        await path.intake.write(write(values(3), key="wholly"))
        await path.intake.write(write(mixed(), key="partly", refused=(unread,)))
        catalog = path.fsm.catalog
        drop = DropMeasurement(
            database="db", name="cpu", up_to=path.wal.next_sequence - 1, epoch=catalog.lease_epoch("writer")
        )
        assert path.fsm.apply(catalog.index + 1, drop).result.ok
        text = Column("value", Kind.STRING, pa.array(["now a text"]))
        await path.intake.write(write(replace(values(1), columns=(text,))))
        again = await path.intake.write(write(mixed(), key="partly", refused=(unread,)))
        assert [(line.line, line.text) for line in again.refused] == [(0, ""), (4, "x")]
        assert "not known any more" in again.refused[0].reason
        assert (await path.intake.write(write(values(3), key="wholly"))).refused == ()


async def test_over_the_memory_budget_a_write_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    async with open_write_path(tmp_path, config=IngestConfig(memory_bytes=4096)) as path:
        await path.intake.write(write(values(200)))
        with pytest.raises(Overloaded):
            await path.intake.write(write(values(200, start=7)))
        assert path.rows() == 200
        await path.flusher.flush_all()
        await path.intake.write(write(values(200, start=7)))
        assert path.rows() == 400


async def test_row_not_yet_durable_everywhere_is_neither_visible_nor_acknowledged(tmp_path: Path) -> None:
    class Slow:
        def __init__(self) -> None:
            self.release = trio.Event()

        def require_able(self) -> None:
            pass

        async def wait_durable(self, sequence: int) -> int:
            await self.release.wait()
            return sequence

    slow = Slow()
    config = IngestConfig(write_timeout_seconds=0.05)
    async with open_write_path(tmp_path, durability=slow, config=config) as path:
        with pytest.raises(OutcomeUnknown):
            await path.intake.write(write(values(5), key="k"))
        assert path.rows() == 0
        slow.release.set()
        await path.intake.drain()
        assert path.rows() == 5
        assert (await path.intake.write(write(values(5), key="k"))).rows == 5
        assert path.rows() == 5


async def test_a_twin_that_was_logged_while_this_one_was_settled_is_no_answer_before_it_is_durable(
    tmp_path: Path,
) -> None:
    """Its key is known from the log on, and a log alone is not durable everywhere."""

    class Slow:
        def __init__(self) -> None:
            self.release = trio.Event()

        def require_able(self) -> None:
            pass

        async def wait_durable(self, sequence: int) -> int:
            await self.release.wait()
            return sequence

    slow, held = Slow(), trio.Event()
    async with open_write_path(tmp_path, durability=slow) as path:
        propose = path.proposer.propose

        async def late(command: Command) -> Any:
            if isinstance(command, DeclareColumns) and command.measurement == "mem":
                await held.wait()
            return await propose(command)

        path.proposer.propose = late  # type: ignore[method-assign]
        answered: list[int] = []

        async def send(measurement: str) -> None:
            answered.append((await path.intake.write(write(values(5, measurement=measurement), key="k"))).rows)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, "mem")
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(send, "cpu")
            while path.wal.next_sequence == 1:  # noqa: ASYNC110 (the log tells nobody)
                await trio.sleep(0.001)
            held.set()
            await trio.sleep(0.05)
            assert answered == []
            slow.release.set()
        assert answered == [5, 5]
        assert (path.rows("cpu"), path.rows("mem")) == (5, 0)


async def test_failed_sync_stops_the_intake_and_is_never_retried(tmp_path: Path) -> None:
    disk = BrokenDisk(tmp_path)
    with pytest.RaisesGroup(pytest.RaisesGroup(DiskFailed)):
        async with open_write_path(tmp_path, disk=disk) as path:
            await path.intake.write(write(values(5)))
            disk.write_error = errno.EIO
            with pytest.raises(OutcomeUnknown):
                await path.intake.write(write(values(5, start=9)))
            disk.write_error = None
            with pytest.raises(Unavailable):
                await path.intake.write(write(values(5, start=99)))


async def test_full_disk_refuses_writes_and_the_log_goes_on_when_there_is_room(tmp_path: Path) -> None:
    disk = BrokenDisk(tmp_path)
    async with open_write_path(tmp_path, disk=disk) as path:
        await path.intake.write(write(values(100)))
        disk.create_error = errno.ENOSPC
        stored = 100
        refused = 0
        for n in range(20):
            try:
                stored += (await path.intake.write(write(values(2000, start=n)))).rows
            except Overloaded as error:
                assert error.code == "disk_full"
                refused += 1
        assert refused and path.rows() == stored
        disk.create_error = None
        stored += (await path.intake.write(write(values(2000, start=77)))).rows
        assert path.rows() == stored
        fsm = path.fsm
    async with open_write_path(tmp_path, fsm=fsm) as path:
        assert path.rows() == stored


async def test_schema_that_never_holds_still_is_unavailable_and_stores_nothing(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:

        def never(command: Command) -> None:
            assert isinstance(command, DeclareColumns)

        async def swallow(command: Command) -> Any:
            never(command)
            await trio.lowlevel.checkpoint()

        path.proposer.propose = swallow  # type: ignore[method-assign]
        with pytest.raises(Unavailable, match="kept changing"):
            await path.intake.write(write(values(1)))
        assert path.wal.next_sequence == 1


async def test_a_reader_can_wait_for_a_position_it_was_given(tmp_path: Path) -> None:
    async with open_write_path(tmp_path) as path:
        seen = []

        async def wait() -> None:
            await path.intake.wait_admitted(2)
            seen.append(path.rows())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await path.intake.write(write(values(3)))
            assert not seen
            await path.intake.write(write(values(3, start=9)))
        assert seen == [6]
