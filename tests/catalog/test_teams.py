"""Teams in the catalog: what is made below what, what goes with what, and what a token may afterwards."""

from __future__ import annotations

import pytest

from arc.catalog import audit, snapshot, teams
from arc.catalog.commands import (
    Audited,
    Command,
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    CreateToken,
    DeleteToken,
    DropAccess,
    JoinTeam,
    LeaveTeam,
    RevokeToken,
    UpdateOrganization,
    UpdateRole,
    UpdateTeam,
)
from arc.catalog.events import TokensChanged
from arc.catalog.fsm import ClusterFSM
from tests.catalog.facts import ask, do, refused

ORG, TEAM, ROLE, RULE = 1, 2, 3, 4
FIRST: tuple[Command, ...] = (
    CreateOrganization(name="acme", created_us=1),
    CreateTeam(organization=ORG, name="ops", created_us=1),
    CreateRole(team=TEAM, database_pattern="plant*", permissions=("write", "read"), created_us=1),
    CreateRule(role=ROLE, measurement_pattern="cpu", permissions=("read",), created_us=1),
    CreateToken(name="agent", hash="h1", permissions=("read", "write"), created_us=1),
    CreateToken(name="root", hash="h2", permissions=("read", "admin"), created_us=1),
)
AGENT, ROOT = 1, 2


def first() -> ClusterFSM:
    machine = ClusterFSM()
    assert [do(machine, command).value for command in FIRST] == [ORG, TEAM, ROLE, RULE, AGENT, ROOT]
    return machine


def joined(*tokens: int) -> ClusterFSM:
    machine = first()
    for token in tokens:
        do(machine, JoinTeam(token=token, team=TEAM, at_us=2))
    return machine


def test_what_a_team_grants_is_read_from_the_version_of_the_catalog() -> None:
    machine = first()
    assert machine.catalog.teams.grants(AGENT) is None
    assert do(machine, JoinTeam(token=AGENT, team=TEAM, at_us=2)).value == 5
    (role,) = machine.catalog.teams.grants(AGENT) or ()
    assert (role.database_pattern, role.permissions) == ("plant*", ("read", "write"))
    assert [(rule.measurement_pattern, rule.permissions) for rule in role.rules] == [("cpu", ("read",))]
    do(machine, UpdateRole(id=ROLE, permissions=("delete",), database_pattern="*"))
    do(machine, DropAccess(kind="rule", id=RULE))
    (role,) = machine.catalog.teams.grants(AGENT) or ()
    assert (role.database_pattern, role.permissions, role.rules) == ("*", ("delete",), ())
    do(machine, DropAccess(kind="role", id=ROLE))
    assert machine.catalog.teams.grants(AGENT) == ()
    do(machine, LeaveTeam(token=AGENT, team=TEAM))
    assert machine.catalog.teams.grants(AGENT) is None
    assert machine.catalog.tokens[AGENT].permissions == ("read", "write")


@pytest.mark.parametrize(
    ("off", "on"),
    [
        (UpdateTeam(id=TEAM, enabled=False, at_us=3), UpdateTeam(id=TEAM, enabled=True, at_us=4)),
        (UpdateOrganization(id=ORG, enabled=False, at_us=3), UpdateOrganization(id=ORG, enabled=True, at_us=4)),
    ],
    ids=["team", "organization"],
)
def test_what_is_not_enabled_grants_nothing_and_its_members_stay_members(off: Command, on: Command) -> None:
    machine = joined(AGENT)
    do(machine, off)
    assert machine.catalog.teams.grants(AGENT) == ()
    do(machine, on)
    assert machine.catalog.teams.grants(AGENT)


@pytest.mark.parametrize("kind", ["team", "organization"])
def test_nobody_may_more_because_his_team_is_gone(kind: str) -> None:
    """The token had read and write of its own, which the team had narrowed to reading one measurement."""
    machine = joined(AGENT, ROOT)
    gone = DropAccess(kind="team", id=TEAM) if kind == "team" else DropAccess(kind="organization", id=ORG)
    applied = machine.apply(machine.catalog.index + 1, gone)
    assert applied.events == (TokensChanged((AGENT, ROOT)),)
    assert machine.catalog.teams.members == {} and machine.catalog.teams.teams == {}
    assert (machine.catalog.tokens[AGENT].permissions, machine.catalog.tokens[ROOT].permissions) == ((), ("admin",))


def test_a_token_that_stays_in_another_team_keeps_what_it_has() -> None:
    machine = joined(AGENT)
    other = do(machine, CreateTeam(organization=ORG, name="dev", created_us=3)).value
    assert isinstance(other, int)
    do(machine, JoinTeam(token=AGENT, team=other, at_us=3))
    do(machine, DropAccess(kind="team", id=TEAM))
    assert machine.catalog.tokens[AGENT].permissions == ("read", "write")
    assert machine.catalog.teams.grants(AGENT) == ()


