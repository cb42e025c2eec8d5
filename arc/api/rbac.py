"""Organizations and their teams: made, listed, changed, deleted with everything below them. For admins.

A parent that is not there is a bad request where something is made below it, and not found where it is looked at (data
plane 1.7).
"""

from __future__ import annotations

from arc.api.bodies import json_object, optional_flag, optional_text, path_number, text
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.rbac_shown import (
    DESCRIPTION,
    DONE_SCHEMA,
    NAME,
    ORGANIZATION_SCHEMA,
    TEAM_SCHEMA,
    number_in_path,
    organization_shown,
    role_shown,
    team_shown,
)
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, RequestBody, Route, Schema
from arc.api.schemas import BOOLEAN, INTEGER, array, json_answer, nullable, obj
from arc.catalog.commands import CreateOrganization, CreateTeam, DropAccess, UpdateOrganization, UpdateTeam
from arc.catalog.teams import Organization, Team, Teams
from arc.errors import NotFound

BASE = "/api/v1/rbac"

_MADE: dict[str, Schema] = {"name": NAME, "description": DESCRIPTION}
_CHANGED: dict[str, Schema] = {**_MADE, "name": {**NAME, "type": ["string", "null"]}, "enabled": nullable(BOOLEAN)}


class Rbac:
    """Who belongs to whom."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        admin, tag = Permission.ADMIN, "rbac"
        organization = obj({"success": BOOLEAN, "organization": ORGANIZATION_SCHEMA})
        team = obj({"success": BOOLEAN, "team": TEAM_SCHEMA})
        made = RequestBody(content={"application/json": {
            "type": "object", "properties": _MADE, "required": ["name"]}})  # fmt: skip
        changed = RequestBody(content={"application/json": {"type": "object", "properties": _CHANGED}})
        one, its = (number_in_path("id", "Its id."),), (number_in_path("org_id", "Organization id."),)
        return (
            Route(
                method="GET", path=f"{BASE}/organizations", name="list_organizations", tag=tag, permission=admin,
                summary="All organizations", view=self.organizations,
                answers={200: json_answer("By id.", obj(
                    {"success": BOOLEAN, "organizations": array(ORGANIZATION_SCHEMA), "count": INTEGER}))},
            ),
            Route(
                method="POST", path=f"{BASE}/organizations", name="create_organization", tag=tag, permission=admin,
                summary="Make an organization", view=self.create_organization, body=made,
                answers={201: json_answer("Made.", organization)},
            ),
            Route(
                method="GET", path=f"{BASE}/organizations/{{id}}", name="get_organization", tag=tag, permission=admin,
                summary="One organization with its teams", view=self.organization, parameters=one,
                answers={200: json_answer("Found.", organization)},
            ),
            Route(
                method="PATCH", path=f"{BASE}/organizations/{{id}}", name="update_organization", tag=tag,
                permission=admin, summary="Change what is given", view=self.update_organization, parameters=one,
                body=changed, answers={200: json_answer("Changed.", organization)},
            ),
            Route(
                method="DELETE", path=f"{BASE}/organizations/{{id}}", name="delete_organization", tag=tag,
                permission=admin, summary="Forget an organization with its teams", view=self.delete_organization,
                parameters=one, answers={200: json_answer("Gone.", DONE_SCHEMA)},
            ),
            Route(
                method="GET", path=f"{BASE}/organizations/{{org_id}}/teams", name="list_teams", tag=tag,
                permission=admin, summary="The teams of an organization", view=self.teams, parameters=its,
                answers={200: json_answer("By id.", obj(
                    {"success": BOOLEAN, "teams": array(TEAM_SCHEMA), "count": INTEGER}))},
            ),
            Route(
                method="POST", path=f"{BASE}/organizations/{{org_id}}/teams", name="create_team", tag=tag,
                permission=admin, summary="Make a team", view=self.create_team, parameters=its, body=made,
                answers={201: json_answer("Made.", team)},
            ),
            Route(
                method="GET", path=f"{BASE}/teams/{{id}}", name="get_team", tag=tag, permission=admin,
                summary="One team with its roles", view=self.team, parameters=one,
                answers={200: json_answer("Found.", team)},
            ),
            Route(
                method="PATCH", path=f"{BASE}/teams/{{id}}", name="update_team", tag=tag, permission=admin,
                summary="Change what is given", view=self.update_team, parameters=one, body=changed,
                answers={200: json_answer("Changed.", team)},
            ),
            Route(
                method="DELETE", path=f"{BASE}/teams/{{id}}", name="delete_team", tag=tag, permission=admin,
                summary="Forget a team with its roles", view=self.delete_team, parameters=one,
                answers={200: json_answer("Gone.", DONE_SCHEMA)},
            ),
        )  # fmt: skip

    async def organizations(self, call: Call) -> Reply:
        """Those that are not enabled too."""
        found = [organization_shown(each) for _, each in sorted(self._known.organizations.items())]
        return json_reply(200, {"success": True, "organizations": found, "count": len(found)})

    async def create_organization(self, call: Call) -> Reply:
        """Raises InvalidRequest, Conflict (the name)."""
        document = json_object(call.body)
        command = CreateOrganization(
            name=text(document, "name"),
            description=optional_text(document, "description") or "",
            created_us=self._deps.clock.wall_us(),
        )
        made = (await call.proposer.propose(command)).unwrap()
        return self._organization(made, 201)

    async def organization(self, call: Call) -> Reply:
        """Raises NotFound."""
        found = self._find_organization(_number(call, "id"))
        teams = [team_shown(team) for team in self._known.teams_in(found.id)]
        return json_reply(200, {"success": True, "organization": {**organization_shown(found), "teams": teams}})

    async def update_organization(self, call: Call) -> Reply:
        """Keys that are absent or null stay as they are. Raises NotFound, InvalidRequest, Conflict."""
        document = json_object(call.body)
        command = UpdateOrganization(
            id=_number(call, "id"),
            name=optional_text(document, "name"),
            description=optional_text(document, "description"),
            enabled=optional_flag(document, "enabled"),
            at_us=self._deps.clock.wall_us(),
        )
        changed = (await call.proposer.propose(command)).unwrap()
        return self._organization(changed, 200)

    async def delete_organization(self, call: Call) -> Reply:
        """See `DropAccess` for what becomes of its tokens. Raises NotFound."""
        (await call.proposer.propose(DropAccess(kind="organization", id=_number(call, "id")))).unwrap()
        return json_reply(200, {"success": True, "message": "organization deleted"})

    async def teams(self, call: Call) -> Reply:
        """Raises NotFound."""
        organization = self._find_organization(_number(call, "org_id"))
        found = [team_shown(team) for team in self._known.teams_in(organization.id)]
        return json_reply(200, {"success": True, "teams": found, "count": len(found)})

    async def create_team(self, call: Call) -> Reply:
        """Raises InvalidRequest (also: there is no such organization), Conflict (the name)."""
        document = json_object(call.body)
        command = CreateTeam(
            organization=_number(call, "org_id"),
            name=text(document, "name"),
            description=optional_text(document, "description") or "",
            created_us=self._deps.clock.wall_us(),
        )
        return self._team((await call.proposer.propose(command)).unwrap(), 201)

    async def team(self, call: Call) -> Reply:
        """Raises NotFound."""
        found = self._find_team(_number(call, "id"))
        roles = [role_shown(found.id, role) for role in found.roles]
        return json_reply(200, {"success": True, "team": {**team_shown(found), "roles": roles}})

    async def update_team(self, call: Call) -> Reply:
        """Keys that are absent or null stay as they are. Raises NotFound, InvalidRequest, Conflict."""
        document = json_object(call.body)
        command = UpdateTeam(
            id=_number(call, "id"),
            name=optional_text(document, "name"),
            description=optional_text(document, "description"),
            enabled=optional_flag(document, "enabled"),
            at_us=self._deps.clock.wall_us(),
        )
        return self._team((await call.proposer.propose(command)).unwrap(), 200)

    async def delete_team(self, call: Call) -> Reply:
        """See `DropAccess` for what becomes of its tokens. Raises NotFound."""
        (await call.proposer.propose(DropAccess(kind="team", id=_number(call, "id")))).unwrap()
        return json_reply(200, {"success": True, "message": "team deleted"})

    @property
    def _known(self) -> Teams:
        return self._deps.catalog().teams

    def _organization(self, number: object, status: int) -> Reply:
        """It may be gone again by now: then it is not found."""
        assert isinstance(number, int)
        return json_reply(
            status, {"success": True, "organization": organization_shown(self._find_organization(number))}
        )

    def _team(self, number: object, status: int) -> Reply:
        assert isinstance(number, int)
        return json_reply(status, {"success": True, "team": team_shown(self._find_team(number))})

    def _find_organization(self, number: int) -> Organization:
        found = self._known.organizations.get(number)
        if found is None:
            raise NotFound(f"organization {number} not found")
        return found

    def _find_team(self, number: int) -> Team:
        found = self._known.teams.get(number)
        if found is None:
            raise NotFound(f"team {number} not found")
        return found


def _number(call: Call, name: str) -> int:
    return path_number(call.path[name], name)
