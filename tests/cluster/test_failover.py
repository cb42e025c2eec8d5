"""Who should hold a lease: every row of the policy, and that nothing but facts and views decides."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.commands import COMPACTOR, WRITER, AssignLease
from arc.catalog.roles import NodeRole, NodeState
from arc.cluster.failover import (
    PREEMPT_COOLDOWNS,
    Decision,
    FailoverConfig,
    LeasePolicy,
    Moment,
    Verdict,
    compactor_policy,
    cooldown_left,
    decide,
    plan_move,
    writer_policy,
)
from arc.cluster.judging import HealthConfig
from arc.cluster.views import NodeView
from arc.errors import ArcError, Conflict, NotFound, Unavailable
from arc.ids import NodeId
from tests.cluster.members import Members

CONFIG, HEALTH = FailoverConfig(), HealthConfig()
WRITERS, COMPACTORS = writer_policy(CONFIG, HEALTH), compactor_policy(CONFIG, HEALTH)
LATER_US = 10_000_000_000
"""Long after everything in the history."""


def cluster(*, in_sync: tuple[str, ...] = ("n1", "n2", "n3")) -> Members:
    """n1 to n3 may write, n4 reads, n5 compacts; n1 holds the writer's lease and n5 the compactor's."""
    members = Members(n1="writer", n2="writer", n3="standalone", n4="reader", n5="compactor")
    members.write("n1")
    members.in_sync(*in_sync)
    members.compact("n5")
    return members


def ask(
    members: Members,
    views: list[NodeView],
    policy: LeasePolicy = WRITERS,
    *,
    now_us: int = LATER_US,
    known_seconds: float = 1e4,
) -> Decision:
    return decide(members.catalog, views, Moment(now_us=now_us, known_seconds=known_seconds), policy)


def seen(members: Members, **states: str) -> list[NodeView]:
    return members.views(**states)


def waits(decision: Decision) -> float:
    """For how long."""
    assert decision.verdict is Verdict.WAIT, decision
    assert decision.look_again_seconds is not None
    return decision.look_again_seconds


def target(decision: Decision) -> str | None:
    assert (decision.command is None) == (decision.verdict is not Verdict.MOVE), decision
    return decision.command.node if decision.command is not None else None


# --------------------------------------------------------------------------------------------------- the writer's lease


def test_a_healthy_holder_keeps_it() -> None:
    members = cluster()
    decision = ask(members, seen(members))
    assert (decision.verdict, decision.reason) == (Verdict.KEEP, "n1 holds it and is healthy")
    assert (decision.holder, decision.epoch) == ("n1", members.catalog.lease_epoch(WRITER))


@pytest.mark.parametrize("state", ["unhealthy", "dead"])
def test_a_silent_holder_is_replaced_by_compare_and_set(state: str) -> None:
    """P-19."""
    members = cluster()
    decision = ask(members, seen(members, n1=state))
    assert decision.command == AssignLease(
        lease=WRITER,
        node=NodeId("n2"),
        expect_epoch=members.catalog.lease_epoch(WRITER),
        reason=f"n1 is {state} and silent for 10.0 s; n2 is in sync and healthy, and durable up to 0",
        at_us=LATER_US,
    )
    assert not decision.is_planned


def test_a_holder_whose_disk_stands_still_is_replaced_and_not_asked_to_finish_first() -> None:
    """It is heard, so nobody would miss it; and it can finish nothing."""
    members = cluster()
    views = [members.view("n1", stalled=6.04), members.view("n2"), members.view("n3")]
    decision = ask(members, views)
    assert target(decision) == "n2"
    assert decision.reason == "the disk of n1 stands still for 6.0 s; n2 is in sync and healthy, and durable up to 0"
    assert not decision.is_planned
    off = ask(members, views, replace(WRITERS, is_automatic=False))
    assert (off.verdict, off.command) == (Verdict.WAIT, None)
    assert ask(members, [*views, members.view("n5", stalled=6.0)], COMPACTORS).verdict is Verdict.KEEP
    moved = failed_over(at_us=1_000_000)
    just_now = ask(moved, [moved.view("n1"), moved.view("n2", stalled=6.0)], now_us=3_000_000, known_seconds=0.0)
    assert waits(just_now) == pytest.approx(3.0), "where every disk is slow, the lease does not go round and round"


def test_whoever_has_a_disk_that_stands_still_takes_nothing_over() -> None:
    members = cluster()
    dead = members.view("n1", "dead", silent=9.0)
    views = [dead, members.view("n2", durable=9, stalled=5.5), members.view("n3", durable=4)]
    decision = ask(members, views)
    assert target(decision) == "n3"
    assert {each.name: each.reason for each in decision.candidates}["n2"] == "has a disk that stands still"
    everybody = [dead, *(members.view(name, stalled=5.5) for name in ("n2", "n3"))]
    assert ask(members, everybody).verdict is Verdict.STUCK


def test_the_first_election_is_a_replacement_of_nobody() -> None:
    """P-18: no other code path, no cooldown, whatever is switched off."""
    members = Members(n1="writer", n2="writer", n4="reader")
    views = [members.view("n1", durable=3), members.view("n2", durable=8), members.view("n4", durable=9)]
    for policy in (WRITERS, replace(WRITERS, is_automatic=False)):
        decision = ask(members, views, policy, now_us=0, known_seconds=0.0)
        assert decision.command is not None
        assert (decision.command.node, decision.command.expect_epoch) == ("n2", 0)


def test_the_longest_log_in_the_in_sync_set_wins_and_names_decide_between_equals() -> None:
    """P-20."""
    members = cluster()
    dead = members.view("n1", "dead", silent=9.0, durable=99)
    rows = [((5, 5), "n2"), ((5, 6), "n3"), ((7, 6), "n2"), ((0, 0), "n2")]
    for (second, third), expected in rows:
        views = [dead, members.view("n2", durable=second), members.view("n3", durable=third)]
        assert target(ask(members, views)) == expected


def test_whoever_is_not_in_sync_never_takes_over_however_long_its_log() -> None:
    members = cluster(in_sync=("n1", "n3"))
    views = [members.view("n1", "dead", silent=9.0), members.view("n2", durable=99), members.view("n3", durable=1)]
    decision = ask(members, views)
    assert target(decision) == "n3"
    reasons = {str(each.name): (each.code, each.reason) for each in decision.candidates}
    assert reasons["n2"] == ("not_in_sync", "is not in sync, so it may lack acknowledged rows")
    assert reasons["n4"][0] == "cannot_hold"
    assert reasons["n1"] == ("already_holds", "holds it already")


def test_without_an_in_sync_candidate_writes_stay_down_and_it_says_what_brings_them_back() -> None:
    members = cluster(in_sync=("n1", "n3"))
    decision = ask(members, seen(members, n1="dead", n3="unhealthy"))
    assert decision.verdict is Verdict.STUCK
    assert "n1 (dead), n3 (unhealthy)" in decision.reason
    assert "--accept-data-loss" in decision.reason


def test_where_the_last_one_in_sync_was_removed_nobody_is_waited_for() -> None:
    """World seed 655050: it was said to wait until "one of them" is healthy, and there is none of them."""
    members = cluster(in_sync=("n1",))
    members.forget("n1")
    decision = ask(members, seen(members))
    assert decision.verdict is Verdict.STUCK
    assert decision.reason.endswith(
        "whoever was known to hold every acknowledged row was removed; writes go on after "
        "'arc cluster promote NODE --accept-data-loss', with the rows that NODE has"
    )


def test_an_in_sync_set_of_the_dead_holder_alone_moves_nothing() -> None:
    members = cluster(in_sync=("n1",))
    assert ask(members, seen(members, n1="dead")).verdict is Verdict.STUCK


@pytest.mark.parametrize(
    ("state", "agreed", "why_not"),
    [
        ("unhealthy", "healthy", "is unhealthy"),
        ("dead", "healthy", "is dead"),
        ("unknown", "healthy", "was not heard of yet"),
        ("joining", "joining", "is joining"),
        ("healthy", "joining", "is joining"),
        ("healthy", "leaving", "is leaving"),
        ("leaving", "leaving", "is leaving"),
    ],
)
def test_a_candidate_is_healthy_and_stays(state: str, agreed: str, why_not: str) -> None:
    members = cluster(in_sync=("n1", "n2"))
    if agreed != "healthy":
        members.set_state("n2", agreed)
    decision = ask(members, [members.view("n1", "dead", silent=9.0), members.view("n2", state)])
    assert decision.verdict is Verdict.STUCK
    assert ("n2", why_not) in [(each.name, each.reason) for each in decision.candidates]


def test_a_slow_holder_is_not_replaced() -> None:
    """Numbers do not count, nor how old the last heartbeat is: only the verdict of the checks."""
    members = cluster()
    slow = members.view("n1", "healthy", silent=0.9)
    views = [replace(slow, failed_checks=2), members.view("n2", durable=1000), members.view("n3")]
    assert ask(members, views).verdict is Verdict.KEEP


def test_a_holder_that_was_heard_since_the_check_is_not_replaced() -> None:
    members = cluster()
    decision = ask(members, [members.view("n1", "unhealthy", silent=0.05), members.view("n2")])
    assert waits(decision) == pytest.approx(0.55)


def test_a_holder_that_was_never_heard_is_waited_for_until_it_counts_as_dead() -> None:
    """A leader that has just started has heard nobody."""
    members = cluster()
    unknown = [members.view("n1", "unknown", silent=None), members.view("n2")]
    assert ask(members, unknown).verdict is Verdict.KEEP
    dead = [members.view("n1", "dead", silent=None, seconds=1.0), members.view("n2")]
    assert target(ask(members, dead)) == "n2"


def test_a_holder_that_leaves_is_asked_to_finish_first() -> None:
    members = cluster()
    members.set_state("n1", "leaving")
    decision = ask(members, seen(members), now_us=0, known_seconds=0.0)
    assert (target(decision), decision.is_planned) == ("n2", True)
    gone = ask(members, seen(members, n1="dead"), now_us=0, known_seconds=0.0)
    assert (target(gone), gone.is_planned) == ("n2", False)


def test_a_holder_that_leaves_keeps_it_while_nobody_can_take_it() -> None:
    members = cluster(in_sync=("n1",))
    members.set_state("n1", "leaving")
    decision = ask(members, seen(members))
    assert decision.verdict is Verdict.STUCK
    assert decision.reason.startswith("n1 is leaving, and nobody can take over")


def test_a_holder_that_is_no_member_any_more_is_replaced_at_once() -> None:
    members = cluster()
    members.forget("n1")
    decision = ask(members, seen(members), now_us=0, known_seconds=0.0)
    assert (target(decision), decision.is_planned) == ("n2", False)
    assert decision.reason.startswith("nobody holds the lease")


def test_a_holder_that_became_a_reader_is_replaced() -> None:
    members = cluster()
    members.add("n1", "reader")
    assert target(ask(members, seen(members), now_us=0, known_seconds=0.0)) == "n2"


def test_a_node_alone_that_is_not_described_decides_nothing() -> None:
    members = Members()
    members.write("n1")
    assert ask(members, [members.view("n1", "dead")]).verdict is Verdict.KEEP


def test_views_of_nodes_that_are_no_members_do_not_count() -> None:
    members = cluster()
    ghost = members.view("n9", durable=10**9)
    views = [*seen(members, n1="dead"), ghost]
    assert target(ask(members, views)) == "n2"


# ------------------------------------------------------------------------------------------------------------ cooldowns


def failed_over(at_us: int) -> Members:
    """The writer's lease went from n1 to n2 at this time, and n1 is in sync again."""
    members = cluster()
    members.write("n2", at_us=at_us)
    members.in_sync("n1", "n2", "n3")
    return members


