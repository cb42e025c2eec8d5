"""``arc sim exhaustive``: every state of a small cluster, within bounds that it prints with what it saw.

The bounds are the result as much as the verdict: a search that did not come to its end says so.
"""

from __future__ import annotations

from typing import Annotated

import typer

from arc.cli.exits import ERROR
from arc.cli.options import Json, screen_of
from arc.cli.screen import progress_bar


def exhaustive(
    context: typer.Context,
    nodes: Annotated[int, typer.Option("--nodes", min=1, max=5, help="Voters.")] = 3,
    terms: Annotated[int, typer.Option("--terms", min=1, help="The highest term anybody campaigns for.")] = 2,
    entries: Annotated[int, typer.Option("--entries", min=0, help="Proposals that are taken.")] = 2,
    crashes: Annotated[
        int, typer.Option("--crashes", min=0, help="Power cuts, with any part of what was unsynced.")
    ] = 1,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Rounds of heartbeats in a leadership.")] = 1,
    states_max: Annotated[int, typer.Option("--states-max", min=1, help="Stop after so many.")] = 100_000,
    has_spec: Annotated[
        bool, typer.Option("--spec/--no-spec", help="Hold each step against the specification.")
    ] = True,
    json: Json = False,
) -> None:
    """Search every state of a small cluster of cores."""
    from simulations.exhaustive import Bounds, search

    screen = screen_of(context)
    bounds = Bounds(nodes=nodes, terms=terms, entries=entries, crashes=crashes, rounds=rounds, states_max=states_max)
    shown = 0
    with progress_bar(screen, "exhaustive", states_max, unit="states") as bar:

        def tell(states: int, depth: int) -> None:
            nonlocal shown
            bar.advance(states - shown)
            shown = states

        result = search(bounds, has_spec=has_spec, tell=tell)
    if screen.json:
        screen.document(result.document())
    else:
        for line in result.lines():
            screen.line(line)
    if result.violation is not None:
        raise typer.Exit(ERROR)
