"""Roles of teams, and the measurement rules that narrow them. For admins."""

from __future__ import annotations

from arc.api.bodies import json_object, optional_text, optional_texts, path_number, text
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.rbac import BASE
from arc.api.rbac_shown import (
    DONE_SCHEMA,
    PERMISSION_LIST,
    ROLE_SCHEMA,
    RULE_SCHEMA,
    number_in_path,
    role_shown,
    rule_shown,
)
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, RequestBody, Route, Schema
from arc.api.schemas import BOOLEAN, INTEGER, array, json_answer, obj
from arc.catalog.commands import CreateRole, CreateRule, DropAccess, UpdateRole
from arc.catalog.teams import Role, Team, Teams
from arc.errors import InvalidRequest, NotFound

_PATTERN: Schema = {"type": "string", "minLength": 1, "maxLength": 129}


class Roles:
    """What teams may."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        admin, tag = Permission.ADMIN, "rbac"
        role, rule = obj({"success": BOOLEAN, "role": ROLE_SCHEMA}), obj(
            {"success": BOOLEAN, "measurement_permission": RULE_SCHEMA})  # fmt: skip
        wishes: dict[str, Schema] = {"database_pattern": _PATTERN, "permissions": PERMISSION_LIST}
        made = RequestBody(content={"application/json": obj(wishes)})
        changed = RequestBody(content={"application/json": {"type": "object", "properties": wishes}})
        narrowed = RequestBody(content={"application/json": obj(
            {"measurement_pattern": _PATTERN, "permissions": PERMISSION_LIST})})  # fmt: skip
        one = (number_in_path("id", "Its id."),)
        team, its = (number_in_path("team_id", "Team id."),), (number_in_path("role_id", "Role id."),)
        return (
            Route(
                method="GET", path=f"{BASE}/teams/{{team_id}}/roles", name="list_roles", tag=tag, permission=admin,
                summary="The roles of a team", view=self.roles, parameters=team,
                answers={200: json_answer("As they were made.", obj(
                    {"success": BOOLEAN, "roles": array(ROLE_SCHEMA), "count": INTEGER}))},
            ),
            Route(
                method="POST", path=f"{BASE}/teams/{{team_id}}/roles", name="create_role", tag=tag, permission=admin,
                summary="Let a team do something", view=self.create, parameters=team, body=made,
                answers={201: json_answer("Made.", role)},
            ),
            Route(
                method="GET", path=f"{BASE}/roles/{{id}}", name="get_role", tag=tag, permission=admin,
                summary="One role with its measurement rules", view=self.role, parameters=one,
                answers={200: json_answer("Found.", role)},
            ),
            Route(
                method="PATCH", path=f"{BASE}/roles/{{id}}", name="update_role", tag=tag, permission=admin,
                summary="Change what is given", view=self.update, parameters=one, body=changed,
                answers={200: json_answer("Changed.", role)},
            ),
            Route(
                method="DELETE", path=f"{BASE}/roles/{{id}}", name="delete_role", tag=tag, permission=admin,
                summary="Forget a role with its measurement rules", view=self.delete, parameters=one,
                answers={200: json_answer("Gone.", DONE_SCHEMA)},
            ),
            Route(
                method="GET", path=f"{BASE}/roles/{{role_id}}/measurements", name="list_measurement_permissions",
                tag=tag, permission=admin, summary="The measurement rules of a role", view=self.rules, parameters=its,
                answers={200: json_answer("As they were made.", obj(
                    {"success": BOOLEAN, "measurement_permissions": array(RULE_SCHEMA), "count": INTEGER}))},
            ),
            Route(
                method="POST", path=f"{BASE}/roles/{{role_id}}/measurements", name="create_measurement_permission",
                tag=tag, permission=admin, summary="Narrow a role to measurements", view=self.create_rule,
                parameters=its, body=narrowed, answers={201: json_answer("Made.", rule)},
            ),
            Route(
                method="DELETE", path=f"{BASE}/measurement-permissions/{{id}}", name="delete_measurement_permission",
                tag=tag, permission=admin, summary="Forget a measurement rule", view=self.delete_rule, parameters=one,
                answers={200: json_answer("Gone.", DONE_SCHEMA)},
            ),
        )  # fmt: skip

    async def roles(self, call: Call) -> Reply:
        """Raises NotFound."""
        number = _number(call, "team_id")
        team = self._known.teams.get(number)
        if team is None:
            raise NotFound(f"team {number} not found")
        found = [role_shown(team.id, role) for role in team.roles]
        return json_reply(200, {"success": True, "roles": found, "count": len(found)})

    async def create(self, call: Call) -> Reply:
        """Raises InvalidRequest: also where there is no such team."""
        document = json_object(call.body)
        command = CreateRole(
            team=_number(call, "team_id"),
            database_pattern=text(document, "database_pattern"),
            permissions=_permissions(document),
            created_us=self._deps.clock.wall_us(),
        )
        return self._role((await call.proposer.propose(command)).unwrap(), 201)

    async def role(self, call: Call) -> Reply:
        """Raises NotFound."""
        return self._role(_number(call, "id"), 200)

    async def update(self, call: Call) -> Reply:
        """Keys that are absent or null stay as they are. Raises NotFound, InvalidRequest."""
        document = json_object(call.body)
        command = UpdateRole(
            id=_number(call, "id"),
            database_pattern=optional_text(document, "database_pattern"),
            permissions=optional_texts(document, "permissions"),
        )
        return self._role((await call.proposer.propose(command)).unwrap(), 200)

    async def delete(self, call: Call) -> Reply:
        """Raises NotFound."""
        (await call.proposer.propose(DropAccess(kind="role", id=_number(call, "id")))).unwrap()
        return json_reply(200, {"success": True, "message": "role deleted"})

    async def rules(self, call: Call) -> Reply:
        """Raises NotFound."""
        _, role = self._find(_number(call, "role_id"))
        found = [rule_shown(role.id, rule) for rule in role.rules]
        return json_reply(200, {"success": True, "measurement_permissions": found, "count": len(found)})

    async def create_rule(self, call: Call) -> Reply:
        """Raises InvalidRequest: also where there is no such role."""
        document = json_object(call.body)
        command = CreateRule(
            role=_number(call, "role_id"),
            measurement_pattern=text(document, "measurement_pattern"),
            permissions=_permissions(document),
            created_us=self._deps.clock.wall_us(),
        )
        number = (await call.proposer.propose(command)).unwrap()
        assert isinstance(number, int)
        found = self._known.rule(number)
        if found is None:
            raise NotFound(f"measurement permission {number} is gone already")
        _, role, rule = found
        return json_reply(201, {"success": True, "measurement_permission": rule_shown(role.id, rule)})

    async def delete_rule(self, call: Call) -> Reply:
        """Without its last one, the role's own permissions count again. Raises NotFound."""
        number = _number(call, "id")
        found = self._known.rule(number)
        (await call.proposer.propose(DropAccess(kind="rule", id=number))).unwrap()
        message = "measurement permission deleted"
        if found is not None and len(found[1].rules) == 1:
            message += f"; role {found[1].id} grants {', '.join(found[1].permissions)} on every measurement now"
        return json_reply(200, {"success": True, "message": message})

    @property
    def _known(self) -> Teams:
        return self._deps.catalog().teams

    def _role(self, number: object, status: int) -> Reply:
        assert isinstance(number, int)
        team, role = self._find(number)
        return json_reply(status, {"success": True, "role": role_shown(team.id, role)})

    def _find(self, number: int) -> tuple[Team, Role]:
        found = self._known.role(number)
        if found is None:
            raise NotFound(f"role {number} not found")
        return found


def _permissions(document: dict[str, object]) -> tuple[str, ...]:
    found = optional_texts(document, "permissions")
    if not found:
        raise InvalidRequest("'permissions' is required: a list of at least one")
    return found


def _number(call: Call, name: str) -> int:
    return path_number(call.path[name], name)