def test_a_cooldown_follows_a_move_and_is_known_to_the_next_leader() -> None:
    """P-21: reckoned from the history in the catalog. P-44: cooldown_seconds."""
    members = failed_over(at_us=1_000_000)
    views = seen(members, n2="dead")
    held = ask(members, views, now_us=3_000_000, known_seconds=0.0)
    assert waits(held) == pytest.approx(3.0)
    assert target(ask(members, views, now_us=6_000_000, known_seconds=0.0)) == "n1"
    quick = writer_policy(FailoverConfig(cooldown_seconds=1.0), HEALTH)
    assert target(ask(members, views, quick, now_us=3_000_000, known_seconds=0.0)) == "n1"


def test_no_cooldown_after_a_first_election_or_a_new_epoch_of_the_same_holder() -> None:
    members = cluster()
    members.write("n1", at_us=LATER_US)
    assert target(ask(members, seen(members, n1="dead"), now_us=LATER_US, known_seconds=0.0)) == "n2"


def test_no_cooldown_for_who_leaves() -> None:
    members = failed_over(at_us=1_000_000)
    members.set_state("n2", "leaving")
    assert target(ask(members, seen(members), now_us=1_000_001, known_seconds=0.0)) == "n1"


@pytest.mark.parametrize(
    ("now_us", "known_seconds", "left"),
    [
        (1_000_000, 0.0, 5.0),
        (4_000_000, 0.0, 2.0),
        (4_000_000, 3.5, 1.5),
        (9_000_000, 0.0, 0.0),
        (-3_600_000_000, 0.0, 5.0),  # the wall clock jumped back by an hour
        (-3_600_000_000, 4.0, 1.0),
        (-3_600_000_000, 5.0, 0.0),
        (3_600_000_000, 0.0, 0.0),  # ahead
    ],
)
def test_a_wall_clock_that_jumps_never_makes_a_cooldown_longer(now_us: int, known_seconds: float, left: float) -> None:
    members = failed_over(at_us=1_000_000)
    at = Moment(now_us=now_us, known_seconds=known_seconds)
    assert cooldown_left(members.catalog, WRITER, at, 5.0) == pytest.approx(left)


