"""A failover loses no acknowledged row and doubles none; what was not acknowledged is cut, or becomes acknowledged."""

from __future__ import annotations

import os
import random
from collections import Counter
from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from arc.duties.reign import FINISH_SECONDS
from arc.errors import ArcError, OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.ingest.keys import KeyReused
from arc.ingest.requests import WriteRequest
from arc.ports import BLOCK_BYTES
from tests.replication.cluster import WAL, Cluster, open_cluster, request, until


def everywhere(cluster: Cluster, rows: range | list[int]) -> bool:
    return all(node.sees(rows) for node in cluster.nodes.values() if node.is_alive)


async def takes_over(cluster: Cluster, name: str) -> None:
    assert cluster.assign(name).ok
    await until(lambda: cluster.reigns(name))


async def test_a_new_holder_has_every_acknowledged_row_and_goes_on_without_asking_anybody(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster() as cluster:
        for number in range(10):
            await cluster["n1"].write([number])
        await cluster.kill("n1")
        await takes_over(cluster, "n2")
        assert (await cluster["n2"].write([10])).sequence == 11
        assert cluster.in_sync() == {"n2", "n3"}
        await cluster.start("n1")
        await until(lambda: cluster.in_sync() == {"n1", "n2", "n3"})
        await until(lambda: everywhere(cluster, range(11)))


async def test_what_a_deposed_holder_logged_alone_is_cut_from_its_log_its_buffer_and_its_keys(
    autojump_clock: MockClock,
) -> None:
    """P-16: it goes on taking writes for a while, and none of them is acknowledged."""
    async with open_cluster() as cluster:
        await cluster["n1"].write([0, 1], two=True)
        cluster.cut_off("n1")
        outcomes: list[str] = []

        async def write(number: int) -> None:
            try:
                await cluster["n1"].write([number, number + 1], key=f"k{number}", two=True)
                outcomes.append("stored")
            except OutcomeUnknown:
                outcomes.append("unknown")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, 100)
            nursery.start_soon(write, 200)
            await until(lambda: cluster["n1"].logged() == 6)
            await takes_over(cluster, "n2")
            await cluster["n2"].write([2])
            assert outcomes == []
            cluster.heal("n1")
        assert outcomes == ["unknown", "unknown"]
        await until(lambda: cluster.in_sync() == {"n1", "n2", "n3"})
        await until(lambda: everywhere(cluster, [0, 1, 2]))
        assert cluster["n1"].logged() == 3
        assert cluster["n1"].buffer.statistics().records_cut_total == 4
        await takes_over(cluster, "n1")
        # The key of a write that was cut is forgotten: its retry is stored.
        await cluster["n1"].write([100, 101], key="k100", two=True)
        await until(lambda: everywhere(cluster, [0, 1, 2, 100, 101]))


