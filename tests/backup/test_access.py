"""Teams and tokens across a restore: nobody may do more than before, at no moment of it."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest

from arc.backup import access, document
from arc.catalog.commands import (
    Command,
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    CreateToken,
    JoinTeam,
    RevokeToken,
    UpdateTeam,
)
from arc.catalog.facts import Catalog
from arc.security.rights import Allowed, allowed
from tests.backup.parts import Node
from tests.fakes import MemoryDisk

ID = "backup-20260101-000000-0000abcd"
MARK_US = 1_234


def do(node: Node, command: Command) -> int:
    result = node.apply(command)
    assert result.ok, result
    assert isinstance(result.value, int)
    return result.value


def populated() -> Node:
    """A token with rights of its own, one that a team limits, and one that was revoked."""
    node = Node(MemoryDisk())
    node.declare()
    organization = do(node, CreateOrganization(name="acme", description="d", created_us=1))
    team = do(node, CreateTeam(organization=organization, name="ops", created_us=1))
    off = do(node, CreateTeam(organization=organization, name="off", created_us=1))
    do(node, UpdateTeam(id=off, enabled=False, at_us=2))
    do(node, CreateRole(team=team, database_pattern="plant", permissions=("read",), created_us=1))
    role = do(node, CreateRole(team=team, database_pattern="lab*", permissions=("read",), created_us=1))
    do(node, CreateRule(role=role, measurement_pattern="cpu*", permissions=("write",), created_us=1))
    do(node, CreateRule(role=role, measurement_pattern="mem", permissions=("read",), created_us=1))
    do(node, CreateToken(name="free", hash="1" * 64, permissions=("read", "write"), created_us=1))
    limited = do(node, CreateToken(name="limited", hash="2" * 64, permissions=("read", "write"), created_us=1))
    for each in (team, off):
        do(node, JoinTeam(token=limited, team=each, at_us=1))
    gone = do(node, CreateToken(name="gone", hash="3" * 64, created_us=1))
    node.do(RevokeToken(id=gone))
    return node


def kept(node: Node) -> document.Document:
    made = document.compose(node.catalog, backup_id=ID, created_us=9, version="1", reused=False, with_tokens=True)
    return document.decode(document.encode(made), "k")


def steps(node: Node, whole: document.Document, *, makes_teams: bool = True) -> Iterator[Catalog]:
    """The catalog after each step."""
    while (
        step := access.next_step(
            node.catalog, whole.organizations, whole.tokens, makes_teams=makes_teams, mark_us=MARK_US
        )
    ) is not None:
        node.do(step)
        yield node.catalog


class Holder:
    """Of a token, as `security.rights` asks."""

    def __init__(self, catalog: Catalog, name: str) -> None:
        token = catalog.token_by_name(name)
        self.permissions = frozenset(token.permissions if token is not None else ())
        self.grants = catalog.teams.grants(token.id) if token is not None else None


def may(catalog: Catalog, name: str) -> set[tuple[str, str, str]]:
    return {
        (permission, database, measurement)
        for permission in ("read", "write", "delete", "admin")
        for database in ("plant", "lab1", "other")
        for measurement in ("cpu1", "mem", "x")
        if isinstance(allowed(Holder(catalog, name), permission, database, measurement), Allowed)
    }


def test_after_each_step_nobody_may_do_more_than_before_and_in_the_end_the_same() -> None:
    node, other = populated(), Node(MemoryDisk())
    whole, count = kept(node), 0
    for catalog in steps(other, whole):
        count += 1
        for name in ("free", "limited", "gone"):
            assert may(catalog, name) <= may(node.catalog, name), (count, name)
    assert count > 10
    for name in ("free", "limited"):
        assert may(other.catalog, name) == may(node.catalog, name) != set(), name
    assert other.catalog.token_by_name("gone") is None
    assert access.keep(other.catalog) == access.keep(node.catalog)


@pytest.mark.parametrize("at", range(12))
def test_a_later_attempt_goes_on_and_ends_with_the_same(at: int) -> None:
    """What was made bears the time of the restore; nothing else is kept between two attempts."""
    node, other = populated(), Node(MemoryDisk())
    whole = kept(node)
    for done, _ in enumerate(steps(other, whole)):
        if done == at:
            break
    list(steps(other, document.decode(document.encode(whole), "k")))
    assert access.keep(other.catalog) == access.keep(node.catalog)


def test_what_stands_is_left_as_it_is_with_all_below_it() -> None:
    node, other = populated(), Node(MemoryDisk())
    do(other, CreateOrganization(name="acme", description="ours", created_us=5))
    do(other, CreateToken(name="free", hash="9" * 64, permissions=(), created_us=5))
    list(steps(other, kept(node)))
    [organization] = access.keep(other.catalog)
    assert (organization.description, organization.teams) == ("ours", ())
    assert other.catalog.token_by_name("limited") is None, "its teams are not there, so it would be free"
    assert may(other.catalog, "free") == set()


def test_a_token_of_a_team_stays_away_when_teams_are_not_restored() -> None:
    node, other = populated(), Node(MemoryDisk())
    list(steps(other, kept(node), makes_teams=False))
    assert [token.name for token in other.catalog.tokens.values()] == ["free"]
    assert not other.catalog.teams.organizations


def test_a_secret_that_is_known_under_another_name_is_not_made_again() -> None:
    node, other = populated(), Node(MemoryDisk())
    do(other, CreateToken(name="same", hash="1" * 64, permissions=(), created_us=5))
    list(steps(other, kept(node)))
    assert other.catalog.token_by_name("free") is None


def test_documents_of_before_there_were_teams_are_read() -> None:
    data = document.encode(kept(populated()))
    body = orjson.loads(data.partition(b"\n")[2])
    del body["organizations"]
    raw = orjson.dumps(body)
    head = {**orjson.loads(data.partition(b"\n")[0]), "bytes": len(raw), "sha256": document.hash_of([raw])}
    assert document.decode(orjson.dumps(head) + b"\n" + raw + b"\n", "k").organizations == ()
