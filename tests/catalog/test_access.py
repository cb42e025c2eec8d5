"""Leases and tokens: compare-and-set for the one, ids that never come back for the other."""

from __future__ import annotations

import pytest

from arc.catalog.commands import (
    COMPACTOR,
    WRITER,
    AssignLease,
    CreateToken,
    DeleteToken,
    RevokeToken,
    RotateToken,
    UpdateToken,
)
from arc.catalog.events import InSyncChanged, LeaseAssigned, TokensChanged
from arc.catalog.fsm import ClusterFSM, Lease
from arc.ids import Epoch, NodeId
from tests.catalog.facts import do, refused


def assign(node: str, expect: int, lease: str = WRITER) -> AssignLease:
    return AssignLease(lease=lease, node=NodeId(node), expect_epoch=expect)


def test_the_epoch_is_the_index_of_the_grant() -> None:
    machine = ClusterFSM()
    applied = machine.apply(4, assign("n1", 0))
    assert applied.events == (
        LeaseAssigned(WRITER, NodeId("n1"), Epoch(4), None),
        InSyncChanged(Epoch(4), (NodeId("n1"),)),
    )
    assert machine.catalog.leases[WRITER] == Lease(WRITER, NodeId("n1"), Epoch(4))
    assert applied.result.value == 4
    applied = machine.apply(6, assign("n1", 4))
    assert applied.events == (
        LeaseAssigned(WRITER, NodeId("n1"), Epoch(6), NodeId("n1")),
        InSyncChanged(Epoch(6), (NodeId("n1"),)),
    )


@pytest.mark.parametrize("expect", [0, 3, 5])
def test_a_grant_that_expects_another_epoch_is_refused(expect: int) -> None:
    """P-19."""
    machine = ClusterFSM()
    machine.apply(4, assign("n1", 0))
    assert refused(machine, assign("n2", expect)).code == "stale_epoch"


def test_leases_are_independent_and_known_by_name() -> None:
    machine = ClusterFSM()
    do(machine, assign("n1", 0))
    do(machine, assign("n2", 0, COMPACTOR))
    assert refused(machine, assign("n1", 0, "janitor")).code == "invalid"
    assert refused(machine, assign("", 1)).code == "invalid"


def token(name: str, hash_hex: str | None = None, permissions: tuple[str, ...] = ("read", "write")) -> CreateToken:
    return CreateToken(name=name, hash=hash_hex or f"hash of {name}", permissions=permissions, created_us=1)


def test_ids_count_up_and_are_never_given_again() -> None:
    machine = ClusterFSM()
    assert do(machine, token("a")).value == 1
    do(machine, DeleteToken(id=1))
    assert do(machine, token("a")).value == 2
    assert machine.catalog.tokens.keys() == {2}


def test_a_token_is_found_by_hash_until_it_is_rotated() -> None:
    machine = ClusterFSM()
    do(machine, token("a", "h1"))
    found = machine.catalog.token_by_hash("h1")
    assert found is not None
    assert (found.id, found.enabled, found.permissions) == (1, True, ("read", "write"))
    applied = machine.apply(9, RotateToken(id=1, hash="h2"))
    assert applied.events == (TokensChanged((1,)),)
    assert machine.catalog.token_by_hash("h1") is None
    assert machine.catalog.token_by_hash("h2") is not None


def test_names_and_secrets_are_unique() -> None:
    machine = ClusterFSM()
    do(machine, token("a", "h1"))
    do(machine, token("b", "h2"))
    assert refused(machine, token("a", "h3")).code == "exists"
    assert refused(machine, token("c", "h1")).code == "exists"
    assert refused(machine, UpdateToken(id=2, name="a")).code == "exists"
    assert refused(machine, RotateToken(id=2, hash="h1")).code == "exists"
    assert do(machine, UpdateToken(id=2, name="b")).ok


@pytest.mark.parametrize(
    "command",
    [
        token(""),
        token(" a"),
        token("a\n"),
        token("x" * 129),
        token("a", permissions=("root",)),
        CreateToken(name="a", hash="", created_us=1),
        CreateToken(name="a", hash="h", description="x" * 2000, created_us=1),
    ],
)
def test_broken_tokens_are_refused(command: CreateToken) -> None:
    assert refused(ClusterFSM(), command).code == "invalid"


def test_permissions_are_kept_in_one_order_without_doubles_and_may_be_none() -> None:
    machine = ClusterFSM()
    do(machine, token("a", permissions=("admin", "read", "read")))
    do(machine, token("b", permissions=()))
    assert machine.catalog.tokens[1].permissions == ("read", "admin")
    assert machine.catalog.tokens[2].permissions == ()


def test_an_update_changes_what_it_names() -> None:
    machine = ClusterFSM()
    do(machine, token("a"))
    do(machine, UpdateToken(id=1, description="d", permissions=("read",), expires_us=5, enabled=False))
    record = machine.catalog.tokens[1]
    assert (record.name, record.description, record.permissions, record.expires_us, record.enabled) == (
        "a",
        "d",
        ("read",),
        5,
        False,
    )
    do(machine, UpdateToken(id=1, never_expires=True))
    assert machine.catalog.tokens[1].expires_us is None
    assert refused(machine, UpdateToken(id=1, never_expires=True, expires_us=7)).code == "invalid"


def test_revoking_keeps_the_record_and_twice_changes_nothing() -> None:
    machine = ClusterFSM()
    do(machine, token("a"))
    do(machine, RevokeToken(id=1))
    assert machine.catalog.tokens[1].enabled is False
    before = machine.catalog
    do(machine, RevokeToken(id=1))
    assert machine.catalog.same_facts(before)


@pytest.mark.parametrize(
    "command", [UpdateToken(id=7), RotateToken(id=7, hash="h"), RevokeToken(id=7), DeleteToken(id=7)]
)
def test_a_token_that_is_not_there_cannot_be_changed(command: UpdateToken) -> None:
    assert refused(ClusterFSM(), command).code == "not_found"


def admin(name: str, **facts: object) -> CreateToken:
    given: dict[str, object] = dict(name=name, hash=f"hash of {name}", permissions=("admin",), created_us=0)
    return CreateToken(**(given | facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "command",
    [
        DeleteToken(id=1),
        RevokeToken(id=1),
        UpdateToken(id=1, enabled=False),
        UpdateToken(id=1, permissions=("read",)),
        UpdateToken(id=1, expires_us=5),
    ],
)
def test_the_last_way_in_cannot_be_closed(command: UpdateToken) -> None:
    """Neither a reader's token nor an admin's that will expire is another way in."""
    machine = ClusterFSM()
    for token in (admin("first"), admin("guest", permissions=("read",)), admin("soon over", expires_us=9)):
        do(machine, token)
    assert refused(machine, command).code == "conflict"
    do(machine, admin("second"))
    do(machine, command)
