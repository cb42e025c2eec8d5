"""The driver: what it promises is on disk, what it cannot promise it says, and nothing waits for what is slow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from arc.errors import DiskFailed, OutcomeUnknown, Overloaded, TooLarge, Unavailable
from arc.raft import messages
from arc.raft.effects import Write
from arc.raft.events import Change, ChangeKind
from arc.raft.requests import NotLeading, Proposed
from arc.raft.storage import RaftStorage
from arc.raft.types import Peer, Role
from tests.raft.drivers import CONFIG, Member, cluster_of, until


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    """Time jumps whenever everybody waits."""
    return autojump_clock


async def test_a_node_alone_leads_at_once_and_answers_when_the_entry_is_durable_and_applied(
    autojump_clock: MockClock,
) -> None:
    """E-13, C-05: on a real driver."""
    async with cluster_of("n1") as cluster:
        started = trio.current_time()
        raft = await cluster.start()
        assert trio.current_time() - started < CONFIG.election_timeout_seconds
        proposed = await raft.propose(b"a")
        assert proposed == Proposed(proposed.index, 1, "did a")
        member = cluster.members["n1"]
        await member.kill()
        raft = await member.start()
        await raft.read()
        assert member.machine.commands == [b"a"]


async def test_three_nodes_agree_and_each_applies_everything_once_in_one_order(clock: MockClock) -> None:
    async with cluster_of("n1", "n2", "n3") as cluster:
        raft = await cluster.start()
        answers: list[Proposed] = []

        async def propose(number: int) -> None:
            answers.append(await raft.propose(b"%d" % number))

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(propose, number)
        await cluster.settled()
        orders = [member.machine.told for member in cluster.members.values()]
        assert orders[0] == orders[1] == orders[2]
        assert sorted(orders[0]) == sorted((each.index, str(each.result)[4:].encode()) for each in answers)
        assert raft.counts().disk_groups < 60, "many proposals share a write"


async def test_a_node_that_does_not_lead_names_the_one_that_does(clock: MockClock) -> None:
    """N-01, R-14, E-21: nothing is forwarded; the asker hears where to go."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        leader = await cluster.start()
        await cluster.settled()
        for member in cluster.members.values():
            assert member.raft is not None and member.raft.leader == leader.me
            if member.raft is not leader:
                with pytest.raises(NotLeading) as refused:
                    await member.raft.propose(b"x")
                assert refused.value.leader == leader.me.name


async def test_a_read_on_a_follower_sees_what_was_agreed_on_before_it(clock: MockClock) -> None:
    """X-01."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        leader = await cluster.start()
        follower = next(member for member in cluster.members.values() if member.raft is not leader)
        for number in range(20):
            proposed = await leader.propose(b"%d" % number)
            assert follower.raft is not None
            assert await follower.raft.read() >= proposed.index
            assert b"%d" % number in follower.machine.commands


async def test_a_proposal_of_a_leader_that_is_cut_off_ends_as_unknown_and_the_others_go_on(
    autojump_clock: MockClock,
) -> None:
    """N-01, Z-06."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        old = await cluster.start()
        await old.propose(b"before")
        cluster.isolate(old.me.name)
        with pytest.raises(OutcomeUnknown):
            await old.propose(b"lost")
        new = await cluster.leader(but=old.me.name)
        await new.propose(b"after")
        cluster.cut.clear()
        await cluster.settled()
        assert all(member.machine.commands == [b"before", b"after"] for member in cluster.members.values())


