"""``arc team``: what tokens may do together. Teams are the cluster's, whichever node is asked.

A team is of an organization, and named by its number, its name, or both names where two organizations have one of that
name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arc.cli.connect import open_client
from arc.cli.exits import USAGE, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, Yes, screen_of
from arc.cli.resources import agree, ask, ask_over, show, tell

if TYPE_CHECKING:
    import httpx

BASE = "/api/v1/rbac"

NOWHERE = "-"
"""A pattern that fits no database, for names begin with a letter."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="What tokens may do together.")


class May(StrEnum):
    """What can be allowed."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    ADMIN = "admin"


Named = Annotated[str, typer.Argument(help="Its number, its name, or ORGANIZATION/NAME.", metavar="TEAM")]


@app.command("list")
def list_(context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False) -> None:
    """All teams and what each grants, one row for each role."""
    columns = ("id", "team", "grants", "role", "databases", "permissions", "measurements")
    with open_client(endpoint, token) as client:
        found = [
            {**each, **ask_over(client, "GET", f"{BASE}/teams/{each['id']}", endpoint=endpoint)["team"]}
            for each in _teams(client, endpoint)
        ]
    rows = (row for each in found for row in _rows(each))
    show(screen_of(context), {"teams": found, "count": len(found)}, rows, columns)


@app.command("add")
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the team.", metavar="NAME")],
    organization: Annotated[
        str, typer.Option("--org", help="Its organization; made if there is none.", metavar="NAME")
    ],
    description: Annotated[str, typer.Option("--description", help="Who they are.", metavar="TEXT")] = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Make a team, which grants nothing yet."""
    known = ask(endpoint, token, "GET", f"{BASE}/organizations")["organizations"]
    its = next((each for each in known if each["name"] == organization), None)
    if its is None:
        its = ask(endpoint, token, "POST", f"{BASE}/organizations", {"name": organization})["organization"]
    wish = {"name": name} | ({"description": description} if description else {})
    made = ask(endpoint, token, "POST", f"{BASE}/organizations/{its['id']}/teams", wish)
    screen = screen_of(context)
    tell(screen, made, f"team {made['team']['id']}, {organization}/{name}")
    if not screen.json:
        screen.note(f"next: arc team grant {made['team']['id']} --db PATTERN --may read")


