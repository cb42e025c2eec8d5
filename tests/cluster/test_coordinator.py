"""The coordinator: what it says is what the catalog says, and what it cannot do it says in a name."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
import trio
import trio.testing

from arc.catalog.commands import COMPACTOR
from arc.catalog.roles import NodeRole, NodeState
from arc.cluster.coordinator import licensed
from arc.cluster.failover import FailoverConfig
from arc.errors import (
    AlreadyRunning,
    ArcError,
    ClusteringFeatureRequired,
    ClusterNotEnabled,
    CompactionNotAllowed,
    Conflict,
    CoreLimitExceeded,
    IngestNotAllowed,
    InvalidRequest,
    LicenseRequired,
    NodeAlreadyExists,
    NodeNotFound,
    NotFound,
    NotRunning,
    QueryNotAllowed,
    TooLarge,
    TooManyNodes,
    Unavailable,
)
from arc.license import CLUSTERING, OPEN, License
from tests.cluster.coordinating import Stage, raft_status, trio_of_nodes
from tests.cluster.members import Members

# ---------------------------------------------------------------------------------------------------------------- life


async def test_it_runs_until_it_is_stopped_and_again_afterwards(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(trio_of_nodes())
    coordinator = stage.coordinator
    assert not coordinator.is_running
    for _ in range(2):
        async with coordinator.running():
            assert coordinator.is_running and coordinator.status()["running"] is True
            assert coordinator.operations.health_checker()["running"] is True
            with pytest.raises(AlreadyRunning):
                await coordinator.run()
        assert not coordinator.is_running
    coordinator.stop()
    await coordinator.close()


async def test_closing_waits_until_all_parts_have_ended(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(trio_of_nodes())
    async with trio.open_nursery() as nursery:
        await nursery.start(stage.coordinator.run)
        await stage.coordinator.close()
        assert stage.coordinator.operations.health_checker()["running"] is False


@pytest.mark.parametrize(
    ("licence", "error"),
    [
        (License(holder="Ada"), ClusteringFeatureRequired),
        (License(holder="Ada", features=(CLUSTERING,), expires_us=1, grace_days=0), LicenseRequired),
    ],
)
async def test_a_node_of_a_cluster_does_not_start_without_a_licence_for_it(
    licence: License, error: type[ArcError]
) -> None:
    """P-45. A node alone needs none."""
    stage = Stage(trio_of_nodes(), licence=licence)
    with pytest.raises(error):
        await stage.coordinator.run()
    assert not stage.coordinator.is_running
    alone = Stage(Members(n1="standalone"), licence=licence, is_enabled=False)
    async with alone.coordinator.running():
        assert alone.coordinator.is_running


def test_without_the_failover_feature_nobody_is_replaced_for_being_silent() -> None:
    assert licensed(FailoverConfig(), OPEN).enabled
    assert not licensed(FailoverConfig(), License(holder="Ada", features=(CLUSTERING,))).enabled


# ----------------------------------------------------------------------------------------------- this node, its leases


def test_a_node_says_who_it_is_and_who_leads() -> None:
    coordinator = Stage(trio_of_nodes(), me="n2").coordinator
    assert (coordinator.local_node_id, coordinator.role, str(coordinator.role)) == ("n2", NodeRole.WRITER, "writer")
    assert (coordinator.is_leader, coordinator.leader_addr) == (False, "n1:9100")
    assert coordinator.capabilities.can_ingest and coordinator.local_node.is_local
    assert repr(coordinator) == "<Coordinator n2 writer leader=False holds=nothing>"
    leaderless = Stage(trio_of_nodes(), status=raft_status("n1", "n1 n2 n3")).coordinator
    assert leaderless.leader_addr == ""


def test_the_primary_writer_is_who_holds_the_lease_whoever_leads_and_whatever_else_may_write() -> None:
    """P-18: one source of truth. In Go's cluster with failover off every writer took itself for the primary (#850)."""
    members = trio_of_nodes()
    first, second = Stage(members, me="n1"), Stage(members, me="n2", status=raft_status("n2", "n1 n2 n3", leader="n2"))
    assert [each.coordinator.is_primary_writer for each in (first, second)] == [True, False]
    members.write("n2")
    assert [each.coordinator.is_primary_writer for each in (first, second)] == [False, True]


def test_writes_are_taken_where_the_lease_is_and_the_write_path_open() -> None:
    stage = Stage(trio_of_nodes())
    assert stage.coordinator.may_accept_ingest()
    stage.refuses = "the disk is nearly full"
    assert not stage.coordinator.may_accept_ingest()
    assert not Stage(trio_of_nodes(), me="n2").coordinator.may_accept_ingest()


def test_roles_and_leases_that_do_not_allow_it_say_so_in_a_name() -> None:
    members = trio_of_nodes()
    members.add("n4", "reader")
    writer, compactor, reader = (Stage(members, me=name).coordinator for name in ("n1", "n3", "n4"))
    writer.require_ingest()
    writer.require_query()
    with pytest.raises(IngestNotAllowed, match="n4 is a reader"):
        reader.require_ingest()
    with pytest.raises(QueryNotAllowed, match="n3 is a compactor"):
        compactor.require_query()
    assert compactor.require_compaction() == members.catalog.lease_epoch(COMPACTOR)
    with pytest.raises(CompactionNotAllowed, match="n3 holds the compactor lease, not n1"):
        writer.require_compaction()
    assert [each.is_active_compactor for each in (writer, compactor)] == [False, True]
    assert writer.active_compactor_id == "n3"


