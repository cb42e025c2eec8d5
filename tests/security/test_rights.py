"""Who may do what to which rows: the whole table of it, and what a pattern is."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arc.errors import InvalidRequest
from arc.security.rights import (
    Allowed,
    Denied,
    allowed,
    allowed_somewhere,
    allowed_within,
    check_database_pattern,
    check_measurement_pattern,
    effective_permissions,
    fits,
)
from arc.security.tokens import PERMISSIONS


@dataclass(frozen=True)
class Rule:
    measurement_pattern: str
    permissions: tuple[str, ...]


@dataclass(frozen=True)
class Grant:
    database_pattern: str
    permissions: tuple[str, ...]
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Holder:
    permissions: tuple[str, ...] = ()
    grants: tuple[Grant, ...] | None = None


OWN = Holder(("read", "write"))
CLOSED = Holder(("read", "write"), ())
TEAM = Holder(("read", "write", "delete"), (Grant("plant_*", ("read",)), Grant("lab", ("read", "write"))))
NARROW = Holder(
    (), (Grant("plant", ("read", "write", "delete"), (Rule("cpu*", ("read",)), Rule("*_raw", ("write",)))),)
)
WHOLE = Holder((), (Grant("plant", ("read",), (Rule("*", ("write",)),)),))
LOCAL_ADMIN = Holder((), (Grant("plant", ("admin",)),))
ADMIN = Holder(("admin",), (Grant("plant", ("read",)),))


@pytest.mark.parametrize(
    ("holder", "action", "database", "measurement", "is_allowed"),
    [
        (OWN, "read", "any", "thing", True),
        (OWN, "write", "any", None, True),
        (OWN, "delete", "any", "thing", False),
        (CLOSED, "read", "any", "thing", False),
        (TEAM, "read", "plant_1", "cpu", True),
        (TEAM, "read", "plant_1", None, True),
        (TEAM, "write", "plant_1", "cpu", False),
        (TEAM, "delete", "plant_1", "cpu", False),
        (TEAM, "read", "plant", "cpu", False),
        (TEAM, "write", "lab", "cpu", True),
        (NARROW, "read", "plant", "cpu0", True),
        (NARROW, "write", "plant", "cpu0", False),
        (NARROW, "write", "plant", "cpu_raw", True),
        (NARROW, "delete", "plant", "cpu0", False),
        (NARROW, "read", "plant", "mem", False),
        (NARROW, "read", "plant", None, False),
        (WHOLE, "write", "plant", None, True),
        (WHOLE, "read", "plant", "cpu", False),
        (LOCAL_ADMIN, "delete", "plant", None, True),
        (LOCAL_ADMIN, "read", "lab", "cpu", False),
        (ADMIN, "delete", "lab", None, True),
    ],
)
def test_what_a_holder_may(
    holder: Holder, action: str, database: str, measurement: str | None, is_allowed: bool
) -> None:
    decision = allowed(holder, action, database, measurement)
    assert isinstance(decision, Allowed if is_allowed else Denied), decision


def test_membership_decides_alone_and_only_admin_stands_above_it() -> None:
    """Otherwise a team could add rights and never keep anybody from anything (data plane 10.6, 57)."""
    assert isinstance(allowed(OWN, "read", "lab", "cpu"), Allowed)
    assert isinstance(allowed(CLOSED, "read", "lab", "cpu"), Denied)
    assert isinstance(allowed(ADMIN, "write", "lab", "cpu"), Allowed)


def test_a_route_asks_for_a_right_on_anything_and_a_role_opens_no_door_of_the_server() -> None:
    assert effective_permissions(NARROW) == ("read", "write")
    assert effective_permissions(LOCAL_ADMIN) == ("read", "write", "delete")
    assert effective_permissions(CLOSED) == ()
    assert effective_permissions(ADMIN) == PERMISSIONS
    assert effective_permissions(OWN) == ("read", "write")
    assert not allowed_somewhere(LOCAL_ADMIN, "admin")


def test_a_database_is_seen_by_whoever_may_read_something_in_it() -> None:
    assert allowed_within(NARROW, "read", "plant")
    assert not allowed_within(WHOLE, "read", "plant")
    assert not allowed_within(NARROW, "read", "lab")
    assert not allowed_within(TEAM, "write", "plant_1")


names = st.text("ab_", max_size=5)
patterns = names | names.map(lambda name: name + "*") | names.map(lambda name: "*" + name)
lists = st.sets(st.sampled_from(PERMISSIONS)).map(tuple)
grants = st.builds(Grant, patterns, lists, st.lists(st.builds(Rule, patterns, lists), max_size=2).map(tuple))
holders = st.builds(Holder, lists, st.none() | st.lists(grants, max_size=3).map(tuple))


@given(holders, st.sampled_from(PERMISSIONS[:3]), names, names)
def test_the_narrower_question_is_never_refused_where_the_wider_is_allowed(
    holder: Holder, action: str, database: str, measurement: str
) -> None:
    """The whole database, then a measurement of it, then anything in it, then anything anywhere."""
    asked = [
        isinstance(allowed(holder, action, database, None), Allowed),
        isinstance(allowed(holder, action, database, measurement), Allowed),
        allowed_within(holder, action, database),
        allowed_somewhere(holder, action),
    ]
    assert asked == sorted(asked), asked


@given(holders, grants, st.sampled_from(PERMISSIONS[:3]), names, names)
def test_another_role_never_takes_a_right_away(
    holder: Holder, more: Grant, action: str, database: str, measurement: str
) -> None:
    if holder.grants is None or isinstance(allowed(holder, action, database, measurement), Denied):
        return
    richer = Holder(holder.permissions, (*holder.grants, more))
    assert isinstance(allowed(richer, action, database, measurement), Allowed)


@pytest.mark.parametrize(
    ("pattern", "fitting", "others"),
    [
        ("*", ["a", "plant_1"], []),
        ("plant_*", ["plant_", "plant_1"], ["plant", "xplant_1"]),
        ("plant*", ["plant", "plants"], ["Plant"]),
        ("*_raw", ["cpu_raw", "_raw"], ["cpu_rawx"]),
        ("cpu", ["cpu"], ["cpu0", "CPU", ""]),
    ],
)
def test_what_fits_a_pattern(pattern: str, fitting: list[str], others: list[str]) -> None:
    assert [name for name in [*fitting, *others] if fits(pattern, name)] == fitting


@pytest.mark.parametrize("pattern", ["", "**", "a*b", "*a*", "a.b", "a b", "ä", "x" * 66])
def test_a_pattern_that_fits_no_database_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest):
        check_database_pattern(pattern)


@pytest.mark.parametrize("pattern", ["", "**", "a*b", "a\n", "x" * 130])
def test_a_pattern_that_fits_no_measurement_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidRequest):
        check_measurement_pattern(pattern)
    assert check_measurement_pattern("disk io.*") == "disk io.*"