async def test_a_leader_that_steps_down_has_been_silent_since_a_quorum_answered_and_not_since_its_election(
    autojump_clock: MockClock,
) -> None:
    """A writer that had led for longer than its lease took no writes in the moment in which it lost the leadership."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        old = await cluster.start()
        await trio.sleep(20 * CONFIG.election_timeout_seconds)
        assert old.silent_seconds() < 2 * CONFIG.heartbeat_seconds
        cluster.isolate(old.me.name)
        await until(lambda: not old.is_leader)
        assert old.silent_seconds() < CONFIG.election_timeout_seconds + 2 * CONFIG.heartbeat_seconds
        await trio.sleep(3.0)
        assert old.silent_seconds() > 3.0


async def test_the_next_leader_is_there_within_two_timeouts_and_nothing_acknowledged_is_lost(
    autojump_clock: MockClock,
) -> None:
    """Z-06, E-21."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        old = await cluster.start()
        for number in range(10):
            await old.propose(b"%d" % number)
        died = trio.current_time()
        await cluster.members[old.me.name].kill()
        new = await cluster.leader()
        assert trio.current_time() - died < 2 * CONFIG.election_timeout_seconds + 0.2
        await new.propose(b"new")
        await cluster.members[old.me.name].start()
        await cluster.settled()
        wanted = [*(b"%d" % number for number in range(10)), b"new"]
        assert all(member.machine.commands == wanted for member in cluster.members.values())


async def test_heartbeats_leave_while_the_disk_and_the_state_machine_do_nothing(clock: MockClock) -> None:
    async with cluster_of("n1", "n2", "n3") as cluster:
        leader = await cluster.start()
        member = cluster.members[leader.me.name]
        with member.workers.held():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader.propose, b"held up")
                await trio.sleep(3 * CONFIG.election_timeout_seconds)
                assert leader.is_leader, "its disk stands still, yet it is heard"
                term = leader.status().term
                assert all(
                    each.raft is not None and each.raft.status().term == term for each in cluster.members.values()
                )
                # Two of three hold it, so it is agreed on; it is answered when the leader's own disk has it.
                assert leader.status().applied < leader.status().commit
                member.workers._gate.set()  # type: ignore[union-attr]
        await cluster.settled()


async def test_a_leader_whose_disk_is_stuck_steps_down(clock: MockClock) -> None:
    async with cluster_of("n1", "n2", "n3") as cluster:
        old = await cluster.start()
        member = cluster.members[old.me.name]
        with member.workers.held():
            with trio.move_on_after(CONFIG.disk_stall_seconds + 3):
                with pytest.raises(OutcomeUnknown):
                    await old.propose(b"stuck")
            assert not old.is_leader and old.counts().traces["leader_disk_stalled"] == 1
            new = await cluster.leader(but=old.me.name)
            await new.propose(b"goes on")


async def test_what_the_disk_took_is_told_for_the_log_and_for_snapshots(clock: MockClock) -> None:
    async with cluster_of("n1") as cluster:
        raft = await cluster.start()
        member = cluster.members["n1"]
        before = raft.durations()
        assert before.write_seconds.count == raft.counts().disk_groups and before.snapshot_seconds.count == 0
        for ask in (partial(raft.propose, b"slow"), raft.snapshot):
            async with trio.open_nursery() as nursery:
                with member.workers.held():
                    nursery.start_soon(ask)
                    await trio.sleep(2.0)
        write, snapshot = raft.durations()
        assert write.sum - before.write_seconds.sum == pytest.approx(2.0)
        assert (snapshot.count, snapshot.sum) == (1, pytest.approx(2.0))


