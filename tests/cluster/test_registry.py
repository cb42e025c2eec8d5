"""The registry: what was agreed on joined with what was heard, in answers that are values and always in one order."""

from __future__ import annotations

import dataclasses

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from arc.catalog.roles import NodeRole, NodeState, WriterState
from arc.cluster.memories import OFFSETS_KEPT, Told
from arc.cluster.registry import SMALL_CLUSTER_NODES, Registry, watchers
from arc.cluster.views import NodeStats, NodeView
from arc.errors import TooLarge, Unavailable
from arc.raft.types import Peer
from tests.cluster.members import STARTED_US, Eyes, Members, Session, registry_of
from tests.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def members() -> Members:
    """Six nodes of all roles: n1 writes, n3 compacts, n2 is in sync, n4 leaves, n6 joins."""
    found = Members(n3="compactor", n1="writer", n2="writer", n5="reader")
    found.add("n4", "writer", state="leaving")
    found.add("n6", "standalone", state="joining")
    found.write("n1")
    found.in_sync("n1", "n2")
    found.compact("n3")
    return found


def hear(registry: Registry, *names: str, incarnation: int = 1) -> None:
    """A heartbeat of each, and a round of checks."""
    for name in names:
        assert registry.record_heartbeat(Peer(name, incarnation), Told())
    for name in registry.others():
        registry.process_health_check(name)
    registry.publish()


def tell_time(registry: Registry, name: str, at_us: int) -> None:
    """A heartbeat with what a node's clock says."""
    assert registry.record_heartbeat(Peer(name, 1), Told(stats=NodeStats(clock_us=at_us)))


def pronounce_dead(registry: Registry, clock: ManualClock, *gone: str) -> None:
    """Check these nodes until nobody hopes for them any more."""
    for name in gone:
        while (view := registry.get(name)) is None or view.state is not NodeState.DEAD:
            clock.advance(1.0)
            registry.process_health_check(name)


def names(views: list[NodeView]) -> list[str]:
    return [view.name for view in views]


def test_every_question_has_its_answer(members: Members, clock: ManualClock) -> None:
    registry = registry_of(members, clock)
    hear(registry, "n2", "n3", "n4", "n5", "n6")
    assert names(registry.all()) == ["n1", "n2", "n3", "n4", "n5", "n6"]
    assert names(registry.by_role(NodeRole.WRITER)) == ["n1", "n2", "n4"]
    assert names(registry.by_state(NodeState.LEAVING)) == ["n4"]
    assert names(registry.healthy()) == ["n1", "n2", "n3", "n5"]
    assert names(registry.available()) == ["n1", "n2", "n3", "n5", "n6"]
    assert names(registry.writers()) == ["n1", "n2"]
    assert names(registry.readers()) == ["n5"]
    assert names(registry.compactors()) == ["n3"]
    assert names(registry.standby_writers()) == ["n2"]
    primary = registry.primary_writer()
    assert primary is not None
    assert (primary.name, primary.writer_state, primary.is_local) == ("n1", WriterState.PRIMARY, True)
    assert (registry.count(), registry.count_healthy(), registry.count_by_role(NodeRole.WRITER)) == (6, 4, 3)
    assert registry.others() == ["n2", "n3", "n4", "n5", "n6"]
    assert registry.summary() == {
        "total": 6,
        "healthy": 4,
        "unhealthy": 2,
        "writers": 3,
        "readers": 1,
        "compactors": 1,
        "standalone": 1,
    }