def test_each_lease_has_its_own_cooldown() -> None:
    members = failed_over(at_us=1_000_000)
    at = Moment(now_us=1_000_000, known_seconds=0.0)
    assert cooldown_left(members.catalog, COMPACTOR, at, 60.0) == 0.0


def test_a_flapping_holder_moves_the_lease_once_in_a_cooldown() -> None:
    """Whoever holds it is ill at every look, ten times a second for a minute."""
    members = failed_over(at_us=0)
    moves = 0
    for tick in range(600):
        now_us, holder = tick * 100_000, members.catalog.leases[WRITER].holder
        since = (now_us - members.catalog.leases[WRITER].granted_us) / 1e6
        decision = ask(members, seen(members, **{holder: "unhealthy"}), now_us=now_us, known_seconds=since)
        if decision.command is not None:
            moves += 1
            members.do(decision.command)
            members.in_sync("n1", "n2", "n3")
    assert moves == 11


def test_an_attempt_that_was_refused_arms_nothing() -> None:
    members = cluster()
    command = ask(members, seen(members, n1="dead")).command
    assert command is not None
    members.in_sync("n1", "n3")
    assert not members.ask(command).ok
    assert target(ask(members, seen(members, n1="dead"), known_seconds=0.0)) == "n3"


# ------------------------------------------------------------------------------------------------ failover switched off


