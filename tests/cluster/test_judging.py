"""How one check changes what a node is thought to be: the rows of the table, and what runs of checks come to."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.catalog.roles import AGREED_STATES, NodeState, may_become
from arc.cluster.judging import Evidence, Health, HealthConfig, aligned, judge

S = NodeState
CONFIG = HealthConfig()
ALIVE, SILENT = 0.1, 5.0


def check(
    state: NodeState,
    failed: int,
    agreed: NodeState,
    ago: float | None,
    *,
    is_broken: bool = False,
    is_watching: bool = True,
    is_late: bool = False,
) -> tuple[NodeState, int]:
    evidence = Evidence(now=50.0, heard_seconds_ago=ago, is_broken=is_broken, is_watching=is_watching, is_late=is_late)
    after = judge(Health(state=state, failed_checks=failed, since=7.0), agreed, evidence, CONFIG)
    assert after.since == (7.0 if after.state is state else 50.0)
    return after.state, after.failed_checks


@pytest.mark.parametrize(
    ("state", "failed", "agreed", "ago", "expected"),
    [
        # A sign of life brings every node to what was agreed on.
        (S.UNKNOWN, 0, S.JOINING, ALIVE, (S.JOINING, 0)),
        (S.UNKNOWN, 0, S.HEALTHY, ALIVE, (S.HEALTHY, 0)),
        (S.UNKNOWN, 0, S.LEAVING, ALIVE, (S.LEAVING, 0)),
        (S.HEALTHY, 2, S.HEALTHY, ALIVE, (S.HEALTHY, 0)),
        (S.UNHEALTHY, 4, S.HEALTHY, ALIVE, (S.HEALTHY, 0)),
        (S.UNHEALTHY, 4, S.LEAVING, ALIVE, (S.LEAVING, 0)),
        (S.DEAD, 99, S.HEALTHY, ALIVE, (S.HEALTHY, 0)),
        (S.DEAD, 99, S.JOINING, ALIVE, (S.JOINING, 0)),
        (S.DEAD, 99, S.LEAVING, ALIVE, (S.LEAVING, 0)),
        (S.JOINING, 0, S.JOINING, ALIVE, (S.JOINING, 0)),
        # What is newly agreed on of a node that is seen alive holds at once, even in a check that fails.
        (S.JOINING, 0, S.HEALTHY, SILENT, (S.HEALTHY, 1)),
        (S.HEALTHY, 0, S.LEAVING, SILENT, (S.LEAVING, 1)),
        (S.LEAVING, 0, S.HEALTHY, ALIVE, (S.HEALTHY, 0)),
        # Two failures change nothing, the third one does.
        (S.HEALTHY, 0, S.HEALTHY, SILENT, (S.HEALTHY, 1)),
        (S.HEALTHY, 1, S.HEALTHY, SILENT, (S.HEALTHY, 2)),
        (S.HEALTHY, 2, S.HEALTHY, SILENT, (S.UNHEALTHY, 3)),
        (S.UNHEALTHY, 4, S.HEALTHY, SILENT, (S.UNHEALTHY, 5)),
        (S.UNHEALTHY, 5, S.HEALTHY, SILENT, (S.DEAD, 6)),
        (S.DEAD, 6, S.HEALTHY, SILENT, (S.DEAD, 7)),
        # Who was not relied on is never unhealthy, only dead in the end.
        (S.JOINING, 4, S.JOINING, SILENT, (S.JOINING, 5)),
        (S.JOINING, 5, S.JOINING, SILENT, (S.DEAD, 6)),
        (S.LEAVING, 2, S.LEAVING, SILENT, (S.LEAVING, 3)),
        (S.LEAVING, 5, S.LEAVING, SILENT, (S.DEAD, 6)),
        (S.UNKNOWN, 2, S.HEALTHY, None, (S.UNKNOWN, 3)),
        (S.UNKNOWN, 5, S.HEALTHY, None, (S.DEAD, 6)),
        # A dead node that is told to leave is still dead, and so is an unhealthy one ill.
        (S.DEAD, 9, S.LEAVING, SILENT, (S.DEAD, 10)),
        (S.UNHEALTHY, 3, S.LEAVING, SILENT, (S.UNHEALTHY, 4)),
        # Exactly the time-out is still in time.
        (S.HEALTHY, 2, S.HEALTHY, CONFIG.check_timeout_seconds, (S.HEALTHY, 0)),
    ],
)
def test_a_check(
    state: NodeState, failed: int, agreed: NodeState, ago: float | None, expected: tuple[NodeState, int]
) -> None:
    assert check(state, failed, agreed, ago) == expected


def test_a_broken_session_counts_at_once_and_kills_nobody_who_was_just_heard() -> None:
    assert check(S.HEALTHY, 0, S.HEALTHY, ALIVE, is_broken=True) == (S.HEALTHY, 1)
    assert check(S.HEALTHY, 7, S.HEALTHY, ALIVE, is_broken=True) == (S.HEALTHY, 8), "the silence has to be there too"
    assert check(S.HEALTHY, 7, S.HEALTHY, SILENT, is_broken=True)[0] is S.UNHEALTHY


def test_a_check_of_a_node_that_was_held_up_itself_proves_nothing() -> None:
    assert check(S.HEALTHY, 2, S.HEALTHY, SILENT, is_late=True) == (S.HEALTHY, 2)
    assert check(S.HEALTHY, 2, S.HEALTHY, ALIVE, is_late=True) == (S.HEALTHY, 0)


def test_who_is_told_at_the_slow_pace_is_patient() -> None:
    between = CONFIG.far_timeout_seconds
    assert check(S.HEALTHY, 2, S.HEALTHY, between, is_watching=False) == (S.HEALTHY, 0)
    assert check(S.HEALTHY, 2, S.HEALTHY, between + 0.1, is_watching=False) == (S.UNHEALTHY, 3)
    assert check(S.HEALTHY, 2, S.HEALTHY, between) == (S.UNHEALTHY, 3)


def test_a_node_that_was_never_heard_is_not_counted_against_before_this_one_has_listened() -> None:
    assert check(S.UNKNOWN, 0, S.HEALTHY, None, is_watching=False) == (S.UNKNOWN, 0)


@pytest.mark.parametrize(
    ("knobs", "rule"),
    [
        ({"heartbeat_seconds": 0.0}, "heartbeat_seconds"),
        ({"far_heartbeat_seconds": 0.1}, "far_heartbeat_seconds"),
        ({"check_interval_seconds": 0.0}, "check_interval_seconds"),
        ({"check_timeout_seconds": 0.5}, "one may be lost"),
        ({"unhealthy_threshold": 0}, "unhealthy_threshold"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(knobs: dict[str, float], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        HealthConfig(**knobs)  # type: ignore[arg-type]


CHECKS = st.lists(
    st.tuples(
        st.sampled_from([None, 0.0, 0.3, 0.7, 3.0, 60.0]),
        st.booleans(),
        st.booleans(),
        st.booleans(),
        st.sampled_from(AGREED_STATES),
    ),
    max_size=30,
)


@given(CHECKS)
def test_every_step_is_in_the_table_or_goes_through_healthy(
    checks: list[tuple[float | None, bool, bool, bool, NodeState]],
) -> None:
    health, states = Health(), [NodeState.UNKNOWN]
    for at, (ago, is_broken, is_watching, is_late, agreed) in enumerate(checks):
        evidence = Evidence(
            now=at, heard_seconds_ago=ago, is_broken=is_broken, is_watching=is_watching, is_late=is_late
        )
        states.append(aligned(states[-1], agreed))
        health = judge(health, agreed, evidence, CONFIG)
        states.append(health.state)
        is_alive = ago is not None and ago <= CONFIG.check_timeout_seconds and not is_broken
        assert not is_alive or (health.state, health.failed_checks) == (agreed, 0)
    for old, new in pairwise(states):
        through = may_become(old, S.HEALTHY) and may_become(S.HEALTHY, new)
        assert old is new or may_become(old, new) or through, (old, new)


@given(st.lists(st.sampled_from([0.0, 0.3, 0.59]), max_size=40))
def test_who_is_heard_is_never_ill(pauses: list[float]) -> None:
    health = Health(state=S.HEALTHY)
    for ago in pauses:
        health = judge(health, S.HEALTHY, Evidence(now=0.0, heard_seconds_ago=ago), CONFIG)
        assert health.state is S.HEALTHY
