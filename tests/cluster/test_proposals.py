"""A cluster of one: what is answered is durable, what is durable is applied, and nobody else is harmed by a failure."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TypeVar

import pytest
import trio
import trio.testing

from arc.catalog.bootstrap import bootstrap_commands
from arc.catalog.commands import AssignLease, Command, CreateDatabase, DescribeNode, FoundCluster, Once
from arc.catalog.events import DatabaseCreated
from arc.catalog.fsm import Catalog, ClusterFSM
from arc.catalog.results import Result
from arc.cluster.config import ClusterConfig, ConsensusConfig
from arc.cluster.consensus import Consensus, running_consensus
from arc.cluster.feed import Feed
from arc.cluster.identity import Identity, founded_alone
from arc.cluster.identityfile import IdentityFile
from arc.cluster.proposals import Proposals
from arc.cluster.whereabouts import Heard
from arc.errors import Conflict, Corrupt, DiskFailed, OutcomeUnknown, Overloaded, Unavailable
from arc.ids import NodeId
from arc.raft.config import Config as RaftConfig
from arc.raft.types import Peer
from arc.telemetry import Log
from arc.wire.channels import Channel
from arc.wire.facts import PeerFacts
from tests.fakes import InlineWorkers, MemoryDisk, make_ports

T = TypeVar("T")

LOG = Log([], lambda: 0)
SHORT_LOG = RaftConfig(trailing_entries=0)


class Nobody:
    """The neighbours of a node that is alone."""

    channels: Mapping[Channel, Callable[[Peer, bytes], None]] = MappingProxyType({})
    answerers: Mapping[str, Callable[[Peer, bytes], Awaitable[bytes]]] = MappingProxyType({})

    def describe(self) -> PeerFacts:
        return PeerFacts()

    def told_of(self, name: str) -> Heard | None:
        return None

    def connected(self, peer: Peer, facts: PeerFacts) -> None:
        raise AssertionError(f"{peer} talks to a node without a peer port")

    def unreachable(self, peer: Peer) -> None:
        raise AssertionError(f"{peer} was talked to")


class Node:
    """The parts around one run of the proposals."""

    def __init__(
        self,
        disk: MemoryDisk | None = None,
        config: ConsensusConfig | None = None,
        workers: InlineWorkers | None = None,
    ) -> None:
        self.disk = disk if disk is not None else MemoryDisk()
        self.workers = workers if workers is not None else InlineWorkers()
        self.fsm = ClusterFSM()
        self.feed = Feed()
        self.config = config or ConsensusConfig()
        self._consensus: Consensus | None = None

    @property
    def proposals(self) -> Proposals:
        assert self._consensus is not None, "not started"
        return self._consensus.proposals

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """From the start, when the catalog is up to date, until it is cancelled."""
        ports = make_ports(disk=self.disk, workers=self.workers)
        founder = founded_alone(Identity(node=NodeId("n1"), incarnation=7), ports.rng, "")
        async with running_consensus(
            ports,
            self.config,
            ClusterConfig(),
            IdentityFile(ports.disk, ports.workers, founder),
            fsm=self.fsm,
            feed=self.feed,
            log=LOG,
            meet=lambda _: Nobody(),
        ) as (self._consensus, _):
            await self._consensus.catch_up()
            task_status.started()
            await trio.sleep_forever()

    async def create(self, name: str) -> Result:
        return await self.proposals.propose(create(name))


def create(name: str) -> CreateDatabase:
    return CreateDatabase(name=name, created_us=1)


@asynccontextmanager
async def running(node: Node) -> AsyncIterator[Node]:
    """The node from its start to a clean stop."""
    async with trio.open_nursery() as nursery:
        await nursery.start(node.run)
        yield node
        nursery.cancel_scope.cancel()


async def crashed(node: Node, *commands: Command) -> MemoryDisk:
    """The disk as it is after these commands, when the power goes away."""
    async with running(node):
        for command in commands:
            assert (await node.proposals.propose(command)).ok
        return node.disk.copy()
    raise AssertionError


async def until_taken(node: Node, name: str) -> None:
    """Ask again until there is room: nobody tells when the log has noticed."""
    while True:
        try:
            await node.create(name)
            return
        except Overloaded:
            await trio.sleep(0.05)


async def test_result_comes_when_the_command_is_durable_and_applied() -> None:
    async with running(Node()) as node:
        result = await node.create("a")
        assert (result.ok, result.index) == (True, 2), "entry 1 is consensus' own"
        assert "a" in node.fsm.catalog.databases
        after_power_cut = Node(node.disk.copy())
    async with running(after_power_cut):
        assert after_power_cut.fsm.catalog.same_facts(after_power_cut.feed.catalog)
        assert after_power_cut.fsm.catalog.databases == node.fsm.catalog.databases


async def test_a_refused_command_is_answered_and_never_logged() -> None:
    """P-31: no poison entries."""
    async with running(Node()) as node:
        await node.create("a")
        writes = node.disk.writes
        result = await node.create("a")
        assert (result.ok, result.code, result.index) == (False, "exists", 0)
        with pytest.raises(Conflict):
            result.unwrap()
        assert (node.disk.writes, node.fsm.catalog.index) == (writes, 2)
        assert node.proposals.statistics().refused_total == 1


async def test_a_command_that_changes_nothing_is_accepted_and_never_logged() -> None:
    async with running(Node()) as node:
        await node.create("a")
        writes = node.disk.writes
        result = await node.proposals.propose(CreateDatabase(name="a", created_us=2, if_missing=True))
        assert (result.ok, result.index) == (True, 2)
        assert node.disk.writes == writes


async def test_concurrent_proposals_share_one_durable_write() -> None:
    async with running(Node()) as node:
        results: list[Result] = []

        async def propose(name: str) -> None:
            results.append(await node.create(name))

        before = node.proposals.statistics().batches_total
        async with trio.open_nursery() as nursery:
            with node.workers.held():
                nursery.start_soon(propose, "first")
                await trio.testing.wait_all_tasks_blocked()
                for number in range(50):
                    nursery.start_soon(propose, f"d{number}")
                await trio.testing.wait_all_tasks_blocked()
        assert sorted(result.index for result in results) == list(range(2, 53))
        assert node.proposals.statistics().batches_total - before == 2


async def test_of_two_who_want_the_same_name_at_once_one_gets_it() -> None:
    """Both look new when they are judged; the log puts them in order, and applying decides."""
    async with running(Node()) as node:
        results: list[Result] = []

        async def propose(command: Command) -> None:
            results.append(await node.proposals.propose(command))

        async with trio.open_nursery() as nursery:
            with node.workers.held():
                for command in (create("x"), create("a"), create("a"), create("a")):
                    nursery.start_soon(propose, command)
                    await trio.testing.wait_all_tasks_blocked()
        assert sorted(result.code for result in results) == ["", "", "exists", "exists"]
        assert set(node.fsm.catalog.databases) == {"a", "x"}


async def test_events_reach_subscribers_before_the_proposer_goes_on() -> None:
    async with running(Node()) as node:
        with node.feed.subscribe() as changes:
            await node.create("a")
            change = changes.receive_nowait()
            assert change is not None
            assert change.events == (DatabaseCreated("a"),)
            assert change.catalog is node.fsm.catalog


async def test_disk_failure_stops_the_run_and_leaves_the_outcome_unknown() -> None:
    node = Node()
    async with trio.open_nursery() as nursery:
        failures: list[BaseException] = []

        async def run(task_status: trio.TaskStatus[None]) -> None:
            try:
                await node.run(task_status=task_status)
            except* DiskFailed as group:
                failures.extend(group.exceptions)

        await nursery.start(run)
        await node.create("kept")
        node.disk.fail_next_write()
        with pytest.raises(OutcomeUnknown):
            await node.create("lost")
        with pytest.raises(Unavailable):
            await node.create("late")
    assert len(failures) == 1
    assert "lost" not in node.fsm.catalog.databases
    again = Node(node.disk)
    async with running(again):
        assert list(again.fsm.catalog.databases) == ["kept"]


async def test_a_full_disk_refuses_and_the_node_goes_on() -> None:
    async with running(Node(config=ConsensusConfig(segment_bytes=16384))) as node:
        await node.create("a")
        node.disk.free = 0
        names = iter(f"d{number}" for number in range(100))
        with pytest.raises(OutcomeUnknown):
            while True:
                await node.create(next(names))
        with pytest.raises(Overloaded) as full:
            await node.create(next(names))
        assert full.value.code == "disk_full"
        stored = len(node.fsm.catalog.databases)
        node.disk.free = 1 << 30
        await until_taken(node, "after")
        assert len(node.fsm.catalog.databases) == stored + 1


async def test_proposals_without_a_result_are_counted_and_refusals_are_results() -> None:
    async with running(Node()) as node:
        await node.create("a")
        assert not (await node.create("no/name")).ok
        assert node.proposals.statistics().failed_total == 0
    with pytest.raises(Unavailable):
        await node.create("b")
    assert node.proposals.statistics().failed_total == 1


async def test_a_cancelled_proposer_loses_his_answer_and_nothing_else() -> None:
    async with running(Node()) as node:
        with node.workers.held():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.create, "written")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(node.create, "behind it")
                await trio.testing.wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        await node.create("next")
        assert {"written", "next"} <= set(node.fsm.catalog.databases)
        crashed_disk = node.disk.copy()
    again = Node(crashed_disk)
    async with running(again):
        assert set(again.fsm.catalog.databases) == set(node.fsm.catalog.databases)


async def test_a_stop_in_the_middle_of_a_write_lets_it_end_and_nobody_is_told_wrong() -> None:
    """The outcome of what is at the disk when the stop comes is unknown to its proposer, and there after a restart."""

    class StopsAtTheFirstWrite(InlineWorkers):
        async def run(self, fn: Callable[..., T], *args: object, abandon_on_cancel: bool = False) -> T:
            if getattr(fn, "__name__", "") == "write" and is_asked:
                nursery.cancel_scope.cancel()
            with trio.CancelScope(shield=True):  # as a thread is
                result = await super().run(fn, *args, abandon_on_cancel=abandon_on_cancel)
            return result

    node = Node(workers=StopsAtTheFirstWrite())
    is_asked = False

    async def propose() -> None:
        with pytest.raises(OutcomeUnknown):
            await node.create("a")

    async with trio.open_nursery() as proposers, trio.open_nursery() as nursery:
        await nursery.start(node.run)
        is_asked = True
        proposers.start_soon(propose)
        await trio.sleep_forever()
    again = Node(node.disk)
    async with running(again):
        assert "a" in again.fsm.catalog.databases


async def test_too_much_that_waits_for_agreement_is_refused() -> None:
    config = ConsensusConfig(raft=RaftConfig(uncommitted_entries_max=2))
    async with running(Node(config=config)) as node, trio.open_nursery() as nursery:
        with node.workers.held():
            for name in ("a", "b"):
                nursery.start_soon(node.create, name)
                await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(Overloaded):
                await node.create("d")


async def test_nothing_is_taken_after_the_stop() -> None:
    node = Node()
    async with running(node):
        pass
    with pytest.raises(Unavailable):
        await node.create("late")


async def test_a_clean_stop_leaves_a_snapshot_and_nothing_to_replay() -> None:
    async with running(Node()) as node:
        for number in range(5):
            await node.create(f"d{number}")
    again = Node(node.disk)
    async with running(again):
        assert again.proposals.statistics().snapshot_index == 6
        assert again.fsm.catalog.databases == node.fsm.catalog.databases
        assert (await again.create("more")).index == 8, "each run begins with an entry of its own"


async def test_snapshots_are_taken_on_the_way_and_the_log_is_compacted() -> None:
    async with running(Node(config=ConsensusConfig(snapshot_entries=20, segment_bytes=16384, raft=SHORT_LOG))) as node:
        for number in range(100):
            await node.create(f"d{number}")
            await trio.testing.wait_all_tasks_blocked()
        numbers = node.proposals.statistics()
        assert numbers.snapshot_index == 100
        assert numbers.snapshots_total == 5
        assert numbers.log_first_index > 1, "what snapshots cover is not kept for ever"
        disk = node.disk.copy()
    again = Node(disk)
    async with running(again):
        assert again.fsm.catalog.databases == node.fsm.catalog.databases


async def test_a_damaged_newest_snapshot_is_survived_by_the_one_before() -> None:
    async with running(Node(config=ConsensusConfig(snapshot_entries=20, segment_bytes=16384, raft=SHORT_LOG))) as node:
        for number in range(45):
            await node.create(f"d{number}")
            await trio.testing.wait_all_tasks_blocked()
        disk = node.disk.copy()
    newest = [path for path in disk.walk("raft/snapshots") if path.endswith(".part")][-1]
    disk.flip(newest, 100)
    again = Node(disk)
    async with running(again):
        assert again.fsm.catalog.databases == node.fsm.catalog.databases


async def test_damaged_snapshots_without_a_log_to_replay_refuse_to_start() -> None:
    async with running(Node(config=ConsensusConfig(snapshot_entries=20, segment_bytes=16384, raft=SHORT_LOG))) as node:
        for number in range(45):
            await node.create(f"d{number}")
            await trio.testing.wait_all_tasks_blocked()
        disk = node.disk.copy()
    for path in disk.walk("raft/snapshots"):
        disk.flip(path, 20)
    with pytest.raises(Corrupt):
        await Node(disk).run()


async def test_a_compacted_log_without_its_snapshots_refuses_to_start() -> None:
    async with running(Node(config=ConsensusConfig(snapshot_entries=20, segment_bytes=16384, raft=SHORT_LOG))) as node:
        for number in range(45):
            await node.create(f"d{number}")
            await trio.testing.wait_all_tasks_blocked()
        disk = node.disk.copy()
    for path in disk.walk("raft/snapshots"):
        disk.remove(path)
    with pytest.raises(Corrupt, match="in no whole snapshot"):
        await Node(disk).run()


async def test_a_torn_write_is_dropped_and_the_rest_stays() -> None:
    """Cut the write at every interesting byte: the command is there whole or not at all."""
    disk = await crashed(Node(), create("a"))
    for at_byte in (0, 1, 40, 60, 4096):
        node = Node(disk.copy())

        async def run(task_status: trio.TaskStatus[None], node: Node = node) -> None:
            with pytest.RaisesGroup(DiskFailed, flatten_subgroups=True):
                await node.run(task_status=task_status)

        async with trio.open_nursery() as nursery:
            await nursery.start(run)
            node.disk.tear_next_write(at_byte)
            with pytest.raises(OutcomeUnknown):
                await node.create("b")
        again = Node(node.disk.copy())
        async with running(again):
            assert set(again.fsm.catalog.databases) in ({"a"}, {"a", "b"})
            assert (at_byte < 100) == ("b" not in again.fsm.catalog.databases)


async def test_a_flipped_bit_in_the_log_refuses_to_start() -> None:
    disk = await crashed(Node(), create("a"), create("b"))
    disk.flip(next(path for path in disk.walk("raft/log")), 4096 + 50)
    with pytest.raises(Corrupt):
        await Node(disk).run()


async def test_a_retry_with_the_same_number_gets_the_first_result_also_after_a_crash() -> None:
    """P-30."""
    once = Once(client="n1-run1", sequence=1, action=create("a"))
    node = Node()
    disk = await crashed(node, once)
    again = Node(disk)
    async with running(again):
        result = await again.proposals.propose(once)
        assert (result.ok, result.index) == (True, 2)


async def test_bootstrap_makes_the_node_writer_with_a_database_and_one_token() -> None:
    node = Node()
    for start in (1, 2):
        node = Node(node.disk)
        async with running(node):
            for command in bootstrap_commands(node.fsm.catalog, NodeId("n1"), 5, "ab" * 32):
                (await node.proposals.propose(command)).unwrap()
            catalog = node.fsm.catalog
            assert catalog.leases["writer"].holder == "n1"
            assert catalog.leases["writer"].epoch == (2 if start == 1 else 6)
            assert list(catalog.databases) == ["default"]
            assert [token.permissions for token in catalog.tokens.values()] == [("read", "write", "delete", "admin")]


def test_bootstrap_makes_no_token_when_authentication_is_off() -> None:
    assert len(bootstrap_commands(Catalog(), NodeId("n1"), 5, None)) == 2


def test_bootstrap_tells_which_cluster_this_is_and_leaves_the_lease_to_others_when_told() -> None:
    founded = FoundCluster(uuid="u" * 36, name="arc", created_us=5)
    described = DescribeNode(name=NodeId("n1"), incarnation=7, address="h:1")
    found = bootstrap_commands(
        Catalog(), NodeId("n1"), 5, "ab" * 32, described=described, founded=founded, takes_writer=False
    )
    kinds = [type(command).__name__ for command in found]
    assert kinds == ["FoundCluster", "DescribeNode", "CreateDatabase", "CreateToken"]


async def test_the_writer_lease_is_never_taken_from_another_member_but_from_one_that_was_given_up() -> None:
    async with running(Node()) as node:
        for command in bootstrap_commands(node.fsm.catalog, NodeId("lost"), 5, None):
            (await node.proposals.propose(command)).unwrap()
        catalog = node.fsm.catalog
        assert bootstrap_commands(catalog, NodeId("n1"), 5, None, is_alone=False) == []
        assert bootstrap_commands(catalog, NodeId("n1"), 5, None, is_alone=True) == [
            AssignLease(
                lease="writer",
                node=NodeId("n1"),
                expect_epoch=catalog.lease_epoch("writer"),
                reason="an operator gave the other nodes up",
                at_us=5,
                accepts_data_loss=True,
            )
        ]


async def test_a_full_disk_postpones_the_snapshot_and_stops_nothing() -> None:
    async with running(Node(config=ConsensusConfig(snapshot_entries=5))) as node:
        node.disk.fail_next_write(OSError(errno.ENOSPC, "full"), after=5)
        for number in range(5):
            await node.create(f"d{number}")
        await trio.testing.wait_all_tasks_blocked()
        assert node.proposals.statistics().snapshots_total == 0
        assert (await node.create("more")).ok