async def test_nothing_is_promised_before_it_is_on_disk(clock: MockClock) -> None:
    """The power goes at every write of every node: whatever left a node before is on its disk (I-12)."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        leader = await cluster.start()
        follower = next(member for member in cluster.members.values() if member.raft is not leader)
        await cluster.settled()
        with follower.workers.held():
            cluster.sent.clear()
            await leader.propose(b"x")
            await trio.sleep(1)
            accepted = [
                message
                for message in cluster.sent
                if type(message) is messages.AppendReply
                and message.sender == follower.me
                and message.match >= leader.status().last_index
            ]
            assert not accepted, "an acknowledgement left before its write was done"
        await cluster.settled()


async def test_a_failed_write_stops_the_node_and_proposals_end_as_unknown(clock: MockClock) -> None:
    """N-01, N-03."""
    async with cluster_of("n1") as cluster:
        raft = await cluster.start()
        member = cluster.members["n1"]
        member.disk.fail_next_write()
        with pytest.raises(OutcomeUnknown):
            await raft.propose(b"x")
        assert isinstance(await member.ended(), DiskFailed)
        with pytest.raises(Unavailable):
            await raft.propose(b"y")


async def test_a_full_disk_refuses_proposals_and_takes_them_again_when_there_is_room(
    autojump_clock: MockClock,
) -> None:
    """N-01, D-11."""
    async with cluster_of("n1") as cluster:
        raft = await cluster.start()
        member = cluster.members["n1"]
        member.disk.free = 0
        stored = 0
        with pytest.raises((Overloaded, OutcomeUnknown)):
            for number in range(1000):
                await raft.propose(b"%d" % number + bytes(4000))
                stored += 1
        with pytest.raises(Unavailable):
            await raft.propose(b"still full")
        member.disk.free = 1 << 40
        while True:
            try:
                await raft.propose(b"room")
                break
            except Unavailable:
                await trio.sleep(0.1)
        await member.kill()
        await (await member.start()).read()
        assert len(member.machine.commands) == stored + 1 and member.machine.commands[-1] == b"room"


async def test_a_leader_with_a_full_disk_hands_over_and_follows_without_a_lie(clock: MockClock) -> None:
    async with cluster_of("n1", "n2", "n3") as cluster:
        old = await cluster.start()
        await old.propose(b"before")
        full = cluster.members[old.me.name]
        full.disk.free = 0
        agreed: list[bytes] = []
        for number in range(60):
            leader = await cluster.leader()
            command = b"%d" % number + bytes(4000)
            try:
                await leader.propose(command)
                agreed.append(command)
            except (Unavailable, OutcomeUnknown):
                await trio.sleep(0.2)
        assert (await cluster.leader()).me != old.me
        full.disk.free = 1 << 40
        await cluster.settled()
        for member in cluster.members.values():
            assert set(agreed) <= set(member.machine.commands)
            assert len(set(member.machine.commands)) == len(member.machine.commands)
            assert member.machine.commands == full.machine.commands


async def test_a_follower_that_missed_more_than_the_log_holds_gets_a_snapshot(clock: MockClock) -> None:
    async with cluster_of("n1", "n2", "n3") as cluster:
        for member in cluster.members.values():
            member.snapshot_entries = 20
        leader = await cluster.start()
        late = next(member for member in cluster.members.values() if member.raft is not leader)
        await late.stop()
        await trio.sleep(2 * CONFIG.election_timeout_seconds)  # Nothing is kept for one who is silent.
        for number in range(200):
            await leader.propose(b"%d" % number)
        await leader.snapshot()
        raft = await late.start()
        await cluster.settled()
        assert late.machine.commands == [b"%d" % number for number in range(200)]
        assert raft.counts().traces["snapshot_installed"] >= 1
        await late.kill()
        await late.start()
        await cluster.settled()
        assert late.machine.commands == [b"%d" % number for number in range(200)]


async def test_a_restart_begins_with_the_snapshot_and_replays_the_rest(clock: MockClock) -> None:
    """N-03."""
    async with cluster_of("n1") as cluster:
        member = cluster.members["n1"]
        raft = await cluster.start()
        for number in range(30):
            await raft.propose(b"%d" % number)
        assert await raft.snapshot() == raft.status().applied
        await raft.propose(b"after")
        await member.kill()
        raft = await member.start()
        await raft.read()
        assert raft.status().snapshot_index == 31
        assert member.machine.commands == [*(b"%d" % number for number in range(30)), b"after"]


async def test_leadership_is_handed_over_on_request(clock: MockClock) -> None:
    """L-01: on real drivers."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        old = await cluster.start()
        await cluster.settled()
        target = next(member.me for member in cluster.members.values() if member.me != old.me)
        assert await old.transfer(target) == target
        assert (await cluster.leader(but=old.me.name)).me == target


