"""``arc raft``: look at consensus and tell it what an operator decides. Its `raft_recover` works without a node.

Only the leader takes orders. Who asks another node is told whom to ask, because the address under which a client
reaches a node is known to nobody but the client.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from arc.cli.connect import answer_body, open_client, reaching, refusal
from arc.cli.exits import INTERRUPTED, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.raft_recover import recover
from arc.cli.raft_status import COLUMNS, Look, counters, lines, read_look, rows, troubles
from arc.cli.screen import Bar, Screen, progress_bar

if TYPE_CHECKING:
    import httpx

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Look at consensus, change who takes part, recover a lost quorum."
)

BASE = "/api/v1/raft"
POLL_SECONDS = 0.25
ELECTION_SECONDS = 10.0
"""How long a new leader is waited for, to name it."""

NodeName = Annotated[str, typer.Argument(metavar="NODE", help="Name of a node, as in `arc raft status`.")]


@app.command("status")
def status(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Show role, log, members and counters as the node sees them. The leader knows most."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client, reaching(endpoint):
        document = _called(client.get(f"{BASE}/status"))
    look = read_look(document)
    found = list(troubles(look))
    if screen.json:
        screen.document({**document, "troubles": [trouble._asdict() for trouble in found]})
        return
    for name, text in lines(look):
        screen.line(f"{name:12}{text}")
    screen.title("members")
    screen.table(COLUMNS, rows(look))
    screen.title("counters since the start of this node")
    screen.table(("counter", "value"), counters(look))
    for trouble in found:
        screen.line(f"\nnote: {trouble.finding}")
        screen.line(f"next: {trouble.next_step}")


@app.command("transfer")
def transfer(
    context: typer.Context,
    node: Annotated[str | None, typer.Argument(metavar="[NODE]", help="Whom to; else who holds most.")] = None,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Hand leadership to another voter, as before maintenance. Ask the leader."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client, reaching(endpoint):
        document = _called(client.post(f"{BASE}/transfer", json={"target": node}), _SAME)
        look = _wait_for_leader(client)
    if screen.json:
        screen.document({**document, "term": look.term, "now_leads": look.leader})
    elif look.leader is not None:
        screen.line(f"{look.leader} leads in term {look.term}")
    else:
        told = document.get("leader")
        screen.line(f"leadership was handed to {told['name'] if isinstance(told, dict) else 'another node'}")


@app.command("snapshot")
def snapshot(
    context: typer.Context, endpoint: Endpoint = DEFAULT_ENDPOINT, token: Token = "", json: Json = False
) -> None:
    """Write a snapshot of the catalog on this node now, so that its log can be cut. Any node."""
    screen = screen_of(context)
    with open_client(endpoint, token) as client, reaching(endpoint):
        document = _called(client.post(f"{BASE}/snapshot"))
    if screen.json:
        screen.document(document)
    else:
        screen.line(f"the snapshot covers everything up to entry {document.get('index')}")


@app.command("add")
def add(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="host:port of its peer port.")],
    learner: Annotated[bool, typer.Option("--learner", help="It follows and does not vote.")] = False,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Take in the node that listens at ADDRESS. It follows until it holds nearly everything, then it votes.

    Ask the leader. The same command makes a learner a voter, and finishes what an earlier one began.
    """
    screen = screen_of(context)
    with open_client(endpoint, token) as client, reaching(endpoint):
        wanted = {"address": address, "learner": learner}
        asked = _Asked(lambda: client.post(f"{BASE}/members", json=wanted))
        try:
            if not learner:
                _watch(screen, client, address, asked)
            answer = asked.answer()
        except KeyboardInterrupt:
            raise Failure(
                "interrupted",
                effect="The cluster goes on with it: the node may still become a member.",
                next_step=f"See how far it is with `arc raft status`; undo it with `arc raft remove`. {_SAFE}",
                exit_code=INTERRUPTED,
                code="interrupted",
            ) from None
        document = _called(answer, _ADD)
    if screen.json:
        screen.document(document)
        return
    member = document.get("member")
    name = member.get("name") if isinstance(member, dict) else address
    screen.line(f"{name} {'follows without a vote' if learner else 'is a voter'} (entry {document.get('index')})")