def test_a_view_joins_what_was_agreed_on_with_what_was_heard(members: Members, clock: ManualClock) -> None:
    eyes = Eyes(voters=("n1", "n2"), leader="n2")
    registry = registry_of(members, clock, eyes=eyes)
    told = Told(started_us=5, stats=NodeStats(durable_sequence=7, refuses_queries="still catching up"))
    assert registry.record_heartbeat(Peer("n2", 1), told)
    heard_us = clock.wall_us()
    registry.process_health_check("n2")
    clock.advance(0.25)
    view = registry.get("n2")
    assert view is not None
    assert (view.is_leader, view.is_voter, view.is_in_sync, view.is_local) == (True, True, True, False)
    assert (view.started_us, view.stats, view.last_heartbeat_us) == (5, told.stats, heard_us)
    assert (view.heard_seconds_ago, view.state_seconds) == (0.25, 0.25)
    assert (view.last_healthy_us, registry.last_heartbeat_us("n2")) == (heard_us, heard_us)
    third = registry.get("n3")
    assert third is not None
    assert (third.state, third.heard_seconds_ago, third.is_active_compactor) == (NodeState.UNKNOWN, None, True)
    assert (registry.get("n9"), registry.last_heartbeat_us("n9")) == (None, 0)


def test_an_answer_cannot_be_changed_and_does_not_change(members: Members, clock: ManualClock) -> None:
    registry = registry_of(members, clock)
    hear(registry, "n2")
    before = registry.get("n2")
    assert before is not None
    with pytest.raises(dataclasses.FrozenInstanceError):
        before.failed_checks = 9  # type: ignore[misc]
    clock.advance(5.0)
    for _ in range(3):
        registry.process_health_check("n2")
    after = registry.get("n2")
    assert after is not None
    assert (before.state, before.failed_checks) == (NodeState.HEALTHY, 0)
    assert (after.state, after.failed_checks) == (NodeState.UNHEALTHY, 3)


def test_a_clock_is_judged_by_the_heartbeat_that_was_least_late(clock: ManualClock) -> None:
    members = Members(n1="writer", n2="writer")
    registry = registry_of(members, clock)

    def offset() -> float | None:
        view = registry.get("n2")
        assert view is not None
        return view.clock_offset_seconds

    def tell(ahead: float, late: float = 0.0) -> None:
        at_us = clock.wall_us() + round(ahead * 1e6)
        clock.advance(late)
        told = Told(stats=NodeStats(clock_us=at_us))
        registry.record_heartbeat(Peer("n2", members.catalog.nodes["n2"].incarnation), told)

    assert registry.local().clock_offset_seconds == 0.0 and offset() is None
    hear(registry, "n2")
    assert offset() is None, "an older version does not say"
    tell(2.0, late=0.3)
    assert offset() == pytest.approx(1.7)
    tell(2.0)
    tell(2.0, late=30.0)
    assert offset() == pytest.approx(2.0)
    for _ in range(OFFSETS_KEPT):
        tell(0.0)
    assert offset() == 0.0, "its clock was put right"


def test_what_other_clocks_say_goes_on_by_itself_and_does_not_move_with_the_one_here(clock: ManualClock) -> None:
    members = Members(n1="writer", n2="writer", n3="writer")
    registry = registry_of(members, clock)
    assert registry.clocks_us() == {"n2": None, "n3": None}
    n2_us = clock.wall_us() + 5_000_000
    tell_time(registry, "n2", n2_us)
    clock.jump_wall(365 * 86_400_000_000)
    assert registry.clocks_us() == {"n2": n2_us, "n3": None}
    clock.advance(2.5)
    assert registry.clocks_us() == {"n2": n2_us + 2_500_000, "n3": None}
    pronounce_dead(registry, clock, "n2", "n3")
    clock.advance(100.0)
    told_us = registry.clocks_us()["n2"]
    assert told_us is not None and told_us > n2_us + 100_000_000, "n2 is gone, but its clock is known"
    assert registry.clocks_us() == {"n2": told_us, "n3": None} and registry.earliest_us() == told_us


def test_a_clock_is_not_right_because_whoever_could_deny_it_is_dead_since_this_node_started(clock: ManualClock) -> None:
    """World 1010264: cut off from the other of two, a writer that had just started removed what was young, by its own
    clock, and the other agreed when it was back.
    """
    members = Members(n1="writer", n2="writer")
    registry = registry_of(members, clock)
    clock.jump_wall(100 * 86_400_000_000)
    pronounce_dead(registry, clock, "n2")
    assert registry.clocks_us() == {"n2": None}
    with pytest.raises(Unavailable, match="no other node has told its time yet"):
        registry.earliest_us()
    members.forget("n2")
    registry.publish()
    assert registry.earliest_us() == clock.wall_us(), "nobody is there who could know better"