def test_switched_off_only_what_an_operator_did_moves_a_lease() -> None:
    """P-44: enabled."""
    off = writer_policy(FailoverConfig(enabled=False), HEALTH)
    members = cluster()
    decision = ask(members, seen(members, n1="dead"), off)
    assert decision.verdict is Verdict.WAIT
    assert decision.reason.endswith("failover is off: somebody has to move it by hand")
    members.set_state("n1", "leaving")
    assert target(ask(members, seen(members), off)) == "n2"


# ------------------------------------------------------------------------------------------------ the compactor's lease


def test_a_dedicated_compactor_is_preferred_then_who_does_not_write_a_reader_never() -> None:
    members = Members(n1="writer", n2="writer", n4="reader", n5="compactor")
    members.write("n1")
    assert target(ask(members, seen(members), COMPACTORS)) == "n5"
    assert target(ask(members, seen(members, n5="dead"), COMPACTORS)) == "n2"
    assert target(ask(members, seen(members, n5="dead", n2="dead"), COMPACTORS)) == "n1"
    stuck = ask(members, seen(members, n5="dead", n2="dead", n1="dead"), COMPACTORS)
    assert stuck.verdict is Verdict.STUCK
    assert "start a node of role compactor or writer" in stuck.reason


def test_a_compactor_is_waited_for_longer() -> None:
    """P-44: compactor_patience_seconds."""
    members = cluster()

    def views(silent: float) -> list[NodeView]:
        return [members.view("n1"), members.view("n2"), members.view("n5", "dead", silent=silent)]

    waiting = ask(members, views(4.0), COMPACTORS)
    assert waits(waiting) == pytest.approx(6.0)
    assert target(ask(members, views(10.0), COMPACTORS)) == "n2"
    hasty = compactor_policy(FailoverConfig(compactor_patience_seconds=1.0), HEALTH)
    assert target(ask(members, views(4.0), hasty)) == "n2"


def stood_in(at_us: int = 0) -> Members:
    """n2 took the compactor's lease over from n5."""
    members = cluster()
    members.compact("n2", at_us=at_us)
    return members


