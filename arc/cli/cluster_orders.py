"""What an operator orders: found, leave, drain, remove, hand over, promote.

Each command is one request; that the leader is asked is settled in `cluster_asking`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from arc.cli.cluster_asking import NOTHING, node_path, order
from arc.cli.connect import open_client
from arc.cli.exits import USAGE, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.resources import is_somebody_there, tell
from arc.cli.screen import Screen

NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Name of a node, as in `arc cluster nodes`.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with the lease and shown by status.", metavar="TEXT")]


def init(context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False) -> None:
    """Found the cluster with this node as its first member; others then join through it."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        document = order(screen, client, token, "POST", "/init")
    told = document.get("cluster")  # a node that waits for a cluster answers more shortly than one that has one
    uuid = told.get("uuid") if isinstance(told, dict) else document.get("cluster_uuid")
    tell(screen, document, f"the cluster is founded: {uuid}")
    if not screen.json:
        screen.note("next: arc cluster join-token")


def leave(context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False) -> None:
    """Let the node that is asked hand over what it holds and be no member any more; then stop it."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        document = order(screen, client, token, "POST", "/leave")
    tell(screen, document, str(document.get("message")))


def drain(
    context: typer.Context,
    node: NodeName,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Before maintenance: give the node nothing new, hand over its leases and leadership. It stays a member."""
    _on_node(context, "POST", node_path(node, "/drain"), endpoint, token)


def undrain(
    context: typer.Context,
    node: NodeName,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """After maintenance: give the node work again."""
    _on_node(context, "POST", node_path(node, "/undrain"), endpoint, token)


def remove(
    context: typer.Context,
    node: NodeName,
    force: Annotated[
        bool, typer.Option("--force", help="Also when it lives, and files that are on it alone go with it.")
    ] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Let go of a node that is gone, or whose files others have. It comes back only with an empty folder."""
    _on_node(context, "DELETE", node_path(node, "?force=true" if force else ""), endpoint, token)


def transfer_leader(
    context: typer.Context,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Whom to; else who holds most.")] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Hand leadership of consensus to another voter. The writer stays who it is."""
    _on_node(context, "POST", "/transfer-leadership", endpoint, token, {"target": node})


def failover(
    context: typer.Context,
    lease: Annotated[str, typer.Argument(metavar="[LEASE]", help="writer or compactor.")] = "writer",
    to: Annotated[str | None, typer.Option("--to", help="Whom to; else the best candidate.", metavar="NODE")] = None,
    reason: Reason = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Hand a lease over in order. No acknowledged row is lost; writes wait for that moment."""
    body = {"lease": lease, "target": to, "reason": reason or None}
    _on_node(context, "POST", "/failover", endpoint, token, body)


def promote(
    context: typer.Context,
    node: NodeName,
    accept_data_loss: Annotated[
        bool, typer.Option("--accept-data-loss", help="Rows that only other nodes hold are lost.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    reason: Reason = "",
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Make NODE the writer though it may lack acknowledged rows, when those that have them are gone for good.

    `arc cluster failover` never loses a row; this is for when it has nobody to hand over to.
    """
    screen = screen_of(context)
    if not accept_data_loss:
        raise Failure(
            f"{node} may lack rows that were acknowledged",
            effect=NOTHING,
            next_step="Bring a node of the in-sync set back (`arc cluster status` names it), or say that their loss is "
            "better than waiting: --accept-data-loss.",
            exit_code=USAGE,
            code="accept_data_loss_required",
        )
    if not yes:
        _confirm(screen, node)
    body = {"node": node, "accept_data_loss": True, "reason": reason or None}
    _on_node(context, "POST", "/promote", endpoint, token, body)


def _on_node(
    context: typer.Context,
    method: str,
    path: str,
    endpoint: str,
    token: str,
    body: Mapping[str, object] | None = None,
) -> None:
    screen = screen_of(context)
    with open_client(endpoint, token) as client:
        document = order(screen, client, token, "DELETE" if method == "DELETE" else "POST", path, body)
    held = document.get("still_holds")
    tell(screen, document, str(document.get("message")))
    if isinstance(held, list) and held and path.endswith("/drain"):
        screen.note(f"it still holds: {', '.join(map(str, held))}")


def _confirm(screen: Screen, node: str) -> None:
    """Returns when somebody typed the node's name. Raises Failure."""
    if not is_somebody_there():
        raise Failure(
            "nobody is there to be asked",
            effect=NOTHING,
            next_step="Read `arc cluster promote --help`, then give --yes.",
            exit_code=USAGE,
            code="not_confirmed",
        )
    screen.note(f"Rows that were acknowledged and that {node} does not hold will be lost for good.")
    if typer.prompt(f"Type {node} to make it the writer", err=True) != node:
        raise Failure("not confirmed", effect=NOTHING, exit_code=USAGE, code="not_confirmed")
