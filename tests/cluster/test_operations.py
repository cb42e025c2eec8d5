"""What operators see and order: each order reaches the part whose matter it is."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from arc.api.deps import ClusterView
from arc.cluster.failover import Verdict
from arc.errors import ArcError, Conflict, NodeNotFound, Unavailable
from arc.raft.types import Peer
from tests.cluster.coordinating import Stage, raft_status, trio_of_nodes
from tests.cluster.members import Members


async def test_what_this_node_saw_of_others_is_kept_in_order_and_in_words(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage(trio_of_nodes())
    async with stage.coordinator.running():
        stage.hear("n2", "n3")
        stage.members.forget("n3")
        await trio.testing.wait_all_tasks_blocked()
        seen = stage.operations.observed()
    assert [(each.sequence, each.node, each.kind) for each in seen][:3] == [
        (1, "n2", "node_healthy"),
        (2, "n3", "node_healthy"),
        (3, "n3", "node_left"),
    ]
    assert seen[2].words == "n3 left the cluster" and seen[2].at_us == stage.clock.wall_us()


async def test_since_when_the_leader_leads_is_known_by_this_nodes_clock(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage(trio_of_nodes())
    async with stage.coordinator.running():
        await trio.testing.wait_all_tasks_blocked()
        first = stage.operations.look().leader_since_us
        stage.clock.advance(5.0)  # type: ignore[attr-defined]
        stage.raft.become(raft_status("n1", "n1 n2 n3", leader="n2"))
        await trio.testing.wait_all_tasks_blocked()
        second = stage.operations.look().leader_since_us
        stage.raft.become(raft_status("n1", "n1 n2 n3"))
        await trio.testing.wait_all_tasks_blocked()
        assert stage.operations.look().leader_since_us is None
    assert first is not None and second == first + 5_000_000


@pytest.mark.parametrize(
    ("name", "said", "code", "words"),
    [
        ("n3", (2, "db/cpu/1"), "files_held", "2 file(s) that nobody else has would go with it (db/cpu/1 is one)"),
        ("n3", Unavailable("no session"), "node_alive", "does not say whether others have its files (no session)"),
        ("n2", (0, ""), "holds_lease", "hand it over first (arc cluster drain n2)"),
    ],
)
async def test_a_node_that_lives_is_not_removed_with_what_only_it_has(
    name: str, said: tuple[int, str] | ArcError, code: str, words: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Leaving waits for others to have its files; removing a node that serves used to take them along."""
    stage = Stage(trio_of_nodes())
    stage.members.write("n2")
    stage.only_there = said
    async with stage.coordinator.running():
        stage.hear("n2", "n3")
        with pytest.raises(Conflict) as refused:
            await stage.operations.remove(name)
        assert refused.value.code == code and words in refused.value.message
        assert f"let it leave (arc cluster leave, at {name})" in refused.value.message
        assert stage.membership.asked == []
        await stage.operations.remove(name, force=True)
        assert stage.membership.asked == [f"remove {name}"]


async def test_a_node_whose_files_others_have_or_that_is_gone_is_removed(
    autojump_clock: trio.testing.MockClock,
) -> None:
    stage = Stage(trio_of_nodes())
    async with stage.coordinator.running():
        stage.hear("n3")
        await stage.operations.remove("n3")
        assert stage.life_calls == ["only there? n3"]
        stage.only_there = (9, "db/cpu/1")
        await stage.operations.remove("n2")
        assert stage.life_calls == ["only there? n3"], "n2 was never heard: there is nobody to ask"
        stage.raft.become(raft_status("n1", "n1 n2 n3", leader="n2"))
        await stage.operations.remove("n3")
        assert stage.membership.asked == ["remove n3", "remove n2", "remove n3"], "who leads says so himself"


def test_the_pages_of_the_api_can_look_at_it_and_ask_it() -> None:
    """The checker of types proves it; here it is only said."""
    view: ClusterView = Stage(trio_of_nodes()).operations
    assert [each.name for each in view.look().nodes] == ["n1", "n2", "n3"]


def test_plans_are_those_of_the_failover_managers() -> None:
    stage = Stage(trio_of_nodes())
    stage.hear("n2", "n3")
    plan = stage.operations.look().plans.get("writer")
    assert plan is not None and plan.verdict is Verdict.KEEP
    assert [each.name for each in plan.candidates if each.is_eligible] == ["n2"]
    assert set(stage.operations.look().plans) == {"writer", "compactor"}


async def test_a_drained_node_is_given_nothing_new_and_gives_leadership_away() -> None:
    stage = Stage(trio_of_nodes())
    await stage.operations.drain("n2")
    assert stage.members.catalog.nodes["n2"].state == "leaving" and stage.raft.transferred == []
    await stage.operations.drain("n1")
    assert stage.raft.transferred == [None]
    await stage.operations.undrain("n2")
    assert stage.members.catalog.nodes["n2"].state == "healthy"
    with pytest.raises(NodeNotFound):
        await stage.operations.drain("n7")


async def test_a_lease_is_handed_over_by_its_manager(autojump_clock: trio.testing.MockClock) -> None:
    stage = Stage(trio_of_nodes())
    async with stage.coordinator.running():
        stage.hear("n2", "n3")
        granted = await stage.operations.failover("writer", "n2", reason="a test")
        assert (granted.holder, stage.members.catalog.leases["writer"].holder) == ("n2", "n2")
        stage.hear("n2", "n3")
        lease, kept_seconds = await stage.operations.assign_compactor("n1")
        assert (lease.holder, kept_seconds) == ("n1", 600.0)
        with pytest.raises(Conflict):
            await stage.operations.failover("other", None, reason="a test")


async def test_only_the_leader_hands_leases_over() -> None:
    stage = Stage(trio_of_nodes(), status=raft_status("n1", "n1 n2 n3", leader="n2"))
    with pytest.raises(Unavailable) as elsewhere:
        await stage.operations.failover("writer", None, reason="a test")
    assert elsewhere.value.code == "not_leader"


async def test_a_promotion_with_loss_is_agreed_on_and_remembered_as_one() -> None:
    members = trio_of_nodes()
    members.in_sync("n1")
    stage = Stage(members)
    with pytest.raises(NodeNotFound):
        await stage.operations.promote("n7", reason="nothing else is left")
    lease = await stage.operations.promote("n2", reason="nothing else is left")
    change = members.catalog.history[-1]
    assert (lease.holder, lease.epoch) == (change.holder, change.epoch) == ("n2", members.catalog.lease_epoch("writer"))
    assert not change.is_clean and change.reason == "nothing else is left"


async def test_leadership_goes_to_a_voter_or_to_whoever_holds_most() -> None:
    stage = Stage(trio_of_nodes(), status=raft_status("n1", "n1 n2", leader="n1"))
    assert await stage.operations.transfer_leadership("n2") == Peer("n2")
    await stage.operations.transfer_leadership(None)
    assert stage.raft.transferred == [Peer("n2"), None]
    with pytest.raises(NodeNotFound, match="'n3' does not vote"):
        await stage.operations.transfer_leadership("n3")


async def test_orders_about_life_reach_those_who_carry_them_out() -> None:
    stage = Stage(Members(n1="standalone"))
    assert (await stage.operations.found()).name == "arc"
    assert await stage.operations.converge_voters(dry_run=True, allow_single_voter=False) == {"changes": []}
    await stage.operations.leave()
    assert stage.life_calls == ["converge dry=True", "leave"]
    seen = stage.operations.look()
    assert (seen.licence.tier, seen.lags) == ("open", {})
    assert (seen.router, seen.catch_up) == (None, None)