async def test_becoming_and_losing_the_compactor_lease_is_heard_in_turn() -> None:
    members = trio_of_nodes()
    coordinator = Stage(members, me="n3").coordinator
    heard: list[bool] = []
    with coordinator.subscribe_compactor() as changes:
        assert changes.is_active
        for holder in ("n1", "n2", "n3", "n3", "n1"):
            members.compact(holder)
            members.set_state("n2", "leaving")  # Something else that changes.
            members.set_state("n2", "healthy")
        with trio.fail_after(5):
            async for is_active in changes:
                heard.append(is_active)
                if len(heard) == 3:
                    break
    assert heard == [False, True, False]


# ------------------------------------------------------------------------------------------------- members, via Raft


async def test_nodes_come_go_and_change_their_state_through_consensus(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(trio_of_nodes())
    async with stage.coordinator.running():
        stage.hear("n2", "n3")
        assert (await stage.coordinator.add_node_via_raft("n9:9100")).name == "n9"
        await stage.coordinator.add_node_via_raft("n8:9100", as_learner=False)
        await stage.coordinator.remove_node_via_raft("n3")
        assert stage.membership.asked == ["add n9:9100 learner", "add n8:9100 voter", "remove n3"]
        await stage.coordinator.update_node_state_via_raft("n2", NodeState.LEAVING)
        assert stage.members.catalog.nodes["n2"].state == "leaving"
        with pytest.raises(NodeNotFound):
            await stage.coordinator.update_node_state_via_raft("n7", NodeState.HEALTHY)
        with pytest.raises(InvalidRequest, match="can be agreed on"):
            await stage.coordinator.update_node_state_via_raft("n2", NodeState.DEAD)


@pytest.mark.parametrize(
    ("raised", "error", "code"),
    [
        (Conflict("another one", code="other_incarnation"), NodeAlreadyExists, "node_already_exists"),
        (Conflict("another change", code="conflict"), Conflict, "conflict"),
        (TooLarge("full", code="too_many"), TooManyNodes, "too_many"),
        (Unavailable("no", code="not_leader"), Unavailable, "not_leader"),
    ],
)
async def test_why_a_node_could_not_be_added_has_a_name(
    raised: ArcError, error: type[ArcError], code: str, autojump_clock: trio.testing.MockClock
) -> None:
    stage = Stage(trio_of_nodes())
    stage.membership.error = raised
    async with stage.coordinator.running():
        with pytest.raises(error) as caught:
            await stage.coordinator.add_node_via_raft("n9:9100")
    assert caught.value.code == code


async def test_nothing_is_changed_by_a_coordinator_that_does_not_run_or_stands_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage(trio_of_nodes())
    for call in (
        lambda: stage.coordinator.add_node_via_raft("n9:9100"),
        lambda: stage.coordinator.remove_node_via_raft("n2"),
        lambda: stage.coordinator.update_node_state_via_raft("n2", NodeState.LEAVING),
    ):
        with pytest.raises(NotRunning):
            await call()
    alone = Stage(Members(n1="standalone"), is_enabled=False)
    async with alone.coordinator.running():
        with pytest.raises(ClusterNotEnabled):
            await alone.coordinator.add_node_via_raft("n9:9100")
    assert stage.membership.asked == alone.membership.asked == []


async def test_an_unknown_node_cannot_be_removed(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(trio_of_nodes())
    stage.membership.error = NotFound("there is no node 'n7' in this cluster")
    async with stage.coordinator.running():
        with pytest.raises(NodeNotFound):
            await stage.coordinator.remove_node_via_raft("n7")


def test_a_newcomer_must_fit_the_licence() -> None:
    stage = Stage(trio_of_nodes(), licence=License(holder="Ada", features=(CLUSTERING,), max_cores=4))
    stage.coordinator.check_node("n9", 4)
    with pytest.raises(CoreLimitExceeded):
        stage.coordinator.check_node("n9", 5)


# -------------------------------------------------------------------------------------------- replication and status


class Copies:
    """A replication that has five files to fetch."""

    def is_ready(self) -> bool:
        return False

    def catch_up_status(self) -> Mapping[str, int]:
        return {"enqueued": 5}

    def stats(self) -> Mapping[str, object]:
        return {"enabled": True}


def test_replication_is_asked_where_there_is_one() -> None:
    coordinator = Stage(trio_of_nodes(), replication=Copies()).coordinator
    assert not coordinator.replication_ready() and coordinator.replication_stats() == {"enabled": True}
    assert coordinator.status()["replication_catchup_status"] == {"enqueued": 5}
    without = Stage(trio_of_nodes()).coordinator
    assert without.replication_ready() and without.replication_catch_up_status() is None
    assert without.replication_stats() == {"enabled": False}


def test_the_status_is_json_as_it_is() -> None:
    """Its keys and its words are tested where they are served, in tests/api/test_cluster.py."""
    stage = Stage(trio_of_nodes())
    stage.hear("n2", "n3")
    document = stage.coordinator.status()
    assert (document["node_count"], document["healthy_count"], document["writers"], document["compactors"]) == (
        3,
        3,
        2,
        1,
    )
    assert (document["state"], document["failures_tolerated"]) == ("healthy", 1)
    assert json.loads(json.dumps(document)) == document


def test_cores_that_remain_are_told_only_where_there_is_a_limit() -> None:
    limited = Stage(trio_of_nodes(), licence=License(holder="Ada", features=(CLUSTERING,), max_cores=4))
    document = limited.coordinator.status()
    assert (document["max_cores"], document["cores_remaining"]) == (4, 4)
