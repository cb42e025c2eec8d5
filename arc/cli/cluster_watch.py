"""``arc cluster watch``: the status again and again, in place on a terminal, with how lags have moved.

A node that cannot be reached is said so and asked again: whoever watches wants to see it come back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.cluster_asking import fetch
from arc.cli.cluster_screen import COLUMNS, exit_of, is_alone, lines, nodes_of, notes, rows, spark
from arc.cli.connect import open_client
from arc.cli.exits import UNREACHABLE, Failure
from arc.cli.options import DEFAULT_ENDPOINT, Endpoint, Json, Token, screen_of
from arc.cli.screen import Screen, shown

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOKS_KEPT = 30
"""Bars of a lag's row: at one look a second, half a minute."""

ANSWER_SECONDS = 5.0
NODES_MAX = 128
"""Rows of lags that are remembered; nodes that are gone are forgotten when the limit is reached."""


class Lags:
    """How far each node was behind the writer at the last looks."""

    def __init__(self) -> None:
        self._seen: dict[str, deque[float]] = {}

    def add(self, document: Mapping[str, object]) -> None:
        """Remember one look."""
        found = {str(node.get("id")): node.get("records_behind") for node in nodes_of(document)}
        if len(self._seen) > NODES_MAX:
            self._seen = {name: seen for name, seen in self._seen.items() if name in found}
        for name, value in found.items():
            seen = self._seen.setdefault(name, deque(maxlen=LOOKS_KEPT))
            seen.append(float(value) if isinstance(value, int | float) else 0.0)

    def bars(self, name: str) -> str:
        """The lag of a node as bars, the newest on the right."""
        return spark(list(self._seen.get(name, ())))


def watch(
    context: typer.Context,
    every: Annotated[float, typer.Option("--every", help="Seconds between looks.", min=0.1, max=3600)] = 1.0,
    looks: Annotated[int, typer.Option("--looks", help="End after so many looks; 0: never.", min=0)] = 0,
    endpoint: Endpoint = DEFAULT_ENDPOINT,
    token: Token = "",
    json: Json = False,
) -> None:
    """Show the status again and again, in place. With --json one document a line. Ctrl-C ends it.

    With --looks the exit code is that of the last look.
    """
    screen = screen_of(context)
    lags, done, code = Lags(), 0, UNREACHABLE
    with open_client(endpoint, token, answer_seconds=ANSWER_SECONDS) as client, _Page(screen) as page:
        while True:
            try:
                document = fetch(client)
                lags.add(document)
                code = exit_of(document)
                page.show(document, lags)
            except Failure as failure:
                if failure.exit_code != UNREACHABLE:
                    raise
                code = UNREACHABLE
                page.silent(failure)
            done += 1
            if done == looks:
                break
            time.sleep(every)
    raise typer.Exit(code)


class _Page:
    """Draws one look over the other on a terminal, and one after the other elsewhere."""

    def __init__(self, screen: Screen) -> None:
        from rich.live import Live

        self._screen = screen
        self._live: Live | None = None
        if screen.out_is_terminal and not screen.json:
            self._live = Live(console=screen.console(screen.out), auto_refresh=False, screen=True)

    def __enter__(self) -> _Page:
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, document: dict[str, object], lags: Lags) -> None:
        """One look."""
        if self._screen.json:
            self._screen.document(document)
        elif is_alone(document):
            self._draw([str(document.get("reason"))], [], [])
        else:
            table = [(*row, lags.bars(str(row[0]))) for row in rows(nodes_of(document))]
            self._draw([f"{name:10} {text}" for name, text in lines(document)], table, list(notes(document)))

    def silent(self, failure: Failure) -> None:
        """Nobody answered."""
        if self._screen.json:
            self._screen.document(failure.document())
        else:
            self._draw([f"{datetime.now().astimezone():%H:%M:%S}  {failure.cause}; asking again"], [], [])

    def _draw(self, above: list[str], table: list[tuple[object, ...]], below: list[str]) -> None:
        columns = (*COLUMNS, "lag")
        if self._live is not None:
            self._live.update(_drawn(above, columns, table, below), refresh=True)
            return
        for line in above:
            self._screen.line(line)
        if table:
            self._screen.table(columns, table)
        for line in below:
            self._screen.line(line)
        self._screen.line()


def _drawn(
    above: list[str], columns: tuple[str, ...], table: list[tuple[object, ...]], below: list[str]
) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    from arc.cli.screen import boxed

    parts: list[RenderableType] = [Text(shown(line)) for line in above]
    if table:
        parts.append(boxed(columns, table))
    parts += [Text(shown(line), style="yellow") for line in below]
    return Group(*parts)