def test_memberships_go_with_the_token_and_ids_never_come_back() -> None:
    machine = joined(AGENT)
    do(machine, DeleteToken(id=AGENT))
    assert machine.catalog.teams.members == {}
    do(machine, DropAccess(kind="organization", id=ORG))
    assert do(machine, CreateOrganization(name="acme", created_us=9)).value == 6


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (CreateOrganization(name="acme", created_us=1), "exists"),
        (CreateOrganization(name="1st", created_us=1), "invalid"),
        (CreateOrganization(name="x" * 65, created_us=1), "invalid"),
        (CreateOrganization(name="o", description="x" * 1_025, created_us=1), "invalid"),
        (UpdateOrganization(id=9, at_us=1), "not_found"),
        (CreateTeam(organization=9, name="x", created_us=1), "invalid"),
        (CreateTeam(organization=ORG, name="ops", created_us=1), "exists"),
        (UpdateTeam(id=9, at_us=1), "not_found"),
        (UpdateTeam(id=TEAM, name="a b", at_us=1), "invalid"),
        (CreateRole(team=9, database_pattern="*", permissions=("read",), created_us=1), "invalid"),
        (CreateRole(team=TEAM, database_pattern="a*b", permissions=("read",), created_us=1), "invalid"),
        (CreateRole(team=TEAM, database_pattern="*", permissions=("root",), created_us=1), "invalid"),
        (CreateRole(team=TEAM, database_pattern="*", permissions=(), created_us=1), "invalid"),
        (UpdateRole(id=9), "not_found"),
        (UpdateRole(id=ROLE, permissions=()), "invalid"),
        (CreateRule(role=9, measurement_pattern="*", permissions=("read",), created_us=1), "invalid"),
        (CreateRule(role=ROLE, measurement_pattern="", permissions=("read",), created_us=1), "invalid"),
        (DropAccess(kind="organization", id=9), "not_found"),
        (DropAccess(kind="team", id=9), "not_found"),
        (DropAccess(kind="role", id=RULE), "not_found"),
        (DropAccess(kind="rule", id=ROLE), "not_found"),
        (DropAccess(kind="house", id=1), "invalid"),  # type: ignore[arg-type]
        (JoinTeam(token=9, team=TEAM, at_us=1), "not_found"),
        (JoinTeam(token=AGENT, team=9, at_us=1), "invalid"),
        (JoinTeam(token=AGENT, team=TEAM, at_us=1), "exists"),
        (LeaveTeam(token=ROOT, team=TEAM), "not_found"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_what_contradicts_or_is_not_there_is_refused_and_changes_nothing(command: Command, code: str) -> None:
    machine = joined(AGENT)
    before = machine.catalog
    assert refused(machine, command).code == code
    assert machine.catalog.same_facts(before)


@pytest.mark.parametrize(
    "command",
    [
        UpdateOrganization(id=ORG, name="acme", enabled=True, at_us=9),
        UpdateTeam(id=TEAM, name="ops", description="", at_us=9),
        UpdateRole(id=ROLE, database_pattern="plant*"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_update_to_what_stands_changes_nothing(command: Command) -> None:
    machine = first()
    before = machine.catalog
    do(machine, command)
    assert machine.catalog.same_facts(before)


def test_there_is_a_limit_to_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teams, "RECORDS_MAX", 4)
    monkeypatch.setattr(teams, "TEAMS_OF_TOKEN_MAX", 0)
    machine = first()
    for command in (
        CreateOrganization(name="b", created_us=1),
        CreateTeam(organization=ORG, name="b", created_us=1),
        CreateRole(team=TEAM, database_pattern="*", permissions=("read",), created_us=1),
        CreateRule(role=ROLE, measurement_pattern="*", permissions=("read",), created_us=1),
        JoinTeam(token=AGENT, team=TEAM, at_us=1),
    ):
        assert refused(machine, command).code == "too_many"


# ---- who did it


def test_an_act_and_its_line_are_one_step() -> None:
    machine = first()
    wanted = CreateTeam(organization=ORG, name="dev", created_us=7)
    made = do(machine, Audited(at_us=7, event_type="rbac.team.created", actor="root", token_id=ROOT, action=wanted))
    (entry,) = machine.catalog.audit
    assert (entry.id, entry.at_us, entry.actor, entry.value) == (made.index, 7, "root", made.value)
    assert machine.catalog.teams.teams[5].name == "dev"


def test_a_refused_act_leaves_no_line_and_one_that_changes_nothing_does() -> None:
    machine = first()
    before = machine.catalog
    act = Audited(at_us=7, event_type="token.revoked", actor="root", action=RevokeToken(id=9))
    assert ask(machine, act).code == "not_found"
    assert machine.catalog.same_facts(before)
    for _ in range(2):
        do(machine, Audited(at_us=7, event_type="token.revoked", actor="root", action=RevokeToken(id=AGENT)))
    assert len(machine.catalog.audit) == 2


def test_the_oldest_acts_are_forgotten_and_long_words_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "ENTRIES_KEPT", 3)
    machine = ClusterFSM()
    for number in range(5):
        do(machine, Audited(at_us=number, event_type="cluster.drain", actor="a" * 1_000, detail="d" * 5_000))
    assert [entry.at_us for entry in machine.catalog.audit] == [2, 3, 4]
    assert len(machine.catalog.audit[0].actor) == audit.TEXT_CHARS_MAX
    assert len(machine.catalog.audit[0].detail) == audit.DETAIL_CHARS_MAX


def test_teams_and_acts_come_back_from_a_snapshot_and_ids_go_on() -> None:
    machine = joined(AGENT, ROOT)
    do(machine, Audited(at_us=7, event_type="token.revoked", actor="root", action=RevokeToken(id=AGENT)))
    restored = snapshot.decode(list(snapshot.encode(machine.catalog)))
    assert restored == machine.catalog
    other = ClusterFSM(restored)
    assert do(other, CreateOrganization(name="b", created_us=1)).value == 7
