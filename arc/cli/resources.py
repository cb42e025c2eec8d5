"""One question to the HTTP API of a node, its answer as a document or a table, and what has to be asked of a person."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import typer

from arc.cli.connect import answer_body, open_client, reaching, refusal
from arc.cli.exits import USAGE, Failure
from arc.cli.screen import Screen

if TYPE_CHECKING:
    import httpx

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


def ask(
    endpoint: str,
    token: str,
    method: Method,
    path: str,
    body: Mapping[str, object] | None = None,
    **query: object,
) -> dict[str, Any]:
    """The answer's document. Empty parameters are left out. Raises Failure."""
    told = {name: str(value) for name, value in query.items() if value != ""}
    with open_client(endpoint, token) as client:
        return ask_over(client, method, path, body, told, endpoint=endpoint)


def ask_over(
    client: httpx.Client,
    method: Method,
    path: str,
    body: Mapping[str, object] | None = None,
    query: Mapping[str, str] | None = None,
    *,
    endpoint: str = "",
) -> dict[str, Any]:
    """`ask` by a client that is open; ``endpoint`` is what the user called its node. Raises Failure."""
    with reaching(endpoint or str(client.base_url)):
        answer = client.request(method, path, params=query, json=body)
    if not answer.is_success:
        raise refusal(answer)
    return answer_body(answer)


def show(
    screen: Screen, document: Mapping[str, Any], found: Iterable[Mapping[str, Any]], columns: tuple[str, ...]
) -> None:
    """The document for programs, these rows of it as a table for people."""
    if screen.json:
        screen.document(document)
        return
    screen.table(columns, [[each[column] for column in columns] for each in found])


def tell(screen: Screen, document: object, words: str) -> None:
    """The document for programs, a sentence for people."""
    if screen.json:
        screen.document(document)
    else:
        screen.line(words)


def is_somebody_there() -> bool:
    """Whether a question would be read by a person."""
    return sys.stdin.isatty()


def agree(question: str, *, effect: str, look: str = "Look with --dry-run") -> None:
    """Returns when somebody agreed. Raises Failure, also when nobody is there to be asked; ``look`` is how to know what
    will be done.
    """
    if not is_somebody_there():
        raise Failure(
            "nobody is there to be asked",
            effect=effect,
            next_step=f"{look}, then give --yes.",
            exit_code=USAGE,
            code="not_confirmed",
        )
    if not typer.confirm(question, err=True):
        raise Failure("not confirmed", effect=effect, exit_code=USAGE, code="not_confirmed")


def by_name(found: Iterable[Mapping[str, Any]], name: str, noun: str, listing: str) -> Mapping[str, Any]:
    """The one of this name or number. Raises Failure."""
    for each in found:
        if name in (each["name"], str(each["id"])):
            return each
    raise Failure(f"there is no {noun} {name!r}", next_step=listing, code="not_found")
