"""``arc token``: who may do what, made, changed and ended. Tokens are the cluster's, whichever node is asked.

A secret goes to standard output alone and once; nobody can ask for it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, Yes, screen_of
from arc.cli.resources import Method, agree, ask, by_name, show, tell
from arc.cli.team import May, find_team
from arc.cli.team import Named as Team

BASE = "/api/v1/auth/tokens"

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Who may do what.")

Named = Annotated[str, typer.Argument(help="Its name or number.", metavar="TOKEN")]
Allowed = Annotated[
    list[May] | None, typer.Option("--may", help="Allow this. Repeatable; without it read and write.", metavar="RIGHT")
]
Expires = Annotated[str, typer.Option("--expires", help="Ends so long from now: 24h, 90d.", metavar="DURATION")]


@app.command("list")
def list_(context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False) -> None:
    """All tokens, ended ones too; never their secrets."""
    columns = ("id", "name", "permissions", "enabled", "expires_at", "created_at", "description")
    found = ask(endpoint, token, "GET", BASE)
    rows = [{**each, "permissions": ", ".join(each["permissions"])} for each in found["tokens"]]
    show(screen_of(context), found, rows, columns)


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of the token.", metavar="NAME")],
    may: Allowed = None,
    team: Annotated[
        str, typer.Option("--team", help="Put it in this team, which alone says what it may.", metavar="TEAM")
    ] = "",
    expires: Expires = "",
    description: Annotated[str, typer.Option("--description", help="For whom, for what.", metavar="TEXT")] = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Make a token and print its secret, this once: TOKEN=$(arc token create grafana --may read)."""
    # Found before anything is made; and whoever is not in his team yet may do nothing.
    its_team = find_team(endpoint, token, team) if team else None
    wish: dict[str, object] = {"name": name, "expires_in": expires, "description": description}
    wish = {key: value for key, value in wish.items() if value}
    if may or its_team is not None:
        wish["permissions"] = [each.value for each in may or ()]
    made = ask(endpoint, token, "POST", BASE, wish)
    screen = screen_of(context)
    # The secret first: if the next step fails the token is there all the same.
    if not screen.json:
        screen.line(made["token"])
    if its_team is not None:
        made["membership"] = _join(endpoint, token, made["id"], its_team["id"])["membership"]
    if screen.json:
        screen.document(made)
        return
    rights = ", ".join(may or ()) or ("read, write" if its_team is None else "nothing of its own")
    place = f"; in team {its_team['title']}" if its_team is not None else ""
    screen.note(f"token {made['id']}, {name}: {rights}{place}")
    screen.note("store it now: it cannot be shown again")


@app.command("show")
def show_(
    context: typer.Context, named: Named, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """What a token may do, and which team lets it."""
    its = _find(endpoint, token, named)
    found = ask(endpoint, token, "GET", f"{BASE}/{its['id']}/permissions")
    rows = [
        {**each, "measurement": each.get("measurement", "*"), "permissions": ", ".join(each["permissions"])}
        for each in found["permissions"]
    ]
    screen = screen_of(context)
    if not screen.json:
        state = "" if its["enabled"] else ", ended"
        screen.note(f"token {its['id']}, {its['name']}{state}; until {its['expires_at'] or 'it is ended'}")
    show(screen, {**found, "token": its}, rows, ("database", "measurement", "permissions", "source"))


@app.command("whoami")
def whoami(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Whose token --token or ARC_TOKEN is, and what it may do."""
    found = ask(endpoint, token, "GET", "/api/v1/auth/verify")
    its = found["token_info"]
    rights = ", ".join(found["permissions"]) or "nothing"
    tell(screen_of(context), found, f"token {its['id']}, {its['name']}: {rights}")


@app.command("change")
def change(
    context: typer.Context,
    named: Named,
    may: Annotated[
        list[May] | None, typer.Option("--may", help="Allow this and nothing else. Repeatable.", metavar="RIGHT")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="Call it so.", metavar="NAME")] = "",
    expires: Expires = "",
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Accept it again, or not now.")] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Change what is given, in force with the next request."""
    wish: dict[str, object] = {
        "permissions": [each.value for each in may] if may else None,
        "name": name or None,
        "expires_in": expires or None,
        "enabled": enabled,
    }
    wish = {key: value for key, value in wish.items() if value is not None}
    if not wish:
        raise typer.BadParameter("nothing to change: give --may, --name, --expires, --enable or --disable")
    done = ask(endpoint, token, "PATCH", f"{BASE}/{_find(endpoint, token, named)['id']}", wish)
    tell(screen_of(context), done, f"{named} is changed")


@app.command("rotate")
def rotate(
    context: typer.Context,
    named: Named,
    yes: Yes = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Print a new secret; the old one is void at once."""
    done = _end(endpoint, token, "POST", named, "/rotate", "Replace the secret of", yes=yes)
    screen = screen_of(context)
    tell(screen, done, done["new_token"])
    if not screen.json:
        screen.note("store it now: it cannot be shown again")


@app.command("revoke")
def revoke(
    context: typer.Context,
    named: Named,
    yes: Yes = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Accept it no more; its record stays."""
    done = _end(endpoint, token, "POST", named, "/revoke", "End", yes=yes)
    tell(screen_of(context), done, f"{named} is accepted no more")


@app.command("delete")
def delete(
    context: typer.Context,
    named: Named,
    yes: Yes = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """End it and forget its record."""
    done = _end(endpoint, token, "DELETE", named, "", "End and forget", yes=yes)
    tell(screen_of(context), done, f"{named} is forgotten")


@app.command("join")
def join(
    context: typer.Context,
    named: Named,
    team: Team,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Put it in a team. From then on its teams alone say what it may read, write and delete."""
    its_team = find_team(endpoint, token, team)
    done = _join(endpoint, token, _find(endpoint, token, named)["id"], its_team["id"])
    tell(screen_of(context), done, f"{named} is in team {its_team['title']}")


@app.command("leave")
def leave(
    context: typer.Context,
    named: Named,
    team: Team,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Take it out of a team; in no team its own rights count again."""
    its, its_team = _find(endpoint, token, named), find_team(endpoint, token, team)
    done = ask(endpoint, token, "DELETE", f"{BASE}/{its['id']}/teams/{its_team['id']}")
    tell(screen_of(context), done, done["message"])


def _join(endpoint: str, token: str, its: int, team: int) -> dict[str, Any]:
    return ask(endpoint, token, "POST", f"{BASE}/{its}/teams", {"team_id": team})


def _end(
    endpoint: str, token: str, method: Method, named: str, path: str, question: str, *, yes: bool
) -> dict[str, Any]:
    """What takes something from whoever uses the token: he is named, and somebody asked, before."""
    its = _find(endpoint, token, named)
    if not yes:
        agree(
            f"{question} token {its['id']}, {its['name']}? Whoever uses it is refused from then on.",
            effect="Nothing was changed.",
            look=f"Look with `arc token show {named}`",
        )
    return ask(endpoint, token, method, f"{BASE}/{its['id']}{path}")


def _find(endpoint: str, token: str, named: str) -> Mapping[str, Any]:
    return by_name(ask(endpoint, token, "GET", BASE)["tokens"], named, "token", "arc token list")
