"""How the cluster's commands ask: any node for a look, and whoever is named for an order that only the leader takes.

A node that does not lead names the one that does, and every node knows where the others are for clients. So an order is
passed on once by itself; what cannot be reached from here is told, with the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from arc.cli.connect import answer_body, open_client, reaching, refusal
from arc.cli.exits import ERROR, Failure
from arc.cli.screen import Screen

if TYPE_CHECKING:
    import httpx

BASE = "/api/v1/cluster"

NOTHING = "Nothing was changed."

_NEXT = {
    "outcome_unknown": "`arc cluster events` shows whether it happened. Asking again is safe.",
    "cluster_disabled": "Set enabled = true in [cluster] of its configuration, and start it again.",
    "node_not_found": "`arc cluster nodes` lists them.",
    "not_a_member": "It joins by itself when it reaches a node of cluster.seeds. To begin here: arc cluster init",
    "holds_lease": "`arc cluster drain NODE` hands it over; then `arc cluster leave` at that node, or remove again.",
    "files_held": "`arc cluster leave` at that node: it waits until others have them. --force loses them.",
    "node_alive": "`arc cluster leave` at that node. --force if it cannot.",
    "self_removal": "`arc cluster leave` at that node, or give the --endpoint of another one.",
    "accept_data_loss_required": "Read `arc cluster promote --help` first.",
}
_EFFECTS = {
    "outcome_unknown": "It may have happened, or may still happen.",
    "not_leader": NOTHING,
    "conflict": NOTHING,
    "cluster_disabled": NOTHING,
    "node_not_found": NOTHING,
    "holds_lease": NOTHING,
    "node_alive": NOTHING,
}


def fetch(client: httpx.Client, path: str = "", **query: object) -> dict[str, object]:
    """One look. Raises Failure."""
    told = {name: str(value) for name, value in query.items() if value not in (None, "")}
    with reaching(str(client.base_url)):
        answer = client.get(f"{BASE}{path}", params=told)
    if answer.status_code >= 300:
        raise _said(answer)
    return answer_body(answer)


def order(
    screen: Screen,
    client: httpx.Client,
    token: str,
    method: Literal["POST", "DELETE"],
    path: str,
    body: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Give an order, to the leader if need be. Raises Failure."""
    answer = _send(client, method, path, body)
    if answer.status_code >= 300 and (leader := _leader_of(answer)):
        address = _address_of(client, leader)
        if address:
            screen.note(f"{leader} leads; asking it at {address}")
            with open_client(f"{client.base_url.scheme}://{address}", token) as other:
                answer = _send(other, method, path, body)
        else:
            raise _said(answer, next_step=f"Ask {leader}: give its HTTP address with --endpoint or ARC_ENDPOINT.")
    if answer.status_code >= 300:
        raise _said(answer)
    found = answer_body(answer)
    if found.get("enabled") is False:
        raise Failure(
            str(found.get("reason")), effect=NOTHING, next_step=_NEXT["cluster_disabled"], code="cluster_disabled"
        )
    return found


def node_path(name: str, rest: str = "") -> str:
    """The path of a node."""
    return f"/nodes/{quote(name, safe='')}{rest}"


def _send(client: httpx.Client, method: str, path: str, body: Mapping[str, object] | None) -> httpx.Response:
    with reaching(str(client.base_url)):
        if body is None:
            return client.request(method, f"{BASE}{path}")
        return client.request(method, f"{BASE}{path}", json=dict(body))


def _leader_of(answer: httpx.Response) -> str:
    """The name of the node to ask instead; empty when that is not the trouble, or nobody leads."""
    found = answer_body(answer)
    leader = found.get("leader")
    if found.get("code") != "not_leader" or not isinstance(leader, dict):
        return ""
    return str(leader.get("name") or "")


def _address_of(client: httpx.Client, name: str) -> str:
    """Where a node is for its clients, as the node that was asked knows it; empty when it does not."""
    try:
        return str(fetch(client, node_path(name)).get("api_address") or "")
    except Failure:
        return ""


def _said(answer: httpx.Response, *, next_step: str = "") -> Failure:
    failure = refusal(answer)
    if failure.code == "not_leader" and not next_step:
        next_step = "Wait for an election (some seconds) and ask again; `arc cluster status` shows who leads."
    failure.next_step = next_step or _NEXT.get(failure.code, failure.next_step)
    failure.effect = failure.effect or _EFFECTS.get(failure.code, "")
    if answer.status_code == 409:
        failure.exit_code = ERROR
    return failure