def test_whoever_all_others_left_goes_on_by_what_they_told(clock: ManualClock) -> None:
    members = Members(n1="writer", n2="writer", n3="writer")
    registry, n2_us = registry_of(members, clock), clock.wall_us()
    tell_time(registry, "n2", n2_us)
    tell_time(registry, "n3", n2_us - 5_000_000)
    members.forget("n3")
    registry.publish()
    assert registry.clocks_us() == {"n2": n2_us}, "whose clock is wrong may be removed for it"
    clock.jump_wall(100 * 86_400_000_000)
    members.forget("n2")
    assert registry.clocks_us() == {"n2": n2_us}, "before the checks have seen that it is out"
    registry.publish()
    clock.advance(2.5)
    assert registry.clocks_us() == {"n2": n2_us + 2_500_000} and registry.earliest_us() == n2_us + 2_500_000
    assert registry.clock_ahead_seconds() == 100 * 86_400.0
    members.add("n4", "writer", state="joining")
    registry.publish()
    assert registry.clocks_us() == {"n4": None} and registry.clock_ahead_seconds() == 0.0, "it will tell"
    members.forget("n4")
    registry.publish()
    assert registry.clocks_us() == {"n2": n2_us + 2_500_000}
    members.add("n5", "writer")
    tell_time(registry, "n5", n2_us + 7_000_000)
    registry.publish()
    members.forget("n5")
    registry.publish()
    assert registry.clocks_us() == {"n5": n2_us + 7_000_000}, "somebody else told, and the one before counts no more"


def test_what_a_node_told_counts_where_the_one_after_it_of_its_name_never_tells(clock: ManualClock) -> None:
    members = Members(n1="writer", n2="writer")
    registry, n2_us = registry_of(members, clock), clock.wall_us()
    tell_time(registry, "n2", n2_us)
    for incarnation in (2, 3):
        members.forget("n2", incarnation=incarnation - 1)
        members.add("n2", "writer", incarnation=incarnation)
        registry.publish()
        assert registry.clocks_us() == {"n2": None}
    members.forget("n2", incarnation=3)
    registry.publish()
    assert registry.clocks_us() == {"n2": n2_us}


def test_this_node_is_known_before_the_cluster_knows_it(clock: ManualClock) -> None:
    registry = registry_of(Members(), clock, stats=NodeStats(connections=3))
    local = registry.local()
    assert (local.name, local.state, local.heard_seconds_ago) == ("n1", NodeState.JOINING, 0.0)
    assert (local.started_us, local.stats.connections, registry.count()) == (STARTED_US, 3, 1)
    assert registry.get("n1") == local


def test_a_node_alone_that_holds_the_lease_is_healthy(clock: ManualClock) -> None:
    members = Members()
    members.write("n1")
    registry = registry_of(members, clock)
    assert registry.local().state is NodeState.HEALTHY
    assert registry.is_fresh("n1")


def test_the_holder_of_the_lease_is_the_primary_writer_however_it_is(members: Members, clock: ManualClock) -> None:
    registry = registry_of(members, clock, me="n2")
    primary = registry.primary_writer()
    assert primary is not None
    assert (primary.name, primary.state) == ("n1", NodeState.UNKNOWN)
    members.write("n2")
    assert registry.primary_writer() == registry.local()


def test_a_heartbeat_of_no_member_and_of_another_incarnation_is_counted_and_not_believed(
    members: Members, clock: ManualClock
) -> None:
    registry = registry_of(members, clock)
    for stranger in (Peer("n9", 1), Peer("n2", 2), Peer("n1", 1)):
        assert not registry.record_heartbeat(stranger, Told())
    assert registry.statistics().heartbeats_unknown_total == 3
    assert not registry.is_fresh("n2")
    assert not registry.is_fresh("n9")
    assert registry.process_health_check("n9") is None


