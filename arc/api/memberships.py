"""Tokens in teams, and what a token may do all told. For admins.

``/api/v1/auth/cache`` is there for clients of Arc in Go, whose tokens are remembered for minutes after they were
revoked. Here nothing is remembered: every request reads the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from arc.api.auth import Gate
from arc.api.bodies import json_object, path_number
from arc.api.deps import Deps
from arc.api.principal import Permission
from arc.api.rbac_shown import DONE_SCHEMA, MEMBERSHIP_SCHEMA, TEAM_SCHEMA, membership_shown, number_in_path, team_shown
from arc.api.replies import Reply, json_reply
from arc.api.routes import Call, RequestBody, Route
from arc.api.schemas import ANYTHING, BOOLEAN, INTEGER, STRING, array, json_answer, obj
from arc.catalog.access import TokenRecord
from arc.catalog.commands import JoinTeam, LeaveTeam
from arc.catalog.teams import Teams
from arc.errors import InvalidRequest, NotFound

_RIGHT = obj({"database": STRING, "permissions": array(STRING), "source": STRING}, {"measurement": STRING})


class Memberships:
    """Below ``/api/v1/auth``."""

    def __init__(self, deps: Deps, gate: Gate) -> None:
        self._deps = deps
        self._gate = gate

    def routes(self) -> tuple[Route, ...]:
        """The rows of this resource."""
        base, admin, tag = "/api/v1/auth/tokens/{id}", Permission.ADMIN, "tokens"
        token, team = number_in_path("id", "Token id."), number_in_path("team_id", "Team id.")
        return (
            Route(
                method="GET", path=f"{base}/teams", name="list_token_teams", tag=tag, permission=admin,
                summary="The teams of a token", view=self.teams, parameters=(token,),
                answers={200: json_answer("As it joined them.", obj(
                    {"success": BOOLEAN, "teams": array(TEAM_SCHEMA), "count": INTEGER}))},
            ),
            Route(
                method="POST", path=f"{base}/teams", name="join_team", tag=tag, permission=admin,
                summary="Put a token into a team, which decides from now on", view=self.join, parameters=(token,),
                body=RequestBody(content={"application/json": obj({"team_id": INTEGER})}),
                answers={201: json_answer("Joined.", obj({"success": BOOLEAN, "membership": MEMBERSHIP_SCHEMA}))},
            ),
            Route(
                method="DELETE", path=f"{base}/teams/{{team_id}}", name="leave_team", tag=tag, permission=admin,
                summary="Take a token out of a team", view=self.leave, parameters=(token, team),
                answers={200: json_answer("Left.", DONE_SCHEMA)},
            ),
            Route(
                method="GET", path=f"{base}/permissions", name="get_token_permissions", tag=tag, permission=admin,
                summary="What a token may do, and where that comes from", view=self.permissions, parameters=(token,),
                answers={200: json_answer("In force now.", obj(
                    {"success": BOOLEAN, "permissions": array(_RIGHT), "rbac_enabled": BOOLEAN}))},
            ),
            Route(
                method="GET", path="/api/v1/auth/cache/stats", name="auth_cache_stats", tag=tag, permission=admin,
                summary="There is no cache of tokens", view=self.cache,
                answers={200: json_answer("Zeros.", obj({"success": BOOLEAN, "stats": ANYTHING}))},
            ),
            Route(
                method="POST", path="/api/v1/auth/cache/invalidate", name="invalidate_auth_cache", tag=tag,
                permission=admin, summary="Nothing to do: there is no cache of tokens", view=self.invalidate,
                answers={200: json_answer("Done.", DONE_SCHEMA)},
            ),
        )  # fmt: skip

    async def teams(self, call: Call) -> Reply:
        """Also those that are not enabled. Raises NotFound."""
        token, known = self._find(call), self._known
        found = [team_shown(known.teams[each.team]) for each in known.members.get(token.id, ())]
        return json_reply(200, {"success": True, "teams": found, "count": len(found)})

    async def join(self, call: Call) -> Reply:
        """Raises NotFound, InvalidRequest (there is no such team), Conflict (it is in it)."""
        token, team = self._find(call), json_object(call.body).get("team_id")
        if isinstance(team, bool) or not isinstance(team, int):
            raise InvalidRequest("'team_id' must be a number")
        command = JoinTeam(token=token.id, team=team, at_us=self._deps.clock.wall_us())
        number = (await call.proposer.propose(command)).unwrap()
        found = next((each for each in self._known.members.get(token.id, ()) if each.id == number), None)
        if found is None:
            raise NotFound(f"token {token.id} has left team {team} again")
        return json_reply(201, {"success": True, "membership": membership_shown(found)})

    async def leave(self, call: Call) -> Reply:
        """Raises NotFound."""
        token = self._find(call)
        team = path_number(call.path["team_id"], "team_id")
        (await call.proposer.propose(LeaveTeam(token=token.id, team=team))).unwrap()
        message = f"token {token.id} is not in team {team} any more"
        if token.id not in self._known.members:
            message += f"; in no team, it has its own permissions again: {', '.join(token.permissions) or 'none'}"
        return json_reply(200, {"success": True, "message": message})

    async def permissions(self, call: Call) -> Reply:
        """Raises NotFound."""
        found = list(_rights(self._find(call), self._known))
        return json_reply(200, {"success": True, "permissions": found, "rbac_enabled": True})

    async def cache(self, call: Call) -> Reply:
        """In Arc's words."""
        stats = {
            "cache_size": 0, "max_cache_size": 0, "cache_ttl_seconds": 0, "utilization_percent": 0,
            "total_requests": self._gate.requests, "cache_hits": 0, "cache_misses": self._gate.requests,
            "cache_evictions": 0, "hit_rate_percent": 0,
        }  # fmt: skip
        return json_reply(200, {"success": True, "stats": stats})

    async def invalidate(self, call: Call) -> Reply:
        """What was changed is in force already."""
        return json_reply(200, {"success": True, "message": "nothing is cached: every request reads the catalog"})

    @property
    def _known(self) -> Teams:
        return self._deps.catalog().teams

    def _find(self, call: Call) -> TokenRecord:
        number = path_number(call.path["id"], "token id")
        found = self._deps.catalog().tokens.get(number)
        if found is None:
            raise NotFound(f"token {number} not found")
        return found


def _rights(token: TokenRecord, known: Teams) -> Iterator[dict[str, object]]:
    """One row per role, or per measurement rule of a role that has any."""
    if token.id not in known.members:
        yield _right("*", token.permissions, "token")
        return
    if "admin" in token.permissions:
        yield _right("*", ("admin",), "token")
    for team in known.granting(token.id):
        for role in team.roles:
            source = f"team:{team.name}"
            if not role.rules:
                yield _right(role.database_pattern, role.permissions, source)
            for rule in role.rules:
                yield {
                    **_right(role.database_pattern, rule.permissions, source),
                    "measurement": rule.measurement_pattern,
                }


def _right(database: str, permissions: Sequence[str], source: str) -> dict[str, object]:
    return {"database": database, "permissions": list(permissions), "source": source}