async def test_a_newcomer_is_added_fed_and_counted_and_a_member_removed(clock: MockClock) -> None:
    async with cluster_of("n1") as cluster:
        leader = await cluster.start()
        for number in range(50):
            await leader.propose(b"%d" % number)
        await leader.snapshot()
        newcomer = cluster.members["n2"] = Member(cluster, Peer("n2", 77), is_founder=False)
        await newcomer.start()
        await leader.change([Change(ChangeKind.VOTER, newcomer.me)])
        assert set(leader.status().configuration.voters) == {leader.me, newcomer.me}
        await leader.propose(b"both")
        await cluster.settled()
        assert newcomer.machine.commands == cluster.members["n1"].machine.commands
        await leader.change([Change(ChangeKind.REMOVE, newcomer.me)])
        await newcomer.stop()
        await leader.propose(b"alone again")


async def test_too_large_a_command_is_refused_and_nothing_else_suffers(clock: MockClock) -> None:
    """N-01: and told why."""
    async with cluster_of("n1") as cluster:
        raft = await cluster.start()
        with pytest.raises(TooLarge):
            await raft.propose(bytes(CONFIG.entry_bytes_max + 1))
        await raft.propose(b"fine")


async def test_a_caller_who_goes_loses_his_answer_and_nothing_else(clock: MockClock) -> None:
    """N-01: a blocked call ends when it is cancelled."""
    async with cluster_of("n1") as cluster:
        raft = await cluster.start()
        member = cluster.members["n1"]
        with member.workers.held(), trio.move_on_after(1) as gone:
            await raft.propose(b"gone")
        assert gone.cancelled_caught
        await raft.propose(b"next")
        assert member.machine.commands == [b"gone", b"next"]


async def test_an_orderly_end_leaves_a_snapshot_and_everybody_is_told(clock: MockClock) -> None:
    """N-03, N-01: started, stopped, asked after the end, started again."""
    async with cluster_of("n1") as cluster:
        raft = await cluster.start()
        member = cluster.members["n1"]
        await raft.propose(b"a")
        await member.stop()
        with pytest.raises(Unavailable, match="stopping"):
            await raft.propose(b"b")
        await member.start()
        assert member.machine.commands == [b"a"], "the snapshot is loaded before anything else"


async def test_a_node_with_damage_in_the_middle_of_its_log_is_repaired_by_its_leader(clock: MockClock) -> None:
    async with cluster_of("n1", "n2", "n3") as cluster:
        leader = await cluster.start()
        for number in range(40):
            await leader.propose(b"%d" % number)
        await cluster.settled()
        damaged = next(member for member in cluster.members.values() if member.raft is not leader)
        await damaged.kill()
        segment = next(path for path in damaged.disk.walk("raft/log") if path.endswith(".log"))
        damaged.disk.flip(segment, 5 * 4096 + 45)
        raft = await damaged.start()
        assert raft.status().is_damaged
        await leader.propose(b"meanwhile")
        await until(lambda: not raft.status().is_damaged)
        await cluster.settled()
        assert damaged.machine.commands == cluster.members[leader.me.name].machine.commands
        await damaged.kill()
        assert not (await damaged.start()).status().is_damaged, "the mark of damage is gone"


