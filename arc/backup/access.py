"""Who may do what, in a backup and back: organizations, teams, roles, and the tokens in them, by their names. Pure.

Ids differ from cluster to cluster, so nothing refers to one. What is called alike already is left as it is, with all
below it; what is made bears the time of the restore, by which a later attempt knows it as its own and goes on with it.

A token of a team is made without rights and gets them when it is in all its teams: at no moment may it do more than it
should. One whose teams are not restored is not restored either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from arc.catalog.access import TokenRecord
from arc.catalog.commands import (
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    CreateToken,
    JoinTeam,
    UpdateOrganization,
    UpdateTeam,
    UpdateToken,
)
from arc.catalog.facts import Catalog
from arc.catalog.teams import Organization, Role, Team

AccessStep = (
    CreateOrganization
    | CreateTeam
    | CreateRole
    | CreateRule
    | CreateToken
    | JoinTeam
    | UpdateOrganization
    | UpdateTeam
    | UpdateToken
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRole:
    """A role; ``rules`` are (pattern of measurements, permissions)."""

    database_pattern: str
    permissions: tuple[str, ...]
    rules: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTeam:
    """A team; ``tokens`` are the names of those in it."""

    name: str
    description: str
    enabled: bool
    roles: tuple[KeptRole, ...]
    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOrganization:
    """An organization and its teams."""

    name: str
    description: str
    enabled: bool
    teams: tuple[KeptTeam, ...]


def keep(catalog: Catalog) -> tuple[KeptOrganization, ...]:
    """All of a version."""
    state = catalog.teams
    inside: dict[int, list[str]] = {}
    for token, memberships in sorted(state.members.items()):
        for each in memberships:
            inside.setdefault(each.team, []).append(catalog.tokens[token].name)
    return tuple(
        KeptOrganization(
            name=organization.name,
            description=organization.description,
            enabled=organization.enabled,
            teams=tuple(_kept(team, inside.get(team.id, ())) for team in state.teams_in(organization.id)),
        )
        for _, organization in sorted(state.organizations.items())
    )


def packed(organizations: Iterable[KeptOrganization]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(each) for each in organizations]


def unpacked(found: Iterable[Mapping[str, Any]]) -> tuple[KeptOrganization, ...]:
    """The other way round. Raises KeyError, TypeError, ValueError."""
    return tuple(
        KeptOrganization(**{**each, "teams": tuple(_unpacked_team(team) for team in each["teams"])}) for each in found
    )


def next_step(
    catalog: Catalog,
    organizations: Sequence[KeptOrganization],
    tokens: Sequence[TokenRecord],
    *,
    makes_teams: bool,
    mark_us: int,
) -> AccessStep | None:
    """The next command of a restore, None when all is as it should be. ``mark_us`` is the time of the restore."""
    for organization in organizations if makes_teams else ():
        if (step := _organization(catalog, organization, mark_us)) is not None:
            return step
    for token in tokens:
        if (step := _token(catalog, organizations, token, mark_us)) is not None:
            return step
    return None


def is_restored(catalog: Catalog, token: TokenRecord, *, mark_us: int) -> bool:
    """Whether the token that is there now came with the restore."""
    found = catalog.token_by_hash(token.hash)
    return found is not None and found.name == token.name and found.created_us == mark_us


def _organization(catalog: Catalog, wanted: KeptOrganization, mark_us: int) -> AccessStep | None:
    found = _find_organization(catalog, wanted.name)
    if found is None:
        return CreateOrganization(name=wanted.name, description=wanted.description, created_us=mark_us)
    for team in wanted.teams:
        if (step := _team(catalog, found, team, mark_us)) is not None:
            return step
    if found.created_us == mark_us and found.enabled and not wanted.enabled:
        return UpdateOrganization(id=found.id, enabled=False, at_us=mark_us)
    return None


def _team(catalog: Catalog, organization: Organization, wanted: KeptTeam, mark_us: int) -> AccessStep | None:
    found = _find_team(catalog, organization, wanted.name)
    if found is None:
        if organization.created_us != mark_us:
            return None  # It stood before, and somebody decided which teams it has.
        return CreateTeam(
            organization=organization.id, name=wanted.name, description=wanted.description, created_us=mark_us
        )
    if found.created_us != mark_us:
        return None
    for nth, role in enumerate(wanted.roles):
        if nth == len(found.roles):
            return CreateRole(
                team=found.id,
                database_pattern=role.database_pattern,
                permissions=role.permissions,
                created_us=mark_us,
            )
        made = found.roles[nth].rules
        if len(made) < len(role.rules):
            pattern, permissions = role.rules[len(made)]
            return CreateRule(
                role=found.roles[nth].id, measurement_pattern=pattern, permissions=permissions, created_us=mark_us
            )
    if found.enabled and not wanted.enabled:
        return UpdateTeam(id=found.id, enabled=False, at_us=mark_us)
    return None


def _token(
    catalog: Catalog, organizations: Sequence[KeptOrganization], wanted: TokenRecord, mark_us: int
) -> AccessStep | None:
    found = catalog.token_by_name(wanted.name) or catalog.token_by_hash(wanted.hash)
    if not wanted.enabled or (found is not None and not is_restored(catalog, wanted, mark_us=mark_us)):
        return None
    teams = [(each, team) for each in organizations for team in each.teams if wanted.name in team.tokens]
    homes = [_home(catalog, organization, team, mark_us) for organization, team in teams]
    if None in homes:
        return None
    if found is None:
        return CreateToken(
            name=wanted.name,
            hash=wanted.hash,
            description=wanted.description,
            permissions=() if homes else wanted.permissions,
            created_us=mark_us,
            expires_us=wanted.expires_us,
        )
    joined = {each.team for each in catalog.teams.members.get(found.id, ())}
    for home in homes:
        if home is not None and home not in joined:
            return JoinTeam(token=found.id, team=home, at_us=mark_us)
    if found.permissions != wanted.permissions:
        return UpdateToken(id=found.id, permissions=wanted.permissions)
    return None


def _home(catalog: Catalog, organization: KeptOrganization, team: KeptTeam, mark_us: int) -> int | None:
    """The id of a team that this restore made."""
    found = _find_organization(catalog, organization.name)
    made = _find_team(catalog, found, team.name) if found is not None else None
    return made.id if made is not None and made.created_us == mark_us else None


def _find_organization(catalog: Catalog, name: str) -> Organization | None:
    return next((each for each in catalog.teams.organizations.values() if each.name == name), None)


def _find_team(catalog: Catalog, organization: Organization, name: str) -> Team | None:
    return next((each for each in catalog.teams.teams_in(organization.id) if each.name == name), None)


def _kept(team: Team, tokens: Iterable[str]) -> KeptTeam:
    return KeptTeam(
        name=team.name,
        description=team.description,
        enabled=team.enabled,
        roles=tuple(_kept_role(role) for role in team.roles),
        tokens=tuple(tokens),
    )


def _kept_role(role: Role) -> KeptRole:
    return KeptRole(
        database_pattern=role.database_pattern,
        permissions=role.permissions,
        rules=tuple((rule.measurement_pattern, rule.permissions) for rule in role.rules),
    )


def _unpacked_team(found: Mapping[str, Any]) -> KeptTeam:
    roles = tuple(
        KeptRole(
            database_pattern=each["database_pattern"],
            permissions=tuple(each["permissions"]),
            rules=tuple((pattern, tuple(permissions)) for pattern, permissions in each["rules"]),
        )
        for each in found["roles"]
    )
    return KeptTeam(**{**found, "roles": roles, "tokens": tuple(found["tokens"])})