@app.command("grant")
def grant(
    context: typer.Context,
    named: Named,
    databases: Annotated[
        str, typer.Option("--db", "-d", help="On these databases: plant, plant_*, *.", metavar="PATTERN")
    ],
    may: Annotated[list[May], typer.Option("--may", help="Allow this. Repeatable.", metavar="RIGHT")],
    measurements: Annotated[
        list[str] | None, typer.Option("--measurement", "-m", help="Only on these. Repeatable.", metavar="PATTERN")
    ] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Let a team do something on databases, or on some measurements of them."""
    team, rights = find_team(endpoint, token, named), [each.value for each in may]
    # A role without measurement rules grants everything in its databases: until it has its rules it is of none.
    wish = {"database_pattern": NOWHERE if measurements else databases, "permissions": rights}
    made = ask(endpoint, token, "POST", f"{BASE}/teams/{team['id']}/roles", wish)
    number = made["role"]["id"]
    if measurements:
        made = _narrow(endpoint, token, number, databases, rights, measurements)
    told = f"role {number}: {team['title']} may {', '.join(rights)} on {databases}"
    tell(screen_of(context), made, told + (f" in {', '.join(measurements)}" if measurements else ""))


@app.command("withdraw")
def withdraw(
    context: typer.Context,
    role: Annotated[int, typer.Argument(help="Its number, from `arc team list`.", metavar="ROLE", min=1)],
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Take a role from its team, in force with the next request."""
    done = ask(endpoint, token, "DELETE", f"{BASE}/roles/{role}")
    tell(screen_of(context), done, f"role {role} is gone")


@app.command("enable")
def enable(
    context: typer.Context, named: Named, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Let it grant again."""
    _switch(context, endpoint, token, named, is_on=True)


@app.command("disable")
def disable(
    context: typer.Context, named: Named, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Let it grant nothing; its tokens stay in it and can do nothing."""
    _switch(context, endpoint, token, named, is_on=False)


@app.command("remove")
def remove(
    context: typer.Context,
    named: Named,
    yes: Yes = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Forget a team with its roles. Tokens that are in no other lose what they may, but for admin."""
    team = find_team(endpoint, token, named)
    if not yes:
        agree(
            f"Forget team {team['id']}, {team['title']}? Tokens that are in no other team can do nothing then.",
            effect="Nothing was changed.",
            look="Look with `arc team list`",
        )
    done = ask(endpoint, token, "DELETE", f"{BASE}/teams/{team['id']}")
    tell(screen_of(context), done, f"team {team['title']} is forgotten")


def find_team(endpoint: str, token: str, named: str) -> Mapping[str, Any]:
    """The team of this number, name or ORGANIZATION/NAME, with its ``title``. Raises Failure."""
    with open_client(endpoint, token) as client:
        found = [each for each in _teams(client, endpoint) if named in (str(each["id"]), each["name"], each["title"])]
    by_number = [each for each in found if str(each["id"]) == named]
    if len(by_number or found) > 1:
        told = ", ".join(f"{each['id']} {each['title']}" for each in found)
        raise Failure(
            f"several teams are called {named!r}: {told}",
            next_step="Name it by its number or as ORGANIZATION/NAME.",
            exit_code=USAGE,
            code="ambiguous",
        )
    if not found:
        raise Failure(f"there is no team {named!r}", next_step="arc team list", code="not_found")
    return (by_number or found)[0]


def _teams(client: httpx.Client, endpoint: str) -> Iterator[dict[str, Any]]:
    """All teams, each with its ``title``, ORGANIZATION/NAME, and whether its organization is enabled."""
    for its in ask_over(client, "GET", f"{BASE}/organizations", endpoint=endpoint)["organizations"]:
        whole = ask_over(client, "GET", f"{BASE}/organizations/{its['id']}", endpoint=endpoint)["organization"]
        for team in whole["teams"]:
            yield {**team, "title": f"{its['name']}/{team['name']}", "organization_enabled": its["enabled"]}


def _rows(team: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What it grants: a row for each role, or for each measurement rule of a role that has any."""
    its = {"id": team["id"], "team": team["title"], "grants": _grants(team)}
    nothing = {"role": None, "databases": None, "permissions": None, "measurements": None}
    if not team["roles"]:
        yield its | nothing
    for role in team["roles"]:
        its_role = its | {"role": role["id"], "databases": role["database_pattern"]}
        for rule in role["measurement_permissions"] or [
            {"permissions": role["permissions"], "measurement_pattern": "*"}
        ]:
            rights = ", ".join(rule["permissions"])
            yield its_role | {"permissions": rights, "measurements": rule["measurement_pattern"]}


def _narrow(
    endpoint: str, token: str, role: int, databases: str, rights: Sequence[str], measurements: Sequence[str]
) -> dict[str, Any]:
    """Give a role its rules, and only then its databases. Raises Failure; then there is no such role."""
    try:
        for pattern in measurements:
            wish = {"measurement_pattern": pattern, "permissions": rights}
            ask(endpoint, token, "POST", f"{BASE}/roles/{role}/measurements", wish)
        return ask(endpoint, token, "PATCH", f"{BASE}/roles/{role}", {"database_pattern": databases})
    except Failure:
        ask(endpoint, token, "DELETE", f"{BASE}/roles/{role}")
        raise


def _switch(context: typer.Context, endpoint: str, token: str, named: str, *, is_on: bool) -> None:
    team = find_team(endpoint, token, named)
    done = ask(endpoint, token, "PATCH", f"{BASE}/teams/{team['id']}", {"enabled": is_on})
    told = "grants again" if _grants({**team, "enabled": is_on}) else "grants nothing"
    if is_on and not team["organization_enabled"]:
        told += f": its organization, {team['organization_id']}, is disabled"
    tell(screen_of(context), done, f"{team['title']} {told}")


def _grants(team: Mapping[str, Any]) -> bool:
    return bool(team["enabled"] and team["organization_enabled"])