async def test_the_cut_survives_a_restart_of_the_deposed_holder(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.cut_off("n1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ignore, cluster, "n1", [7])
            await until(lambda: cluster["n1"].logged() == 2)
            await takes_over(cluster, "n2")
            cluster.heal("n1")
        await until(lambda: cluster["n1"].logged() == 1)
        await cluster.kill("n1")
        await cluster.start("n1")
        assert cluster["n1"].logged() == 1
        await cluster["n2"].write([1])
        await until(lambda: everywhere(cluster, [0, 1]))


async def test_records_above_the_old_watermark_become_part_of_the_new_reign(autojump_clock: MockClock) -> None:
    """The client was told that the outcome is unknown; a retry with its key finds what the new holder kept."""
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.cut("n1", "n3")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ignore, cluster, "n1", [1], "k")
            await until(lambda: cluster["n2"].logged() == 2)
            assert 1 not in cluster["n2"].seen()
            await cluster.kill("n1")
            await takes_over(cluster, "n2")
            position = await cluster["n2"].write([1], key="k")
        assert position.sequence == 2
        await until(lambda: cluster["n3"].logged() == 2)
        await until(lambda: everywhere(cluster, [0, 1]))
        await cluster.start("n1")
        await until(lambda: everywhere(cluster, [0, 1]))


async def test_a_new_holder_flushes_what_was_acknowledged_before_it_says_that_all_is_in_files(
    autojump_clock: MockClock,
) -> None:
    """It does not know at first how far that is; a delete that went by less would leave rows that it is told to remove
    (found by the nemesis, seed 70).
    """
    async with open_cluster() as cluster:
        for number in range(5):
            position = await cluster["n1"].write([number])
        await cluster.kill("n1")
        assert cluster["n2"].duty.admitted_sequence < position.sequence, "it was not told yet"
        cluster.cut("n2", "n3")
        await takes_over(cluster, "n2")
        reign = cluster["n2"].duty.require_reign()
        with trio.move_on_after(1.0) as soon:
            await reign.flush_rows("db", "cpu")
        assert soon.cancelled_caught, "nobody has confirmed them to this holder"
        cluster.join("n2", "n3")
        assert await reign.flush_rows("db", "cpu") >= position.sequence
        assert cluster["n2"].catalog.mark("db", "cpu") >= position.sequence
        await cluster["n2"].duty.flush_all()
        assert cluster["n2"].sees(range(5))


async def test_a_retry_is_not_answered_from_a_record_that_is_not_durable_everywhere(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.cut("n1", "n3")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ignore, cluster, "n1", [1], "k")
            await until(lambda: cluster["n2"].logged() == 2)
            await cluster.kill("n1")
            cluster.cut("n2", "n3")
            await takes_over(cluster, "n2")
            answered = trio.Event()

            async def retry() -> None:
                await cluster["n2"].write([1], key="k")
                answered.set()

            nursery.start_soon(retry)
            await trio.sleep(2)
            assert not answered.is_set()
            cluster.join("n2", "n3")
            await answered.wait()
            assert cluster["n3"].logged() == 2


async def test_a_key_survives_the_failover_and_stores_once(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        first = await cluster["n1"].write([0, 1], key="once", two=True)
        await cluster.kill("n1")
        await takes_over(cluster, "n3")
        again = await cluster["n3"].write([0, 1], key="once", two=True)
        assert again == first
        with pytest.raises(KeyReused):
            await cluster["n3"].write([2, 3], key="once", two=True)
        await until(lambda: everywhere(cluster, [0, 1]))


async def test_a_new_holder_knows_up_to_where_rows_may_be_acknowledged_that_it_does_not_show_yet(
    autojump_clock: MockClock,
) -> None:
    """What is told of the watermark travels as long as an answer to a client, and may be lost where that is not."""
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        await until(lambda: everywhere(cluster, [0]))
        cluster.wires["n1", "n3"].delay_seconds = 0.2
        await cluster["n1"].write([1])
        await cluster.kill("n1")
        await cluster.kill("n2")
        await takes_over(cluster, "n3")
        assert cluster["n3"].seen() == {0: 1}, "else this test means nothing"
        assert cluster["n3"].duty.inherited_sequence == 2
        assert cluster["n3"].duty.admitted_sequence == 1
        await until(lambda: cluster.in_sync() == {"n3"})
        with trio.fail_after(5):
            await cluster["n3"].duty.wait_admitted(cluster["n3"].duty.inherited_sequence)
        assert cluster["n3"].seen() == {0: 1, 1: 1}


async def test_a_new_holder_flushes_what_is_above_the_marks_and_nothing_twice(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        for number in range(10):
            await cluster["n1"].write([number])
        await cluster["n1"].duty.flush_all()
        for number in range(10, 20):
            await cluster["n1"].write([number])
        await cluster.kill("n1")
        await takes_over(cluster, "n2")
        # The files are on n1 only: the rows that they hold are still answered from the buffer.
        await until(lambda: cluster["n2"].seen() == dict.fromkeys(range(20), 1))
        await cluster["n2"].duty.flush_all()
        assert cluster["n2"].seen() == dict.fromkeys(range(20), 1)
        assert sum(file.rows for file in cluster["n2"].catalog.all_files()) == 20
        await cluster.start("n1")
        for a, b in (("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n2", "n3")):
            cluster.copy_files(a, b)
        await until(lambda: everywhere(cluster, range(20)))


async def test_nothing_above_the_watermark_becomes_a_file(autojump_clock: MockClock) -> None:
    """A mark above what every member has would make the next holder's records count as flushed."""
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.cut("n1", "n3")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_ignore, cluster, "n1", [1])
            await until(lambda: cluster["n2"].logged() == 2)
            await cluster["n1"].duty.flush_all()
            assert cluster["n1"].catalog.mark("db", "cpu") == 1
            await cluster.kill("n1")
            await takes_over(cluster, "n3")
            await cluster["n3"].write([2])
        assert cluster["n3"].seen() == {0: 1, 2: 1}


async def test_a_planned_hand_over_waits_for_a_full_copy_and_refuses_only_meanwhile(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        for number in range(5):
            await cluster["n1"].write([number])
        cluster.wires["n1", "n2"].delay_seconds = 0.5
        await cluster["n1"].duty.hand_over(NodeId("n2"))
        with pytest.raises(Unavailable, match="handed over"):
            await cluster["n1"].write([99])
        assert cluster["n2"].logged() == 5
        await takes_over(cluster, "n2")
        await cluster["n2"].write([5])
        await until(lambda: everywhere(cluster, range(6)))
        cluster.cut("n2", "n1")
        with pytest.raises(trio.TooSlowError), trio.fail_after(1):
            cluster.wires["n2", "n3"].delay_seconds = 50
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_ignore, cluster, "n2", [6])
                await trio.sleep(0.1)
                await cluster["n2"].duty.hand_over(NodeId("n3"))
        assert cluster["n2"].duty.closed_because is None, "a hand-over that was given up takes writes again"


async def test_a_hand_over_ends_when_the_lease_goes_elsewhere(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.cut("n1", "n2")
        await until(lambda: cluster.in_sync() == {"n1", "n3"})
        async with trio.open_nursery() as nursery:

            async def hand_over() -> None:
                with pytest.raises(Unavailable, match="elsewhere"):
                    await cluster["n1"].duty.hand_over(NodeId("n2"))

            nursery.start_soon(hand_over)
            await until(lambda: cluster["n1"].duty.closed_because is not None)
            await takes_over(cluster, "n3")


async def test_an_orderly_end_leaves_everything_in_place_on_holder_and_follower(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        for number in range(5):
            await cluster["n1"].write([number])
        await cluster["n2"].duty.finish()
        await cluster.kill("n2")
        await cluster["n1"].write([5])
        cluster["n1"].duty.close("the node is stopping")
        with pytest.raises(Unavailable, match="stopping"):
            await cluster["n1"].write([99])
        await cluster["n1"].duty.finish()
        assert sum(file.rows for file in cluster["n1"].catalog.all_files()) == 6
        await cluster.kill("n1")
        cluster.copy_files("n1", "n3")
        cluster.copy_files("n1", "n2")
        await takes_over(cluster, "n3")
        await cluster.start("n1")
        await cluster.start("n2")
        await until(lambda: cluster.in_sync() == {"n1", "n2", "n3"})
        await cluster["n3"].write([6])
        await until(lambda: everywhere(cluster, range(7)))


async def test_a_holder_that_does_not_hear_the_leader_stops_acknowledging(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster["n1"].heard_seconds = 60.0
        await until(lambda: cluster["n1"].duty.closed_because is not None)
        with pytest.raises(Unavailable, match="leader"):
            await cluster["n1"].write([1])
        cluster["n1"].heard_seconds = 0.1
        await until(lambda: cluster["n1"].duty.closed_because is None)
        await cluster["n1"].write([1])
        await until(lambda: everywhere(cluster, [0, 1]))


async def test_a_write_that_is_inside_when_the_lease_runs_out_is_not_acknowledged_until_the_leader_is_heard(
    autojump_clock: MockClock,
) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.wires["n1", "n3"].delay_seconds = 2.0
        answered = trio.Event()

        async def write() -> None:
            await cluster["n1"].write([1])
            answered.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            await until(lambda: cluster["n2"].logged() == 2)
            cluster["n1"].heard_seconds = 60.0
            await until(lambda: cluster["n1"].duty.closed_because is not None)
            await until(lambda: cluster["n3"].logged() == 2)
            await trio.sleep(5)
            assert not answered.is_set()
            cluster["n1"].heard_seconds = 0.1
            await answered.wait()


async def test_only_an_operator_promotes_a_node_that_is_not_in_sync(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.cut("n1", "n3")
        await until(lambda: cluster.in_sync() == {"n1", "n2"})
        await cluster["n1"].write([1])
        await cluster.kill("n1")
        await cluster.kill("n2")
        assert cluster.assign("n3").code == "not_in_sync"
        assert cluster.assign("n3", accepts_data_loss=True).ok
        await until(lambda: cluster.reigns("n3"))
        await cluster.start("n1")
        await cluster.start("n2")
        cluster.join("n1", "n3")
        await until(lambda: cluster.in_sync() == {"n1", "n2", "n3"})
        await cluster["n3"].write([2])
        await until(lambda: everywhere(cluster, [0, 2]))


async def _ignore(cluster: Cluster, name: str, ids: list[int], key: str | None = None) -> None:
    with suppress(ArcError):
        await cluster[name].write(ids, key=key)


@pytest.mark.parametrize("seed", range(int(os.environ.get("ARC_REPLICATION_SEEDS", "2"))))
async def test_under_every_fault_acknowledged_rows_are_everywhere_once(seed: int, autojump_clock: MockClock) -> None:
    """Kills, cuts, silent losses, failovers to members of the set, flushes and late files, in a drawn order."""
    chance = random.Random(seed)
    acknowledged: set[int] = set()
    sent: set[int] = set()
    keyed: dict[str, list[int]] = {}
    small = replace(WAL, max_bytes=8 * BLOCK_BYTES, follower_window_bytes=16 << 10)
    async with open_cluster(wal=small if seed % 2 else WAL) as cluster:
        names = list(cluster.nodes)

        async def client(first: int) -> None:
            number = first
            while number < first + 90:
                ids, key = [number, number + 1, number + 2], f"k{number}" if chance.random() < 0.7 else None
                number += 3
                sent.update(ids)
                for _ in range(6):
                    name = chance.choice(names)
                    try:
                        with trio.move_on_after(4) as patience:
                            await cluster[name].duty.write(_request(ids, key))
                            acknowledged.update(ids)
                            if key is not None:
                                keyed[key] = ids
                            break
                        if patience.cancelled_caught and key is None:
                            break
                    except OutcomeUnknown:
                        if key is None:
                            break  # a retry could store it twice, as the client was told
                    except (ArcError, AttributeError):
                        pass
                    await trio.sleep(chance.uniform(0.01, 0.3))
                await trio.sleep(chance.uniform(0, 0.1))

        async def nemesis() -> None:
            for _ in range(12):
                await trio.sleep(chance.uniform(0.05, 0.8))
                one, other = chance.sample(names, 2)
                match chance.randrange(8):
                    case 0 if sum(node.is_alive for node in cluster.nodes.values()) == 3:
                        await cluster.kill(one)
                        await trio.sleep(chance.uniform(0, 5))
                        await cluster.start(one)
                    case 1:
                        cluster.cut(one, other)
                        await trio.sleep(chance.uniform(0, 5))
                        cluster.join(one, other)
                    case 2:
                        cluster.lose(one, other)
                    case 3:
                        cluster.cut_off(one)
                        if chance.random() < 0.7:
                            cluster.assign(other)
                        await trio.sleep(chance.uniform(0, 5))
                        cluster.heal(one)
                    case 4 | 5:
                        cluster.assign(one)
                    case 6:
                        try:
                            with trio.move_on_after(2):
                                await cluster[one].duty.flush_all()
                        except Unavailable:
                            pass
                    case 7:
                        cluster.copy_files(one, other)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(client, 0)
            nursery.start_soon(client, 10_000)
            nursery.start_soon(nemesis)

        def bring_files() -> None:
            """What a puller would do: a small log is flushed at any time, so files come all the time, too."""
            for one in names:
                for other in names:
                    if one != other:
                        cluster.copy_files(one, other)

        def is_in_sync() -> bool:
            bring_files()
            return cluster.in_sync() == set(names)

        async def write_for_good(ids: list[int], key: str) -> None:
            """As a client does: the last order of the nemesis may be a moment old, and the holder not know it yet."""
            while True:
                for node in cluster.nodes.values():
                    with suppress(ArcError):
                        await node.duty.write(_request(ids, key))
                        return
                await trio.sleep(0.1)

        await until(is_in_sync)
        keyed["last"] = [99_999]
        sent.add(99_999)
        with trio.fail_after(60):
            for key, ids in sorted(keyed.items()):
                await write_for_good(ids, key)
        acknowledged.add(99_999)
        end = max(node.logged() for node in cluster.nodes.values())
        await until(lambda: all(node.duty.admitted_sequence == end for node in cluster.nodes.values()))

        def can_all_be_asked() -> bool:
            bring_files()
            with suppress(Unavailable):
                return all(node.seen() for node in cluster.nodes.values())
            return False

        await until(can_all_be_asked)
        for node in cluster.nodes.values():
            seen: Counter[int] = node.seen()
            assert not acknowledged - seen.keys(), f"{node.name} lost {sorted(acknowledged - seen.keys())[:10]}"
            assert not {row: count for row, count in seen.items() if count > 1}, node.name
            assert not seen.keys() - sent, node.name
        assert len(acknowledged) > 50


async def _hears_again(cluster: Cluster, name: str) -> None:
    cluster.hear(name, True)


def _request(ids: list[int], key: str | None) -> WriteRequest:
    return request(ids, key=key, two=True)


async def test_a_flush_that_is_waited_for_ends_with_the_reign(autojump_clock: MockClock) -> None:
    """Nemesis seed 4: a writer that was told to stop handed its lease over, and waited for its flusher for ever."""
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.hear("n1", False)  # The registration is asked for again and again.
        async with trio.open_nursery() as nursery:

            async def flush() -> None:
                with pytest.raises(Unavailable, match="went elsewhere"), trio.fail_after(10.0):
                    await cluster["n1"].duty.flush_all()

            nursery.start_soon(flush)
            await trio.sleep(1.0)
            cluster.assign("n2")
            cluster.hear("n1", True)
        await until(lambda: cluster.reigns("n2"))


async def test_an_orderly_stop_does_not_wait_for_ever_for_a_cluster_without_a_leader(autojump_clock: MockClock) -> None:
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.hear("n1", False)
        began = trio.current_time()
        with trio.fail_after(2 * FINISH_SECONDS):
            await cluster["n1"].duty.finish()
        assert trio.current_time() - began == pytest.approx(FINISH_SECONDS, abs=1.0)
        assert any(event.message == "rows_left_in_wal" for event in cluster["n1"].ring.select(limit=50))


async def test_who_was_replaced_and_has_not_heard_of_it_says_nothing_about_what_is_stored(
    autojump_clock: MockClock,
) -> None:
    """World seed 730808: a holder stood still, was replaced, woke, and said of a row that the next holder had
    acknowledged meanwhile that there was nothing to delete. Whoever orders a flush is told no less.
    """
    async with open_cluster() as cluster:
        await cluster["n1"].write([0])
        cluster.hear("n1", False)
        await takes_over(cluster, "n2")
        await until(lambda: cluster.in_sync() == {"n2", "n3"})
        await cluster["n2"].write([1])
        reign = cluster["n1"].duty.require_reign()
        for promise in (reign.confirm, reign.wait_known, lambda: reign.flush_rows("db", "cpu")):
            with pytest.raises(Unavailable, match="no leader"):
                await promise()
        with pytest.raises(Unavailable, match="no leader"):
            await cluster["n1"].duty.flush_all()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_hears_again, cluster, "n1")
            with pytest.raises(Unavailable, match="any more"):
                await reign.flush_rows("db", "cpu")
        await until(lambda: everywhere(cluster, [0, 1]))