def test_what_was_heard_ends_with_the_incarnation(members: Members, clock: ManualClock) -> None:
    registry = registry_of(members, clock)
    hear(registry, "n2")
    members.forget("n2")
    members.add("n2", incarnation=2)
    view = registry.get("n2")
    assert view is not None
    assert (view.incarnation, view.state, view.heard_seconds_ago) == (2, NodeState.UNKNOWN, None)


def test_every_frame_of_a_session_is_a_sign_of_life(members: Members, clock: ManualClock) -> None:
    eyes = Eyes()
    registry = registry_of(members, clock, eyes=eyes)
    eyes.sessions["n2"] = Session(peer=Peer("n2", 1), last_heard=clock.now())
    assert registry.is_fresh("n2")
    eyes.sessions.clear()
    assert registry.is_fresh("n2"), "a session that ends takes nothing along"
    clock.advance(1.0)
    eyes.sessions["n2"] = Session(peer=Peer("n2", 2), last_heard=clock.now())
    assert not registry.is_fresh("n2"), "another incarnation speaks for itself"


def test_a_session_breaks_once_until_the_node_is_heard_again(members: Members, clock: ManualClock) -> None:
    registry = registry_of(members, clock)
    assert not registry.session_broke("n2"), "nothing was ever heard on it"
    assert not registry.session_broke("n9")
    hear(registry, "n2")
    clock.advance(0.1)
    assert [registry.session_broke("n2") for _ in range(3)] == [True, False, False]
    clock.advance(0.1)
    hear(registry, "n2")
    clock.advance(0.1)
    assert registry.session_broke("n2")


def test_a_full_registry_refuses_one_more_and_takes_one_it_knows(members: Members, clock: ManualClock) -> None:
    registry = registry_of(members, clock, nodes_max=6)
    registry.require_room("n2")
    with pytest.raises(TooLarge, match="there are 6 nodes") as refused:
        registry.require_room("n7")
    assert refused.value.code == "too_many"
    registry_of(members, clock, nodes_max=7).require_room("n7")


def test_in_a_large_cluster_only_those_who_decide_are_watchers() -> None:
    small = Members(**{f"n{number}": "reader" for number in range(SMALL_CLUSTER_NODES)})
    assert watchers(small.catalog, ()) == set(small.catalog.nodes)
    large = Members(**{f"n{number}": "writer" for number in range(SMALL_CLUSTER_NODES + 1)})
    large.write("n7")
    large.compact("n6")
    assert watchers(large.catalog, ["n0", "n1", "n2"]) == {"n0", "n1", "n2", "n6", "n7"}


async def test_subscribers_hear_of_members_and_of_checks(members: Members, clock: ManualClock) -> None:
    registry = registry_of(members, clock)
    async with trio.open_nursery() as nursery:
        await nursery.start(registry.run)
        with registry.events().subscribe() as notices:
            members.add("n7")
            await wait_all_tasks_blocked()
            hear(registry, "n2", "n7")
            members.forget("n7")
            await wait_all_tasks_blocked()
            members.set_state("n2", "leaving")
            await wait_all_tasks_blocked()
            members.set_state("n2", "healthy")
            await wait_all_tasks_blocked()
            told: list[str] = []
            while (notice := notices.receive_nowait()) is not None:
                told.extend(f"{event.name} {event.kind}" for event in notice.events)
        nursery.cancel_scope.cancel()
    assert told == ["n7 joined", "n2 healthy", "n7 healthy", "n7 left", "n2 healthy"]


def test_the_order_of_answers_is_that_of_names_whoever_was_heard_first(clock: ManualClock) -> None:
    answers = []
    for order in (["n1", "n2", "n3"], ["n3", "n2", "n1"]):
        members = Members(**dict.fromkeys(order, "writer"))
        registry = registry_of(members, clock, me="n2")
        hear(registry, *[name for name in order if name != "n2"])
        answers.append(registry.all())
    assert answers[0] == answers[1]