async def test_a_storage_that_sees_the_same_write_twice_is_never_asked_to(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write ids reach the disk once and in order, whatever elections happen between them."""
    seen: dict[int, list[int]] = {}
    original = RaftStorage.write

    def write(storage: RaftStorage, writes: Sequence[Write]) -> int | None:
        seen.setdefault(id(storage), []).extend(each.write_id for each in writes)
        return original(storage, writes)

    monkeypatch.setattr(RaftStorage, "write", write)
    async with cluster_of("n1", "n2", "n3") as cluster:
        leader = await cluster.start()
        for round_ in range(4):
            await leader.propose(b"%d" % round_)
            cluster.isolate(leader.me.name)
            leader = await cluster.leader(but=leader.me.name)
            cluster.cut.clear()
        await cluster.settled()
    assert seen and all(ids == list(range(1, len(ids) + 1)) for ids in seen.values())


async def test_a_node_that_stops_in_order_leaves_no_task_and_no_open_request(clock: MockClock) -> None:
    """N-01, N-03: blocked calls end when the node stops."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        leader = await cluster.start()
        cluster.isolate(leader.me.name)
        ends: list[type[BaseException]] = []

        async def propose() -> None:
            with pytest.raises((OutcomeUnknown, Unavailable)) as end:
                await leader.propose(b"x")
            ends.append(end.type)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(propose)
            await trio.testing.wait_all_tasks_blocked()
            await cluster.members[leader.me.name].stop()
        assert ends == [OutcomeUnknown] * 5


@pytest.mark.parametrize("seed", range(5))
async def test_under_kills_and_cuts_every_acknowledged_proposal_is_everywhere_once(
    autojump_clock: MockClock, seed: int
) -> None:
    """Z-06, R-15: back-to-back failures of leaders, and cut-off ones that return."""
    async with cluster_of("n1", "n2", "n3") as cluster:
        for member in cluster.members.values():
            member.snapshot_entries = 25
        cluster.starts = 100 * seed
        await cluster.start()
        agreed: list[bytes] = []
        number = 0
        for _ in range(8):
            leader = await cluster.leader()
            for _ in range(12):
                number += 1
                with trio.move_on_after(5):
                    try:
                        await leader.propose(b"%d" % number)
                        agreed.append(b"%d" % number)
                    except (Unavailable, OutcomeUnknown):
                        break
            victim = cluster.members[leader.me.name]
            if number % 2:
                await victim.kill()
                await cluster.leader()
                await victim.start()
            else:
                cluster.isolate(leader.me.name)
                await cluster.leader(but=leader.me.name)
                cluster.cut.clear()
        await cluster.leader()
        await cluster.settled()
        machines = [member.machine.commands for member in cluster.members.values()]
        assert machines[0] == machines[1] == machines[2]
        assert set(agreed) <= set(machines[0]) and len(set(machines[0])) == len(machines[0])
        assert all(m.raft is not None and m.raft.status().role in Role for m in cluster.members.values())


async def test_snapshots_that_are_due_faster_than_they_are_written_are_left_out(clock: MockClock) -> None:
    async with cluster_of("n1", "n2", "n3") as cluster:
        for member in cluster.members.values():
            member.snapshot_entries = 1
        leader = await cluster.start()
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(leader.propose, b"%d" % number)
        await leader.propose(b"again")
        with cluster.members[leader.me.name].workers.held():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(leader._saver.save_if_room)
                nursery.start_soon(leader._saver.save_if_room)
                await trio.testing.wait_all_tasks_blocked()
                cluster.members[leader.me.name].workers._gate.set()  # type: ignore[union-attr]
        await cluster.settled()
        assert all(member.failure is None and member.raft is not None for member in cluster.members.values())


async def test_a_disk_that_fails_under_a_requested_snapshot_stops_the_node_and_whoever_asked_is_told(
    clock: MockClock,
) -> None:
    """World seed 60032: it was told as a bug of the server, and the node went on with a failed disk."""
    async with cluster_of("n1") as cluster:
        raft = await cluster.start()
        await raft.propose(b"a")
        member = cluster.members["n1"]
        member.disk.fail_next_write()
        with pytest.raises(Unavailable, match="this node stops"):
            await raft.snapshot()
        assert isinstance(await member.ended(), DiskFailed)
