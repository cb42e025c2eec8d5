"""An acknowledged row is on every node that could take over, and a query on any node sees it once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from arc.errors import OutcomeUnknown, Unavailable
from arc.ingest.keys import KeyReused
from arc.node.orders import lags
from arc.ports import BLOCK_BYTES
from tests.replication.cluster import WAL, Cluster, is_set_in_sync, open_cluster, until


def everywhere(cluster: Cluster, count: int) -> bool:
    return all(node.sees(range(count)) for node in cluster.nodes.values() if node.is_alive)


async def test_an_acknowledged_row_is_durable_on_every_member_and_soon_visible_everywhere(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster({"n1": "writer", "n2": "writer", "n3": "writer", "r1": "reader"}) as cluster:
        for number in range(20):
            position = await cluster["n1"].write([2 * number, 2 * number + 1], two=True)
            assert all(cluster[name].logged() >= position.sequence for name in ("n1", "n2", "n3"))
        await until(lambda: everywhere(cluster, 40))
        assert cluster.in_sync() == {"n1", "n2", "n3"}, "a reader is never in sync"
        assert all(node.duty.behind is None for node in cluster.nodes.values())


async def test_a_row_is_not_acknowledged_before_every_member_has_it_and_nobody_sees_it(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        await until(lambda: everywhere(cluster, 1))
        cluster.wires["n1", "n3"].delay_seconds = 1.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cluster["n1"].write, [1])
            await until(lambda: cluster["n2"].logged() == 2)
            await trio.sleep(0.5)
            assert all(node.seen() == {0: 1} for node in cluster.nodes.values())
        await until(lambda: everywhere(cluster, 2))


async def test_a_slow_follower_outside_the_set_delays_nobody_and_catches_up_from_segments(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster() as cluster:
        cluster.cut("n1", "n3")
        await until(lambda: cluster.in_sync() == {"n1", "n2"})
        for number in range(150):
            with trio.fail_after(1.0):
                await cluster["n1"].write([number])
        cluster.wires["n1", "n3"].delay_seconds = 0.2
        cluster.join("n1", "n3")
        with trio.fail_after(1.0):
            await cluster["n1"].write([150])
        await until(lambda: cluster.in_sync() == {"n1", "n2", "n3"})
        await until(lambda: everywhere(cluster, 151))


async def test_a_broken_connection_is_resumed_where_the_log_ends(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        for number in range(30):
            await cluster["n1"].write([number])
            if number % 5 == 0:
                cluster.cut("n1", "n2")
                cluster.join("n1", "n2")
            if number % 7 == 0:
                cluster.lose("n1", "n3")  # nobody is told: only the gap, or silence, shows it
        await until(lambda: everywhere(cluster, 30))


async def test_a_follower_resumes_from_its_disk_after_a_restart(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        for number in range(10):
            await cluster["n1"].write([number])
        await cluster.kill("n2")
        await until(lambda: cluster.in_sync() == {"n1", "n3"})
        for number in range(10, 20):
            await cluster["n1"].write([number])
        await cluster.start("n2")
        await until(lambda: cluster.in_sync() == {"n1", "n2", "n3"})
        await until(lambda: everywhere(cluster, 20))
        statistics = cluster["n2"].duty.statistics()
        assert statistics is not None and statistics.replication.receiver is not None
        assert statistics.replication.receiver.restarts_total == 0
        assert statistics.replication.receiver.received_records_total == 10


async def test_a_follower_that_starts_anew_answers_only_when_it_shows_again_all_that_it_had_shown(
    autojump_clock: MockClock,
) -> None:
    """Nemesis seed 4: after a power cut of all nodes a follower answered without rows that it had shown before.

    The holder's new reign knows of no watermark until its followers confirm, and told the low one that it knew.
    """
    async with open_cluster() as cluster:
        for number in range(10):
            await cluster["n1"].write([number])
        await until(lambda: everywhere(cluster, 10))
        for name in ("n1", "n2", "n3"):
            await cluster.kill(name)
        cluster.assign("n1")
        await cluster.start("n1")
        await cluster.start("n2")
        n2 = cluster["n2"]
        await until(lambda: n2.duty.durable_sequence == 10 and n2.duty.statistics() is not None)
        await trio.sleep(1.0)  # n3 is a member still: nothing is known to be durable on all of them.
        assert cluster.in_sync() == {"n1", "n2", "n3"}
        assert not n2.sees(range(10)) and n2.duty.behind is not None
        await until(lambda: n2.duty.behind is None)
        assert n2.sees(range(10))


async def test_a_member_that_is_silent_leaves_the_set_and_writes_go_on_without_it(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        await until(lambda: everywhere(cluster, 1))
        cluster.cut("n1", "n3")
        began = trio.current_time()
        await cluster["n1"].write([1])
        waited = trio.current_time() - began
        assert WAL.lag_timeout_seconds - 1.5 < waited < WAL.lag_timeout_seconds + 2
        assert cluster.in_sync() == {"n1", "n2"}
        assert cluster["n3"].seen() == {0: 1}


async def test_a_node_of_every_role_knows_what_is_free_on_its_disk(autojump_clock: MockClock) -> None:
    roles = {"n1": "writer", "r1": "reader", "c1": "compactor"}
    async with open_cluster(roles) as cluster:
        for number, node in enumerate(cluster.nodes.values()):
            node.disk.free = 1000 << 20 * (number + 1)
        await until(lambda: all(node.duty.doors.free_bytes == node.disk.free for node in cluster.nodes.values()))


async def test_how_old_the_oldest_missing_record_is_is_told_of_who_is_behind(autojump_clock: MockClock) -> None:
    """What `rows_behind` and arc_replication_lag_seconds go by; it used to be 0 for everybody."""

    def behind() -> dict[str, float]:
        return {lag.name: lag.seconds for lag in lags(cluster["n1"].duty.statistics())}

    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        await until(lambda: everywhere(cluster, 1))
        await trio.sleep(2.0)
        assert behind() == {"n2": 0.0, "n3": 0.0}, "nothing was written, so nobody is behind"
        cluster.cut("n1", "n3")
        await trio.sleep(3.0)
        assert behind()["n3"] == 0.0, "it is away and lacks nothing"
        began = trio.current_time()
        await cluster["n1"].write([1])
        await trio.sleep(3.0)
        assert behind() == {"n2": 0.0, "n3": pytest.approx(trio.current_time() - began, abs=0.6)}
        cluster.join("n1", "n3")
        await until(lambda: everywhere(cluster, 2))
        await until(lambda: behind() == {"n2": 0.0, "n3": 0.0})


async def test_with_too_few_in_sync_writes_are_refused_before_anything_is_stored_and_reads_go_on(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        await cluster["n1"].write([0])
        await cluster.kill("n2")
        await until(lambda: cluster.in_sync() == {"n1"})
        end = cluster["n1"].logged()
        with pytest.raises(Unavailable, match="in sync") as refused:
            await cluster["n1"].write([1])
        assert refused.value.code == "not_enough_replicas"
        assert cluster["n1"].logged() == end
        assert cluster["n1"].seen() == {0: 1}
        await cluster.start("n2")
        await until(lambda: cluster.in_sync() == {"n1", "n2"})
        await cluster["n1"].write([1])
        await until(lambda: everywhere(cluster, 2))


async def test_what_became_durable_on_too_few_is_not_acknowledged_until_enough_have_it(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster(2) as cluster:
        await cluster["n1"].write([0])
        answered: list[str] = []

        async def write() -> None:
            try:
                await cluster["n1"].write([1], key="k")
                answered.append("stored")
            except OutcomeUnknown:
                answered.append("unknown")

        async with trio.open_nursery() as nursery:
            cluster.cut("n1", "n2")
            nursery.start_soon(write)
            await until(lambda: cluster.in_sync() == {"n1"})
            await trio.sleep(3)
            assert answered == []
            cluster.join("n1", "n2")
        assert answered == ["stored"]
        await until(lambda: everywhere(cluster, 2))


async def test_lost_answers_to_changes_of_the_set_move_nothing_too_early(autojump_clock: MockClock) -> None:
    """Until the outcome is known both sets count; the set that was agreed on counts in the end."""
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        lost: list[int] = []

        def lose(command: object) -> bool:
            if is_set_in_sync(command) and len(lost) < 4:  # type: ignore[arg-type]
                lost.append(1)
                return True
            return False

        cluster.lose_answers = lose
        cluster.cut("n1", "n3")
        await cluster["n1"].write([1])
        assert lost and cluster.in_sync() == {"n1", "n2"}
        cluster.join("n1", "n3")
        await until(lambda: cluster.in_sync() == {"n1", "n2", "n3"})
        await cluster["n1"].write([2])
        assert cluster["n3"].logged() == cluster["n1"].logged()
        await until(lambda: everywhere(cluster, 3))


async def test_a_follower_waits_for_the_schema_of_a_record_and_skips_nothing(autojump_clock: MockClock) -> None:
    """P-08: the catalog of a follower may be behind the rows."""
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.hear("n3", False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: cluster["n1"].write([1, 2], two=True))
            await until(lambda: cluster["n2"].logged() == 3)
            await trio.sleep(1.0)
            assert cluster["n3"].logged() == 1
            cluster.hear("n3", True)
        await until(lambda: everywhere(cluster, 3))


async def test_a_follower_behind_the_retained_log_begins_at_the_base_with_the_keys_of_what_is_below(
    autojump_clock: MockClock,
) -> None:
    small = replace(WAL, max_bytes=24 * BLOCK_BYTES, follower_window_bytes=16 << 10)
    async with open_cluster(wal=small) as cluster:
        await cluster["n1"].write([0], key="old")
        await cluster.kill("n3")
        await until(lambda: cluster.in_sync() == {"n1", "n2"})
        for number in range(1, 60):
            await cluster["n1"].write([number])
        await cluster["n1"].duty.flush_all()
        for number in range(60, 400):
            await cluster["n1"].write([number])
            if number % 40 == 0:
                await cluster["n1"].duty.flush_all()
        assert cluster["n1"].duty.statistics().replication.first_sequence > 1  # type: ignore[union-attr]

        def with_files() -> bool:
            """A log as small as this one is flushed at any time, so files come all the time, too."""
            cluster.copy_files("n1", "n2")
            cluster.copy_files("n1", "n3")
            return everywhere(cluster, 400)

        await cluster.start("n3")
        await trio.sleep(5.0)
        assert cluster.in_sync() == {"n1", "n2"}, "its log may be the second copy until it has the files"
        cluster.copy_files("n1", "n3")
        await until(lambda: cluster.in_sync() == {"n1", "n2", "n3"})
        await until(with_files)
        statistics = cluster["n3"].duty.statistics()
        assert statistics is not None and statistics.replication.receiver is not None
        # Again when the holder's log has shrunk meanwhile.
        assert statistics.replication.receiver.restarts_total in (1, 2)
        assert cluster.assign("n3").ok
        await until(lambda: cluster["n3"].duty.closed_because is None)
        position = await cluster["n3"].write([0], key="old")
        assert position.sequence == 1
        with pytest.raises(KeyReused):
            await cluster["n3"].write([400], key="old")
        await until(with_files)


async def test_rows_leave_a_follower_in_the_step_in_which_their_file_can_be_read(autojump_clock: MockClock) -> None:
    """P-06, DURABILITY 6: a file that is elsewhere is left out and its rows stay."""
    async with open_cluster(2) as cluster:
        for number in range(10):
            await cluster["n1"].write([number])
            if number % 5 == 4:
                await cluster["n1"].duty.flush_all()
        await cluster["n1"].write([10])
        await until(lambda: everywhere(cluster, 11))
        assert cluster["n2"].buffer.statistics().records_buffered == 11
        cluster.copy_files("n1", "n2", count=1)
        await until(lambda: cluster["n2"].buffer.statistics().records_buffered == 6)
        assert everywhere(cluster, 11)
        cluster.copy_files("n1", "n2")
        assert everywhere(cluster, 11)
        await until(lambda: cluster["n2"].buffer.statistics().records_buffered == 1)
        assert everywhere(cluster, 11)
        await cluster.kill("n2")
        await cluster.start("n2")
        await until(lambda: everywhere(cluster, 11))


async def test_a_node_alone_needs_nobody(autojump_clock: MockClock) -> None:
    async with open_cluster(1) as cluster:
        began = trio.current_time()
        for number in range(10):
            await cluster["n1"].write([number])
        assert everywhere(cluster, 10)
        assert trio.current_time() - began < 0.1