def test_a_dedicated_compactor_takes_it_back_once_it_has_been_healthy_for_a_while() -> None:
    """P-44: preempt_after_seconds."""
    members = stood_in()

    def views(seconds: float) -> list[NodeView]:
        return [members.view("n1"), members.view("n2"), members.view("n5", seconds=seconds)]

    waiting = ask(members, views(20.0), COMPACTORS)
    assert waits(waiting) == pytest.approx(40.0)
    decision = ask(members, views(60.0), COMPACTORS)
    assert (target(decision), decision.is_planned) == ("n5", True)
    assert decision.reason == "n2 stands in for a dedicated compactor; n5 is a healthy compactor"
    soon = compactor_policy(FailoverConfig(preempt_after_seconds=5.0), HEALTH)
    assert target(ask(members, views(20.0), soon)) == "n5"


def test_it_is_not_taken_back_soon_after_it_was_moved() -> None:
    """P-44: compactor_cooldown_seconds, ten times of it here."""
    members = stood_in()
    cooldown = CONFIG.compactor_cooldown_seconds * PREEMPT_COOLDOWNS
    early = ask(members, seen(members), COMPACTORS, now_us=0, known_seconds=cooldown - 7)
    assert waits(early) == pytest.approx(7.0)
    assert target(ask(members, seen(members), COMPACTORS, now_us=0, known_seconds=cooldown)) == "n5"
    short = compactor_policy(FailoverConfig(compactor_cooldown_seconds=1.0), HEALTH)
    assert target(ask(members, seen(members), short, now_us=0, known_seconds=10.0)) == "n5"


def test_a_stand_in_that_fell_silent_is_replaced_after_the_short_cooldown() -> None:
    members = stood_in()
    views = seen(members, n2="dead")
    assert ask(members, views, COMPACTORS, now_us=0, known_seconds=59.0).verdict is Verdict.WAIT
    assert target(ask(members, views, COMPACTORS, now_us=0, known_seconds=60.0)) == "n5"


def test_a_stand_in_of_a_first_election_gives_way_without_a_cooldown() -> None:
    members = Members(n1="writer", n2="writer")
    members.write("n1")
    members.compact("n2", at_us=LATER_US)
    members.add("n5", "compactor")
    assert target(ask(members, seen(members), COMPACTORS, known_seconds=0.0)) == "n5"


def test_a_lease_never_moves_between_writers_or_away_from_a_dedicated_compactor() -> None:
    members = Members(n1="writer", n2="writer", n5="compactor", n6="compactor")
    members.compact("n6")
    assert ask(members, seen(members), COMPACTORS).verdict is Verdict.KEEP
    others = Members(n1="writer", n2="writer", n3="standalone")
    others.compact("n3")
    assert ask(others, seen(others), COMPACTORS).verdict is Verdict.KEEP


def test_nothing_is_taken_back_while_failover_is_off() -> None:
    off = compactor_policy(FailoverConfig(enabled=False), HEALTH)
    members = stood_in()
    assert ask(members, seen(members), off).verdict is Verdict.KEEP


def test_how_long_a_compactor_is_left_in_peace_is_ten_cooldowns() -> None:
    """What `POST /compactor/assign` promises; it used to say one, though nobody preempts before ten."""
    assert compactor_policy(FailoverConfig(compactor_cooldown_seconds=7.0), HEALTH).kept_seconds == 70.0
    assert writer_policy(FailoverConfig(cooldown_seconds=5.0), HEALTH).kept_seconds == 5.0


@pytest.mark.parametrize(
    "key", ["cooldown_seconds", "compactor_patience_seconds", "compactor_cooldown_seconds", "preempt_after_seconds"]
)
def test_a_negative_time_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=key):
        FailoverConfig(**{key: -1.0})  # type: ignore[arg-type]


# -------------------------------------------------------------------------------------------------------- moves by hand


def plan(members: Members, views: list[NodeView], to: str | None, lease: str = WRITER) -> AssignLease:
    return plan_move(members.catalog, views, lease, NodeId(to) if to else None, "maintenance", 5)


def test_an_operator_names_a_node_or_leaves_the_choice() -> None:
    members = cluster()
    assert plan(members, seen(members), None).node == "n2"
    chosen = plan(members, seen(members), "n3")
    assert (chosen.node, chosen.expect_epoch) == ("n3", members.catalog.lease_epoch(WRITER))
    assert chosen.reason == "maintenance; n3 is in sync and healthy, and durable up to 0"


def test_an_operator_is_not_bound_by_cooldowns() -> None:
    members = failed_over(at_us=5)
    assert plan(members, seen(members), "n1").node == "n1"