@app.command("remove")
def remove(
    context: typer.Context,
    node: NodeName,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Let go of a node, dead or alive. Ask the leader.

    The leader itself hands over first, and says whom to ask. Before the node can come back its folder must be emptied,
    unless it is added again as it is.
    """
    screen = screen_of(context)
    with open_client(endpoint, token) as client, reaching(endpoint):
        document = _called(client.delete(f"{BASE}/members/{quote(node, safe='')}"), _SAME)
    if screen.json:
        screen.document(document)
    else:
        screen.line(f"{node} takes no part any more (entry {document.get('index')})")


app.command("recover")(recover)


class _Asked:
    """A request under way in a thread of its own, so that this one can look how far it is."""

    def __init__(self, ask: Callable[[], httpx.Response]) -> None:
        self._ask = ask
        self._answer: httpx.Response | BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._answer = self._ask()
        except BaseException as error:
            self._answer = error

    def wait(self, seconds: float) -> bool:
        """Whether it was answered by then."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def answer(self) -> httpx.Response:
        """The answer. Raises what asking raised."""
        self._thread.join()
        if isinstance(self._answer, BaseException):
            raise self._answer
        assert self._answer is not None
        return self._answer


def _watch(screen: Screen, client: httpx.Client, address: str, asked: _Asked) -> None:
    """Show how far the newcomer is until the request is answered."""
    if asked.wait(POLL_SECONDS):
        return
    look = _poll(client)
    while (name := newcomer(look, address)) is None:
        if asked.wait(POLL_SECONDS):
            return
        look = _poll(client)
    if not screen.json:
        screen.note(f"{name} follows; it votes as soon as it has caught up")
    with progress_bar(screen, f"{name} catches up", look.last if look else None, unit="entries") as bar:
        done = 0
        while not asked.wait(POLL_SECONDS):
            done = _advance(bar, _poll(client), name, done)


def newcomer(look: Look | None, address: str) -> str | None:
    """The name of the node that is being taken in; None when it is not seen yet."""
    for member in look.members if look is not None else ():
        if member.is_catching_up or (member.address == address and member.kind == "learner"):
            return member.name
    return None


def _advance(bar: Bar, look: Look | None, name: str, done: int) -> int:
    member = look.member(name) if look is not None else None
    match = member.match if member is not None and member.match is not None else done
    bar.advance(max(0, match - done))
    return max(done, match)


def _poll(client: httpx.Client) -> Look | None:
    """One look; None when the node has none to give now, which the answer that is waited for will explain."""
    import httpx

    try:
        response = client.get(f"{BASE}/status")
    except httpx.TransportError:
        return None
    return read_look(answer_body(response)) if response.status_code == 200 else None


def _wait_for_leader(client: httpx.Client) -> Look:
    """Look until somebody leads, and not longer than an election may take."""
    began = time.monotonic()
    while True:
        look = read_look(_called(client.get(f"{BASE}/status")))
        if look.leader is not None or time.monotonic() - began > ELECTION_SECONDS:
            return look
        time.sleep(POLL_SECONDS)


_SAFE = "Asking again is safe."
_SAME = "`arc raft status` shows who takes part and how far everybody is."
_ADD = f"{_SAME} {_SAFE}"


def _called(response: httpx.Response, next_step: str = "") -> dict[str, object]:
    """The answer's document. Raises Failure, with cause, effect and next step."""
    if response.status_code < 300:
        return answer_body(response)
    failure = refusal(response)
    failure.effect = failure.effect or _EFFECTS.get(failure.code, "")
    match failure.code:
        case "not_leader":
            failure.next_step = _ask_leader(answer_body(response).get("leader"))
        case "outcome_unknown":
            failure.next_step = f"{_SAME} {_SAFE}"
        case "peer_unreachable":
            failure.next_step = (
                "Is a node running there with [cluster] enabled = true, and is this its peer port (cluster.peer_port, "
                "not the port of its HTTP server)? The leader must reach it."
            )
        case "cluster_disabled":
            failure.next_step = "Set enabled = true in [cluster] of its configuration, and start it again."
        case _ if response.status_code in (404, 409, 503) and next_step:
            failure.next_step = next_step
    raise failure


_EFFECTS = {
    "not_leader": "Nothing was changed in who takes part.",
    "outcome_unknown": "It may have happened, or may still happen.",
    "conflict": "Nothing was changed in who takes part.",
    "peer_unreachable": "Nothing was changed in who takes part.",
    "cluster_disabled": "Nothing was changed in who takes part.",
    "not_found": "Nothing was changed in who takes part.",
}


def _ask_leader(leader: object) -> str:
    if not isinstance(leader, dict):
        return "Wait for an election (some seconds) and ask again; `arc raft status` shows who leads."
    where = f" (its peer port is {leader['address']})" if leader.get("address") else ""
    return f"Ask {leader.get('name')}{where}: give its HTTP address with --endpoint or ARC_ENDPOINT."
