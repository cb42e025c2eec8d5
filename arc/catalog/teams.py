"""Organizations, their teams, the roles of a team, and which tokens are in which team.

A team holds its roles and a role its measurement rules, so what a token's teams grant is read off without an index
(`Teams.grants`) and is as new as the version of the catalog that it is read from: nothing remembers an answer. What a
role means is decided in `arc.security.rights`.

Ids of all four kinds and of memberships count up together and are never given out again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from arc.catalog.access_commands import (
    AccessAction,
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    DropAccess,
    JoinTeam,
    LeaveTeam,
    UpdateOrganization,
    UpdateRole,
    UpdateTeam,
)
from arc.catalog.persistent import frozen, with_item, without_item
from arc.catalog.results import Refusal, Step
from arc.security.rights import check_database_pattern, check_measurement_pattern
from arc.security.tokens import check_permissions

RECORDS_MAX = 10_000
"""Organizations, teams, roles and rules together."""

TEAMS_OF_TOKEN_MAX = 64
DESCRIPTION_CHARS_MAX = 1_024

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Organization:
    """Times are microseconds since 1970 UTC, here and below."""

    id: int
    name: str
    description: str
    created_us: int
    updated_us: int
    enabled: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementRule:
    """What a role grants on the measurements whose names fit."""

    id: int
    measurement_pattern: str
    permissions: tuple[str, ...]
    created_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What a team may do with the databases whose names fit. With ``rules``, these tell and not ``permissions``."""

    id: int
    database_pattern: str
    permissions: tuple[str, ...]
    created_us: int
    rules: tuple[MeasurementRule, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Its name is unique in its organization."""

    id: int
    organization: int
    name: str
    description: str
    created_us: int
    updated_us: int
    enabled: bool = True
    roles: tuple[Role, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """A token is in a team."""

    id: int
    token: int
    team: int
    created_us: int


@dataclass(frozen=True, slots=True)
class Teams:
    """All of it by id; ``members`` by token, none of them empty."""

    organizations: Mapping[int, Organization]
    teams: Mapping[int, Team]
    members: Mapping[int, tuple[Membership, ...]]
    next_id: int = 1

    @property
    def records(self) -> int:
        """What `RECORDS_MAX` bounds."""
        roles = [role for team in self.teams.values() for role in team.roles]
        return len(self.organizations) + len(self.teams) + len(roles) + sum(len(role.rules) for role in roles)

    def teams_in(self, organization: int) -> list[Team]:
        """The teams of an organization, by id."""
        return [team for _, team in sorted(self.teams.items()) if team.organization == organization]

    def granting(self, token: int) -> Iterator[Team]:
        """The teams of a token that grant something: both they and their organizations are enabled."""
        for membership in self.members.get(token, ()):
            team = self.teams[membership.team]
            if team.enabled and self.organizations[team.organization].enabled:
                yield team

    def grants(self, token: int) -> tuple[Role, ...] | None:
        """What the teams of a token grant (`security.rights.Holder`); None when it is in no team."""
        if token not in self.members:
            return None
        return tuple(role for team in self.granting(token) for role in team.roles)

    def role(self, number: int) -> tuple[Team, Role] | None:
        """A role and its team."""
        return next(((t, role) for t in self.teams.values() for role in t.roles if role.id == number), None)

    def rule(self, number: int) -> tuple[Team, Role, MeasurementRule] | None:
        """A measurement rule, its role and its team."""
        every = ((t, role, rule) for t in self.teams.values() for role in t.roles for rule in role.rules)
        return next((found for found in every if found[2].id == number), None)


EMPTY = Teams(frozen({}), frozen({}), frozen({}))


def apply(state: Teams, command: AccessAction, tokens: Mapping[int, object]) -> Step[Teams]:
    """What they become. Raises Refusal, InvalidRequest: "invalid" also for a parent that is not there."""
    match command:
        case CreateOrganization():
            _require_name(command.name, (each.name for each in state.organizations.values()))
            made = Organization(
                id=_new(state),
                name=command.name,
                description=_described(command.description),
                created_us=command.created_us,
                updated_us=command.created_us,
            )
            return _made(replace(state, organizations=with_item(state.organizations, made.id, made)))
        case CreateTeam():
            _require_parent("organization", command.organization, command.organization in state.organizations)
            _require_name(command.name, _names_in(state, command.organization))
            team = Team(
                id=_new(state),
                organization=command.organization,
                name=command.name,
                description=_described(command.description),
                created_us=command.created_us,
                updated_us=command.created_us,
            )
            return _made(_with_team(state, team))
        case CreateRole():
            parent = state.teams.get(command.team)
            _require_parent("team", command.team, parent is not None)
            assert parent is not None
            role = Role(
                id=_new(state),
                database_pattern=check_database_pattern(command.database_pattern),
                permissions=_permissions(command.permissions),
                created_us=command.created_us,
            )
            return _made(_with_team(state, replace(parent, roles=(*parent.roles, role))))
        case CreateRule():
            home = state.role(command.role)
            _require_parent("role", command.role, home is not None)
            assert home is not None
            rule = MeasurementRule(
                id=_new(state),
                measurement_pattern=check_measurement_pattern(command.measurement_pattern),
                permissions=_permissions(command.permissions),
                created_us=command.created_us,
            )
            return _made(_with_role(state, home[0], replace(home[1], rules=(*home[1].rules, rule))))
        case UpdateOrganization() | UpdateTeam() | UpdateRole():
            return _update(state, command)
        case DropAccess():
            return Step(state=_drop(state, command))
        case JoinTeam() | LeaveTeam():
            return _membership(state, command, tokens)


def without_token(state: Teams, token: int) -> Teams:
    """A token is gone, and so are its memberships."""
    return replace(state, members=without_item(state.members, token)) if token in state.members else state


def left_alone(before: Teams, after: Teams) -> list[int]:
    """Tokens that were in a team and are in none any more, by id."""
    return sorted(token for token in before.members if token not in after.members)


def _update(state: Teams, command: UpdateOrganization | UpdateTeam | UpdateRole) -> Step[Teams]:
    match command:
        case UpdateOrganization():
            old = _require(state.organizations.get(command.id), "organization", command.id)
            names = (each.name for each in state.organizations.values() if each.id != old.id)
            new = _edited(old, command, names)
            if new is old:
                return Step(state=state, value=old.id)
            return Step(state=replace(state, organizations=with_item(state.organizations, new.id, new)), value=new.id)
        case UpdateTeam():
            team = _require(state.teams.get(command.id), "team", command.id)
            edited = _edited(team, command, _names_in(state, team.organization, team.id))
            return Step(state=state if edited is team else _with_team(state, edited), value=team.id)
        case UpdateRole():
            parent, role = _require(state.role(command.id), "role", command.id)
            changed = role
            if command.database_pattern is not None:
                changed = replace(changed, database_pattern=check_database_pattern(command.database_pattern))
            if command.permissions is not None:
                changed = replace(changed, permissions=_permissions(command.permissions))
            return Step(state=state if changed == role else _with_role(state, parent, changed), value=role.id)


G = TypeVar("G", Organization, Team)


def _edited(old: G, command: UpdateOrganization | UpdateTeam, others: Iterator[str]) -> G:
    """The same object if nothing changes."""
    new = old
    if command.name is not None and command.name != old.name:
        _require_name(command.name, others)
        new = replace(new, name=command.name)
    if command.description is not None:
        new = replace(new, description=_described(command.description))
    if command.enabled is not None:
        new = replace(new, enabled=command.enabled)
    return old if new == old else replace(new, updated_us=command.at_us)


def _drop(state: Teams, command: DropAccess) -> Teams:
    match command.kind:
        case "organization":
            _require(state.organizations.get(command.id), "organization", command.id)
            bereft = _without_teams(state, frozenset(team.id for team in state.teams_in(command.id)))
            return replace(bereft, organizations=without_item(state.organizations, command.id))
        case "team":
            _require(state.teams.get(command.id), "team", command.id)
            return _without_teams(state, frozenset({command.id}))
        case "role":
            parent, role = _require(state.role(command.id), "role", command.id)
            return _with_team(state, replace(parent, roles=tuple(each for each in parent.roles if each != role)))
        case "rule":
            parent, role, rule = _require(state.rule(command.id), "measurement permission", command.id)
            return _with_role(state, parent, replace(role, rules=tuple(each for each in role.rules if each != rule)))
    raise Refusal("invalid", f"there is nothing of kind {command.kind!r} here")


def _membership(state: Teams, command: JoinTeam | LeaveTeam, tokens: Mapping[int, object]) -> Step[Teams]:
    if command.token not in tokens:
        raise Refusal("not_found", f"there is no token with id {command.token}")
    found = state.members.get(command.token, ())
    has = any(each.team == command.team for each in found)
    if isinstance(command, LeaveTeam):
        if not has:
            raise Refusal("not_found", f"token {command.token} is not in team {command.team}")
        return Step(state=_with_members(state, command.token, tuple(m for m in found if m.team != command.team)))
    _require_parent("team", command.team, command.team in state.teams)
    if has:
        raise Refusal("exists", f"token {command.token} is in team {command.team} already")
    if len(found) >= TEAMS_OF_TOKEN_MAX:
        raise Refusal("too_many", f"token {command.token} is in {TEAMS_OF_TOKEN_MAX} teams, which is the limit")
    joined = Membership(id=state.next_id, token=command.token, team=command.team, created_us=command.at_us)
    return _made(_with_members(state, command.token, (*found, joined)))


def _made(state: Teams) -> Step[Teams]:
    """Something took the next id."""
    return Step(state=replace(state, next_id=state.next_id + 1), value=state.next_id)


def _new(state: Teams) -> int:
    if state.records >= RECORDS_MAX:
        raise Refusal("too_many", f"there are {RECORDS_MAX} organizations, teams, roles and rules, which is the limit")
    return state.next_id


def _with_team(state: Teams, team: Team) -> Teams:
    return replace(state, teams=with_item(state.teams, team.id, team))


def _with_role(state: Teams, team: Team, role: Role) -> Teams:
    return _with_team(state, replace(team, roles=tuple(role if each.id == role.id else each for each in team.roles)))


def _without_teams(state: Teams, gone: frozenset[int]) -> Teams:
    """In one pass: a team may have every token there is."""
    left = {token: tuple(each for each in found if each.team not in gone) for token, found in state.members.items()}
    return replace(
        state,
        teams=frozen({number: team for number, team in state.teams.items() if number not in gone}),
        members=frozen({token: found for token, found in left.items() if found}),
    )


def _with_members(state: Teams, token: int, found: tuple[Membership, ...]) -> Teams:
    members = with_item(state.members, token, found) if found else without_item(state.members, token)
    return replace(state, members=members)


def _names_in(state: Teams, organization: int, but: int = 0) -> Iterator[str]:
    return (team.name for team in state.teams_in(organization) if team.id != but)


def _require_name(name: str, taken: Iterator[str]) -> None:
    if _NAME.fullmatch(name) is None:
        raise Refusal("invalid", "a name must be a letter and up to 63 letters, digits, '_' or '-'")
    if name in taken:
        raise Refusal("exists", f"the name {name!r} is taken")


def _require_parent(kind: str, number: int, is_there: bool) -> None:
    if not is_there:
        raise Refusal("invalid", f"there is no {kind} with id {number}")


T = TypeVar("T")


def _require(found: T | None, kind: str, number: int) -> T:
    if found is None:
        raise Refusal("not_found", f"there is no {kind} with id {number}")
    return found


def _described(text: str) -> str:
    if len(text) > DESCRIPTION_CHARS_MAX:
        raise Refusal("invalid", f"a description must have at most {DESCRIPTION_CHARS_MAX} characters")
    return text


def _permissions(permissions: tuple[str, ...]) -> tuple[str, ...]:
    if not permissions:
        raise Refusal("invalid", "permissions must name at least one")
    return check_permissions(permissions)