@pytest.mark.parametrize(
    ("to", "family", "code"),
    [
        ("n1", Conflict, "already_holds"),
        ("n3", Conflict, "not_in_sync"),
        ("n4", Conflict, "cannot_hold"),
        ("n9", NotFound, "not_found"),
    ],
)
def test_an_impossible_target_is_refused_with_a_reason(to: str, family: type[ArcError], code: str) -> None:
    members = cluster(in_sync=("n1", "n2"))
    with pytest.raises(family) as refused:
        plan(members, seen(members), to)
    assert refused.value.code == code


def test_a_sick_target_and_no_target_at_all_are_refused() -> None:
    members = cluster(in_sync=("n1", "n2"))
    with pytest.raises(Conflict) as sick:
        plan(members, seen(members, n2="unhealthy"), "n2")
    assert sick.value.code == "not_healthy"
    with pytest.raises(Unavailable, match="known to hold every acknowledged row") as nobody:
        plan(members, seen(members, n2="unhealthy"), None)
    assert nobody.value.code == "no_candidate"
    with pytest.raises(Conflict, match="nobody holds"):
        plan(Members(n1="writer"), [], None)


# ------------------------------------------------------------------------------------------------------------- whatever

ROLES = st.sampled_from([role.value for role in NodeRole])
STATES = st.sampled_from([state.value for state in NodeState])
AGREED = st.sampled_from(["joining", "healthy", "leaving"])


@st.composite
def situations(draw: st.DrawFn) -> tuple[Members, list[NodeView], Moment, LeasePolicy]:
    """Any cluster, any history of grants, any way to see it."""
    members = Members()
    for number in range(draw(st.integers(1, 6))):
        members.add(f"n{number}", draw(ROLES), state=draw(AGREED))
    names = sorted(members.catalog.nodes)
    for _ in range(draw(st.integers(0, 4))):
        lease = draw(st.sampled_from([WRITER, COMPACTOR]))
        epoch, at_us = members.catalog.lease_epoch(lease), draw(st.integers(0, 20_000_000))
        name = NodeId(draw(st.sampled_from(names)))
        members.ask(AssignLease(lease=lease, node=name, expect_epoch=epoch, at_us=at_us))
    if members.catalog.in_sync is not None:
        holder = members.catalog.leases[WRITER].holder
        able = [name for name in names if NodeRole(members.catalog.nodes[name].role).capabilities.can_ingest]
        members.in_sync(*{holder, *draw(st.lists(st.sampled_from(able), max_size=5))})
    if len(names) > 1 and draw(st.booleans()):
        members.forget(draw(st.sampled_from(names)))
    silences = st.none() | st.floats(0.0, 100.0)
    views = [
        members.view(
            name,
            draw(STATES),
            silent=draw(silences),
            seconds=draw(st.floats(0.0, 200.0)),
            durable=draw(st.integers(0, 3)),
        )
        for name in names
    ]
    at = Moment(now_us=draw(st.integers(-(10**7), 10**9)), known_seconds=draw(st.floats(0.0, 1000.0)))
    config = FailoverConfig(enabled=draw(st.booleans()))
    policy = draw(st.sampled_from([writer_policy(config, HEALTH), compactor_policy(config, HEALTH)]))
    return members, views, at, policy


@given(situations(), st.randoms(use_true_random=False))
def test_whatever_is_decided_the_catalog_accepts_it_once(
    situation: tuple[Members, list[NodeView], Moment, LeasePolicy], chance: random.Random
) -> None:
    """Never out of sync, never to a node that is ill or may not; the same from every order of views; never twice."""
    members, views, at, policy = situation
    decision = decide(members.catalog, views, at, policy)
    chance.shuffle(views)
    assert decide(members.catalog, views, at, policy) == decision
    assert decision.reason
    assert len(decision.candidates) == len(members.catalog.nodes)
    if decision.command is None:
        return
    command, catalog = decision.command, members.catalog
    record = catalog.nodes[command.node]
    assert record.state == NodeState.HEALTHY
    assert next(view for view in views if view.name == command.node).state is NodeState.HEALTHY
    assert command.node != decision.holder
    assert not command.accepts_data_loss
    if policy.lease == WRITER and catalog.in_sync is not None:
        assert command.node in catalog.in_sync.members
    assert members.ask(command).ok
    assert not members.ask(command).ok, "two leaders that decide the same move it once"
    again = decide(members.catalog, views, at, policy)
    assert again.epoch > decision.epoch
    assert again.verdict in (Verdict.KEEP, Verdict.WAIT), "one grant is enough"
